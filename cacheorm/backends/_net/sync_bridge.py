"""Running coroutines without an event loop, where everything they wait for blocks.

What a network backend does between its callers and its connections is written once, as coroutines. Over connections
of asyncio they are awaited. Over connections whose coroutines block instead of suspending, they come to their end at
the first step, and that is how the synchronous methods run them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

__all__ = ["Chunks", "OnePart", "all_of", "iterate_blocking", "run_blocking"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Chunks(Protocol[T_co]):
    """What comes in parts: an asynchronous generator, or something that can be used like one."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...
    def __anext__(self) -> Awaitable[T_co]: ...
    def aclose(self) -> Awaitable[None]: ...


class OnePart(Generic[T]):
    """What comes in parts, but is one part only.

    An asynchronous generator costs several times as much: event loops keep a list of all that have begun.

    Args:
        read: gives it; a coroutine function.
        args: what that is called with.
    """

    __slots__ = ("_args", "_read")

    def __init__(self, read: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> None:
        self._read = read
        self._args = args

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T]:
        read, self._read = self._read, _end
        return read(*self._args)

    async def aclose(self) -> None:
        self._read = _end


async def all_of(chunks: Chunks[list[T]]) -> list[T]:
    """Return the items of all parts in one list."""
    if isinstance(chunks, OnePart):
        part: list[T] = await chunks.__anext__()
        return part
    items: list[T] = []
    async for part in chunks:
        items += part
    return items


async def _end(*args: Any) -> NoReturn:
    raise StopAsyncIteration


def run_blocking(work: Awaitable[T]) -> T:
    """Run a coroutine that never suspends, and give its result.

    Raises:
        RuntimeError: it suspended: it waits for something that only an event loop can give.
    """
    coroutine: Any = work
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("this connection needs an event loop: use the methods whose names begin with 'a'")


def iterate_blocking(source: Chunks[T]) -> Iterator[T]:
    """Iterate over what comes in parts and never suspends; it is closed when the iterator is."""
    return iter((run_blocking(source.__anext__()),)) if isinstance(source, OnePart) else _iterate(source)


def _iterate(source: Chunks[T]) -> Iterator[T]:
    try:
        while True:
            try:
                item = run_blocking(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        run_blocking(source.aclose())
