"""Where operations of one event loop wait to begin while there are no connections left.

An operation that has begun consists of dozens of objects, its keys among them. Of a thousand that wait for sixty
connections, the garbage collector would walk all of that again and again. Those that cannot go on wait here, as little
more than their tasks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING

from ...deadlines import remaining, until
from .transport import BusyError

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Admission"]


class Admission:
    """Lets the operations of a backend begin, in one event loop, in the order in which they came.

    One begins if there is a connection for it. With several servers, which ones it needs is not known before: it begins
    if as many connections are free as there are servers, wherever they are, or if some server has nothing to do, so
    that one that is slow or dead keeps nobody else waiting. Operations that have begun come first: what else they need
    is theirs before another one begins.

    Args:
        seconds: how long an operation waits at most; ``None`` without a bound.
        option: the option of the backend that bounds an operation, for messages.
    """

    def __init__(self, seconds: float | None, option: str) -> None:
        self._seconds = seconds
        self._option = option
        self._pools: list[Pool] = []
        # Two queues in place of one of pairs, which the garbage collector would traverse. Where `seconds` is the only
        # bound, operations time out in the order in which they came.
        self._queue: deque[asyncio.Future[None]] = deque()
        self._ends: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Operations that may begin, and have not yet.
        self._called = 0

    @property
    def is_shut(self) -> bool:
        """Whether an operation that comes now has to wait."""
        return bool(self._queue) or not self._has_room()

    @property
    def waiting(self) -> int:
        """How many operations wait."""
        return sum(not turn.done() for turn in self._queue)

    async def wait(self) -> float | None:
        """Wait until it is worth beginning.

        Returns:
            The seconds that are left for what the operation asks first; ``None`` without a bound.

        Raises:
            BusyError: all connections stayed in use.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        end, latest = math.inf, until(None)
        self._queue.append(turn)
        if self._seconds is not None:
            end = time.monotonic() + self._seconds
            self._ends.append(end)
            if self._timer is None:
                self._timer = loop.call_later(self._seconds, self._look_at_time)
        own = None
        if latest < end:  # a deadline of the caller comes first
            own, end = loop.call_later(remaining(latest), self._give_up, turn), latest
        try:
            await turn
        except BaseException:
            if not turn.cancel() and not turn.cancelled() and turn.exception() is None:
                self._pass()
            raise
        finally:
            if own is not None:
                own.cancel()
        self._pass()
        return None if end == math.inf else remaining(end)

    def look(self) -> None:
        """Let operations begin for which there is room."""
        while self._queue and self._has_room():
            self._call(self._pop())

    def close(self) -> None:
        """Close all connections, those in use when they are given back; operations that wait here begin."""
        for pool in [*self._pools]:
            pool.close(retire=True)

    def add(self, pool: Pool) -> None:
        """Take the connections to one more server into account."""
        self._pools.append(pool)

    def remove(self, pool: Pool) -> None:
        """Leave them out again."""
        if pool in self._pools:
            self._pools.remove(pool)
            self.look()

    def _call(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            turn.set_result(None)
            self._called += 1

    def _pop(self) -> asyncio.Future[None]:
        if self._ends:
            self._ends.popleft()
        return self._queue.popleft()

    def _look_at_time(self) -> None:
        now = time.monotonic()
        while self._queue and (self._queue[0].done() or self._ends[0] <= now):
            self._give_up(self._pop())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(self._ends[0] - now, 0.0), self._look_at_time) if self._queue else None

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            server = self._pools[0].server
            reason = f"{server}: all connections stayed in use; raise max_connections or {self._option}"
            turn.set_exception(BusyError(reason))

    def _pass(self) -> None:
        """Have one begin that was called, or never begin."""
        self._called -= 1
        # By then it has taken what it needs; the next one may begin if that is nothing.
        asyncio.get_running_loop().call_soon(self.look)

    def _has_room(self) -> bool:
        free = sum([pool.free for pool in self._pools])
        if free >= (self._called + 1) * len(self._pools):
            return True
        return not self._called and any(pool.free == pool.limit for pool in self._pools)
