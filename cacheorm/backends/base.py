"""The interface of backends: opaque keys, opaque bytes, lifetimes.

A backend stores bytes under string keys, with lifetimes. It knows nothing of models or fields. The methods of
:class:`BaseBackend` are the whole interface, and a subclass that defines ``get``, ``set`` and ``delete`` already
fulfils it. Override the batch methods if the engine has a faster way. :mod:`cacheorm.testing` contains the tests that
every backend has to pass.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from ..errors import BackendError
from ..types import TTL, KeepTTL, Outcome, PoolState, Value, check_ttl
from ._net.sync_bridge import OnePart
from ._pickling import check_arguments
from ._pickling import make as make_pickled
from .async_api import awaited
from .enumeration import Enumeration, check_clear

__all__ = ["BaseBackend", "later_part", "next_count", "split_swaps"]

_COUNTER_LIMIT = 1 << 63

# Held by the read-then-write fallbacks below, so that they are atomic among themselves within one process. One lock for
# all backends, since a subclass need not call ``__init__``; the backends of this package override the fallbacks.
_fallback_lock = threading.RLock()


def next_count(key: str, stored: bytes | None, delta: int) -> int:
    """Return the value of a counter after a step.

    Args:
        key: the counter's key, for messages.
        stored: its present bytes; ``None`` if it does not exist, which counts as 0.
        delta: the step, positive or negative.

    Raises:
        TypeError: ``delta`` is no integer.
        BackendError: the entry is no integer, or the result is outside the range of a signed 64-bit
            integer (that of Redis, and the same for all backends).
    """
    if type(delta) is not int:
        raise TypeError(f"the step of a counter must be an int, got {type(delta).__name__}")
    try:
        current = int(stored) if stored is not None else 0
    except ValueError:
        raise BackendError(f"{key}: cannot count, the entry is not an integer") from None
    count = current + delta
    if not -_COUNTER_LIMIT <= count < _COUNTER_LIMIT:
        raise BackendError(f"{key}: cannot count past the range of a 64-bit integer")
    return count


def split_swaps(mapping: Mapping[str, tuple[Value, Any]]) -> tuple[dict[str, Value], dict[str, Any]]:
    """Split the argument of :meth:`BaseBackend.compare_and_set_many` into values and tokens, each by key."""
    values, tokens = zip(*mapping.values(), strict=True) if mapping else ((), ())
    return dict(zip(mapping, values, strict=True)), dict(zip(mapping, tokens, strict=True))


@contextlib.contextmanager
def later_part(later: bool) -> Iterator[None]:
    """Mark a BackendError of a part of a batch as maybe applied if parts were sent before it.

    Args:
        later: whether parts were sent before.
    """
    try:
        yield
    except BackendError as error:
        error.maybe_applied = error.maybe_applied or later
        raise


class BaseBackend(Enumeration):
    """A store of bytes under string keys, each entry with a lifetime.

    Args:
        default_ttl: lifetime in seconds of entries written with ``ttl=None``; ``0`` never expires.

    Keys are ``str``. Values are ``bytes``, ``str``, ``int`` or ``float`` and are read back as
    ``bytes``. Wherever a method takes ``ttl``: ``None`` is ``default_ttl``, ``0`` never expires, and a
    negative number is a :exc:`ValueError`. An entry past its lifetime does not exist, for any method.

    Every method that does I/O can also be awaited, under its name with an ``a`` in front: see :mod:`.async_api`. Those
    that enumerate keys, and ``clear``, are in :mod:`.enumeration`.

    A backend pickles as the arguments that it was made with, and so does a subclass; connections and entries stay where
    they are.

    Raises (all methods):
        InvalidKeyError: a key that this backend cannot store; nothing was sent.
        BackendError: the engine failed. ``maybe_applied`` says whether a write may have happened.
    """

    default_ttl: int = 600

    in_process: bool = False
    """Whether entries are in this process's memory only, where no other process can write. Then no method waits for
    anything, and operations in an event loop call the methods directly instead of awaiting them."""

    on_failure: str = "raise"
    """What becomes of operations that fail: errors (``"raise"``), or what an empty cache that forgets at once would do
    (``"miss"``). memcached has ``"eject"``, too."""

    chunk_size: int = 10_000
    """How many rows a bulk operation passes to the backend at a time, unless its ``chunk_size`` is set. It bounds
    memory; the backend itself decides how many of them make one request."""

    _made_with: tuple[Any, tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        self = super().__new__(cls)
        # Here, as a subclass need not call __init__.
        self._made_with = cls, args, options
        return self

    def __init__(self, default_ttl: int = 600) -> None:
        self.default_ttl = check_ttl(default_ttl)

    @property
    def failed_reads(self) -> int:
        """A number that changes with each read whose values count as missing because something failed."""
        return 0

    # -- what a subclass must define -----------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return the value of ``key``, or ``None``."""
        raise NotImplementedError

    aget = awaited(get)

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        """Store ``value`` under ``key``, replacing any entry. Return ``True`` if it is stored."""
        raise NotImplementedError

    aset = awaited(set)  # noqa: A003 -- the method

    def delete(self, key: str) -> bool:
        """Remove ``key``. Return whether it existed."""
        raise NotImplementedError

    adelete = awaited(delete)

    # -- one entry -------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Return whether ``key`` exists."""
        return self.get(key) is not None

    ahas = awaited(has)

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        """Store ``value`` only if ``key`` exists. Return whether it did.

        ``ttl`` may be :data:`~cacheorm.types.KEEP_TTL`: the entry keeps the lifetime it has.
        """
        with _fallback_lock:
            if not self.has(key):
                return False
            if isinstance(ttl, KeepTTL):
                ttl = self.ttl(key)
            return self.set(key, value, ttl) is not False

    areplace = awaited(replace)

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        """Store ``value`` only if ``key`` does not exist. Return whether it was stored."""
        with _fallback_lock:
            return not self.has(key) and self.set(key, value, ttl) is not False

    aadd = awaited(add)

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        """Add ``delta`` to a counter, atomically, and return its new value.

        A counter that does not exist starts from 0 with the lifetime ``ttl``. One that exists keeps its lifetime, so
        that a counter of events per minute is not prolonged by each event.

        Raises:
            BackendError: the entry is no integer, or the result is outside the signed 64-bit range.
        """
        with _fallback_lock:
            stored = self.get(key)
            count = next_count(key, stored, delta)
            if stored is not None:
                # A backend that cannot report a lifetime cannot keep it; then the counter starts a new one.
                with contextlib.suppress(NotImplementedError):
                    ttl = self.ttl(key)
            if self.set(key, count, ttl) is False:
                raise BackendError(f"{key}: the count was not stored")
            return count

    aincr = awaited(incr)

    def decr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        """Subtract ``delta`` from a counter; it may go below zero. Otherwise like :meth:`incr`."""
        return self.incr(key, -delta, ttl)

    async def adecr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        """Await :meth:`decr`."""
        return await self.aincr(key, -delta, ttl)

    def touch(self, key: str, ttl: TTL = None) -> bool:
        """Set the lifetime of an existing entry anew. Return whether it exists."""
        with _fallback_lock:
            value = self.get(key)
            return value is not None and self.set(key, value, ttl) is not False

    atouch = awaited(touch)

    def ttl(self, key: str) -> int | None:
        """Return the seconds left of ``key``, rounded up; 0 if it never expires, ``None`` if it does not exist."""
        raise NotImplementedError(f"{type(self).__name__} does not tell lifetimes")

    attl = awaited(ttl)

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, ``None`` for each that does not exist."""
        return [self.get(key) for key in keys]

    aget_many = awaited(get_many)

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, as lists that together are as long as ``keys``.

        A backend that can work ahead yields each part as it arrives, so that the caller decodes one while the server
        prepares the next.
        """
        yield self.get_many(*keys)

    def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
        """Yield the same as :meth:`get_chunks`; here all values at once."""
        return OnePart(self.aget_many, *keys)

    def get_dict(self, *keys: str) -> dict[str, bytes | None]:
        """Return ``{key: value or None}``."""
        return dict(zip(keys, self.get_many(*keys), strict=True))

    async def aget_dict(self, *keys: str) -> dict[str, bytes | None]:
        """Await :meth:`get_dict`."""
        return dict(zip(keys, await self.aget_many(*keys), strict=True))

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        """Store all entries; return ``{key: stored?}``.

        Not a transaction: each entry is stored or refused by itself. The result may have an attribute ``reasons``,
        which says why entries were refused; see :class:`~cacheorm.types.Outcome`.
        """
        self._check_keys(mapping)
        return Outcome({key: self.set(key, value, ttl) is not False for key, value in mapping.items()})

    aset_many = awaited(set_many)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> dict[str, bool]:
        """Store the entries whose keys exist; return ``{key: existed and stored?}``."""
        self._check_keys(mapping)
        return Outcome({key: self.replace(key, value, ttl) for key, value in mapping.items()})

    areplace_many = awaited(replace_many)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        """Store the entries whose keys do not exist; return ``{key: stored?}``."""
        self._check_keys(mapping)
        return Outcome({key: self.add(key, value, ttl) for key, value in mapping.items()})

    aadd_many = awaited(add_many)

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        """Set the lifetime of the entries of ``keys`` anew; return ``{key: existed?}``."""
        self._check_keys(keys)
        return {key: self.touch(key, ttl) for key in dict.fromkeys(keys)}

    atouch_many = awaited(touch_many)

    def delete_many(self, *keys: str) -> bool:
        """Remove all ``keys``; return ``True`` only if every one existed. A key given twice counts once."""
        self._check_keys(keys)
        existed = [self.delete(key) for key in dict.fromkeys(keys)]
        return all(existed)

    adelete_many = awaited(delete_many)

    # -- batches that change only what was read --------------------------------------------------

    def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        """Return for each of ``keys`` its value and a token, ``None`` for each that does not exist.

        The token identifies the entry as it was read, for :meth:`compare_and_set_many`. Its type depends on the
        backend: a version number that the engine counts, or the value itself.
        """
        return [None if value is None else (value, value) for value in self.get_many(*keys)]

    aget_many_cas = awaited(get_many_cas)

    def compare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> dict[str, bool]:
        """Store each entry only if it has not changed since it was read; return ``{key: stored?}``.

        Each entry by itself is compared and stored in one step; the batch is no transaction. An entry that was
        changed or deleted, or has expired, is not stored. If tokens are values, an entry that was changed and changed
        back counts as unchanged.

        Args:
            mapping: ``{key: (value, token)}``, with tokens of :meth:`get_many_cas`.
            ttl: the lifetime; with :data:`~cacheorm.types.KEEP_TTL` each entry keeps its own.
        """
        self._check_keys(mapping)
        outcome = Outcome()
        for key, (value, token) in mapping.items():
            with _fallback_lock:
                if outcome.setdefault(key, self.get(key) == token):
                    lifetime = self.ttl(key) if isinstance(ttl, KeepTTL) else ttl
                    outcome[key] = self.set(key, value, lifetime) is not False
        return outcome

    acompare_and_set_many = awaited(compare_and_set_many)

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        """Raise :exc:`~cacheorm.errors.InvalidKeyError` for a key that this backend cannot store."""

    def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        """Remove the entries whose keys begin with ``prefix``, in several steps; see :meth:`scan`.

        Args:
            prefix: what the keys begin with.
            everything: whether to remove all entries of the store instead, including those of other programs. Where
                there can be none, as in this process's memory, that is what happens without arguments.

        Raises:
            TypeError: neither is given, or both are.
            ValueError: the prefix is empty.
            NotImplementedError: the backend does not enumerate its keys.
        """
        check_clear(prefix, everything, is_own=self.in_process)
        for keys in self.scan_chunks(prefix or ""):
            self.delete_many(*keys)

    aclear = awaited(clear)

    def ping(self) -> bool:
        """Return ``True`` if the engine answers; raise :exc:`~cacheorm.errors.BackendError` if not."""
        return True

    aping = awaited(ping)

    def stats(self) -> dict[str, Any]:
        """Return figures of the engine: those of ``entries``, ``hits``, ``misses`` and ``evictions`` that it counts."""
        return {}

    astats = awaited(stats)

    def pools(self) -> list[PoolState]:
        """Return the current use of connections: a state for each server that is known by now, without any request.

        These are the connections of the blocking methods. Those that are awaited use other ones in each event loop:
        :meth:`apools` returns the state of those of the running loop.
        """
        return []

    apools = awaited(pools)

    def close(self) -> None:
        """Close connections and files. A closed backend opens them again when it is used."""

    def __reduce__(self) -> tuple[Any, ...]:
        make, args, options = self._made_with
        check_arguments(type(self), make, args, options)
        return make_pickled, (make, args, options)

    def __enter__(self) -> BaseBackend:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _check_keys(self, keys: Iterable[str]) -> None:
        """Check all keys of a batch before the first of them is written."""
        for key in keys:
            self.check_key(key)

    def _seconds(self, ttl: TTL) -> int:
        """Convert a lifetime to whole seconds; ``None`` becomes the backend's default."""
        return self.default_ttl if ttl is None else check_ttl(ttl)
