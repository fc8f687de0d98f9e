"""Connections of redis.asyncio, in a bounded pool that belongs to one event loop."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    RedisError,
    TimeoutError,  # noqa: A004 -- likewise
)

from ..._speedups import wire
from ...errors import BackendError
from .endpoint import Endpoint
from .replies import find_feed

__all__ = ["AwaitedLink", "AwaitedLinks"]

_RECEIVE_BYTES = 1 << 16


class AwaitedLink:
    """A :class:`~.transport.Link` whose coroutines suspend.

    Args:
        connection: of redis.asyncio, connected.
        timeout: seconds without progress after which it gives up; ``None`` waits for ever.
    """

    __slots__ = ("_reader", "_timeout", "_writer", "connection", "feed")

    def __init__(self, connection: Any, timeout: float | None) -> None:
        self.connection = connection
        self.feed: Callable[[bytes], Any] | None = find_feed(connection, AbstractConnection)
        self._timeout = timeout
        self._reader: asyncio.StreamReader = connection._reader
        self._writer: asyncio.StreamWriter = connection._writer

    @property
    def alive(self) -> bool:
        """Whether it can be used, idle until now: nothing has arrived, not even its end."""
        if self.connection._writer is not self._writer or self._writer.is_closing() or self._reader.at_eof():
            return False
        # asyncio has no public way to ask what has arrived.
        return not getattr(self._reader, "_buffer", b"")

    async def send(self, buffer: bytes, check_health: bool) -> None:
        if check_health and self.connection.health_check_interval:
            await self.connection.check_health()
        try:
            self._writer.write(buffer)
            if self._writer.transport.get_write_buffer_size():
                async with asyncio.timeout(self._timeout):
                    await self._writer.drain()
        except builtins.TimeoutError as error:
            raise TimeoutError("Timeout writing to socket") from error
        except OSError as error:
            raise ConnectionError(f"Error while writing to socket: {error}") from error

    async def parse(self) -> Any:
        return await self.connection.read_response(disable_decoding=True)

    async def receive(self, reader: wire.RespReader) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                data = await self._reader.read(_RECEIVE_BYTES)
        except builtins.TimeoutError as error:
            raise TimeoutError("Timeout reading from socket") from error
        except OSError as error:
            raise ConnectionError(f"Error while reading from socket: {error}") from error
        if not data:
            raise ConnectionError("Connection closed by server.")
        room = reader.room()
        room[: len(data)] = data
        reader.fill(len(data))


class AwaitedLinks:
    """Connections to one server, shared by the tasks of one event loop.

    Args:
        endpoint: the server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.server = endpoint.server
        self._endpoint = endpoint
        self._limit = endpoint.max_connections
        self._permits = asyncio.Semaphore(self._limit)
        self._idle: list[AwaitedLink] = []
        self._closed = False

    async def take(self) -> AwaitedLink:
        if self._permits.locked():
            try:
                async with asyncio.timeout(self._endpoint.patience):
                    await self._permits.acquire()
            except builtins.TimeoutError:
                raise BackendError(
                    f"{self.server}: all {self._limit} connections stayed in use for {self._endpoint.patience:g} s;"
                    " raise max_connections or socket_timeout"
                ) from None
        else:
            await self._permits.acquire()
        try:
            while self._idle:
                link = self._idle.pop()
                if link.alive:
                    return link
                await link.connection.disconnect(nowait=True)
            return await self._connect()
        except BaseException:
            self._permits.release()
            raise

    async def give_back(self, link: AwaitedLink, reusable: bool) -> None:
        # Nothing here waits, so that the end of a task cannot come in between.
        if reusable and not self._closed:
            self._idle.append(link)
            self._permits.release()
            return
        self._permits.release()
        await link.connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the idle connections, and those in use when they are given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().connection.disconnect()

    async def _connect(self) -> AwaitedLink:
        connection = self._endpoint.awaited_connection()
        try:
            await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, (RedisError, OSError)):
                raise BackendError(f"{self.server}: {error}") from error
            raise
        return AwaitedLink(connection, self._endpoint.options.get("socket_timeout"))
