"""Requests are written into a buffer of known size: what the modules that pack them share.

Requests are measured first, then written into one bytes object of exactly that size: nothing grows, and nothing is left
to free when something goes wrong. No Python code runs between measuring and writing.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_Check
from cpython.object cimport PyObject
from libc.string cimport memcpy

from .._digits cimport count_digits, put_number

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PySequence_Fast(object items, const char *message)
    Py_ssize_t PySequence_Fast_GET_SIZE(object items)
    PyObject *PySequence_Fast_GET_ITEM(object items, Py_ssize_t index)


cdef inline const char *key_bytes(object keys, Py_ssize_t index, Py_ssize_t *size) except NULL:
    """Return a key as UTF-8. For ASCII that is its own memory; for the rest Python keeps it with the key."""
    cdef object key = <object> PySequence_Fast_GET_ITEM(keys, index)
    return PyUnicode_AsUTF8AndSize(key, size)


cdef inline Py_ssize_t value_size(object values, Py_ssize_t index) except -1:
    cdef object value = <object> PySequence_Fast_GET_ITEM(values, index)
    if not PyBytes_CheckExact(value):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return PyBytes_GET_SIZE(value)


cdef inline int check_places(Py_ssize_t place, Py_ssize_t stop, Py_ssize_t count) except -1:
    """Raise ``IndexError`` unless the places from ``place`` to ``stop`` exist."""
    if not 0 <= place <= stop <= count:
        raise IndexError("place and stop must lie inside of the batch")
    return 0


cdef inline Py_ssize_t position_at(list positions, Py_ssize_t place, Py_ssize_t count) except -1:
    """Return the position that stands at a place; without positions, the place itself. No Python code runs."""
    return place if positions is None else listed_position(positions, place, count)


cdef inline Py_ssize_t listed_position(list positions, Py_ssize_t place, Py_ssize_t count) except -1:
    cdef int overflow = 0
    cdef long long position
    # Code that ran since the places were checked may have made the list shorter.
    if place >= PyList_GET_SIZE(positions):
        raise IndexError("list index out of range")
    item = <object> PyList_GET_ITEM(positions, place)
    if not PyLong_Check(item):
        raise TypeError(f"a position must be an int, got {type(item).__name__}")
    position = PyLong_AsLongLongAndOverflow(item, &overflow)
    if overflow or not 0 <= position < count:
        raise IndexError(f"position {item} is outside of the batch")
    return <Py_ssize_t> position


cdef inline char *put(char *to, const char *data, Py_ssize_t size) noexcept nogil:
    memcpy(to, data, size)
    return to + size


cdef inline Py_ssize_t bulk_size(Py_ssize_t size) noexcept nogil:
    """Return the size of ``$<size> CR LF <data> CR LF``."""
    return 1 + count_digits(size) + 2 + size + 2


cdef inline char *put_bulk(char *to, const char *data, Py_ssize_t size) noexcept nogil:
    to[0] = b"$"
    to = put(put_number(to + 1, size), b"\r\n", 2)
    return put(put(to, data, size), b"\r\n", 2)
