"""Fields of dates, times and instants."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

from .._speedups import convert
from .base import Field, FieldOptions

__all__ = ["DateField", "DateTimeField", "DateTimeTZField", "TimeField", "TimestampField"]

T = TypeVar("T")


class _ParsedField(Field[T]):
    """The base of fields that parse text by formats of the user."""

    formats: tuple[str, ...]

    def _set_formats(self, formats: Sequence[str] | None) -> None:
        if formats is None:
            formats = ()
        if not isinstance(formats, (list, tuple)) or not all(isinstance(layout, str) for layout in formats):
            raise TypeError("formats is a list of strptime formats, such as ['%d.%m.%Y']")
        self.formats = tuple(formats)


class DateTimeField(_ParsedField[T]):
    """A date and time without time zone, stored as ISO 8601 text.

    Takes naive datetimes and their text. A datetime with a time zone is an error: see
    :class:`DateTimeTZField`. ``fold`` is not stored, and 0 on read.

    Args:
        formats: ``strptime`` formats for text, tried in their order and before ISO 8601.

    Raises:
        TypeError: ``formats`` is no list of str.
    """

    @overload
    def __init__(
        self: DateTimeField[dt.datetime],
        formats: Sequence[str] | None = None,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DateTimeField[dt.datetime | None],
        formats: Sequence[str] | None = None,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self, formats: Sequence[str] | None = None, null: bool = False, **options: Unpack[FieldOptions]
    ) -> None:
        self._set_formats(formats)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.DateTime(self.formats)


class DateField(_ParsedField[T]):
    """A date, stored as ISO 8601 text.

    Takes dates, naive datetimes (their date), and text of both.

    Args:
        formats: ``strptime`` formats for text, tried in their order and before ISO 8601.

    Raises:
        TypeError: ``formats`` is no list of str.
    """

    @overload
    def __init__(
        self: DateField[dt.date],
        formats: Sequence[str] | None = None,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DateField[dt.date | None],
        formats: Sequence[str] | None = None,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self, formats: Sequence[str] | None = None, null: bool = False, **options: Unpack[FieldOptions]
    ) -> None:
        self._set_formats(formats)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Date(self.formats)


class TimeField(_ParsedField[T]):
    """A time of day without time zone, stored as ISO 8601 text.

    Takes naive times, naive datetimes (their time), and text of both. ``fold`` is not stored.

    Args:
        formats: ``strptime`` formats for text, tried in their order and before ISO 8601.

    Raises:
        TypeError: ``formats`` is no list of str.
    """

    @overload
    def __init__(
        self: TimeField[dt.time],
        formats: Sequence[str] | None = None,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TimeField[dt.time | None],
        formats: Sequence[str] | None = None,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self, formats: Sequence[str] | None = None, null: bool = False, **options: Unpack[FieldOptions]
    ) -> None:
        self._set_formats(formats)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Time(self.formats)


class DateTimeTZField(Field[T]):
    """An instant to the microsecond, stored as ISO 8601 text in UTC and read as an aware datetime in UTC.

    Takes aware datetimes of any time zone. Naive ones and text are errors: their instant would be a guess.
    """

    @overload
    def __init__(
        self: DateTimeTZField[dt.datetime], null: Literal[False] = False, **options: Unpack[FieldOptions]
    ) -> None: ...
    @overload
    def __init__(self: DateTimeTZField[dt.datetime | None], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.DateTimeTZ()


class TimestampField(Field[T]):
    """An instant, stored as integer ticks since 1970-01-01T00:00:00Z and read as a naive datetime.

    Takes datetimes (naive ones are local time, or UTC with ``utc=True``; aware ones keep their instant),
    dates (their midnight), and seconds since 1970 as a number. What is finer than a tick is dropped: ticks
    are rounded down, before 1970 too, so that a stored time is never later than the given one.

    Local times that occur twice, when clocks go back, are distinguished by ``fold`` (PEP 495) in both
    directions. A reader in another local time zone sees the same instant on its own clock.

    Args:
        resolution: ticks per second: 1, 10, 100 ... 10**6, or the power of ten, 2 to 6.
        utc: whether naive datetimes are in UTC, on write and on read.
        default: the current time unless given.

    Raises:
        ValueError: ``resolution`` is none of these.
    """

    @overload
    def __init__(
        self: TimestampField[dt.datetime],
        resolution: int = 1,
        utc: bool = False,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: TimestampField[dt.datetime | None],
        resolution: int = 1,
        utc: bool = False,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self, resolution: Any = 1, utc: bool = False, null: bool = False, **options: Unpack[FieldOptions]
    ) -> None:
        known = isinstance(resolution, int) and not isinstance(resolution, bool)
        if known and 2 <= resolution <= 6:
            resolution = 10**resolution
        if not known or resolution not in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
            raise ValueError("resolution is 1, 10 ... 10**6 ticks per second, or a power of ten from 2 to 6")
        self.resolution: int = resolution
        self.utc = bool(utc)
        options.setdefault("default", _now_in_utc if utc else _now)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Timestamp(self.resolution, self.utc)


def _now() -> dt.datetime:
    return dt.datetime.now()  # noqa: DTZ005 - local time is what the field is about


def _now_in_utc() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
