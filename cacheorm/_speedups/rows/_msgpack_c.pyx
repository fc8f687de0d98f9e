# cython: cdivision=True
"""msgpack in C buffers: what is written and read less often, and values of any type."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.mem cimport PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint64_t

from .._msgpack import pack, refuse_list_key, unpack

__all__ = ["pack", "unpack"]

include "_utf8.pxi"


# -- writing -----------------------------------------------------------------------------------------

cdef int grow(Buffer *buffer, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity = buffer.capacity * 2
    cdef char *data
    if capacity < buffer.size + more:
        capacity = buffer.size + more
    data = <char *> PyMem_Realloc(buffer.data, capacity)
    if data is NULL:
        raise MemoryError
    buffer.data = data
    buffer.capacity = capacity
    return 0


cdef int put_wide_text_header(Buffer *buffer, Py_ssize_t size) except -1:
    # The caller has reserved room.
    if size <= 0xFF:
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
    return 0


cdef int put_wide_str(Buffer *buffer, PyObject *text) except -1:
    cdef Py_ssize_t size = utf8_size(text)
    put_text_header(buffer, size)
    if not put_utf8(buffer.data + buffer.size, text):
        raise ValueError("lone surrogate")
    buffer.size += size
    return 0


cdef int put_packed(Buffer *buffer, object value) except -1:
    """Write any value as the msgpack library packs it."""
    cdef bytes packed = pack(value)
    return put_bytes(buffer, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))


cdef int put_stored(Buffer *buffer, object stored, int depth=0) except -1:
    """Write a stored value of any type."""
    if stored is None:
        put_null(buffer)
    elif type(stored) is str:
        put_str(buffer, <PyObject *> stored)
    elif type(stored) is int:
        # Beyond a signed 64-bit int as the library does.
        if not put_fitting(buffer, stored):
            put_packed(buffer, stored)
    elif type(stored) is float:
        put_float(buffer, PyFloat_AS_DOUBLE(stored))
    elif type(stored) is bool:
        reserve(buffer, 1)
        put(buffer, 0xC3 if stored is True else 0xC2)
    elif type(stored) is list and depth < MOST_LEVELS:
        put_list_header(buffer, len(<list> stored))
        for item in <list> stored:
            put_stored(buffer, item, depth + 1)
    elif type(stored) is dict and depth < MOST_LEVELS:
        put_map_header(buffer, len(<dict> stored))
        for key, item in (<dict> stored).items():
            if type(key) is tuple:
                refuse_list_key()
            put_stored(buffer, key, depth + 1)
            put_stored(buffer, item, depth + 1)
    else:
        put_packed(buffer, stored)
    return 0


cdef int put_list_header(Buffer *buffer, Py_ssize_t size) except -1:
    return put_header(buffer, size, 0x90, 0xDC)


cdef int put_map_header(Buffer *buffer, Py_ssize_t size) except -1:
    return put_header(buffer, size, 0x80, 0xDE)


cdef int put_header(Buffer *buffer, Py_ssize_t size, uint8_t fixed, uint8_t wide) except -1:
    """Write the header of a container; :func:`take_header` says what the last two are."""
    reserve(buffer, 5)
    if size < 16:
        put(buffer, fixed | <uint8_t> size)
    elif size <= 0xFFFF:
        put(buffer, wide)
        put_big_endian(buffer, size, 2)
    elif size <= 0xFFFFFFFF:
        put(buffer, wide + 1)
        put_big_endian(buffer, size, 4)
    else:
        raise ValueError("the container is longer than msgpack can hold")
    return 0


# -- reading -----------------------------------------------------------------------------------------

cdef int take_long_text(Reader *reader, const char **data, Py_ssize_t *size) noexcept:
    cdef Py_ssize_t left = reader.end - reader.at
    cdef int width
    cdef uint64_t length
    if left < 1 or not 0xD9 <= reader.at[0] <= 0xDB:
        return 0
    width = 1 << (reader.at[0] - 0xD9)
    if left < 1 + width:
        return 0
    length = big_endian(reader.at + 1, width)
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


cdef inline int take_header(Reader *reader, Py_ssize_t *count, uint8_t fixed, uint8_t wide, int each) noexcept:
    """Read the header of a container; 0 if the next value is none, or has more items than there are bytes.

    ``fixed`` is the first byte of an empty one, ``wide`` that of one with a 16-bit count; ``each`` is how many values
    make an item.
    """
    cdef Py_ssize_t left = reader.end - reader.at
    cdef uint8_t head
    cdef int width = 0
    cdef uint64_t size
    if left < 1:
        return 0
    head = reader.at[0]
    if fixed <= head <= fixed + 15:
        size = head - fixed
    elif head == wide or head == wide + 1:
        width = 2 if head == wide else 4
        if left < 1 + width:
            return 0
        size = big_endian(reader.at + 1, width)
    else:
        return 0
    # Every value takes a byte at least.
    if size * each > <uint64_t> (left - 1 - width):
        return 0
    reader.at += 1 + width
    count[0] = <Py_ssize_t> size
    return 1


cdef int take_list_header(Reader *reader, Py_ssize_t *count) noexcept:
    return take_header(reader, count, 0x90, 0xDC, 1)


cdef int take_map_header(Reader *reader, Py_ssize_t *count) noexcept:
    return take_header(reader, count, 0x80, 0xDE, 2)


cdef object take_any(Reader *reader, int depth):
    """Read a value of any type; raises if it is no msgpack."""
    cdef const char *data
    cdef Py_ssize_t size
    cdef double number
    cdef const uint8_t *start = reader.at
    cdef uint8_t head
    cdef list items
    cdef dict pairs
    cdef PyObject *text
    if start >= reader.end:
        raise ValueError("no msgpack")
    head = start[0]
    if head < 0x80 or head >= 0xE0 or 0xCC <= head <= 0xD3:
        value = take_int(reader)
        if value is not None:
            return value
    elif 0xA0 <= head <= 0xBF or 0xD9 <= head <= 0xDB:
        if take_text(reader, &data, &size):
            text = new_text(data, size)
            found = <object> text
            Py_XDECREF(text)
            return found
    elif head == 0xCB:
        if take_float(reader, &number):
            return number
    elif head == 0xC0 or head == 0xC2 or head == 0xC3:
        reader.at += 1
        return None if head == 0xC0 else head == 0xC3
    elif depth < MOST_LEVELS:
        if take_list_header(reader, &size):
            items = []
            while size > 0:
                items.append(take_any(reader, depth + 1))
                size -= 1
            return items
        if take_map_header(reader, &size):
            pairs = {}
            while size > 0:
                key = take_any(reader, depth + 1)
                pairs[key] = take_any(reader, depth + 1)
                size -= 1
            return pairs
    elif 0x80 <= head <= 0x9F or 0xDC <= head <= 0xDF:
        raise ValueError("more levels than there may be")
    # What is left is rare: bytes, extensions and short floats.
    if not skip(reader):
        raise ValueError("no msgpack")
    return unpack(PyBytes_FromStringAndSize(<const char *> start, reader.at - start))
