"""Lanes (:mod:`.together`) in an event loop: all of a batch go on within the task that awaits it.

A task for each would cost more than most exchanges, and its values would wait for it to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import suppress
from types import coroutine
from typing import Any, TypeVar

from . import awaited
from .exchange import TURNS
from .together import Lane, abandon

__all__ = ["AwaitedLanePool", "await_together"]

T = TypeVar("T")


@coroutine
def _hand_up(future: asyncio.Future[T]) -> Generator[asyncio.Future[T], None, T]:
    yield future
    return future.result()


class _Connection(awaited.Connection):
    """A connection whose waits are handed up; it can be used in lanes only."""

    _until = staticmethod(_hand_up)


class AwaitedLanePool(awaited.AwaitedPool):
    """A pool whose waits are handed up, for connecting and for a place as well; it can be used in lanes only."""

    _kind = _Connection
    _turns = TURNS
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


async def await_together(lanes: Sequence[Lane]) -> AsyncGenerator[None, None]:
    """Run lanes to their ends, and yield whenever some of them have got on."""
    loop = asyncio.get_running_loop()
    waiting: dict[Lane, asyncio.Future[Any]] = {}
    turn: asyncio.Future[None] | None = None

    def step(lane: Lane) -> None:
        waiting.pop(lane, None)
        with suppress(StopIteration):
            waiting[lane] = future = lane.send(None)
            future.add_done_callback(wake)

    def wake(future: asyncio.Future[Any]) -> None:
        if turn is not None and not turn.done():
            turn.set_result(None)

    try:
        for lane in lanes:
            step(lane)
        while waiting:
            ready = [lane for lane, future in waiting.items() if future.done()]
            if not ready:
                turn = loop.create_future()
                await turn
                continue
            for lane in ready:
                step(lane)
            yield
    finally:
        abandon(lanes, waiting)
