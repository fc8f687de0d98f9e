"""The protocols of Redis and memcached without I/O, pure Python: the readable twin of ``_wire_c.pyx``.

Requests of whole batches are packed into one buffer, and their replies are parsed as they arrive.

* RESP, the Redis protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
* hash slots of Redis Cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
* memcached's meta commands: https://github.com/memcached/memcached/blob/master/doc/protocol.txt

Values are ``bytes`` here (:func:`encode_values` makes them so), keys ``str`` that were checked with
:func:`check_keys` or :func:`check_memcached_keys` before anything was sent. Functions that pack a part of a
batch take ``start`` and ``stop``, positions in the lists of the whole batch; those that pack what goes to one of
several nodes take the ``positions`` themselves.
"""

from __future__ import annotations

import binascii
import re
from array import array
from collections.abc import Sequence
from typing import Any

from ..errors import InvalidKeyError
from ..types import Value, to_bytes

__all__ = [
    "SLOTS",
    "MetaReader",
    "RespReader",
    "check_keys",
    "check_memcached_keys",
    "encode_values",
    "key_slots",
    "pack_command",
    "pack_gets",
    "pack_keys",
    "pack_meta",
    "pack_meta_get",
    "pack_meta_set",
    "pack_set",
    "pack_sets",
    "route",
    "total_size",
]

SLOTS = 16384
"""How many hash slots a Redis Cluster has."""

_MAX_KEY_BYTES = 250
_MAX_LINE = 4096
_MAX_VALUE = 1 << 30
_RESP_ROOM = 1 << 18

# The reply to a get as nearly all are.
_HIT = re.compile(rb"VA ([0-9]{1,9}) k([!-~]{1,250})\r\n")
_FORBIDDEN = re.compile(rb"[\x00-\x20\x7f]")


def check_keys(keys: Sequence[str]) -> None:
    """Raise :exc:`InvalidKeyError` unless every key is a ``str`` that UTF-8 can encode."""
    for key in keys:
        _encode(key)


def _encode(key: str) -> bytes:
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        return key.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidKeyError(f"key {key[:80]!a} cannot be encoded as UTF-8") from None


def check_memcached_keys(keys: Sequence[str]) -> None:
    """Raise :exc:`InvalidKeyError` unless memcached takes every key.

    It takes 1 to 250 bytes of UTF-8 without space and control characters. Those end a key or a command, so
    that the rest of such a key would be run as a command of its own.
    """
    for key in keys:
        encoded = _encode(key)
        if not 0 < len(encoded) <= _MAX_KEY_BYTES:
            raise InvalidKeyError(f"key {key[:80]!a} has {len(encoded)} bytes; memcached takes 1 to {_MAX_KEY_BYTES}")
        if _FORBIDDEN.search(encoded):
            raise InvalidKeyError(f"key {key[:80]!a} holds a space or a control character; memcached takes none")


def encode_values(keys: Sequence[str], values: list[Value]) -> list[bytes]:
    """Give all values as bytes: the list itself where they are, a new one otherwise.

    Raises:
        TypeError: a value is of another type than :data:`~cacheorm.types.Value` names.
        ValueError: a text cannot be encoded as UTF-8.
    """
    if all(type(value) is bytes for value in values):
        return values  # type: ignore[return-value]
    return [_encode_value(key, value) for key, value in zip(keys, values, strict=True)]


def _encode_value(key: str, value: Value) -> bytes:
    try:
        encoded = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{key}: the text cannot be encoded as UTF-8") from None
    if encoded is None:
        raise TypeError(f"{key}: cannot store NoneType as bytes: expected bytes, str, int or float")
    return encoded


def total_size(values: Sequence[bytes | None]) -> int:
    """Give the bytes in ``values`` together, where ``None`` is none."""
    return sum(len(value) for value in values if value is not None)


# -- RESP ----------------------------------------------------------------------------------------------


