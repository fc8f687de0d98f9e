"""The asynchronous methods of backends: one for each method that does I/O, under its name with an ``a`` in front.

They all go through one hook, :meth:`AsyncAPI._await`. Backends with connections of asyncio override it. Those that keep
their entries in this process's memory reply at once, and for all others each call runs in a thread of the backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ..deadlines import until
from ..types import TTL, KeepTTL, PoolState, Value
from ._driving import OnePart

if TYPE_CHECKING:
    from ._threads import Threads

__all__ = ["AsyncAPI"]


class AsyncAPI:
    """The methods of :class:`~cacheorm.backends.base.BaseBackend` for programs that run in an event loop.

    Each method takes the same arguments, returns the same and raises the same errors as the method without the ``a``.
    """

    in_process: bool

    operation_timeout: float | None = None
    """The most seconds that one operation may take, waiting included; ``None`` does not bound it."""

    _threads: Threads | None = None

    async def _await(self, method: str, *args: Any) -> Any:
        """Call a method without blocking the event loop, and return its result.

        It is called in one of a few threads of this backend. A call that has begun always runs to its end. If the task
        that awaits it is cancelled, the cancellation is raised only then, so that nothing is written after the task has
        ended.
        """
        call = getattr(self, method)
        if self.in_process:
            return call(*args)
        threads = self._threads
        if threads is None:
            from ._threads import Threads  # here, as it needs asyncio

            # A subclass need not call __init__; and of two event loops that come here at once, one gets its threads in.
            threads = self.__dict__.setdefault("_threads", Threads())
        return await threads.run(call, *args, end=until(self.operation_timeout))

    def _admission(self) -> Awaitable[None] | None:
        """Return what an operation in the running event loop has to await before it begins; ``None`` if nothing."""
        return None

    # -- one entry -------------------------------------------------------------------------------

    async def aget(self, key: str) -> bytes | None:
        """Await :meth:`get`."""
        value: bytes | None = await self._await("get", key)
        return value

    async def aset(self, key: str, value: Value, ttl: TTL = None) -> bool:
        """Await :meth:`set`."""
        stored: bool = await self._await("set", key, value, ttl)
        return stored

    async def adelete(self, key: str) -> bool:
        """Await :meth:`delete`."""
        existed: bool = await self._await("delete", key)
        return existed

    async def ahas(self, key: str) -> bool:
        """Await :meth:`has`."""
        exists: bool = await self._await("has", key)
        return exists

    async def areplace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        """Await :meth:`replace`."""
        stored: bool = await self._await("replace", key, value, ttl)
        return stored

    async def aadd(self, key: str, value: Value, ttl: TTL = None) -> bool:
        """Await :meth:`add`."""
        stored: bool = await self._await("add", key, value, ttl)
        return stored

    async def aincr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        """Await :meth:`incr`."""
        count: int = await self._await("incr", key, delta, ttl)
        return count

    async def adecr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        """Await :meth:`decr`."""
        return await self.aincr(key, -delta, ttl)

    async def atouch(self, key: str, ttl: TTL = None) -> bool:
        """Await :meth:`touch`."""
        exists: bool = await self._await("touch", key, ttl)
        return exists

    async def attl(self, key: str) -> int | None:
        """Await :meth:`ttl`."""
        left: int | None = await self._await("ttl", key)
        return left

    # -- batches ---------------------------------------------------------------------------------

    async def aget_many(self, *keys: str) -> list[bytes | None]:
        """Await :meth:`get_many`."""
        values: list[bytes | None] = await self._await("get_many", *keys)
        return values

    def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
        """Yield the same as :meth:`get_chunks`; here all values at once."""
        return OnePart(self.aget_many, *keys)

    async def aget_dict(self, *keys: str) -> dict[str, bytes | None]:
        """Await :meth:`get_dict`."""
        return dict(zip(keys, await self.aget_many(*keys), strict=True))

    async def aset_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        """Await :meth:`set_many`."""
        outcome: dict[str, bool] = await self._await("set_many", mapping, ttl)
        return outcome

    async def areplace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> dict[str, bool]:
        """Await :meth:`replace_many`."""
        outcome: dict[str, bool] = await self._await("replace_many", mapping, ttl)
        return outcome

    async def aadd_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        """Await :meth:`add_many`."""
        outcome: dict[str, bool] = await self._await("add_many", mapping, ttl)
        return outcome

    async def atouch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        """Await :meth:`touch_many`."""
        existed: dict[str, bool] = await self._await("touch_many", keys, ttl)
        return existed

    async def adelete_many(self, *keys: str) -> bool:
        """Await :meth:`delete_many`."""
        existed: bool = await self._await("delete_many", *keys)
        return existed

    # -- batches that change only what was read --------------------------------------------------

    async def aget_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        """Await :meth:`get_many_cas`."""
        entries: list[tuple[bytes, Any] | None] = await self._await("get_many_cas", *keys)
        return entries

    async def acompare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> dict[str, bool]:
        """Await :meth:`compare_and_set_many`."""
        outcome: dict[str, bool] = await self._await("compare_and_set_many", mapping, ttl)
        return outcome

    # -- the backend as a whole ------------------------------------------------------------------

    async def aclear(self) -> None:
        """Await :meth:`clear`."""
        await self._await("clear")

    async def aping(self) -> bool:
        """Await :meth:`ping`."""
        answers: bool = await self._await("ping")
        return answers

    async def astats(self) -> dict[str, Any]:
        """Await :meth:`stats`."""
        figures: dict[str, Any] = await self._await("stats")
        return figures

    async def apools(self) -> list[PoolState]:
        """Await :meth:`pools`; if each event loop has connections of its own, for those of the running one."""
        states: list[PoolState] = await self._await("pools")
        return states

    async def aclose(self) -> None:
        """Await :meth:`close`."""
        await self._await("close")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
