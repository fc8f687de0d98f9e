"""What an operation asks of backends and of its caller, and the driver that does it, synchronously.

Operations are generators: they yield requests, are sent the replies, and return their result. They neither do I/O
nor wait themselves, so that another driver, that of :mod:`.async_store`, can run the same ones.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from .backends import BaseBackend

__all__ = ["Ask", "Call", "Fetch", "Join", "Notice", "Pause", "Request", "Shared", "Tell", "perform", "run"]

R = TypeVar("R")


class Call(NamedTuple):
    """Call one method of a backend; the reply is what it returns."""

    backend: BaseBackend
    method: str
    args: tuple[Any, ...]


class Fetch(NamedTuple):
    """Read many keys; each part is handed to ``receive`` as it arrives. The reply is ``None``.

    ``receive`` gets the position of the part's first key and its values, so that it can decode one part
    while the server makes the next.
    """

    backend: BaseBackend
    keys: Sequence[str]
    receive: Callable[[int, list[bytes | None]], None]


class Ask(NamedTuple):
    """Call a function of the user's, which may take its time; the reply is what it returns.

    One that is awaited needs a driver that awaits. Of an asynchronous generator, the reply is a list.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Shared(Protocol):
    """Work that another caller is doing."""

    def wait(self) -> Any:
        """Wait until it is done and give what came of it, or raise what it raised."""

    def when_done(self, call: Callable[[], None]) -> None:
        """Have a function called, in any thread, once it is done; at once if it is."""


class Join(NamedTuple):
    """Wait for what another caller is doing; the reply is what came of it."""

    work: Shared


class Notice(Protocol):
    """Sends one signal, for the ``instance`` it is given."""

    def send(self, instance: Any, **details: Any) -> None:
        """Call those who hear it."""

    async def asend(self, instance: Any, **details: Any) -> None:
        """Call those who hear it, and await those that have to be."""


class Tell(NamedTuple):
    """Send a signal for rows, one after another. The reply is ``None``.

    Attributes:
        notice: sends the signal.
        rows: the rows, each after its place among the rows that the operation was given.
        details: what else receivers are told.
    """

    notice: Notice
    rows: Sequence[tuple[int, Any]]
    details: Mapping[str, Any]


class Pause(NamedTuple):
    """Let a number of seconds pass. The reply is ``None``."""

    seconds: float


Request = Call | Fetch | Ask | Join | Pause | Tell


def perform(request: Request) -> Any:
    """Do what one request asks."""
    if isinstance(request, Call):
        return getattr(request.backend, request.method)(*request.args)
    if isinstance(request, Ask):
        return _at_once(request.function(*request.args))
    if isinstance(request, Join):
        return request.work.wait()
    if isinstance(request, Pause):
        return time.sleep(request.seconds)
    if isinstance(request, Tell):
        for _, row in request.rows:
            request.notice.send(instance=row, **request.details)
        return None
    position = 0
    for values in request.backend.get_chunks(request.keys):
        request.receive(position, values)
        position += len(values)
    return None


def _at_once(reply: Any) -> Any:
    """Refuse what a function of the user's gave if it can only be awaited."""
    if isinstance(reply, (Awaitable, AsyncIterator)):
        if isinstance(reply, Coroutine):
            reply.close()  # or it would warn that nobody has awaited it
        raise TypeError(
            f"the loader gave {type(reply).__name__}, which can only be awaited: use the methods for that,"
            " whose names begin with 'a', such as aexecute() and aget_or_load()"
        )
    return reply


def run(steps: Generator[Request, Any, R]) -> R:
    """Drive an operation to its end and give its result.

    Errors are raised inside it, interruptions too: it may have something to give back before it ends.
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
