"""Lines that end with CR LF, which all replies begin with."""

from __future__ import annotations

__all__ = ["MAX_LINE", "find_line_end"]

MAX_LINE = 4096


def find_line_end(buffer: bytearray, at: int, stop: int) -> int:
    """Find the line's CR LF, -1 where it has not arrived."""
    end = buffer.find(b"\r\n", at, min(at + MAX_LINE, stop))
    if end < 0 and stop - at >= MAX_LINE:
        raise ValueError(f"a line is longer than {MAX_LINE} bytes")
    return end
