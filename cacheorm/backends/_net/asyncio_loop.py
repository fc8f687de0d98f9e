"""Connections of asyncio, shared by the tasks of one event loop. They belong to the loop in which they were made."""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

from .admission import Admission
from .breaker import Breaker
from .lock import Lock
from .pool import Pool, Turn
from .transport import Endpoint, end_with_reset

__all__ = ["AsyncioTransport", "LoopIO"]

# What the transport may hold before the sender waits for replies. More than a request for a whole part of a batch.
_SEND_BYTES = 1 << 21

# Windows has none; there, what arrived on an idle connection is known once the event loop has looked.
_HAS_POLL = hasattr(select, "poll")


class AsyncioTransport:
    """A :class:`~.transport.Transport` over a transport of asyncio: bytes go to the reader as the loop receives them.

    The loop keeps no reference to it, so that its end closes the connection: :class:`_Receiver` is the protocol. Event
    loops also swallow exceptions that come in a protocol's methods, and keep them with all that they refer to.

    Args:
        reader: parses the replies.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.sent = self.answered = self.reused = self.closed = self.sending = False
        self.used = self.waiting_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._owner: object = None
        self._poll: Any = None
        self._arrived = False
        self._broken: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end = self._timer_end = math.inf

    # -- what the event loop calls ---------------------------------------------------------------

    def arrived(self) -> None:
        """Note that bytes are with the reader."""
        self.answered = self._arrived = True
        self._wake()

    def lose(self, error: Exception | None) -> None:
        """Note that the connection has ended. It is not counted any more, whatever keeps this object."""
        self.closed = True
        if self._broken is None:
            self._broken = (
                error if isinstance(error, OSError) else ConnectionResetError("the server closed the connection")
            )
        self._wake()

    def __del__(self) -> None:
        if self._transport is not None and not self.closed:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                # The collector may run in any thread.
                self._loop.call_soon_threadsafe(self._transport.abort)

    # -- what those who have taken it call -------------------------------------------------------

    def take_over(self, transport: asyncio.Transport, owner: object = None) -> None:
        """Take over a transport that another protocol has connected, and that has received nothing since.

        Args:
            transport: the transport.
            owner: an object that would close it at its end; kept as long as this one.

        Raises:
            ConnectionResetError: the server has closed it meanwhile; uvloop's then raise in every method.

            Whatever is raised, the transport is aborted: it belongs to nobody else any more.
        """
        try:
            self._attach(transport, owner)
        except BaseException:
            transport.abort()
            raise

    def _attach(self, transport: asyncio.Transport, owner: object) -> None:
        self._owner = owner
        self._transport = transport
        if self.closed:  # while it was being connected
            transport.abort()
        if transport.is_closing():
            raise ConnectionResetError("the server closed the connection")
        # uvloop looks at how a protocol takes its bytes when it begins to read.
        reads = transport.is_reading()
        if reads:
            transport.pause_reading()
        transport.set_protocol(_Receiver(self))
        if reads:
            transport.resume_reading()
        transport.set_write_buffer_limits(_SEND_BYTES)
        source = transport.get_extra_info("socket")
        if _HAS_POLL and source is not None:
            self._poll = select.poll()
            self._poll.register(source.fileno(), select.POLLIN)

    def alive(self) -> bool:
        if self._broken is not None or self.reader.pending or self._transport.is_closing():
            return False
        # What has arrived may not have reached the event loop yet.
        return self._poll is None or not self._poll.poll(0)

    def send(self, data: bytes) -> None:
        if self._broken is not None:
            raise self._loss()
        self.sent = True
        self._arrived = False
        self._transport.write(data)

    def collect(self) -> bool:
        # What arrived before the connection broke is read first.
        if self._arrived:
            self._arrived = False
            return True
        if self._broken is not None:
            raise self._loss()
        return False

    async def receive(self, end: float) -> None:
        while not self.collect():
            self.waiting_since = time.monotonic()
            self._waiter = self._loop.create_future()
            self._end = end
            if end < self._timer_end:
                self._set_timer()
            try:
                await self._waiter
            finally:
                self._waiter, self._end = None, math.inf

    def close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def drop_unsent(self) -> None:
        if self._transport is not None:
            end_with_reset(self._transport.get_extra_info("socket"))

    def leave_to_parent(self) -> None:
        # Not even aborted, and kept: the loop of a forked child shares its registrations with the parent's.
        _of_parents.append(self)
        self.closed = True
        self._broken = ConnectionError("the connection belongs to the parent process")

    def wake_with(self, waiter: asyncio.Future[None] | None) -> bool:
        """Wake a future when something arrives. Return whether there is something already."""
        self._waiter = waiter
        if waiter is not None:
            self.waiting_since = time.monotonic()
        return self._arrived or self._broken is not None

    # -- how -------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _loss(self) -> OSError:
        # Not the same one: its traceback would keep the connection, which keeps it.
        return type(self._broken)(*self._broken.args) if self._broken is not None else ConnectionResetError()

    def _set_timer(self) -> None:
        """Have one timer for many waits: most are over long before it runs, and it then looks when to look again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_end = self._end
        left = max(self._end - time.monotonic(), 0.0)
        self._timer = self._loop.call_later(left, _look_at_time, weakref.ref(self))

    def look_at_time(self) -> None:
        """End the wait if its time is up."""
        self._timer, self._timer_end = None, math.inf
        if self._waiter is None or self._end == math.inf:
            return
        if time.monotonic() < self._end:
            self._set_timer()
        elif not self._waiter.done():
            self._waiter.set_exception(TimeoutError("no answer in time"))


