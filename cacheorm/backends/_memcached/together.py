"""Several servers at the same time: an exchange with each is a *lane*, and lanes take turns whenever one has to wait.

A lane is a coroutine. All of them send their first requests before anybody waits for a reply, and whoever has a
reply goes on, however long another waits.

The lanes' pools have connections whose waits are handed up: here, where they block, to :class:`BlockingRounds`, which
polls all sockets at once. :mod:`.awaited_lanes` has those of an event loop.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Coroutine, Generator, Iterable, Sequence
from types import coroutine
from typing import Any, Self

from . import blocking
from .exchange import TURNS

__all__ = ["BlockingRounds", "Connection", "Lane", "LanePool", "Rounds"]

Lane = Coroutine[Any, Any, None]
"""An exchange with one server."""

# Seconds after which a lane looks again whether the full pool that it waits for has a place.
_LOOK_AGAIN = 0.005


class Wait:
    """What a lane waits for: a socket, or the time to look again.

    Attributes:
        socket: what is to become readable, or writable; ``None`` only lets time pass.
        reads: whether it may become readable.
        writes: whether it may become writable.
        until: when the wait is over in any case, in the time of :func:`time.monotonic`.
    """

    __slots__ = ("reads", "socket", "until", "writes")

    def __init__(self, waiting: socket.socket | None, reads: bool, writes: bool, seconds: float) -> None:
        self.socket = waiting
        self.reads = reads
        self.writes = writes
        self.until = time.monotonic() + seconds


@coroutine
def _hand_up(wait: Wait) -> Generator[Wait, tuple[bool, bool], tuple[bool, bool]]:
    return (yield wait)


class Connection(blocking.Connection):
    """A connection whose waits are handed up; it can be used in lanes only."""

    async def _ready(self) -> tuple[bool, bool]:
        return await _hand_up(Wait(self._socket, True, bool(self._outgoing), self._timeout))


class LanePool(blocking.BlockingPool):
    """A pool whose waits are handed up, for connecting and for a place as well; it can be used in lanes only."""

    _kind = Connection
    _turns = TURNS

    async def _open(self, patience: float) -> socket.socket:
        if isinstance(self._address, str):
            return await _connected(socket.AF_UNIX, self._address, patience)
        problem: OSError | None = None
        for family, _, _, _, address in socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM):
            try:
                return await _connected(family, address, patience)
            except OSError as error:
                problem = error
        raise problem or OSError("the name has no address")

    async def _wait_for_turn(self, members: Any) -> None:
        until = time.monotonic() + self._patience
        while not members.take(self._max_connections):
            if time.monotonic() > until:
                raise self._full()
            await _hand_up(Wait(None, False, False, _LOOK_AGAIN))
            self.check()


async def _connected(family: int, address: Any, patience: float) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            made.connect(address)
            return made
        if not any(await _hand_up(Wait(made, False, True, patience))):
            raise TimeoutError("timed out")
        problem = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise OSError(problem, os.strerror(problem))
        return made
    except BaseException:
        made.close()
        raise


class Rounds:
    """Runs lanes to their ends. Each iteration is a round, after which some of them have got on.

    Not an asynchronous generator: event loops keep a list of all that have begun, which costs as much as a lane.

    Args:
        lanes: none of them has begun.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._waiting: dict[Lane, Any] = {}
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        if not self._begun:
            self._begun = True
            for lane in self._lanes:
                self._step(lane, None)
        elif not self._waiting:
            raise StopAsyncIteration
        else:
            for lane, ready in await self._ready():
                self._step(lane, ready)

    async def aclose(self) -> None:
        """End lanes whose batch nobody waits for any more, or which are at their ends."""
        for lane in self._waiting:
            # Closing it would not reach the asynchronous generator it is in, if there is one:
            # https://github.com/python/cpython/issues/117714
            with contextlib.suppress(_Abandoned, StopIteration):
                lane.throw(_Abandoned())
        for lane in self._lanes:
            lane.close()

    def _step(self, lane: Lane, ready: Any) -> None:
        """Have a lane go on, and keep what it waits for next."""
        self._waiting.pop(lane, None)
        with contextlib.suppress(StopIteration):
            self._waiting[lane] = lane.send(ready)

    async def _ready(self) -> Iterable[tuple[Lane, Any]]:
        """Wait until lanes can go on; give them, and what each is sent."""
        raise NotImplementedError


class BlockingRounds(Rounds):
    """Rounds that never suspend."""

    async def _ready(self) -> Iterable[tuple[Lane, Any]]:
        return _poll(self._waiting)


class _Abandoned(BaseException):
    """Ends a lane whose batch nobody waits for any more."""


def _poll(waiting: dict[Lane, Wait]) -> list[tuple[Lane, tuple[bool, bool]]]:
    """Wait until at least one lane can go on; give those that can, and whether they can read and write."""
    seconds = max(0.0, min(wait.until for wait in waiting.values()) - time.monotonic())
    sockets = [(wait.socket, wait) for wait in waiting.values() if wait.socket is not None]
    readable: set[int] = set()
    writable: set[int] = set()
    if hasattr(select, "poll"):
        poll = select.poll()
        for each, wait in sockets:
            poll.register(each, (select.POLLIN if wait.reads else 0) | (select.POLLOUT if wait.writes else 0))
        for number, events in poll.poll(seconds * 1000):
            if events & ~select.POLLOUT:
                # Errors and hang-ups count as both: reading or writing tells which it was.
                readable.add(number)
            if events & ~select.POLLIN:
                writable.add(number)
    elif sockets:
        wanted = [each for each, wait in sockets if wait.writes]
        reads, writes, errors = select.select([each for each, wait in sockets if wait.reads], wanted, wanted, seconds)
        readable = {each.fileno() for each in reads}
        writable = {each.fileno() for each in (*writes, *errors)}
    else:
        time.sleep(seconds)
    now = time.monotonic()
    ready = []
    for lane, wait in waiting.items():
        number = -1 if wait.socket is None else wait.socket.fileno()
        can = (wait.reads and number in readable, wait.writes and number in writable)
        if any(can) or wait.until <= now:
            ready.append((lane, can))
    return ready
