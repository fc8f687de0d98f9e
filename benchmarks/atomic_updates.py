"""Atomic updates and lifetimes, beside hand-written code on Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from .contests import OURS
from .hand import TTL, RedisHand
from .measure import Call, alternate
from .rows import STANDARD, Row, changes
from .stores import Stores

__all__ = ["OPERATIONS", "contestants", "times"]


def _update_atomically(client: Any, changed: Sequence[Row]) -> None:
    """Watch all rows, and try again if any of them was changed, as the documentation of redis-py shows."""
    import redis

    keys = [f"m:user:id:{change['id']}" for change in changed]
    with client.pipeline(transaction=True) as pipeline:
        while True:
            pipeline.watch(*keys)
            values = pipeline.mget(keys)
            pipeline.multi()
            for key, value, change in zip(keys, values, changed, strict=True):
                if value is not None:
                    row = msgpack.unpackb(value)
                    row["height"] = change["height"]
                    row["gender"] = change["gender"].value
                    pipeline.set(key, msgpack.packb(row), ex=TTL)
            try:
                pipeline.execute()
            except redis.WatchError:
                continue
            return


def _expire(client: Any, keys: Sequence[str]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.expire(key, TTL)
    return list(pipeline.execute())


def _atomic(stores: Stores, model: Any, rows: list[Row]) -> dict[str, Call]:
    changed = changes(rows)
    hand = RedisHand(stores.redis, STANDARD)
    return {
        OURS: lambda: model.update_many(changed).atomic().execute(),
        "not atomic": lambda: model.update_many(changed).execute(),
        "by hand": lambda: _update_atomically(stores.redis, changed),
        "by hand, not atomic": lambda: hand.update_many(changed),
    }


def _lifetimes(stores: Stores, model: Any, rows: list[Row]) -> dict[str, Call]:
    pks = [row["id"] for row in rows]
    keys = [f"m:user:id:{pk}" for pk in pks]
    return {
        OURS: lambda: model.expire_many(pks, TTL),
        "by hand": lambda: _expire(stores.redis, keys),
    }


OPERATIONS: dict[str, Callable[[Stores, Any, list[Row]], dict[str, Call]]] = {
    "update_many, atomic": _atomic,
    "expire_many": _lifetimes,
}


def contestants(stores: Stores, operation: str, model: Any, count: int) -> dict[str, Call]:
    """Store the rows, and return the calls to compare."""
    rows = STANDARD.rows(count)
    model.insert_many(rows).ttl(TTL).execute()
    return OPERATIONS[operation](stores, model, rows)


def times(
    stores: Stores, operation: str, count: int, rounds: int, seconds: float, tick: Callable[[], None]
) -> dict[str, float]:
    """Time one line of the table: microseconds per row, by contestant."""
    with stores.bound(STANDARD, "Redis") as model:
        calls = contestants(stores, operation, model, count)
        return alternate(calls, count, rounds, seconds, tick)
