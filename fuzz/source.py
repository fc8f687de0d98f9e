"""What targets make of bytes: numbers, choices and Python values."""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

__all__ = ["Color", "Point", "Rights", "Size", "Source", "Text"]

T = TypeVar("T")


class Source:
    """Takes choices from bytes; those that come after the last byte are all 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def pick(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def take(self, size: int) -> bytes:
        at = self._at
        self._at = at + size
        return self._data[at : at + size]

    def piece(self) -> bytes:
        """Take some bytes, mostly few."""
        size = self.byte()
        return self.take(size if size < 200 else size * 8)

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def text(self) -> str:
        kind = self.byte() % 8
        if kind == 0:
            return self.pick(_TEXTS)
        piece = self.piece()
        if kind <= 4:
            return piece.decode("latin-1" if kind == 4 else "ascii", "replace")
        if kind == 5:
            return piece.decode("utf-8", "surrogateescape")
        if kind == 6:
            return piece.decode("utf-16", "surrogatepass" if len(piece) % 2 == 0 else "replace")
        return piece.decode("utf-8", "replace") * self.pick((1, 1, 2, 20))

    def moment(self) -> dt.datetime:
        """Take a datetime, with or without a time zone."""
        days, seconds, zone = self.number(3) % 3_652_059 + 1, self.number(3) % 86400, self.byte()
        micros = self.number(3) % 1_000_000 if zone & 64 else 0
        made = dt.datetime.combine(dt.date.fromordinal(days), dt.time(fold=zone >> 7)) + dt.timedelta(
            0, seconds, micros
        )
        return made.replace(tzinfo=_ZONES[zone % len(_ZONES)], fold=zone >> 7)

    def value(self, depth: int = 0) -> Any:
        """Take a value of any type."""
        kind = self.byte() % 40
        if kind < len(_EASY):
            return _EASY[kind]
        if kind < 16:
            return self.text()
        if kind < 19:
            return self.number(self.pick((1, 2, 4, 8, 9, 16)))
        if kind < 24:
            return self._number_like(kind)
        if kind < 28:
            return self.pick((bytes, bytes, bytearray, Blob))(self.piece())
        if kind < 32:
            moment = self.moment()
            return moment if kind < 30 else moment.date() if kind == 30 else moment.timetz()
        if kind < 34:
            return UUID(bytes=self.take(16).ljust(16, b"\0"))
        if kind < 36:
            return self.pick(_MEMBERS)
        if kind == 36:
            return self.pick((Text, Point))(self.text())
        if depth > 5:
            return []
        items = [self.value(depth + 1) for _ in range(self.byte() % 5)]
        if kind == 37:
            return items
        if kind == 38:
            return tuple(items)
        return {self.text(): item for item in items}

    def _number_like(self, kind: int) -> Any:
        if kind == 19:
            return self.pick(_EDGES) + self.number(1) % 3 - 1
        if kind == 20:
            return self.pick(_FLOATS)
        if kind == 21:
            return self.number(6) / self.pick((1, 2, 10, 1000, 7))
        if kind == 22:
            return self.pick(_DECIMALS)
        sign, digits, exponent = self.byte() & 1, str(abs(self.number(6))), self.number(1) % 20 - 10
        return Decimal((sign, tuple(map(int, digits)), exponent))


class Text(str):
    """A ``str`` of a class of its own."""

    __slots__ = ()


class Blob(bytes):
    """Bytes of a class of their own."""

    __slots__ = ()


class Point:
    """What no field but one with functions of its own takes."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return f"Point{self.parts!r}"


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"
    HALF = 0.5
    RAW = b"raw"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2**40


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


_EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
_ODD = dt.timezone(-dt.timedelta(hours=1, seconds=7))
_ZONES = (None, dt.UTC, _EAST, dt.timezone(dt.timedelta(0), "other"), _ODD)
_EASY: tuple[Any, ...] = (None, True, False, 0, 1, 2, -1, "", "a", "1", b"", ...)
_MEMBERS = (*Color, *Size, *Rights, Rights(3))
_EDGES = tuple(sign << bits for sign in (1, -1) for bits in (0, 5, 7, 8, 15, 16, 30, 31, 32, 53, 60, 63, 64, 70, 400))
_FLOATS = (0.0, -0.0, 0.1, 1.5, -2.0, 1e15, 1e16, 1e300, 5e-324, 2.0**63, math.nan, math.inf, -math.inf)
_DECIMALS = tuple(
    Decimal(text)
    for text in (
        *("0", "-0", "1.0", "1", "1E+5", "1E-5", "0E-9", "NaN", "-NaN7", "sNaN", "Infinity", "-Infinity"),
        *("1E+999999", "9" * 40, "-1.23456789"),
    )
)
_TEXTS = (
    "blue", "raw", "{}", "[1]", "null", "nan", "2020-01-02", "2020-01-02T03:04:05+00:00", "2020-01-02 03:04:05.000006",
    "03:04:05", "1.5", "-0", "1e5", "٣", "x" * 300, "ä" * 130, "a:b%2F", "%~", "\ud800", "😀", " 1", "1_0", "YQ==",
    "00000000000000000000000000000005", "00000000-0000-0000-0000-000000000005", "2222222222222222222227",
)  # fmt: skip
