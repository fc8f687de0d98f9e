"""Keys to servers of a consistent-hash ring: the C version of ``_hash_ring_py.py``, which documents it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PySequence_Fast(object items, const char *message)
    Py_ssize_t PySequence_Fast_GET_SIZE(object items)
    PyObject *PySequence_Fast_GET_ITEM(object items, Py_ssize_t index)

__all__ = ["HashRing", "reassemble", "partition", "one_at_a_time"]


cdef uint32_t hashed(const char *data, Py_ssize_t size) noexcept nogil:
    cdef uint32_t value = 0
    cdef Py_ssize_t i
    for i in range(size):
        value += <uint32_t> <signed char> data[i]
        value += value << 10
        value ^= value >> 6
    value += value << 3
    value ^= value >> 11
    return value + (value << 15)


def one_at_a_time(bytes data not None):
    """Hash bytes as libmemcached does by default: Bob Jenkins's one-at-a-time, over *signed* bytes."""
    return hashed(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef class HashRing:
    """Points on a circle of 32-bit numbers; a key belongs to the server of the first point at or after its hash."""

    cdef uint32_t *numbers
    cdef Py_ssize_t size
    cdef bytes servers
    cdef object md5

    def __cinit__(self, points, bint digest):
        cdef list ordered = sorted(points)
        cdef Py_ssize_t i
        if not ordered:
            raise ValueError("a ring needs at least one point")
        for number, server in ordered:
            if not 0 <= number <= 0xFFFFFFFF or not 0 <= server < 255:
                raise ValueError("a point is a 32-bit number and a server below 255")
        self.size = len(ordered)
        self.servers = bytes([server for _, server in ordered])
        if digest:
            from hashlib import md5  # here, as it loads OpenSSL

            self.md5 = md5
        self.numbers = <uint32_t *> PyMem_Malloc(self.size * sizeof(uint32_t))
        if self.numbers is NULL:
            raise MemoryError
        for i in range(self.size):
            self.numbers[i] = ordered[i][0]

    def __dealloc__(self):
        PyMem_Free(self.numbers)

    cdef int find(self, object key) except -1:
        cdef Py_ssize_t size = 0, low = 0, high = self.size, middle
        cdef const char *data = PyUnicode_AsUTF8AndSize(key, &size)
        cdef const unsigned char *digested
        cdef bytes made
        cdef uint32_t number
        if self.md5 is not None:
            made = self.md5(data[:size], usedforsecurity=False).digest()
            digested = <const unsigned char *> PyBytes_AS_STRING(made)
            number = (
                digested[0] | (<uint32_t> digested[1] << 8) | (<uint32_t> digested[2] << 16)
                | (<uint32_t> digested[3] << 24)
            )
        else:
            number = hashed(data, size)
        while low < high:
            middle = low + (high - low) // 2
            if self.numbers[middle] < number:
                low = middle + 1
            else:
                high = middle
        return <unsigned char> PyBytes_AS_STRING(self.servers)[low if low < self.size else 0]

    def owner(self, str key not None):
        """Return the server of a key."""
        return self.find(key)

    def owners(self, keys):
        """Return the servers of many keys, a byte each."""
        cdef Py_ssize_t i, count
        keys = PySequence_Fast(keys, "keys must be a sequence")
        count = PySequence_Fast_GET_SIZE(keys)
        cdef bytes found = PyBytes_FromStringAndSize(NULL, count)
        cdef char *to = PyBytes_AS_STRING(found)
        for i in range(count):
            # A digest is made by code that may collect, and so run any other.
            if i >= PySequence_Fast_GET_SIZE(keys):
                raise IndexError("list index out of range")
            key = <object> PySequence_Fast_GET_ITEM(keys, i)
            to[i] = <char> self.find(key)
        return found


def partition(bytes owners not None, items, Py_ssize_t servers):
    """Divide items by their servers: a list for each server, in the order of the batch."""
    cdef Py_ssize_t i, owner
    cdef const unsigned char *of = <const unsigned char *> PyBytes_AS_STRING(owners)
    # Before the items are looked at: to make lists may collect, and so run code that removes some.
    cdef list parts = [[] for _ in range(servers)]
    items = PySequence_Fast(items, "items must be a sequence")
    if PyBytes_GET_SIZE(owners) != PySequence_Fast_GET_SIZE(items):
        raise ValueError("owners and items must be as many")
    for i in range(PyBytes_GET_SIZE(owners)):
        owner = of[i]
        if owner >= PyList_GET_SIZE(parts):
            raise ValueError("an owner is not among the servers")
        item = <object> PySequence_Fast_GET_ITEM(items, i)
        (<list> parts[owner]).append(item)
    return parts


def reassemble(bytes owners not None, Py_ssize_t start, parts, list taken not None, list result not None):
    """Reverse :func:`partition` for the items that have arrived: append to ``result`` those next in the batch."""
    cdef Py_ssize_t position = max(start, 0), owner, at
    cdef const unsigned char *of = <const unsigned char *> PyBytes_AS_STRING(owners)
    cdef list known = list(parts), part
    while position < PyBytes_GET_SIZE(owners):
        owner = of[position]
        if owner >= PyList_GET_SIZE(known) or owner >= PyList_GET_SIZE(taken):
            raise ValueError("an owner is not among the servers")
        at = taken[owner]
        part = <list?> known[owner]
        if not 0 <= at < PyList_GET_SIZE(part):
            break
        result.append(part[at])
        taken[owner] = at + 1
        position += 1
    return position
