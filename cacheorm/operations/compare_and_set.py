"""Replacing what is stored where there is no row: remembered misses, leases, payloads that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any

from ..requests import Call, Steps
from ..types import Outcome
from .rows import slices

__all__ = ["collect", "only", "swap"]


def swap(
    backend: Any,
    payloads: Mapping[str, bytes],
    ttl: Any,
    size: int,
    replaceable: Callable[[list[str], list[Any]], list[bool]],
) -> Steps[Outcome]:
    """Replace the entries of keys by compare-and-set, so that rows that are written meanwhile are kept.

    Args:
        backend: the backend of the keys.
        payloads: the new payloads by key.
        ttl: the lifetime of the new entries.
        size: how many keys to pass to the backend at a time.
        replaceable: returns of keys and what is stored under them, whether each may be replaced.

    Returns:
        ``{key: replaced?}``; ``False`` for a key that does not exist.
    """
    done = Outcome(dict.fromkeys(payloads, False))
    for part in slices([*payloads], size):
        entries = yield Call(backend, "get_many_cas", tuple(part))
        found = {key: entry for key, entry in zip(part, entries, strict=True) if entry is not None}
        chosen = replaceable([*found], [payload for payload, _ in found.values()])
        batch = {key: (payloads[key], found[key][1]) for key in compress(found, chosen)}
        if batch:
            collect(done, (yield Call(backend, "compare_and_set_many", (batch, ttl))))
    return done


def only(expected: Mapping[str, bytes | None]) -> Callable[[list[str], list[Any]], list[bool]]:
    """Return the function for :func:`swap` that replaces just these payloads, given by key."""
    return lambda keys, payloads: [payload == expected[key] for key, payload in zip(keys, payloads, strict=True)]


def collect(total: Outcome, part: Mapping[str, bool]) -> None:
    """Add the outcome of a part of a batch; a backend may return any mapping, without reasons."""
    total.update(part)
    total.reasons.update(getattr(part, "reasons", {}))
    total.unsure.update(getattr(part, "unsure", ()))