def pack_command(args: Sequence[bytes | str | int]) -> bytes:
    """Pack one Redis command, its name first."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def pack_keys(name: bytes, keys: Sequence[str], start: int, stop: int) -> bytes:
    """Pack one Redis command over many keys, such as ``MGET`` or ``DEL``."""
    stop = min(stop, len(keys))
    parts = [b"*%d\r\n$%d\r\n%b\r\n" % (max(stop - start, 0) + 1, len(name), name)]
    for i in range(start, stop):
        key = keys[i].encode("utf-8")
        parts.append(b"$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_set(
    keys: Sequence[str],
    values: Sequence[bytes],
    ttl: int,
    condition: bytes,
    start: int,
    stop: int,
    limit: int,
) -> tuple[bytes, int]:
    """Pack a Redis ``SET`` for each entry, and stop early once the buffer has ``limit`` bytes.

    Args:
        keys: the keys of the whole batch.
        values: their values.
        ttl: seconds; 0 never expires, -1 keeps the lifetime that the entry has.
        condition: ``b"NX"`` (only where absent), ``b"XX"`` (only where present) or ``b""``.
        start: the first entry to pack; it is packed whatever its size.
        stop: the entry to stop before.
        limit: bytes.

    Returns:
        The buffer, and the position of the first entry that is not in it.
    """
    head, tail = _set_frame(ttl, condition)
    stop = min(stop, len(keys), len(values))
    parts: list[bytes] = []
    size = 0
    position = start
    while position < stop and (size < limit or not parts):
        part = _pack_entry(head, keys[position], values[position], tail)
        parts.append(part)
        size += len(part)
        position += 1
    return b"".join(parts), position


def _set_frame(ttl: int, condition: bytes) -> tuple[bytes, bytes]:
    """Give what stands before and after key and value in a ``SET``."""
    if ttl > 0:
        seconds = b"%d" % ttl
        options, tail = 2, b"$2\r\nEX\r\n$%d\r\n%b\r\n" % (len(seconds), seconds)
    elif ttl < 0:
        options, tail = 1, b"$7\r\nKEEPTTL\r\n"
    else:
        options, tail = 0, b""
    if condition:
        options += 1
        tail += b"$%d\r\n%b\r\n" % (len(condition), condition)
    return b"*%d\r\n$3\r\nSET\r\n" % (3 + options), tail


def _pack_entry(head: bytes, name: str, value: bytes, tail: bytes) -> bytes:
    key = name.encode("utf-8")
    return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (head, len(key), key, len(value), value, tail)


# -- RESP, to the nodes of a cluster -----------------------------------------------------------------------


def key_slots(keys: Sequence[str]) -> list[int]:
    """Give the hash slot of each key: the CRC16 of its hash tag, or of the whole key, modulo :data:`SLOTS`."""
    return [_slot(key) for key in keys]


def _slot(key: str) -> int:
    data = key.encode("utf-8")
    opened = data.find(b"{")
    if opened >= 0:
        closed = data.find(b"}", opened + 1)
        if closed > opened + 1:
            data = data[opened + 1 : closed]
    return binascii.crc_hqx(data, 0) % SLOTS


def route(keys: Sequence[str], owners: array[int], nodes: int, start: int, stop: int) -> list[list[int]]:
    """Divide a part of a batch by the node that serves each key.

    Args:
        keys: the keys of the whole batch.
        owners: the number of the node that serves each slot, an array of type ``H``; of a slot that no node serves,
            anything from ``nodes`` on.
        nodes: how many nodes there are.
        start: the first key.
        stop: the key to stop before.

    Returns:
        The positions of the keys of each node, and after those the positions of keys that no node serves.
    """
    _check_owners(owners)
    parts: list[list[int]] = [[] for _ in range(nodes + 1)]
    for position in range(max(start, 0), min(stop, len(keys))):
        parts[min(owners[_slot(keys[position])], nodes)].append(position)
    return parts


def _check_owners(owners: array[int]) -> None:
    if owners.typecode != "H" or len(owners) != SLOTS:
        raise ValueError(f"owners must be an array of {SLOTS} numbers of type H")


def pack_gets(keys: Sequence[str], positions: list[int]) -> bytes:
    """Pack a Redis ``GET`` of the key at each position."""
    parts = []
    for position in positions:
        _check_position(position, len(keys))
        key = keys[position].encode("utf-8")
        parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
    return b"".join(parts)


def pack_sets(keys: Sequence[str], values: Sequence[bytes], ttl: int, condition: bytes, positions: list[int]) -> bytes:
    """Pack a Redis ``SET`` of the entry at each position; see :func:`pack_set`."""
    head, tail = _set_frame(ttl, condition)
    parts = []
    for position in positions:
        _check_position(position, min(len(keys), len(values)))
        parts.append(_pack_entry(head, keys[position], values[position], tail))
    return b"".join(parts)


def _check_position(position: int, count: int) -> None:
    if not 0 <= position < count:
        raise IndexError(f"position {position} is outside of the batch")


class RespReader:
    """Parses the replies to many Redis commands from bytes that arrive in any pieces.

    Bytes are received straight into :meth:`room` and counted with :meth:`fill`. Each ``read_`` method takes what is
    complete, keeps the rest, and can be called again after more has arrived. They know the replies that their
    commands get when all is well. Where another one comes next (a refusal, a message that the server pushed) they
    stop before it and set :attr:`foreign`; :meth:`take` gives the bytes to whoever understands it.

    Raises (all ``read_`` methods):
        ValueError: the bytes are not what the protocol allows at this place. The connection is useless then.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_RESP_ROOM)
        self._start = self._end = 0
        self._left = -1
        self.foreign = False

    @property
    def pending(self) -> int:
        """How many bytes arrived and were not consumed."""
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """The size of the buffer in bytes: it grows with the largest value, and never shrinks."""
        return len(self._buffer)

    def room(self) -> memoryview:
        """Give a view of free memory for bytes that arrive. Calling it again may move what is in there."""
        capacity, rest = len(self._buffer), self._buffer[self._start : self._end]
        if capacity - len(rest) < capacity // 2:
            # A new one: views of the old one may be about.
            self._buffer = bytearray(capacity * 2)
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        return memoryview(self._buffer)[self._end :]

    def fill(self, size: int) -> None:
        """Count ``size`` bytes that were written to the start of :meth:`room`."""
        if not 0 <= size <= len(self._buffer) - self._end:
            raise ValueError(f"there is no room for {size} bytes")
        self._end += size

    def take(self) -> bytes:
        """Give the bytes that were not consumed, and forget them."""
        rest = bytes(self._buffer[self._start : self._end])
        self._start = self._end
        return rest

    def read_values(self, values: list[bytes | None], count: int) -> bool:
        """Take the reply to an ``MGET`` of ``count`` keys, and append a value for each.

        Returns:
            Whether the reply is complete now.
        """
        self.foreign = False
        if self._left < 0:
            if self._start == self._end:
                return False
            if self._buffer[self._start] != ord("*"):
                self.foreign = True
                return False
            line = self._line()
            if line is None:
                return False
            size = _resp_size(line)
            if size != count:
                raise ValueError(f"expected {count} values, got {size}")
            self._left = count
            self._start += len(line) + 2
        while self._left:
            line = self._line()
            if line is None:
                return False
            kind = line[:1]
            if kind != b"$" and line != b"_":
                raise ValueError(f"expected a value, got {kind!a}")
            size = -1 if kind == b"_" else _resp_size(line)
            at = self._start + len(line) + 2
            if size < 0:
                values.append(None)
                self._start = at
            else:
                if self._end - at - 2 < size:
                    return False
                if self._buffer[at + size : at + size + 2] != b"\r\n":
                    raise ValueError("a value is not as long as its size says")
                values.append(bytes(self._buffer[at : at + size]))
                self._start = at + size + 2
            self._left -= 1
        self._left = -1
        return True

    def read_statuses(self, statuses: list[bytes | None], count: int) -> bool:
        """Take replies to ``SET``, and append one each until there are ``count``.

        The words of the status, such as ``b"OK"``, or ``None`` where the condition was not met.

        Returns:
            Whether there are ``count`` statuses now.
        """
        self.foreign = False
        while len(statuses) < count:
            if self._start == self._end:
                return False
            if self._buffer[self._start] not in b"+$_":
                self.foreign = True
                return False
            line = self._line()
            if line is None:
                return False
            kind = line[:1]
            if kind == b"+":
                statuses.append(line[1:])
            elif line in (b"_", b"$-1"):
                statuses.append(None)
            else:
                raise ValueError(f"expected a status, got {kind!a}")
            self._start += len(line) + 2
        return True

    def read_replies(self, replies: list[Any], count: int) -> bool:
        """Take replies of one value each, and append them until there are ``count``.

        The words of a status, an int, the bytes of a value, or ``None`` for nothing.

        Returns:
            Whether there are ``count`` replies now.
        """
        self.foreign = False
        while len(replies) < count:
            if self._start == self._end:
                return False
            if self._buffer[self._start] not in b"+:$_":
                self.foreign = True
                return False
            line = self._line()
            if line is None:
                return False
            kind, after = line[:1], self._start + len(line) + 2
            reply: bytes | int | None = None
            if kind == b"+":
                reply = line[1:]
            elif kind == b":":
                reply = _resp_number(line)
            elif kind == b"$" and (size := _resp_size(line)) >= 0:
                if self._end - after - 2 < size:
                    return False
                if self._buffer[after + size : after + size + 2] != b"\r\n":
                    raise ValueError("a value is not as long as its size says")
                reply = bytes(self._buffer[after : after + size])
                after += size + 2
            elif kind == b"_" and line != b"_":
                raise ValueError("expected nothing, got something")
            replies.append(reply)
            self._start = after
        return True

    def read_gets(self, values: list[Any], positions: list[int], place: int) -> int:
        """Take replies to :func:`pack_gets`, and put each where its key stands.

        Args:
            values: of the whole batch.
            positions: what was packed.
            place: of the first of them that is due.

        Returns:
            The place of the first one that is still due.
        """
        self.foreign = False
        if place < 0:
            raise IndexError("place must lie inside the positions")
        while place < len(positions):
            if self._start == self._end:
                break
            if self._buffer[self._start] not in b"$_":
                self.foreign = True
                break
            line = self._line()
            if line is None:
                break
            if line[:1] == b"_" and line != b"_":
                raise ValueError(f"expected a value, got {line[:1]!a}")
            size = -1 if line == b"_" else _resp_size(line)
            at = self._start + len(line) + 2
            value = None
            if size >= 0:
                if self._end - at - 2 < size:
                    break
                if self._buffer[at + size : at + size + 2] != b"\r\n":
                    raise ValueError("a value is not as long as its size says")
                value = bytes(self._buffer[at : at + size])
                at += size + 2
            _check_position(positions[place], len(values))
            values[positions[place]] = value
            self._start = at
            place += 1
        return place

    def _line(self) -> bytes | None:
        """Give the next line without its CR LF, ``None`` where it has not arrived."""
        end = _find_line_end(self._buffer, self._start, self._end)
        return None if end < 0 else bytes(self._buffer[self._start : end])


