"""Enumerating the keys of memcached servers: ``lru_crawler metadump``.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "LRU Crawler". A server gives one such dump at a
time. ``metadump hash`` goes through the hash table; ``all``, for servers that do not know that, through the lists of
recent use, and passes by some entries that are moved from list to list meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ...errors import BackendError
from .._net.exchange import Exchange
from .._net.pool import Pool
from .._net.scanning import Ends, read_on, texts_of
from .._net.transport import IO

__all__ = ["dump_keys"]

_KINDS = (b"hash", b"all")

# Seconds to wait while the server gives another dump.
_PAUSE = 0.1

_HINTS = {
    "ERROR": "it does not know lru_crawler metadump: memcached 1.6 or later is needed, and no proxy before it",
    "CLIENT_ERROR lru crawler disabled": "it was started with no_lru_crawler",
    "BUSY": "it is giving the keys to somebody else, one at a time; try again later",
}


class Dump(Exchange):
    """Reads the keys that begin with a prefix, out of all keys of a server.

    Args:
        kind: of the dump.
        prefix: what the keys begin with.

    Attributes:
        refusal: why the server gives none.
    """

    refusal: str | None = None

    def __init__(self, kind: bytes, prefix: str) -> None:
        self._request = b"lru_crawler metadump %b\r\n" % kind
        # As memcached encodes keys: all but letters, digits and these four characters.
        begin = quote_from_bytes(prefix.encode(), safe="-._~").encode()
        self._pattern = re.compile(rb"^key=(%b\S*) " % re.escape(begin), re.MULTILINE)
        self._keys: list[bytes] = []

    def request(self) -> bytes | None:
        self.has_more = False
        return self._request

    def read(self, reader: Any) -> bool:
        lines: bytes = reader.read_lines()
        if not lines:
            return False
        if lines.startswith((b"key=", b"END\r\n")):
            self._keys += self._pattern.findall(lines)
            return lines == b"END\r\n" or lines.endswith(b"\nEND\r\n")
        if lines.count(b"\n") != 1:
            raise ValueError("expected the keys of the server")
        self.refusal = lines.decode("utf-8", "replace").strip()
        return True

    def take(self) -> list[str]:
        """Return the keys that have come since the last call."""
        keys, self._keys = self._keys, []
        return texts_of([unquote_to_bytes(key) if b"%" in key else key for key in keys])


async def dump_keys(
    io: IO, pool: Pool, prefix: str, ends: Ends, choose: Callable[[list[str]], list[str]]
) -> AsyncGenerator[list[str], None]:
    """Yield the keys of one server that begin with a prefix.

    Args:
        io: the kind of I/O.
        pool: connections to the server.
        prefix: what the keys begin with.
        ends: bounds the wait for each part of the dump, and that for the end of the dump of somebody else.
        choose: returns those of some keys that belong to the server.

    Raises:
        BackendError: the server failed, or does not give its keys.
    """
    kinds = [*_KINDS]
    end = ends()
    while True:
        dump = Dump(kinds[0], prefix)
        async with aclosing(read_on(io, pool, dump, ends)) as parts:
            async for _ in parts:
                if keys := choose(dump.take()):
                    yield keys
        if dump.refusal is None:
            return
        word = dump.refusal.partition(" ")[0]
        if word == "BUSY" and end - time.monotonic() > _PAUSE:
            await io.sleep(_PAUSE)
        elif word == "BADCLASS" and len(kinds) > 1:
            del kinds[0]
        else:
            hint = _HINTS.get(dump.refusal) or _HINTS.get(word)
            raise BackendError(f"{pool.server}: no keys: {dump.refusal}{f' ({hint})' if hint else ''}")
