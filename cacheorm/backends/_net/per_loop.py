"""What belongs to one event loop: connections of asyncio can be used in the loop that made them, and in no other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from .sync_bridge import run_blocking

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Keeps one object for each event loop that asks for it.

    The object is closed when its loop is shut down as :func:`asyncio.run` does it. In a forked child nothing is done
    with what the parent had: its loops share their registrations with the parent's.

    Args:
        make: makes the object; called in the loop.
        close: closes it; awaited in the loop.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._pid = os.getpid()
        self._kept: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._inherited: list[object] = []

    def get(self) -> T:
        """Give the object of the running loop.

        Raises:
            RuntimeError: no loop runs in this thread.
        """
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None or self._pid != os.getpid():
            kept = self._keep(loop)
        return kept[0]

    def peek(self) -> T | None:
        """Give the object of the running loop, if it has been made."""
        kept = self._kept.get(asyncio.get_running_loop()) if self._pid == os.getpid() else None
        return None if kept is None else kept[0]

    async def close(self) -> None:
        """Close the object of the running loop. The next :meth:`get` makes a new one."""
        kept = self._kept.get(asyncio.get_running_loop()) if self._pid == os.getpid() else None
        if kept is not None:
            await kept[1].aclose()

    def _keep(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncGenerator[None, None]]:
        if self._pid != os.getpid():
            # Kept, so that nothing is finalized: a transport that goes would take its socket from the parent's loop.
            self._inherited.append(self._kept)
            self._kept, self._pid = {}, os.getpid()
        for other in [*self._kept]:
            if other.is_closed():
                self._kept.pop(other, None)
        made = self._make()
        # Loops close the asynchronous generators that were begun in them before they are closed themselves.
        guard = self._guard(loop, made)
        run_blocking(guard.__anext__())
        # A signal handler may have been here meanwhile, in the same loop; no other thread runs it.
        kept = self._kept.setdefault(loop, (made, guard))
        if kept[0] is not made:
            run_blocking(guard.aclose())
        return kept

    async def _guard(self, loop: asyncio.AbstractEventLoop, made: T) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            kept = self._kept.get(loop)
            if kept is not None and kept[0] is made:
                self._kept.pop(loop, None)
            await self._close(made)
