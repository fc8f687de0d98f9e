"""The driver that carries out requests in an event loop; :mod:`.sync_driver` is the other one.

asyncio is imported where it is used: programs without an event loop do not need it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from .behind import in_loop, in_thread
from .deadlines import deadline
from .requests import Behind, Call, CallFunction, Fetch, Request, Sleep, Steps, WaitFor, pauses
from .sync_driver import perform

__all__ = ["admission", "aperform", "arun", "arun_each", "awaited_reply"]

R = TypeVar("R")
T = TypeVar("T")

_CLEANUP_SECONDS = 5.0
"""How long a cancelled operation may go on: by then, most of what it has to release has expired by itself."""


async def aperform(request: Request) -> Any:
    """Carry out one request without blocking the event loop, and return the reply."""
    if isinstance(request, Fetch):
        backend, keys, decode = request
        decoded: list[Any] = []
        chunks: Any = backend.aget_chunks(keys)
        try:
            async for values in chunks:
                if len(decoded) + len(values) > len(keys):
                    raise request.miscounted(len(decoded) + len(values))
                decoded += decode(values, len(decoded))
        finally:
            await chunks.aclose()
        if len(decoded) < len(keys):
            raise request.miscounted(len(decoded))
        return decoded
    if isinstance(request, Call):
        return await getattr(request.backend, _awaited_name(request.method))(*request.args)
    if isinstance(request, CallFunction):
        return await awaited_reply((request.awaited or request.function)(*request.args))
    if isinstance(request, WaitFor):
        return await _result_of(request)
    if isinstance(request, Sleep):
        import asyncio

        return await asyncio.sleep(request.seconds)
    if isinstance(request, Behind):
        return in_loop(request.job.arun) if request.job.in_loop else in_thread(request.job.run)
    for _, row in request.rows:
        await request.sender.asend(instance=row, **request.details)
    return None


@functools.cache
def _awaited_name(method: str) -> str:
    return f"a{method}"


def admission(backend: Any) -> Awaitable[float | None] | None:
    """Return what to await before an operation begins that uses this backend first; ``None`` if it may begin at once.

    While all connections are in use, an operation waits here, before it has keys and nested coroutines. It gets the
    seconds that are left for its first request to the backend; ``None`` if these are not bounded.
    """
    admit = getattr(backend, "_admission", None)
    wait: Awaitable[float | None] | None = None if admit is None else admit()
    return wait


async def arun(
    steps: Steps[R],
    backend: Any = None,
    cleanup: Request | None = None,
    seconds: float | None = None,
    awaited: bool = True,
) -> R:
    """Run an operation to its end and return its result.

    Errors of requests are raised inside the operation, cancellation too. What a cancelled operation still has to
    release is released by a task of its own, which nobody awaits: a cancelled task ends at once, also if the server
    does not reply.

    Args:
        steps: the operation, which has not begun.
        backend: the backend that it uses first; see :func:`admission`.
        cleanup: the request with which a cancelled operation goes on. Only this function passes it, to that task.
        seconds: what is left for the first request to a backend, if the caller has awaited :func:`admission`.
        awaited: whether anybody waits for it. An operation that goes on behind an answer releases what it has itself,
            as its event loop may be about to end, and waits for it.
    """
    if (wait := admission(backend)) is not None:
        seconds = await wait
    try:
        request = next(steps) if cleanup is None else cleanup
        while True:
            try:
                if seconds is not None and isinstance(request, (Fetch, Call)):
                    with deadline(seconds):
                        seconds = None
                        reply = await aperform(request)
                else:
                    reply = perform(request) if _replies_at_once(request) else await aperform(request)
            except GeneratorExit:
                steps.close()  # nothing can be awaited any more
                raise
            except BaseException as error:
                request = steps.throw(error)
                if cleanup is None and awaited and _is_cancellation(error):
                    _go_on_behind(steps, request)
                    raise
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result


async def arun_each(items: AsyncGenerator[T, None], operation: Callable[[T], Steps[R]]) -> AsyncGenerator[R, None]:
    """Run an operation for each item as :func:`~.sync_driver.run_each` does, in an event loop."""
    async with contextlib.aclosing(items):
        async for item in items:
            yield await arun(operation(item))


def _go_on_behind(steps: Steps[Any], request: Request) -> None:
    """Start the task that runs a cancelled operation to its end.

    The event loop refers to the task by the timer that ends it.
    """
    import asyncio

    task: Any = asyncio.create_task(_release(steps, request))
    task._log_destroy_pending = False  # where the loop ends without it, nobody has to be told


async def _release(steps: Steps[Any], request: Request) -> None:
    """Run a cancelled operation to its end, from a request on; log an error."""
    import asyncio

    try:
        async with asyncio.timeout(_CLEANUP_SECONDS):
            await arun(steps, cleanup=request)
    except (asyncio.CancelledError, TimeoutError):
        pass  # the first is what the operation itself ends with
    except Exception as error:  # noqa: BLE001 - nobody awaits the task
        import logging

        logging.getLogger("cacheorm").warning("an operation that was cancelled ended with %r", error)


def _replies_at_once(request: Request) -> bool:
    """Return whether the backend replies without waiting, so that nested coroutines would only cost time."""
    # Anything that behaves like a backend is one; such an object need not have this attribute.
    return isinstance(request, (Fetch, Call)) and getattr(request.backend, "in_process", False)


def _is_cancellation(error: BaseException) -> bool:
    import asyncio

    return isinstance(error, asyncio.CancelledError)


async def awaited_reply(reply: Any) -> Any:
    """Return what a function returned, awaited if it has to be."""
    if isinstance(reply, Awaitable):
        return await reply
    if isinstance(reply, AsyncIterator):
        return [row async for row in reply]
    return reply


async def _result_of(request: WaitFor) -> Any:
    """Wait for the work of a thread or a task, perhaps of another event loop; return its result."""
    import asyncio

    work = request.work
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def set_done() -> None:
        if not done.done():
            done.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks with it
            loop.call_soon_threadsafe(set_done)

    work.when_done(wake)
    for pause in pauses(request.seconds):
        if work.is_over:
            break
        await asyncio.wait([done], timeout=pause)
    return work.result()
