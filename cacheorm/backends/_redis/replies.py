"""Replies read straight off the socket of a redis-py connection, where that is safe and faster.

redis-py makes Python calls for each reply, and without hiredis many for each value. Most replies are of a few kinds,
which :class:`~cacheorm._speedups.wire.RespReader` knows. When anything else arrives (a refusal, a message
that the server pushed) it is given, with all that follows, to the connection's own parser, and redis-py reads on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from ... import _speedups
from ..._speedups import wire
from .transport import Link

__all__ = ["Replies", "find_feed"]

# A buffer grows with the largest value; larger ones than this are not kept for the next exchange.
_KEPT_BYTES = 1 << 20


class Replies:
    """The replies to one exchange; make it before anything is sent, and call :meth:`finish` after the last one.

    Args:
        link: the connection.
        idle: readers that nobody uses: one is taken from there, and put back in the end.
    """

    def __init__(self, link: Link, idle: list[wire.RespReader]) -> None:
        self._link = link
        self._idle = idle
        self._reader: wire.RespReader | None = None
        self._give_back = link.feed
        if self._give_back is not None:
            try:
                self._reader = idle.pop()
            except IndexError:
                self._reader = wire.RespReader()

    async def read_values(self, count: int) -> list[bytes | None]:
        """Read the reply to one ``MGET`` of ``count`` keys."""
        values: list[bytes | None] = []
        while self._reader is not None:
            if self._reader.read_values(values, count):
                return values
            await self._go_on(self._reader)
        return await self._link.parse()  # type: ignore[no-any-return]

    async def read_gets(self, values: list[Any], positions: list[int]) -> bool:
        """Read replies to ``GET``, each to its position, a ``ResponseError`` for each refusal.

        Returns:
            Whether all of them are values.
        """
        place = 0
        while self._reader is not None:
            place = self._reader.read_gets(values, positions, place)
            if place == len(positions):
                return True
            await self._go_on(self._reader)
        for position in positions[place:]:
            replies: list[Any] = []
            await _parse_replies(self._link, 1, replies)
            (values[position],) = replies
        return False

    async def read_statuses(self, statuses: list[Any], count: int) -> None:
        """Read replies to ``SET``, a ``ResponseError`` for each refusal, until there are ``count``."""
        while self._reader is not None:
            if self._reader.read_statuses(statuses, count):
                return
            await self._go_on(self._reader)
        await _parse_replies(self._link, count, statuses)

    async def read_replies(self, replies: list[Any], count: int) -> None:
        """Read replies of any kind, a ``ResponseError`` for each refusal, until there are ``count``."""
        while self._reader is not None:
            if self._reader.read_replies(replies, count):
                return
            await self._go_on(self._reader)
        await _parse_replies(self._link, count, replies)

    def finish(self) -> None:
        """Part from the connection: everything that was due has been read."""
        if self._reader is not None:
            self._put_back(self._reader)

    async def _go_on(self, reader: wire.RespReader) -> None:
        """Receive more, or leave the rest to the connection's own parser."""
        if reader.foreign:
            self._put_back(reader)
        else:
            await self._link.receive(reader)

    def _put_back(self, reader: wire.RespReader) -> None:
        self._reader = None
        if reader.pending and self._give_back is not None:
            self._give_back(reader.take())
        if reader.capacity <= _KEPT_BYTES:
            self._idle.append(reader)


async def _parse_replies(link: Link, count: int, replies: list[Any]) -> None:
    """Read replies with redis-py, a ``ResponseError`` for each refused command, until there are ``count``."""
    parse = link.parse
    append = replies.append
    for _ in range(count - len(replies)):
        try:
            append(await parse())
        except ResponseError as error:  # a reply like any other: the next one is due all the same
            append(error.with_traceback(None))


def find_feed(connection: Any, base: type) -> Callable[[bytes], Any] | None:
    """Find how to give bytes to a connection's parser; ``None`` where reading past it would be wrong, or slower.

    Args:
        connection: of redis-py, for threads or for asyncio.
        base: the class there whose way of reading is known.
    """
    parser = connection._parser if type(connection).read_response is base.read_response else None  # type: ignore[attr-defined]
    if not type(parser).__module__.startswith("redis."):
        return None  # somebody has made it their own: what is read has to go through it
    hiredis = getattr(parser, "_reader", None)
    if hiredis is not None:
        return hiredis.feed if _speedups.enabled else None
    buffered = getattr(getattr(parser, "_buffer", None), "_buffer", None)
    if not isinstance(buffered, io.BytesIO):
        return None

    def append(data: bytes) -> None:
        place = buffered.tell()
        buffered.seek(0, io.SEEK_END)
        buffered.write(data)
        buffered.seek(place)

    return append
