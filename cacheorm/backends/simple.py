"""Rows in this process's memory.

*Atomicity*: every operation, batches included, is atomic among the threads of the process. *Durability*: none, and
no other process sees the entries; a forked child starts with a copy of its own. *Eviction*: at ``threshold``
entries, expired ones go first, then the least recently used. *Limits*: any ``str`` is a key; values are
bounded by memory. *Lifetimes* follow a monotonic clock: setting the system's clock changes none.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from math import ceil, inf
from typing import Any

from ..types import TTL, KeepTTL, Outcome, Value
from .base import BaseBackend, next_count
from .entries import check_types, stored_batch, stored_value

__all__ = ["SimpleBackend"]

_living: weakref.WeakSet[SimpleBackend] = weakref.WeakSet()
_living_lock = threading.RLock()
_held_for_fork: list[SimpleBackend] = []


# A fork copies locks as they are: one that another thread holds would stay locked in the child for ever. So the
# forking thread takes them all first, which also gives the child entries that nobody was just changing.
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

# About 3000 years, in seconds; an int without bound would overflow the clock's float.
_LONGEST = 10**11

# How many outdated timer entries are let be before the timers are built anew.
_TIMER_SLACK = 1024


class SimpleBackend(BaseBackend):
    """Keeps entries in memory, for this process only.

    Args:
        threshold: most entries to hold, at least 1. A write beyond it evicts: expired entries are gone already,
            so the least recently used one. ``get``, ``get_many``, ``touch`` and every write that stores
            count as use; ``has``, ``ttl`` and refused writes do not.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.

    Raises:
        ValueError: ``threshold`` is less than 1.

    All operations take O(1) per entry, except that an expiry costs O(log n) in the number of *writes* that are
    still to expire, where a batch is one write.
    """

    in_process = True

    def __init__(self, threshold: int = 100_000, default_ttl: int = 300) -> None:
        super().__init__(default_ttl)
        if isinstance(threshold, bool) or not isinstance(threshold, int):
            raise TypeError(f"threshold must be an int, got {type(threshold).__name__}")
        if threshold < 1:
            raise ValueError(f"threshold must be at least 1, got {threshold}")
        self.threshold = threshold
        self._clock = time.monotonic
        # Reentrant: a signal handler or destructor that uses the backend must not wait for its own thread.
        self._lock = threading.RLock()
        # Values in order of use, oldest first. Values and deadlines lie apart so that a read is a plain lookup,
        # and so that the garbage collector, which ignores bytes and floats, has no object per entry to visit.
        self._store: OrderedDict[str, bytes] = OrderedDict()
        # Deadlines of the entries that have one.
        self._deadlines: dict[str, float] = {}
        # (deadline, serial, keys) per write, a heap. An entry that was overwritten or deleted since leaves its
        # timer behind; it is recognised by its deadline.
        self._timers: list[tuple[float, int, Collection[str]]] = []
        self._timed = 0
        self._serial = 0
        self._next_deadline = inf
        self._hits = self._misses = self._evictions = self._expired = 0
        with _living_lock:
            _living.add(self)

    def __len__(self) -> int:
        """Return the number of entries that have not expired."""
        with self._lock:
            self._drop_expired()
            return len(self._store)

    def __bool__(self) -> bool:
        """Return ``True``: an empty backend is a backend all the same."""
        return True

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        with self._lock:
            if self._next_deadline <= self._clock():
                self._drop_expired()
            try:
                value = self._store[key]
            except KeyError:
                self._misses += 1
                self.check_key(key)
                return None
            except TypeError:
                self.check_key(key)
                raise
            self._store.move_to_end(key)
            self._hits += 1
            return value

    def has(self, key: str) -> bool:
        self.check_key(key)
        with self._lock:
            self._drop_expired()
            return key in self._store

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = stored_value(key, value)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            self._put(key, stored, seconds)
        return True

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        stored = stored_value(key, value)
        seconds = None if isinstance(ttl, KeepTTL) else self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            if key not in self._store:
                return False
            self._put(key, stored, seconds)
        return True

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        stored = stored_value(key, value)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            if key in self._store:
                return False
            self._put(key, stored, seconds)
        return True

    def delete(self, key: str) -> bool:
        self.check_key(key)
        with self._lock:
            self._drop_expired()
            existed = self._store.pop(key, None) is not None
            self._deadlines.pop(key, None)
        return existed

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            current = self._store.get(key)
            count = next_count(key, current, delta)
            self._put(key, b"%d" % count, seconds if current is None else None)
        return count

    def touch(self, key: str, ttl: TTL = None) -> bool:
        self.check_key(key)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            if key not in self._store:
                return False
            self._set_deadline((key,), seconds)
            self._store.move_to_end(key)
        return True

    def ttl(self, key: str) -> int | None:
        self.check_key(key)
        with self._lock:
            self._drop_expired()
            if key not in self._store:
                return None
            deadline = self._deadlines.get(key)
            # At least 1: 0 would say that it never expires.
            return 0 if deadline is None else max(1, ceil(deadline - self._clock()))

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        with self._lock:
            self._drop_expired()
            store = self._store
            move = store.move_to_end
            try:
                values = [*map(store.get, keys)]
            except TypeError:
                check_types(keys)
                raise
            missed = values.count(None)
            if not missed:
                deque(map(move, keys), maxlen=0)
            else:
                # A key of another type is never found, so only misses need the check.
                check_types(key for key, value in zip(keys, values, strict=True) if value is None)
                for key, value in zip(keys, values, strict=True):
                    if value is not None:
                        move(key)
            self._misses += missed
            self._hits += len(values) - missed
        return values

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        batch = stored_batch(mapping)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            return self._put_many(batch, batch, seconds)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        batch = stored_batch(mapping)
        seconds = None if isinstance(ttl, KeepTTL) else self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            store = self._store
            present = {key: value for key, value in batch.items() if key in store}
            return self._put_many(batch, present, seconds)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        batch = stored_batch(mapping)
        seconds = self._seconds(ttl)
        with self._lock:
            self._drop_expired()
            store = self._store
            absent = {key: value for key, value in batch.items() if key not in store}
            return self._put_many(batch, absent, seconds)

    def delete_many(self, *keys: str) -> bool:
        check_types(keys)
        with self._lock:
            self._drop_expired()
            pop_value, pop_deadline = self._store.pop, self._deadlines.pop
            all_existed = True
            for key in dict.fromkeys(keys):
                if pop_value(key, None) is None:
                    all_existed = False
                else:
                    pop_deadline(key, None)
        return all_existed

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that is no ``str``; every ``str`` will do."""
        check_types((key,))

    def clear(self) -> None:
        with self._lock:
            self._store.clear()
            self._deadlines.clear()
            self._rebuild_timers()

    def stats(self) -> dict[str, Any]:
        """Return ``entries``, ``threshold``, ``hits``, ``misses``, ``evictions`` (for lack of room) and ``expired``.

        All but the first two count from the making of the backend.
        """
        with self._lock:
            self._drop_expired()
            return {
                "entries": len(self._store),
                "threshold": self.threshold,
                "hits": self._hits,
                "misses": self._misses,
                "evictions": self._evictions,
                "expired": self._expired,
            }

    # -- all below with the lock held ------------------------------------------------------------

    def _put(self, key: str, value: bytes, seconds: int | None) -> None:
        """Store one entry as the last used; ``None`` seconds leave its lifetime as it is."""
        if seconds is not None:
            self._set_deadline((key,), seconds)
        self._store[key] = value
        self._store.move_to_end(key)
        self._evict()

    def _put_many(self, batch: Mapping[str, bytes], chosen: Mapping[str, bytes], seconds: int | None) -> Outcome:
        """Store the chosen entries of a batch; tell for all of it which are in the store now."""
        if chosen and seconds is not None:
            self._set_deadline(list(chosen), seconds)
        store = self._store
        move = store.move_to_end
        for key, value in chosen.items():
            store[key] = value
            move(key)
        self._evict()
        outcome = Outcome(dict.fromkeys(batch, True) if chosen is batch else {key: key in chosen for key in batch})
        if len(chosen) > self.threshold:
            # The tail of the batch took its head's place. To call the head stored would be a silent loss.
            for key in list(chosen)[: -self.threshold]:
                outcome[key] = False
                outcome.reasons[key] = f"evicted by its own batch, which exceeds the threshold of {self.threshold}"
        return outcome

    def _set_deadline(self, keys: Collection[str], seconds: int) -> None:
        if not seconds:
            for key in keys:
                self._deadlines.pop(key, None)
            return
        deadline = self._clock() + min(seconds, _LONGEST)
        # In this order, an interruption (Ctrl-C) between two steps leaves a timer without entries, which does no
        # harm, and never an entry without a timer. The serial keeps heap comparisons from reaching the keys.
        self._serial += 1
        self._timed += len(keys)
        self._next_deadline = min(self._next_deadline, deadline)
        heapq.heappush(self._timers, (deadline, self._serial, keys))
        self._deadlines.update(dict.fromkeys(keys, deadline))
        if self._timed > 2 * len(self._deadlines) + _TIMER_SLACK:
            self._rebuild_timers()

    def _rebuild_timers(self) -> None:
        """Forget the timers of entries that are gone. Amortised: it takes as many writes to get here again."""
        keys_by_deadline: dict[float, list[str]] = {}
        for key, deadline in self._deadlines.items():
            keys_by_deadline.setdefault(deadline, []).append(key)
        # Sorted is a heap.
        self._timers = [(when, i, keys) for i, (when, keys) in enumerate(sorted(keys_by_deadline.items()))]
        self._serial = len(self._timers)
        self._timed = len(self._deadlines)
        self._next_deadline = self._timers[0][0] if self._timers else inf

    def _drop_expired(self) -> None:
        """Remove what has expired. All operations begin with it, so that no other step asks for deadlines."""
        now = self._clock()
        if self._next_deadline > now:
            return
        store, deadlines, timers = self._store, self._deadlines, self._timers
        while timers and timers[0][0] <= now:
            deadline, _, keys = timers[0]
            for key in keys:
                if deadlines.get(key) == deadline:
                    if store.pop(key, None) is not None:
                        self._expired += 1
                    del deadlines[key]
            heapq.heappop(timers)
            self._timed -= len(keys)
        self._next_deadline = timers[0][0] if timers else inf

    def _evict(self) -> None:
        store = self._store
        while len(store) > self.threshold:
            key, _ = store.popitem(last=False)
            self._deadlines.pop(key, None)
            self._evictions += 1
