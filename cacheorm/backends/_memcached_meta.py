"""memcached's meta commands over our own connections: the usual way to a memcached server.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Meta Commands". Keys were checked and values
are bytes when they come here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

from .._speedups import wire
from ..errors import BackendError
from ..types import KeepTTL
from ._memcached_pool import Connection, Pool
from .base import next_count

__all__ = ["MetaEngine", "exptime"]

T = TypeVar("T")
Reply = tuple[bytes, list[bytes], bytes | None]

READ_CHUNK = 250
"""Keys per request at most."""

_WRITE_CHUNK = 1000
# Requests under way at a time. Until the first reply shows how large the values are, no more than a small batch needs.
_FIRST_READS = 4
_READS_AHEAD = 12
# Bytes of a request that are packed at once, and of the values that one request should ask for.
_WRITE_BYTES = 1 << 20
_READ_BYTES = 1 << 20

# A write that depends on what was read is repeated when somebody else was faster. Of all who try, one succeeds
# each time, so that this many failures in a row take a great many writers to one key.
_RACES = 1000

_MONTH = 30 * 24 * 3600
_END_OF_TIME = (1 << 31) - 1
_COUNTER_LIMIT = 1 << 63


def exptime(seconds: int) -> int:
    """Give a lifetime as memcached's ``exptime``: seconds up to 30 days, a Unix time beyond, 0 for ever.

    Raises:
        ValueError: it ends after 19 January 2038, where memcached's clock does: memcached would drop the entry
            at once and report success.
    """
    if seconds <= _MONTH:
        return seconds
    moment = int(time.time()) + seconds
    if moment > _END_OF_TIME:
        raise ValueError(
            f"memcached keeps no lifetime beyond 19 January 2038, got {seconds} s; use 0 for entries that never expire"
        )
    return moment


class MetaEngine:
    """The operations of a backend on one memcached 1.6 or later."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.server = pool.server

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return the entry's value, or ``None``."""
        return self._ask(key, b"v", write=False)[2]

    def has(self, key: str) -> bool:
        """Return whether there is such an entry."""
        return self._ask(key, b"", write=False)[0] == b"HD"

    def touch(self, key: str, seconds: int) -> bool:
        """Give the entry a new lifetime. Return whether there is one."""
        return self._ask(key, b"T%d" % exptime(seconds), write=True)[0] == b"HD"

    def ttl(self, key: str) -> int | None:
        """Return the seconds that the entry has left, 0 for ever, ``None`` without an entry."""
        word, flags, _ = self._ask(key, b"t", write=False)
        return None if word == b"EN" else max(0, _number(flags, b"t"))

    def count(self, key: str, delta: int, seconds: int) -> int:
        """Add to a counter; a new one starts from 0 and lives for ``seconds``.

        memcached itself counts upwards from 0, keeps the lifetime, and creates what is missing. What it cannot
        do (go below 0, and get shorter without leaving spaces behind) is read, computed and compared-and-set.
        """
        moment = exptime(seconds)
        if delta >= 0:
            request = wire.pack_meta(b"ma", [key], b"N%d J%d D%d v" % (moment, delta, delta), 0, 1)
            ((word, _, value),) = self._replies(request, 1, write=True)
            if value is not None:
                counted = int(value)
                if counted < _COUNTER_LIMIT:
                    return counted
                # It counts to twice our limit: the step is taken back, and refused as everywhere.
                self._count_by_hand(key, -delta, moment, undo=True)
                return next_count(key, b"%d" % (counted - delta), delta)
            if b"non-numeric" not in word:
                self._refuse(key, word)
        return self._count_by_hand(key, delta, moment)

    def _count_by_hand(self, key: str, delta: int, moment: int, undo: bool = False) -> int:
        for _ in range(_RACES):
            # Asked twice. When memcached counts while it answers a read, it may answer with the old value and the
            # *new* cas (its do_add_delta sets the cas of the item it has just replaced), and the swap would undo
            # that count. By the time the new cas can be seen, a second read finds the new value beside it.
            now, (first, reply) = self._inspect([key, key], b"v c t")
            word, flags, value = reply
            if word not in (b"VA", b"EN"):
                self._refuse(key, word)
            if (first[0], first[2]) != (word, value) or (value and _number(first[1], b"c") != _number(flags, b"c")):
                continue
            if undo:
                if value is None or not value.isdigit():
                    return 0  # gone, or no counter any more: nothing to take back
                counted = int(value) + delta
            else:
                counted = next_count(key, value, delta)
            data = b"%d" % counted
            if value is None:
                request = b"ms %b %d T%d ME\r\n%b\r\n" % (key.encode("utf-8"), len(data), moment, data)
            else:
                request = _pack_swap(key, data, flags, now)
            (status,) = self._statuses(iter([(request, 1)]), 1)
            if isinstance(status, str):
                self._refuse(key, status.encode("utf-8"))
            if status:
                return counted
        raise BackendError(f"{self.server}, key {key}: others changed it {_RACES} times in a row")

    # -- batches ---------------------------------------------------------------------------------

    def read_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next."""
        for attempt in (1, 2):
            lease = self._pool.lease()
            try:
                with lease as connection:
                    yield from self._read_chunks(connection, keys)
                return
            except (OSError, ValueError) as error:
                if attempt == 2 or not _stale(lease.connection, error):
                    raise BackendError(f"{self.server}: {error}") from error

    def _read_chunks(self, connection: Connection, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        due: deque[Sequence[str]] = deque()
        position, size = 0, READ_CHUNK

        def send(ahead: int) -> None:
            nonlocal position
            while position < len(keys) and len(due) < ahead:
                due.append(keys[position : position + size])
                connection.send(wire.pack_meta_get(keys, position, position + size))
                position += size

        send(_FIRST_READS)
        while due:
            part = due.popleft()
            values: list[bytes | None] = [None] * len(part)
            place = 0
            while (place := connection.reader.read_values(part, values, place, len(part))) >= 0:
                connection.pump()
            mean = wire.total_size(values) // len(values) + 1
            size = max(1, min(READ_CHUNK, _READ_BYTES // mean))
            # Before the values are handed out: the server works while the caller does.
            send(_READS_AHEAD)
            yield values

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes
    ) -> list[bool | str]:
        """Store entries. Return for each ``True``, ``False`` (condition not met) or why it was refused.

        Args:
            keys: at least one.
            values: as many.
            seconds: the lifetime; :data:`~cacheorm.types.KEEP_TTL` only with mode ``b"R"``.
            mode: ``b"S"`` (set), ``b"E"`` (add) or ``b"R"`` (replace).
        """
        if isinstance(seconds, KeepTTL):
            return self._replace_keeping(keys, values)
        moment = exptime(seconds)

        def requests() -> Iterator[tuple[bytes, int]]:
            position = 0
            while position < len(keys):
                start = position
                buffer, position = wire.pack_meta_set(
                    keys, values, moment, mode, start, start + _WRITE_CHUNK, _WRITE_BYTES
                )
                yield buffer, position - start

        return self._statuses(requests(), len(keys))

    def _replace_keeping(self, keys: Sequence[str], values: Sequence[bytes]) -> list[bool | str]:
        """Replace entries under the lifetimes they have: each is written only if nobody else wrote meanwhile."""
        result: list[bool | str] = [False] * len(keys)
        left = list(range(len(keys)))
        for _ in range(_RACES):
            changed: list[int] = []
            for start in range(0, len(left), _WRITE_CHUNK):
                part = left[start : start + _WRITE_CHUNK]
                now, replies = self._inspect([keys[i] for i in part], b"c t")
                found = [(i, flags) for i, (word, flags, _) in zip(part, replies, strict=True) if word == b"HD"]
                for i, (word, _, _) in zip(part, replies, strict=True):
                    if word not in (b"HD", b"EN"):
                        result[i] = word.decode("utf-8", "replace")
                requests = ((_pack_swap(keys[i], values[i], flags, now), 1) for i, flags in found)
                for (i, _), status in zip(found, self._statuses(requests, len(found)), strict=True):
                    result[i] = status
                    if status is False:
                        changed.append(i)  # or deleted: the next round tells
            if not changed:
                return result
            left = changed
        for i in left:
            result[i] = f"others changed it {_RACES} times in a row"
        return result

    def delete(self, keys: Sequence[str]) -> int:
        """Delete entries. Return how many there were."""

        def requests() -> Iterator[tuple[bytes, int]]:
            for start in range(0, len(keys), _WRITE_CHUNK):
                part = keys[start : start + _WRITE_CHUNK]
                yield wire.pack_meta(b"md", part, b"", 0, len(part)), len(part)

        statuses = self._statuses(requests(), len(keys))
        for key, status in zip(keys, statuses, strict=True):
            if isinstance(status, str):
                self._refuse(key, status.encode("utf-8"))
        return statuses.count(True)

    # -- the server ------------------------------------------------------------------------------

    def clear(self) -> None:
        """Drop every entry."""
        ((word, _, _),) = self._replies(b"flush_all\r\n", 1, write=True)
        if word != b"OK":
            self._refuse(None, word)

    def ping(self) -> bool:
        """Return whether the server answers."""
        ((word, _, _),) = self._replies(b"mn\r\n", 1, write=False)
        if word != b"MN":
            self._refuse(None, word)
        return True

    def stats(self) -> dict[bytes, bytes]:
        """Return the server's general figures."""
        return self._exchange(lambda connection: _read_stats(connection, b""), write=False)[0]

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    # -- how -------------------------------------------------------------------------------------

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
            figures, replies = _read_stats(connection, request, len(keys))
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
                while asked < count and asked - len(statuses) <= _WRITE_CHUNK and not connection.sending:
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
                if not attempts or not _stale(lease.connection, error):
                    maybe_applied = write and lease.connection.sent
                    raise BackendError(f"{self.server}: {error}", maybe_applied=maybe_applied) from error

    def _refuse(self, key: str | None, words: bytes) -> NoReturn:
        subject = self.server if key is None else f"{self.server}, key {key}"
        hint = " (memcached 1.6 or later is needed)" if words == b"ERROR" else ""
        raise BackendError(f"{subject}: {words.decode('utf-8', 'replace')}{hint}")


