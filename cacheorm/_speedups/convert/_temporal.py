# cython: language_level=3, annotation_typing=False, auto_pickle=False
# datetimes are the subject here.
"""Dates, times of day, and instants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from .. import _shim as cython

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, attempt, expected
    from cython.cimports.cacheorm._speedups.convert._numbers_c import to_decimal
else:
    from ._converter import Converter, attempt, expected
    from ._numbers import to_decimal

__all__ = ["Date", "DateTime", "DateTimeTZ", "Time", "Timestamp"]

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_AWARE_TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{6})?[+-]\d\d:?\d\d(?::?\d\d(?:\.\d{6})?)?", re.ASCII
)


@cython.cfunc
def _parse(text: str, formats: Sequence[str]) -> datetime | None:
    """Read text by the first format that fits it."""
    for layout in formats:
        try:
            return datetime.strptime(text, layout)
        except ValueError:
            pass
    return None


@cython.cfunc
def _parse_iso(text: str, formats: Sequence[str]) -> datetime | None:
    """Read text by the first format that fits it, or as ISO 8601."""
    found = _parse(text, formats)
    return attempt(datetime.fromisoformat, text) if found is None else found


@cython.cfunc
def _is_naive_text(text: str) -> bool:
    """Whether text is laid out as ``YYYY-MM-DD?HH:MM:SS[.ffffff]``; the digits are not checked.

    ``fromisoformat`` alone takes much more: weeks, comma for point, and 24:00 for the next day.
    """
    length = len(text)
    return (
        (length == 19 or (length == 26 and text[19] == "."))
        and text[4] == "-"
        and text[7] == "-"
        and text[13] == ":"
        and text[16] == ":"
        and text[11:13] != "24"
        and text.isascii()
    )


@cython.cclass
class DateTime(Converter):
    """Naive datetime, as ISO 8601 text. ``fold`` is not stored."""

    own_code = True
    weight = 48
    packable = True
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = _parse_iso(value, self.formats) if isinstance(value, str) else value
        if not isinstance(found, datetime):
            raise expected("a datetime or the text of one", value)
        if found.tzinfo is not None:
            raise ValueError(f"expected a datetime without time zone, got {type(value).__name__} with one")
        return datetime.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        # Version 0.0.1 wrote a space for the T.
        if type(stored) is str and _is_naive_text(stored) and (stored[10] == "T" or stored[10] == " "):
            found = attempt(datetime.fromisoformat, stored)
            if found is not None and found.tzinfo is None:
                return found
        raise expected("the ISO text of a datetime without time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is datetime and value.fold == 0 else datetime.fromisoformat(stored)


@cython.cclass
class DateTimeTZ(Converter):
    """Aware datetime, as ISO 8601 text in UTC."""

    own_code = True
    weight = 48
    packable = True

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            raise expected("a datetime with time zone", value)
        if value.tzinfo is not UTC:
            value = _to_utc(value)
        return datetime.isoformat(value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str:
            found = None
            try:
                if (
                    stored.endswith("+00:00")
                    and (len(stored) == 25 or len(stored) == 32)
                    and stored[10] == "T"
                    and _is_naive_text(stored[:-6])
                ):
                    found = datetime.fromisoformat(stored)
                elif _AWARE_TEXT.fullmatch(stored) is not None:
                    # Version 0.0.1 wrote "+0000".
                    found = datetime.fromisoformat(stored).astimezone(UTC)
            except (OverflowError, ValueError):
                pass
            if found is not None and found.tzinfo is UTC:
                return found
        raise expected("the ISO text of a datetime with time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        if type(value) is datetime and value.tzinfo is UTC and value.fold == 0:
            return value
        return datetime.fromisoformat(stored)


@cython.cfunc
def _to_utc(value: datetime) -> datetime:
    """Convert a datetime to UTC."""
    raised = ""
    try:
        if value.utcoffset() is not None:
            return datetime.astimezone(value, UTC)
    except OverflowError:
        raised = "expected a datetime within the years 1 to 9999 in UTC, got one beyond"
    except MemoryError:
        raise
    except Exception as error:
        # Applications may write time zones of their own.
        raised = f"the time zone of the {type(value).__name__} raised {type(error).__name__}"
    if raised:
        raise ValueError(raised)
    raise ValueError(f"expected a datetime with time zone, got {type(value).__name__} without one")


@cython.cclass
class Date(Converter):
    """date, as ISO 8601 text; the date of a naive datetime."""

    own_code = True
    weight = 32
    packable = True
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = _parse_iso(value, self.formats) if isinstance(value, str) else value
        if not isinstance(found, date):
            raise expected("a date or the text of one", value)
        if isinstance(found, datetime):
            if found.tzinfo is not None:
                raise ValueError(f"expected a date without time zone, got {type(value).__name__} with one")
            found = datetime.date(found)
        return date.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str and len(stored) == 10 and stored[4] == "-" and stored[7] == "-" and stored.isascii():
            found = attempt(date.fromisoformat, stored)
            if found is not None:
                return found
        raise expected("the ISO text of a date", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is date else date.fromisoformat(stored)


@cython.cclass
class Time(Converter):
    """Naive time of day, as ISO 8601 text; the time of a naive datetime. ``fold`` is not stored."""

    own_code = True
    weight = 48
    packable = True
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value
        if isinstance(value, str):
            found = _parse(value, self.formats)
            # More than a date: its time would be a midnight that is not in the text.
            if found is None and len(value) > 10 and value[10] in "T ":
                found = attempt(datetime.fromisoformat, value)
            if found is None:
                found = attempt(time.fromisoformat, value)
        if not isinstance(found, (datetime, time)):
            raise expected("a time or the text of one", value)
        if found.tzinfo is not None:
            raise ValueError(f"expected a time without time zone, got {type(value).__name__} with one")
        if isinstance(found, datetime):
            found = datetime.time(found)
        return time.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if (
            type(stored) is str
            and (len(stored) == 8 or (len(stored) == 15 and stored[8] == "."))
            and stored[2] == ":"
            and stored[5] == ":"
            and stored[:2] != "24"
            and stored.isascii()
        ):
            found = attempt(time.fromisoformat, stored)
            if found is not None and found.tzinfo is None:
                return found
        raise expected("the ISO text of a time without time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is time and value.fold == 0 else time.fromisoformat(stored)


@cython.cclass
class Timestamp(Converter):
    """An instant, as integer ticks since 1970-01-01T00:00:00Z, rounded down; read as a naive datetime.

    Attributes:
        resolution: ticks per second: a power of ten, at most 10**6.
        utc: whether naive datetimes are in UTC, rather than in local time.
    """

    own_code = True
    weight = 56
    packable = True
    resolution: int = cython.declare(object, visibility="public")
    utc: bool = cython.declare(object, visibility="public")
    _tick: int = cython.declare(object)

    def __init__(self, resolution: int = 1, utc: bool = False) -> None:
        self.resolution = resolution
        self.utc = utc
        self._tick = 1_000_000 // resolution

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if isinstance(value, datetime):
            ticks = self._ticks_of(value)
            year = value.year
        elif isinstance(value, date):
            ticks = self._ticks_of(datetime(value.year, value.month, value.day))
            year = value.year
        else:
            # Seconds since the epoch, as time.time() gives; exactly, as 0.29 * 100 is not 29.
            seconds = None if isinstance(value, str) else to_decimal(value)
            if seconds is None:
                raise expected("a datetime, a date or a number of seconds", value)
            if seconds.adjusted() > 11:
                raise expected("a time within the years 1 to 9999", value)
            numerator, denominator = seconds.as_integer_ratio() if seconds.adjusted() > -30 else (0, 1)
            ticks = numerator * self.resolution // denominator
            year = 1
        if year < 2 or year > 9998:
            # Next to the ends of the calendar an instant may be unreadable where it is writable.
            self.load(ticks)
        return ticks

    @cython.cfunc
    def _ticks_of(self, value: datetime) -> Any:
        if value.tzinfo is not None:
            since = _to_utc(value) - _EPOCH_UTC
        elif self.utc:
            since = value.replace(fold=0) - _EPOCH
        else:
            seconds = None
            try:
                # Of whole seconds: with microseconds the float would have too few digits. It tells folds.
                seconds = int(datetime.timestamp(value.replace(microsecond=0)))
            except (OverflowError, ValueError, OSError):
                pass
            if seconds is None:
                raise expected("a time within the years 1 to 9999", value)
            return (seconds * 1_000_000 + value.microsecond) // self._tick
        return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) // self._tick

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not int:
            raise expected("an integer", stored)
        seconds, ticks = divmod(stored, self.resolution)
        found = None
        try:
            if self.utc:
                found = _EPOCH + timedelta(0, seconds, ticks * self._tick)
            else:
                # Likewise of whole seconds.
                found = datetime.fromtimestamp(seconds)
                if ticks:
                    found = found.replace(microsecond=ticks * self._tick)
        except (OverflowError, ValueError, OSError):
            pass
        if found is None:
            raise expected("a time within the years 1 to 9999", stored)
        return found

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        if (
            self.utc
            and type(value) is datetime
            and value.tzinfo is None
            and value.fold == 0
            and value.microsecond % self._tick == 0
        ):
            return value
        return self.load(stored)
