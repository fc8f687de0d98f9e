"""RESP replies, the readable twin of ``_resp_reader_c.pyx``: parsed as they arrive, in any pieces."""

from __future__ import annotations

from typing import Any

from ._lines_py import find_line_end
from ._resp_py import check_position

__all__ = ["RespReader"]

_RESP_ROOM = 1 << 18


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
            line = self._line(b"*")
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
            value, end = self._value(line)
            if end < 0:
                return False
            values.append(value)
            self._start = end
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
            line = self._line(b"+$_")
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
            line = self._line(b"+:$_")
            if line is None:
                return False
            kind, after = line[:1], self._start + len(line) + 2
            reply: bytes | int | None = None
            if kind == b"+":
                reply = line[1:]
            elif kind == b":":
                reply = _resp_number(line)
            elif kind == b"$":
                reply, after = self._value(line)
                if after < 0:
                    return False
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
            line = self._line(b"$_")
            if line is None:
                break
            value, end = self._value(line)
            if end < 0:
                break
            check_position(positions[place], len(values))
            values[positions[place]] = value
            self._start = end
            place += 1
        return place

    def _line(self, kinds: bytes = b"") -> bytes | None:
        """Find the next line, without its CR LF; ``None`` where it has not arrived.

        Where there are ``kinds`` and it begins with none, the reply is :attr:`foreign`, and ``None`` is returned.
        """
        if kinds and self._start < self._end and self._buffer[self._start] not in kinds:
            self.foreign = True
            return None
        end = find_line_end(self._buffer, self._start, self._end)
        return None if end < 0 else bytes(self._buffer[self._start : end])

    def _value(self, line: bytes) -> tuple[bytes | None, int]:
        """Return the value that follows its line, ``None`` for no value, and its end; -1 where it has not arrived."""
        if line[:1] != b"$" and line != b"_":
            raise ValueError(f"expected a value, got {line[:1]!a}")
        size = -1 if line == b"_" else _resp_size(line)
        at = self._start + len(line) + 2
        if size < 0:
            return None, at
        if self._end - at - 2 < size:
            return None, -1
        if self._buffer[at + size : at + size + 2] != b"\r\n":
            raise ValueError("a value is not as long as its size says")
        return bytes(self._buffer[at : at + size]), at + size + 2


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
