# cython: cdivision=True
"""Rows to payloads and back, on C buffers: the compiled twin of ``_rows_py.py``.

Decoding expects a map with the model's columns in plan order, one ``memcmp`` per name, and writes each value
straight into the instance's slot. Encoding reads the slots and writes msgpack into a growing buffer.
Whatever is not expected (another order, missing or unknown names, wrong types, broken bytes, a value
that needs a default) goes to the general path, which reads or converts the row from the start and
makes all errors. So this file never raises an error about a row, and both paths agree by construction.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport (
    date_day,
    date_month,
    date_new,
    date_year,
    datetime_day,
    datetime_fold,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_new,
    datetime_second,
    datetime_tzinfo,
    datetime_year,
    import_datetime,
    time_fold,
    time_hour,
    time_microsecond,
    time_minute,
    time_new,
    time_second,
    time_tzinfo,
)
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF, Py_XINCREF
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from types import MemberDescriptorType
from uuid import UUID, SafeUUID
import datetime as _datetime

import msgpack

from .._kinds import (
    KIND_BOOL,
    KIND_BYTES,
    KIND_DATE,
    KIND_DATETIME,
    KIND_DATETIME_TZ,
    KIND_DECIMAL,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_INT,
    KIND_LIST,
    KIND_STR,
    KIND_TIME,
    KIND_UUID,
)
from ..convert._converter_c import Methods, Pair
from ._mapping_c import MappingRows
from ..convert._converter_c cimport Converter, plain
from ._slots_c cimport (
    Slot,
    is_leaf,
    keep_tracked,
    leave_untracked,
    new_instance,
    new_sealed,
    put_new,
    seen,
    slot_offset,
)
from ._uuids cimport put_uuid, take_uuid, uuid_number

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyList_New(Py_ssize_t size)
    Py_ssize_t PyList_GET_SIZE(object items)
    PyObject *item_of "PyList_GET_ITEM"(object items, Py_ssize_t index)
    void PyList_SET_ITEM(object items, Py_ssize_t index, PyObject *item)
    object call_one "PyObject_CallOneArg"(PyObject *function, object argument)
    PyTypeObject *Py_TYPE(PyObject *)
    PyTypeObject PyFloat_Type
    PyTypeObject PyList_Type
    PyTypeObject PyLong_Type
    PyTypeObject PyUnicode_Type
    const Py_ssize_t PY_SSIZE_T_MAX

import_datetime()

__all__ = ["DictRows", "MsgpackRows", "pack", "unpack"]

cdef object UTC = _datetime.timezone.utc
cdef object DATE_TYPE = _datetime.date
cdef object DATETIME_TYPE = _datetime.datetime
cdef object TIME_TYPE = _datetime.time
cdef object UNKNOWN_SAFETY = SafeUUID.unknown
cdef tuple NO_ARGUMENTS = ()

# A UUID keeps what it holds in slots; should that change, its class makes them.
cdef bint UUID_SLOTS_KNOWN = type(UUID.int) is MemberDescriptorType and type(UUID.is_safe) is MemberDescriptorType
cdef Py_ssize_t UUID_NUMBER = slot_offset(UUID.int, UUID) if UUID_SLOTS_KNOWN else -1
cdef Py_ssize_t UUID_SAFETY = slot_offset(UUID.is_safe, UUID) if UUID_SLOTS_KNOWN else -1

cdef enum:
    DEEPEST = 200  # levels of lists and dicts that are read and written here

cdef enum Kind:
    OTHER = 0
    INT = 1
    STR = 2
    BOOL = 3
    FLOAT = 4
    ENUM = 5
    DATETIME = 6
    DATETIME_TZ = 7
    DATE = 8
    TIME = 9
    UUID_KIND = 10
    DECIMAL = 11
    LIST = 12
    BYTES = 14
    PAIR = 100  # not among the converters' kinds: they are told by their class

# The numbers above are compile-time copies of the converters' own.
assert (KIND_INT, KIND_STR, KIND_BOOL, KIND_FLOAT, KIND_ENUM) == (INT, STR, BOOL, FLOAT, ENUM)
assert (KIND_DATETIME, KIND_DATETIME_TZ, KIND_DATE) == (DATETIME, DATETIME_TZ, DATE)
assert (KIND_TIME, KIND_UUID, KIND_DECIMAL, KIND_LIST, KIND_BYTES) == (TIME, UUID_KIND, DECIMAL, LIST, BYTES)


def pack(value):
    """Pack a value as msgpack, text as ``str`` and bytes as ``bin``."""
    return msgpack.packb(value, use_bin_type=True)


def unpack(payload):
    """Read one msgpack value; anything after it is an error."""
    return msgpack.unpackb(payload, raw=False, strict_map_key=False)


cdef inline void store(PyObject *instance, Py_ssize_t offset, object value) noexcept:
    """Put a value into a slot; the caller has checked that the instance has it."""
    keep_tracked(instance, <PyObject *> value)
    put_new(instance, offset, value)


include "_rows_decimals.pxi"
include "_rows_moments.pxi"
include "_rows_msgpack.pxi"
include "_rows_reading.pxi"
include "_rows_text.pxi"
include "_rows_repeated.pxi"
include "_rows_shapes.pxi"
include "_rows_stored.pxi"
include "_rows_slots.pxi"
include "_rows_formats.pxi"
