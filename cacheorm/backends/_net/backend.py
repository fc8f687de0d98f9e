"""What backends over a network share: the same commands, over connections that block and over those of asyncio."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..._speedups import wire
from ...types import PoolState
from ..base import BaseBackend
from ..fallible import FallibleBackend
from .commands import COMMANDS, Commands
from .miss import MissOnFailure
from .sync_bridge import iterate_blocking, run_blocking
from .transport import IO, BusyError

if TYPE_CHECKING:
    from .admission import Admission
    from .per_loop import PerLoop

__all__ = ["NetworkBackend"]


class NetworkBackend(FallibleBackend):
    """A backend whose commands run over connections of both kinds of I/O."""

    _option = "timeout"
    _blocking: Commands
    _loops: PerLoop[tuple[Commands, Admission]] | None = None

    def _open(
        self,
        server: str,
        operation_timeout: float | None,
        retry_after: float,
        on_failure: str,
        on_failure_keys: int,
        reply_limit: int = wire.REPLY_LIMIT,
    ) -> None:
        given: Any = reply_limit
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise ValueError("reply_limit must be a whole number of bytes, at least 1")
        self._reply_limit = reply_limit
        if operation_timeout is not None and not operation_timeout > 0:
            raise ValueError("operation_timeout must be a positive number of seconds")
        super()._open(server, operation_timeout, retry_after, on_failure, on_failure_keys)

    def _guarded(self, commands: Commands) -> Commands:
        """Return the commands as ``on_failure`` has them."""
        if self._invalidations is None:
            return commands
        return MissOnFailure(commands, self._invalidations, self._server, self.operation_timeout)

    def _make_commands(self, io: IO, awaited: bool) -> Commands:
        """Return the commands over connections of a kind of I/O."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name != "_blocking":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        from .threads import ThreadIO

        # When it is used first. Of two that are made at once one stays; the other has connected to nothing.
        return self.__dict__.setdefault(name, self._guarded(self._make_commands(ThreadIO(self._reply_limit), False)))

    # -- the same, awaited -----------------------------------------------------------------------

    def _awaited(self) -> Commands:
        if self._loops is None:
            from .per_loop import PerLoop  # here, as it needs asyncio

            self._loops = PerLoop(self._make_of_loop, _close_of_loop)
        return self._loops.get()[0]

    def _make_of_loop(self) -> tuple[Commands, Admission]:
        from .admission import Admission
        from .asyncio_loop import LoopIO

        admission = Admission(self.operation_timeout, self._option)
        return self._guarded(self._make_commands(LoopIO(admission, self._reply_limit), True)), admission

    def _admission(self) -> Awaitable[float | None] | None:
        made = None if self._loops is None else self._loops.peek()
        if made is None or not made[1].is_shut:
            return None
        return made[1].wait() if self._invalidations is None else _in_vain_too(made[1].wait())

    async def _await(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self._awaited(), method)(*args, **kwargs)

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        return iterate_blocking(self._blocking.get_chunks(keys))

    def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
        chunks: AsyncIterator[list[bytes | None]] = self._awaited().get_chunks(keys)
        return chunks

    def scan_chunks(self, prefix: str = "", batch_size: int = 1000) -> Iterator[list[str]]:
        self._check_scan(prefix, batch_size)
        return iterate_blocking(self._blocking.scan_chunks(prefix, batch_size))

    async def ascan_chunks(self, prefix: str = "", batch_size: int = 1000) -> AsyncGenerator[list[str], None]:
        self._check_scan(prefix, batch_size)
        async with aclosing(self._awaited().scan_chunks(prefix, batch_size)) as chunks:
            async for keys in chunks:
                yield keys

    def pools(self) -> list[PoolState]:
        states: list[PoolState] = self._blocking.pools()
        return states

    async def apools(self) -> list[PoolState]:
        """Return the current use of the connections of the running event loop."""
        states: list[PoolState] = self._awaited().pools()
        return states

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._loops is not None:
            await self._loops.close()


async def _in_vain_too(wait: Awaitable[float | None]) -> float | None:
    """Wait for a connection; if there is none in time, go on without any, so that what needs one counts as missing."""
    try:
        return await wait
    except BusyError:
        return 0.0


async def _close_of_loop(made: tuple[Commands, Admission]) -> None:
    commands, admission = made
    await commands.close()
    admission.close()


def _over_commands(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that runs the command of the same name."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: NetworkBackend, *args: Any, **kwargs: Any) -> Any:
        return run_blocking(getattr(self._blocking, name)(*args, **kwargs))

    return call


# Each as BaseBackend declares it; `decr` and `get_dict` are made of these.
for _name in COMMANDS:
    setattr(NetworkBackend, _name, _over_commands(getattr(BaseBackend, _name)))
