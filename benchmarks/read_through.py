"""Read-through of rows that are all in the cache or all missing, beside hand-written code and dogpile.cache."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.servers import HOST

from .contests import OURS
from .hand import TTL, Hand, MemoryHand, PymemcacheHand, RedisHand
from .measure import Call, alternate
from .rows import STANDARD, Row
from .stores import Stores

__all__ = ["BACKENDS", "contestants", "times"]

BACKENDS = ("Redis", "memcached", "Simple")

Pks = Sequence[int]

_DOGPILE: dict[str, tuple[str, Callable[[Stores], dict[str, Any]]]] = {
    "Redis": (
        "dogpile.cache.redis",
        lambda stores: {"host": HOST, "port": stores.redis_server.port, "redis_expiration_time": TTL},
    ),
    "memcached": (
        "dogpile.cache.pymemcache",
        lambda stores: {"url": [f"{HOST}:{stores.memcached_server.port}"], "memcached_expire_time": TTL},
    ),
    "Simple": ("dogpile.cache.memory_pickle", lambda stores: {}),
}


def _load(pks: Pks) -> dict[int, Row]:
    """Return rows by primary key, as a database that takes nearly no time."""
    template = STANDARD.make(1)
    return {pk: {**template, "id": pk} for pk in pks}


def _hand(stores: Stores, backend: str) -> Hand:
    if backend == "Redis":
        return RedisHand(stores.redis, STANDARD)
    return PymemcacheHand(stores.pymemcache, STANDARD) if backend == "memcached" else MemoryHand(STANDARD)


def _by_hand(hand: Hand) -> Callable[[Pks], Any]:
    def load_missing(pks: Pks) -> list[Any]:
        rows = hand.query_many(pks)
        missing = [pk for pk, row in zip(pks, rows, strict=True) if row is None]
        if missing:
            loaded = _load(missing)
            hand.insert_many(list(loaded.values()))
            rows = [loaded[pk] if row is None else row for pk, row in zip(pks, rows, strict=True)]
        return rows

    return load_missing


def _dogpile(stores: Stores, backend: str) -> Callable[[Pks], Any]:
    name, arguments = _DOGPILE[backend]
    region = importlib.import_module("dogpile.cache").make_region()
    region.configure(name, expiration_time=TTL, arguments=arguments(stores))

    def create(*keys: str) -> list[Row]:
        return list(_load([int(key.rpartition(":")[2]) for key in keys]).values())

    return lambda pks: region.get_or_create_multi([f"dogpile:{pk}" for pk in pks], create)


def contestants(stores: Stores, backend: str, model: Any) -> dict[str, Callable[[Pks], Any]]:
    """Return the calls to compare, as functions of primary keys."""
    hand = _by_hand(_hand(stores, backend))
    found: dict[str, Callable[[Pks], Any]] = {
        OURS: lambda pks: model.query_many([{"id": pk} for pk in pks]).load_missing(_load).execute(),
        "without leases": lambda pks: (
            model.query_many([{"id": pk} for pk in pks]).load_missing(_load, lease=None).execute()
        ),
        "query_many": lambda pks: model.query_many([{"id": pk} for pk in pks]).execute(),
        "by hand": hand,
    }
    with contextlib.suppress(ImportError):
        found["dogpile.cache"] = _dogpile(stores, backend)
    return found


def times(
    stores: Stores, backend: str, present: bool, count: int, rounds: int, seconds: float, tick: Callable[[], None]
) -> Mapping[str, float]:
    """Time one line of the table: microseconds per row, by contestant."""
    with stores.bound(STANDARD, backend) as model:
        # New rows in every call, where none is to be there.
        fresh = itertools.count()
        numbers = range(count)

        def bind(call: Callable[[Pks], Any]) -> Call:
            if present:
                call(numbers)
                return lambda: call(numbers)
            return lambda: call(range(start := (next(fresh) + 1) * count, start + count))

        calls = contestants(stores, backend, model)
        if not present:
            del calls["query_many"]
        return alternate({name: bind(call) for name, call in calls.items()}, count, rounds, seconds, tick)
