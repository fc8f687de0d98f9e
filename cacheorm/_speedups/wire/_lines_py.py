"""Lines that end with CR LF, which all replies begin with."""

from __future__ import annotations

__all__ = ["find_line_end"]

_MAX_LINE = 4096


def find_line_end(buffer: bytearray, at: int, stop: int) -> int:
    """Give the place of the line's CR LF, -1 where it has not arrived."""
    end = buffer.find(b"\r\n", at, min(at + _MAX_LINE, stop))
    if end < 0 and stop - at >= _MAX_LINE:
        raise ValueError(f"a line is longer than {_MAX_LINE} bytes")
    return end
