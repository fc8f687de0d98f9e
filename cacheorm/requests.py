"""Requests: what operations yield and drivers carry out.

Operations are generators: they yield requests, are sent the replies, and return their result. They do no I/O and never
wait, so that the same operation runs under both drivers, :mod:`.sync_driver` and :mod:`.async_driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from .errors import BackendError

if TYPE_CHECKING:
    from .backends import BaseBackend

__all__ = [
    "Call",
    "CallLoader",
    "Fetch",
    "Request",
    "SendSignal",
    "SharedWork",
    "SignalSender",
    "Sleep",
    "Steps",
    "WaitFor",
]

R = TypeVar("R")


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


class CallLoader(NamedTuple):
    """Call a loader function of the user; the reply is what it returns.

    A coroutine function needs the driver that awaits. Of an asynchronous generator, the reply is a list.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]


class SharedWork(Protocol):
    """Work that another thread or task is doing."""

    def wait(self) -> Any:
        """Wait for its end; return its result or raise its error."""

    def when_done(self, call: Callable[[], None]) -> None:
        """Call a function, from any thread, once the work is done; at once if it is."""


class WaitFor(NamedTuple):
    """Wait for work that another thread or task is doing; the reply is its result."""

    work: SharedWork


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


class Sleep(NamedTuple):
    """Wait for a number of seconds. The reply is ``None``."""

    seconds: float


Request = Call | Fetch | CallLoader | WaitFor | Sleep | SendSignal

Steps = Generator[Request, Any, R]
"""A running operation: it yields requests, is sent replies, and returns its result."""
