"""Keys and values before anything is sent: the C version of ``_checks_py.py``, which documents it."""

from cpython.bytes cimport PyBytes_CheckExact
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check

from ...errors import InvalidKeyError
from ...types import to_bytes
from ._requests cimport *

__all__ = ["check_keys", "check_memcached_keys", "encode_values", "total_size"]

cdef enum:
    MAX_KEY_BYTES = 250


cdef const char *checked_key(object keys, Py_ssize_t index, Py_ssize_t *size) except NULL:
    cdef object key = <object> PySequence_Fast_GET_ITEM(keys, index)
    if not PyUnicode_Check(key):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        return PyUnicode_AsUTF8AndSize(key, size)
    except UnicodeEncodeError:
        raise InvalidKeyError(f"key {key[:80]!a} cannot be encoded as UTF-8") from None


def check_keys(keys):
    """Raise :exc:`InvalidKeyError` unless every key is a ``str`` that UTF-8 can encode."""
    cdef Py_ssize_t i, size = 0
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        checked_key(keys, i, &size)


def check_memcached_keys(keys):
    """Raise :exc:`InvalidKeyError` unless memcached takes every key."""
    cdef Py_ssize_t i, j, size = 0
    cdef const char *data
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        data = checked_key(keys, i, &size)
        if not 0 < size <= MAX_KEY_BYTES:
            key = <object> PySequence_Fast_GET_ITEM(keys, i)
            raise InvalidKeyError(f"key {key[:80]!a} has {size} bytes; memcached takes 1 to {MAX_KEY_BYTES}")
        for j in range(size):
            if <unsigned char> data[j] <= 0x20 or data[j] == 0x7F:
                key = <object> PySequence_Fast_GET_ITEM(keys, i)
                raise InvalidKeyError(
                    f"key {key[:80]!a} holds a space or a control character; memcached takes none"
                )


def encode_values(keys, list values not None):
    """Convert all values to bytes: the list itself where they are, a new one otherwise."""
    for value in values:
        if not PyBytes_CheckExact(value):
            return [encode_value(key, value) for key, value in zip(keys, values, strict=True)]
    return values


cdef object encode_value(key, value):
    try:
        encoded = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{key}: the text cannot be encoded as UTF-8") from None
    if encoded is None:
        raise TypeError(f"{key}: cannot store NoneType as bytes: expected bytes, str, int or float")
    return encoded


def total_size(values):
    """Return the total size of values in bytes; that of ``None`` is 0."""
    cdef Py_ssize_t i, total = 0
    values = PySequence_Fast(values, "values must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(values)):
        if PySequence_Fast_GET_ITEM(values, i) != <PyObject *> None:
            total += value_size(values, i)
    return total
