"""Lifetimes as tests read them: some time after they were given, and nobody knows how much on a busy machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clusters import wait_until
from observing import memcached_figure

from cacheorm.testing import BackendConformance

if TYPE_CHECKING:
    from servers import MemcachedServer

__all__ = ["Clock", "MemcachedConformance", "left_of"]

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


class MemcachedConformance(BackendConformance):
    """The suite for authors of backends, where lifetimes end by the clock of memcached, which counts whole seconds."""

    @pytest.fixture
    def clocks(self, memcached_server: MemcachedServer) -> list[MemcachedServer]:
        return [memcached_server]

    @pytest.fixture(autouse=True)
    def watch(self, clocks: list[MemcachedServer]) -> None:
        self.watched = clocks

    def expire(self) -> None:
        """Wait until the clocks of all servers have moved."""
        times = {server: memcached_figure(server, "time") for server in self.watched}
        for server, then in times.items():
            wait_until("time has passed", lambda server=server, then=then: memcached_figure(server, "time") > then)
