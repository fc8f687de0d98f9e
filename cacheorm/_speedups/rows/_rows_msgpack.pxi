"""msgpack in C buffers: values written into a growing one, and read within the bounds of a given one.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

cdef struct Buffer:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline int reserve(Buffer *buffer, Py_ssize_t more) except -1:
    """Make room for ``more`` bytes after what is written."""
    return 0 if more <= buffer.capacity - buffer.size else grow(buffer, more)


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


cdef inline int put_text(Buffer *buffer, const char *data, Py_ssize_t size) except -1:
    put_text_header(buffer, size)
    put_copy(buffer, data, size)
    return 0


cdef bint put_fitting(Buffer *buffer, object number) except -1:
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


cdef int put_int(Buffer *buffer, object number) except -1:
    """Write an int; beyond a signed 64-bit int, as the library does."""
    if not put_fitting(buffer, number):
        put_packed(buffer, number)
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


cdef inline object put_null(Buffer *buffer):
    """Write a null, and give it."""
    reserve(buffer, 1)
    put(buffer, 0xC0)
    return None


cdef int put_stored(Buffer *buffer, object stored, int depth=0) except -1:
    """Write a stored value of any type."""
    if stored is None:
        put_null(buffer)
    elif type(stored) is str:
        put_str(buffer, <PyObject *> stored)
    elif type(stored) is int:
        put_int(buffer, stored)
    elif type(stored) is float:
        put_float(buffer, PyFloat_AS_DOUBLE(stored))
    elif type(stored) is bool:
        reserve(buffer, 1)
        put(buffer, 0xC3 if stored is True else 0xC2)
    elif type(stored) is list and depth < DEEPEST:
        put_list_header(buffer, len(<list> stored))
        for item in <list> stored:
            put_stored(buffer, item, depth + 1)
    elif type(stored) is dict and depth < DEEPEST:
        put_map_header(buffer, len(<dict> stored))
        for key, item in (<dict> stored).items():
            put_stored(buffer, key, depth + 1)
            put_stored(buffer, item, depth + 1)
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


cdef int put_map_header(Buffer *buffer, Py_ssize_t size) except -1:
    reserve(buffer, 5)
    if size < 16:
        put(buffer, 0x80 | <uint8_t> size)
    elif size <= 0xFFFF:
        put(buffer, 0xDE)
        put_big_endian(buffer, size, 2)
    elif size <= 0xFFFFFFFF:
        put(buffer, 0xDF)
        put_big_endian(buffer, size, 4)
    else:
        raise ValueError("the dict is longer than msgpack can hold")
    return 0


cdef int put_datetime(Buffer *buffer, value, bint utc) except -1:
    cdef char text[32]
    cdef Py_ssize_t size = format_datetime(text, value, utc)
    return put_text(buffer, text, size)


cdef int put_date(Buffer *buffer, value) except -1:
    cdef char text[10]
    put_day(text, date_year(value), date_month(value), date_day(value))
    return put_text(buffer, text, 10)


cdef int put_time(Buffer *buffer, value) except -1:
    cdef char text[16]
    cdef Py_ssize_t size = format_time(text, value)
    return put_text(buffer, text, size)