def _stale(connection: Connection, error: Exception) -> bool:
    """Tell whether a connection from the pool had broken before anything was answered on it."""
    broken = isinstance(error, OSError) and not isinstance(error, TimeoutError)
    return broken and connection.reused and not connection.answered


def _read_reply(connection: Connection) -> Reply:
    while (reply := connection.reader.read_reply()) is None:
        connection.pump()
    return reply


def _read_stats(connection: Connection, request: bytes, count: int = 0) -> tuple[dict[bytes, bytes], list[Reply]]:
    """Ask for the server's figures, and for ``request`` right after them."""
    connection.send(b"stats\r\n" + request)
    figures: dict[bytes, bytes] = {}
    while (reply := _read_reply(connection))[0] != b"END":
        word, words, _ = reply
        if word != b"STAT" or not words:
            raise ValueError(f"expected the server's figures, got {word[:80]!a}")
        figures[words[0]] = b" ".join(words[1:])
    return figures, [_read_reply(connection) for _ in range(count)]


def _number(flags: list[bytes], name: bytes) -> int:
    """Give the number that the server returned under a flag."""
    for flag in flags:
        if flag[:1] == name:
            try:
                return int(flag[1:])
            except ValueError:
                break
    raise BackendError(f"memcached answered without the flag {name.decode()} that it was asked for")


def _pack_swap(key: str, value: bytes, flags: list[bytes], now: int) -> bytes:
    """Pack a meta set that changes only what was read, and leaves its lifetime where it ends."""
    left = _number(flags, b"t")
    moment = 0 if left < 0 else now + left
    head = (key.encode("utf-8"), len(value), moment, _number(flags, b"c"), value)
    return b"ms %b %d T%d C%d MR\r\n%b\r\n" % head
