"""Rows to payloads and back, on C buffers: the compiled twin of ``_rows_py.py``.

Decoding expects a map with the model's columns in plan order, one ``memcmp`` per name, and writes each value
straight into the instance's slot. Encoding reads the slots and writes msgpack into a growing buffer.
Whatever is not expected (another order, missing or unknown names, wrong types, broken bytes, a value
that needs a default) goes to the general path, which reads or converts the row from the start and
makes all errors. So this file never raises an error about a row, and both paths agree by construction.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport (
    date_day,
    date_month,
    date_new,
    date_year,
    datetime_day,
    datetime_fold,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_new,
    datetime_second,
    datetime_tzinfo,
    datetime_year,
    import_datetime,
)
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy
from types import MemberDescriptorType
import datetime as _datetime

import msgpack

from ._kinds import (
    KIND_BOOL,
    KIND_BYTES,
    KIND_DATE,
    KIND_DATETIME,
    KIND_DATETIME_TZ,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_INT,
    KIND_LIST,
    KIND_STR,
)
from ._mapping_c import MappingRows

cdef extern from *:
    """
    #include <structmember.h>
    #include <descrobject.h>

    /* An instance as ``type.__new__(type)`` makes it. */
    static PyObject *new_instance(PyObject *type, PyObject *no_arguments)
    {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, no_arguments, NULL);
    }
    """
    object new_instance(object type, tuple no_arguments)
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
        int flags
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    PyTypeObject *PyDescr_TYPE(PyObject *)
    const int T_OBJECT_EX
    int PyGC_Disable()
    int PyGC_Enable()
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    const Py_ssize_t PY_SSIZE_T_MAX

import_datetime()

__all__ = ["DictRows", "MsgpackRows", "pack", "unpack"]

cdef object UTC = _datetime.timezone.utc
cdef object DATE_TYPE = _datetime.date
cdef object DATETIME_TYPE = _datetime.datetime

cdef enum Kind:
    OTHER = 0
    INT = 1
    STR = 2
    BOOL = 3
    FLOAT = 4
    ENUM = 5
    DATETIME = 6
    DATETIME_TZ = 7
    DATE = 8
    LIST = 12
    BYTES = 14

# The numbers above are compile-time copies of the converters' own.
assert (KIND_INT, KIND_STR, KIND_BOOL, KIND_FLOAT, KIND_ENUM) == (INT, STR, BOOL, FLOAT, ENUM)
assert (KIND_DATETIME, KIND_DATETIME_TZ, KIND_DATE) == (DATETIME, DATETIME_TZ, DATE)
assert (KIND_LIST, KIND_BYTES) == (LIST, BYTES)


def pack(value):
    """Pack a value as msgpack, text as ``str`` and bytes as ``bin``."""
    return msgpack.packb(value, use_bin_type=True)


def unpack(payload):
    """Read one msgpack value; anything after it is an error."""
    return msgpack.unpackb(payload, raw=False, strict_map_key=False)


# -- a growing buffer --------------------------------------------------------------------------------

cdef struct Buffer:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity


cdef int reserve(Buffer *buffer, Py_ssize_t more) except -1:
    """Make room for ``more`` bytes after what is written."""
    cdef Py_ssize_t capacity
    cdef char *data
    if more <= buffer.capacity - buffer.size:
        return 0
    capacity = buffer.capacity * 2
    if capacity < buffer.size + more:
        capacity = buffer.size + more
    data = <char *> PyMem_Realloc(buffer.data, capacity)
    if data is NULL:
        raise MemoryError
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef inline void put(Buffer *buffer, uint8_t byte) noexcept:
    # The caller has reserved room.
    buffer.data[buffer.size] = <char> byte
    buffer.size += 1


cdef inline void put_big_endian(Buffer *buffer, uint64_t number, int width) noexcept:
    cdef int shift = (width - 1) * 8
    while shift >= 0:
        put(buffer, (number >> shift) & 0xFF)
        shift -= 8


cdef int put_bytes(Buffer *buffer, const char *data, Py_ssize_t size) except -1:
    reserve(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef int put_text(Buffer *buffer, const char *data, Py_ssize_t size) except -1:
    reserve(buffer, size + 5)
    if size < 32:
        put(buffer, 0xA0 | <uint8_t> size)
    elif size <= 0xFF:
        put(buffer, 0xD9)
        put(buffer, <uint8_t> size)
    elif size <= 0xFFFF:
        put(buffer, 0xDA)
        put_big_endian(buffer, size, 2)
    elif size <= 0xFFFFFFFF:
        put(buffer, 0xDB)
        put_big_endian(buffer, size, 4)
    else:
        raise ValueError("text is longer than msgpack can hold")
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef int put_int(Buffer *buffer, object number) except -1:
    """Write an int in its shortest form; beyond a signed 64-bit int, as the library does."""
    cdef int overflow = 0
    cdef int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow:
        return put_packed(buffer, number)
    reserve(buffer, 9)
    if value >= 0:
        if value < 0x80:
            put(buffer, <uint8_t> value)
        elif value <= 0xFF:
            put(buffer, 0xCC)
            put_big_endian(buffer, value, 1)
        elif value <= 0xFFFF:
            put(buffer, 0xCD)
            put_big_endian(buffer, value, 2)
        elif value <= 0xFFFFFFFF:
            put(buffer, 0xCE)
            put_big_endian(buffer, value, 4)
        else:
            put(buffer, 0xCF)
            put_big_endian(buffer, value, 8)
    elif value >= -0x20:
        put(buffer, <uint8_t> (value & 0xFF))
    elif value >= -0x80:
        put(buffer, 0xD0)
        put_big_endian(buffer, <uint64_t> value, 1)
    elif value >= -0x8000:
        put(buffer, 0xD1)
        put_big_endian(buffer, <uint64_t> value, 2)
    elif value >= -0x80000000LL:
        put(buffer, 0xD2)
        put_big_endian(buffer, <uint64_t> value, 4)
    else:
        put(buffer, 0xD3)
        put_big_endian(buffer, <uint64_t> value, 8)
    return 0


cdef inline bint fits(object number) except -1:
    """Tell whether an int is one of 64 bits, which needs no other form to be stored in."""
    cdef int overflow = 0
    PyLong_AsLongLongAndOverflow(number, &overflow)
    return overflow == 0


cdef int put_float(Buffer *buffer, double value) except -1:
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    reserve(buffer, 9)
    put(buffer, 0xCB)
    put_big_endian(buffer, bits, 8)
    return 0


cdef int put_packed(Buffer *buffer, object value) except -1:
    """Write any value as the msgpack library packs it."""
    cdef bytes packed = pack(value)
    return put_bytes(buffer, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))


cdef int put_str(Buffer *buffer, str text) except -1:
    """Write a str; raises for lone surrogates."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        return put_text(buffer, <const char *> PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
    # Not PyUnicode_AsUTF8AndSize: it would leave a copy of the text in the string for good.
    cdef bytes encoded = text.encode("utf-8")
    return put_text(buffer, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))


