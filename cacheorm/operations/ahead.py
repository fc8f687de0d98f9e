"""Reading more rows than are worked on at a time, where later ones are asked for before earlier ones are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from .._speedups import keys as key_makers

__all__ = ["Wanted"]

Identified = tuple[list[Any], list[str]]
"""Primary keys, and as many backend keys."""


class Wanted(Sequence[str]):
    """The keys of many rows, made a part at a time when they are asked for, and the rows that come of them.

    So the server works on the last keys of a part while those of the next are made, and no more keys are kept than
    those that have been asked for.

    Args:
        rows: what is asked for; more than ``size``.
        size: how many of them make a part.
        identify: gives the primary keys and the backend keys of a part.
        load: makes rows of payloads, given the primary keys and the backend keys.

    Attributes:
        found: the rows so far.
    """

    def __init__(
        self,
        rows: Sequence[Any],
        size: int,
        identify: Callable[[Sequence[Any]], Identified],
        load: Callable[[list[bytes | None], list[Any], list[str]], list[Any]],
    ) -> None:
        self.found: list[Any] = []
        self._rows = rows
        self._size = size
        self._identify = identify
        self._load = load
        self._parts: dict[int, Identified] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._between(start, stop)[1] if step == 1 else [self[i] for i in range(start, stop, step)]
        number = range(len(self))[index]
        return self._part(number // self._size)[1][number % self._size]

    def receive(self, position: int, payloads: list[bytes | None]) -> None:
        """Make rows of the values of the keys from ``position`` on."""
        end = position + len(payloads)
        self.found += self._load(payloads, *self._between(position, end))
        for number in range(position // self._size, -(-end // self._size)):
            if end >= min((number + 1) * self._size, len(self)):
                self._unify(number)

    def _part(self, number: int) -> Identified:
        part = self._parts.get(number)
        if part is None:
            start = number * self._size
            part = self._parts[number] = self._identify(self._rows[start : start + self._size])
        return part

    def _between(self, start: int, stop: int) -> Identified:
        pks: list[Any] = []
        keys: list[str] = []
        while start < stop:
            number, first = divmod(start, self._size)
            last = min(first + stop - start, self._size)
            of_part, keys_of_part = self._part(number)
            pks += of_part[first:last]
            keys += keys_of_part[first:last]
            start += last - first
        return pks, keys

    def _unify(self, number: int) -> None:
        """Give the same instance at all places of a key in a part that is complete, and forget its keys."""
        _, keys = self._parts.pop(number)
        if key_makers.has_repeats(keys):
            start = number * self._size
            by_key = dict(zip(keys, self.found[start : start + len(keys)], strict=True))
            self.found[start : start + len(keys)] = [by_key[key] for key in keys]
