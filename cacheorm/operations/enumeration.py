"""Going through all rows of a model: reading, counting and removing them, a batch of keys at a time.

What is stored under each key is read, since a remembered miss or a lease is no row. Memory does not grow with the
number of rows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Generic, TypeVar

from .._speedups import keys as key_makers
from ..async_driver import arun_each
from ..errors import BackendError
from ..metadata import RowPlan
from ..requests import Call, Steps
from ..sync_driver import run_each
from .own_keys import OwnKeys
from .presence import those_there
from .read import read
from .unreadable import Unreadable

__all__ = ["Counting", "PrimaryKeys", "Purging", "RowEnumeration", "Rows"]

T = TypeVar("T")
R = TypeVar("R")


class RowEnumeration(Generic[T]):
    """Something that is done with the keys of all rows of a model, batch by batch.

    Args:
        plan: the plan of the model.
        batch_size: how many keys make a batch.

    Raises:
        ValueError: a model whose keys cannot be told from others, or a size that is no whole number of at least 1.
        NotImplementedError: a backend that does not enumerate its keys.
    """

    def __init__(self, plan: RowPlan, batch_size: int = 1000) -> None:
        given: Any = batch_size
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise ValueError(f"{plan.model.__name__}: batch_size must be a whole number of keys, at least 1")
        self._plan = plan
        self._resolved = plan.resolved()
        self._keys = OwnKeys(plan)
        self._arguments = self._keys.prefix, batch_size

    def steps(self, keys: list[str]) -> Steps[list[T]]:
        """Handle one batch of keys, among which there may be keys of others."""
        raise NotImplementedError

    def _read(self, steps: Steps[R]) -> Steps[R]:
        """Run steps that read, and return their result.

        Raises:
            BackendError: values count as missing because something failed, as with ``on_failure="miss"``.
        """
        backend = self._resolved.backend
        before = getattr(backend, "failed_reads", 0)
        result = yield from steps
        if getattr(backend, "failed_reads", 0) != before:
            name = self._plan.model.__name__
            raise BackendError(f"{name}: some rows could not be read, as the cache fails; the log says why")
        return result

    def execute(self) -> Generator[T, None, None]:
        """Yield what comes of all batches."""
        return self._each(run_each(self._resolved.backend.scan_chunks(*self._arguments), self.steps))

    def aexecute(self) -> AsyncGenerator[T, None]:
        """Yield the same in an event loop."""
        return self._aeach(arun_each(self._resolved.backend.ascan_chunks(*self._arguments), self.steps))

    def _each(self, parts: Generator[list[T], None, None]) -> Generator[T, None, None]:
        with closing(parts):
            for part in parts:
                yield from part
        self._keys.check_all_told()

    async def _aeach(self, parts: AsyncGenerator[list[T], None]) -> AsyncGenerator[T, None]:
        async with aclosing(parts):
            async for part in parts:
                for item in part:
                    yield item
        self._keys.check_all_told()


class Rows(RowEnumeration[Any]):
    """Gives the rows.

    Raises (on iteration):
        PayloadError: stored bytes that are no row of the model.
        InvalidKeyError: at the end, if there are keys whose primary keys cannot be told.
    """

    def steps(self, keys: list[str]) -> Steps[list[Any]]:
        pks, own = self._keys.told(keys)
        unreadable = Unreadable(self._plan, None)
        rows = yield from self._read(read(self._resolved, pks, own, unreadable))
        unreadable.check()
        return [row for row in rows if row is not None] if key_makers.missing_positions(rows) else rows


class PrimaryKeys(RowEnumeration[Any]):
    """Gives the primary keys of the rows, as a read returns them.

    Raises (on iteration):
        InvalidKeyError: at the end, if there are keys whose primary keys cannot be told.
    """

    def steps(self, keys: list[str]) -> Steps[list[Any]]:
        pks, own = self._keys.told(keys)
        there = yield from self._read(those_there(self._plan, pks, own))
        if len(there) == len(own):
            return pks
        pk_of = dict(zip(own, pks, strict=True))
        return [pk_of[key] for key in there]


class Counting(RowEnumeration[int]):
    """Gives the number of rows in each batch."""

    def steps(self, keys: list[str]) -> Steps[list[int]]:
        return [(yield from self._count(self._keys.of_model(keys)))]

    def _count(self, own: list[str]) -> Steps[int]:
        there = yield from self._read(those_there(self._plan, self._keys.unknown_pks(own), own))
        return len(there)


class Purging(Counting):
    """Removes what is stored under the keys, and gives the number of rows that this was, in each batch.

    Remembered misses and leases go as well: with its lease, a caller that is loading a row loses the right to store it.
    """

    def steps(self, keys: list[str]) -> Steps[list[int]]:
        own = self._keys.of_model(keys)
        count = yield from self._count(own)
        yield Call(self._resolved.backend, "delete_many", tuple(own))
        return [count]