cdef int put_stored(Buffer *buffer, object stored) except -1:
    """Write a stored value of any type."""
    if stored is None:
        reserve(buffer, 1)
        put(buffer, 0xC0)
    elif type(stored) is str:
        put_str(buffer, stored)
    elif type(stored) is int:
        put_int(buffer, stored)
    elif type(stored) is float:
        put_float(buffer, PyFloat_AS_DOUBLE(stored))
    else:
        put_packed(buffer, stored)
    return 0


cdef int put_list_header(Buffer *buffer, Py_ssize_t size) except -1:
    reserve(buffer, 5)
    if size < 16:
        put(buffer, 0x90 | <uint8_t> size)
    elif size <= 0xFFFF:
        put(buffer, 0xDC)
        put_big_endian(buffer, size, 2)
    elif size <= 0xFFFFFFFF:
        put(buffer, 0xDD)
        put_big_endian(buffer, size, 4)
    else:
        raise ValueError("the list is longer than msgpack can hold")
    return 0


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


cdef Py_ssize_t format_datetime(char *text, value, bint utc) noexcept:
    """Write a datetime as its ``isoformat()``, of UTC with "+00:00" and else of none; give the length."""
    cdef char *at = put_day(text, datetime_year(value), datetime_month(value), datetime_day(value))
    cdef int microsecond = datetime_microsecond(value)
    at[0] = c'T'
    at = put_digits(at + 1, datetime_hour(value), 2)
    at[0] = c':'
    at = put_digits(at + 1, datetime_minute(value), 2)
    at[0] = c':'
    at = put_digits(at + 1, datetime_second(value), 2)
    if microsecond:
        at[0] = c'.'
        at = put_digits(at + 1, microsecond, 6)
    if utc:
        memcpy(at, b"+00:00", 6)
        at += 6
    return at - text


cdef int put_datetime(Buffer *buffer, value, bint utc) except -1:
    cdef char text[32]
    cdef Py_ssize_t size = format_datetime(text, value, utc)
    return put_text(buffer, text, size)


cdef int put_date(Buffer *buffer, value) except -1:
    cdef char text[10]
    put_day(text, date_year(value), date_month(value), date_day(value))
    return put_text(buffer, text, 10)


# -- reading -----------------------------------------------------------------------------------------

cdef struct Reader:
    const uint8_t *at
    const uint8_t *end


cdef inline uint64_t big_endian(const uint8_t *at, int width) noexcept:
    cdef uint64_t number = 0
    cdef int i
    for i in range(width):
        number = (number << 8) | at[i]
    return number


