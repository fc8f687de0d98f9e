"""The lifetimes of rows that are kept stale: their headers say when they end, earlier than those of their backend."""

from __future__ import annotations

from typing import Any

from ..aging import Stamp
from ..metadata import RowPlan
from ..payload import ages_of
from ..requests import Call, Steps
from ..types import Outcome
from .compare_and_set import collect
from .presence import are_rows
from .read import read_patched
from .unreadable import Unreadable

__all__ = ["restamp", "seconds_left"]

# How often a row is tried that others change at the same time.
_TRIES = 16


def seconds_left(plan: RowPlan, pk: Any, key: str) -> Steps[int | None]:
    """Return the seconds that a row has left; 0 if it never expires, ``None`` if there is none."""
    left: int | None = yield Call(plan.backend, "ttl", (key,))
    if left is None:
        return None
    payload = yield Call(plan.backend, "get", (key,))
    if payload is None or not are_rows(plan, [pk], [key], [payload])[0]:
        return None
    aging, ages = plan.aging, ages_of(payload)
    if aging is None or not aging.keeps or ages is None or not ages.ends:
        return left
    of_row: int = max(1, -(-(ages.ends - aging.now()) // 1000))
    return min(of_row, left) if left else of_row


def restamp(plan: RowPlan, pks: list[Any], keys: list[str], stamp: Stamp, ttl: Any) -> Steps[Outcome]:
    """Write other ages into the headers of rows. Those that others change meanwhile are read and written again.

    Args:
        plan: the plan of the model.
        pks: the primary keys.
        keys: the keys, each once.
        stamp: what is written; see :meth:`~cacheorm.aging.Aging.renewed`.
        ttl: the lifetime that the backend counts.

    Returns:
        Whether each of the rows that exist and can be read was written.
    """
    resolved = plan.resolved()
    (unchanged,) = resolved.codec.pack_changes(plan.adopt([plan.row_of(pks[0])], True), False)
    pk_of = dict(zip(keys, pks, strict=True))
    done = Outcome()
    left = keys
    for _ in range(_TRIES):
        unreadable = Unreadable(plan, "raise")  # it keeps their errors, and nobody asks for them
        of_left = [pk_of[key] for key in left]
        found = yield from read_patched(resolved, of_left, left, [unchanged] * len(left), True, unreadable, stamp)
        swaps = dict(zip(found.keys, zip(found.payloads, found.tokens, strict=True), strict=True))
        if not swaps:
            break
        collect(done, (yield Call(resolved.backend, "compare_and_set_many", (swaps, ttl))))
        left = [key for key in swaps if not done.get(key) and key not in done.reasons]
        if not left:
            break
    return done
