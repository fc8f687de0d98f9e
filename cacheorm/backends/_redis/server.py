"""One Redis server: packed requests over connections that redis-py makes.

redis-py connects and authenticates; whole buffers are sent, and exactly the replies that are due are read. Two rules
make that safe:

* *Read all or close.* A connection goes back to its pool only after exactly the replies that are due were
  read. On any exception in between, Ctrl-C and the end of a task included, it is closed: the next caller must not
  read our replies.
* *Never send a write twice.* redis-py retries connecting, before anything was sent. Reads are repeated once
  when the connection broke before the first reply; writes never are, and the error says ``maybe_applied``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    RedisError,
    ResponseError,
)

from ..._speedups import wire
from ...errors import BackendError, CacheORMError
from ...types import PoolState
from .._driving import Chunks, OnePart
from .replies import Replies
from .transport import Command, Effect, Link, Links

__all__ = ["WRITE_BYTES", "WRITE_CHUNK", "Server", "as_replies", "is_one_read", "joined"]

_READ_CHUNK = 500
# Requests under way at a time. Until the first reply shows how large the values are, no more than a small batch needs.
_FIRST_READS = 2
_READS_AHEAD = 4
_WRITES_AHEAD = 2
# Bytes of the reply that one MGET should ask for: more keeps a server that serves others busy.
_READ_BYTES = 2 << 20

WRITE_CHUNK = 1000
"""Commands that are sent at once."""

WRITE_BYTES = 1 << 20
"""Bytes of commands that are packed at once: more fills the buffers on both sides."""

Packed = Iterator[tuple[bytes, int]]
"""Buffers of commands, each with the number of replies that are due for it."""


class _StaleError(Exception):
    """The connection broke before the first reply to a read; the driver's error is ``__cause__``."""


