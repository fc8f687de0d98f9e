"""Packed requests over connections that redis-py owns: the usual way to a Redis server.

redis-py connects, authenticates and keeps the pool; we send whole buffers with ``send_packed_command`` and
take one ``read_response`` for each reply that is due. Two rules make that safe:

* *Read all or close.* A connection goes back to the pool only after exactly the replies that are due were
  read. On any exception in between, Ctrl-C included, it is closed: the next caller must not read our replies.
* *Never send a write twice.* redis-py retries connecting, before anything was sent. Reads are repeated once
  when the connection broke before the first reply; writes never are, and the error says ``maybe_applied``.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    RedisError,
    ResponseError,
)

from .._speedups import wire
from ..errors import BackendError

__all__ = ["PoolTransport"]

READ_CHUNK = 1000
"""Keys per MGET at most."""

_WRITE_CHUNK = 1000
_READS_AHEAD = 3
_WRITES_AHEAD = 2
# Bytes of a request that are packed at once, and of a reply that one MGET should ask for: more keeps a server
# that serves others busy, and fills the buffers on its side.
_WRITE_BYTES = 1 << 20
_READ_BYTES = 4 << 20


class _StaleError(Exception):
    """The connection broke before the first reply to a read; the driver's error is ``__cause__``."""


class PoolTransport:
    """Sends packed commands over connections of a redis-py client's pool.

    Args:
        pool: a redis-py ``ConnectionPool`` or one with its interface.
        server: the server's name for messages, without credentials.
    """

    def __init__(self, pool: Any, server: str) -> None:
        self._pool = pool
        self._server = server
        # redis-py up to 5.2 requires a command name, which it ignores; from 5.3 on giving one is deprecated.
        named = inspect.signature(pool.get_connection).parameters.get("command_name")
        self._arguments = ("_",) if named is not None and named.default is inspect.Parameter.empty else ()

    def run(self, commands: Sequence[tuple[Any, ...]], *, write: bool, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and return their replies, a ``ResponseError`` for each refused one.

        Args:
            commands: each with its name first.
            write: whether repeating the commands could change something.
            transaction: run them as one ``MULTI`` ... ``EXEC``.
        """
        if transaction:
            commands = [("MULTI",), *commands, ("EXEC",)]
        buffer = b"".join([wire.pack_command(command) for command in commands])
        replies = self._exchange(buffer, len(commands), write)
        if not transaction:
            return replies
        executed = replies[-1]
        # A command that cannot be queued says why in its own reply; EXEC then only says that it gave up.
        refused = [reply for reply in replies if isinstance(reply, ResponseError)]
        return refused or list(executed)

    def _exchange(self, buffer: bytes, count: int, write: bool) -> list[Any]:
        attempts = 1 if write else 2
        while True:
            attempts -= 1
            connection = self._connect()
            replies: list[Any] = []
            complete = False
            try:
                connection.send_packed_command([buffer])
                _read(connection, count, replies)
                complete = True
                return replies
            except (RedisError, OSError) as error:
                stale = isinstance(error, ConnectionError) and not replies
                if not (stale and attempts):
                    raise self._failure(error, write and not (count == 1 and _refused(error))) from error
            finally:
                if not complete:
                    connection.disconnect()
                self._pool.release(connection)

    def write(
        self, keys: Sequence[str], values: Sequence[bytes], ttl: int, condition: bytes
    ) -> list[bytes | ResponseError | None]:
        """Store entries and return one reply each: ``b"OK"``, ``None`` (condition not met) or the refusal.

        Args:
            keys: at least one.
            values: as many.
            ttl: seconds; 0 never expires, -1 keeps the entry's own.
            condition: ``b"NX"``, ``b"XX"`` or ``b""``.
        """
        replies: list[bytes | ResponseError | None] = []
        connection = self._connect()
        complete = False
        try:
            due: deque[int] = deque()
            position = 0
            # One chunk ahead at most: the replies of the chunk before are read while the server works on it,
            # and neither side has to buffer more than that.
            while position < len(keys) or due:
                while position < len(keys) and len(due) < _WRITES_AHEAD:
                    buffer, stop = wire.pack_set(
                        keys, values, ttl, condition, position, position + _WRITE_CHUNK, _WRITE_BYTES
                    )
                    # redis-py's health check is a PING of its own: only while no reply is due.
                    connection.send_packed_command([buffer], check_health=position == 0)
                    due.append(stop - position)
                    position = stop
                _read(connection, due.popleft(), replies)
            complete = True
        except (RedisError, OSError) as error:
            raise self._failure(error, not (len(keys) == 1 and _refused(error))) from error
        finally:
            if not complete:
                connection.disconnect()
            self._pool.release(connection)
        return replies

    def read_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the server makes the next."""
        try:
            yield from self._read_chunks(keys)
        except _StaleError:
            try:
                yield from self._read_chunks(keys)
            except _StaleError as stale:
                raise self._failure(stale.__cause__, False) from stale.__cause__

    def _read_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        connection = self._connect()
        complete = answered = False
        # Until the first reply shows how large the values are, only one request is under way.
        ahead, size = 1, READ_CHUNK
        try:
            due = position = 0
            while position < len(keys) or due:
                while position < len(keys) and due < ahead:
                    stop = position + size
                    buffer = wire.pack_keys(b"MGET", keys, position, stop)
                    connection.send_packed_command([buffer], check_health=position == 0)
                    due += 1
                    position = stop
                values = connection.read_response(disable_decoding=True)
                due -= 1
                answered = True
                ahead = _READS_AHEAD
                mean = wire.total_size(values) // len(values) + 1
                size = max(1, min(READ_CHUNK, _READ_BYTES // mean))
                complete = position >= len(keys) and not due
                yield values
        except ResponseError as error:
            raise self._failure(error, False) from error
        except (RedisError, OSError) as error:
            if isinstance(error, ConnectionError) and not answered:
                raise _StaleError from error
            raise self._failure(error, False) from error
        finally:
            # Also where the caller abandons the iterator half-way.
            if not complete:
                connection.disconnect()
            self._pool.release(connection)

    def _connect(self) -> Any:
        try:
            return self._pool.get_connection(*self._arguments)
        except (RedisError, OSError) as error:
            raise self._failure(error, False) from error

    def _failure(self, error: BaseException | None, maybe_applied: bool) -> BackendError:
        return BackendError(f"{self._server}: {error}", maybe_applied=maybe_applied)


def _read(connection: Any, count: int, replies: list[Any]) -> None:
    read = connection.read_response
    append = replies.append
    for _ in range(count):
        try:
            append(read(disable_decoding=True))
        except ResponseError as error:  # a reply like any other: the next one is due all the same
            append(error.with_traceback(None))


def _refused(error: BaseException) -> bool:
    """Tell replies that redis-py raises as connection errors: the server did answer, and did nothing."""
    return isinstance(error, (AuthenticationError, BusyLoadingError))
