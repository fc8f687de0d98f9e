"""Lanes (:mod:`.together`) in an event loop: all of a batch go on within the task that awaits it.

A task for each would cost more than most exchanges, and its values would wait for it to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from types import coroutine
from typing import Any, TypeVar

from . import awaited
from .exchange import TURNS
from .together import Lane, Rounds

__all__ = ["AwaitedLanePool", "AwaitedRounds"]

T = TypeVar("T")


class _Wait:
    """What a lane waits for on its connection: a future that tells at once, not when the loop comes round to it."""

    __slots__ = ("_error", "_is_done", "_tell")

    def __init__(self) -> None:
        self._is_done = False
        self._error: BaseException | None = None
        self._tell: Callable[[Any], None] | None = None

    def add_done_callback(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell

    def done(self) -> bool:
        return self._is_done

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def set_result(self, result: None) -> None:
        self._is_done = True
        if self._tell is not None:
            self._tell(self)

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self.set_result(None)


@coroutine
def _hand_up(future: asyncio.Future[T]) -> Generator[asyncio.Future[T], None, T]:
    yield future
    return future.result()


class _Connection(awaited.Connection):
    """A connection whose waits are handed up; it can be used in lanes only."""

    _until = staticmethod(_hand_up)

    def _make_wait(self) -> Any:
        return _Wait()


class AwaitedLanePool(awaited.AwaitedPool):
    """A pool whose waits are handed up, for connecting and for a place as well; it can be used in lanes only."""

    _kind = _Connection
    _patience = TURNS
    _until = staticmethod(_hand_up)

    async def open(self, patience: float | None = None) -> awaited.Connection:
        # In a task, as the time limit of one lane would end the task of all.
        opening = asyncio.ensure_future(super().open(patience))
        try:
            return await _hand_up(opening)
        except BaseException:
            if not opening.cancel() and not opening.cancelled() and opening.exception() is None:
                opening.result().close()  # it came, but too late
            opening.add_done_callback(_look_at)
            raise


def _look_at(opening: asyncio.Future[Any]) -> None:
    """See how an attempt ended that nobody waits for, so that nothing warns of that."""
    if not opening.cancelled():
        opening.exception()


class AwaitedRounds(Rounds):
    """Rounds in the task that awaits them."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        super().__init__(lanes)
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[None] | None = None

    def _step(self, lane: Lane, ready: Any) -> None:
        super()._step(lane, ready)
        wait = self._waiting.get(lane)
        if wait is not None:
            wait.add_done_callback(self._wake)

    async def _ready(self) -> Iterable[tuple[Lane, Any]]:
        while not (ready := [(lane, None) for lane, wait in self._waiting.items() if wait.done()]):
            self._turn = self._loop.create_future()
            await self._turn
        return ready

    def _wake(self, wait: Any) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