def _resp_size(line: bytes) -> int:
    """Parse the size in ``$<size>`` or ``*<size>``; -1 stands for nothing."""
    digits = line[1:]
    if digits == b"-1":
        return -1
    if not 0 < len(digits) <= 12 or not digits.isdigit():
        raise ValueError("a size is no number")
    return int(digits)


def _resp_number(line: bytes) -> int:
    """Parse the number in ``:<number>``, one of 64 bits at most."""
    digits = line[2:] if line[1:2] == b"-" else line[1:]
    if not 0 < len(digits) <= 19 or not digits.isdigit():
        raise ValueError("expected a number, got something else")
    return int(line[1:])


# -- memcached -----------------------------------------------------------------------------------------


def pack_meta(name: bytes, keys: Sequence[str], flags: bytes, start: int, stop: int) -> bytes:
    """Pack one meta command without a value, such as ``md``, for each key; every one is answered.

    ``flags`` is what follows the key, such as ``b"t c"``.
    """
    tail = b" %b\r\n" % flags if flags else b"\r\n"
    return b"".join([b"%b %b%b" % (name, key.encode("utf-8"), tail) for key in keys[start:stop]])


def pack_meta_get(keys: Sequence[str], start: int, stop: int) -> bytes:
    """Pack quiet meta gets, closed by ``mn``: hits are answered with their key, misses not at all."""
    return pack_meta(b"mg", keys, b"k v q", start, stop) + b"mn\r\n"


