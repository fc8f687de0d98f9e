"""Connections to one memcached that block: sockets that send and receive at once, in a bounded pool.

Their coroutines never suspend. What connections and pools promise is with :mod:`~.exchange`.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from ..._speedups import wire
from ...types import PoolState
from .._busy import BusyError
from .addresses import Address, describe
from .exchange import UnreachableError

__all__ = ["BlockingPool", "Connection"]

_RECEIVE_BYTES = 1 << 16

# Windows has no poll; its select takes sockets of any number, which elsewhere end at 1024.
_HAS_POLL = hasattr(select, "poll")


class _QuietSocket(socket.socket):
    """Closes without a warning when nobody has closed it.

    A backend lives as long as the model that has it, and goes as quietly, as redis-py's do. A method of the connection
    would come too late: of objects that refer to one another, the collector finalizes the oldest ones first.
    """

    __slots__ = ()

    @classmethod
    def over(cls, opened: socket.socket) -> Self:
        """Take over the connection of another one."""
        number = opened.detach()
        try:
            return cls(fileno=number)
        except BaseException:
            socket.close(number)
            raise

    def __del__(self) -> None:
        self.close()


class Connection:
    """One socket, and the replies that arrived on it.

    A server that cannot get rid of its replies stops reading requests. So nothing here waits for sending alone:
    whenever the socket does not take more, what has arrived is taken off it.

    Args:
        opened: a socket that is connected; it belongs to the connection from now on.
        timeout: seconds without any progress after which :meth:`pump` gives up.

    Attributes:
        reader: parses what has arrived.
        sent: whether any byte was handed to the system since the connection was taken from the pool.
        answered: whether any byte has arrived since then.
        reused: whether the connection was in the pool before.
    """

    def __init__(self, opened: socket.socket, timeout: float) -> None:
        self.reader = wire.MetaReader()
        self.sent = self.answered = self.reused = False
        self.pid = os.getpid()
        self._timeout = timeout
        self._outgoing: deque[memoryview] = deque()
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        self._socket = opened = _QuietSocket.over(opened)
        if opened.family != getattr(socket, "AF_UNIX", None):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        self._poll = select.poll() if _HAS_POLL else None
        self._polls_writing = False
        if self._poll is not None:
            self._poll.register(self._socket, select.POLLIN)

    @property
    def sending(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._outgoing)

    @property
    def settled(self) -> bool:
        """Whether everything was sent, and everything that arrived was consumed."""
        return not self._outgoing and not self.reader.pending

    def send(self, data: bytes) -> None:
        """Send as much of ``data`` as goes without waiting; :meth:`pump` sends the rest."""
        self._outgoing.append(memoryview(data))
        self._flush()

    async def pump(self) -> None:
        while True:
            readable, writable = await self._ready()
            if not (readable or writable):
                raise TimeoutError(f"no answer within {self._timeout:g} s")
            if writable:
                self._flush()
            if readable:
                try:
                    size = self._socket.recv_into(self._received)
                except BlockingIOError:
                    continue
                if not size:
                    raise ConnectionResetError("the server closed the connection")
                self.answered = True
                self.reader.feed(self._received[:size])
                return

    async def _ready(self) -> tuple[bool, bool]:
        return self._wait(self._timeout)

    def alive(self) -> bool:
        """Tell whether the connection, idle until now, can be used: nothing has arrived, not even its end."""
        return not self._wait(0)[0]

    def close(self) -> None:
        """Close the socket. In a forked child this leaves the parent's connection as it is."""
        self._socket.close()

    def _flush(self) -> None:
        try:
            while self._outgoing:
                size = self._socket.send(self._outgoing[0])
                self.sent = True
                if size == len(self._outgoing[0]):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = self._outgoing[0][size:]
        except BlockingIOError:
            pass

    def _wait(self, timeout: float) -> tuple[bool, bool]:
        """Wait until the socket can be read from, or written to where there is something to send."""
        if self._poll is not None:
            if self._polls_writing != bool(self._outgoing):
                self._polls_writing = not self._polls_writing
                self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._polls_writing else 0))
            events = self._poll.poll(timeout * 1000)
            if not events:
                return False, False
            # Errors and hang-ups count as readable: reading tells which it was.
            return bool(events[0][1] & ~select.POLLOUT), bool(events[0][1] & select.POLLOUT)
        readable, writable, _ = select.select([self._socket], [self._socket] if self._outgoing else [], [], timeout)
        return bool(readable), bool(writable)


