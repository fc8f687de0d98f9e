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

__all__ = ["HANDS", "OPERATIONS", "contestants", "times"]


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


# Sets each entry that is still as it was read. One script for a batch is the fastest that can be had by hand.
_SWAP = """
local done = {}
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[2 * i] then
    redis.call('SET', key, ARGV[2 * i + 1], 'EX', ARGV[1])
    done[i] = 1
  else
    done[i] = 0
  end
end
return done
"""


def _update_by_script(client: Any, script: Any, changed: Sequence[Row]) -> None:
    """Read all rows, and store those that nobody else has changed meanwhile; try again with the others."""
    left = list(changed)
    while left:
        keys = [f"m:user:id:{change['id']}" for change in left]
        values = client.mget(keys)
        arguments: list[Any] = [TTL]
        for value, change in zip(values, left, strict=True):
            row = msgpack.unpackb(value)
            row["height"] = change["height"]
            row["gender"] = change["gender"].value
            arguments += [value, msgpack.packb(row)]
        done = script(keys=keys, args=arguments)
        left = [change for change, stored in zip(left, done, strict=True) if not stored]


def _increment_by_hand(client: Any, pk: int) -> None:
    """Count in one field of a row, as the documentation of redis-py shows."""
    import redis

    key = f"m:user:id:{pk}"
    with client.pipeline(transaction=True) as pipeline:
        while True:
            pipeline.watch(key)
            row = msgpack.unpackb(pipeline.get(key))
            pipeline.multi()
            row["height"] += 1
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
    script = stores.redis.register_script(_SWAP)
    return {
        OURS: lambda: model.update_many(changed).atomic().execute(),
        "not atomic": lambda: model.update_many(changed).execute(),
        "by hand": lambda: _update_atomically(stores.redis, changed),
        "by hand, Lua": lambda: _update_by_script(stores.redis, script, changed),
        "by hand, not atomic": lambda: hand.update_many(changed),
    }


def _increments(stores: Stores, model: Any, rows: list[Row]) -> dict[str, Call]:
    """One row at a time."""
    pks = [row["id"] for row in rows]
    return {
        OURS: lambda: [model.increment(pk, "height") for pk in pks],
        "by hand": lambda: [_increment_by_hand(stores.redis, pk) for pk in pks],
    }


def _lifetimes(stores: Stores, model: Any, rows: list[Row]) -> dict[str, Call]:
    pks = [row["id"] for row in rows]
    keys = [f"m:user:id:{pk}" for pk in pks]
    return {
        OURS: lambda: model.expire_many(pks, TTL),
        "by hand": lambda: _expire(stores.redis, keys),
    }


HANDS = ("by hand", "by hand, Lua")
"""The names of the hand-written versions that do all that ours does."""

OPERATIONS: dict[str, Callable[[Stores, Any, list[Row]], dict[str, Call]]] = {
    "update_many, atomic": _atomic,
    "increment, one row at a time": _increments,
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
