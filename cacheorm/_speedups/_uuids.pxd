"""UUIDs as two 64-bit halves, and as hexadecimal digits, without the detours of their class."""

from cpython.long cimport PyLong_AsUnsignedLongLong, PyLong_AsUnsignedLongLongMask
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef inline void put_hex(char *to, uint64_t half) noexcept:
    """Write 16 hexadecimal digits."""
    cdef const char *digits = "0123456789abcdef"
    cdef int at
    for at in range(16):
        to[at] = digits[(half >> (60 - 4 * at)) & 15]


cdef inline bint put_uuid(char *to, object number) except -1:
    """Write the 32 hexadecimal digits of a UUID's number; false if it is none of 128 bits."""
    if type(number) is not int:
        return False
    cdef uint64_t low = PyLong_AsUnsignedLongLongMask(number)
    cdef uint64_t high
    try:
        high = PyLong_AsUnsignedLongLong(number >> 64)
    except OverflowError:
        return False
    put_hex(to, high)
    put_hex(to + 16, low)
    return True
