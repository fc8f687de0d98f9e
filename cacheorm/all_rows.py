"""The methods of models for all their rows, without their primary keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, Self

from .instances import Instance
from .operations.enumeration import Counting, PrimaryKeys, Purging, Rows

__all__ = ["AllRows"]


class AllRows(Instance):
    """The part of a model that goes through all its rows."""

    __slots__ = ()

    @classmethod
    def scan(cls, batch_size: int = 1000) -> Generator[Self, None, None]:
        """Yield all rows of the model, in no order; those of a batch are read at a time.

        A row that exists all the time is there at least once, and may be there twice. Of rows that are written or
        removed meanwhile, some are there. No loader is called. A time limit bounds each request, and not the whole
        iteration. If the cache fails, that is an error, also with ``on_failure="miss"``. Memory does not grow with the
        number of rows.

        Args:
            batch_size: how many rows to read at a time.

        Raises:
            ValueError: an ``index_formatter`` whose keys do not begin with fixed text.
            NotImplementedError: a backend that does not enumerate its keys.
            PayloadError: stored bytes that are no row of the model; with ``on_invalid = "miss"`` they are left out.
            InvalidKeyError: some keys do not tell the primary keys of their rows, such as those of more than 250 bytes;
                all other rows were given before.
        """
        return Rows(cls._meta, batch_size).execute()

    @classmethod
    def scan_keys(cls, batch_size: int = 1000) -> Generator[Any, None, None]:
        """Yield the primary keys of all rows, tuples for composite ones; otherwise like :meth:`scan`.

        What is stored is fetched, as it may be a remembered miss or a lease.
        """
        return PrimaryKeys(cls._meta, batch_size).execute()

    @classmethod
    def count(cls) -> int:
        """Return the number of rows; what is stored is fetched, as for :meth:`scan_keys`.

        It may be wrong by the rows that are written or removed meanwhile, and too high by keys that come twice.
        """
        return sum(Counting(cls._meta).execute())

    @classmethod
    def purge(cls) -> int:
        """Remove all rows, remembered misses and leases of the model; return how many rows that were.

        Rows that are written meanwhile may stay. Those that are being loaded meanwhile are not stored. No signals are
        sent.
        """
        return sum(Purging(cls._meta).execute())

    @classmethod
    def ascan(cls, batch_size: int = 1000) -> AsyncGenerator[Self, None]:
        """Yield the same as :meth:`scan`, as an asynchronous iterator."""
        return Rows(cls._meta, batch_size).aexecute()

    @classmethod
    def ascan_keys(cls, batch_size: int = 1000) -> AsyncGenerator[Any, None]:
        """Yield the same as :meth:`scan_keys`, as an asynchronous iterator."""
        return PrimaryKeys(cls._meta, batch_size).aexecute()

    @classmethod
    async def acount(cls) -> int:
        """Await :meth:`count`."""
        return sum([count async for count in Counting(cls._meta).aexecute()])

    @classmethod
    async def apurge(cls) -> int:
        """Await :meth:`purge`."""
        return sum([count async for count in Purging(cls._meta).aexecute()])
