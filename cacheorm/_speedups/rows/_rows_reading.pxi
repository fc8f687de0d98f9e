"""msgpack in C buffers: values read within the bounds of a given one; see ``_rows_msgpack.pxi``."""

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