def pack_meta_set(
    keys: Sequence[str],
    values: Sequence[bytes],
    exptime: int,
    mode: bytes,
    start: int,
    stop: int,
    limit: int,
) -> tuple[bytes, int]:
    """Pack a meta set for each entry, and stop early once the buffer has ``limit`` bytes.

    Every one is answered, in order: the line that refuses a value names no key, and its place is what tells.

    Args:
        keys: the keys of the whole batch.
        values: their values.
        exptime: memcached's: seconds up to 30 days, a Unix time beyond, 0 never expires.
        mode: ``b"E"`` (add), ``b"R"`` (replace) or ``b"S"`` (set).
        start: the first entry to pack; it is packed whatever its size.
        stop: the entry to stop before.
        limit: bytes.

    Returns:
        The buffer, and the position of the first entry that is not in it.
    """
    tail = b" T%d M%b\r\n" % (exptime, mode)
    stop = min(stop, len(keys), len(values))
    parts: list[bytes] = []
    size = 0
    position = start
    while position < stop and (size < limit or not parts):
        value = values[position]
        part = b"ms %b %d%b%b\r\n" % (keys[position].encode("utf-8"), len(value), tail, value)
        parts.append(part)
        size += len(part)
        position += 1
    return b"".join(parts), position


class MetaReader:
    """Parses the replies of memcached's meta commands from bytes that arrive in any pieces.

    Bytes go in with :meth:`feed`. Each ``read_`` method takes what is complete, keeps the rest, and can be
    called again after more was fed.

    Raises (all ``read_`` methods):
        ValueError: the bytes are not what the protocol allows at this place. The connection is useless then.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes were fed and not consumed."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes that arrived."""
        self._buffer += data

    def read_values(self, keys: Sequence[str], values: list[bytes | None], position: int, stop: int) -> int:
        """Take the replies to :func:`pack_meta_get`.

        Args:
            keys: the keys of the whole batch.
            values: as long as ``keys``, ``None`` where nothing is known yet; filled in place.
            position: the first key whose reply was not read yet: ``start`` first, then what was returned.
            stop: as it was packed.

        Returns:
            The position to go on from, or -1 once the closing ``MN`` was read.
        """
        if not 0 <= position <= stop <= len(keys) or stop > len(values):
            raise IndexError("position and stop must lie inside the batch")
        buffer = self._buffer
        at = 0
        try:
            while True:
                hit = _HIT.match(buffer, at)
                if hit is not None:
                    end, size, key = hit.end() - 2, int(hit[1]), hit[2]
                else:
                    end = _find_line_end(buffer, at, len(buffer))
                    if end < 0:
                        return position
                    line = bytes(buffer[at:end])
                    if line == b"MN":
                        at = end + 2
                        return -1
                    if not line.startswith(b"VA "):
                        raise ValueError(f"expected a value or MN, got {_shown(line)}")
                    size, flags = _value_head(line)
                    key = next((flag[1:] for flag in flags if flag[:1] == b"k"), None)
                if len(buffer) < end + 4 + size:
                    return position
                if buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                    raise ValueError("a value is not as long as its size says")
                if key is None:
                    raise ValueError("a value came without its key")
                # Misses are silent and hits come in the order of the request: what is not ahead was not asked.
                while position < stop and keys[position].encode("utf-8") != key:
                    position += 1
                if position >= stop:
                    raise ValueError("a value came for a key that was not asked for at this place")
                values[position] = bytes(buffer[end + 2 : end + 2 + size])
                position += 1
                at = end + 4 + size
        finally:
            del buffer[:at]

    def read_statuses(self, statuses: list[bool | str], count: int) -> bool:
        """Take replies without values, and append one status each until there are ``count``.

        ``True`` for done (``HD``), ``False`` for not stored, not found or changed meanwhile (``NS``, ``NF``,
        ``EX``, ``EN``), and the server's words, a ``str``, where it refused.

        Returns:
            Whether there are ``count`` statuses now.
        """
        buffer = self._buffer
        at = 0
        try:
            while len(statuses) < count:
                end = _find_line_end(buffer, at, len(buffer))
                if end < 0:
                    return False
                line = bytes(buffer[at:end])
                code = line[:2]
                if len(line) > 2 and line[2] != 0x20:
                    code = b""
                if code == b"HD":
                    statuses.append(True)
                elif code in (b"NS", b"NF", b"EX", b"EN"):
                    statuses.append(False)
                elif _is_error(line):
                    statuses.append(line.decode("utf-8", "replace"))
                else:
                    raise ValueError(f"expected a status, got {_shown(line)}")
                at = end + 2
            return True
        finally:
            del buffer[:at]

    def read_reply(self) -> tuple[bytes, list[bytes], bytes | None] | None:
        """Take one reply of any kind.

        Returns:
            ``None`` if it is not complete. Otherwise the first word of the line, the other words (for a
            value, those after its size), and the value's bytes or ``None``. An error's line comes whole, as
            first word.
        """
        buffer = self._buffer
        end = _find_line_end(buffer, 0, len(buffer))
        if end < 0:
            return None
        line = bytes(buffer[:end])
        if line.startswith(b"VA "):
            size, flags = _value_head(line)
            if len(buffer) < end + 4 + size:
                return None
            if buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise ValueError("a value is not as long as its size says")
            value = bytes(buffer[end + 2 : end + 2 + size])
            del buffer[: end + 4 + size]
            return b"VA", flags, value
        del buffer[: end + 2]
        if _is_error(line):
            return line, [], None
        words = line.split(b" ")
        return words[0], [word for word in words[1:] if word], None


def _value_head(line: bytes) -> tuple[int, list[bytes]]:
    """Parse ``VA <size> <flags>*``."""
    words = line.split(b" ")
    size = words[1]
    if not 0 < len(size) <= 10 or not size.isdigit() or int(size) > _MAX_VALUE:
        raise ValueError(f"expected the size of a value, got {_shown(line)}")
    return int(size), [word for word in words[2:] if word]


def _is_error(line: bytes) -> bool:
    return line == b"ERROR" or line.startswith((b"ERROR ", b"CLIENT_ERROR ", b"SERVER_ERROR "))


def _shown(line: bytes) -> str:
    """Show an error's line, or the start of any other: that may be a part of somebody's value."""
    return ascii(line if _is_error(line) else line[:16])


def _find_line_end(buffer: bytearray, at: int, stop: int) -> int:
    """Give the place of the line's CR LF, -1 where it has not arrived."""
    end = buffer.find(b"\r\n", at, min(at + _MAX_LINE, stop))
    if end < 0 and stop - at >= _MAX_LINE:
        raise ValueError(f"a line is longer than {_MAX_LINE} bytes")
    return end
