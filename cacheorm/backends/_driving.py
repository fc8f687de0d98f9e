"""Running coroutines without an event loop, where everything they wait for blocks.

What a network backend does between its callers and its connections is written once, as coroutines. Over connections
of asyncio they are awaited. Over connections whose coroutines block instead of suspending, they come to their end at
the first step, and that is how the synchronous methods run them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator
from typing import Any, TypeVar, cast

__all__ = ["iterate_blocking", "run_blocking"]

T = TypeVar("T")


def run_blocking(work: Awaitable[T]) -> T:
    """Run a coroutine that never suspends, and give its result.

    Raises:
        RuntimeError: it suspended: it waits for something that only an event loop can give.
    """
    coroutine = cast("Coroutine[Any, Any, T]", work)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    coroutine.close()
    raise RuntimeError("this connection needs an event loop: use the methods whose names begin with 'a'")


def iterate_blocking(source: AsyncGenerator[T, None]) -> Iterator[T]:
    """Iterate over an asynchronous generator that never suspends; it is closed when the iterator is."""
    try:
        while True:
            try:
                item = run_blocking(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_blocking(source.aclose())
