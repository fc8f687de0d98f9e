"""The codec of one kind of value: what codecs of rows, and keys, call for each value."""

from cpython.object cimport PyObject

from ._msgpack_c cimport Buffer, Reader


cdef class ValueCodec:
    cdef readonly object converter
    cdef readonly bint null       # whether None is a value
    cdef readonly bint packable   # whether all stored forms are text and finite numbers, and lists of them
    cdef bint leaf                # whether its values refer to nothing else
    cdef int level                # in how many lists its values are
    cdef bint compiled            # whether the converter is an extension type
    cdef bint own_code            # whether reading its stored forms runs no code of the application

    cdef object encode(self, Buffer *buffer, value)
    cdef object decode(self, Reader *reader)
    cdef object to_stored(self, value, PyObject **canonical)
    cdef object from_stored(self, stored)
    cdef object key_value(self, value)
    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2
    cdef void intern_nothing(self) noexcept
    cdef object dump(self, value)
    cdef object load(self, stored)
    cdef object canonical(self, value, stored)


cdef class FormattedCodec(ValueCodec):
    cdef Py_ssize_t format(self, char *text, value) except -1
    cdef object parse(self, const char *text, Py_ssize_t size)


cdef enum:
    LONGEST_FORMATTED = 64


cdef int register(converter_type, codec_type) except -1
cdef ValueCodec codec_of(converter, bint null)
