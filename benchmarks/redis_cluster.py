"""The cost of a Redis Cluster for its client, beside a single server."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import cacheorm as co

from .measure import Call, alternate
from .rows import STANDARD, Row, User
from .stores import Stores

__all__ = ["BAR", "OPERATIONS", "times"]

BAR = 1.5
"""The most processor time of a read on a cluster, as a multiple of that on a single server."""

# Seven servers and their client share a few cores, so that times vary by chance. Longer turns average more of it.
_TURN_SECONDS = 0.1


def _query(model: Any, rows: list[Row]) -> Call:
    asked = STANDARD.asked(rows)
    return lambda: model.query_many(asked).execute()


def _insert(model: Any, rows: list[Row]) -> Call:
    return lambda: model.insert_many(rows).execute()


OPERATIONS: dict[str, Callable[[Any, list[Row]], Call]] = {"query_many": _query, "insert_many": _insert}


def _model(store: co.BaseBackend) -> Any:
    class OnStore(User):
        class Meta:
            name = "user"
            backend = store
            serializer = "msgpack"

    return OnStore


def times(
    stores: Stores, operation: str, count: int, rounds: int, seconds: float, tick: Callable[[], None]
) -> dict[str, float]:
    """Time one operation on both: microseconds per row, for processor time of the client and for all time.

    The former does not depend on the servers, which share the machine with the client.
    """
    rows = STANDARD.rows(count)
    calls: dict[str, Call] = {}
    for name in ("Redis", "Redis Cluster"):
        model = _model(stores.backend(name))
        model.insert_many(rows).execute()
        calls[name] = OPERATIONS[operation](model, rows)
    found = {}
    turn = max(seconds, _TURN_SECONDS)
    for what, clock in (("computing", process_time), ("in all", perf_counter)):
        taken = alternate(calls, count, rounds, turn, tick, clock)
        found |= {f"{name}, {what}": time for name, time in taken.items()}
    return found
