"""The kinds that are stored as text, by hand: what their own methods write, and nothing else."""

cdef inline char *put_digits(char *at, int number, int count) noexcept:
    """Write ``count`` decimal digits, and give the place after them."""
    cdef int i
    for i in range(count - 1, -1, -1):
        at[i] = c'0' + number % 10
        number //= 10
    return at + count


cdef inline char *put_day(char *at, int year, int month, int day) noexcept:
    """Write ``YYYY-MM-DD``."""
    at = put_digits(at, year, 4)
    at[0] = c'-'
    at = put_digits(at + 1, month, 2)
    at[0] = c'-'
    return put_digits(at + 1, day, 2)


cdef inline char *put_clock(char *at, int hour, int minute, int second, int microsecond) noexcept:
    """Write ``HH:MM:SS``, and ``.ffffff`` unless that is zero."""
    at = put_digits(at, hour, 2)
    at[0] = c':'
    at = put_digits(at + 1, minute, 2)
    at[0] = c':'
    at = put_digits(at + 1, second, 2)
    if microsecond:
        at[0] = c'.'
        at = put_digits(at + 1, microsecond, 6)
    return at


cdef Py_ssize_t format_datetime(char *text, value, bint utc) noexcept:
    """Write a datetime as its ``isoformat()``, of UTC with "+00:00" and else of none; give the length."""
    cdef char *at = put_day(text, datetime_year(value), datetime_month(value), datetime_day(value))
    at[0] = c'T'
    at = put_clock(
        at + 1, datetime_hour(value), datetime_minute(value), datetime_second(value), datetime_microsecond(value)
    )
    if utc:
        memcpy(at, b"+00:00", 6)
        at += 6
    return at - text


cdef Py_ssize_t format_time(char *text, value) noexcept:
    """Write a time as its ``isoformat()``; give the length."""
    cdef char *at = put_clock(text, time_hour(value), time_minute(value), time_second(value), time_microsecond(value))
    return at - text


cdef bint uuid_digits(char *text, value) except -1:
    """Write the 32 hexadecimal digits of a UUID; false if it is not as its class makes them."""
    cdef PyObject *number = (<PyObject **> (<char *> <PyObject *> value + UUID_NUMBER))[0]
    return number is not NULL and put_uuid(text, <object> number)


cdef inline int two_digits(const char *text) noexcept:
    """Read two decimal digits; -1 if there is anything else."""
    cdef unsigned int tens = <uint8_t> text[0] - <unsigned int> c'0'
    cdef unsigned int ones = <uint8_t> text[1] - <unsigned int> c'0'
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
        if text[8] != c'.':
            return False
        clock.microsecond = six_digits(text + 9)
    elif size != 8:
        return False
    if text[2] != c':' or text[5] != c':':
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
    if text[4] != c'-' or text[7] != c'-':
        return False
    day.year = four_digits(text)
    day.month = two_digits(text + 5)
    day.day = two_digits(text + 8)
    return day.year >= 0 and day.month >= 0 and day.day >= 0


cdef object read_datetime(const char *text, Py_ssize_t size, zone):
    """Read ``YYYY-MM-DDTHH:MM:SS[.ffffff]``; ``None`` for any other form."""
    cdef Day day
    cdef Clock clock
    if size < 19 or text[10] != c'T' or not read_day(text, &day) or not read_clock(text + 11, size - 11, &clock):
        return None
    return datetime_new(
        day.year, day.month, day.day, clock.hour, clock.minute, clock.second, clock.microsecond, zone
    )


cdef object read_date(const char *text, Py_ssize_t size):
    """Read ``YYYY-MM-DD``; ``None`` for any other form."""
    cdef Day day
    return date_new(day.year, day.month, day.day) if size == 10 and read_day(text, &day) else None


cdef object read_time(const char *text, Py_ssize_t size):
    """Read ``HH:MM:SS[.ffffff]``; ``None`` for any other form."""
    cdef Clock clock
    if not read_clock(text, size, &clock):
        return None
    return time_new(clock.hour, clock.minute, clock.second, clock.microsecond, None)


cdef object make_uuid(uint64_t high, uint64_t low):
    """Do what ``UUID(int=...)`` does, without its checks of the other five ways to call it."""
    made = new_instance(UUID, NO_ARGUMENTS)
    put_new(<PyObject *> made, UUID_NUMBER, uuid_number(high, low))
    put_new(<PyObject *> made, UUID_SAFETY, UNKNOWN_SAFETY)
    # It refers to nothing that could refer to it.
    leave_untracked(<PyObject *> made)
    return made


cdef object read_uuid(const char *text, Py_ssize_t size):
    """Read 32 lower-case hexadecimal digits; ``None`` for any other form."""
    cdef uint64_t high, low
    if size != 32 or not take_uuid(text, &high, &low):
        return None
    return make_uuid(high, low)


cdef object value_of_text(int kind, const char *text, Py_ssize_t size):
    """Read the value of a kind that is stored as text; ``None`` where the converter has to."""
    if kind == DATETIME_TZ:
        if size > 6 and memcmp(text + size - 6, b"+00:00", 6) == 0:
            return read_datetime(text, size - 6, UTC)
    elif kind == DATETIME:
        return read_datetime(text, size, None)
    elif kind == DATE:
        return read_date(text, size)
    elif kind == TIME:
        return read_time(text, size)
    elif kind == UUID_KIND:
        return read_uuid(text, size)
    elif kind == DECIMAL:
        return read_decimal(text, size)
    return None
