"""The driver of operations in an event loop; :mod:`.store` has what they ask for, and the other driver.

asyncio is imported where it is used: programs without an event loop do not need it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any, TypeVar

from .store import Ask, Call, Fetch, Join, Pause, Request, Shared, perform

__all__ = ["aperform", "arun", "turn_to_begin"]

R = TypeVar("R")

# The event loop itself refers to tasks weakly.
_giving_back: set[Any] = set()


async def aperform(request: Request) -> Any:
    """Do what one request asks, without blocking the event loop."""
    if isinstance(request, Fetch):
        position = 0
        chunks: Any = request.backend.aget_chunks(request.keys)
        try:
            async for values in chunks:
                request.receive(position, values)
                position += len(values)
        finally:
            await chunks.aclose()
        return None
    if isinstance(request, Call):
        return await getattr(request.backend, _twin_of(request.method))(*request.args)
    if isinstance(request, Ask):
        return await _awaited(request.function(*request.args))
    if isinstance(request, Join):
        return await _joined(request.work)
    if isinstance(request, Pause):
        import asyncio

        return await asyncio.sleep(request.seconds)
    for _, row in request.rows:
        await request.notice.asend(instance=row, **request.details)
    return None


@functools.cache
def _twin_of(method: str) -> str:
    return f"a{method}"


def turn_to_begin(backend: Any) -> Awaitable[None] | None:
    """Give what is awaited before an operation begins that asks this backend first; ``None`` if it need not wait.

    An operation waits here, before it has keys and coroutines within coroutines, while all connections are in use.
    """
    give = getattr(backend, "_turn_to_begin", None)
    turn: Awaitable[None] | None = None if give is None else give()
    return turn


async def arun(steps: Generator[Request, Any, R], backend: Any = None, owed: Request | None = None) -> R:
    """Drive an operation to its end and give its result.

    Errors are raised inside it, cancellation too. What a cancelled operation still has to give back is done by a task
    of its own, and waited for. Only who is cancelled once more, as anyio's scopes do it again and again, waits no
    longer.

    Args:
        steps: the operation, which has not begun.
        backend: what it asks first; see :func:`turn_to_begin`.
        owed: what one that was cancelled asks for before it ends; this is that task then.
    """
    if (turn := turn_to_begin(backend)) is not None:
        await turn
    try:
        request = next(steps) if owed is None else owed
        while True:
            try:
                reply = perform(request) if _is_at_hand(request) else await aperform(request)
            except GeneratorExit:
                steps.close()  # nothing can be awaited any more
                raise
            except BaseException as error:  # noqa: BLE001 - not handled here, but handed to the operation
                request = steps.throw(error)
                if owed is None and _is_cancellation(error):
                    break
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result
    import asyncio

    rest = asyncio.create_task(arun(steps, owed=request))
    _giving_back.add(rest)
    rest.add_done_callback(_giving_back.discard)
    return await asyncio.shield(rest)


def _is_at_hand(request: Request) -> bool:
    """Tell whether a request is done at once: coroutines within coroutines would only cost time."""
    # A backend may be anything that behaves like one, and then need not say where its entries are.
    return isinstance(request, (Fetch, Call)) and getattr(request.backend, "in_process", False)


def _is_cancellation(error: BaseException) -> bool:
    import asyncio

    return isinstance(error, asyncio.CancelledError)


async def _awaited(reply: Any) -> Any:
    """Give what a function of the user's gave: at once, later, or bit by bit."""
    if isinstance(reply, Awaitable):
        return await reply
    if isinstance(reply, AsyncIterator):
        return [each async for each in reply]
    return reply


async def _joined(work: Shared) -> Any:
    """Wait for what a thread or a task is doing, perhaps in another event loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle() -> None:
        if not done.done():
            done.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    work.when_done(wake)
    await done
    return work.wait()
