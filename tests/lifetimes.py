"""Lifetimes as tests read them: some time after they were given, and nobody knows how much on a busy machine."""

from __future__ import annotations

__all__ = ["Clock", "left_of"]

# In seconds, far longer than any test takes, on a busy machine as well.
_LONGEST_TEST = 300


def left_of(seconds: int, early: int = 0, late: int = 0) -> range:
    """Return what may be left of a lifetime that a test gave to an entry.

    Args:
        seconds: longer than any test, so that other lifetimes can be told from what is left of this one.
        early, late: by how many seconds the backend may end it sooner or later than told.
    """
    assert seconds > _LONGEST_TEST
    return range(seconds - _LONGEST_TEST - early, seconds + late + 1)


class Clock:
    """A clock that stands still until a test sets it.

    Attributes:
        now: what it shows.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
