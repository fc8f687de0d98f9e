"""Waiting for what another thread or task does, in a thread or in an event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ..requests import pauses

__all__ = ["Awaited"]


class Awaited:
    """The base class of what callers wait for; see :class:`~cacheorm.requests.SharedWork`."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Callable[[], object]] = []

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        raise NotImplementedError

    def result(self) -> Any:
        """Return what there is to be had of it; ``None`` if there is nothing."""
        return None

    def wake(self) -> None:
        """Let all that wait look again whether it is over."""
        for wake in [*self._waiters]:
            wake()

    def when_done(self, wake: Callable[[], object]) -> None:
        """Call a function once it is over, from any thread and perhaps more than once; at once if it is."""
        self._waiters.append(wake)
        if self.is_over:
            wake()

    def wait(self, seconds: float | None = None) -> Any:
        """Wait for the end, at most for some seconds, and return :meth:`result`."""
        woken: SimpleQueue[None] = SimpleQueue()  # no other primitive of this kind may be entered again
        self.when_done(partial(woken.put, None))
        for pause in pauses(seconds):
            if self.is_over:
                break
            with suppress(Empty):
                woken.get(timeout=pause)
        return self.result()
