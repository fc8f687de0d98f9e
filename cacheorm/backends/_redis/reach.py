"""What transports to several servers need beside connections that they are given, for threads and for event loops."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from .._driving import run_blocking
from .blocking import BlockingLink, BlockingLinks
from .direct import DirectLink
from .endpoint import Endpoint
from .transport import Links

if TYPE_CHECKING:
    from .._turns import Entrance

__all__ = ["Admission", "AwaitedReach", "BlockingReach", "Reach"]


class Admission(Protocol):
    """Conditions for each new connection to a server. What refuses it is an error of the driver's."""

    async def before(self) -> None:
        """Check what can be known before the server is spoken to."""

    async def after(self, connection: Any) -> None:
        """Check a connection of redis-py that is ready for commands."""


class Reach(Protocol):
    """How servers are reached, by threads or by the tasks of one event loop."""

    def links(self, endpoint: Endpoint, admission: Admission | None = None) -> Links:
        """Give connections to a server; none is made yet. Once they are closed, those in use end when given back."""

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Give a lock among those who share the transport."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class BlockingReach:
    """For threads."""

    def links(self, endpoint: Endpoint, admission: Admission | None = None) -> Links:
        if admission is not None:
            greet = _greeting(admission, endpoint.options.get("redis_connect_func"))
            endpoint = endpoint.with_options(redis_connect_func=greet)
        return _RetiringLinks(endpoint.pool(), endpoint.server)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        return _ThreadLock()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AwaitedReach:
    """For the tasks of one event loop.

    Args:
        entrance: that of the backend.
    """

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    def links(self, endpoint: Endpoint, admission: Admission | None = None) -> Links:
        from .awaited import AwaitedLinks

        return AwaitedLinks(endpoint, self._entrance, admission)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        import asyncio

        return asyncio.Lock()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)


class _RetiringLinks(BlockingLinks):
    """Connections of a pool of our own: once it is closed, those in use are closed when they are given back."""

    def __init__(self, pool: Any, server: str) -> None:
        super().__init__(pool, server, lambda: pool.disconnect(inuse_connections=False))
        self._retired = False

    async def give_back(self, link: BlockingLink | DirectLink, reusable: bool) -> None:
        await super().give_back(link, reusable)
        if self._retired:
            await super().close()

    async def close(self) -> None:
        self._retired = True
        await super().close()


class _ThreadLock:
    """A lock of threads that coroutines enter. A thread that does not exist in a forked child cannot hold it there."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()
        self._lock.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self._lock.release()


def _greeting(admission: Admission, theirs: Callable[[Any], Any] | None) -> Callable[[Any], None]:
    """Make what redis-py calls with each new connection that blocks, in place of ``theirs`` or of its own."""

    def greet(connection: Any) -> None:
        try:
            run_blocking(admission.before())
            if theirs is None:
                connection.on_connect()
            else:
                theirs(connection)
            run_blocking(admission.after(connection))
        except BaseException:
            # redis-py does so after its own errors only, and keeps what Ctrl-C left in the middle.
            connection.disconnect()
            raise

    return greet
