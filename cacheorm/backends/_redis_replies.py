"""Replies read straight off the socket of a redis-py connection, where that is safe and faster.

redis-py makes Python calls for each reply, and without hiredis many for each value. The replies to a batch are all of
one kind, which :class:`~cacheorm._speedups.wire.RespReader` knows. When anything else arrives (a refusal, a message
that the server pushes) it is given, with all that follows, to the connection's own parser, and redis-py reads on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from redis import exceptions
from redis.connection import AbstractConnection

from .. import _speedups
from .._speedups import wire

__all__ = ["Replies", "read_replies"]

# A buffer grows with the largest value; larger ones than this are not kept for the next exchange.
_KEPT_BYTES = 1 << 20


class Replies:
    """The replies to one exchange; make it before anything is sent, and call :meth:`finish` after the last one.

    Args:
        connection: from a pool of redis-py, which has just checked it.
        pushed: whether the connection's parser may hold messages that the server pushed.
        idle: readers that nobody uses: one is taken from there, and put back in the end.
    """

    def __init__(self, connection: Any, pushed: bool, idle: list[wire.RespReader]) -> None:
        self._connection = connection
        self._idle = idle
        self._reader: wire.RespReader | None = None
        give_back = _find_feed(connection)
        if give_back is not None and not (pushed and connection.can_read()):
            self._give_back = give_back
            try:
                self._reader = idle.pop()
            except IndexError:
                self._reader = wire.RespReader()

    def read_values(self, count: int) -> list[bytes | None]:
        """Read the reply to one ``MGET`` of ``count`` keys."""
        values: list[bytes | None] = []
        while self._reader is not None:
            if self._reader.read_values(values, count):
                return values
            self._go_on(self._reader)
        return self._connection.read_response(disable_decoding=True)  # type: ignore[no-any-return]

    def read_statuses(self, statuses: list[Any], count: int) -> None:
        """Read replies to ``SET``, a ``ResponseError`` for each refusal, until there are ``count``."""
        while self._reader is not None:
            if self._reader.read_statuses(statuses, count):
                return
            self._go_on(self._reader)
        read_replies(self._connection, count, statuses)

    def finish(self) -> None:
        """Part from the connection: everything that was due has been read."""
        if self._reader is not None:
            self._put_back(self._reader)

    def _go_on(self, reader: wire.RespReader) -> None:
        """Receive more, or leave the rest to the connection's own parser."""
        if reader.foreign:
            self._put_back(reader)
            return
        # Another thread that disconnects a connection takes the socket away from it.
        source = self._connection._sock
        if source is None:
            raise exceptions.ConnectionError("Connection closed by server.")
        try:
            size = source.recv_into(reader.room())
        except TimeoutError as error:
            raise exceptions.TimeoutError("Timeout reading from socket") from error
        except OSError as error:
            raise exceptions.ConnectionError(f"Error while reading from socket: {error}") from error
        if not size:
            raise exceptions.ConnectionError("Connection closed by server.")
        reader.fill(size)

    def _put_back(self, reader: wire.RespReader) -> None:
        self._reader = None
        if reader.pending:
            self._give_back(reader.take())
        if reader.capacity <= _KEPT_BYTES:
            self._idle.append(reader)


def read_replies(connection: Any, count: int, replies: list[Any]) -> None:
    """Read replies with redis-py, a ``ResponseError`` for each refused command, until there are ``count``."""
    read = connection.read_response
    append = replies.append
    for _ in range(count - len(replies)):
        try:
            append(read(disable_decoding=True))
        except exceptions.ResponseError as error:  # a reply like any other: the next one is due all the same
            append(error.with_traceback(None))


def _find_feed(connection: Any) -> Callable[[bytes], Any] | None:
    """Find how to give bytes to a connection's parser; ``None`` where reading past it would be wrong, or slower."""
    parser = connection._parser if type(connection).read_response is AbstractConnection.read_response else None
    if not type(parser).__module__.startswith("redis."):
        return None  # somebody has made it their own: what is read has to go through it
    hiredis = getattr(parser, "_reader", None)
    if hiredis is not None:
        return hiredis.feed if _speedups.enabled else None
    buffered = getattr(getattr(parser, "_buffer", None), "_buffer", None)
    if not isinstance(buffered, io.BytesIO):
        return None

    def append(data: bytes) -> None:
        place = buffered.tell()
        buffered.seek(0, io.SEEK_END)
        buffered.write(data)
        buffered.seek(place)

    return append
