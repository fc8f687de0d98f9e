"""Whether some of many keys are equal, without a set of them."""

def has_duplicates(list keys not None):
    """Tell whether a key is in ``keys`` more than once."""
    cdef Py_ssize_t count = len(keys)
    cdef Py_ssize_t size = 64
    cdef Py_ssize_t mask, place
    cdef uint64_t *seen
    cdef uint64_t number
    if count < 2:
        return False
    while size < 2 * count:
        size *= 2
    mask = size - 1
    seen = <uint64_t *> PyMem_Calloc(size, sizeof(uint64_t))
    if seen is NULL:
        raise MemoryError
    try:
        for key in keys:
            if type(key) is not str or not PyUnicode_IS_COMPACT_ASCII(key):
                return len(set(keys)) < count
            number = mixed(<const char *> PyUnicode_DATA(key), PyUnicode_GET_LENGTH(key))
            place = <Py_ssize_t> (number >> 20) & mask
            while seen[place] != 0:
                if seen[place] == number:
                    # The same text, or one in 2**64 that is not.
                    return len(set(keys)) < count
                place = (place + 1) & mask
            seen[place] = number
    finally:
        PyMem_Free(seen)
    return False


cdef inline uint64_t mixed(const char *data, Py_ssize_t size) noexcept:
    """Make a number of a text, other than zero: quicker than its hash, which a set would have to compute and keep.

    The secret keeps keys from being chosen so that they collide.
    """
    cdef uint64_t number = SECRET ^ <uint64_t> size
    cdef uint64_t word = 0
    cdef Py_ssize_t at = 0
    while at < size - 8:
        memcpy(&word, data + at, 8)
        number = mixed_in(number, word)
        at += 8
    # The last word overlaps the one before, so that any number of bytes from eight on is whole words.
    if size >= 8:
        memcpy(&word, data + size - 8, 8)
    else:
        memcpy(&word, data, size)
    number = mixed_in(number, word) * <uint64_t> 0xBF58476D1CE4E5B9
    return number ^ (number >> 32) | 1


cdef inline uint64_t mixed_in(uint64_t number, uint64_t word) noexcept:
    number = (number ^ word) * <uint64_t> 0x9E3779B97F4A7C15
    return number ^ (number >> 29)


cdef uint64_t SECRET = int.from_bytes(os.urandom(8), "little")
