"""Exchanges of many requests of one kind: they are sent a few parts ahead of the replies, never all at once.

A part is what one packing makes; limits of bytes keep the buffers on both sides small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._speedups import wire
from .exchange import Exchange

__all__ = ["DUE", "WRITE_BYTES", "WRITE_CHUNK", "Batch", "ValueReads", "portion"]

DUE: Any = object()
"""Stands in the results of a batch where no reply has come."""

WRITE_CHUNK = 1000
"""Requests that are packed at once."""

WRITE_BYTES = 1 << 20
"""Bytes of requests that are packed at once: more fills the buffers on both sides."""


class Batch(Exchange):
    """Sends requests that get one reply each, and puts the replies where they belong.

    Args:
        results: of the whole batch; :data:`DUE` where no reply has come.
        positions: which of them this server is asked for; ``None`` for all.

    Attributes:
        positions: as given.
    """

    _ahead = 2
    # The method of the reader that takes replies, and what it is called with besides the results and places.
    _method = ""
    _arguments: tuple[Any, ...] = ()

    def __init__(self, results: list[Any], positions: list[int] | None) -> None:
        self.positions = positions
        self._results = results
        self._count = len(results if positions is None else positions)
        self._next = self._place = 0
        self._ends: list[int] = []

    def request(self) -> bytes | None:
        if not self.has_more or len(self._ends) == self._ahead:
            return None
        packed, self._next = self._pack(self._next)
        self._ends.append(self._next)
        self.has_more = self._next != self._count
        return packed

    def read(self, reader: Any) -> bool:
        take = getattr(reader, self._method)
        place = self._place = take(self._results, self.positions, self._place, self._next, *self._arguments)
        if place == self._count:
            return True
        while self._ends and self._ends[0] <= place:
            del self._ends[0]
        return False

    def restart(self) -> None:
        self._next = self._place = 0
        self._ends.clear()
        self.has_more = True

    def unanswered(self) -> Sequence[int]:
        """Return the positions of the requests without a reply."""
        return range(self._place, self._count) if self.positions is None else self.positions[self._place :]

    def unsent(self) -> Sequence[int]:
        """Return the positions of the requests that were not sent."""
        return range(self._next, self._count) if self.positions is None else self.positions[self._next :]

    def _pack(self, start: int) -> tuple[bytes, int]:
        """Pack requests from number ``start`` on. Return them, and the number of the first that is left."""
        raise NotImplementedError


class ValueReads(Exchange):
    """Reads values with requests for many keys each.

    Args:
        keys: which values; at least one.

    Attributes:
        values: those that have come and were not taken by :meth:`take`, in the order of the keys.
    """

    # Keys of a part; parts that are sent ahead, at first and once it is known how large the values are; bytes of the
    # values that one part should ask for.
    _chunk = 500
    _first_ahead = 2
    _ahead = 4
    _bytes = 1 << 20

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self.values: list[Any] = []
        self._next = 0
        self._size = self._chunk
        self._window = self._first_ahead
        self._due: list[tuple[int, int]] = []

    def request(self) -> bytes | None:
        if not self.has_more or len(self._due) == self._window:
            return None
        start, count = self._next, len(self._keys)
        stop = self._next = min(start + self._size, count)
        self._due.append((start, stop))
        self.has_more = stop != count
        return self._pack(start, stop)

    def read(self, reader: Any) -> bool:
        due = self._due
        while due and self._read_part(reader, *due[0]):
            del due[0]
        return not due and not self.has_more

    def restart(self) -> None:
        self._next = 0
        self._due.clear()
        self.has_more = True

    def take(self) -> list[bytes | None]:
        """Return the values that have come since the last call."""
        values, self.values = self.values, []
        self._resize(values)
        return values

    def _resize(self, values: list[bytes | None]) -> None:
        """Ask for as many keys at a time as values of this size allow."""
        self._size = portion(values, self._chunk, self._bytes)
        self._window = self._ahead

    def _pack(self, start: int, stop: int) -> bytes:
        raise NotImplementedError

    def _read_part(self, reader: Any, start: int, stop: int) -> bool:
        """Take values of a part. Return whether it is complete."""
        raise NotImplementedError


def portion(values: list[bytes | None], most: int, size: int) -> int:
    """Return how many keys of such values should be asked for at once.

    Args:
        values: some that have come.
        most: the most keys.
        size: bytes that their values should have together.
    """
    if not values:
        return most
    mean = wire.total_size(values) // len(values) + 1
    return max(1, min(most, size // mean))
