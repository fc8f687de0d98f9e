"""Rights that one caller at a time has: to try a server for all others, or to ask it for a map.

They belong to objects, and end with them, so that no exception can keep one. As a traceback may keep an object, they
end with the time of their owners, too.
"""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice, takewhile
from typing import Generic, Self, TypeVar

from .transport import UnreachableError

__all__ = ["Hold", "Lock", "Turns"]

H = TypeVar("H", bound="Hold")

# Seconds between two looks at whether the lock is free: at first, and at most.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


class Hold:
    """A right that was asked for. Leaving its ``with`` block ends it.

    Args:
        owner: who asks, if the same one may have it twice; otherwise ``None``.
        end: when it ends at the latest, in the time of :func:`time.monotonic`.
    """

    __slots__ = ("__weakref__", "_end", "_pid", "owner")

    def __init__(self, owner: int | None, end: float) -> None:
        self.owner = owner
        self._end = end
        self._pid = os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether it has ended: a forked child has none of its parent's."""
        return time.monotonic() >= self._end or self._pid != os.getpid()

    def release(self) -> None:
        """End it."""
        self._end = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class Turns(Generic[H]):
    """Gives the right to those who ask, in the order in which they came.

    Attributes:
        asked: those who have asked, the first one in front; some may have ended.
    """

    def __init__(self) -> None:
        self.asked: list[weakref.ref[H]] = []

    def ask(self, hold: H) -> None:
        """Take one more into the order."""
        self.asked.append(weakref.ref(hold))

    def __iter__(self) -> Iterator[H]:
        """Yield those that have not ended, in their order."""
        for each in [*self.asked]:
            hold = each()
            if hold is not None and not hold.is_over:
                yield hold
            else:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self.asked.remove(each)

    def before(self, hold: Hold | None, most: int = 1) -> int:
        """Return how many come before ``hold``, or before one that would ask now.

        Those of one owner stand where the first of them does.

        Args:
            hold: one that has asked, or ``None``.
            most: how many are counted at most.
        """
        owner = None if hold is None else hold.owner
        ahead = takewhile(lambda other: other is not hold and (owner is None or other.owner != owner), self)
        return sum(1 for _ in islice(ahead, max(most, 0)))

    def has(self, hold: Hold) -> bool:
        """Return whether it is the turn of ``hold``: nobody is before it."""
        return not self.before(hold)

    @property
    def are_taken(self) -> bool:
        """Whether somebody has the right now."""
        return bool(self.before(None))


class Lock:
    """Lets callers go on one after the other.

    What it protects may be done twice, as it is where somebody takes longer than the time allows: it only costs time.

    Args:
        server: what is waited for, for messages.
        sleep: waits for some seconds.
        owner: returns who the caller is, where the same one may go on twice, as in a signal handler.
    """

    def __init__(
        self, server: str, sleep: Callable[[float], Awaitable[None]], owner: Callable[[], int | None] = lambda: None
    ) -> None:
        self._server = server
        self._sleep = sleep
        self._owner = owner
        self._turns: Turns[Hold] = Turns()

    async def take(self, end: float) -> Hold:
        """Wait until nobody else is at it.

        Args:
            end: when the caller's time is up.

        Raises:
            UnreachableError: others were at it until then.
        """
        hold = Hold(self._owner(), end)
        self._turns.ask(hold)
        pause = _FIRST_PAUSE
        while not self._turns.has(hold):
            left = end - time.monotonic()
            if left <= 0:
                raise UnreachableError(f"{self._server}: no answer in time") from TimeoutError("no answer in time")
            await self._sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        return hold
