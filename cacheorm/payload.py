"""The header of payloads, which names their serializer.

JSON objects begin with ``{`` and msgpack maps with 0x80-0x8f, 0xde or 0xdf; they are stored without a header. Every
other payload begins with one. Its first byte is never used by msgpack, and cannot begin UTF-8 text:

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

Two payloads are stored where there is no row, and have neither name nor version. One is a remembered miss,
:data:`ABSENT`. The other is a lease, taken by a caller that is about to store the row: :data:`LEASE` and a token.
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
"""A remembered miss: what is stored to remember that there is no row. Every read treats it as a miss."""

LEASE = bytes([MAGIC, _FORMAT, _MISS | _LEASED, 0])
"""What a lease begins with: the row is being loaded. Without a token after it, it is a lease that was released."""


def is_absence(payload: bytes) -> bool:
    """Return whether a payload stands for no row: a remembered miss, or a lease."""
    return payload == ABSENT or payload[:_FIXED] == LEASE


def is_lease(payload: bytes | None) -> bool:
    """Return whether a payload is a lease that is held, not a released one."""
    return payload is not None and len(payload) > _FIXED and payload[:_FIXED] == LEASE


class Header(NamedTuple):
    """The header of a payload: how its body has to be read.

    Attributes:
        serializer: the name of the serializer that packed the body.
        version: the schema version of the row, ``None`` if it was written without one.
        flags: :data:`COMPRESSED` and :data:`SIGNED`.
    """

    serializer: str
    version: int | None = None
    flags: int = 0

    def pack(self) -> bytes:
        """Return the bytes that come before the body.

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
        The header, and the position at which the body begins.

    Raises:
        ValueError: it is cut off, of a later format, or none at all.
    """
    if len(payload) < _FIXED or payload[0] != MAGIC:
        raise ValueError("its header is cut off")
    _, header_format, flags, size = payload[:_FIXED]
    if header_format != _FORMAT or flags & ~_KNOWN:
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
    """Identify the format of a payload that is no remembered miss.

    Returns:
        The header and the position at which the body begins. Payloads that are stored without a header have one as
        well, at position 0. If the format is unknown: ``None`` and 0.

    Raises:
        ValueError: its header is cut off, of a later format, or none at all.
    """
    first = payload[:1]
    if first == _MAGIC:
        return parse(payload)
    if first == b"\x80" and len(payload) > 1:
        # An empty map is one byte and no more. A pickle begins with it; older versions stored those without a header.
        return None, 0
    return _BARE.get(first), 0
