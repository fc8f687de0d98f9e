"""The backend in this process's memory.

*Atomicity*: every operation, batches included, is atomic among the threads of the process. *Durability*: none, and
no other process sees the entries; a forked child starts with a copy. *Eviction*: at ``threshold`` entries or
``max_bytes``, expired entries are removed first, then the least recently used ones. *Limits*: any ``str`` is a key;
values are limited by memory, or by ``max_bytes``. *Lifetimes* follow a monotonic clock, so that setting the system's
clock changes none of them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from .._speedups import entries
from ..types import TTL, KeepTTL, Outcome, Value
from .base import BaseBackend, next_count, split_swaps

__all__ = ["SimpleBackend"]

# Keys that are looked at while the lock is held.
_SCAN_STEP = 1000

_living: weakref.WeakSet[SimpleBackend] = weakref.WeakSet()
_living_lock = threading.RLock()
_held_for_fork: list[SimpleBackend] = []


# A fork copies locks as they are: one that another thread holds would stay locked in the child for ever. So the
# forking thread takes them all first. It also means that no entry in the child is half changed.
def _hold_locks() -> None:
    _living_lock.acquire()
    _held_for_fork.extend(_living)
    for backend in _held_for_fork:
        backend._lock.acquire()


def _release_locks() -> None:
    while _held_for_fork:
        _held_for_fork.pop()._lock.release()
    _living_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_locks, after_in_parent=_release_locks, after_in_child=_release_locks)


class SimpleBackend(entries.Entries, BaseBackend):
    """Keeps entries in memory, for this process only.

    Args:
        threshold: the most entries to hold, at least 1. A write beyond it evicts the least recently used entry; expired
            ones have been removed by then. ``get``, ``get_many``, ``touch`` and every write that stores count as use;
            ``has``, ``ttl`` and refused writes do not.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        max_bytes: the most that all entries may take together, at least 1: the characters of the keys and the bytes of
            the values. What the process needs beside them, some 60 bytes per entry and the headers of Python's objects,
            is not counted. A write beyond it evicts as many entries as it takes, as with ``threshold``. An entry that
            is larger by itself is refused, and the one under its key is removed. ``None`` does not bound it.
        clock: returns the time in seconds, for lifetimes; :func:`time.monotonic` unless given.

    Raises:
        ValueError: ``threshold`` or ``max_bytes`` is less than 1.

    It pickles as its options: what is unpickled, in this process or another, begins empty.

    All operations take O(1) per entry. An expiry takes O(log n) in the number of *writes* that have not expired yet; a
    batch counts as one write.
    """

    in_process = True

    def __new__(cls, *args: Any, **options: Any) -> Self:
        self = entries.Entries.__new__(cls)
        self._made_with = cls, args, options
        return self

    # The compiled entries have another one.
    __reduce__ = BaseBackend.__reduce__

    def __init__(
        self,
        threshold: int = 100_000,
        default_ttl: int = 300,
        *,
        max_bytes: int | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        for name, limit in (("threshold", threshold), ("max_bytes", max_bytes)):
            if limit is None and name == "max_bytes":
                continue
            if isinstance(limit, bool) or not isinstance(limit, int):
                raise TypeError(f"{name} must be an int, got {type(limit).__name__}")
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")
        entries.Entries.__init__(self, threshold, max_bytes)
        if clock is not None:
            self._clock = clock
        BaseBackend.__init__(self, default_ttl)
        with _living_lock:
            _living.add(self)

    # -- one entry; get, has and delete are those of the entries -----------------------------------

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._put(key, entries.stored_value(key, value), self._seconds(ttl))

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        seconds = None if isinstance(ttl, KeepTTL) else self._seconds(ttl)
        return self._put(key, entries.stored_value(key, value), seconds, True)

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._put(key, entries.stored_value(key, value), self._seconds(ttl), False)

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        return int(self._change(key, lambda stored: b"%d" % next_count(key, stored, delta), self._seconds(ttl)))

    def touch(self, key: str, ttl: TTL = None) -> bool:
        return self._expire(key, self._seconds(ttl))

    def ttl(self, key: str) -> int | None:
        return self._left(key)

    # -- batches; get_many and delete_many are those of the entries --------------------------------

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._put_many(entries.stored_batch(mapping), self._seconds(ttl))

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        seconds = None if isinstance(ttl, KeepTTL) else self._seconds(ttl)
        return self._put_many(entries.stored_batch(mapping), seconds, True)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._put_many(entries.stored_batch(mapping), self._seconds(ttl), False)

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        entries.check_types(keys)
        return self._expire_many(keys, self._seconds(ttl))

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        seconds = None if isinstance(ttl, KeepTTL) else self._seconds(ttl)
        values, tokens = split_swaps(mapping)
        return self._put_many(entries.stored_batch(values), seconds, None, tokens)

    # -- the backend as a whole ------------------------------------------------------------------

    def scan_chunks(self, prefix: str = "", batch_size: int = 1000) -> Iterator[list[str]]:
        self._check_scan(prefix, batch_size)
        return self._scan(prefix, batch_size)

    def _scan(self, prefix: str, batch_size: int) -> Iterator[list[str]]:
        # Others get the lock between two steps, whatever the size that is asked for.
        step, cursor = min(batch_size, _SCAN_STEP), None
        while True:
            keys, cursor = self._keys_from(cursor, step)
            if found := [key for key in keys if key.startswith(prefix)] if prefix else keys:
                yield found
            if cursor is None:
                return

    def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        """Remove all entries, or those whose keys begin with ``prefix``; see :class:`BaseBackend`."""
        if prefix is None:
            entries.Entries.clear(self)
        else:
            BaseBackend.clear(self, prefix, everything=everything)

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that is no ``str``; every ``str`` is valid."""
        entries.check_types((key,))

    def stats(self) -> dict[str, Any]:
        """Return the figures of the entries and of their use.

        Returns:
            ``entries`` and ``bytes`` (characters of keys and bytes of values, which are added up now unless they are
            bounded), with their bounds ``threshold`` and ``max_bytes``. ``hits``, ``misses``, ``evictions`` (for lack
            of space) and ``expired`` are counted since the backend was made.
        """
        return dict(self._counts())
