"""The memory that replies arrive in, the Python version of ``_reply_buffer_c.pyx``."""

from __future__ import annotations

__all__ = ["REPLY_LIMIT", "ReplyBuffer"]

REPLY_LIMIT = 1 << 29
"""The default limit of a reply in bytes: the largest value that Redis stores."""

_ROOM = 1 << 18


class ReplyBuffer:
    """Holds the bytes that arrived, in any pieces, until they are parsed.

    Bytes are received straight into :meth:`room` and counted with :meth:`fill`. Each ``read_`` method of the readers
    takes what is complete, keeps the rest, and can be called again after more has arrived.

    Args:
        limit: the most bytes of one value, and of all that one list or map of replies holds. The line before them
            says how many there are: more are refused before they arrive.

    Raises (all ``read_`` methods):
        ValueError: the bytes are not what the protocol allows at this place. Connection and reader are useless then.
    """

    def __init__(self, limit: int = REPLY_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray(_ROOM)
        self._start = self._end = 0

    @property
    def pending(self) -> int:
        """How many bytes arrived and were not consumed."""
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """The size of the buffer in bytes: it grows with the largest value, and never shrinks."""
        return len(self._buffer)

    def _check_size(self, size: int) -> None:
        """Raise ``ValueError`` if a reply of this size is more than the limit."""
        if size > self._limit:
            raise ValueError(
                f"a reply has {size} bytes or more; the option reply_limit of the backend takes {self._limit}"
            )

    def room(self) -> memoryview:
        """Return a view of free memory for bytes that arrive. Calling it again may move what is in there."""
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
