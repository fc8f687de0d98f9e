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
14    with the flag ``AGED``: the ages of the row, see :class:`Ages`
rest  the body
===== ===========================================================================================

Two payloads are stored where there is no row, and have neither name nor version. One is a remembered miss,
:data:`ABSENT`. The other is a lease, taken by a caller that is about to store the row: :data:`LEASE` and a token.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ABSENT",
    "AGES_SIZE",
    "COMPRESSED",
    "LARGEST_VERSION",
    "LEASE",
    "MAGIC",
    "SIGNED",
    "Ages",
    "Header",
    "ages_of",
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
AGED = 0x20

_KNOWN = _MISS | COMPRESSED | VERSIONED | SIGNED | AGED
_FIXED = 4
_VERSION_SIZE = 4
LARGEST_VERSION = 2 ** (8 * _VERSION_SIZE) - 1
_TIME_SIZE = 6
_PART_SIZE = 2
AGES_SIZE = 2 * _TIME_SIZE + _PART_SIZE
_LATEST = 2 ** (8 * _TIME_SIZE) - 1

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


class Ages(NamedTuple):
    """When a row was written, as the headers of models say it whose rows are refreshed or kept stale.

    Times are milliseconds since 1970, of 48 bits, big-endian.

    Attributes:
        written: when all of the row was written, or loaded.
        ends: when its lifetime ends, after which it is kept stale; 0: the backend alone knows.
        part: the share of the model's jitter that is the row's own, in parts of 65 536; of 16 bits.
    """

    written: int
    ends: int = 0
    part: int = 0

    def pack(self) -> bytes:
        """Return the bytes that stand for it in a header."""
        times = [max(0, min(time, _LATEST)).to_bytes(_TIME_SIZE, "big") for time in (self.written, self.ends)]
        return b"".join(times) + self.part.to_bytes(_PART_SIZE, "big")

    @classmethod
    def unpack(cls, packed: bytes) -> Ages:
        """Read what :meth:`pack` returned."""
        ends = _TIME_SIZE * 2
        written, end, part = packed[:_TIME_SIZE], packed[_TIME_SIZE:ends], packed[ends:]
        return cls(int.from_bytes(written, "big"), int.from_bytes(end, "big"), int.from_bytes(part, "big"))


class Header(NamedTuple):
    """The header of a payload: how its body has to be read.

    Attributes:
        serializer: the name of the serializer that packed the body.
        version: the schema version of the row, ``None`` if it was written without one.
        flags: :data:`COMPRESSED` and :data:`SIGNED`.
        ages: when the row was written, ``None`` if it was written without them.
    """

    serializer: str
    version: int | None = None
    flags: int = 0
    ages: Ages | None = None

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
        ages = b""
        if self.ages is not None:
            flags, ages = flags | AGED, self.ages.pack()
        return bytes([MAGIC, _FORMAT, flags, len(name)]) + name + version + ages


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
    ages_at = _FIXED + size + (_VERSION_SIZE if flags & VERSIONED else 0)
    body = ages_at + (AGES_SIZE if flags & AGED else 0)
    if not size or len(payload) < body:
        raise ValueError("its header is cut off")
    try:
        name = payload[_FIXED : _FIXED + size].decode()
    except UnicodeDecodeError:
        raise ValueError("the serializer's name in its header is no text") from None
    version = int.from_bytes(payload[ages_at - _VERSION_SIZE : ages_at], "big") if flags & VERSIONED else None
    ages = Ages.unpack(payload[ages_at:body]) if flags & AGED else None
    return Header(name, version, flags & ~(VERSIONED | AGED), ages), body


def ages_of(payload: bytes) -> Ages | None:
    """Return the ages in the header of a payload; ``None`` if it has none, or is no row."""
    if payload[:1] != _MAGIC or not payload[2:3] or not payload[2] & AGED:
        return None
    try:
        return parse(bytes(payload))[0].ages  # a backend may return any kind of buffer
    except ValueError:
        return None


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
