"""The codecs of dates and times: what their own ``isoformat()`` writes, and nothing else."""

cimport cpython.datetime as dt
from cpython.datetime cimport PyDate_CheckExact, PyDateTime_CheckExact, PyTime_CheckExact
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy
from datetime import UTC

from .._digits cimport put_digits
from ..convert._temporal_c import Date, DateTime, DateTimeTZ, Time

dt.import_datetime()


cdef inline char *put_day(char *at, int year, int month, int day) noexcept:
    """Write ``YYYY-MM-DD``."""
    at = put_digits(at, year, 4)
    at[0] = c"-"
    at = put_digits(at + 1, month, 2)
    at[0] = c"-"
    return put_digits(at + 1, day, 2)


cdef inline char *put_clock(char *at, int hour, int minute, int second, int microsecond) noexcept:
    """Write ``HH:MM:SS``, and ``.ffffff`` unless that is zero."""
    at = put_digits(at, hour, 2)
    at[0] = c":"
    at = put_digits(at + 1, minute, 2)
    at[0] = c":"
    at = put_digits(at + 1, second, 2)
    if microsecond:
        at[0] = c"."
        at = put_digits(at + 1, microsecond, 6)
    return at


cdef Py_ssize_t format_datetime(char *text, value, bint utc) noexcept:
    """Write a datetime as its ``isoformat()``, of UTC with "+00:00" and else of none; return its size."""
    cdef char *at = put_day(text, dt.datetime_year(value), dt.datetime_month(value), dt.datetime_day(value))
    at[0] = c"T"
    at = put_clock(
        at + 1,
        dt.datetime_hour(value),
        dt.datetime_minute(value),
        dt.datetime_second(value),
        dt.datetime_microsecond(value),
    )
    if utc:
        memcpy(at, b"+00:00", 6)
        at += 6
    return at - text


cdef inline int two_digits(const char *text) noexcept:
    """Read two decimal digits; -1 if there is anything else."""
    cdef unsigned int tens = <uint8_t> text[0] - <unsigned int> c"0"
    cdef unsigned int ones = <uint8_t> text[1] - <unsigned int> c"0"
    return <int> (tens * 10 + ones) if tens <= 9 and ones <= 9 else -1


cdef inline int four_digits(const char *text) noexcept:
    """Read four decimal digits; -1 if there is anything else."""
    cdef int high = two_digits(text)
    cdef int low = two_digits(text + 2)
    return high * 100 + low if high >= 0 and low >= 0 else -1


cdef inline int six_digits(const char *text) noexcept:
    """Read six decimal digits; -1 if there is anything else."""
    cdef int high = four_digits(text)
    cdef int low = two_digits(text + 4)
    return high * 100 + low if high >= 0 and low >= 0 else -1


cdef struct Clock:
    int hour
    int minute
    int second
    int microsecond


cdef bint read_clock(const char *text, Py_ssize_t size, Clock *clock) noexcept:
    """Read ``HH:MM:SS[.ffffff]``; false for any other form. The numbers may be out of range."""
    clock.microsecond = 0
    if size == 15:
        if text[8] != c".":
            return False
        clock.microsecond = six_digits(text + 9)
    elif size != 8:
        return False
    if text[2] != c":" or text[5] != c":":
        return False
    clock.hour = two_digits(text)
    clock.minute = two_digits(text + 3)
    clock.second = two_digits(text + 6)
    return clock.hour >= 0 and clock.minute >= 0 and clock.second >= 0 and clock.microsecond >= 0


cdef struct Day:
    int year
    int month
    int day


cdef bint read_day(const char *text, Day *day) noexcept:
    """Read the 10 characters of ``YYYY-MM-DD``; false for any other form. The numbers may be out of range."""
    if text[4] != c"-" or text[7] != c"-":
        return False
    day.year = four_digits(text)
    day.month = two_digits(text + 5)
    day.day = two_digits(text + 8)
    return day.year >= 0 and day.month >= 0 and day.day >= 0


cdef object read_datetime(const char *text, Py_ssize_t size, zone):
    """Read ``YYYY-MM-DDTHH:MM:SS[.ffffff]``; ``None`` for any other form."""
    cdef Day day
    cdef Clock clock
    if size < 19 or text[10] != c"T" or not read_day(text, &day) or not read_clock(text + 11, size - 11, &clock):
        return None
    return dt.datetime_new(
        day.year, day.month, day.day, clock.hour, clock.minute, clock.second, clock.microsecond, zone
    )


cdef class DateTimeCodec(FormattedCodec):
    """Naive datetimes."""

    cdef Py_ssize_t format(self, char *text, value) except -1:
        if PyDateTime_CheckExact(value) and dt.datetime_tzinfo(value) is None and not dt.datetime_fold(value):
            return format_datetime(text, value, False)
        return 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        return read_datetime(text, size, None)


cdef class DateTimeTZCodec(FormattedCodec):
    """Datetimes in UTC."""

    cdef Py_ssize_t format(self, char *text, value) except -1:
        if PyDateTime_CheckExact(value) and dt.datetime_tzinfo(value) is UTC and not dt.datetime_fold(value):
            return format_datetime(text, value, True)
        return 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        if size > 6 and memcmp(text + size - 6, b"+00:00", 6) == 0:
            return read_datetime(text, size - 6, UTC)
        return None


cdef class DateCodec(FormattedCodec):
    """Dates."""

    cdef Py_ssize_t format(self, char *text, value) except -1:
        if PyDate_CheckExact(value):
            return put_day(text, dt.date_year(value), dt.date_month(value), dt.date_day(value)) - text
        return 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        cdef Day day
        return dt.date_new(day.year, day.month, day.day) if size == 10 and read_day(text, &day) else None


cdef class TimeCodec(FormattedCodec):
    """Naive times of day."""

    cdef Py_ssize_t format(self, char *text, value) except -1:
        if PyTime_CheckExact(value) and dt.time_tzinfo(value) is None and not dt.time_fold(value):
            return put_clock(
                text, dt.time_hour(value), dt.time_minute(value), dt.time_second(value), dt.time_microsecond(value)
            ) - text
        return 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        cdef Clock clock
        if not read_clock(text, size, &clock):
            return None
        return dt.time_new(clock.hour, clock.minute, clock.second, clock.microsecond, None)


register(DateTime, DateTimeCodec)
register(DateTimeTZ, DateTimeTZCodec)
register(Date, DateCodec)
register(Time, TimeCodec)