# Connections of the parent of a forked child.
_of_parents: list[AsyncioTransport] = []


class _Receiver(asyncio.BufferedProtocol):
    """Passes on what an event loop receives.

    https://docs.python.org/3/library/asyncio-protocol.html#buffered-streaming-protocols

    Args:
        target: where it goes, as long as that is there.
    """

    def __init__(self, target: AsyncioTransport) -> None:
        self._target = weakref.ref(target)
        self._reader = target.reader

    def get_buffer(self, sizehint: int) -> memoryview:
        room: memoryview = self._reader.room()
        return room

    def buffer_updated(self, nbytes: int) -> None:
        self._reader.fill(nbytes)
        if (target := self._target()) is not None:
            target.arrived()

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if (target := self._target()) is not None:
            target.lose(error)

    def pause_writing(self) -> None:
        if (target := self._target()) is not None:
            target.sending = True

    def resume_writing(self) -> None:
        if (target := self._target()) is not None:
            target.sending = False


def _look_at_time(reference: weakref.ref[AsyncioTransport]) -> None:
    if (transport := reference()) is not None:
        transport.look_at_time()


class LoopIO:
    """The :class:`~.transport.IO` for the tasks of the running event loop.

    Args:
        admission: where operations wait to begin while there are no connections left.
        reply_limit: the most bytes of a reply.
    """

    def __init__(self, admission: Admission, reply_limit: int) -> None:
        self._admission = admission
        self._reply_limit = reply_limit

    def pool(self, endpoint: Endpoint, breaker: Breaker) -> Pool:
        return LoopPool(endpoint, breaker, self._reply_limit, self._admission)

    async def wait_any(self, transports: Sequence[Any], end: float) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer: asyncio.TimerHandle | None = None
        try:
            arrived = [transport.wake_with(waiter) for transport in transports]
            if True not in arrived:
                if end < math.inf:
                    timer = loop.call_later(max(end - time.monotonic(), 0.0), _expire, waiter)
                await waiter
        finally:
            waiter.cancel()  # or asyncio tells of an exception that nobody has seen
            if timer is not None:
                timer.cancel()
            ready = [transport for transport in transports if transport.wake_with(None)]
        return ready

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def lock(self, server: str) -> Lock:
        return Lock(server, self.sleep)


class LoopPool(Pool):
    """A :class:`~.pool.Pool` shared by the tasks of one event loop.

    Args:
        endpoint: the server.
        breaker: that of the server.
        reply_limit, admission: see :class:`LoopIO`.
    """

    def __init__(self, endpoint: Endpoint, breaker: Breaker, reply_limit: int, admission: Admission) -> None:
        super().__init__(endpoint, breaker, reply_limit)
        self._admission = admission
        admission.add(self)

    def close(self, retire: bool = False) -> None:
        super().close(retire)
        if retire:
            self._admission.remove(self)

    def _make(self) -> AsyncioTransport:
        return AsyncioTransport(self._endpoint.make_reader(self._reply_limit))

    def _begin_connecting(self, transport: Any, timeout: float | None) -> Any:
        # A task, as a time limit would otherwise end the task of the whole operation.
        task = asyncio.ensure_future(self._endpoint.aconnect(transport, timeout))
        task.add_done_callback(partial(_look_at_end, transport))
        return task

    async def _connected(self, connecting: Any, end: float) -> None:
        try:
            await asyncio.wait([connecting], timeout=None if end == math.inf else max(end - time.monotonic(), 0.0))
            if not connecting.done():
                raise TimeoutError("timed out")
        except BaseException:
            connecting.cancel()
            raise
        connecting.result()

    def _make_turn(self, end: float) -> Turn:
        return _Turn(end)

    def _look(self) -> None:
        super()._look()
        self._admission.look()

    @property
    def _waiting_count(self) -> int:
        return super()._waiting_count + self._admission.waiting


class _Turn(Turn):
    """The turn of a task."""

    __slots__ = ("_rung",)

    def __init__(self, end: float) -> None:
        super().__init__(None, end)
        self._rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ring(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

    async def wait(self, seconds: float) -> None:
        await asyncio.wait([self._rung], timeout=seconds)
        if self._rung.done():
            self._rung = asyncio.get_running_loop().create_future()


def _expire(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("no answer in time"))


def _look_at_end(transport: AsyncioTransport, connecting: asyncio.Future[None]) -> None:
    """Close a connection that could not be opened: nobody may wait for it, and a traceback in a log may keep it."""
    if connecting.cancelled() or connecting.exception() is not None:
        transport.close()
