"""Enumerating the keys of memcached servers: ``lru_crawler metadump``.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "LRU Crawler". A server gives one such dump at a
time, and whoever asks for another one meanwhile may hold up one of its threads, with all connections of that. So a dump
is read as fast as the server gives it, into a file if it is large, and handed out afterwards.

``metadump hash`` goes through the hash table. ``all``, for servers that do not know that, goes through the lists of
recent use, and passes by some entries that are moved from list to list meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, Self
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ...errors import BackendError
from .._net.exchange import Exchange, half_of
from .._net.lock import Lock
from .._net.pool import Pool
from .._net.scanning import Ends, texts_of
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


# Bytes of keys that are handed out at a time.
_PART = 1 << 16

# Bytes of keys that are kept in memory; more are kept in a temporary file.
_IN_MEMORY = 1 << 22


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
        self._keys = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the dump

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._keys.close()

    def request(self) -> bytes:
        return self._request

    def read(self, reader: Any) -> bool:
        lines: bytes = reader.read_lines()
        if not lines:
            return False
        if lines.startswith((b"key=", b"END\r\n")):
            if keys := self._pattern.findall(lines):
                self._keys.write(b"\n".join([*keys, b""]))
            return lines == b"END\r\n" or lines.endswith(b"\nEND\r\n")
        if lines.count(b"\n") != 1:
            raise ValueError("expected the keys of the server")
        self.refusal = lines.decode("utf-8", "replace").strip()
        return True

    def parts(self) -> Iterator[list[str]]:
        """Yield the keys that have come, in lists."""
        self._keys.seek(0)
        while lines := self._keys.readlines(_PART):
            keys = b"".join(lines).split(b"\n")[:-1]
            yield texts_of([unquote_to_bytes(key) if b"%" in key else key for key in keys])


async def dump_keys(io: IO, pool: Pool, prefix: str, ends: Ends, lock: Lock) -> AsyncGenerator[list[str], None]:
    """Yield the keys of one server that begin with a prefix.

    Args:
        io: the kind of I/O.
        pool: connections to the server.
        prefix: what the keys begin with.
        ends: bounds the wait for each part of the dump; half of that time is spent waiting for the end of another one.
        lock: held while a dump is read.

    Raises:
        BackendError: the server failed, or does not give its keys.
    """
    kinds = [*_KINDS]
    last = half_of(ends())
    while True:
        with Dump(kinds[0], prefix) as dump:
            with await lock.take(ends()):
                await _read(pool, dump, ends)
            if dump.refusal is None:
                for keys in dump.parts():
                    yield keys
                return
        word = dump.refusal.partition(" ")[0]
        if word == "BUSY" and time.monotonic() < last:
            await io.sleep(_PAUSE)
        elif word == "BADCLASS" and len(kinds) > 1:
            del kinds[0]
        else:
            hint = _HINTS.get(dump.refusal) or _HINTS.get(word)
            raise BackendError(f"{pool.server}: no keys: {dump.refusal}{f' ({hint})' if hint else ''}")


async def _read(pool: Pool, dump: Dump, ends: Ends) -> None:
    """Read a dump, however long it takes, as long as there is always some more of it in time."""
    transport = await pool.take(ends())
    complete = False
    try:
        transport.send(dump.request())
        while not complete:
            await transport.receive(ends())
            complete = dump.read(transport.reader)
    except (OSError, ValueError) as error:
        raise pool.failure(error, transport, dump.effect) from error
    finally:
        pool.give_back(transport, complete)
