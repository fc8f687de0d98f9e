"""Connections of redis-py that block, out of the pool of a client."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from redis.connection import AbstractConnection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    RedisError,
)

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState
from .._busy import BusyError
from .direct import DirectLink, receive_from
from .replies import find_feed

__all__ = ["BlockingLink", "BlockingLinks"]

# A pool of more connections than this is one without bounds.
_UNBOUNDED = 1 << 20


class BlockingLink:
    """A :class:`~.transport.Link` whose coroutines block.

    Args:
        connection: of redis-py.
        pushed: whether its parser may hold messages that the server pushed.
        permits: where its permit goes back to.
    """

    __slots__ = ("_pushed", "connection", "permits")

    def __init__(self, connection: Any, pushed: bool, permits: SimpleQueue[None] | None) -> None:
        self.connection = connection
        self.permits = permits
        self._pushed = pushed

    @property
    def feed(self) -> Callable[[bytes], Any] | None:
        """Gives bytes to the driver's parser; ``None`` where nobody may read past it."""
        if self._pushed and self.connection.can_read():
            return None
        return find_feed(self.connection, AbstractConnection)

    async def send(self, buffer: bytes, check_health: bool) -> None:
        self.connection.send_packed_command([buffer], check_health=check_health)

    async def parse(self) -> Any:
        return self.connection.read_response(disable_decoding=True)

    async def receive(self, reader: wire.RespReader) -> None:
        # Another thread that disconnects a connection takes the socket away from it.
        source = self.connection._sock
        if source is None:
            raise ConnectionError("Connection closed by server.")
        receive_from(source, reader)


class BlockingLinks:
    """The connections of a redis-py pool, shared by threads; a forked child gets connections of its own.

    Of a pool that is ours, some are kept here when they are given back, the one that was used last on top.

    Args:
        pool: a redis-py ``ConnectionPool`` or one with its interface.
        server: the server's name for messages, without credentials.
        close: closes the pool, if it is ours to close.
    """

    def __init__(self, pool: Any, server: str, close: Callable[[], Any] | None) -> None:
        self.server = server
        self._pool = pool
        self._close = close
        # redis-py up to 5.2 requires a command name, which it ignores; from 5.3 on giving one is deprecated.
        named = inspect.signature(pool.get_connection).parameters.get("command_name")
        self._arguments = ("_",) if named is not None and named.default is inspect.Parameter.empty else ()
        self._notified = getattr(pool, "maint_notifications_enabled", None)
        self._limit: int = getattr(pool, "max_connections", None) or _UNBOUNDED
        options = getattr(pool, "connection_kwargs", {})
        self._patience: float = getattr(pool, "timeout", None) or options.get("socket_timeout") or 5
        # The pool's own client may be used as well: leave it some.
        self._most_kept = 0 if close is None else self._limit // 2
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._kept: list[DirectLink] = []
        self._waiting: list[None] = []
        self._permits: SimpleQueue[None] | None = None
        if self._limit < _UNBOUNDED:
            # redis-py's pool refuses when it is exhausted: those who wait for a permit first are not refused.
            self._permits = SimpleQueue()
            for _ in range(self._limit):
                self._permits.put(None)

    async def take(self, sure: bool = True) -> BlockingLink | DirectLink:
        if self._pid != os.getpid():
            self._renew()  # a thread that does not exist here may have held permits, or the lock
        permits = self._permits
        if permits is not None:
            try:
                permits.get_nowait()
            except Empty:
                self._wait_for(permits)
        try:
            return self._kept_link(sure) or self._pooled_link(permits)
        except BaseException as error:
            if permits is not None:
                permits.put(None)
            if isinstance(error, (RedisError, OSError)):
                raise BackendError(f"{self.server}: {error}") from error
            raise

    def _wait_for(self, permits: SimpleQueue[None]) -> None:
        self._waiting.append(None)
        try:
            permits.get(timeout=self._patience)
        except Empty:
            raise BusyError(self.server, self._limit, self._patience, "socket_timeout") from None
        finally:
            self._waiting.pop()

    def _kept_link(self, sure: bool) -> DirectLink | None:
        while self._kept:
            try:
                link = self._kept.pop()
            except IndexError:  # another thread was faster
                break
            if link.usable(sure):
                return link
            self._release(link, True)  # the pool looks at it next, and connects anew if need be
        return None

    def _pooled_link(self, permits: SimpleQueue[None] | None) -> BlockingLink | DirectLink:
        connection = self._pool.get_connection(*self._arguments)
        try:
            # Such pools hand out connections on which the server has pushed messages, and others do not.
            pushed = self._notified is not None and bool(self._notified())
            unread = pushed and connection.can_read()
            direct = DirectLink.over(connection, permits) if self._most_kept and not unread else None
        except BaseException:
            connection.disconnect()
            self._pool.release(connection)
            raise
        return direct or BlockingLink(connection, pushed, permits)

    async def give_back(self, link: BlockingLink | DirectLink, reusable: bool) -> None:
        try:
            if reusable and isinstance(link, DirectLink) and link.keepable and len(self._kept) < self._most_kept:
                link.keep()
                self._kept.append(link)
            else:
                self._release(link, reusable)
        finally:
            if link.permits is not None:
                link.permits.put(None)

    def _release(self, link: BlockingLink | DirectLink, reusable: bool) -> None:
        if not reusable:
            link.connection.disconnect()
        elif isinstance(link, DirectLink) and link.keepable:
            link.part()
        self._pool.release(link.connection)

    def state(self) -> PoolState:
        idle = len(self._kept) + sum(
            getattr(connection, "_sock", None) is not None
            for connection in [*getattr(self._pool, "_available_connections", ())]
        )
        if self._permits is None:
            in_use = len(getattr(self._pool, "_in_use_connections", ())) - len(self._kept)
            return PoolState(self.server, None, in_use, idle, 0)
        return PoolState(self.server, self._limit, self._limit - self._permits.qsize(), idle, len(self._waiting))

    async def close(self) -> None:
        while self._kept:
            self._release(self._kept.pop(), True)
        if self._close is not None:
            self._close()
