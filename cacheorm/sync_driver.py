"""The driver that carries out requests in the calling thread; :mod:`.async_driver` is the other one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar

from .behind import in_thread
from .loaders import OnlyAwaitedError
from .requests import Behind, Call, CallFunction, Fetch, Request, Sleep, Steps, WaitFor

__all__ = ["perform", "run", "run_each"]

R = TypeVar("R")
T = TypeVar("T")


def perform(request: Request) -> Any:
    """Carry out one request and return the reply."""
    if isinstance(request, Call):
        return getattr(request.backend, request.method)(*request.args)
    if isinstance(request, Fetch):
        backend, keys, decode = request
        decoded: list[Any] = []
        for values in backend.get_chunks(keys):
            if len(decoded) + len(values) > len(keys):
                raise request.miscounted(len(decoded) + len(values))
            decoded += decode(values, len(decoded))
        if len(decoded) < len(keys):
            raise request.miscounted(len(decoded))
        return decoded
    if isinstance(request, CallFunction):
        return _not_awaitable(request, request.function(*request.args))
    if isinstance(request, WaitFor):
        return request.work.wait(request.seconds)
    if isinstance(request, Sleep):
        return time.sleep(request.seconds)
    if isinstance(request, Behind):
        return not request.job.only_awaited and in_thread(request.job.run)
    for _, row in request.rows:
        request.sender.send(instance=row, **request.details)
    return None


def _not_awaitable(request: CallFunction, reply: Any) -> Any:
    """Refuse what a function returned if it can only be awaited."""
    if isinstance(reply, (Awaitable, AsyncIterator)):
        if isinstance(reply, Coroutine):
            reply.close()  # otherwise it warns that it was never awaited
        raise OnlyAwaitedError(
            f"{request.role} gave {type(reply).__name__}, which can only be awaited: use the methods for that,"
            " whose names begin with 'a', such as aexecute() and aget_or_load()"
        )
    return reply


def run(steps: Steps[R]) -> R:
    """Run an operation to its end and return its result.

    Errors of requests are raised inside the operation, interruptions too, since it may have to release something.
    """
    try:
        request = next(steps)
        while True:
            try:
                reply = perform(request)
            except BaseException as error:  # noqa: BLE001 - not handled here, but handed to the operation
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result
    except BaseException:
        # One that struck in here, as signals may, has not reached the operation; a traceback may keep it.
        steps.close()
        raise


def run_each(items: Iterator[T], operation: Callable[[T], Steps[R]]) -> Generator[R, None, None]:
    """Run an operation for each item, and yield its result before the next item is drawn.

    Args:
        items: closed when the iteration ends, if they can be, as they may have a connection.
        operation: returns the operation for an item.
    """
    try:
        for item in items:
            yield run(operation(item))
    finally:
        if (close := getattr(items, "close", None)) is not None:
            close()
