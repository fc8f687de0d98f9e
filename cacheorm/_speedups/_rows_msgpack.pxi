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


cdef struct Reader:
    const uint8_t *at
    const uint8_t *end


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


cdef inline bint same(const char *one, const char *other, Py_ssize_t size) noexcept:
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


cdef object take_any(Reader *reader, int depth):
    """Read a value of any type; raises if it is no msgpack."""
    cdef const char *data
    cdef Py_ssize_t size
    cdef double number
    cdef const uint8_t *start = reader.at
    cdef uint8_t head
    cdef list items
    cdef dict pairs
    if start >= reader.end:
        raise ValueError("no msgpack")
    head = start[0]
    if head < 0x80 or head >= 0xE0 or 0xCC <= head <= 0xD3:
        value = take_int(reader)
        if value is not None:
            return value
    elif 0xA0 <= head <= 0xBF or 0xD9 <= head <= 0xDB:
        if take_text(reader, &data, &size):
            return text_of(data, size)
    elif head == 0xCB:
        if take_float(reader, &number):
            return number
    elif head == 0xC0 or head == 0xC2 or head == 0xC3:
        reader.at += 1
        return None if head == 0xC0 else head == 0xC3
    elif depth < DEEPEST:
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
    # What is left is rare: bytes, extensions, short floats, and great depth.
    if not skip(reader):
        raise ValueError("no msgpack")
    return unpack(PyBytes_FromStringAndSize(<const char *> start, reader.at - start))
