"""A backend called through its methods that are awaited, so that one set of tests looks at both kinds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from ..backends import BaseBackend

__all__ = ["Awaited"]


class Awaited:
    """Looks like a backend to callers in any thread; all that they call runs in one event loop, side by side.

    Args:
        backend: whose methods are awaited. Those that have no twin, and attributes, are its own.
    """

    def __init__(self, backend: BaseBackend) -> None:
        self._backend = backend
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._stop.wait())

    def end(self) -> None:
        """End the event loop, as :func:`asyncio.run` does, and wait for that."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __getattr__(self, name: str) -> Any:
        twin: Callable[..., Coroutine[Any, Any, Any]] | None = getattr(self._backend, f"a{name}", None)
        if twin is None:
            return getattr(self._backend, name)
        return lambda *args, **named: self._run(twin(*args, **named))

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        """Give the chunks, all of which have been awaited."""

        async def collect() -> list[list[bytes | None]]:
            return [values async for values in self._backend.aget_chunks(keys)]

        chunks: list[list[bytes | None]] = self._run(collect())
        return iter(chunks)

    def __enter__(self) -> Awaited:
        self._run(self._backend.__aenter__())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._run(self._backend.__aexit__(*exc_info))
