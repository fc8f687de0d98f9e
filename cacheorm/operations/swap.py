"""Replacing what is stored where there is no row: remembered misses, leases, payloads that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..store import Call
from ..types import Outcome
from .base import Steps, slices

__all__ = ["swap"]


def swap(
    backend: Any,
    payloads: Mapping[str, bytes],
    ttl: Any,
    size: int,
    may_go: Callable[[str, bytes], bool],
) -> Steps[Outcome]:
    """Replace what is stored under keys by compare-and-set, so that a row that comes between stays.

    Args:
        backend: where the keys are.
        payloads: what to store, by key.
        ttl: its lifetime.
        size: how many keys to hand over at a time.
        may_go: tells of a key and what is stored there whether it may be replaced.

    Returns:
        ``{key: replaced?}``; a key with nothing under it is not.
    """
    done = Outcome(dict.fromkeys(payloads, False))
    for part in slices(payloads, size):
        entries = yield Call(backend, "get_many_cas", tuple(part))
        batch = {
            key: (payloads[key], entry[1])
            for key, entry in zip(part, entries, strict=True)
            if entry is not None and may_go(key, entry[0])
        }
        if batch:
            outcome = yield Call(backend, "compare_and_set_many", (batch, ttl))
            done.update(outcome)
            done.reasons.update(getattr(outcome, "reasons", {}))
            done.unsure.update(getattr(outcome, "unsure", ()))
    return done
