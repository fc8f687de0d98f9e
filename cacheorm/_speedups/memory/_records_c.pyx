"""Records of the file backend: twin of ``_records_py.py``, which explains them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy

from ...errors import InvalidKeyError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

__all__ = ["key_ids", "make_parameters", "make_record", "pick"]

# CRC-32 as in zlib, four bytes at a step ("slicing by 4", Kounavis and Berry, 2005).
cdef uint32_t TABLE[4][256]


cdef void make_table() noexcept:
    cdef uint32_t value
    cdef int i, step
    for i in range(256):
        value = i
        for step in range(8):
            value = (value >> 1) ^ (0xEDB88320 if value & 1 else 0)
        TABLE[0][i] = value
    for i in range(256):
        for step in range(1, 4):
            TABLE[step][i] = (TABLE[step - 1][i] >> 8) ^ TABLE[0][TABLE[step - 1][i] & 0xFF]


make_table()


cdef uint32_t crc32(const unsigned char *at, Py_ssize_t size) noexcept:
    cdef uint32_t value = ~(<uint32_t> 0)
    while size >= 4:
        value ^= at[0] | <uint32_t> at[1] << 8 | <uint32_t> at[2] << 16 | <uint32_t> at[3] << 24
        value = (TABLE[3][value & 0xFF] ^ TABLE[2][value >> 8 & 0xFF]
                 ^ TABLE[1][value >> 16 & 0xFF] ^ TABLE[0][value >> 24])
        at += 4
        size -= 4
    while size > 0:
        value = (value >> 8) ^ TABLE[0][(value ^ at[0]) & 0xFF]
        at += 1
        size -= 1
    return ~value


cdef const char *encoded(object key, Py_ssize_t *size) except NULL:
    """Give the UTF-8 of a key, which the key owns."""
    cdef const char *start
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        start = PyUnicode_AsUTF8AndSize(key, size)
    except UnicodeEncodeError:
        raise InvalidKeyError("a key has surrogates, which UTF-8 cannot encode") from None
    if memchr(start, 0, size[0]) is not NULL:
        raise InvalidKeyError("a key has a NUL, which ends the key in a record")
    return start


cdef unsigned long long key_id(const char *start, Py_ssize_t size) noexcept:
    cdef Py_ssize_t head = size - 3 if size > 3 else 0
    cdef unsigned long long number = crc32(<const unsigned char *> start, head)
    cdef unsigned long long tail = 0
    cdef Py_ssize_t i
    for i in range(head, size):
        tail = tail << 8 | <unsigned char> start[i]
    return number << 24 | tail


def key_ids(keys):
    """Give the ids of keys; see the twin."""
    cdef Py_ssize_t size = 0
    cdef const char *start
    cdef list ids = []
    for key in keys:
        start = encoded(key, &size)
        ids.append(key_id(start, size))
    return ids


def make_record(key, bytes value not None):
    """Give the record of an entry; see the twin."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t length = PyBytes_GET_SIZE(value)
    cdef const char *start = encoded(key, &size)
    # The key and its NUL, which the text ends with in memory as well.
    cdef bytes record = PyBytes_FromStringAndSize(NULL, size + 1 + length)
    cdef char *to = PyBytes_AS_STRING(record)
    memcpy(to, start, size)
    to[size] = 0
    memcpy(to + size + 1, PyBytes_AS_STRING(value), length)
    return record


def make_parameters(batch, ids, expires):
    """Give what a batch is written with; see the twin."""
    cdef list parameters = []
    for (key, value), number in zip(batch.items(), ids, strict=True):
        parameters.append(number)
        parameters.append(expires)
        parameters.append(make_record(key, value))
    return parameters


def pick(keys, rows):
    """Give the values of keys; see the twin."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t length
    cdef const char *start
    cdef const char *held
    cdef list values = []
    cdef tuple row = ()
    cdef Py_ssize_t place = 0
    following = iter(rows)
    for key in keys:
        while place == len(row):
            try:
                row = tuple(next(following))
            except StopIteration:
                raise ValueError("there are fewer records than keys") from None
            place = 0
        record = row[place]
        place += 1
        if record is None:
            values.append(None)
            continue
        if type(record) is not bytes:
            raise TypeError(f"a record must be bytes, got {type(record).__name__}")
        start = PyUnicode_AsUTF8AndSize(key, &size)
        held = PyBytes_AS_STRING(record)
        length = PyBytes_GET_SIZE(record)
        if length > size and held[size] == 0 and memcmp(held, start, size) == 0:
            values.append(PyBytes_FromStringAndSize(held + size + 1, length - size - 1))
        else:
            values.append(None)
    return values
