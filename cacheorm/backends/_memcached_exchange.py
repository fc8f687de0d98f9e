"""Requests to a memcached and the replies that are due, over a connection of the pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

from .._speedups import wire
from ..errors import BackendError
from ._memcached_pool import Connection, Pool

__all__ = ["RACES", "WRITE_CHUNK", "Exchange", "Reply", "is_stale", "number_of", "read_stats"]

T = TypeVar("T")
Reply = tuple[bytes, list[bytes], bytes | None]
"""A word, such as ``b"HD"``, the flags, and the value where there is one."""

WRITE_CHUNK = 1000
"""Requests without a value in their replies that are sent ahead at most."""

RACES = 1000
"""How often a write that depends on what was read is repeated when somebody else was faster. Of all who try, one
succeeds each time, so that this many failures in a row take a great many writers to one key."""


class Exchange:
    """Sends requests and reads exactly the replies that are due.

    Args:
        pool: connections to the server.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.server = pool.server

    def _ask(self, key: str, flags: bytes, write: bool) -> Reply:
        """Send one meta get and return its reply."""
        (reply,) = self._replies(wire.pack_meta(b"mg", [key], flags, 0, 1), 1, write)
        if reply[0] not in (b"HD", b"EN", b"VA"):
            self._refuse(key, reply[0])
        return reply

    def _inspect(self, keys: Sequence[str], flags: bytes) -> tuple[int, list[Reply]]:
        """Send meta gets, and return the server's time in front of their replies.

        A lifetime is told in seconds from now and written back somewhat later: by and by, an entry that is written
        all the time would never expire. As a point in the server's own time it stays where it is.
        """
        request = wire.pack_meta(b"mg", keys, flags, 0, len(keys))

        def work(connection: Connection) -> tuple[int, list[Reply]]:
            figures, replies = read_stats(connection, request, len(keys))
            return int(figures[b"time"]), replies

        return self._exchange(work, write=False)

    def _replies(self, request: bytes, count: int, write: bool) -> list[Reply]:
        def work(connection: Connection) -> list[Reply]:
            connection.send(request)
            return [_read_reply(connection) for _ in range(count)]

        return self._exchange(work, write)

    def _statuses(self, requests: Iterator[tuple[bytes, int]], count: int) -> list[bool | str]:
        """Send requests that are answered with one status each, never far ahead of the replies."""
        if not count:
            return []

        def work(connection: Connection) -> list[bool | str]:
            statuses: list[bool | str] = []
            asked = 0
            while len(statuses) < count:
                while asked < count and asked - len(statuses) <= WRITE_CHUNK and not connection.sending:
                    buffer, size = next(requests)
                    connection.send(buffer)
                    asked += size
                if not connection.reader.read_statuses(statuses, asked):
                    connection.pump()
            return statuses

        return self._exchange(work, write=True)

    def _exchange(self, work: Callable[[Connection], T], write: bool) -> T:
        """Do ``work`` on a connection; reads are repeated once where the connection was stale."""
        attempts = 1 if write else 2
        while True:
            attempts -= 1
            lease = self._pool.lease()
            try:
                with lease as connection:
                    return work(connection)
            except (OSError, ValueError) as error:
                if not attempts or not is_stale(lease.connection, error):
                    maybe_applied = write and lease.connection.sent
                    raise BackendError(f"{self.server}: {error}", maybe_applied=maybe_applied) from error

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


def _read_reply(connection: Connection) -> Reply:
    while (reply := connection.reader.read_reply()) is None:
        connection.pump()
    return reply


def read_stats(connection: Connection, request: bytes, count: int = 0) -> tuple[dict[bytes, bytes], list[Reply]]:
    """Ask for the server's figures, and for ``request`` right after them."""
    connection.send(b"stats\r\n" + request)
    figures: dict[bytes, bytes] = {}
    while (reply := _read_reply(connection))[0] != b"END":
        word, words, _ = reply
        if word != b"STAT" or not words:
            raise ValueError(f"expected the server's figures, got {word[:80]!a}")
        figures[words[0]] = b" ".join(words[1:])
    return figures, [_read_reply(connection) for _ in range(count)]


def number_of(flags: list[bytes], name: bytes) -> int:
    """Give the number that the server returned under a flag."""
    for flag in flags:
        if flag[:1] == name:
            try:
                return int(flag[1:])
            except ValueError:
                break
    raise BackendError(f"memcached answered without the flag {name.decode()} that it was asked for")
