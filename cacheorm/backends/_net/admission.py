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
from typing import TYPE_CHECKING, Any

from ...deadlines import remaining, until
from .transport import BusyError

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Admission"]

# Seconds after which operations look for a connection: nobody tells of one that went with an interrupted operation.
_LOOK_AGAIN = 0.25


class _Turn(asyncio.Future[BusyError | None]):
    """What an operation waits for: ``None`` when it may begin.

    Attributes:
        end: when it has waited long enough.
    """

    end = math.inf


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
        # Where `seconds` is the only bound, operations time out in the order in which they came.
        self._queue: deque[_Turn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Turns of operations that may begin, and have not yet. The event loop takes them out again, as they may not.
        self._called: set[_Turn] = set()

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
        turn, latest = _Turn(loop=loop), until(None)
        own = None
        try:
            self._queue.append(turn)
            end = turn.end if self._seconds is None else time.monotonic() + self._seconds
            turn.end = end
            if latest < end:  # a deadline of the caller comes first
                own, end = loop.call_later(remaining(latest), self._give_up, turn), latest
            if self._timer is None:
                self._look_at_time()
            if (busy := await turn) is not None:
                raise busy
        finally:
            turn.cancel()
            self._called.discard(turn)
            if own is not None:
                own.cancel()
        return None if end == math.inf else remaining(end)

    def look(self) -> None:
        """Let operations begin for which there is room."""
        while self._queue and self._has_room():
            turn = self._queue[0]
            if not turn.done():
                turn.add_done_callback(self._has_begun)
                turn.set_result(None)
                self._called.add(turn)
            self._queue.popleft()  # last: after an exception above, the turn is still in the queue

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

    def _look_at_time(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._queue and (self._queue[0].done() or self._queue[0].end <= now):
            self._give_up(self._queue[0])
            self._queue.popleft()
        self.look()
        if self._queue:
            seconds = min(max(self._queue[0].end - now, 0.0), _LOOK_AGAIN)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._look_at_time)

    def _has_begun(self, turn: asyncio.Future[Any]) -> None:
        """Let the next operation begin if there is room, as this one has taken what connection it needs, if any."""
        self._called.discard(turn)
        self.look()

    def _give_up(self, turn: _Turn) -> None:
        if not turn.done():
            server = self._pools[0].server
            reason = f"{server}: all connections stayed in use; raise max_connections or {self._option}"
            turn.set_result(BusyError(reason))

    def _has_room(self) -> bool:
        free = sum([pool.free for pool in self._pools])
        if free >= (len(self._called) + 1) * len(self._pools):
            return True
        return not self._called and any(pool.free == pool.limit for pool in self._pools)
