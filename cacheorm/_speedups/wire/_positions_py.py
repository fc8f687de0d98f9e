"""Positions in a batch, checked: of what goes to one of several servers, and of what comes back from there."""

from __future__ import annotations

from collections.abc import Sequence, Sized

__all__ = ["check_places", "position_at"]


def check_places(place: int, stop: int, items: Sized) -> None:
    """Raise ``IndexError`` unless the places from ``place`` to ``stop`` exist."""
    if not 0 <= place <= stop <= len(items):
        raise IndexError("place and stop must lie inside of the batch")


def position_at(positions: Sequence[int] | None, place: int, count: int) -> int:
    """Return the position that stands at a place; without positions, the place itself.

    Raises:
        IndexError: it is outside of the ``count`` entries.
        TypeError: it is no int.
    """
    if positions is None:
        return place
    position = positions[place]
    if not isinstance(position, int):
        raise TypeError(f"a position must be an int, got {type(position).__name__}")
    if not 0 <= position < count:
        raise IndexError(f"position {position} is outside of the batch")
    return position
