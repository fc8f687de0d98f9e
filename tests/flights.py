"""What is being loaded in this process at the moment."""

from __future__ import annotations

from cacheorm.operations import single_flight

__all__ = ["in_flight"]


def in_flight() -> int:
    """Return how many keys callers may wait for at the moment."""
    return sum(not load.is_over for load in [*single_flight._running.values()])
