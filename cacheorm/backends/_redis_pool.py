"""Packed requests over connections that redis-py owns: the usual way to a Redis server.

redis-py connects, authenticates and keeps the pool; we send whole buffers with ``send_packed_command`` and
read exactly the replies that are due. Two rules make that safe:

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
from ._redis_replies import Replies, read_replies

__all__ = ["PoolTransport"]

_READ_CHUNK = 250
_WRITE_CHUNK = 1000
# Requests under way at a time. Until the first reply shows how large the values are, no more than a small batch needs.
_FIRST_READS = 2
_READS_AHEAD = 6
_WRITES_AHEAD = 2
# Bytes of a request that are packed at once, and of a reply that one MGET should ask for: more keeps a server
# that serves others busy, and fills the buffers on its side.
_WRITE_BYTES = 1 << 20
_READ_BYTES = 2 << 20


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
        self._notified = getattr(pool, "maint_notifications_enabled", None)
        self._readers: list[wire.RespReader] = []

    def run(self, commands: Sequence[tuple[Any, ...]], *, write: bool, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and return their replies, a ``ResponseError`` for each refused one.

        Args:
            commands: each with its name first.
            write: whether repeating the commands could change something.
            transaction: run them as one ``MULTI`` ... ``EXEC``.
        """
        if len(commands) == 1:
            return self._exchange(wire.pack_command(commands[0]), 1, write)
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
                read_replies(connection, count, replies)
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
            source = self._replies(connection)
            # One chunk ahead at most: the replies of the chunk before are read while the server works on it,
            # and neither side has to buffer more than that.
            while position < len(keys) or due:
                while position < len(keys) and len(due) < _WRITES_AHEAD:
                    buffer, stop = wire.pack_set(
                        keys, values, ttl, condition, position, position + _WRITE_CHUNK, _WRITE_BYTES
                    )
                    # redis-py's health check is a PING of its own: only while no reply is due.
                    connection.send_packed_command([buffer], check_health=position == 0)
                    due.append(stop)
                    position = stop
                source.read_statuses(replies, due.popleft())
            source.finish()
            complete = True
        except (RedisError, OSError, ValueError) as error:
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
        due: deque[int] = deque()
        position, size = 0, _READ_CHUNK

        def send(ahead: int) -> None:
            nonlocal position
            while position < len(keys) and len(due) < ahead:
                stop = min(position + size, len(keys))
                buffer = wire.pack_keys(b"MGET", keys, position, stop)
                connection.send_packed_command([buffer], check_health=position == 0)
                due.append(stop - position)
                position = stop

        try:
            replies = self._replies(connection)
            send(_FIRST_READS)
            while due:
                values = replies.read_values(due.popleft())
                answered = True
                mean = wire.total_size(values) // len(values) + 1
                size = max(1, min(_READ_CHUNK, _READ_BYTES // mean))
                # Before the values are handed out: the server works while the caller does.
                send(_READS_AHEAD)
                if not due:
                    replies.finish()
                    complete = True
                yield values
        except ResponseError as error:
            raise self._failure(error, False) from error
        except (RedisError, OSError, ValueError) as error:
            if isinstance(error, ConnectionError) and not answered:
                raise _StaleError from error
            raise self._failure(error, False) from error
        finally:
            # Also where the caller abandons the iterator half-way.
            if not complete:
                connection.disconnect()
            self._pool.release(connection)

    def _replies(self, connection: Any) -> Replies:
        # Such pools hand out connections on which the server has pushed messages, and others do not.
        return Replies(connection, self._notified is not None and bool(self._notified()), self._readers)

    def _connect(self) -> Any:
        try:
            return self._pool.get_connection(*self._arguments)
        except (RedisError, OSError) as error:
            raise self._failure(error, False) from error

    def _failure(self, error: BaseException | None, maybe_applied: bool) -> BackendError:
        return BackendError(f"{self._server}: {error}", maybe_applied=maybe_applied)


def _refused(error: BaseException) -> bool:
    """Tell replies that redis-py raises as connection errors: the server did answer, and did nothing."""
    return isinstance(error, (AuthenticationError, BusyLoadingError))
