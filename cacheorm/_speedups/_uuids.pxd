"""UUIDs as two 64-bit halves, and as hexadecimal digits, without the detours of their class."""

from libc.stdint cimport uint8_t, uint64_t


cdef extern from *:
    """
    /* The 16 bytes of an int; 0 where it is negative or larger, -1 with an exception set. */
    static inline int uuid_octets(PyObject *number, unsigned char *octets)
    {
    #if PY_VERSION_HEX >= 0x030D0000
        Py_ssize_t size = PyLong_AsNativeBytes(
            number, octets, 16,
            Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
        if (size >= 0)
            return size <= 16;
    #else
        if (_PyLong_AsByteArray((PyLongObject *)number, octets, 16, 0, 0) == 0)
            return 1;
    #endif
        if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_ValueError))
            return -1;
        PyErr_Clear();
        return 0;
    }

    static inline PyObject *uuid_int(const unsigned char *octets)
    {
    #if PY_VERSION_HEX >= 0x030D0000
        return PyLong_FromUnsignedNativeBytes(octets, 16, Py_ASNATIVEBYTES_BIG_ENDIAN);
    #else
        return _PyLong_FromByteArray(octets, 16, 0, 0);
    #endif
    }
    """
    int uuid_octets(object number, uint8_t *octets) except -1
    object uuid_int(const uint8_t *octets)


cdef inline bint put_uuid(char *to, object number) except -1:
    """Write the 32 hexadecimal digits of a UUID's number; false if it is none of 128 bits."""
    cdef const char *digits = "0123456789abcdef"
    cdef uint8_t octets[16]
    cdef int at
    if type(number) is not int or not uuid_octets(number, octets):
        return False
    for at in range(16):
        to[2 * at] = digits[octets[at] >> 4]
        to[2 * at + 1] = digits[octets[at] & 15]
    return True


cdef inline object uuid_number(uint64_t high, uint64_t low):
    """Give the number of a UUID."""
    cdef uint8_t octets[16]
    cdef int at
    for at in range(8):
        octets[at] = (high >> (56 - 8 * at)) & 0xFF
        octets[at + 8] = (low >> (56 - 8 * at)) & 0xFF
    return uuid_int(octets)
