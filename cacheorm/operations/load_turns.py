"""Waiting for a place among the loader calls of a model with ``max_loads``.

A turn is queued when its caller begins to wait, and not before: an operation that waits for something else holds up
nobody. It takes its place before it takes leases, which would expire meanwhile. The place belongs to the load, and is
free when that is over, even if an exception has kept it from being left.

A caller never waits for a place that cannot become free before it goes on: that of a load whose loader it runs inside
of, or of one that waits for it, or of its own thread. It goes ahead then, though there are as many calls already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any

from ..deadlines import remaining, until
from ..errors import BackendError
from ..loaders import LoadLimit
from ..requests import Steps, WaitFor
from .single_flight import SharedLoad, loads_held_up
from .waiting import Awaited

__all__ = ["OverdueTurnError", "Turn"]


class OverdueTurnError(BackendError):
    """The deadline has passed before a loader could be called."""


class Turn(Awaited):
    """The turn of one load to call its loader.

    Args:
        limit: the limit of the model, ``None`` if it has none.
        load: the load.
    """

    __slots__ = ("_blocks", "_goes_ahead", "_held_up", "_in_thread", "_is_left", "_limit", "load")

    def __init__(self, limit: LoadLimit | None, load: SharedLoad) -> None:
        super().__init__()
        self.load = load
        self._limit = limit
        self._goes_ahead = limit is None
        self._blocks = False
        self._held_up: set[SharedLoad] = set()
        self._is_left = False
        self._in_thread = False

    # -- for the operation ------------------------------------------------------------------------

    def come(self) -> Steps[float]:
        """Wait until the loader may be called; return the seconds that it took.

        Raises:
            OverdueTurnError: the deadline of the caller has passed.
        """
        limit = self._limit
        if limit is None:
            return 0.0
        limit.join(self)
        if limit.may_go_on(self):
            return 0.0
        limit.leave(self)
        began, end = time.monotonic(), until(None)
        yield WaitFor(self, None if end == inf else remaining(end))
        if not self.is_over:
            raise OverdueTurnError(f"no loader could be called by the deadline: {limit.calls} are running (max_loads)")
        return time.monotonic() - began

    def leave(self) -> None:
        """Free the place. A loader that still runs in a thread, since its caller was cancelled, keeps it to its end."""
        self._is_left = True
        for load in self._held_up:
            load.no_longer_waits_for(self)
        self._held_up = set()
        if self._limit is not None and not self._in_thread:
            self._limit.leave(self)

    # -- for a thread that calls the loader for an awaited operation -------------------------------

    def enter_thread(self) -> bool:
        """Note that a thread is about to call the loader; return ``False`` if nobody waits for that any more."""
        self._in_thread = True
        # After that: of a thread that begins and a caller that leaves at the same time, one sees the other at least.
        if self._is_left:
            self.leave_thread()
        return self._in_thread

    def leave_thread(self) -> None:
        """Note that the loader has returned."""
        self._in_thread = False
        if self._is_left:
            self.leave()

    # -- for the queue, and while the caller waits -------------------------------------------------

    @property
    def is_left(self) -> bool:
        """Whether it needs no place any more."""
        return not self._in_thread and (self._is_left or self.load.is_over)

    @property
    def is_over(self) -> bool:
        """Whether its caller may go on."""
        return self._goes_ahead or (self._limit is not None and self._limit.may_go_on(self))

    @property
    def waits_for(self) -> list[SharedLoad]:
        """The loads that have places, or get them first."""
        return [] if self._limit is None else [turn.load for turn in self._limit.ahead_of(self)]

    def wait(self, seconds: float | None = None) -> Any:
        """Queue the turn, and wait for it in a thread."""
        self._blocks = True
        return super().wait(seconds)

    def when_done(self, wake: Callable[[], object]) -> None:
        """Queue the turn, and call a function when it has come."""
        if self._limit is not None and not self._held_up:
            self._held_up = loads_held_up(self.load)
            self._limit.join(self)
            # Recorded before it is looked for, as in claim().
            for load in self._held_up:
                load.also_waits_for(self)
            self._goes_ahead = self._would_wait_for_itself()
        super().when_done(wake)

    def _would_wait_for_itself(self) -> bool:
        held_up = self._held_up
        # Usually nobody ahead can wait for this one, and there may be thousands.
        if any(load.may_be_waited_for for load in held_up):
            return any(other in held_up or other.waits_for_any(held_up) for other in self.waits_for)
        return self._blocks and any(other.is_own_thread for other in self.waits_for)