class _Members:
    """The connections of one process; a forked child starts with new ones."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.changed = threading.Condition()
        self.idle: list[Connection] = []
        self.taken = 0
        self.waiting = 0

    def take(self, most: int) -> bool:
        """Count one more connection as taken, unless there are so many."""
        with self.changed:
            if self.taken >= most:
                return False
            self.taken += 1
            return True

    @contextmanager
    def waiter(self) -> Iterator[None]:
        """Count one more caller as waiting."""
        with self.changed:
            self.waiting += 1
        try:
            yield
        finally:
            with self.changed:
                self.waiting -= 1

    def pop(self) -> Connection | None:
        """Give an idle connection, if there is one."""
        with self.changed:
            return self.idle.pop() if self.idle else None


class BlockingPool:
    """A bounded number of connections to one server, shared by threads.

    Args:
        address: the server's.
        timeout: seconds without progress after which a connection gives up, and seconds to wait for a free one.
        connect_timeout: seconds to wait for a new connection.
        max_connections: how many there are at most.
    """

    _kind: type[Connection] = Connection
    _turns = 1

    def __init__(self, address: Address, timeout: float, connect_timeout: float, max_connections: int) -> None:
        self.server = describe(address)
        self._address = address
        self._timeout = timeout
        self._patience = timeout * self._turns
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._members = _Members()
        self.unreachable: Callable[[str], None] = lambda reason: None
        self.check: Callable[[], None] = lambda: None

    async def take(self) -> Connection:
        members = self._current()
        if not members.take(self._max_connections):
            with members.waiter():
                await self._wait_for_turn(members)
        try:
            idle = members.pop()
            while idle is not None:
                if idle.alive():
                    idle.sent = idle.answered = False
                    idle.reused = True
                    return idle
                idle.close()
                idle = members.pop()
            return await self.open()
        except BaseException:
            self._free(members)
            raise

    async def renew(self, connection: Connection) -> Connection:
        connection.close()
        if connection.pid != os.getpid():
            return await self.take()
        try:
            return await self.open()
        except BaseException:
            self._free(self._members)
            raise

    def give_back(self, connection: Connection, reusable: bool) -> None:
        members = self._members
        if connection.pid != members.pid or connection.pid != os.getpid():
            connection.close()  # of another process: it was never counted here
            return
        if reusable:
            with members.changed:
                members.idle.append(connection)
        else:
            connection.close()
        self._free(members)

    def state(self) -> PoolState:
        """Return how the connections are used."""
        members = self._current()
        with members.changed:
            return PoolState(self.server, self._max_connections, members.taken, len(members.idle), members.waiting)

    async def close(self) -> None:
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close the connections that are idle now."""
        members = self._current()
        with members.changed:
            idle, members.idle = members.idle, []
        for connection in idle:
            connection.close()

    def _current(self) -> _Members:
        members = self._members
        if members.pid != os.getpid():
            # Forked. The old lock may be held by a thread that does not exist here, so it is not touched; what
            # is closed are this process's copies of the sockets, which the parent does not notice.
            self._members = _Members()
            for connection in members.idle:
                connection.close()
        return self._members

    async def open(self, patience: float | None = None) -> Connection:
        """Make a connection that does not count as one of the pool.

        Args:
            patience: seconds to wait for it, and for whatever is sent over it; those of the pool by default.

        Raises:
            UnreachableError: the server cannot be reached.
        """
        try:
            opened = await self._open(self._connect_timeout if patience is None else patience)
        except OSError as error:
            reason = f"{self.server}: cannot connect: {error}"
            self.unreachable(reason)
            raise UnreachableError(reason) from error
        return self._kind(opened, self._timeout if patience is None else patience)

    async def _open(self, patience: float) -> socket.socket:
        if not isinstance(self._address, str):
            return socket.create_connection(self._address, patience)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(patience)
            opened.connect(self._address)
        except BaseException:
            opened.close()
            raise
        return opened

    async def _wait_for_turn(self, members: _Members) -> None:
        """Count one more connection as taken, as soon as there are fewer than the pool may have."""
        with members.changed:
            if not members.changed.wait_for(lambda: members.taken < self._max_connections, self._patience):
                raise self._full()
            members.taken += 1

    def _full(self) -> BusyError:
        return BusyError(self.server, self._max_connections, self._patience, "timeout")

    @staticmethod
    def _free(members: _Members) -> None:
        with members.changed:
            members.taken -= 1
            members.changed.notify()
