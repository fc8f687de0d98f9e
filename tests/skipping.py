"""Time that is skipped: a wait that nothing ends is over at once, and the clock shows that it was not."""

from __future__ import annotations

import asyncio
import queue
import select
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["SkippingClock", "skipping_clock"]


class SkippingClock:
    """A monotonic clock which, in a block of :meth:`skipping`, moves only by the waits that are skipped."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._skipped = 0.0
        self._stands_at: float | None = None

    def __call__(self) -> float:
        return (self._real() if self._stands_at is None else self._stands_at) + self._skipped

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Skip waits for connections and for places for them, of threads and of event loops of :meth:`runner`."""
        self._stands_at = self._real()
        try:
            yield
        finally:
            self._stands_at = None

    def skip(self, seconds: float | None) -> bool:
        """Let so much time pass, unless time passes by itself. Return whether it did."""
        if self._stands_at is None or seconds is None:
            return False
        self._skipped += max(seconds, 0.0)
        return True

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in an event loop whose waits can be skipped."""
        with self.runner() as runner:
            runner.run(main)

    def runner(self) -> asyncio.Runner:
        """Return a runner of an event loop whose waits can be skipped."""
        return asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector(self)))


@contextmanager
def skipping_clock() -> Iterator[SkippingClock]:
    """Have such a clock for connections that are made in the block."""
    # Not at the top: conftest.py imports this module, also where the package is not built.
    from cacheorm import deadlines
    from cacheorm.backends._net import threads

    clock = SkippingClock()

    class Poll:
        def __init__(self) -> None:
            self._poll = poll()
            self.register, self.modify = self._poll.register, self._poll.modify

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            events = self._poll.poll(0)
            return events if events or clock.skip(milliseconds / 1000) else self._poll.poll(milliseconds)

    class Queue(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            try:
                return super().get(timeout=0.001)
            except queue.Empty:
                if clock.skip(timeout):
                    raise
                return super().get(block, timeout)

    poll = select.poll
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock)
        patch.setattr(deadlines, "monotonic", clock)
        patch.setattr(select, "poll", Poll)
        patch.setattr(threads, "SimpleQueue", Queue)
        yield clock


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock: SkippingClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        return events if events or self._clock.skip(timeout) else super().select(timeout)
