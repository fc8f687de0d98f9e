"""Connections of redis.asyncio, in a bounded pool that belongs to one event loop."""

from __future__ import annotations

import asyncio
import builtins
import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    RedisError,
    TimeoutError,  # noqa: A004 -- likewise
)

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState
from .._turns import Entrance, Turns
from .endpoint import Endpoint
from .replies import find_feed
from .transport import MOMENT

if TYPE_CHECKING:
    from .reach import Admission

__all__ = ["AwaitedLink", "AwaitedLinks"]

# What may wait to be sent before the sender does. More than most requests for a part of a batch.
_SEND_BYTES = 1 << 21

# Room for what arrives when nobody waits for it.
_SPARE_BYTES = 1 << 16

# Windows has none; there, what arrived on an idle connection is known once the event loop has looked.
_HAS_POLL = hasattr(select, "poll")


class AwaitedLink(asyncio.BufferedProtocol):
    """A :class:`~.transport.Link` whose coroutines suspend.

    It stands between the transport and the stream that the driver reads: what :meth:`receive` waits for goes past the
    stream, straight into the reader's memory, and everything else into the stream.
    (https://docs.python.org/3/library/asyncio-protocol.html#buffered-streaming-protocols)

    Args:
        connection: of redis.asyncio, connected.
        timeout: seconds without progress after which it gives up; ``None`` waits for ever.
    """

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self.connection = connection
        self.feed: Callable[[bytes], Any] | None = find_feed(connection, AbstractConnection)
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unsent = 0
        self._past_stream = False
        self._reader: wire.RespReader | None = None
        self._spare = memoryview(bytearray(_SPARE_BYTES))
        self._arrived: list[bytes] = []
        self._lost: Exception | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport = connection._writer.transport
        self._stream = cast("asyncio.Protocol", self._transport.get_protocol())
        # uvloop looks at how a protocol takes its bytes when it begins to read.
        self._transport.pause_reading()
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        self._transport.set_write_buffer_limits(_SEND_BYTES)
        self._poll = select.poll() if _HAS_POLL else None
        if self._poll is not None:
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)

    # -- what the event loop calls ---------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._spare if self._reader is None else self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        if self._reader is not None:
            self._reader.fill(nbytes)
            self._wake()
        elif self._past_stream:
            self._arrived.append(bytes(self._spare[:nbytes]))
        else:
            self._stream.data_received(bytes(self._spare[:nbytes]))

    def eof_received(self) -> bool | None:
        self._lost = ConnectionError("Connection closed by server.")
        self._wake()
        return self._stream.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = ConnectionError(f"Connection lost: {error}" if error else "Connection closed by server.")
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        self._paused = True
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()
        self._stream.resume_writing()

    # -- what those who have taken it call -------------------------------------------------------

    def usable(self, sure: bool) -> bool:
        """Tell whether it can be used, idle until now: nothing has arrived, not even its end.

        Without ``sure`` the system is not asked if it was used a moment ago.
        """
        if self._lost is not None or self._arrived or self._transport.is_closing():
            return False
        if not sure and self._loop.time() - self._since < MOMENT:
            return True
        # What has arrived may not have reached the event loop yet.
        return self._poll is None or not self._poll.poll(0)

    async def drop(self) -> None:
        """Close it without waiting for anything, such as for what was not sent yet."""
        self._transport.abort()
        await self.connection.disconnect(nowait=True)

    async def send(self, buffer: bytes, check_health: bool) -> None:
        if check_health and self.connection.health_check_interval:
            self._past_stream = False
            await _keep_cancellation(self.connection.check_health())
        if self._lost is not None:
            raise self._lost
        self._past_stream = self.feed is not None
        self._transport.write(buffer)
        while self._paused:
            await self._wait("writing to")

    async def receive(self, reader: wire.RespReader) -> None:
        if not self._arrived:
            self._reader = reader
            try:
                await self._wait("reading from")
            finally:
                self._reader = None
            return
        arrived, self._arrived = self._arrived, []
        for data in arrived:
            view = memoryview(data)
            while view:
                room = reader.room()
                size = min(len(room), len(view))
                room[:size] = view[:size]
                reader.fill(size)
                view = view[size:]

    async def parse(self) -> Any:
        self._past_stream = False
        arrived, self._arrived = self._arrived, []
        for data in arrived:
            self._stream.data_received(data)
        return await self.connection.read_response(disable_decoding=True)

    # -- how -------------------------------------------------------------------------------------

    async def _wait(self, what: str) -> None:
        """Wait until something arrives, or what is to be sent gets less."""
        if self._lost is not None:
            raise self._lost
        self._waiter = self._loop.create_future()
        self._since = self._loop.time()
        self._unsent = self._transport.get_write_buffer_size()
        if self._timer is None and self._timeout is not None:
            # One timer for many waits: most are over long before it runs, and it then looks when to look again.
            self._timer = self._loop.call_later(self._timeout, self._look)
        try:
            await self._waiter
        except builtins.TimeoutError:
            raise TimeoutError(f"Timeout {what} socket") from None
        finally:
            self._waiter = None

    def _wake(self) -> None:
        # A connection that broke is found to be so by the next wait: what arrived before is read first.
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """Give up if nothing has moved for too long, or look again when that may be so."""
        self._timer = None
        if self._waiter is None or self._timeout is None:
            return
        now, unsent = self._loop.time(), self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._since = now
        self._unsent = unsent
        left = self._since + self._timeout - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif not self._waiter.done():
            self._waiter.set_exception(builtins.TimeoutError())


