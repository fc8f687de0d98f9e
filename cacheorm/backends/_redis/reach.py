"""What transports to several servers need beside connections that they are given, for threads and for event loops."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from .._driving import run_blocking
from .blocking import BlockingLink, BlockingLinks
from .direct import DirectLink
from .endpoint import Endpoint
from .transport import Links

if TYPE_CHECKING:
    from .._turns import Entrance

__all__ = ["Admit", "AwaitedReach", "BlockingReach", "Reach"]

Admit = Callable[[Any], Awaitable[None]]
"""Is given each connection of redis-py when it has been made, to finish it or to refuse it with an error of the
driver's."""


class Reach(Protocol):
    """How servers are reached, by threads or by the tasks of one event loop."""

    def links(self, endpoint: Endpoint, admit: Admit | None = None) -> Links:
        """Give connections to a server; none is made yet. Once they are closed, those in use end when given back."""

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Give a lock among those who share the transport."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class BlockingReach:
    """For threads."""

    def links(self, endpoint: Endpoint, admit: Admit | None = None) -> Links:
        if admit is not None:
            endpoint = endpoint.with_options(redis_connect_func=_blocking(admit))
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

    def links(self, endpoint: Endpoint, admit: Admit | None = None) -> Links:
        from .awaited import AwaitedLinks

        if admit is not None:
            endpoint = endpoint.with_options(redis_connect_func=admit)
        return AwaitedLinks(endpoint, self._entrance)

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


def _blocking(admit: Admit) -> Callable[[Any], None]:
    def run(connection: Any) -> None:
        try:
            run_blocking(admit(connection))
        except BaseException:
            # redis-py does so after its own errors only, and keeps what Ctrl-C left in the middle.
            connection.disconnect()
            raise

    return run
