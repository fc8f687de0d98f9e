"""Enumerating keys over a network: what the commands of all servers share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

__all__ = ["Ends", "delete_prefix", "in_lists", "texts_of"]

Ends = Callable[[], float]
"""Returns when a request that begins now is given up, in the time of :func:`time.monotonic`."""


async def in_lists(chunks: AsyncGenerator[list[str], None], size: int) -> AsyncGenerator[list[str], None]:
    """Yield keys that come in lists of any length in lists of ``size``; the last one may be shorter."""
    waiting: list[str] = []
    async with aclosing(chunks):
        async for keys in chunks:
            waiting += keys
            while len(waiting) >= size:
                yield waiting[:size]
                del waiting[:size]
    if waiting:
        yield waiting


async def delete_prefix(commands: Any, prefix: str) -> None:
    """Delete the entries whose keys begin with a prefix.

    Args:
        commands: has ``scan_chunks`` and ``delete_many``.
        prefix: what the keys begin with.
    """
    async with aclosing(commands.scan_chunks(prefix, 1000)) as chunks:
        async for keys in chunks:
            await commands.delete_many(*keys)


def texts_of(keys: list[bytes]) -> list[str]:
    """Return keys as text, without those that are none: they belong to other programs."""
    try:
        return [*map(bytes.decode, keys)]
    except UnicodeDecodeError:
        return [key.decode() for key in keys if _is_text(key)]


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