async def _keep_cancellation(work: Awaitable[None]) -> None:
    """Await commands that redis-py sends, and raise a cancellation that was lost meanwhile.

    It sends them through :func:`asyncio.wait_for`, which before Python 3.12 drops a cancellation that arrives as its
    wait ends (https://github.com/python/cpython/issues/86296).
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await work
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


class AwaitedLinks:
    """Connections to one server, shared by the tasks of one event loop.

    Args:
        endpoint: the server.
        entrance: that of the backend.
        admission: conditions for each new connection.
    """

    def __init__(self, endpoint: Endpoint, entrance: Entrance, admission: Admission | None = None) -> None:
        self.server = endpoint.server
        self._endpoint = endpoint
        self._admission = admission
        self.turns = Turns(endpoint.max_connections, endpoint.patience, endpoint.server, "socket_timeout", entrance)
        self._idle: list[AwaitedLink] = []
        self._closed = False

    async def take(self, sure: bool = True) -> AwaitedLink:
        if not self.turns.take():
            await self.turns.wait()
        try:
            while self._idle:
                link = self._idle.pop()
                if link.usable(sure):
                    return link
                await link.drop()
            return await self._connect()
        except BaseException:
            self.turns.give_back()
            raise

    async def give_back(self, link: AwaitedLink, reusable: bool) -> None:
        # Nothing here waits, so that the end of a task cannot come in between.
        self.turns.give_back()
        if reusable and not self._closed:
            self._idle.append(link)
        else:
            await link.drop()

    def state(self) -> PoolState:
        """Return how the connections are used."""
        return self.turns.state(len(self._idle))

    async def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._closed = True
        self.turns.close()
        while self._idle:
            await self._idle.pop().drop()
        await asyncio.sleep(0)  # in which their sockets are closed

    async def _connect(self) -> AwaitedLink:
        connection = self._endpoint.awaited_connection()
        # Not as the `redis_connect_func`: redis-py asks asyncio whether that is a coroutine function, which warns from
        # Python 3.14 on.
        admission = self._admission
        try:
            if admission is not None:
                await admission.before()
            await _keep_cancellation(connection.connect())
            if admission is not None:
                await _keep_cancellation(admission.after(connection))
            return AwaitedLink(connection, self._endpoint.options.get("socket_timeout"))
        except BaseException as error:
            if connection._writer is not None:  # connected, but not welcome yet
                connection._writer.transport.abort()
            await connection.disconnect(nowait=True)
            if isinstance(error, (RedisError, OSError)):
                raise BackendError(f"{self.server}: {error}") from error
            raise
