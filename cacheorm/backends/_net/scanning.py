"""Enumerating keys over a network: what the commands of all servers share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from .exchange import Exchange

__all__ = ["Ends", "delete_prefix", "in_lists", "read_on", "texts_of"]

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


async def read_on(io: Any, pool: Any, exchange: Exchange, ends: Ends) -> AsyncGenerator[None, None]:
    """Carry out an exchange whose reply has any length: yield whenever a part of it has been read.

    It has a connection apart from those of the pool, as the caller may use these between two parts. Meanwhile nothing is
    received, so that the reply does not pile up here.

    Args:
        io: the kind of I/O.
        pool: connections to the server.
        exchange: what to ask.
        ends: bounds the wait for each part.

    Raises:
        BackendError: it did not come to its end.
    """
    apart = io.pool(pool.endpoint, pool.breaker)
    try:
        transport = await apart.take(ends())
        complete = False
        try:
            while exchange.has_more and (data := exchange.request()) is not None:
                transport.send(data)
            while not complete:
                end = ends()
                apart.check_time(end)
                await transport.receive(end)
                complete = exchange.read(transport.reader)
                transport.hold(True)
                yield
                transport.hold(False)
        except (OSError, ValueError) as error:
            raise apart.failure(error, transport, exchange.effect) from error
        finally:
            apart.give_back(transport, complete)
    finally:
        apart.close(retire=True)


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
