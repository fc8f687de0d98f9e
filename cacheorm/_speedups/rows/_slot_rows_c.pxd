"""What the codecs of rows in a format are made of."""

from cpython.object cimport PyObject

from ._msgpack_c cimport Buffer


cdef struct Column:
    PyObject *codec        # a ValueCodec; this and what follows is borrowed from the codec of rows
    PyObject *field
    PyObject *name         # in the payload
    PyObject *validators   # a tuple, or NULL for none
    const char *packed_name  # where it is packed as msgpack: its bytes
    Py_ssize_t packed_size
    Py_ssize_t offset      # of the slot
    bint null
    bint leaf
    bint in_payload
    bint has_default


cdef class SlotRows:
    cdef readonly object general
    cdef readonly object model
    cdef readonly tuple columns
    cdef readonly tuple key_fields
    cdef tuple fields
    cdef Column *plan
    cdef Py_ssize_t count  # columns in plan, key fields included
    cdef list codecs
    cdef list validators
    cdef tuple names       # what columns are called in the payload
    cdef tuple key_offsets
    cdef Py_ssize_t key_offset  # that of a key of one field; -1 for a composite one
    cdef Py_ssize_t related_offset
    cdef bint sealed
    cdef bytes header      # what each payload begins with; None where a row is a dict first

    cdef int describe_columns(self, general, fields, list converters, tuple names) except -1
    cdef int _add(self, field) except -1
    cdef list _convert_many(self, list instances, bint many, bint complete)
    cdef void settle(self, instance, PyObject **changed, bint done) noexcept
    cdef bint holds_leaves(self, PyObject *instance) noexcept
    cdef object dump_row(self, Buffer *buffer, PyObject **changed, Py_ssize_t *changes, instance, bint complete)
    cdef object write(self, dict row, Column *column, value)
    cdef object finish(self, dict row)
    cdef bint value_of(self, Column *column, PyObject *slot, bint complete, PyObject **value) except -1
    cpdef load(self, payload, pk, key)
    cdef object load_quickly(self, payload, pk)
    cdef bint put_key(self, instance, pk, bint *leaves) except -1
    cdef bint load_row(self, bytes payload, instance, bint *leaves) except -1
