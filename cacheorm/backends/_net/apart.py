"""Work that connects, in a task or a thread of its own, apart from the task that waits for it."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["wait_in_task", "wait_in_thread"]

T = TypeVar("T")

# Seconds after which a wait for a thread looks again.
_LOOK_AGAIN = 0.25


async def wait_in_task(
    work: Coroutine[Any, Any, T],
    take: Callable[[T], object],
    drop: Callable[[T | None], object],
    timeout: float | None,
) -> None:
    """Await what connects by means of asyncio, and hand on what it returns.

    Where an exception ends a coroutine as it is resumed, asyncio forgets to take the socket that is being connected out
    of its selector, and the next socket of that number would wait for ever. So this coroutine is not ended, but its
    task is cancelled.

    Args:
        work: the coroutine.
        take: called with its result.
        drop: called when it has ended in vain, with a result that was not taken.
        timeout: seconds to wait for it; ``None`` without a bound.

    Raises:
        TimeoutError: it has not ended by then.
    """

    def look(ended: asyncio.Future[T]) -> None:
        drop(None if ended.cancelled() or ended.exception() is not None else ended.result())

    task = asyncio.get_running_loop().create_task(work)
    try:
        await asyncio.wait([task], timeout=timeout)
        if not task.done():
            raise TimeoutError("timed out")
        take(task.result())
    except BaseException:
        task.cancel()
        task.add_done_callback(look)
        raise


async def wait_in_thread(call: Callable[[], Any]) -> Any:
    """Return what a function returns that blocks, called in a thread of its own.

    A result that comes after the task was cancelled goes with the last reference to it.
    """
    loop = asyncio.get_running_loop()
    results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    done: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # noqa: BLE001 -- raised in the task that waits for it
            results.put((None, error))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.cancel)

    _thread.start_new_thread(contextvars.copy_context().run, (work,))
    # Looked at again and again: a signal handler may have ended the call that was to tell.
    while results.empty():
        await asyncio.wait([done], timeout=_LOOK_AGAIN)
    value, failure = results.get()
    if failure is not None:
        raise failure
    return value
