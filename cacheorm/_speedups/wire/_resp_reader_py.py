"""RESP replies, the Python version of ``_resp_reader_c.pyx``: parsed as they arrive, in any pieces."""

from __future__ import annotations

import re
from typing import Any

from ._lines_py import find_line_end
from ._positions_py import check_places, position_at
from ._reply_buffer_py import REPLY_LIMIT, ReplyBuffer
from ._resp_values_py import AGGREGATES, SIZED, make_aggregate, parse_line, parse_size, parse_sized

__all__ = ["RespReader"]

_MAX_DEPTH = 8
# Bytes that a reply inside of a list or map counts for, besides those of a value.
_EACH = 64
# Kinds that may come whatever was asked: refusals, attributes and pushes.
_ALWAYS = b"-!|>"
# What stands for a reply that has not arrived, and for one that is not a reply to a command.
_MISSING = object()
_DROPPED = object()
# The line of a value, which is what nearly all replies are.
_VALUE = re.compile(rb"\$([0-9]{1,12})\r\n")


class RespReader(ReplyBuffer):
    """Parses the replies to Redis commands, RESP 2 and RESP 3, from bytes that arrive in any pieces.

    ============================== ==================================================================================
    status, value, verbatim string ``bytes``; a verbatim string without its format
    refusal                        ``str``, and no other reply is one
    integer, big number            ``int``
    double                         ``float``
    boolean                        ``bool``
    null                           ``None``, also for the value or the array of RESP 2 that is none
    array, set                     ``list``
    map                            ``dict``
    attribute, push                dropped: they are no replies to a command
    ============================== ==================================================================================

    Aggregates are kept as far as they have arrived, so that nothing is parsed twice.
    """

    def __init__(self, limit: int = REPLY_LIMIT) -> None:
        super().__init__(limit)
        self._left = -1
        self._held = 0
        # Kind, number of replies and replies so far of each aggregate that is not complete, the outermost first.
        self._open: list[tuple[int, int, list[Any]]] = []

    def read_values(self, values: list[Any], count: int) -> bool:
        """Take the reply to one ``MGET`` of ``count`` keys, and append a value or ``None`` for each.

        If the server refused the command, that one refusal is appended.

        Returns:
            Whether the reply is complete now.
        """
        while self._left < 0:
            if not self._open and self._buffer[self._start : min(self._start + 1, self._end)] == b"*":
                end = find_line_end(self._buffer, self._start, self._end)
                if end < 0:
                    return False
                size = parse_size(bytes(self._buffer[self._start : end]))
                if size != count:
                    raise ValueError(f"expected {count} values, got {size}")
                self._left = count
                self._start = end + 2
                break
            reply = self._next_reply(b"*")
            if reply is _MISSING:
                return False
            if reply is not _DROPPED:
                values.append(reply)
                return True
        while self._left > 0:
            reply = self._next_reply(b"$_")
            if reply is _MISSING:
                return False
            if reply is _DROPPED:
                continue
            if isinstance(reply, str):
                raise ValueError("expected a value, got a refusal")
            self._left -= 1
            values.append(reply)
        self._left = -1
        return True

    def read_replies(
        self, values: list[Any], positions: list[int] | None, place: int, stop: int, kinds: bytes = b""
    ) -> int:
        """Take replies to several commands, and put each where it belongs.

        Args:
            values: of the whole batch; filled in place.
            positions: where in ``values`` each reply belongs; ``None`` if its place is its position.
            place: of the first reply that is due.
            stop: the place to stop before.
            kinds: the first bytes that a reply may have, such as ``b"$_"``; any if empty. Refusals always may come.

        Returns:
            The place of the first reply that is still due.

        Raises:
            IndexError: a place or a position lies outside of the batch.
        """
        check_places(place, stop, values if positions is None else positions)
        while place < stop:
            position = position_at(positions, place, len(values))
            reply = self._next_reply(kinds)
            if reply is _MISSING:
                break
            if reply is not _DROPPED:
                values[position] = reply
                place += 1
        return place

    def _next_reply(self, kinds: bytes) -> Any:
        """Take the next reply; ``_DROPPED`` for an attribute or a push, ``_MISSING`` if it has not arrived whole."""
        if not self._open and (not kinds or 0x24 in kinds):
            line = _VALUE.match(self._buffer, self._start, self._end)
            if line is not None:
                begin, end = line.end(), line.end() + int(line[1])
                if end + 2 <= self._end and end - begin <= self._limit and self._buffer[end : end + 2] == b"\r\n":
                    self._start = end + 2
                    return bytes(self._buffer[begin:end])
        while (reply := self._next_item(kinds)) is not _MISSING:
            while self._open:
                kind, size, items = self._open[-1]
                if reply is not _DROPPED:
                    items.append(reply)
                if len(items) < size:
                    break
                self._open.pop()
                if not self._open:
                    self._held = 0
                reply = _DROPPED if kind in b"|>" else make_aggregate(kind, items)
            else:
                return reply
        return _MISSING

    def _next_item(self, kinds: bytes) -> Any:
        """Take a line and the bytes that belong to it; ``_DROPPED`` if it begins an aggregate."""
        at = self._start
        if at == self._end:
            return _MISSING
        kind = self._buffer[at]
        if kinds and not self._open and kind not in kinds and kind not in _ALWAYS:
            raise ValueError(f"expected a reply that begins with one of {kinds!a}, got {bytes((kind,))!a}")
        stop = find_line_end(self._buffer, at, self._end)
        if stop < 0:
            return _MISSING
        line = bytes(self._buffer[at:stop])
        end = stop + 2
        if kind in SIZED:
            size = parse_size(line)
            if size < 0:
                self._start = end
                return None
            self._check_size(self._held + size)
            if self._end - end - 2 < size:
                return _MISSING
            if self._buffer[end + size : end + size + 2] != b"\r\n":
                raise ValueError("a value is not as long as its size says")
            self._start = end + size + 2
            if self._open:
                self._held += size
            return parse_sized(kind, bytes(self._buffer[end : end + size]))
        if kind in AGGREGATES:
            size = parse_size(line)
            self._start = end
            if size < 0:
                return None
            self._begin(kind, size)
            return _DROPPED
        self._start = end
        return parse_line(line)

    def _begin(self, kind: int, size: int) -> None:
        """Begin an aggregate; its replies come next."""
        if kind == 0x3E and (self._open or self._left >= 0):  # >
            raise ValueError("a push came inside of a reply")
        if len(self._open) == _MAX_DEPTH:
            raise ValueError(f"replies are nested more than {_MAX_DEPTH} levels deep")
        count = size * 2 if kind in b"%|" else size
        self._held += _EACH * count
        self._check_size(self._held)
        self._open.append((kind, count, []))
