"""Requests to a memcached and the replies that are due, over a connection of the pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState

__all__ = [
    "RACES",
    "TURNS",
    "WRITE_CHUNK",
    "Connection",
    "Exchange",
    "Pool",
    "Reply",
    "UnreachableError",
    "is_stale",
    "number_of",
    "numbers_of",
    "read_stats",
]

T = TypeVar("T")
Reply = tuple[bytes, list[bytes], bytes | None]
"""A word, such as ``b"HD"``, the flags, and the value where there is one."""

WRITE_CHUNK = 1000
"""Requests without a value in their replies that are sent ahead at most."""

TURNS = 2
"""How many timeouts the pool of one of several servers lets somebody wait for a place. Those who have the places wait
for one at most before they find that the server does not answer; until then nobody can tell that from a full pool."""

RACES = 1000
"""How often a write that depends on what was read is repeated when somebody else was faster. Of all who try, one
succeeds each time, so that this many failures in a row take a great many writers to one key."""


class UnreachableError(BackendError):
    """A server cannot be connected to, or does not answer: the next caller would wait for it in vain."""


class Connection(Protocol):
    """A way to the server, and the replies that arrived on it.

    Attributes:
        reader: parses what has arrived.
        sent: whether any byte was sent since the connection was taken from the pool.
        answered: whether any byte has arrived since then.
        reused: whether the connection was in the pool before.
    """

    reader: wire.MetaReader
    sent: bool
    answered: bool
    reused: bool

    @property
    def sending(self) -> bool:
        """Whether so much is left to send that no more should be added."""

    @property
    def settled(self) -> bool:
        """Whether everything was sent, and everything that arrived was consumed."""

    def send(self, data: bytes) -> None:
        """Send as much of ``data`` as goes without waiting; :meth:`pump` sends the rest."""

    async def pump(self) -> None:
        """Wait until something arrives and is with the reader; send meanwhile what is left to send.

        Raises:
            TimeoutError: nothing moved for as long as the pool allows.
            OSError: the connection broke.
        """


C = TypeVar("C", bound=Connection)


class Pool(Protocol[C]):
    """A bounded number of connections to one server, which blocks or suspends whoever waits for one.

    *Read all or close*: whoever takes a connection gives it back, on any exception too, and as reusable only when
    everything was sent and every reply read: the next caller must not read our replies.

    Attributes:
        server: what the server is called in messages.
        unreachable: called with the reason when the server cannot be connected to, or does not answer.
        check: called after waiting for a place; raises if the server was meanwhile found not to answer.
    """

    server: str
    unreachable: Callable[[str], None]
    check: Callable[[], None]

    async def take(self) -> C:
        """Give an idle connection, or a new one.

        Raises:
            BackendError: all connections stayed in use, or the server cannot be reached.
        """

    async def renew(self, connection: C) -> C:
        """Close a connection that was taken and is broken, and give a new one in its place.

        Raises:
            BackendError: the server cannot be reached. Nothing is to be given back then.
        """

    def give_back(self, connection: C, reusable: bool) -> None:
        """Take a connection back, and close it unless it is ``reusable``."""

    def state(self) -> PoolState:
        """Return how the connections are used."""

    async def close(self) -> None:
        """Close the idle connections. Those in use are not touched."""


class Exchange:
    """Sends requests and reads exactly the replies that are due.

    Args:
        pool: connections to the server.
    """

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self.server = pool.server

    async def _ask(self, key: str, flags: bytes, write: bool) -> Reply:
        """Send one meta get and return its reply."""
        (reply,) = await self._replies(wire.pack_meta(b"mg", [key], flags, 0, 1), 1, write)
        if reply[0] not in (b"HD", b"EN", b"VA"):
            self._refuse(key, reply[0])
        return reply

    async def _inspect(self, keys: Sequence[str], flags: bytes) -> tuple[int, list[Reply]]:
        """Send meta gets, and return the server's time in front of their replies.

        A lifetime is told in seconds from now and written back somewhat later: by and by, an entry that is written
        all the time would never expire. As a point in the server's own time it stays where it is.
        """
        request = wire.pack_meta(b"mg", keys, flags, 0, len(keys))

        async def work(connection: Connection) -> tuple[int, list[Reply]]:
            figures, replies = await read_stats(connection, request, len(keys))
            return int(figures[b"time"]), replies

        return await self._exchange(work, write=False)

    async def _replies(self, request: bytes, count: int, write: bool) -> list[Reply]:
        async def work(connection: Connection) -> list[Reply]:
            connection.send(request)
            return await _read_replies(connection, count)

        return await self._exchange(work, write)

    async def _statuses(self, requests: Iterator[tuple[bytes, int]], count: int) -> list[bool | str]:
        """Send requests that are answered with one status each, never far ahead of the replies."""
        if not count:
            return []

        async def work(connection: Connection) -> list[bool | str]:
            statuses: list[bool | str] = []
            asked = 0
            while len(statuses) < count:
                while asked < count and asked - len(statuses) <= WRITE_CHUNK and not connection.sending:
                    buffer, size = next(requests)
                    connection.send(buffer)
                    asked += size
                if not connection.reader.read_statuses(statuses, asked):
                    await connection.pump()
            return statuses

        return await self._exchange(work, write=True)

    async def _exchange(self, work: Callable[[Connection], Awaitable[T]], write: bool) -> T:
        """Do ``work`` on a connection; reads are repeated once where the connection was stale."""
        connection = await self._pool.take()
        while True:
            reusable = stale = False
            try:
                result = await work(connection)
                reusable = connection.settled
                return result
            except (OSError, ValueError) as error:
                stale = not write and is_stale(connection, error)
                if not stale:
                    raise self._failure(error, write and connection.sent) from error
            finally:
                if not stale:
                    self._pool.give_back(connection, reusable)
            connection = await self._pool.renew(connection)

    def _failure(self, error: Exception, maybe_applied: bool = False) -> BackendError:
        """Give what is raised when the connection failed in the course of an exchange."""
        if not isinstance(error, TimeoutError):
            return BackendError(f"{self.server}: {error}", maybe_applied=maybe_applied)
        # Told before the connection is given back: whoever waits for its place is not to wait for the server as well.
        self._pool.unreachable(f"{self.server}: {error}")
        return UnreachableError(f"{self.server}: {error}", maybe_applied=maybe_applied)

    def _raced(self, key: str) -> BackendError:
        return BackendError(f"{self.server}, key {key}: others changed it {RACES} times in a row")

    def _refuse(self, key: str | None, words: bytes) -> NoReturn:
        subject = self.server if key is None else f"{self.server}, key {key}"
        hint = " (memcached 1.6 or later is needed)" if words == b"ERROR" else ""
        raise BackendError(f"{subject}: {words.decode('utf-8', 'replace')}{hint}")


def is_stale(connection: Connection, error: Exception) -> bool:
    """Tell whether a connection from the pool had broken before anything was answered on it."""
    broken = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return broken and connection.reused and not connection.answered


async def _read_reply(connection: Connection) -> Reply:
    while (reply := connection.reader.read_reply()) is None:
        await connection.pump()
    return reply


async def read_stats(connection: Connection, request: bytes, count: int = 0) -> tuple[dict[bytes, bytes], list[Reply]]:
    """Ask for the server's figures, and for ``request`` right after them."""
    connection.send(b"stats\r\n" + request)
    figures: dict[bytes, bytes] = {}
    while (reply := await _read_reply(connection))[0] != b"END":
        word, words, _ = reply
        if word != b"STAT" or not words:
            raise ValueError(f"expected the server's figures, got {word[:80]!a}")
        figures[words[0]] = b" ".join(words[1:])
    return figures, await _read_replies(connection, count)


async def _read_replies(connection: Connection, count: int) -> list[Reply]:
    replies: list[Reply] = []
    read = connection.reader.read_reply
    while len(replies) < count:
        if (reply := read()) is None:
            await connection.pump()
        else:
            replies.append(reply)
    return replies


def number_of(flags: list[bytes], name: bytes) -> int:
    """Return the number that the server returned under a flag."""
    return numbers_of([flags], name)[0]


def numbers_of(flags_of_each: Iterable[list[bytes]], name: bytes) -> list[int]:
    """Return the number under a flag of each of several replies."""
    numbers: list[int] = []
    for flags in flags_of_each:
        for flag in flags:
            if flag[:1] == name and flag[1:].lstrip(b"-").isdigit():
                numbers.append(int(flag[1:]))
                break
        else:
            raise BackendError(f"memcached answered without the flag {name.decode()} that it was asked for")
    return numbers
