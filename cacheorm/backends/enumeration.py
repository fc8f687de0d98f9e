"""Enumerating the keys of a backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from itertools import islice
from typing import Any

from .async_api import AsyncAPI

__all__ = ["Enumeration", "check_clear", "lists_of"]


class Enumeration(AsyncAPI):
    """The methods of :class:`~cacheorm.backends.base.BaseBackend` that enumerate keys.

    A subclass overrides :meth:`scan`, or :meth:`scan_chunks` if its engine gives many keys at a time.
    """

    check_key: Callable[[str], None]

    def scan(self, prefix: str = "", batch_size: int = 1000) -> Iterator[str]:
        """Yield the keys that begin with ``prefix``, in no order.

        A key that exists all the time is there at least once; it may come twice, for instance if the engine resizes its
        table meanwhile. Of keys that are written or removed meanwhile, and of those that have expired a moment ago,
        some are there. Keys that are no text (of other programs) are left out.

        Time limits bound each request to the engine, and not the whole iteration. A failure of the engine is an error,
        also with ``on_failure="miss"``.

        Args:
            prefix: what the keys begin with; all keys if empty.
            batch_size: about how many keys to ask the engine for at a time.

        Raises:
            NotImplementedError: the backend does not enumerate its keys.
            TypeError, ValueError: a prefix that is no ``str``, or a size that is no whole number of at least 1.
            InvalidKeyError: this backend cannot store keys that begin so.
        """
        self._check_scan(prefix, batch_size)
        if type(self).scan_chunks is Enumeration.scan_chunks:
            raise NotImplementedError(
                f"{type(self).__name__} does not enumerate its keys: it defines neither scan() nor scan_chunks()"
            )
        return _items(self.scan_chunks(prefix, batch_size))

    async def ascan(self, prefix: str = "", batch_size: int = 1000) -> AsyncGenerator[str, None]:
        """Yield the same as :meth:`scan`, as an asynchronous iterator."""
        async with aclosing(self.ascan_chunks(prefix, batch_size)) as chunks:
            async for keys in chunks:
                for key in keys:
                    yield key

    def scan_chunks(self, prefix: str = "", batch_size: int = 1000) -> Iterator[list[str]]:
        """Yield the keys of :meth:`scan` in lists of at most ``batch_size``, none of them empty."""
        self._check_scan(prefix, batch_size)
        return lists_of(self.scan(prefix, batch_size), batch_size)

    async def ascan_chunks(self, prefix: str = "", batch_size: int = 1000) -> AsyncGenerator[list[str], None]:
        """Yield the same as :meth:`scan_chunks`, as an asynchronous iterator."""
        chunks: Iterator[list[str]] = await self._await("scan_chunks", prefix, batch_size)
        try:
            while (keys := await self._call_apart(next, chunks, None)) is not None:
                yield keys
        finally:
            close(chunks)

    def _check_scan(self, prefix: str, batch_size: int) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
        given: Any = batch_size
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise ValueError("batch_size must be a whole number of keys, at least 1")
        if prefix:
            self.check_key(prefix)


def check_clear(prefix: str | None, everything: bool, *, is_own: bool) -> None:
    """Check the arguments of ``clear()`` of a backend.

    Args:
        prefix: as given.
        everything: as given.
        is_own: whether no one else may have entries in the store, so that nothing has to be said.
    """
    if prefix is not None:
        if everything:
            raise TypeError("clear() takes a prefix or everything=True, not both")
        if not prefix:
            raise ValueError("the prefix is empty: everything=True removes all entries of the store")
    elif not everything and not is_own:
        raise TypeError(
            "clear() would remove all entries of the store, including those of other programs:"
            " pass prefix=..., or everything=True"
        )


def lists_of(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield keys in lists of at most ``size``; what they come from is closed when the iterator is."""
    iterator = iter(keys)
    try:
        while part := [*islice(iterator, size)]:
            yield part
    finally:
        close(iterator)


def _items(chunks: Iterator[list[str]]) -> Generator[str, None, None]:
    try:
        for keys in chunks:
            yield from keys
    finally:
        close(chunks)


def close(iterator: Any) -> None:
    """Close an iterator that can be closed, such as a generator that has a connection."""
    if hasattr(iterator, "close"):
        with closing(iterator):
            pass
