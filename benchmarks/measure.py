"""Timing that holds on a busy machine: all contestants in one process, in alternating rounds, medians."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

__all__ = ["ROUNDS", "alternate"]

ROUNDS = 9
"""Rounds by default; an odd number, so that the median is a time that was measured."""

Call = Callable[[], Any]


def alternate(
    contestants: Mapping[str, Call],
    rows: int,
    rounds: int = ROUNDS,
    seconds: float = 0.02,
    tick: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, float]:
    """Time calls beside one another.

    Each round calls every contestant, the first one a different one each time, so that whatever slows the machine
    down for a while slows down all of them. A call is repeated within its round until ``seconds`` have passed; its
    result is freed within its time, as it would be in a program. The garbage collector runs between the turns,
    and inside them works as Python sets it.

    Args:
        contestants: calls by name.
        rows: how many rows each call is about.
        rounds: how often each has its turn.
        seconds: how long a turn lasts at least.
        tick: called after each turn.
        clock: returns seconds; ``time.process_time`` counts processor time without waiting.

    Returns:
        The medians of microseconds per row, by name.
    """
    repeats = {}
    for name, call in contestants.items():
        call()  # connections, caches and lazy imports are not what is measured
        start = perf_counter()
        call()
        repeats[name] = max(1, round(seconds / max(perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            call, repeat = contestants[name], range(repeats[name])
            gc.collect()
            start = clock()
            for _ in repeat:
                call()
            times[name].append((clock() - start) / len(repeat))
            tick()
    return {name: statistics.median(taken) / rows * 1e6 for name, taken in times.items()}
