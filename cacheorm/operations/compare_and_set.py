"""Replacing what is stored where there is no row: remembered misses, leases, payloads that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..payload import ABSENT, LEASE
from ..requests import Call, Steps
from ..types import Outcome
from .rows import slices

__all__ = ["collect", "swap"]


def swap(
    backend: Any,
    payloads: Mapping[str, bytes],
    ttl: Any,
    size: int,
    expected: Mapping[str, bytes | None] | None = None,
) -> Steps[Outcome]:
    """Replace the entries of keys by compare-and-set, so that rows that are written meanwhile are kept.

    Args:
        backend: the backend of the keys.
        payloads: the new payloads by key.
        ttl: the lifetime of the new entries.
        size: how many keys to pass to the backend at a time.
        expected: the payloads that may be replaced, by key; ``None``: remembered misses and leases.

    Returns:
        ``{key: replaced?}``; ``False`` for a key that does not exist.
    """
    done = Outcome(dict.fromkeys(payloads, False))
    for part in slices([*payloads], size):
        entries = yield Call(backend, "get_many_cas", tuple(part))
        batch = {
            key: (payloads[key], entry[1])
            for key, entry in zip(part, entries, strict=True)
            if entry is not None
            # No function is called here: this runs for every row that was not inserted because it exists already.
            and (entry[0] == ABSENT or entry[0].startswith(LEASE) if expected is None else entry[0] == expected[key])
        }
        if batch:
            collect(done, (yield Call(backend, "compare_and_set_many", (batch, ttl))))
    return done


def collect(total: Outcome, part: Mapping[str, bool]) -> None:
    """Add the outcome of a part of a batch; a backend may return any mapping, without reasons."""
    total.update(part)
    total.reasons.update(getattr(part, "reasons", {}))
    total.unsure.update(getattr(part, "unsure", ()))