class Server:
    """A :class:`~.transport.Transport` to one server.

    Args:
        links: connections to it.
    """

    def __init__(self, links: Links) -> None:
        self.server = links.server
        self._links = links
        self._readers: list[wire.RespReader] = []

    async def run(self, key: str, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and give their replies."""
        return await self._run(commands, effect, transaction)

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect) -> list[list[Any]]:
        """Send commands to the server; give their replies, as those of one of one."""
        return [as_replies(self.server, await self._run(commands, effect, False))]

    async def _run(self, commands: Sequence[Command], effect: Effect, transaction: bool) -> list[Any]:
        if len(commands) == 1:
            return await self._exchange(wire.pack_command(commands[0]), 1, effect)
        if transaction:
            commands = [("MULTI",), *commands, ("EXEC",)]
        buffer = b"".join([wire.pack_command(command) for command in commands])
        replies = await self._exchange(buffer, len(commands), effect)
        if not transaction:
            return replies
        executed = replies[-1]
        # A command that cannot be queued says why in its own reply; EXEC then only says that it gave up.
        refused = [reply for reply in replies if isinstance(reply, ResponseError)]
        return refused or list(executed)

    async def _exchange(self, buffer: bytes, count: int, effect: Effect) -> list[Any]:
        attempts = 2 if effect is Effect.READ else 1
        while True:
            attempts -= 1
            link = await self._links.take(attempts == 0)
            replies: list[Any] = []
            complete = False
            try:
                source = Replies(link, self._readers)
                await link.send(buffer, True)
                await source.read_replies(replies, count)
                source.finish()
                complete = True
                return replies
            except (RedisError, OSError, ValueError) as error:
                stale = isinstance(error, ConnectionError) and not replies
                if not (stale and attempts):
                    maybe_applied = effect is not Effect.READ and not (count == 1 and _refused(error))
                    raise self._failure(error, maybe_applied) from error
            finally:
                await self._links.give_back(link, complete)

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into parts of at most ``limit``."""
        for start in range(0, len(keys), limit):
            yield list(range(start, min(start + limit, len(keys))))

    async def run_each(self, requests: Sequence[tuple[str, Command]], effect: Effect) -> list[Any]:
        """Send commands, never far ahead of their replies, and give those."""

        async def read(link: Link, source: Replies, replies: list[Any], count: int) -> None:
            await source.read_replies(replies, count)

        return await self._pipeline(joined(map(itemgetter(1), requests)), len(requests), effect, read)

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes
    ) -> list[bytes | Exception | None]:
        """Store entries and give one reply each."""

        def packed() -> Packed:
            position = 0
            while position < len(keys):
                start = position
                buffer, position = wire.pack_set(
                    keys, values, seconds, condition, start, start + WRITE_CHUNK, WRITE_BYTES
                )
                yield buffer, position - start

        async def read(link: Link, source: Replies, replies: list[Any], count: int) -> None:
            await source.read_statuses(replies, count)

        return await self._pipeline(packed(), len(keys), Effect.SAME, read)

    async def _pipeline(
        self,
        packed: Packed,
        count: int,
        effect: Effect,
        read: Callable[[Link, Replies, list[Any], int], Awaitable[None]],
    ) -> list[Any]:
        replies: list[Any] = []
        if not count:
            return replies
        link = await self._links.take()
        complete = False
        try:
            due: deque[int] = deque()
            asked = 0
            source = Replies(link, self._readers)
            # One part ahead at most: the replies of the part before are read while the server works on it,
            # and neither side has to buffer more than that.
            while asked < count or due:
                while asked < count and len(due) < _WRITES_AHEAD:
                    buffer, size = next(packed)
                    # redis-py's health check is a PING of its own: only while no reply is due.
                    await link.send(buffer, asked == 0)
                    asked += size
                    due.append(asked)
                await read(link, source, replies, due.popleft())
            source.finish()
            complete = True
        except (RedisError, OSError, ValueError) as error:
            maybe_applied = effect is not Effect.READ and not (count == 1 and _refused(error))
            raise self._failure(error, maybe_applied) from error
        finally:
            await self._links.give_back(link, complete)
        return replies

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next.

        Redis answers ``MGET`` of an entry that is no string (a list, a hash) as if it did not exist.
        """
        return OnePart(self.read, keys) if is_one_read(keys) else self._read_parts(keys)

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read the values of keys that are asked for at once (:func:`is_one_read`)."""
        try:
            return await self._read_once(keys, False)
        except _StaleError:
            pass
        try:
            return await self._read_once(keys, True)
        except _StaleError as stale:
            raise self._failure(stale.__cause__, False) from stale.__cause__

    async def _read_parts(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        for attempt in (1, 2):
            try:
                async with aclosing(self._read_chunks(keys, attempt == 2)) as chunks:
                    async for values in chunks:
                        yield values
                return
            except _StaleError as stale:
                if attempt == 2:
                    raise self._failure(stale.__cause__, False) from stale.__cause__

    async def _read_once(self, keys: Sequence[str], sure: bool) -> list[bytes | None]:
        link = await self._links.take(sure)
        complete = False
        try:
            replies = Replies(link, self._readers)
            await link.send(wire.pack_keys(b"MGET", keys, 0, len(keys)), True)
            values = await replies.read_values(len(keys))
            replies.finish()
            complete = True
            return values
        except ResponseError as error:
            raise self._failure(error, False) from error
        except ConnectionError as error:
            raise _StaleError from error
        except (RedisError, OSError, ValueError) as error:
            raise self._failure(error, False) from error
        finally:
            await self._links.give_back(link, complete)

    async def _read_chunks(self, keys: Sequence[str], sure: bool) -> AsyncGenerator[list[bytes | None], None]:
        if not keys:
            return
        link = await self._links.take(sure)
        complete = answered = False
        due: deque[int] = deque()
        position, size = 0, _READ_CHUNK
        lazy = not isinstance(keys, (list, tuple))

        async def send(ahead: int) -> None:
            nonlocal position
            while position < len(keys) and len(due) < ahead:
                part = keys[position : position + size]
                if lazy:
                    wire.check_keys(part)
                await link.send(wire.pack_keys(b"MGET", part, 0, len(part)), position == 0)
                due.append(len(part))
                position += len(part)

        try:
            replies = Replies(link, self._readers)
            await send(_FIRST_READS)
            while due:
                values = await replies.read_values(due.popleft())
                answered = True
                mean = wire.total_size(values) // len(values) + 1
                size = max(1, min(_READ_CHUNK, _READ_BYTES // mean))
                # Before the values are handed out: the server works while the caller does.
                await send(_READS_AHEAD)
                if not due:
                    replies.finish()
                    complete = True
                yield values
        except CacheORMError:  # of keys that are made, or checked, when they are asked for
            raise
        except ResponseError as error:
            raise self._failure(error, False) from error
        except (RedisError, OSError, ValueError) as error:
            if isinstance(error, ConnectionError) and not answered:
                raise _StaleError from error
            raise self._failure(error, False) from error
        finally:
            # Also where the caller abandons the iterator half-way.
            await self._links.give_back(link, complete)

    def pools(self) -> list[PoolState]:
        """Return how the connections are used."""
        return [self._links.state()]

    async def close(self) -> None:
        """Close the connections."""
        await self._links.close()

    def _failure(self, error: BaseException | None, maybe_applied: bool) -> BackendError:
        return BackendError(f"{self.server}: {error}", maybe_applied=maybe_applied)


def is_one_read(keys: Sequence[str]) -> bool:
    """Tell whether keys are few enough to be asked for at once, and there."""
    return type(keys) in (list, tuple) and 0 < len(keys) <= _READ_CHUNK


def joined(commands: Iterator[Command]) -> Packed:
    """Pack commands into buffers of at most so many, and so many bytes."""
    buffers: list[bytes] = []
    size = 0
    for command in commands:
        buffers.append(wire.pack_command(command))
        size += len(buffers[-1])
        if size >= WRITE_BYTES or len(buffers) == WRITE_CHUNK:
            yield b"".join(buffers), len(buffers)
            buffers, size = [], 0
    if buffers:
        yield b"".join(buffers), len(buffers)


def as_replies(server: str, replies: list[Any]) -> list[Any]:
    """Give replies of which none is a refusal; raise the first one that is."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise BackendError(f"{server}: {reply}") from reply
    return replies


def _refused(error: BaseException) -> bool:
    """Tell replies that redis-py raises as connection errors: the server did answer, and did nothing."""
    return isinstance(error, (AuthenticationError, BusyLoadingError))
