# cython: cdivision=True
"""The codecs of integers, floats and booleans."""

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .._digits cimport count_digits, put_digits
from ..convert._numbers_c import Boolean, Integer, Real
from ._codec_c cimport ValueCodec, register
from ._msgpack_c cimport Buffer, Reader, put, put_fitting, put_float, reserve, take_float, take_int

__all__ = []


cdef class IntegerCodec(ValueCodec):
    """ints of 64 bits and a sign."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is int and put_fitting(buffer, value):
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        value = take_int(reader)
        return ValueCodec.decode(self, reader) if value is None else value

    cdef object to_stored(self, value, PyObject **canonical):
        cdef int overflow = 0
        if type(value) is int:
            PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow:
                return value
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is int else self.load(stored)

    cdef object key_value(self, value):
        return value if type(value) is int else ValueCodec.key_value(self, value)

    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2:
        cdef int overflow = 0
        cdef int64_t number
        cdef uint64_t digits
        cdef int size
        if type(value) is not int:
            return -1
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        # Not -number: the smallest int has no positive counterpart.
        digits = <uint64_t> number if number >= 0 else 0 - <uint64_t> number
        size = count_digits(digits)
        if overflow or size + (number < 0) > room:
            return -1
        if number < 0:
            to[0] = c"-"
            to += 1
        put_digits(to, digits, size)
        return size + (number < 0)


cdef class RealCodec(ValueCodec):
    """Finite floats."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            put_float(buffer, PyFloat_AS_DOUBLE(value))
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        cdef double number
        cdef const uint8_t *start = reader.at
        if take_float(reader, &number):
            if isfinite(number):
                return PyFloat_FromDouble(number)
            reader.at = start
        return ValueCodec.decode(self, reader)

    cdef object to_stored(self, value, PyObject **canonical):
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            return value
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is float and isfinite(PyFloat_AS_DOUBLE(stored)) else self.load(stored)


cdef class BooleanCodec(ValueCodec):
    """bools, as 0 and 1."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is bool:
            reserve(buffer, 1)
            put(buffer, value is True)
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        cdef uint8_t head
        if reader.at < reader.end:
            head = reader.at[0]
            if head <= 1 or head == 0xC2 or head == 0xC3:
                reader.at += 1
                return (head & 1) == 1
        return ValueCodec.decode(self, reader)

    cdef object to_stored(self, value, PyObject **canonical):
        if type(value) is bool:
            return 1 if value else 0
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is bool else self.load(stored)


register(Integer, IntegerCodec)
register(Real, RealCodec)
register(Boolean, BooleanCodec)
