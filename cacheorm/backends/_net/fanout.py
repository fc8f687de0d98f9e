"""Exchanges with several servers at the same time: all are written to, then whichever has replied is served.

*Nobody waits for a connection while holding another one*: an exchange with a server whose connections are all in use
begins later, and is waited for when all others have come to their ends. So no two callers wait for one another, and a
server that fails or is busy costs the exchange with it, and no others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

from ...deadlines import until
from ...errors import BackendError
from .exchange import Exchange, is_stale
from .transport import IO

__all__ = ["FanOut"]


class _Lane:
    """An exchange with one server, and its connection."""

    __slots__ = ("exchange", "opening", "pool", "transport")

    def __init__(self, pool: Any, exchange: Exchange) -> None:
        self.pool = pool
        self.exchange = exchange
        self.transport: Any = None
        self.opening: Any = None

    def send(self) -> None:
        """Send what there is to send."""
        transport, exchange = self.transport, self.exchange
        while exchange.has_more and not transport.sending and (data := exchange.request()) is not None:
            transport.send(data)

    def fail(self, error: BackendError, cause: Exception | None = None) -> None:
        """Keep an error with the exchange, without tracebacks: their frames have the connections to all servers."""
        if cause is not None:
            error.__cause__ = cause.with_traceback(None)
        self.exchange.error = error.with_traceback(None)


class FanOut:
    """Carries out exchanges. Each iteration is a round, after which some of them have got on.

    Errors of a server are kept with its exchange (:attr:`~.exchange.Exchange.error`). Not an asynchronous generator:
    event loops keep a list of all that have begun, which costs as much as an exchange.

    Args:
        io: the kind of I/O of the pools.
        parts: pairs of a pool of connections to a server, and what to ask it.
        end: when to give up, in the time of :func:`time.monotonic`.
    """

    def __init__(self, io: IO, parts: Sequence[tuple[Any, Exchange]], end: float) -> None:
        self._io = io
        self._end = end
        self._latest = until(None)
        self._lanes = [_Lane(pool, exchange) for pool, exchange in parts]
        self._open: dict[Any, _Lane] = {}
        self._late: deque[_Lane] = deque()
        self._begun = False
        self._left_at = 0.0

    async def run(self) -> None:
        """Carry out all exchanges to their ends."""
        try:
            await self._begin()
            while self._open or self._late:
                await self._advance()
        finally:
            self._give_up()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        try:
            if not self._begun:
                await self._begin()
            elif not (self._open or self._late):
                raise StopAsyncIteration
            else:
                # The time that the caller takes between two rounds is not the servers'.
                self._end = min(self._end + time.monotonic() - self._left_at, self._latest)
                await self._advance()
        except BaseException:
            self._give_up()
            raise
        self._left_at = time.monotonic()

    async def aclose(self) -> None:
        """End exchanges whose results nobody waits for any more."""
        self._give_up()

    async def _begin(self) -> None:
        self._begun = True
        for lane in self._lanes:
            self._reserve(lane)
        # Those that are connected first: their servers work while the others are connected to.
        for lane in sorted(self._lanes, key=lambda lane: lane.opening is not None):
            await self._start(lane)

    def _reserve(self, lane: _Lane) -> None:
        """Take a connection, or begin to open one, unless all are in use."""
        try:
            lane.transport = lane.pool.take_idle(self._end)
            reserved = (lane.transport, None) if lane.transport is not None else lane.pool.reserve_now(self._end)
        except BackendError as error:
            lane.fail(error)
            return
        if reserved is None:
            self._late.append(lane)
        else:
            lane.transport, lane.opening = reserved

    async def _wait_for_late(self) -> None:
        """Begin an exchange once there is a connection for it; nothing else goes on."""
        lane = self._late.popleft()
        try:
            lane.transport, lane.opening = await lane.pool.reserve(self._end)
        except BackendError as error:
            lane.fail(error)
        else:
            await self._start(lane)

    async def _start(self, lane: _Lane) -> None:
        """Send first requests once the connection is open."""
        opening, lane.opening = lane.opening, None
        if opening is not None:
            try:
                await opening.finish()
            except BackendError as error:
                lane.transport = None
                lane.fail(error)
        if lane.transport is None:
            return
        self._open[lane.transport] = lane
        try:
            lane.send()
        except OSError as error:
            await self._fail(lane, error)

    async def _advance(self) -> None:
        """Wait until some servers have replied, and go on with them; or begin what had no connection."""
        if not self._open:
            await self._wait_for_late()
            return
        try:
            ready = await self._io.wait_any([*self._open], self._end)
        except TimeoutError as error:
            for lane in [*self._open.values()]:
                await self._fail(lane, error)
            return
        for transport in ready:
            lane = self._open[transport]
            try:
                if not transport.collect():
                    continue
                if lane.exchange.read(transport.reader):
                    del self._open[transport]
                    lane.transport = None
                    lane.pool.give_back(transport, True)
                else:
                    lane.send()
            except (OSError, ValueError) as error:
                await self._fail(lane, error)
        for _ in range(len(self._late)):
            lane = self._late.popleft()
            self._reserve(lane)
            await self._start(lane)

    async def _fail(self, lane: _Lane, error: Exception) -> None:
        """Close a connection that broke; repeat the exchange if that may be done, or keep the error with it."""
        transport, lane.transport = lane.transport, None
        del self._open[transport]
        again = is_stale(error, transport, lane.exchange)
        if not again:
            lane.fail(lane.pool.failure(error, transport, lane.exchange.effect), error)
        lane.pool.give_back(transport, False)
        if again:
            lane.exchange.restart()
            self._reserve(lane)
            await self._start(lane)

    def _give_up(self) -> None:
        """Close the connections on which replies are due."""
        self._open.clear()
        self._late.clear()
        for lane in self._lanes:
            transport, lane.transport, lane.opening = lane.transport, None, None
            if transport is not None:
                lane.pool.give_back(transport, False)
