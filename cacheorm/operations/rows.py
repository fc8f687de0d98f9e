"""The rows that operations are given: as arguments, in a list, or by an iterator, which gives them once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from ..types import is_model

if TYPE_CHECKING:
    from ..metadata import RowPlan

__all__ = ["DrawnRows", "as_keys", "as_rows", "slices"]

T = TypeVar("T")

# Rows that are drawn from an iterator at once.
_BLOCK = 1000


class DrawnRows:
    """The rows of an iterator. They are kept until the operation has succeeded, so that it can be executed again.

    Args:
        iterator: gives the rows.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._drawn: list[Any] = []
        self._problem = ""

    def __iter__(self) -> Iterator[Any]:
        if self._problem:
            raise RuntimeError(f"the iterator of rows {self._problem}: make a new operation, or pass a list of rows")
        return chain.from_iterable(self._blocks())

    def forget(self) -> None:
        """Drop the rows after the operation has succeeded."""
        self._drawn, self._problem = [], "is used up, since the operation has been executed"

    def _blocks(self) -> Iterator[list[Any]]:
        done = 0
        while True:
            if done == len(self._drawn):
                self._draw()
            block = self._drawn[done:]
            if not block:
                return
            done += len(block)
            yield block

    def _draw(self) -> None:
        problem, self._problem = self._problem, "has raised an error"
        self._drawn.extend(islice(self._iterator, _BLOCK))
        self._problem = problem


def as_rows(rows: tuple[Any, ...]) -> Iterable[Any]:
    """Return the rows of a call that takes either rows or one iterable of them."""
    if len(rows) == 1:
        only = rows[0]
        if type(only) is list:
            return only
        # A model may define __iter__: its instance is a row all the same.
        is_row = isinstance(only, (Mapping, str, bytes)) or is_model(type(only))
        if not is_row and isinstance(only, Iterable):
            return DrawnRows(only) if isinstance(only, Iterator) else only
    return rows


def as_keys(plan: RowPlan, keys: tuple[Any, ...]) -> Iterable[Any]:
    """Return the rows of a call that takes primary keys too: one tuple may be a composite key, or hold several."""
    only = keys[0] if len(keys) == 1 and plan.composite is not None else None
    if type(only) is tuple and len(only) == len(plan.key_fields):
        kinds = (Mapping, tuple, list, plan.model)
        if not all(isinstance(part, kinds) for part in only):
            return keys
    return as_rows(keys)


def slices(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """Split an iterable into lists of at most ``size`` items; a list of at most that length is not copied."""
    if type(items) is list and len(items) <= size:
        return (items,) if items else ()
    return _slices(iter(items), size)


def _slices(iterator: Iterator[T], size: int) -> Iterator[list[T]]:
    while part := list(islice(iterator, size)):
        yield part
