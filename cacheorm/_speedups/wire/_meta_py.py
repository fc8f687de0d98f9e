"""memcached's meta commands: the Python version of ``_meta_c.pyx``.

The protocol: https://github.com/memcached/memcached/blob/master/doc/protocol.txt. Arguments are as those of
:mod:`._resp_py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ._lines_py import MAX_LINE, find_line_end
from ._positions_py import check_places, position_at
from ._reply_buffer_py import ReplyBuffer

__all__ = ["MetaReader", "pack_meta", "pack_meta_get", "pack_meta_set"]

# The reply to a get as nearly all are.
_HIT = re.compile(rb"VA ([0-9]{1,9}) k([!-~]{1,250})\r\n")


def pack_meta(name: bytes, keys: Sequence[str], flags: bytes, start: int, stop: int) -> bytes:
    """Pack one meta command without a value, such as ``md``, for each key; every one is answered.

    ``flags`` is what follows the key, such as ``b"t c"``.
    """
    tail = b" %b\r\n" % flags if flags else b"\r\n"
    return b"".join([b"%b %b%b" % (name, key.encode("utf-8"), tail) for key in keys[max(start, 0) : max(stop, 0)]])


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
    position = start = max(start, 0)
    while position < stop and (size < limit or position == start):
        value = values[position]
        part = b"ms %b %d%b%b\r\n" % (keys[position].encode("utf-8"), len(value), tail, value)
        parts.append(part)
        size += len(part)
        position += 1
    return b"".join(parts), position


class MetaReader(ReplyBuffer):
    """Parses the replies of memcached's meta commands from bytes that arrive in any pieces."""

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
        check_places(position, stop, keys)
        check_places(position, stop, values)
        while True:
            buffer, at = self._buffer, self._start
            hit = _HIT.match(buffer, at, self._end)
            if hit is not None:
                end, size, key = hit.end() - 2, int(hit[1]), hit[2]
            else:
                end = find_line_end(buffer, at, self._end)
                if end < 0:
                    return position
                line = bytes(buffer[at:end])
                if line == b"MN":
                    self._start = end + 2
                    return -1
                if not line.startswith(b"VA "):
                    raise ValueError(f"expected a value or MN, got {_shown(line)}")
                size, flags = _value_head(line)
                key = next((flag[1:] for flag in flags if flag[:1] == b"k"), None)
            value = self._value(end, size)
            if value is None:
                return position
            if key is None:
                raise ValueError("a value came without its key")
            # Misses are silent and hits come in the order of the request: a key further back was not requested.
            while position < stop and keys[position].encode("utf-8") != key:
                position += 1
            if position >= stop:
                raise ValueError("a value came for a key that was not asked for at this place")
            self._start = end + 4 + size
            values[position] = value
            position += 1

    def read_statuses(self, values: list[Any], positions: list[int] | None, place: int, stop: int) -> int:
        """Take replies without values, and put one status each where it belongs.

        ``True`` for done (``HD``), ``False`` for not stored, not found or changed meanwhile (``NS``, ``NF``,
        ``EX``, ``EN``), and the server's words, a ``str``, where it refused.

        Args:
            values: of the whole batch; filled in place.
            positions: where in ``values`` each status belongs; ``None`` if its place is its position.
            place: of the first status that is due.
            stop: the place to stop before.

        Returns:
            The place of the first status that is still due.

        Raises:
            IndexError: a place or a position lies outside of the batch.
        """
        check_places(place, stop, values if positions is None else positions)
        while place < stop:
            position = position_at(positions, place, len(values))
            end = find_line_end(self._buffer, self._start, self._end)
            if end < 0:
                break
            line = bytes(self._buffer[self._start : end])
            code = line[:2]
            if len(line) > 2 and line[2] != 0x20:
                code = b""
            status: bool | str = code == b"HD"
            if not status and code not in (b"NS", b"NF", b"EX", b"EN"):
                if not _is_error(line):
                    raise ValueError(f"expected a status, got {_shown(line)}")
                status = line.decode("utf-8", "replace")
            self._start = end + 2
            values[position] = status
            place += 1
        return place

    def read_reply(self) -> tuple[bytes, list[bytes], bytes | None] | None:
        """Take one reply of any kind.

        Returns:
            ``None`` if it is not complete. Otherwise the first word of the line, the other words (for a
            value, those after its size), and the value's bytes or ``None``. An error's line comes whole, as
            first word.
        """
        end = find_line_end(self._buffer, self._start, self._end)
        if end < 0:
            return None
        line = bytes(self._buffer[self._start : end])
        if line.startswith(b"VA "):
            size, flags = _value_head(line)
            value = self._value(end, size)
            if value is None:
                return None
            self._start = end + 4 + size
            return b"VA", flags, value
        self._start = end + 2
        if _is_error(line):
            return line, [], None
        words = line.split(b" ")
        return words[0], [word for word in words[1:] if word], None

    def read_lines(self) -> bytes:
        """Take all whole lines that have arrived, which may end with LF alone; return them as they are.

        Raises:
            ValueError: a line is longer than any that memcached sends.
        """
        end = self._buffer.rfind(b"\n", self._start, self._end) + 1
        if end == 0:
            if self._end - self._start >= MAX_LINE:
                raise ValueError(f"a line is longer than {MAX_LINE} bytes")
            return b""
        lines = bytes(self._buffer[self._start : end])
        self._start = end
        return lines

    def _value(self, end: int, size: int) -> bytes | None:
        """Return the value that follows the line that ends at ``end``; ``None`` where it has not arrived."""
        self._check_size(size)
        if self._end < end + 4 + size:
            return None
        if self._buffer[end + 2 + size : end + 4 + size] != b"\r\n":
            raise ValueError("a value is not as long as its size says")
        return bytes(self._buffer[end + 2 : end + 2 + size])


def _value_head(line: bytes) -> tuple[int, list[bytes]]:
    """Parse ``VA <size> <flags>*``."""
    words = line.split(b" ")
    size = words[1]
    if not 0 < len(size) <= 10 or not size.isdigit():
        raise ValueError(f"expected the size of a value, got {_shown(line)}")
    return int(size), [word for word in words[2:] if word]


def _is_error(line: bytes) -> bool:
    return line == b"ERROR" or line.startswith((b"ERROR ", b"CLIENT_ERROR ", b"SERVER_ERROR "))


def _shown(line: bytes) -> str:
    """Show an error's line, or the start of any other: that may be a part of somebody's value."""
    return ascii(line if _is_error(line) else line[:16])
