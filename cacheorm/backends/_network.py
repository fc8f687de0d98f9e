"""What backends over a network share: the same commands, over connections that block and over those of asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..types import TTL, KeepTTL, Outcome, PoolState, Value
from ._driving import Chunks, iterate_blocking, run_blocking
from .base import BaseBackend

if TYPE_CHECKING:
    from ._loops import PerLoop
    from ._turns import Entrance

__all__ = ["Commands", "NetworkBackend"]


class Commands(Protocol):
    """The methods of :class:`~cacheorm.backends.base.BaseBackend` as coroutines.

    Their own connections decide whether they suspend.
    """

    async def get(self, key: str) -> bytes | None: ...
    async def has(self, key: str) -> bool: ...
    async def set(self, key: str, value: Value, ttl: TTL = None) -> bool: ...
    async def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool: ...
    async def add(self, key: str, value: Value, ttl: TTL = None) -> bool: ...
    async def delete(self, key: str) -> bool: ...
    async def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int: ...
    async def touch(self, key: str, ttl: TTL = None) -> bool: ...
    async def ttl(self, key: str) -> int | None: ...
    async def get_many(self, *keys: str) -> list[bytes | None]: ...
    def get_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]: ...
    async def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome: ...
    async def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome: ...
    async def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome: ...
    async def delete_many(self, *keys: str) -> bool: ...
    async def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]: ...
    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]: ...
    async def compare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> Outcome: ...
    async def clear(self) -> None: ...
    async def ping(self) -> bool: ...
    async def stats(self) -> dict[str, Any]: ...
    def pools(self) -> list[PoolState]: ...
    async def close(self) -> None: ...


class NetworkBackend(BaseBackend):
    """A backend whose commands run over connections of two kinds.

    Attributes:
        _blocking: the commands over connections that block: what the synchronous methods call.
    """

    _blocking: Commands
    _loops: PerLoop[tuple[Commands, Entrance]] | None = None

    def _make_awaited(self, entrance: Entrance) -> Commands:
        """Make the commands over connections of the running event loop: what the methods with an ``a`` call.

        Args:
            entrance: where operations wait while all those connections are in use.
        """
        raise NotImplementedError

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        return run_blocking(self._blocking.get(key))

    def has(self, key: str) -> bool:
        return run_blocking(self._blocking.has(key))

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return run_blocking(self._blocking.set(key, value, ttl))

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return run_blocking(self._blocking.replace(key, value, ttl))

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return run_blocking(self._blocking.add(key, value, ttl))

    def delete(self, key: str) -> bool:
        return run_blocking(self._blocking.delete(key))

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        return run_blocking(self._blocking.incr(key, delta, ttl))

    def touch(self, key: str, ttl: TTL = None) -> bool:
        return run_blocking(self._blocking.touch(key, ttl))

    def ttl(self, key: str) -> int | None:
        return run_blocking(self._blocking.ttl(key))

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        return run_blocking(self._blocking.get_many(*keys))

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        return iterate_blocking(self._blocking.get_chunks(keys))

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return run_blocking(self._blocking.set_many(mapping, ttl))

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return run_blocking(self._blocking.replace_many(mapping, ttl))

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return run_blocking(self._blocking.add_many(mapping, ttl))

    def delete_many(self, *keys: str) -> bool:
        return run_blocking(self._blocking.delete_many(*keys))

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        return run_blocking(self._blocking.touch_many(keys, ttl))

    def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        return run_blocking(self._blocking.get_many_cas(*keys))

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        return run_blocking(self._blocking.compare_and_set_many(mapping, ttl))

    # -- the backend as a whole ------------------------------------------------------------------

    def clear(self) -> None:
        run_blocking(self._blocking.clear())

    def ping(self) -> bool:
        return run_blocking(self._blocking.ping())

    def stats(self) -> dict[str, Any]:
        return run_blocking(self._blocking.stats())

    def pools(self) -> list[PoolState]:
        return self._blocking.pools()

    def close(self) -> None:
        run_blocking(self._blocking.close())

    # -- the same, awaited -----------------------------------------------------------------------

    def _awaited(self) -> Commands:
        if self._loops is None:
            from ._loops import PerLoop  # here, as it needs asyncio

            self._loops = PerLoop(self._make_of_loop, lambda made: made[0].close())
        return self._loops.get()[0]

    def _make_of_loop(self) -> tuple[Commands, Entrance]:
        from ._turns import Entrance

        entrance = Entrance()
        return self._make_awaited(entrance), entrance

    def _admission(self) -> Awaitable[None] | None:
        made = None if self._loops is None else self._loops.peek()
        return made[1].wait() if made is not None and made[1].is_shut else None

    async def _await(self, method: str, *args: Any) -> Any:
        return await getattr(self._awaited(), method)(*args)

    def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
        return self._awaited().get_chunks(keys)

    async def apools(self) -> list[PoolState]:
        """Return how the connections of the running event loop are used."""
        return self._awaited().pools()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._loops is not None:
            await self._loops.close()
