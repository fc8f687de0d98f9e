"""What the network core needs of a connection, of a server, and of a kind of I/O."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import BackendError

if TYPE_CHECKING:
    import socket

    from .breaker import Breaker
    from .exchange import Exchange
    from .lock import Lock
    from .pool import Pool

__all__ = [
    "IO",
    "BusyError",
    "Effect",
    "Endpoint",
    "LeftAloneError",
    "Transport",
    "UnreachableError",
    "UnsuitableError",
    "end_with_reset",
]


class Effect(Enum):
    """What sending requests again would do if it is not known whether they were executed."""

    READ = "nothing is changed"
    SAME = "the outcome is that of executing them once"
    STEP = "the outcome or the reply may be another one"


class UnreachableError(BackendError):
    """A server cannot be connected to, or did not reply in time, or is left alone because of that."""


class LeftAloneError(UnreachableError):
    """A server was not asked, because it did not reply a while ago.

    Attributes:
        since: when that was, in the time of :func:`time.monotonic`.
    """

    since = 0.0


class UnsuitableError(UnreachableError):
    """A server replies, and is not the one to speak to."""


class BusyError(BackendError):
    """All connections that there may be to a server stayed in use; the server itself is not to blame."""


class Transport(Protocol):
    """A connection to one server.

    Its end closes it: an exception between two steps never leaves an open connection behind. All methods but
    :meth:`receive` return at once.

    Attributes:
        reader: parses what has arrived; has ``room()``, ``fill(size)`` and ``pending``.
        sent: whether any byte was handed to the system since the connection was taken from its pool.
        answered: whether any byte has arrived since then.
        reused: whether the connection was in the pool before.
        closed: whether it is closed.
        used: when it was given back, in the time of :func:`time.monotonic`.
        waiting_since: when the last wait for a reply began, likewise.
        sending: whether so much is left to send that no more should be added.
    """

    reader: Any
    sent: bool
    answered: bool
    reused: bool
    closed: bool
    used: float
    waiting_since: float
    sending: bool

    def alive(self) -> bool:
        """Return whether the connection, idle until now, can be used: nothing has arrived, not even its end."""

    def send(self, data: bytes) -> None:
        """Send as much of ``data`` as the system takes; the rest is sent while replies are waited for.

        Raises:
            OSError: the connection broke.
        """

    def collect(self) -> bool:
        """Move what has arrived to the reader. Return whether there was anything.

        Raises:
            OSError: the connection broke.
        """

    async def receive(self, end: float) -> None:
        """Wait until something has arrived and is with the reader.

        Args:
            end: when to give up, in the time of :func:`time.monotonic`.

        Raises:
            TimeoutError: nothing has arrived by then.
            OSError: the connection broke.
        """

    def drop_unsent(self) -> None:
        """Have its end drop what has not arrived at the server, where nobody waits for it any more."""

    def close(self) -> None:
        """Close it at once; what was not handed to the system is dropped."""

    def leave_to_parent(self) -> None:
        """Become closed in a forked child, without a trace for the parent, which goes on using the connection."""


class Endpoint(Protocol):
    """A server, and how connections to it are made.

    Attributes:
        server: its name for messages, without credentials.
        option: the option of the backend that bounds an operation, for messages.
        max_connections: how many connections there are at most, of each kind of I/O.
        connect_timeout: seconds for a new connection; ``None`` as long as the operation has.
        operation_timeout: seconds for an operation; ``None`` without a bound.
        idle_limit: seconds after which an idle connection is replaced; ``None`` for never.
    """

    server: str
    option: str
    max_connections: int
    connect_timeout: float | None
    operation_timeout: float | None
    idle_limit: float | None

    def make_reader(self, reply_limit: int) -> Any:
        """Return a new reader of the server's protocol, which takes replies of at most so many bytes."""

    def connect(self, timeout: float | None) -> socket.socket:
        """Return a socket that is connected and ready for requests. It blocks, in a thread of its own.

        Args:
            timeout: seconds for each step; the whole is bounded by the caller.

        Raises:
            OSError, UnreachableError: the server cannot be reached.
            BackendError: the server refused the connection, such as for a wrong password.
        """

    async def aconnect(self, transport: Any, timeout: float | None) -> None:
        """Connect a transport of asyncio to the server, ready for requests. Otherwise like :meth:`connect`."""

    def greeting(self, probes: bool) -> Exchange | None:
        """Return what a new connection is asked before it is used; ``None`` if nothing.

        Args:
            probes: whether it is to show that a server replies again that was left alone.
        """


class IO(Protocol):
    """A kind of I/O: for threads, or for the tasks of one event loop."""

    def pool(self, endpoint: Endpoint, breaker: Breaker) -> Pool:
        """Return a new pool of connections to a server. Nothing connects yet."""

    async def wait_any(self, transports: Sequence[Any], end: float) -> Sequence[Any]:
        """Wait until something has arrived on some of several connections. Return those.

        Raises:
            TimeoutError: nothing has arrived on any of them by ``end``.
        """

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def lock(self, server: str) -> Lock:
        """Return a new lock among those who share the pools.

        Args:
            server: what they wait for, for messages.
        """


def end_with_reset(connection: Any) -> None:
    """Have a socket reset its connection when it is closed.

    Otherwise the system goes on sending what it has, for minutes: after an outage of the network, a write that was
    given up would be executed after later ones.
    """
    import socket
    import struct

    with (
        suppress(OSError, ValueError, AttributeError),
        # By its number: the sockets of some event loops have no such method.
        socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same,
    ):
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
