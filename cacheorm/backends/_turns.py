"""A bounded number of connections in one event loop: first come, first served.

*Turns* are the places for connections to one server. Whoever talks to it takes one, and waits where there is none.

An *entrance* is where operations wait before they begin, as long as a backend has no places left. An operation that
has begun consists of dozens of objects, its keys among them. Of a thousand that wait for sixty places, the garbage
collector would walk all of that again and again: those who cannot get on wait here, as little more than their tasks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ..types import PoolState
from ._busy import BusyError

__all__ = ["Entrance", "Turns"]

Until = Callable[[asyncio.Future[Any]], Awaitable[Any]]


class _Queue:
    """Those who wait for something that others give: each for a limited time, and who came first gets it first.

    Args:
        patience: seconds to wait.
        refuse: makes the error for those who have waited so long.
        until: what is awaited to wait for a future.
        taken: called when somebody goes on with what they were given.
        too_late: called when somebody was given it who does not wait any more.
    """

    def __init__(
        self,
        patience: float,
        refuse: Callable[[], Exception],
        until: Until,
        taken: Callable[[], None],
        too_late: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._refuse = refuse
        self._until = until
        self._taken = taken
        self._too_late = too_late
        # Each with the time at which their patience ends. No pairs, which the garbage collector would walk.
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many wait, without those who have given up and are still in the queue."""
        return sum(not turn.done() for turn in self._waiting)

    async def wait(self) -> None:
        """Wait until it is given."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        self._ends.append(self._loop.time() + self._patience)
        if self._timer is None:
            # One for all who wait: nobody's time is up before that of those who came first.
            self._timer = self._loop.call_later(self._patience, self._look)
        try:
            await self._until(turn)
        except BaseException:
            if not turn.cancel() and not turn.cancelled() and turn.exception() is None:
                self._too_late()
            raise
        self._taken()

    def give(self) -> bool:
        """Give it to the one who waits longest. Return whether there is one."""
        while self._waiting:
            turn = self._pop()
            if not turn.done():
                turn.set_result(None)
                return True
        return False

    def _pop(self) -> asyncio.Future[None]:
        self._ends.popleft()
        return self._waiting.popleft()

    def _look(self) -> None:
        now = self._loop.time()
        while self._waiting and (self._waiting[0].done() or self._ends[0] <= now):
            turn = self._pop()
            if not turn.done():
                turn.set_exception(self._refuse())
        self._timer = self._loop.call_at(self._ends[0], self._look) if self._waiting else None


class Turns:
    """Places for the connections to one server.

    Args:
        places: how many there are.
        patience: seconds to wait for one.
        server: the server's name for messages.
        option: what the user sets ``patience`` with.
        entrance: that of the backend.
        until: what is awaited to wait for a future; usually the future itself.

    Attributes:
        free: how many places nobody has.
        places, patience: as given.
    """

    def __init__(
        self,
        places: int,
        patience: float,
        server: str,
        option: str,
        entrance: Entrance,
        until: Until = lambda future: future,
    ) -> None:
        self.free = self.places = places
        self.patience = patience
        self._refusal = server, places, patience, option
        self._queue = _Queue(patience, self.refuse, until, lambda: None, self.give_back)
        self._entrance = entrance
        entrance.add(self)

    def state(self, idle: int) -> PoolState:
        """Return how the places are used.

        Args:
            idle: how many connections are open and not in use.
        """
        waiting = self._queue.waiting + self._entrance.waiting
        return PoolState(self._refusal[0], self.places, self.places - self.free, idle, waiting)

    def refuse(self) -> BusyError:
        """Give the error for those who have waited for so long."""
        return BusyError(*self._refusal)

    def take(self) -> bool:
        """Take a place if there is one. Return whether there was."""
        if not self.free:
            return False
        self.free -= 1
        return True

    def wait(self) -> Awaitable[None]:
        """Wait for a place, and take it.

        Raises:
            BusyError: nobody gave one back for so long.
        """
        return self._queue.wait()

    def give_back(self) -> None:
        """Give a place back, to the one who waits longest."""
        if not self._queue.give():
            self.free += 1
            self._entrance.look()

    def close(self) -> None:
        """Let nobody wait any longer until one of these is free; who has one keeps it."""
        self._entrance.remove(self)


class Entrance:
    """Where operations on a backend wait to begin, in one event loop.

    One begins when there is a place for it. With several servers, which ones it needs is not known before: it begins
    when as many places are free as there are servers, wherever they are, or when some server has nothing to do, so that
    one that is slow or dead keeps nobody else waiting. Operations that have begun come first: what else they need is
    theirs before another one begins.
    """

    def __init__(self) -> None:
        self._turns: list[Turns] = []
        self._queue: _Queue | None = None
        # Those who may begin, and have not yet.
        self._called = 0

    @property
    def is_shut(self) -> bool:
        """Whether who comes now has to wait."""
        return bool(self._queue) or not self._has_room()

    @property
    def waiting(self) -> int:
        """How many operations wait."""
        return 0 if self._queue is None else self._queue.waiting

    def wait(self) -> Awaitable[None]:
        """Wait until it is worth beginning, for as long as for a place.

        Raises:
            BusyError: nobody gave a place back for so long.
        """
        if self._queue is None:
            first = self._turns[0]
            self._queue = _Queue(first.patience, first.refuse, lambda future: future, self._pass, self._pass)
        return self._queue.wait()

    def look(self) -> None:
        """Let those begin for whom there is room."""
        while self._queue and self._has_room() and self._queue.give():
            self._called += 1

    def add(self, turns: Turns) -> None:
        """Know of the places for connections to one more server."""
        self._turns.append(turns)

    def remove(self, turns: Turns) -> None:
        """Forget them."""
        if turns in self._turns:
            self._turns.remove(turns)
            self.look()

    def _pass(self) -> None:
        """Have one begin who was called, or never begin."""
        self._called -= 1
        # By then it has taken what it needs; who waits next may begin if that is nothing.
        asyncio.get_running_loop().call_soon(self.look)

    def _has_room(self) -> bool:
        free = sum([turns.free for turns in self._turns])
        if free >= (self._called + 1) * len(self._turns):
            return True
        return not self._called and any(turns.free == turns.places for turns in self._turns)
