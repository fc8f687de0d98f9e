"""Several memcacheds beside one, and beside pylibmc with the same ketama ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cacheorm as co

from .contests import OURS
from .hand import PylibmcHand
from .measure import Call, alternate
from .rows import STANDARD
from .stores import Stores

__all__ = ["OPERATIONS", "contestants", "times"]

OPERATIONS = ("query_many, three memcacheds", "insert_many, three memcacheds")


def contestants(stores: Stores, operation: str, model: Any, count: int) -> dict[str, Call]:
    """Store the rows, and return the calls to compare. ``model`` is bound to the three servers."""
    rows = STANDARD.rows(count)
    asked, pks = STANDARD.asked(rows), STANDARD.pks(rows)
    alone = type("Alone", (model,), {"Meta": type("Meta", (), {"name": "user"})})
    co.bind([alone], backend=stores.backend("memcached"))
    for bound in (model, alone):
        bound.insert_many(rows).execute()
    hand = None if stores.pylibmc_ring is None else PylibmcHand(stores.pylibmc_ring, STANDARD)
    if operation.startswith("query_many"):
        calls: dict[str, Call] = {
            OURS: lambda: model.query_many(asked).execute(),
            "one server": lambda: alone.query_many(asked).execute(),
        }
        if hand is not None:
            hand.insert_many(rows)
            calls["pylibmc"] = lambda: hand.query_many(pks)
        return calls
    calls = {
        OURS: lambda: model.insert_many(rows).execute(),
        "one server": lambda: alone.insert_many(rows).execute(),
    }
    if hand is not None:
        calls["pylibmc"] = lambda: hand.insert_many(rows)
    return calls


def times(
    stores: Stores, operation: str, count: int, rounds: int, seconds: float, tick: Callable[[], None]
) -> dict[str, float]:
    """Time one line of the table: microseconds per row, by contestant."""
    with stores.bound(STANDARD, "three memcacheds") as model:
        return alternate(contestants(stores, operation, model, count), count, rounds, seconds, tick)