cdef int take_text(Reader *reader, const char **data, Py_ssize_t *size) noexcept:
    """Find the bytes of a str; 0 if the next value is none or ends past the buffer."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef uint8_t head
    cdef int width
    cdef uint64_t length
    if left < 1:
        return 0
    head = reader.at[0]
    if 0xA0 <= head <= 0xBF:
        width = 0
        length = head & 0x1F
    elif 0xD9 <= head <= 0xDB:
        width = 1 << (head - 0xD9)
        if left < 1 + width:
            return 0
        length = big_endian(reader.at + 1, width)
    else:
        return 0
    if length > <uint64_t> (left - 1 - width):
        return 0
    data[0] = <const char *> reader.at + 1 + width
    size[0] = <Py_ssize_t> length
    reader.at += 1 + width + length
    return 1


cdef int skip(Reader *reader) noexcept:
    """Step over one value of any type; 0 if it ends past the buffer or is no msgpack."""
    # Counts the values still to be stepped over instead of recursing, so that depth costs nothing.
    cdef uint64_t pending = 1
    cdef uint64_t size
    cdef uint8_t head
    cdef int width
    cdef Py_ssize_t left
    while pending:
        left = reader.end - reader.at
        # Every value takes a byte at least: a count beyond that is a lie.
        if left < 1 or pending > <uint64_t> left:
            return 0
        pending -= 1
        head = reader.at[0]
        width = 0
        size = 0
        if head < 0x80 or head >= 0xE0 or head == 0xC0 or head == 0xC2 or head == 0xC3:
            pass
        elif head <= 0x8F:
            pending += 2 * <uint64_t> (head & 0x0F)
        elif head <= 0x9F:
            pending += head & 0x0F
        elif head <= 0xBF:
            size = head & 0x1F
        elif head == 0xC1:
            return 0
        elif head <= 0xC6 or 0xD9 <= head <= 0xDB:
            width = 1 << (head - 0xC4 if head <= 0xC6 else head - 0xD9)
            if left < 1 + width:
                return 0
            size = big_endian(reader.at + 1, width)
        elif head <= 0xC9:
            width = 1 << (head - 0xC7)
            if left < 1 + width:
                return 0
            size = big_endian(reader.at + 1, width) + 1
        elif head == 0xCA:
            size = 4
        elif head == 0xCB:
            size = 8
        elif head <= 0xCF:
            size = <uint64_t> 1 << (head - 0xCC)
        elif head <= 0xD3:
            size = <uint64_t> 1 << (head - 0xD0)
        elif head <= 0xD8:
            size = (<uint64_t> 1 << (head - 0xD4)) + 1
        else:
            width = 2 if head == 0xDC or head == 0xDE else 4
            if left < 1 + width:
                return 0
            pending += big_endian(reader.at + 1, width) * (2 if head >= 0xDE else 1)
        if size > <uint64_t> (left - 1 - width):
            return 0
        reader.at += 1 + width + size
    return 1


cdef object take_int(Reader *reader):
    """Read an int, or give ``None`` if the next value is none."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef uint8_t head
    cdef int width
    cdef uint64_t number
    if left < 1:
        return None
    head = reader.at[0]
    if head < 0x80:
        reader.at += 1
        return head
    if head >= 0xE0:
        reader.at += 1
        return <int> head - 0x100
    if not 0xCC <= head <= 0xD3:
        return None
    width = 1 << ((head - 0xCC) & 3)
    if left < 1 + width:
        return None
    number = big_endian(reader.at + 1, width)
    reader.at += 1 + width
    if head <= 0xCF:
        return number
    # Move the sign bit to the top and back, which copies it over the whole number.
    return (<int64_t> (number << (64 - 8 * width))) >> (64 - 8 * width)


cdef int take_float(Reader *reader, double *value) noexcept:
    cdef uint64_t bits
    if reader.end - reader.at < 9 or reader.at[0] != 0xCB:
        return 0
    bits = big_endian(reader.at + 1, 8)
    memcpy(value, &bits, sizeof(bits))
    reader.at += 9
    return 1


cdef object take_any(Reader *reader):
    """Read a value of any type; raises if it is no msgpack."""
    cdef const char *data
    cdef Py_ssize_t size
    cdef double number
    cdef const uint8_t *start = reader.at
    if take_text(reader, &data, &size):
        return PyUnicode_DecodeUTF8(data, size, NULL)
    value = take_int(reader)
    if value is not None:
        return value
    if take_float(reader, &number):
        return number
    if not skip(reader):
        raise ValueError("no msgpack")
    return unpack(PyBytes_FromStringAndSize(<const char *> start, reader.at - start))


cdef inline int digits(const char *text, int count) noexcept:
    """Read decimal digits; -1 if there is anything else."""
    cdef int number = 0
    cdef int i
    for i in range(count):
        if not c'0' <= text[i] <= c'9':
            return -1
        number = number * 10 + (text[i] - c'0')
    return number


cdef object read_datetime(const char *text, Py_ssize_t size, zone):
    """Read ``YYYY-MM-DDTHH:MM:SS[.ffffff]``; ``None`` for any other form."""
    cdef int year, month, day, hour, minute, second
    cdef int microsecond = 0
    if size == 26:
        if text[19] != c'.':
            return None
        microsecond = digits(text + 20, 6)
    elif size != 19:
        return None
    if text[4] != c'-' or text[7] != c'-' or text[10] != c'T' or text[13] != c':' or text[16] != c':':
        return None
    year = digits(text, 4)
    month = digits(text + 5, 2)
    day = digits(text + 8, 2)
    hour = digits(text + 11, 2)
    minute = digits(text + 14, 2)
    second = digits(text + 17, 2)
    if year < 0 or month < 0 or day < 0 or hour < 0 or minute < 0 or second < 0 or microsecond < 0:
        return None
    return datetime_new(year, month, day, hour, minute, second, microsecond, zone)


