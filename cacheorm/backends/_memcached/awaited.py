"""Connections of asyncio to one memcached, and their pool: for the event loop in which they were made.

What connections and pools promise is with :mod:`~.exchange`. A caller that is cancelled while it waits for a reply
gives its connection back as not reusable, as any exception does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar, cast

from ..._speedups import wire
from ...types import PoolState
from .._turns import Entrance, Turns
from .addresses import Address, describe
from .exchange import UnreachableError

__all__ = ["AwaitedPool", "Connection"]

T = TypeVar("T")

# What the transport may hold before the sender waits for replies. More than a request for a whole part of a batch.
_SEND_BYTES = 1 << 21

_RECEIVE_BYTES = 1 << 16


class Connection(asyncio.BufferedProtocol):
    """One transport, and the replies that arrived on it: bytes go to the reader as the event loop receives them.

    https://docs.python.org/3/library/asyncio-protocol.html#buffered-streaming-protocols

    Args:
        timeout: seconds without any progress after which :meth:`pump` gives up.
    """

    def __init__(self, timeout: float) -> None:
        self.reader = wire.MetaReader()
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        self.sent = self.answered = self.reused = self.sending = False
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._transport: asyncio.Transport
        self._broken: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unsent = 0

    # -- what the event loop calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._transport.set_write_buffer_limits(_SEND_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        self.answered = True
        self.reader.feed(self._received[:nbytes])
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        if self._broken is None:
            self._broken = error if isinstance(error, OSError) else _closed()
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def eof_received(self) -> bool:
        self._broken = _closed()
        self._wake()
        return False

    def pause_writing(self) -> None:
        self.sending = True

    def resume_writing(self) -> None:
        self.sending = False

    # -- what those who have taken it call -------------------------------------------------------

    @property
    def settled(self) -> bool:
        return not self._transport.get_write_buffer_size() and not self.reader.pending

    def send(self, data: bytes) -> None:
        if self._broken is not None:
            raise self._broken
        self.sent = True
        self._transport.write(data)

    async def pump(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._waiter = self._make_wait()
        self._since = self._loop.time()
        self._unsent = self._transport.get_write_buffer_size()
        if self._timer is None:
            # One timer for many waits: most are over long before it runs, and it then looks when to look again.
            self._timer = self._loop.call_later(self._timeout, self._look)
        try:
            await self._until(self._waiter)
        finally:
            self._waiter = None

    def alive(self) -> bool:
        """Tell whether the connection, idle until now, can be used: nothing has arrived, not even its end."""
        return self._broken is None and not self.reader.pending and not self._transport.is_closing()

    def close(self) -> None:
        """Close the transport, and drop what is left to send."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    # -- how -------------------------------------------------------------------------------------

    @staticmethod
    def _until(future: asyncio.Future[T]) -> Awaitable[T]:
        """Give what is awaited to wait for a future."""
        return future

    def _make_wait(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    def _wake(self, error: OSError | None = None) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            # A connection that broke is found to be so by the next wait: what arrived before is read first.
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _look(self) -> None:
        """Give up if nothing has moved for too long, or look again when that may be so."""
        self._timer = None
        if self._waiter is None:
            return
        now, unsent = self._loop.time(), self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._since = now
        self._unsent = unsent
        left = self._since + self._timeout - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._wake(TimeoutError(f"no answer within {self._timeout:g} s"))


class AwaitedPool:
    """A bounded number of connections to one server, shared by the tasks of one event loop; first come, first served.

    Args:
        address: the server's.
        timeout: seconds without progress after which a connection gives up, and seconds to wait for a free one.
        connect_timeout: seconds to wait for a new connection.
        max_connections: how many there are at most.
        entrance: that of the backend.
    """

    _kind: ClassVar[type[Connection]] = Connection
    _patience: ClassVar[int] = 1

    def __init__(
        self, address: Address, timeout: float, connect_timeout: float, max_connections: int, entrance: Entrance
    ) -> None:
        self.server = describe(address)
        self._address = address
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self.turns = Turns(max_connections, timeout * self._patience, self.server, "timeout", entrance, self._until)
        self._idle: list[Connection] = []
        self._closed = False
        self.unreachable: Callable[[str], None] = lambda reason: None
        self.check: Callable[[], None] = lambda: None

    async def take(self) -> Connection:
        if not self.turns.take():
            await self.turns.wait()
        try:
            self.check()
        except BaseException:
            self.turns.give_back()
            raise
        while self._idle:
            idle = self._idle.pop()
            if idle.alive():
                idle.sent = idle.answered = False
                idle.reused = True
                return idle
            idle.close()
        return await self._connect()

    async def renew(self, connection: Connection) -> Connection:
        connection.close()
        return await self._connect()

    def give_back(self, connection: Connection, reusable: bool) -> None:
        if reusable and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()
        self.turns.give_back()

    def state(self) -> PoolState:
        """Return how the connections are used."""
        return self.turns.state(len(self._idle))

    async def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._closed = True
        self.turns.close()
        self.drop_idle()
        await asyncio.sleep(0)  # in which their sockets are closed

    async def _connect(self) -> Connection:
        """Make a connection for a place that is taken; on any exception the place is free again."""
        try:
            return await self.open()
        except BaseException:
            self.turns.give_back()
            raise

    async def open(self, patience: float | None = None) -> Connection:
        """Make a connection that does not count as one of the pool.

        Args:
            patience: seconds to wait for it, and for whatever is sent over it; those of the pool by default.

        Raises:
            UnreachableError: the server cannot be reached.
        """
        loop, address = asyncio.get_running_loop(), self._address
        timeout = self._timeout if patience is None else patience
        try:
            async with asyncio.timeout(self._connect_timeout if patience is None else patience):
                if isinstance(address, str):
                    _, made = await loop.create_unix_connection(lambda: self._kind(timeout), address)
                else:
                    _, made = await loop.create_connection(lambda: self._kind(timeout), *address)
                return made
        except OSError as error:
            if isinstance(error, TimeoutError) and not error.args:
                error = TimeoutError("timed out")
            reason = f"{self.server}: cannot connect: {error}"
            self.unreachable(reason)
            raise UnreachableError(reason) from error

    @staticmethod
    def _until(future: asyncio.Future[T]) -> Awaitable[T]:
        """Give what is awaited to wait for a future."""
        return future

    def drop_idle(self) -> None:
        """Close the connections that are idle now."""
        while self._idle:
            self._idle.pop().close()


def _closed() -> OSError:
    return ConnectionResetError("the server closed the connection")
