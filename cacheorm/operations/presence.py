"""What counts as a row: one answer for all operations.

A remembered miss is none, nor is a lease, nor what is kept stale past its lifetime. With ``on_invalid = "miss"``, a
payload that cannot be read is none either; otherwise it counts as a row, so that it is noticed.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any

from ..aging import OVER
from ..metadata import RowPlan
from ..payload import ABSENT, LEASE
from ..requests import Call, Fetch, Steps

__all__ = ["are_rows", "is_there", "may_be_none", "note_placeholders", "those_there"]

_with_placeholders: weakref.WeakSet[Any] = weakref.WeakSet()


def note_placeholders(backend: Any) -> None:
    """Note that this process stores remembered misses and leases on a backend."""
    with suppress(TypeError):  # of a class without weak references
        _with_placeholders.add(backend)


def may_be_none(plan: RowPlan) -> bool:
    """Return whether a model may have payloads that are no rows, as far as this process knows."""
    kept = plan.aging is not None and plan.aging.keeps
    return plan.options.on_invalid == "miss" or kept or plan.backend in _with_placeholders


def are_rows(plan: RowPlan, pks: list[Any], keys: list[str], payloads: list[bytes | None]) -> list[bool]:
    """Return whether each payload is a row; only with ``on_invalid = "miss"`` they have to be decoded for that.

    Args:
        plan: the plan of the model.
        pks: the primary keys.
        keys: the keys.
        payloads: what is stored under them, ``None`` for nothing.
    """
    if plan.options.on_invalid == "miss":
        return [row is not None for row in plan.resolved().codec.load_many(payloads, pks, keys)]
    aging = plan.aging
    if aging is not None and aging.keeps:
        now = aging.now()
        payloads = [None if payload is None or aging.state(payload, now) == OVER else payload for payload in payloads]
    # No function is called for each of them.
    size = len(LEASE)
    return [payload is not None and payload != ABSENT and payload[:size] != LEASE for payload in payloads]


def is_there(plan: RowPlan, pk: Any, key: str) -> Steps[bool]:
    """Read one key; return whether there is a row."""
    payload = yield Call(plan.backend, "get", (key,))
    return payload is not None and are_rows(plan, [pk], [key], [payload])[0]


def those_there(plan: RowPlan, pks: list[Any], keys: list[str]) -> Steps[list[str]]:
    """Read keys, each given once; return those with a row."""

    def decode(payloads: list[bytes | None], start: int) -> list[bool]:
        end = start + len(payloads)
        return are_rows(plan, pks[start:end], keys[start:end], payloads)

    there = yield Fetch(plan.backend, keys, decode)
    return [key for key, is_row in zip(keys, there, strict=True) if is_row]
