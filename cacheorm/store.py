"""What an operation asks of backends, and the driver that does it, synchronously.

Operations are generators: they yield :class:`Call` and :class:`Fetch` requests, are sent the replies,
and return their result. They do no I/O themselves, so that another driver can run the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from .backends import BaseBackend

__all__ = ["Call", "Fetch", "Request", "run"]

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


Request = Call | Fetch


def perform(request: Request) -> Any:
    """Do what one request asks."""
    if isinstance(request, Call):
        return getattr(request.backend, request.method)(*request.args)
    position = 0
    for values in request.backend.get_chunks(request.keys):
        request.receive(position, values)
        position += len(values)
    return None


def run(steps: Generator[Request, Any, R]) -> R:
    """Drive an operation to its end and give its result; errors of a backend are raised inside it."""
    try:
        request = next(steps)
        while True:
            try:
                reply = perform(request)
            except Exception as error:  # noqa: BLE001 - not handled here, but handed to the operation
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: R = stop.value
        return result
