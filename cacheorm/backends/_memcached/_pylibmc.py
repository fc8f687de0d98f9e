"""memcached through a ``pylibmc.Client`` that the user made.

http://sendapatch.se/projects/pylibmc/reference.html. It goes where the client goes: ring, TLS, authentication,
compression. It is slower (one round trip for each entry that is written), and its protocol does not tell
lifetimes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from operator import methodcaller
from typing import Any, TypeVar

import pylibmc

from ...errors import BackendError
from ...types import KeepTTL, PoolState, to_bytes
from .._net.scanning import Ends
from ..base import next_count
from .exchanges import exptime

__all__ = ["PylibmcEngine"]

T = TypeVar("T")

_CHUNK = 1000
_RACES = 1000


class PylibmcEngine:
    """The operations of a backend over ``pylibmc.Client``.

    The client serves one thread at a time: a lock makes the others wait. A forked child works on a clone.

    Args:
        client: the client.
        server: the name of its servers for messages.
    """

    def __init__(self, client: Any, server: str) -> None:
        self.server = server
        self._given = client
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._client = self._given
        self._swapping: Any = None

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str, end: float) -> bytes | None:
        """Return the entry's value, or ``None``."""
        return to_bytes(self._call(lambda client: client.get(key), write=False))

    async def has(self, key: str, end: float) -> bool:
        """Return whether there is such an entry."""
        return await self.get(key, end) is not None

    async def touch(self, key: str, seconds: int, end: float) -> bool:
        """Give the entry a new lifetime. Return whether there is one."""
        moment = exptime(seconds)

        def work(client: Any) -> bool:
            if getattr(client, "binary", False):
                return self._touch_by_hand(client, key, moment)
            try:
                return bool(client.touch(key, moment))
            except pylibmc.NotFound:
                return False

        return self._call(work, write=True)

    def _touch_by_hand(self, client: Any, key: str, moment: int) -> bool:
        """Write back what is there: libmemcached's binary touch waits five seconds for a reply that never comes."""
        swapping = self._swapper(client)
        for _ in range(_RACES):
            stored, token = _gets(swapping, key)
            if stored is None:
                return False
            if _store(swapping.cas, key, stored, moment, token) is True:
                return True
        raise self._raced(key)

    async def ttl(self, key: str, end: float) -> int | None:
        """Raise: the protocol that the client speaks does not tell."""
        raise NotImplementedError(
            "pylibmc does not tell lifetimes: leave out client= to use cacheorm's own connections"
        )

    async def count(self, key: str, delta: int, seconds: int, end: float) -> int:
        """Add to a counter; a new one starts from 0 and lives for ``seconds``.

        Upwards the server counts, and keeps the lifetime. Downwards it would stop at 0: there the counter is
        compared-and-set, and lives for ``seconds`` anew.
        """
        moment = exptime(seconds)
        if delta > 0:
            counted = self._call(lambda client: self._count_up(client, key, delta), write=True)
            if counted is not None:
                return counted
        return self._call(lambda client: self._count_by_hand(client, key, delta, moment), write=True)

    @staticmethod
    def _count_up(client: Any, key: str, delta: int) -> int | None:
        """Let the server count; ``None`` where it cannot: nothing there, or not a number of its kind."""
        stored = client.get(key)
        if stored is None or not to_bytes(stored).isdigit():  # type: ignore[union-attr]
            return None
        next_count(key, to_bytes(stored), delta)
        try:
            return int(client.incr(key, delta))
        except pylibmc.NotFound:
            return None

    def _count_by_hand(self, client: Any, key: str, delta: int, moment: int) -> int:
        swapping = self._swapper(client)
        for _ in range(_RACES):
            stored, token = _gets(swapping, key)
            counted = next_count(key, to_bytes(stored), delta)
            if stored is None:
                if _store(client.add, key, b"%d" % counted, moment) is True:
                    return counted
            elif _store(swapping.cas, key, b"%d" % counted, moment, token) is True:
                return counted
        raise self._raced(key)

    def _swapper(self, client: Any) -> Any:
        """Give a client that compares and sets: that has to be switched on, and not on the one passed in."""
        if self._swapping is None:
            self._swapping = client.clone()
            self._swapping.behaviors = {"cas": True}
        return self._swapping

    def _raced(self, key: str) -> BackendError:
        return BackendError(f"{self.server}, key {key}: others changed it {_RACES} times in a row")

    # -- batches ---------------------------------------------------------------------------------

    async def read_chunks(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        """Yield the values of ``keys`` in their order, in lists."""
        for start in range(0, len(keys), _CHUNK):
            part = keys[start : start + _CHUNK]
            found = self._call(methodcaller("get_multi", part), write=False)
            yield [to_bytes(found.get(key)) for key in part]

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes, end: float
    ) -> list[bool | str]:
        """Store entries. Return for each ``True``, ``False`` (condition not met) or why it was refused."""
        moment = exptime(_lifetime(seconds))
        name = {b"S": "set", b"E": "add", b"R": "replace"}[mode]

        def work(client: Any) -> list[bool | str]:
            store = getattr(client, name)
            return [_store(store, key, value, moment) for key, value in zip(keys, values, strict=True)]

        return self._call(work, write=True)

    async def read_cas(self, keys: Sequence[str], end: float) -> list[tuple[bytes, int] | None]:
        """Return the value and the version of each entry, ``None`` without one; one round trip for each."""

        def work(client: Any) -> list[tuple[bytes, int] | None]:
            swapping = self._swapper(client)
            read = (_gets(swapping, key) for key in keys)
            return [None if value is None else (to_bytes(value) or b"", token) for value, token in read]

        return self._call(work, write=False)

    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL, end: float
    ) -> list[bool | str]:
        """Store each entry if its version is still that of the token. Return as :meth:`write` does."""
        moment = exptime(_lifetime(seconds))

        def work(client: Any) -> list[bool | str]:
            swap = self._swapper(client).cas
            return [
                _store(swap, key, value, moment, token) for key, value, token in zip(keys, values, tokens, strict=True)
            ]

        return self._call(work, write=True)

    async def touch_many(self, keys: Sequence[str], seconds: int, end: float) -> list[bool | str]:
        """Give entries a new lifetime. Return for each whether there is one."""
        return [await self.touch(key, seconds, end) for key in keys]

    async def delete(self, keys: Sequence[str], end: float) -> int:
        """Delete entries. Return how many there were."""
        return self._call(lambda client: sum(bool(client.delete(key)) for key in keys), write=True)

    # -- the server ------------------------------------------------------------------------------

    def scan(self, prefix: str, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Raise: the client has no such request."""
        raise NotImplementedError(
            "pylibmc does not enumerate keys: leave out client= to use cacheorm's own connections"
        )

    async def clear(self, end: float) -> None:
        """Drop every entry."""
        self._call(lambda client: client.flush_all(), write=True)

    async def ping(self, end: float) -> bool:
        """Return whether a server answers."""
        return bool(self._call(lambda client: client.get_stats(), write=False))

    async def stats(self, end: float) -> dict[bytes, bytes]:
        """Return the figures of the first server."""
        _, figures = self._call(lambda client: client.get_stats(), write=False)[0]
        return {_bytes(name): _bytes(figure) for name, figure in figures.items()}

    def owners(self, keys: Sequence[str]) -> bytes:
        """Return the same number for each key: the client does not tell which server has it."""
        return bytes(len(keys))

    def pools(self) -> list[PoolState]:
        """Return nothing: the client keeps its connections to itself."""
        return []

    async def close(self) -> None:
        """Drop what was made here; whoever made the client closes it."""
        with self._lock:
            if self._swapping is not None:
                self._swapping.disconnect_all()
                self._swapping = None

    # -- how -------------------------------------------------------------------------------------

    def _call(self, work: Callable[[Any], T], write: bool) -> T:
        if self._pid != os.getpid():
            # The parent's sockets are not ours to use, and its lock may be held by a thread that is not here.
            self._given = self._given.clone()
            self._renew()
        with self._lock:
            try:
                return work(self._client)
            except pylibmc.Error as error:
                raise BackendError(f"{self.server}: {_describe(error)}", maybe_applied=write) from error


def _lifetime(seconds: int | KeepTTL) -> int:
    if isinstance(seconds, KeepTTL):
        raise NotImplementedError(
            "pylibmc does not tell lifetimes, so none can be kept: leave out client= to use cacheorm's own connections"
        )
    return seconds


def _store(store: Callable[..., Any], key: str, value: bytes, moment: int, *token: int) -> bool | str:
    try:
        return bool(store(key, value, *token, time=moment))
    except (pylibmc.NotFound, pylibmc.DataExists):
        return False  # what the binary protocol makes of a condition that is not met
    except (pylibmc.TooBig, pylibmc.ServerError, pylibmc.ClientError, pylibmc.AllocationError) as error:
        return _describe(error)


def _gets(client: Any, key: str) -> tuple[Any, Any]:
    """Read a value and its version.

    Now and then, a ``gets`` on a connection that is not quite there yet finds nothing where there is something: only
    what ``get`` does not find either is not there.
    """
    for _ in range(_RACES):
        value, token = client.gets(key)
        if value is not None or client.get(key) is None:
            return value, token
    raise pylibmc.Error(f"gets does not find {key}, which is there")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
