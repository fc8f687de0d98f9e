"""The header that says what a payload is, where its first byte does not.

JSON objects begin with ``{`` and msgpack maps with 0x80-0x8f, 0xde or 0xdf; they are stored bare. Every other payload
begins with a header, whose first byte msgpack never uses and which is no text either:

===== ===========================================================================================
bytes
===== ===========================================================================================
1     0xc1
1     the format of the header, 1
1     flags: what follows the name, and what was done to the body
1     length of the serializer's name
n     the serializer's name, UTF-8
4     with the flag ``VERSIONED``: the schema version, big-endian
rest  the body
===== ===========================================================================================

Two payloads stand where there is no row, and have neither name nor version: a remembered miss, :data:`ABSENT`, and the
lease of who is about to store one, which is :data:`LEASE` and what tells it from others.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ABSENT",
    "COMPRESSED",
    "LARGEST_VERSION",
    "LEASE",
    "MAGIC",
    "SIGNED",
    "Header",
    "identify",
    "is_absence",
    "is_lease",
    "parse",
]

MAGIC = 0xC1
_MAGIC = bytes([MAGIC])
_FORMAT = 1

_MISS = 0x01
COMPRESSED = 0x02
"""The body was compressed after it was packed."""
VERSIONED = 0x04
SIGNED = 0x08
"""The body ends with a signature."""

_LEASED = 0x10

_KNOWN = _MISS | COMPRESSED | VERSIONED | SIGNED
_FIXED = 4
_VERSION_SIZE = 4
LARGEST_VERSION = 2 ** (8 * _VERSION_SIZE) - 1

ABSENT = bytes([MAGIC, _FORMAT, _MISS, 0])
"""What is stored to remember that there is no row: every read takes it for a miss."""

LEASE = bytes([MAGIC, _FORMAT, _MISS | _LEASED, 0])
"""What a lease begins with; it says that somebody is loading the row. By itself it is a lease that was given up."""


def is_absence(payload: bytes) -> bool:
    """Tell whether a payload says that there is no row: a remembered miss, or a lease."""
    return payload == ABSENT or payload[:_FIXED] == LEASE


def is_lease(payload: bytes | None) -> bool:
    """Tell whether a payload is a lease that somebody holds."""
    return payload is not None and len(payload) > _FIXED and payload[:_FIXED] == LEASE


class Header(NamedTuple):
    """What a payload says about its body.

    Attributes:
        serializer: the name of what packed it.
        version: the schema version of the row, ``None`` if it was written without one.
        flags: :data:`COMPRESSED` and :data:`SIGNED`.
    """

    serializer: str
    version: int | None = None
    flags: int = 0

    def pack(self) -> bytes:
        """Give the bytes that the body follows.

        Raises:
            ValueError: the name is empty, or longer than 255 bytes; the version is negative or has more than 32 bits.
        """
        name = self.serializer.encode()
        if not 0 < len(name) <= 0xFF:
            raise ValueError(f"the name of a serializer takes 1 to 255 bytes, this one has {len(name)}")
        flags, version = self.flags, b""
        if self.version is not None:
            if not 0 <= self.version <= LARGEST_VERSION:
                raise ValueError(f"a schema version is a number from 0 to {LARGEST_VERSION}")
            flags, version = flags | VERSIONED, self.version.to_bytes(_VERSION_SIZE, "big")
        return bytes([MAGIC, _FORMAT, flags, len(name)]) + name + version


def parse(payload: bytes) -> tuple[Header, int]:
    """Read the header of a payload that begins with :data:`MAGIC` and is no remembered miss.

    Returns:
        The header, and where the body begins.

    Raises:
        ValueError: it is cut off, of a later format, or none at all.
    """
    if len(payload) < _FIXED or payload[0] != MAGIC:
        raise ValueError("its header is cut off")
    _, form, flags, size = payload[:_FIXED]
    if form != _FORMAT or flags & ~_KNOWN:
        raise ValueError("its header is of a later version of cacheorm")
    if flags & _MISS:
        raise ValueError("its header is that of a remembered miss, with something more")
    body = _FIXED + size + (_VERSION_SIZE if flags & VERSIONED else 0)
    if not size or len(payload) < body:
        raise ValueError("its header is cut off")
    try:
        name = payload[_FIXED : _FIXED + size].decode()
    except UnicodeDecodeError:
        raise ValueError("the serializer's name in its header is no text") from None
    version = int.from_bytes(payload[body - _VERSION_SIZE : body], "big") if flags & VERSIONED else None
    return Header(name, version, flags & ~VERSIONED), body


_BARE = {b"{": Header("json")} | {bytes([first]): Header("msgpack") for first in (*range(0x80, 0x90), 0xDE, 0xDF)}


def identify(payload: bytes) -> tuple[Header | None, int]:
    """Tell what a payload is that is no remembered miss.

    Returns:
        Its header, that of what is stored without one included, and where the body begins; ``None`` and 0 where the
        payload does not say what it is.

    Raises:
        ValueError: its header is cut off, of a later format, or none at all.
    """
    first = payload[:1]
    if first == _MAGIC:
        return parse(payload)
    if first == b"\x80" and len(payload) > 1:
        # An empty map is one byte and no more; pickles begin so, which older versions stored without a header.
        return None, 0
    return _BARE.get(first), 0
