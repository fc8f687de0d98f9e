# cython: language_level=3, annotation_typing=False
"""The entries of the in-memory backend, and the checks that embedded backends make. One source, also compiled.

Entries lie in order of use, so that the least recently used one is the first. All methods of :class:`Entries` hold its
lock, and each of them is one step to other threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from math import ceil, inf
from typing import Any

from ...errors import BackendError, InvalidKeyError
from ...types import Outcome, Value, to_bytes
from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from ._lru_table_c import LruTable, is_exact
else:
    from ._lru_table_py import LruTable, is_exact

__all__ = ["Entries", "check_types", "stored_batch", "stored_value"]

# About 3000 years, in seconds; an int without bound would overflow the clock's float.
_LONGEST = 10**11


def check_types(keys: Iterable[object]) -> None:
    """Raise :exc:`~cacheorm.errors.InvalidKeyError` if one of ``keys`` is no ``str``."""
    for key in keys:
        if not isinstance(key, str):
            # The type only: the key itself may be anything.
            raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")


def stored_value(key: str, value: Value) -> bytes:
    """Return the bytes to store under ``key``.

    Raises:
        InvalidKeyError: ``key`` is no ``str``.
        TypeError: ``value`` is no ``bytes``, ``str``, ``int`` or ``float``.
    """
    if type(key) is str and type(value) is bytes:
        return value
    check_types((key,))
    try:
        stored = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    if stored is None:
        raise TypeError(f"{key}: cannot store None: delete the key instead")
    return stored


def stored_batch(mapping: Mapping[str, Value]) -> Mapping[str, bytes]:
    """Return the bytes to store under each key, in the order of ``mapping``; errors as :func:`stored_value`.

    The result may be ``mapping`` itself: read it before the caller gets control back, and do not change it.
    """
    if is_exact(mapping):
        return mapping  # type: ignore[return-value]  # just checked
    return {key: stored_value(key, value) for key, value in mapping.items()}


@cython.cclass
class Entries:
    """Bytes under ``str`` keys, each with a deadline or none, at most ``threshold`` of them and ``max_bytes`` in all.

    Lifetimes are whole seconds: 0 never expires, ``None`` leaves an entry the lifetime that it has.

    Args:
        threshold: most entries to hold.
        max_bytes: most characters of keys and bytes of values to hold; ``None`` does not bound them.
    """

    threshold: int = cython.declare(object, visibility="public")
    max_bytes: int | None = cython.declare(object, visibility="readonly")
    _clock: Callable[[], float] = cython.declare(object, visibility="public")
    _lock: threading.RLock = cython.declare(object, visibility="readonly")
    _store: LruTable = cython.declare(object, visibility="readonly")
    _next_deadline: float = cython.declare(cython.double)
    _hits: int = cython.declare(cython.longlong, visibility="readonly")
    _misses: int = cython.declare(cython.longlong, visibility="readonly")
    _evictions: int = cython.declare(cython.longlong, visibility="readonly")
    _expired: int = cython.declare(cython.longlong, visibility="readonly")
    # How many changes of a batch are under way; the lock is held meanwhile.
    _busy: int = cython.declare(cython.longlong)
    _use: Callable[[object], bytes | None] = cython.declare(object)

    def __init__(self, threshold: int, max_bytes: int | None = None) -> None:
        self.threshold = threshold
        self.max_bytes = max_bytes
        self._clock = time.monotonic
        # Reentrant: a signal handler or destructor that uses the backend must not deadlock with its own thread.
        self._lock = threading.RLock()
        self._busy = 0
        self._store = LruTable(max_bytes is not None)
        self._use = self._store.use
        self._next_deadline = inf
        self._hits = self._misses = self._evictions = self._expired = 0

    def __len__(self) -> int:
        """Return the number of entries that have not expired."""
        with self._lock:
            self._drop_expired()
            return len(self._store)

    def __bool__(self) -> bool:
        """Return ``True``: an empty backend is a backend all the same."""
        return True

    # -- reading ---------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return the value of ``key``, or ``None``."""
        now = self._clock()
        if cython.compiled and not self._busy and self._next_deadline > now and type(key) is str:
            # No other thread is half-way through a change, and none can get in before the value is here: the lock
            # would cost as much as the rest.
            found = self._use(key)
            if found is not None:
                self._hits += 1
                return found
        with self._lock:
            self._drop_expired()
            value = self._use(key)
            if value is None:
                # A key of another type is never found, so only misses need the check.
                check_types((key,))
                self._misses += 1
                return None
            self._hits += 1
            return value

    def get_many(self, *keys: str) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, ``None`` for each that does not exist."""
        with self._lock:
            self._drop_expired()
            values, missed = self._store.use_many(keys)
            if missed:
                check_types([key for key, value in zip(keys, values, strict=True) if value is None])
            self._misses += missed
            self._hits += len(values) - missed
        return values

    def has(self, key: str) -> bool:
        """Return whether ``key`` exists; this is no use of it."""
        check_types((key,))
        with self._lock:
            self._drop_expired()
            return key in self._store

    def _keys_from(self, cursor: Any, count: int) -> tuple[list[str], Any]:
        """Return at most ``count`` keys, and the cursor of the next call; see :meth:`LruTable.keys_from`."""
        with self._lock:
            self._drop_expired()
            return self._store.keys_from(cursor, count)

    def _left(self, key: str) -> int | None:
        """Return the seconds that ``key`` has left, rounded up; 0 if it never expires, ``None`` without it."""
        check_types((key,))
        with self._lock:
            self._drop_expired()
            deadline = self._store.deadline(key)
            if deadline is None:
                return None
            # At least 1: 0 would say that it never expires.
            return 0 if deadline == inf else max(1, ceil(deadline - self._clock()))

    def _counts(self) -> dict[str, int | None]:
        """Return what has been counted since the beginning, and how many entries there are."""
        with self._lock:
            self._drop_expired()
            return {
                "entries": len(self._store),
                "threshold": self.threshold,
                "hits": self._hits,
                "misses": self._misses,
                "evictions": self._evictions,
                "expired": self._expired,
                "bytes": self._store.size,
                "max_bytes": self.max_bytes,
            }

    # -- writing ---------------------------------------------------------------------------------

    def _put(self, key: str, value: bytes, seconds: int | None, present: bool | None = None) -> bool:
        """Store one entry as the last used.

        Args:
            key: its key, a ``str``.
            value: its bytes.
            seconds: its lifetime.
            present: if given, store it only where the key exists (``True``) or does not (``False``).

        Returns:
            Whether it was stored.
        """
        with self._lock:
            self._drop_expired()
            # The clock may be any function: nothing may change between the look and the change.
            deadline = self._deadline(seconds)
            if present is not None and (key in self._store) is not present:
                return False
            if self.max_bytes is not None and str.__len__(key) + len(value) > self.max_bytes:
                # What was there before is not what the caller wants to be read from now on.
                self._store.remove(key)
                return False
            self._store.put(key, value, deadline)
            self._evict_surplus()
        return True

    def _put_many(
        self,
        batch: Mapping[str, bytes],
        seconds: int | None,
        present: bool | None = None,
        expected: Mapping[str, object] | None = None,
    ) -> Outcome:
        """Store a batch as the last used, in its order.

        Args:
            batch: its entries.
            seconds: their lifetime.
            present: as for :meth:`_put`.
            expected: if given, store only those whose present values are these.

        Returns:
            For each key whether it is stored.
        """
        with self._lock:
            self._busy += 1
            try:
                return self._put_all(batch, seconds, present, expected)
            finally:
                self._busy -= 1

    @cython.cfunc
    def _put_all(self, batch: Mapping[str, bytes], seconds: Any, present: Any, expected: Any) -> Outcome:
        self._drop_expired()
        deadline = self._deadline(seconds)
        store = self._store
        chosen = batch
        if present is not None:
            chosen = {key: value for key, value in batch.items() if (key in store) is present}
        elif expected is not None:
            find = store.get
            chosen = {
                key: value for key, value in batch.items() if (held := find(key)) is not None and held == expected[key]
            }
        too_large = set() if self.max_bytes is None else self._remove_too_large(chosen, self.max_bytes)
        if too_large:
            chosen = {key: value for key, value in chosen.items() if key not in too_large}
        if chosen:
            store.put_many(chosen, deadline)
        evictions = self._evictions
        self._evict_surplus()
        outcome = Outcome(dict.fromkeys(batch, True) if chosen is batch else {key: key in chosen for key in batch})
        for key in too_large:
            outcome.reasons[key] = f"too large: key and value exceed the max_bytes of {self.max_bytes}"
        if self._evictions > evictions and len(chosen) > len(store):
            # The tail of the batch took its head's place. To call the head stored would be a silent loss.
            bound = f"threshold of {self.threshold}"
            if len(store) < self.threshold:
                bound = f"max_bytes of {self.max_bytes}"
            for key in list(chosen)[: len(chosen) - len(store)]:
                outcome[key] = False
                outcome.reasons[key] = f"evicted by its own batch, which exceeds the {bound}"
        return outcome

    @cython.cfunc
    def _remove_too_large(self, batch: Mapping[str, bytes], limit: Any) -> Any:
        """Remove the entries of a batch whose new values can never be held; return their keys."""
        keys = {key for key, value in batch.items() if str.__len__(key) + len(value) > limit}
        for key in keys:
            self._store.remove(key)
        return keys

    def _expire_many(self, keys: Iterable[str], seconds: int) -> dict[str, bool]:
        """Set another lifetime for entries, as a use of them; return for each whether it exists."""
        batch = [*dict.fromkeys(keys)]
        return dict(zip(batch, self._expire_all(batch, seconds), strict=True))

    def _expire_all(self, keys: list[str] | tuple[str, ...], seconds: int) -> list[bool]:
        with self._lock:
            self._drop_expired()
            found = self._store.set_deadlines(keys, self._deadline(seconds))
            self._store.use_many(keys)
            self._evict_surplus()
        return found

    def _change(self, key: str, make: Callable[[bytes | None], bytes], seconds: int) -> bytes:
        """Store what ``make`` returns for the present value, in one step; a new entry lives for ``seconds``."""
        with self._lock:
            self._drop_expired()
            find = self._store.get
            current = find(key)
            made = make(current)
            # A signal handler or destructor may have come in between.
            while (present := find(key)) is not current:
                current = present
                made = make(current)
            if not self._put(key, made, seconds if current is None else None):
                raise BackendError(f"{key}: not stored: key and value exceed the max_bytes of {self.max_bytes}")
        return made

    def _expire(self, key: str, seconds: int) -> bool:
        """Set another lifetime for an entry, as a use of it; return whether it exists."""
        check_types((key,))
        return self._expire_all((key,), seconds)[0]

    def delete(self, key: str) -> bool:
        """Remove ``key``. Return whether it existed."""
        return self._remove((key,))

    def delete_many(self, *keys: str) -> bool:
        """Remove all ``keys``; return ``True`` only if every one existed. A key given twice counts once."""
        return self._remove(keys)

    def _remove(self, keys: tuple[str, ...]) -> bool:
        check_types(keys)
        store = self._store
        with self._lock:
            self._busy += 1
            try:
                self._drop_expired()
                # Looked up beforehand, as a key may be there twice.
                all_existed = all(key in store for key in keys)
                for key in keys:
                    store.remove(key)
            finally:
                self._busy -= 1
        return all_existed

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._store.clear()
            self._evict_surplus()

    # -- all below with the lock held ------------------------------------------------------------

    @cython.cfunc
    def _deadline(self, seconds: Any) -> Any:
        """Return the deadline of a lifetime that begins now, ``None`` to keep that of an entry."""
        if not seconds:
            return None if seconds is None else inf
        return self._clock() + min(seconds, _LONGEST)

    @cython.cfunc
    def _drop_expired(self) -> Any:
        """Remove what has expired. All operations begin with it, so that no other step asks for deadlines."""
        now = self._clock()
        if self._next_deadline > now:
            return
        self._expired += self._store.expire(now)
        self._next_deadline = self._store.next_deadline

    @cython.cfunc
    def _evict_surplus(self) -> Any:
        """Make room after a write, and see when the next entry expires."""
        store = self._store
        while len(store) > self.threshold:
            store.remove_first()
            self._evictions += 1
        if self.max_bytes is not None:
            while store.size > self.max_bytes:
                store.remove_first()
                self._evictions += 1
        self._next_deadline = store.next_deadline
