"""An adapter with blocking methods that await those of a backend, so that one set of tests runs both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from ..backends import BaseBackend

__all__ = ["AsyncAdapter"]


class AsyncAdapter:
    """Has the blocking methods of a backend, for callers in any thread; each awaits the method in one event loop.

    Args:
        backend: its methods with an ``a`` are awaited. Other methods, and attributes, are its own.
    """

    def __init__(self, backend: BaseBackend) -> None:
        self._backend = backend
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run_loop)
        self._thread.start()

    def _run_loop(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stop.wait())

    def end(self) -> None:
        """Shut the event loop down, as :func:`asyncio.run` does, and join its thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __getattr__(self, name: str) -> Any:
        awaited: Callable[..., Coroutine[Any, Any, Any]] | None = getattr(self._backend, f"a{name}", None)
        if awaited is None:
            return getattr(self._backend, name)
        return lambda *args, **named: self._run(awaited(*args, **named))

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Return the chunks, after all of them have been awaited."""

        async def collect() -> list[list[bytes | None]]:
            return [values async for values in self._backend.aget_chunks(keys)]

        chunks: list[list[bytes | None]] = self._run(collect())
        return iter(chunks)

    def scan(self, *args: Any) -> Iterator[str]:
        """Return the keys, after all of them have been awaited."""

        async def collect() -> list[str]:
            return [key async for key in self._backend.ascan(*args)]

        keys: list[str] = self._run(collect())
        return iter(keys)

    def scan_chunks(self, *args: Any) -> Iterator[list[str]]:
        """Return the lists of keys, after all of them have been awaited."""

        async def collect() -> list[list[str]]:
            return [keys async for keys in self._backend.ascan_chunks(*args)]

        lists: list[list[str]] = self._run(collect())
        return iter(lists)

    def __enter__(self) -> AsyncAdapter:
        self._run(self._backend.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run(self._backend.__aexit__(*exc_info))
