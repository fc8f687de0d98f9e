"""What RESP replies become in Python, one at a time: the Python version of ``_resp_values.pxi``."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["AGGREGATES", "SIZED", "make_aggregate", "parse_line", "parse_size", "parse_sized"]

SIZED = b"$=!"
"""Kinds of replies whose line says how many bytes follow it."""

AGGREGATES = b"*~%|>"
"""Kinds of replies whose line says how many replies follow it, or pairs of them."""

_INTEGER = re.compile(rb":[+-]?[0-9]{1,19}")
_BIG_NUMBER = re.compile(rb"\([+-]?[0-9]+")
_DOUBLE = re.compile(rb",[+-]?(?:inf|nan|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")


def parse_size(line: bytes) -> int:
    """Parse the size in a line such as ``$<size>``; -1, which stands for nothing, in ``$`` and ``*`` only."""
    digits = line[1:]
    if digits == b"-1" and line[0] in b"$*":
        return -1
    if not 0 < len(digits) <= 12 or not digits.isdigit():
        raise ValueError(f"expected a size, got {line[:16]!a}")
    return int(digits)


def parse_sized(kind: int, data: bytes) -> bytes | str:
    """Return the value, the text without its format, or the refusal that ``data`` holds."""
    if kind == 0x21:  # !
        return data.decode("utf-8", "replace")
    if kind == 0x3D:  # =
        if data[3:4] != b":":
            raise ValueError("a verbatim string came without its format")
        return data[4:]
    return data


def parse_line(line: bytes) -> bytes | str | float | bool | None:
    """Parse a reply that is a single line: a status, a refusal, a number, a boolean or nothing."""
    kind = line[:1]
    if kind == b"+":
        return line[1:]
    if kind == b"-":
        return line[1:].decode("utf-8", "replace")
    if kind == b":":
        return _parse_integer(line)
    if kind == b"_":
        if line != b"_":
            raise ValueError(f"expected nothing, got {line[:16]!a}")
        return None
    if kind == b"#":
        if line not in (b"#t", b"#f"):
            raise ValueError(f"expected a boolean, got {line[:16]!a}")
        return line == b"#t"
    if kind == b"(":
        if not _BIG_NUMBER.fullmatch(line):
            raise ValueError(f"expected a big number, got {line[:16]!a}")
        return int(line[1:])
    if kind == b",":
        if not _DOUBLE.fullmatch(line):
            raise ValueError(f"expected a double, got {line[:16]!a}")
        return float(line[1:])
    raise ValueError(f"expected a reply, got {kind!a}")


def _parse_integer(line: bytes) -> int:
    if _INTEGER.fullmatch(line):
        number = int(line[1:])
        if -(1 << 63) <= number < 1 << 63:
            return number
    raise ValueError(f"expected an integer of 64 bits, got {line[:16]!a}")


def make_aggregate(kind: int, items: list[Any]) -> list[Any] | dict[Any, Any]:
    """Return the list, or the dict of a map, that the replies inside of an aggregate make."""
    if kind != 0x25:  # %
        return items
    try:
        return dict(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        raise ValueError("a key of a map is a list or a map") from None
