"""What tests of leaks assert."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from fuzz.leaks import growth

__all__ = ["assert_nothing_stays"]


def assert_nothing_stays(call: Callable[[], object], rounds: int, **options: Any) -> None:
    """Assert that nothing stays of calls.

    Args:
        call, rounds, options: of :func:`fuzz.leaks.growth`.

    Raises:
        AssertionError: something does, with where the memory comes from of which most stays.
    """
    grown = growth(call, rounds, **options)
    assert not grown, f"grew in each turn of {rounds} rounds, by {grown}; most of it is from\n{_origin(call)}"


def _origin(call: Callable[[], object]) -> str:
    tracemalloc.start(6)
    try:
        snapshots: list[Any] = []
        for _ in range(2):
            for _ in range(10):
                call()
            gc.collect()
            hidden = tracemalloc.Filter(False, tracemalloc.__file__)
            snapshots.append(tracemalloc.take_snapshot().filter_traces([hidden]))
        most = snapshots[1].compare_to(snapshots[0], "traceback")[:3]
        return "\n".join(f"{one.size_diff} bytes:\n" + "\n".join(one.traceback.format()) for one in most)
    finally:
        tracemalloc.stop()
