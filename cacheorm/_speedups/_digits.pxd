"""Integers as decimal text: the one that writes them, for keys, for requests and for stored forms."""

from libc.stdint cimport uint64_t


cdef inline int count_digits(uint64_t number) noexcept nogil:
    """Count the decimal digits of a number."""
    cdef int count = 1
    while number >= 10000:
        number //= 10000
        count += 4
    return count + (number >= 10) + (number >= 100) + (number >= 1000)


cdef inline char *put_digits(char *to, uint64_t number, int count) noexcept nogil:
    """Write the last ``count`` decimal digits of a number; return the place after them."""
    cdef int at
    for at in range(count - 1, -1, -1):
        to[at] = <char> (c"0" + number % 10)
        number //= 10
    return to + count


cdef inline char *put_number(char *to, uint64_t number) noexcept nogil:
    """Write a number; return the place after it."""
    return put_digits(to, number, count_digits(number))
