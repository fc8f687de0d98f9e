"""memcached's meta commands over our own connections: the usual way to a memcached server.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Meta Commands". Keys were checked and values
are bytes when they come here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from ..._speedups import wire
from ...types import KeepTTL, PoolState
from .._driving import Chunks, OnePart
from ..base import later_part, next_count
from .exchange import RACES, WRITE_CHUNK, Connection, Exchange, Reply, is_stale, number_of, numbers_of, read_stats

__all__ = ["READ_CHUNK", "MetaEngine", "exptime"]

READ_CHUNK = 250
"""Keys per request at most."""

# Requests under way at a time. Until the first reply shows how large the values are, no more than a small batch needs.
_FIRST_READS = 4
_READS_AHEAD = 12
# Bytes of a request that are packed at once, and of the values that one request should ask for.
_WRITE_BYTES = 1 << 20
_READ_BYTES = 1 << 20

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


class MetaEngine(Exchange):
    """The operations of a backend on one memcached 1.6 or later."""

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """Return the entry's value, or ``None``."""
        return (await self._ask(key, b"v", write=False))[2]

    async def has(self, key: str) -> bool:
        """Return whether there is such an entry."""
        return (await self._ask(key, b"", write=False))[0] == b"HD"

    async def touch(self, key: str, seconds: int) -> bool:
        """Give the entry a new lifetime. Return whether there is one."""
        return (await self._ask(key, b"T%d" % exptime(seconds), write=True))[0] == b"HD"

    async def ttl(self, key: str) -> int | None:
        """Return the seconds that the entry has left, 0 for ever, ``None`` without an entry."""
        word, flags, _ = await self._ask(key, b"t", write=False)
        return None if word == b"EN" else max(0, number_of(flags, b"t"))

    async def count(self, key: str, delta: int, seconds: int) -> int:
        """Add to a counter; a new one starts from 0 and lives for ``seconds``.

        memcached itself counts upwards from 0, keeps the lifetime, and creates what is missing. What it cannot
        do (go below 0, and get shorter without leaving spaces behind) is read, computed and compared-and-set.
        """
        moment = exptime(seconds)
        if delta >= 0:
            request = wire.pack_meta(b"ma", [key], b"N%d J%d D%d v" % (moment, delta, delta), 0, 1)
            ((word, _, value),) = await self._replies(request, 1, write=True)
            if value is not None:
                counted = int(value)
                if counted < _COUNTER_LIMIT:
                    return counted
                # It counts to twice our limit: the step is taken back, and refused as everywhere.
                await self._count_by_hand(key, -delta, moment, undo=True)
                return next_count(key, b"%d" % (counted - delta), delta)
            if b"non-numeric" not in word:
                self._refuse(key, word)
        return await self._count_by_hand(key, delta, moment)

    async def _count_by_hand(self, key: str, delta: int, moment: int, undo: bool = False) -> int:
        for _ in range(RACES):
            # Asked twice. When memcached counts while it answers a read, it may answer with the old value and the
            # *new* cas (its do_add_delta sets the cas of the item it has just replaced), and the swap would undo
            # that count. By the time the new cas can be seen, a second read finds the new value beside it.
            now, (first, reply) = await self._inspect([key, key], b"v c t")
            word, flags, value = reply
            if word not in (b"VA", b"EN"):
                self._refuse(key, word)
            if (first[0], first[2]) != (word, value) or (value and number_of(first[1], b"c") != number_of(flags, b"c")):
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
                (end,) = _ends([flags], now)
                ((request, _),) = _pack_swaps([(key, data, number_of(flags, b"c"), end)])
            (status,) = await self._statuses(iter([(request, 1)]), 1)
            if isinstance(status, str):
                self._refuse(key, status.encode("utf-8"))
            if status:
                return counted
        raise self._raced(key)

    # -- batches ---------------------------------------------------------------------------------

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next."""
        return OnePart(self._read, keys) if 0 < len(keys) <= READ_CHUNK else self._read_parts(keys)

    async def read_into(self, keys: Sequence[str], values: list[bytes | None]) -> None:
        """Add the values of ``keys`` to ``values`` as they come."""
        if 0 < len(keys) <= READ_CHUNK:
            values += await self._read(keys)
            return
        async with aclosing(self._read_parts(keys)) as chunks:
            async for chunk in chunks:
                values += chunk

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read keys that are asked for at once."""

        async def work(connection: Connection) -> list[bytes | None]:
            connection.send(wire.pack_meta_get(keys, 0, len(keys)))
            return await _read_values(connection, keys)

        return await self._exchange(work, write=False)

    async def _read_parts(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        connection = await self._pool.take()
        while True:
            reusable = stale = False
            try:
                async for values in self._read_chunks(connection, keys):
                    yield values
                reusable = connection.settled
                return
            except (OSError, ValueError) as error:
                stale = is_stale(connection, error)
                if not stale:
                    raise self._failure(error) from error
            finally:
                if not stale:
                    self._pool.give_back(connection, reusable)
            connection = await self._pool.renew(connection)

    async def _read_chunks(
        self, connection: Connection, keys: Sequence[str]
    ) -> AsyncGenerator[list[bytes | None], None]:
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
            values = await _read_values(connection, due.popleft())
            mean = wire.total_size(values) // len(values) + 1
            size = max(1, min(READ_CHUNK, _READ_BYTES // mean))
            # Before the values are handed out: the server works while the caller does.
            send(_READS_AHEAD)
            yield values

    async def write(
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
            return await self._replace_keeping(keys, values)
        moment = exptime(seconds)

        def requests() -> Iterator[tuple[bytes, int]]:
            position = 0
            while position < len(keys):
                start = position
                buffer, position = wire.pack_meta_set(
                    keys, values, moment, mode, start, start + WRITE_CHUNK, _WRITE_BYTES
                )
                yield buffer, position - start

        return await self._statuses(requests(), len(keys))

    async def _replace_keeping(self, keys: Sequence[str], values: Sequence[bytes]) -> list[bool | str]:
        """Replace entries under the lifetimes they have: each is written only if nobody else wrote meanwhile."""
        result: list[bool | str] = [False] * len(keys)
        left = list(range(len(keys)))
        later = False
        for _ in range(RACES):
            changed: list[int] = []
            for start in range(0, len(left), WRITE_CHUNK):
                part = left[start : start + WRITE_CHUNK]
                with later_part(later):
                    now, replies = await self._inspect([keys[i] for i in part], b"c t")
                    found = [i for i, (word, _, _) in zip(part, replies, strict=True) if word == b"HD"]
                    present = [flags for word, flags, _ in replies if word == b"HD"]
                    versions = zip(found, numbers_of(present, b"c"), _ends(present, now), strict=True)
                    entries = [(keys[i], values[i], token, end) for i, token, end in versions]
                    statuses = await self._statuses(_pack_swaps(entries), len(found))
                later = True
                for i, (word, _, _) in zip(part, replies, strict=True):
                    if word not in (b"HD", b"EN"):
                        result[i] = word.decode("utf-8", "replace")
                for i, status in zip(found, statuses, strict=True):
                    result[i] = status
                    if status is False:
                        changed.append(i)  # or deleted: the next round tells
            if not changed:
                return result
            left = changed
        for i in left:
            result[i] = f"others changed it {RACES} times in a row"
        return result

    async def read_cas(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]:
        """Return the value and the version of each entry, ``None`` without one."""
        read: list[tuple[bytes, int] | None] = []
        for start in range(0, len(keys), READ_CHUNK):
            part = keys[start : start + READ_CHUNK]
            request = wire.pack_meta(b"mg", part, b"v c", 0, len(part))
            replies = await self._replies(request, len(part), write=False)
            counters = [i for i, (_, _, value) in enumerate(replies) if value is not None and value.isdigit()]
            if counters:
                # Of a counter, the version may be newer than the value; see `_count_by_hand`. A second answer with
                # the first one's version has that version's value.
                again = wire.pack_meta(b"mg", [part[i] for i in counters], b"v c", 0, len(counters))
                for i, second in zip(counters, await self._replies(again, len(counters), write=False), strict=True):
                    replies[i] = second if second[1:] == replies[i][1:] else await self._settle(part[i], second)
            for key, (word, _, _) in zip(part, replies, strict=True):
                if word not in (b"VA", b"EN"):
                    self._refuse(key, word)
            versions = iter(numbers_of([flags for _, flags, value in replies if value is not None], b"c"))
            read += [None if value is None else (value, next(versions)) for _, _, value in replies]
        return read

    async def _settle(self, key: str, last: Reply) -> Reply:
        for _ in range(RACES):
            reply = await self._ask(key, b"v c", write=False)
            if reply[1:] == last[1:]:
                return reply
            last = reply
        raise self._raced(key)

    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL
    ) -> list[bool | str]:
        """Store each entry if its version is still that of the token. Return as :meth:`write` does."""
        if not isinstance(seconds, KeepTTL):
            return await self._swap(keys, values, tokens, [exptime(seconds)] * len(keys))
        result: list[bool | str] = []
        for start in range(0, len(keys), WRITE_CHUNK):
            part = slice(start, start + WRITE_CHUNK)
            with later_part(start > 0):
                now, replies = await self._inspect(keys[part], b"t")
                # What is not there any more has no lifetime to keep: its version cannot match either.
                ends = iter(_ends([flags for word, flags, _ in replies if word == b"HD"], now))
                moments = [next(ends) if word == b"HD" else 0 for word, _, _ in replies]
                result += await self._swap(keys[part], values[part], tokens[part], moments)
        return result

    async def _swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], moments: Sequence[int]
    ) -> list[bool | str]:
        return await self._statuses(_pack_swaps(zip(keys, values, tokens, moments, strict=True)), len(keys))

    async def touch_many(self, keys: Sequence[str], seconds: int) -> list[bool | str]:
        """Give entries a new lifetime. Return for each whether there is one, or why it was refused."""
        return await self._statuses(self._plain(b"mg", keys, b"T%d" % exptime(seconds)), len(keys))

    @staticmethod
    def _plain(name: bytes, keys: Sequence[str], flags: bytes) -> Iterator[tuple[bytes, int]]:
        """Pack commands without values, in parts."""
        for start in range(0, len(keys), WRITE_CHUNK):
            part = keys[start : start + WRITE_CHUNK]
            yield wire.pack_meta(name, part, flags, 0, len(part)), len(part)

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete entries. Return how many there were."""
        statuses = await self._statuses(self._plain(b"md", keys, b""), len(keys))
        for key, status in zip(keys, statuses, strict=True):
            if isinstance(status, str):
                self._refuse(key, status.encode("utf-8"))
        return statuses.count(True)

    # -- the server ------------------------------------------------------------------------------

    async def clear(self) -> None:
        """Drop every entry."""
        ((word, _, _),) = await self._replies(b"flush_all\r\n", 1, write=True)
        if word != b"OK":
            self._refuse(None, word)

    async def ping(self) -> bool:
        """Return whether the server answers."""
        ((word, _, _),) = await self._replies(b"mn\r\n", 1, write=False)
        if word != b"MN":
            self._refuse(None, word)
        return True

    async def stats(self) -> dict[bytes, bytes]:
        """Return the server's general figures."""
        return (await self._exchange(lambda connection: read_stats(connection, b""), write=False))[0]

    def pools(self) -> list[PoolState]:
        """Return how the connections are used."""
        return [self._pool.state()]

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.close()


async def _read_values(connection: Connection, keys: Sequence[str]) -> list[bytes | None]:
    """Read the reply to one request for values."""
    values: list[bytes | None] = [None] * len(keys)
    place = 0
    while (place := connection.reader.read_values(keys, values, place, len(keys))) >= 0:
        await connection.pump()
    return values


def _ends(flags_of_each: Iterable[list[bytes]], now: int) -> list[int]:
    """Return the ``exptime`` at which each of several entries ends that were read at ``now``."""
    return [0 if left < 0 else now + left for left in numbers_of(flags_of_each, b"t")]


def _pack_swaps(entries: Iterable[tuple[str, bytes, int, int]]) -> Iterator[tuple[bytes, int]]:
    """Pack meta sets that change only the version of an entry that was read, many to a buffer.

    Args:
        entries: key, value, version and ``exptime`` of each.

    Yields:
        A buffer, and how many requests are in it.
    """
    buffers: list[bytes] = []
    size = 0
    for key, value, version, exptime in entries:
        buffer = b"ms %b %d T%d C%d MR\r\n%b\r\n" % (key.encode("utf-8"), len(value), exptime, version, value)
        buffers.append(buffer)
        size += len(buffer)
        if size >= _WRITE_BYTES or len(buffers) == WRITE_CHUNK:
            yield b"".join(buffers), len(buffers)
            buffers, size = [], 0
    if buffers:
        yield b"".join(buffers), len(buffers)
