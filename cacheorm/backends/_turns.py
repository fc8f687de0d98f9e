"""A bounded number of places in one event loop: first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Places for tasks that use something there is not enough of for all.

    Args:
        places: how many there are.
        patience: seconds to wait for one.
    """

    def __init__(self, places: int, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._free = places
        self._patience = patience
        self._queue: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> None:
        """Take a place, and wait for it if there is none.

        Raises:
            TimeoutError: nobody gave one back for so long.
        """
        if self._free:
            self._free -= 1
            return
        turn = self._loop.create_future()
        self._queue.append((self._loop.time() + self._patience, turn))
        if self._timer is None:
            # One for all who wait: nobody's time is up before that of those who came first.
            self._timer = self._loop.call_later(self._patience, self._look)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it came, but too late
            raise

    def give_back(self) -> None:
        """Give a place back, to the one who waits longest."""
        while self._queue:
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _look(self) -> None:
        now = self._loop.time()
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= now):
            _, turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError(f"no turn within {self._patience:g} s"))
        self._timer = self._loop.call_at(self._queue[0][0], self._look) if self._queue else None
