"""What else depends on whether coroutines suspend: making connections, taking turns, and waiting."""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from .blocking import BlockingReach
from .endpoint import Endpoint
from .transport import Links

__all__ = ["AwaitedRuntime", "BlockingRuntime", "Runtime"]


class Runtime(Protocol):
    """What a transport to several servers needs beside connections that it is given."""

    def links(self, endpoint: Endpoint) -> Links:
        """Give connections to a server; none is made yet."""

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """Give a lock for those who share a transport."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class BlockingRuntime:
    """For threads."""

    def links(self, endpoint: Endpoint) -> Links:
        return BlockingReach().links(endpoint, None)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        return _ThreadLock()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class AwaitedRuntime:
    """For the tasks of one event loop."""

    def links(self, endpoint: Endpoint) -> Links:
        from .awaited import AwaitedLinks

        return AwaitedLinks(endpoint)

    def lock(self) -> AbstractAsyncContextManager[Any]:
        import asyncio

        return asyncio.Lock()

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)


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
