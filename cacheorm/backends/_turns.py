"""A bounded number of connections in one event loop: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ._busy import BusyError

__all__ = ["Turns"]

Until = Callable[[asyncio.Future[Any]], Awaitable[Any]]


class Turns:
    """Places for the connections to one server.

    Args:
        places: how many there are.
        patience: seconds to wait for one.
        server: the server's name for messages.
        option: what the user sets ``patience`` with.
        until: what is awaited to wait for a future; usually the future itself.

    Attributes:
        free: how many places nobody has.
    """

    def __init__(
        self, places: int, patience: float, server: str, option: str, until: Until = lambda future: future
    ) -> None:
        self.free = places
        self._refusal = server, places, patience, option
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._until = until
        self._queue: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Take a place, and wait for it if there is none.

        Raises:
            BusyError: nobody gave one back for so long.
        """
        if self.free:
            self.free -= 1
            return
        turn = self._loop.create_future()
        self._queue.append((self._loop.time() + self._patience, turn))
        if self._timer is None:
            # One for all who wait: nobody's time is up before that of those who came first.
            self._timer = self._loop.call_later(self._patience, self._look)
        try:
            await self._until(turn)
        except BaseException:
            if not turn.cancel() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it came, but too late
            raise

    def give_back(self) -> None:
        """Give a place back, to the one who waits longest."""
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    def _look(self) -> None:
        now = self._loop.time()
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= now):
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(BusyError(*self._refusal))
        self._timer = self._loop.call_at(self._queue[0][0], self._look) if self._queue else None