cdef object read_date(const char *text, Py_ssize_t size):
    """Read ``YYYY-MM-DD``; ``None`` for any other form."""
    cdef int year, month, day
    if size != 10 or text[4] != c'-' or text[7] != c'-':
        return None
    year = digits(text, 4)
    month = digits(text + 5, 2)
    day = digits(text + 8, 2)
    return None if year < 0 or month < 0 or day < 0 else date_new(year, month, day)


cdef int take_list_header(Reader *reader, Py_ssize_t *count) noexcept:
    """Read the header of a list; 0 if the next value is none, or longer than the bytes that are left."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef uint8_t head
    cdef int width = 0
    cdef uint64_t size
    if left < 1:
        return 0
    head = reader.at[0]
    if 0x90 <= head <= 0x9F:
        size = head & 0x0F
    elif head == 0xDC or head == 0xDD:
        width = 2 if head == 0xDC else 4
        if left < 1 + width:
            return 0
        size = big_endian(reader.at + 1, width)
    else:
        return 0
    # Every item takes a byte at least.
    if size > <uint64_t> (left - 1 - width):
        return 0
    reader.at += 1 + width
    count[0] = <Py_ssize_t> size
    return 1


# -- values, by what their converter is --------------------------------------------------------------

cdef struct Shape:
    int kind
    bint null
    bint plain             # whether all that is stored is text and finite numbers, and lists of them
    Py_ssize_t max_length  # of a text; -1 for none
    PyObject *converter    # borrowed from the codec's list
    PyObject *members      # of an enum: stored value -> member; borrowed from its converter
    PyObject *enum         # the enum; borrowed likewise
    Shape *element         # of a list; owned


cdef int describe(Shape *shape, converter, bint null) except -1:
    """Fill in a shape; the caller keeps ``converter`` alive, and calls :func:`release` in the end."""
    shape.kind = converter.kind
    shape.null = null
    shape.plain = shape.kind not in (OTHER, BYTES) and (shape.kind != FLOAT or not converter.allow_nan)
    shape.max_length = -1
    shape.converter = <PyObject *> converter
    shape.members = NULL
    shape.enum = NULL
    shape.element = NULL
    if shape.kind == ENUM:
        members = converter.members
        # 1, 1.0 and True are the same dict key; only where the stored values are plain text and ints is a
        # lookup without a look at the type the same as what the converter does.
        enum = converter.enum
        if type(members) is dict and all([type(stored) in (int, str) for stored in members]):
            shape.members = <PyObject *> members
            shape.enum = <PyObject *> enum
        else:
            shape.kind = OTHER
            shape.plain = False
    elif shape.kind == STR:
        if converter.max_length is not None:
            shape.max_length = min(converter.max_length, PY_SSIZE_T_MAX)
    elif shape.kind == LIST:
        shape.element = <Shape *> PyMem_Malloc(sizeof(Shape))
        if shape.element is NULL:
            raise MemoryError
        shape.element.element = NULL
        element = converter.element
        describe(shape.element, element, converter.null)
        shape.plain = shape.element.plain
    elif shape.kind not in (INT, BOOL, FLOAT, DATETIME, DATETIME_TZ, DATE):
        shape.kind = OTHER
    return 0


cdef void release(Shape *shape) noexcept:
    """Free what a shape owns."""
    if shape.element is not NULL:
        release(shape.element)
        PyMem_Free(shape.element)
        shape.element = NULL


cdef object encode(Buffer *buffer, Shape *shape, value):
    """Write a value that is not ``None``, and give what a read gives; raises where the general path has to."""
    cdef Py_ssize_t size
    if shape.kind == STR:
        if type(value) is str and (shape.max_length < 0 or len(<str> value) <= shape.max_length):
            put_str(buffer, <str> value)
            return value
    elif shape.kind == FLOAT:
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            put_float(buffer, PyFloat_AS_DOUBLE(value))
            return value
    elif shape.kind == BOOL:
        if type(value) is bool:
            reserve(buffer, 1)
            put(buffer, value is True)
            return value
    elif shape.kind == INT:
        if type(value) is int and fits(value):
            put_int(buffer, value)
            return value
    elif shape.kind == ENUM:
        if type(value) is <object> shape.enum:
            stored = value._value_
            if (type(stored) is int or type(stored) is str) and (<dict> shape.members).get(stored) is value:
                put_stored(buffer, stored)
                return value
    elif shape.kind == DATETIME_TZ:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is UTC and not datetime_fold(value):
            put_datetime(buffer, value, True)
            return value
    elif shape.kind == DATETIME:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is None and not datetime_fold(value):
            put_datetime(buffer, value, False)
            return value
    elif shape.kind == DATE:
        if type(value) is DATE_TYPE:
            put_date(buffer, value)
            return value
    elif shape.kind == LIST:
        if type(value) is list:
            return encode_list(buffer, shape, <list> value)
    converter = <object> shape.converter
    stored = converter.dump(value)
    canonical = converter.canonical(value, stored)
    if stored is None and not shape.null:
        raise ValueError("null")
    put_stored(buffer, stored)
    return canonical


cdef list encode_list(Buffer *buffer, Shape *shape, list value):
    """Write a list, and give the list that a read gives."""
    cdef Py_ssize_t size = len(value)
    cdef list canonical = []
    put_list_header(buffer, size)
    for item in value:
        if item is not None:
            canonical.append(encode(buffer, shape.element, item))
        elif shape.element.null:
            put_stored(buffer, None)
            canonical.append(None)
        else:
            raise ValueError("null")
    if len(canonical) != size:
        raise ValueError("the list changed while it was converted")
    return canonical


cdef object decode(Reader *reader, Shape *shape):
    """Read a value that is not null; raises where the general path has to."""
    cdef const char *data
    cdef Py_ssize_t size
    cdef double number
    cdef const uint8_t *start = reader.at
    if shape.kind == STR:
        if take_text(reader, &data, &size):
            return PyUnicode_DecodeUTF8(data, size, NULL)
    elif shape.kind == INT:
        value = take_int(reader)
        if value is not None:
            return value
    elif shape.kind == FLOAT:
        if take_float(reader, &number):
            if isfinite(number):
                return PyFloat_FromDouble(number)
            reader.at = start
    elif shape.kind == BOOL:
        if reader.end > reader.at and reader.at[0] <= 1:
            reader.at += 1
            return start[0] == 1
    elif shape.kind == ENUM:
        stored = take_any(reader)
        if type(stored) is int or type(stored) is str:
            member = (<dict> shape.members).get(stored)
            if member is not None:
                return member
        reader.at = start
    elif shape.kind == DATETIME_TZ or shape.kind == DATETIME or shape.kind == DATE:
        if take_text(reader, &data, &size):
            value = moment_of(shape.kind, data, size)
            if value is not None:
                return value
            reader.at = start
    elif shape.kind == LIST:
        if take_list_header(reader, &size):
            return decode_list(reader, shape, size)
    # What the field's own converter makes of it; a wrong value raises, and the general path reports it.
    return (<object> shape.converter).load(take_any(reader))


cdef list decode_list(Reader *reader, Shape *shape, Py_ssize_t size):
    cdef list value = []
    cdef Py_ssize_t i
    for i in range(size):
        if reader.at >= reader.end:
            raise ValueError("truncated")
        if reader.at[0] != 0xC0:
            value.append(decode(reader, shape.element))
        elif shape.element.null:
            reader.at += 1
            value.append(None)
        else:
            raise ValueError("null")
    return value


# -- columns ---------------------------------------------------------------------------------------

cdef struct Column:
    Shape shape
    bint in_payload
    bint has_default
    Py_ssize_t offset
    PyObject *name         # borrowed from the codec's tuple of names
    char *packed_name      # where it is packed as msgpack: its bytes
    Py_ssize_t packed_size
    PyObject *validators   # a tuple, or NULL for none; borrowed from the field
    PyObject *field        # borrowed from the codec's tuple


cdef inline void store(PyObject *instance, Py_ssize_t offset, object value) noexcept:
    """Put a value into a slot; the caller has checked that the instance has it."""
    cdef PyObject **place = <PyObject **> (<char *> instance + offset)
    cdef PyObject *old = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *> value
    Py_XDECREF(old)


# -- the same for formats that others pack: values to stored forms and back -----------------------------

cdef object to_stored(Shape *shape, value, list canonical):
    """Give the stored form of a value that is not ``None``, and append what a read gives to ``canonical``.

    Raises where the general path has to.
    """
    cdef char text[32]
    if shape.kind == STR:
        if type(value) is str and (shape.max_length < 0 or len(<str> value) <= shape.max_length):
            check_text(<str> value)
            canonical.append(value)
            return value
    elif shape.kind == FLOAT:
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            canonical.append(value)
            return value
    elif shape.kind == BOOL:
        if type(value) is bool:
            canonical.append(value)
            return 1 if value else 0
    elif shape.kind == INT:
        if type(value) is int and fits(value):
            canonical.append(value)
            return value
    elif shape.kind == ENUM:
        if type(value) is <object> shape.enum:
            stored = value._value_
            if (type(stored) is int or type(stored) is str) and (<dict> shape.members).get(stored) is value:
                canonical.append(value)
                return stored
    elif shape.kind == DATETIME_TZ:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is UTC and not datetime_fold(value):
            canonical.append(value)
            return PyUnicode_DecodeASCII(text, format_datetime(text, value, True), NULL)
    elif shape.kind == DATETIME:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is None and not datetime_fold(value):
            canonical.append(value)
            return PyUnicode_DecodeASCII(text, format_datetime(text, value, False), NULL)
    elif shape.kind == DATE:
        if type(value) is DATE_TYPE:
            canonical.append(value)
            put_day(text, date_year(value), date_month(value), date_day(value))
            return PyUnicode_DecodeASCII(text, 10, NULL)
    elif shape.kind == LIST:
        if type(value) is list:
            return list_to_stored(shape, <list> value, canonical)
    converter = <object> shape.converter
    stored = converter.dump(value)
    if stored is None and not shape.null:
        raise ValueError("null")
    canonical.append(converter.canonical(value, stored))
    return stored


cdef list list_to_stored(Shape *shape, list value, list canonical):
    cdef list items = []
    cdef list stored = []
    for item in value:
        if item is not None:
            stored.append(to_stored(shape.element, item, items))
        elif shape.element.null:
            stored.append(None)
            items.append(None)
        else:
            raise ValueError("null")
    canonical.append(items)
    return stored


cdef int check_text(str text) except -1:
    """Raise for text with lone surrogates."""
    if not PyUnicode_IS_COMPACT_ASCII(text):
        text.encode("utf-8")
    return 0


cdef object from_stored(Shape *shape, stored):
    """Give the value of a stored form that is not ``None``; raises where the general path has to."""
    if shape.kind == STR:
        if type(stored) is str:
            check_text(<str> stored)
            return stored
    elif shape.kind == INT:
        if type(stored) is int:
            return stored
    elif shape.kind == FLOAT:
        if type(stored) is float and isfinite(PyFloat_AS_DOUBLE(stored)):
            return stored
    elif shape.kind == BOOL:
        if type(stored) is bool:
            return stored
    elif shape.kind == ENUM:
        if type(stored) is int or type(stored) is str:
            member = (<dict> shape.members).get(stored)
            if member is not None:
                return member
    elif shape.kind == DATETIME_TZ or shape.kind == DATETIME or shape.kind == DATE:
        if type(stored) is str and PyUnicode_IS_COMPACT_ASCII(stored):
            value = moment_of(shape.kind, <const char *> PyUnicode_DATA(stored), PyUnicode_GET_LENGTH(stored))
            if value is not None:
                return value
    elif shape.kind == LIST:
        if type(stored) is list:
            return list_from_stored(shape, <list> stored)
    return (<object> shape.converter).load(stored)


cdef object moment_of(int kind, const char *text, Py_ssize_t size):
    """Read the text of a date or time; ``None`` where the converter has to."""
    if kind == DATE:
        return read_date(text, size)
    if kind == DATETIME:
        return read_datetime(text, size, None)
    if size > 6 and memcmp(text + size - 6, b"+00:00", 6) == 0:
        return read_datetime(text, size - 6, UTC)
    return None


cdef list list_from_stored(Shape *shape, list stored):
    cdef list value = []
    for item in stored:
        if item is not None:
            value.append(from_stored(shape.element, item))
        elif shape.element.null:
            value.append(None)
        else:
            raise ValueError("null")
    return value


# -- the codecs --------------------------------------------------------------------------------------

cdef tuple NO_ARGUMENTS = ()


cdef class SlotRows:
    """What the codecs below share: the columns of a model, by the slots that they live in.

    Whatever a codec does not do itself is done by ``general``, the :class:`MappingRows` of the same rows.
    """

    cdef readonly object general
    cdef readonly object model
    cdef readonly tuple columns
    cdef readonly tuple key_fields
    cdef tuple fields
    cdef Column *plan
    cdef Py_ssize_t count  # columns in plan, key fields included
    cdef list converters
    cdef tuple names       # what columns are called in the payload
    cdef tuple key_offsets

    def __cinit__(self):
        self.plan = NULL
        self.count = 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            release(&self.plan[i].shape)
        PyMem_Free(self.plan)

    cdef int describe_columns(self, general, fields, list converters, tuple names) except -1:
        """Lay out the columns; ``converters`` and ``names`` are one for each field."""
        if self.plan is not NULL:
            raise RuntimeError("a codec is made once")
        self.fields = fields
        self.general = general
        self.model = general.model
        self.columns = general.columns
        self.key_fields = general.key_fields
        self.converters = converters
        self.names = names
        self.key_offsets = tuple([self._offset(field) for field in self.key_fields])
        self.plan = <Column *> PyMem_Malloc(max(len(self.fields), 1) * sizeof(Column))
        if self.plan is NULL:
            raise MemoryError
        for field in self.fields:
            self._add(field)
        return 0

    cdef int _add(self, field) except -1:
        """Fill in the next column; from then on it is released with the codec."""
        cdef Column *column = &self.plan[self.count]
        column.in_payload = field not in self.key_fields
        column.has_default = field.default is not None
        column.offset = self._offset(field)
        name = self.names[self.count]
        column.name = <PyObject *> name
        column.packed_name = PyBytes_AS_STRING(name) if type(name) is bytes else NULL
        column.packed_size = PyBytes_GET_SIZE(name) if type(name) is bytes else 0
        validators = field.validators
        column.validators = <PyObject *> validators if validators else NULL
        column.field = <PyObject *> field
        column.shape.element = NULL
        converter = self.converters[self.count]
        self.count += 1
        describe(&column.shape, converter, field.null)
        return 0

    cdef Py_ssize_t _offset(self, field) except -1:
        cdef PyMemberDef *definition
        member = field.member
        if type(member) is not MemberDescriptorType:
            raise TypeError("the field has no slot")
        if not issubclass(self.general.model, <object> PyDescr_TYPE(<PyObject *> member)):
            raise TypeError("the field belongs to another model")
        definition = (<PyMemberDescrObject *> <PyObject *> member).d_member
        if definition.type != T_OBJECT_EX:
            raise TypeError("the field has no slot")
        return definition.offset

    # -- writing -------------------------------------------------------------------------------------

    def dump_many(self, list instances, bint many=True):
        """Pack instances, filling in defaults and turning their values into what a read gives."""
        return self._convert_many(instances, many, True)

    def dump(self, instance, position=None):
        """Pack one instance; ``position`` is its place in a bulk call."""
        return self.general.dump(instance, position)

    def convert_many(self, list instances, bint many=True):
        """Turn the values that are set into what a read gives, and leave the others unset."""
        # What is packed on the way is thrown away: converting and packing are one step here.
        self._convert_many(instances, many, False)

    cdef list _convert_many(self, list instances, bint many, bint complete):
        cdef Buffer buffer
        cdef Py_ssize_t position
        cdef list payloads = []
        buffer.size = 0
        buffer.capacity = 512
        buffer.data = <char *> PyMem_Malloc(buffer.capacity)
        if buffer.data is NULL:
            raise MemoryError
        try:
            for position in range(len(instances)):
                instance = instances[position]
                payload = None
                if PyObject_TypeCheck(instance, <PyTypeObject *> self.model):
                    buffer.size = 0
                    payload = self.dump_row(&buffer, instance, complete)
                if payload is not None:
                    payloads.append(payload)
                elif complete:
                    payloads.append(self.general.dump(instance, position if many else None))
                else:
                    self.general.convert(instance, position if many else None, False)
        finally:
            PyMem_Free(buffer.data)
        return payloads

    cdef object dump_row(self, Buffer *buffer, instance, bint complete):
        """Pack one instance; ``None``, with the instance as it was, if the general path has to.

        ``complete`` says whether values that were never set get their defaults, or are left out.
        """
        raise NotImplementedError

    cdef bint value_of(self, Column *column, PyObject *slot, bint complete, PyObject **value) except -1:
        """Give the value that a column is written with, a new reference; false if the row cannot be written.

        It is ``NULL`` where nothing is written.
        """
        value[0] = NULL
        if slot is NULL and not complete:
            return True
        if slot is not NULL and (slot is not <PyObject *> None or column.shape.null):
            # A converter may run any code, the slot's owner's included: hold the value meanwhile.
            Py_XINCREF(slot)
            value[0] = slot
            return True
        if not column.has_default:
            if not column.shape.null:
                return False
            made = None
        else:
            made = (<object> column.field).make_default()
            if made is None and not column.shape.null:
                return False
        Py_INCREF(made)
        value[0] = <PyObject *> made
        return True

    cdef object key_value(self, Column *column, value):
        """Give what a read gives for a part of the primary key, which is not in the payload."""
        if column.shape.kind == INT and type(value) is int:
            return value
        converter = <object> column.shape.converter
        stored = converter.dump(value)
        if stored is None:
            raise ValueError("a part of the primary key is null")
        return converter.canonical(value, stored)

    # -- reading -------------------------------------------------------------------------------------

    def load_many(self, list payloads, list pks, list keys):
        """Read payloads as instances; see :meth:`MappingRows.load_many`."""
        cdef Py_ssize_t i
        cdef Py_ssize_t count = len(payloads)
        cdef list rows = []
        if len(pks) != count or len(keys) != count:
            raise ValueError("payloads, primary keys and keys must be of one length")
        # Everything made here lives on, so that a collection in between would only walk it in vain.
        cdef int collecting = PyGC_Disable()
        try:
            for i in range(count):
                payload = payloads[i]
                rows.append(None if payload is None else self.load(payload, pks[i], keys[i]))
        finally:
            if collecting:
                PyGC_Enable()
        return rows

    cpdef load(self, payload, tuple pk, key):
        """Read one payload as an instance, or ``None`` with ``skip_invalid`` when it cannot be."""
        cdef Py_ssize_t i
        if type(payload) is bytes and len(pk) == len(self.key_offsets):
            instance = new_instance(self.model, NO_ARGUMENTS)
            if PyObject_TypeCheck(instance, <PyTypeObject *> self.model) and self.load_row(<bytes> payload, instance):
                for i in range(len(pk)):
                    store(<PyObject *> instance, <Py_ssize_t> self.key_offsets[i], pk[i])
                return instance
        return self.general.load(payload, pk, key)

    cdef bint load_row(self, bytes payload, instance) except -1:
        """Read one row into an instance; false if the general path has to."""
        raise NotImplementedError


cdef class MsgpackRows(SlotRows):
    """The :class:`~._mapping_py.MappingRows` of the msgpack serializer."""

    cdef bytes header

    def __init__(self, model, fields, key_fields, identity, skip_invalid):
        fields = tuple(fields)
        general = MappingRows(model, fields, key_fields, identity, "msgpack", pack, unpack, skip_invalid)
        converters = [field.slot_converter for field in fields]
        self.describe_columns(general, fields, converters, tuple([pack(field.name) for field in fields]))
        size = len(self.columns)
        # As the library writes an empty map, with the count of ours: 0x80, 0xDE or 0xDF.
        if size < 16:
            self.header = bytes([0x80 | size])
        elif size <= 0xFFFF:
            self.header = b"\xde" + size.to_bytes(2, "big")
        else:
            self.header = b"\xdf" + size.to_bytes(4, "big")

    cdef object dump_row(self, Buffer *buffer, instance, bint complete):
        cdef Py_ssize_t i
        cdef Column *column
        cdef PyObject *slot
        cdef PyObject *found
        cdef list changed = None
        put_bytes(buffer, PyBytes_AS_STRING(self.header), PyBytes_GET_SIZE(self.header))
        try:
            for i in range(self.count):
                column = &self.plan[i]
                slot = (<PyObject **> (<char *> <PyObject *> instance + column.offset))[0]
                if not self.value_of(column, slot, complete, &found):
                    return None
                if found is NULL:
                    continue
                value = <object> found
                Py_XDECREF(found)
                if not column.in_payload:
                    canonical = self.key_value(column, value)
                else:
                    put_bytes(buffer, column.packed_name, column.packed_size)
                    if value is None:
                        put_stored(buffer, None)
                        canonical = None
                    else:
                        canonical = encode(buffer, &column.shape, value)
                if column.validators is not NULL and canonical is not None:
                    for validator in <tuple> column.validators:
                        validator(canonical)
                if <PyObject *> canonical is not slot:
                    # Kept back until the row is packed: should the general path have to do it, it must convert
                    # the values that were given, as a converter may make something else of its own result.
                    if changed is None:
                        changed = []
                    changed.append((i, canonical))
        except Exception:
            # Whatever it was, the general path meets it too, and says which row and field it was.
            return None
        if changed is not None:
            for i, canonical in changed:
                store(<PyObject *> instance, self.plan[i].offset, canonical)
        return PyBytes_FromStringAndSize(buffer.data, buffer.size) if complete else b""

    cdef bint load_row(self, bytes payload, instance) except -1:
        cdef Reader reader
        cdef Py_ssize_t i
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.header)
        cdef Column *column
        reader.at = <const uint8_t *> PyBytes_AS_STRING(payload)
        reader.end = reader.at + PyBytes_GET_SIZE(payload)
        if reader.end - reader.at < size or memcmp(reader.at, PyBytes_AS_STRING(self.header), size) != 0:
            return False
        reader.at += size
        for i in range(self.count):
            column = &self.plan[i]
            if not column.in_payload:
                continue
            if reader.end - reader.at <= column.packed_size:
                return False
            if memcmp(reader.at, column.packed_name, column.packed_size) != 0:
                return False
            reader.at += column.packed_size
            if reader.at[0] == 0xC0:
                if not column.shape.null:
                    return False
                reader.at += 1
                store(<PyObject *> instance, column.offset, None)
                continue
            try:
                value = decode(&reader, &column.shape)
            except Exception:
                return False
            if value is None:
                return False
            store(<PyObject *> instance, column.offset, value)
        return reader.at == reader.end


cdef class DictRows(SlotRows):
    """The :class:`~._mapping_py.MappingRows` of any other serializer: rows to dicts of stored values and back."""

    cdef object pack
    cdef object unpack
    cdef object check

    def __init__(
        self,
        model,
        fields,
        key_fields,
        identity,
        serializer,
        pack,
        unpack,
        skip_invalid,
        converter_of=None,
        check=None,
        pack_checked=None,
    ):
        fields = tuple(fields)
        general = MappingRows(
            model, fields, key_fields, identity, serializer, pack, unpack, skip_invalid, converter_of
        )
        self.pack = pack if pack_checked is None else pack_checked
        self.unpack = unpack
        self.check = check
        converters = [
            field.slot_converter if converter is field.converter else converter
            for field, converter, _ in general.steps
        ]
        self.describe_columns(general, fields, converters, tuple([field.name for field in fields]))

    cdef object dump_row(self, Buffer *buffer, instance, bint complete):
        cdef Py_ssize_t i
        cdef Column *column
        cdef PyObject *slot
        cdef PyObject *found
        cdef dict row = {}
        cdef list canonical = []
        cdef list columns = []
        try:
            for i in range(self.count):
                column = &self.plan[i]
                slot = (<PyObject **> (<char *> <PyObject *> instance + column.offset))[0]
                if not self.value_of(column, slot, complete, &found):
                    return None
                if found is NULL:
                    continue
                value = <object> found
                Py_XDECREF(found)
                columns.append(i)
                if not column.in_payload:
                    canonical.append(self.key_value(column, value))
                elif value is None:
                    row[<object> column.name] = None
                    canonical.append(None)
                else:
                    stored = to_stored(&column.shape, value, canonical)
                    if self.check is not None and not column.shape.plain:
                        self.check(stored)
                    row[<object> column.name] = stored
                if column.validators is not NULL and canonical[-1] is not None:
                    for validator in <tuple> column.validators:
                        validator(canonical[-1])
            payload = self.pack(row) if complete else b""
        except Exception:
            # Whatever it was, the general path meets it too, and says which row and field it was.
            return None
        for i, value in zip(columns, canonical):
            store(<PyObject *> instance, self.plan[i].offset, value)
        return payload

    cdef bint load_row(self, bytes payload, instance) except -1:
        cdef Py_ssize_t i
        cdef Column *column
        cdef dict row
        try:
            unpacked = self.unpack(payload)
            if type(unpacked) is not dict:
                return False
            row = <dict> unpacked
            for i in range(self.count):
                column = &self.plan[i]
                if not column.in_payload:
                    continue
                stored = row.get(<object> column.name)
                if stored is not None:
                    value = from_stored(&column.shape, stored)
                    if value is None:
                        return False
                elif column.shape.null and not column.has_default:
                    value = None
                else:
                    return False
                store(<PyObject *> instance, column.offset, value)
        except Exception:
            return False
        return True
