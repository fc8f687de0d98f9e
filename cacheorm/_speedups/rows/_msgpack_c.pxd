"""msgpack in C buffers: values are written into a growing buffer, and read within the bounds of another.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. What most values need is inline.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    void *PyUnicode_DATA(PyObject *text)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *text)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *text)

cdef enum:
    MOST_LEVELS = 200  # levels of lists and dicts that are written and read here


# -- writing -----------------------------------------------------------------------------------------

cdef struct Buffer:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity


cdef int grow(Buffer *buffer, Py_ssize_t more) except -1
cdef int put_wide_text_header(Buffer *buffer, Py_ssize_t size) except -1
cdef int put_wide_str(Buffer *buffer, PyObject *text) except -1
cdef int put_list_header(Buffer *buffer, Py_ssize_t size) except -1
cdef int put_stored(Buffer *buffer, object stored, int depth=*) except -1
cdef int put_map_header(Buffer *buffer, Py_ssize_t size) except -1


cdef inline int reserve(Buffer *buffer, Py_ssize_t more) except -1:
    """Make room for ``more`` bytes after what is written."""
    return 0 if more <= buffer.capacity - buffer.size else grow(buffer, more)


cdef inline void put(Buffer *buffer, uint8_t byte) noexcept:
    # The caller has reserved room.
    buffer.data[buffer.size] = <char> byte
    buffer.size += 1


cdef inline void put_big_endian(Buffer *buffer, uint64_t number, int width) noexcept:
    # Likewise. Through a pointer of its own, so that bytes of a width that is known are stored as one word.
    cdef uint8_t *to = <uint8_t *> buffer.data + buffer.size
    cdef int i
    for i in range(width):
        to[i] = (number >> (8 * (width - 1 - i))) & 0xFF
    buffer.size += width


cdef inline void put_copy(Buffer *buffer, const char *data, Py_ssize_t size) noexcept:
    # Likewise.
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size


cdef inline int put_bytes(Buffer *buffer, const char *data, Py_ssize_t size) except -1:
    reserve(buffer, size)
    put_copy(buffer, data, size)
    return 0


cdef inline int put_text_header(Buffer *buffer, Py_ssize_t size) except -1:
    """Write the header of a text, and make room for its bytes."""
    reserve(buffer, size + 5)
    if size < 32:
        put(buffer, 0xA0 | <uint8_t> size)
        return 0
    return put_wide_text_header(buffer, size)


cdef inline int put_text(Buffer *buffer, const char *data, Py_ssize_t size) except -1:
    put_text_header(buffer, size)
    put_copy(buffer, data, size)
    return 0


cdef inline bint put_fitting(Buffer *buffer, object number) except -1:
    """Write an int in its shortest form; false, with nothing written, if it is none of 64 bits and a sign."""
    cdef int overflow = 0
    cdef int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow:
        return False
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
    return True


cdef inline int put_float(Buffer *buffer, double value) except -1:
    cdef uint64_t bits
    memcpy(&bits, &value, sizeof(bits))
    reserve(buffer, 9)
    put(buffer, 0xCB)
    put_big_endian(buffer, bits, 8)
    return 0


cdef inline object put_null(Buffer *buffer):
    """Write a null, and return it."""
    reserve(buffer, 1)
    put(buffer, 0xC0)
    return None


cdef inline int put_str(Buffer *buffer, PyObject *text) except -1:
    """Write a str; raises for lone surrogates."""
    if PyUnicode_IS_COMPACT_ASCII(text):
        return put_text(buffer, <const char *> PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
    return put_wide_str(buffer, text)


# -- reading -----------------------------------------------------------------------------------------

cdef struct Reader:
    const uint8_t *at
    const uint8_t *end
    bint large  # whether what values take has to be weighed, if it is more than their bytes tell


cdef int take_long_text(Reader *reader, const char **data, Py_ssize_t *size) noexcept
cdef int take_list_header(Reader *reader, Py_ssize_t *count) noexcept
cdef int take_map_header(Reader *reader, Py_ssize_t *count) noexcept
cdef int skip(Reader *reader) noexcept
cdef object take_any(Reader *reader, int depth)
cdef PyObject *new_text(const char *data, Py_ssize_t size) except NULL


cdef inline uint64_t big_endian(const uint8_t *at, int width) noexcept:
    cdef uint64_t number = 0
    cdef int i
    for i in range(width):
        number = (number << 8) | at[i]
    return number


cdef inline int take_text(Reader *reader, const char **data, Py_ssize_t *size) noexcept:
    """Find the bytes of a str; 0 if the next value is none or ends past the buffer."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef Py_ssize_t length
    if left > 0 and 0xA0 <= reader.at[0] <= 0xBF:
        length = reader.at[0] & 0x1F
        if length >= left:
            return 0
        data[0] = <const char *> reader.at + 1
        size[0] = length
        reader.at += 1 + length
        return 1
    return take_long_text(reader, data, size)


cdef inline object take_int(Reader *reader):
    """Read an int; ``None`` if the next value is none."""
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


cdef inline int take_float(Reader *reader, double *value) noexcept:
    cdef uint64_t bits
    if reader.end - reader.at < 9 or reader.at[0] != 0xCB:
        return 0
    bits = big_endian(reader.at + 1, 8)
    memcpy(value, &bits, sizeof(bits))
    reader.at += 9
    return 1


cdef inline bint equal_bytes(const char *one, const char *other, Py_ssize_t size) noexcept:
    """Compare ``size`` bytes: sooner than a call where they are as few as those of a name."""
    cdef uint64_t a, b
    cdef uint32_t c, d
    cdef Py_ssize_t at = 0
    # The last word overlaps the one before, so that any number of bytes is whole words.
    if 4 <= size < 8:
        memcpy(&c, one, 4)
        memcpy(&d, other, 4)
        if c != d:
            return False
        memcpy(&c, one + size - 4, 4)
        memcpy(&d, other + size - 4, 4)
        return c == d
    if size < 4:
        while at < size and one[at] == other[at]:
            at += 1
        return at == size
    while at < size - 8:
        memcpy(&a, one + at, 8)
        memcpy(&b, other + at, 8)
        if a != b:
            return False
        at += 8
    memcpy(&a, one + size - 8, 8)
    memcpy(&b, other + size - 8, 8)
    return a == b
