"""Connections that are kept between two uses, with as few steps and system calls for each as there can be.

CPython asks the operating system whether a socket with a timeout is ready before each call, even where the call would
not wait. Here the socket blocks, and the system keeps the time: ``SO_RCVTIMEO`` and ``SO_SNDTIMEO``
(https://man7.org/linux/man-pages/man7/socket.7.html). And the pool of redis-py looks at a connection each time that it
hands one out, which costs as much as to send a request.
"""

from __future__ import annotations

import _socket
import builtins
import math
import os
import socket
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any, Self

from redis.connection import AbstractConnection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    TimeoutError,  # noqa: A004 -- likewise
)

from ..._speedups import wire
from .replies import find_feed
from .transport import MOMENT

__all__ = ["DirectLink", "receive_from"]

_PEEK = getattr(socket, "MSG_PEEK", 0) | getattr(socket, "MSG_DONTWAIT", 0)


class DirectLink:
    """A :class:`~.transport.Link` whose coroutines block, on the socket itself.

    Made by :meth:`over`.

    Attributes:
        connection: of redis-py.
        permits: where its permit goes back to.
        keepable: whether it may be used again without redis-py looking at it first.
    """

    __slots__ = ("_feed", "_since", "_source", "_timeout", "connection", "keepable", "permits")

    def __init__(self, connection: Any, feed: Callable[[bytes], Any], permits: Any) -> None:
        self.connection = connection
        self.permits = permits
        self.keepable = True
        self._feed = feed
        self._since = 0.0
        self._source: socket.socket = connection._sock
        self._timeout = self._source.gettimeout()
        self._source.settimeout(None)

    @classmethod
    def over(cls, connection: Any, permits: Any) -> Self | None:
        """Make one of a connection; ``None`` where redis-py, or somebody else, has to see all that is sent and read."""
        source = connection._sock
        made = type(connection)
        plain = (
            # Neither TLS nor a socket that lets others run while it waits, such as gevent's.
            getattr(type(source), "recv_into", None) is _socket.socket.recv_into
            and getattr(type(source), "sendall", None) is _socket.socket.sendall
            and made.send_packed_command is AbstractConnection.send_packed_command
            and made.check_health is AbstractConnection.check_health
            # What redis-py does between two uses: a PING, and to log in anew with credentials that change.
            and not connection.health_check_interval
            and getattr(connection, "credential_provider", None) is None
        )
        feed = find_feed(connection, AbstractConnection) if plain else None
        return cls(connection, feed, permits) if feed is not None and _keep_time(source) else None

    @property
    def feed(self) -> Callable[[bytes], Any] | None:
        """Gives bytes to the driver's parser."""
        return self._leave_rest

    def usable(self, sure: bool) -> bool:
        """Tell whether redis-py need not look at it; without ``sure`` no more is asked if it was used a moment ago."""
        connection = self.connection
        if connection._sock is not self._source or getattr(connection, "_should_reconnect", False):
            return False
        if not sure and monotonic() - self._since < MOMENT:
            return True
        try:
            self._source.recv(1, _PEEK)
        except BlockingIOError:
            return self._source.gettimeout() is None  # nothing has come, not even the end
        except OSError:
            pass
        return False

    def keep(self) -> None:
        """Remember when it was used."""
        self._since = monotonic()

    def part(self) -> None:
        """Leave the socket as redis-py expects it."""
        self.keepable = False
        if self._source.fileno() >= 0:
            self._source.settimeout(self._timeout)

    async def send(self, buffer: bytes, check_health: bool) -> None:
        try:
            self._source.sendall(buffer)
        except (BlockingIOError, builtins.TimeoutError) as error:
            raise TimeoutError("Timeout writing to socket") from error
        except OSError as error:
            raise ConnectionError(f"Error while writing to socket: {error}") from error

    async def receive(self, reader: wire.RespReader) -> None:
        receive_from(self._source, reader)

    async def parse(self) -> Any:
        if self.keepable:
            self.part()
        return self.connection.read_response(disable_decoding=True)

    def _leave_rest(self, data: bytes) -> None:
        # What the parser holds is not seen by whoever reads the socket.
        self.part()
        self._feed(data)


def receive_from(source: socket.socket, reader: wire.RespReader) -> None:
    """Give a reader what arrives next on a socket that blocks; raises the driver's errors."""
    try:
        size = source.recv_into(reader.room())
    except (BlockingIOError, builtins.TimeoutError) as error:
        raise TimeoutError("Timeout reading from socket") from error
    except OSError as error:
        raise ConnectionError(f"Error while reading from socket: {error}") from error
    if not size:
        raise ConnectionError("Connection closed by server.")
    reader.fill(size)


def _keep_time(source: socket.socket) -> bool:
    """Have the system end what takes longer than the timeout of a socket; false where it cannot."""
    timeout = source.gettimeout()
    if timeout is None:
        return bool(_PEEK)
    if os.name != "posix" or not _PEEK or not timeout:
        return False
    seconds = math.floor(timeout)
    # A timeval; of zero it would wait for ever.
    limit = struct.pack("@ll", seconds, max(1, int((timeout - seconds) * 1_000_000)))
    try:
        source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    except OSError:
        return False
    return True
