"""Requests: what operations yield and drivers carry out.

Operations are generators: they yield requests, are sent the replies, and return their result. They do no I/O and never
wait, so that the same operation runs under both drivers, :mod:`.sync_driver` and :mod:`.async_driver`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from .errors import BackendError

if TYPE_CHECKING:
    from .backends import BaseBackend

__all__ = [
    "Behind",
    "Call",
    "CallFunction",
    "Fetch",
    "Job",
    "Request",
    "SendSignal",
    "SharedWork",
    "SignalSender",
    "Sleep",
    "Steps",
    "WaitFor",
    "pauses",
]

R = TypeVar("R")

_RECHECK_SECONDS = 1.0


class Call(NamedTuple):
    """Call one method of a backend; the reply is what it returns."""

    backend: BaseBackend
    method: str
    args: tuple[Any, ...]


class Fetch(NamedTuple):
    """Read many keys and decode their values; the reply is a list with one element for each key.

    Attributes:
        backend: the backend that holds the keys.
        keys: the keys to read.
        decode: called with the values of consecutive keys and the position of the first of them, for each part of
            the values as it arrives; returns a list as long. So one part is decoded while the server sends the next.
    """

    backend: BaseBackend
    keys: Sequence[str]
    decode: Callable[[list[bytes | None], int], list[Any]]

    def miscounted(self, count: int) -> BackendError:
        """Return the error for a backend that returned ``count`` values, more or fewer than there are keys."""
        return BackendError(f"{type(self.backend).__name__} gave {count} values for {len(self.keys)} keys")


class CallFunction(NamedTuple):
    """Call a function of the user, such as a loader; the reply is what it returns.

    A coroutine function needs the driver that awaits. Of an asynchronous generator, the reply is a list.

    Attributes:
        function: the function.
        args: what it is called with.
        role: what it is, for messages.
        awaited: what an event loop calls in its place, if that is another function.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    role: str = "the loader"
    awaited: Callable[..., Any] | None = None


class SharedWork(Protocol):
    """Work that another thread or task is doing."""

    @property
    def is_over(self) -> bool:
        """Whether the work has ended."""

    def result(self) -> Any:
        """Return its result, ``None`` if there is none, or raise its error."""

    def wait(self, seconds: float | None = None) -> Any:
        """Wait for its end, at most for some seconds; return :meth:`result`."""

    def when_done(self, wake: Callable[[], object]) -> None:
        """Call a function once the work has ended, from any thread and perhaps more than once; at once if it has."""


class WaitFor(NamedTuple):
    """Wait for work that another thread or task is doing; the reply is its result.

    Attributes:
        work: the work.
        seconds: the longest wait, after which the reply is ``None``; ``None``: until the end of the work.
    """

    work: SharedWork
    seconds: float | None = None


def pauses(seconds: float | None) -> Iterator[float]:
    """Yield how long to wait for work before looking again whether it is over, until ``seconds`` have passed.

    A second at most: an exception may have stopped what would wake the waiting caller.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        pause = _RECHECK_SECONDS if end is None else min(_RECHECK_SECONDS, end - time.monotonic())
        if pause <= 0:
            return
        yield pause


class SignalSender(Protocol):
    """Sends one signal of one model."""

    def send(self, instance: Any, **details: Any) -> None:
        """Call the receivers for an instance."""

    async def asend(self, instance: Any, **details: Any) -> None:
        """Call the receivers for an instance, and await those that are coroutine functions."""


class SendSignal(NamedTuple):
    """Send a signal for rows, one after another. The reply is ``None``.

    Attributes:
        sender: sends the signal.
        rows: pairs of a row's position in the operation and the row.
        details: what receivers get besides the row.
    """

    sender: SignalSender
    rows: Sequence[tuple[int, Any]]
    details: Mapping[str, Any]


class Job(Protocol):
    """Work that goes on behind an answer."""

    @property
    def only_awaited(self) -> bool:
        """Whether it can only be done in an event loop."""

    @property
    def in_loop(self) -> bool:
        """Whether an event loop does it itself; otherwise a thread does it for the loop, too."""

    def run(self) -> None:
        """Do it in a thread."""

    async def arun(self) -> None:
        """Do it in an event loop."""


class Behind(NamedTuple):
    """Have a job done behind the answer, by a thread or a task. The reply is whether it is going to be done."""

    job: Job


class Sleep(NamedTuple):
    """Wait for a number of seconds. The reply is ``None``."""

    seconds: float


Request = Call | Fetch | CallFunction | WaitFor | Sleep | Behind | SendSignal

Steps = Generator[Request, Any, R]
"""A running operation: it yields requests, is sent replies, and returns its result."""
