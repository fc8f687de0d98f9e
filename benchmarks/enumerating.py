"""All rows of a model: primary keys, rows and their number, beside the keys alone and redis-py's ``scan_iter``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .measure import Call, alternate
from .rows import STANDARD
from .stores import Stores

__all__ = ["BACKENDS", "COLUMNS", "ROWS", "times"]

BACKENDS = ("Redis", "memcached", "FileSystem", "Simple")
COLUMNS = ("scan_keys", "scan", "count", "backend.scan", "scan_iter by hand")
ROWS = 20_000


def _exhaust(items: Iterable[Any]) -> int:
    return sum(1 for _ in items)


def times(stores: Stores, backend: str, rounds: int, seconds: float, tick: Callable[[], None]) -> Mapping[str, float]:
    """Time one line of the table: microseconds per row, by what is enumerated."""
    with stores.bound(STANDARD, backend) as model:
        model.insert_many(STANDARD.rows(ROWS)).execute()
        store, prefix = model._meta.backend, f"{model._meta.prefix}:"
        calls: dict[str, Call] = {
            "scan_keys": lambda: _exhaust(model.scan_keys()),
            "scan": lambda: _exhaust(model.scan()),
            "count": model.count,
            "backend.scan": lambda: _exhaust(store.scan(prefix)),
        }
        if backend == "Redis":
            # Without a look at what is stored: remembered misses would be given as well.
            calls["scan_iter by hand"] = lambda: _exhaust(
                int(key.rpartition(b":")[2]) for key in stores.redis.scan_iter(f"{prefix}*", count=1000)
            )
        return alternate(calls, ROWS, rounds, seconds, tick)
