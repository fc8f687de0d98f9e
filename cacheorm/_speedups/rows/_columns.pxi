"""The columns of a model, by the slots that they live in: what the codecs of rows know of it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF, Py_XINCREF

from libc.stdint cimport uint64_t

from ..convert import Json, ListOf
from .._limits import MAX_DEPTH
from ._assigned_c import ALL, NEW, assigned
from ._budget_c import TooCostly
from ._codec_c cimport ValueCodec, codec_of
from ._msgpack_c cimport *
from ._slots_c cimport *

cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLongMask(object number) except? -1

cdef extern from *:
    """
    /* Switch the collector off; whether that has changed anything. Without a GIL, other threads would notice. */
    static inline int pause_collection(void)
    {
    #ifdef Py_GIL_DISABLED
        return 0;
    #else
        return PyGC_Disable();
    #endif
    }
    static inline void resume_collection(void) { PyGC_Enable(); }
    """
    bint pause_collection()
    void resume_collection()

cdef tuple NO_ARGUMENTS = ()

# The same as in ``_assigned.py``.
cdef enum:
    NEW_BIT = 1
cdef uint64_t ALL_CHANGED = <uint64_t> -1
assert NEW_BIT == NEW and ALL == -1


cdef inline void store(PyObject *instance, Py_ssize_t offset, object value) noexcept:
    """Put a value into a slot; the caller has checked that the instance has it."""
    keep_tracked(instance, <PyObject *> value)
    put_new(instance, offset, value)


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
    bint has_default       # or an alias: whether a row without the name may have another value than None
    uint64_t bit           # in the mask of the fields that were assigned; 0 past the first 63


cdef class Columns:
    """The columns of a model.

    ``general`` is the :class:`MappingRows` of the same rows.
    """

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
    cdef bint own_code     # whether reading a row as it should be runs no code of the application
    cdef bytes header      # what each payload begins with; None where a row is a dict first
    cdef bytes prefix      # what each payload begins with before the row
    cdef Py_ssize_t same_size  # how many bytes of the header, or the prefix, all payloads have before their ages
    cdef bint has_ages
    cdef bint keeps        # this and what follows is of the model's Aging
    cdef int64_t due_after
    cdef int64_t spread
    cdef set old_names     # packed names of fields that were renamed; None where there are none, or rows are dicts
    cdef Py_ssize_t tracker_offset
    cdef uint64_t key_bits
    cdef int last_place
    cdef Py_ssize_t unmeasured  # see Budget; here with the prefix
    cdef bint has_lists
    cdef bint has_unread
    cdef bint nests        # whether a value may be, or hold, a list or dict of any depth
    cdef bint made         # whether `__init__` has come to its end

    def __dealloc__(self):
        PyMem_Free(self.plan)

    cdef int describe_columns(self, general, fields, list converters, tuple names) except -1:
        """Lay out the columns; ``converters`` and ``names`` are one for each field."""
        if self.plan is not NULL:
            raise RuntimeError("a codec is made once")
        self.fields = fields
        self.general = general
        self.model = general.model
        self.columns = general.columns
        self.key_fields = general.key_fields
        self.names = names
        self.codecs = [codec_of(converter, field.null) for field, converter in zip(fields, converters)]
        self.validators = [field.validators or None for field in fields]
        self.key_offsets = tuple([slot_offset(field, self.model) for field in self.key_fields])
        self.key_offset = self.key_offsets[0] if len(self.key_offsets) == 1 else -1
        self.related_offset = (<Slot?> self.model._related).offset
        self.tracker_offset = (<Slot?> self.model._assigned).offset
        self.key_bits = sum([field.bit for field in self.key_fields]) & 0xFFFFFFFFFFFFFFFF
        self.sealed = self.model._sealed
        self.own_code = self.sealed and all([(<ValueCodec> codec).own_code for codec in self.codecs])
        self.unmeasured = general.budget.unmeasured + PyBytes_GET_SIZE(self.prefix)
        # Their values are weighed once they are unpacked: JSON, and lists of what no codec reads.
        self.has_unread = any([
            isinstance(converter, Json) or (isinstance(converter, ListOf) and type(codec) is ValueCodec)
            for converter, codec in zip(converters, self.codecs)
        ])
        self.has_lists = any([isinstance(converter, ListOf) for converter in converters])
        self.nests = not all([(<ValueCodec> codec).leaf for codec in self.codecs])
        self.plan = <Column *> PyMem_Malloc(max(len(self.fields), 1) * sizeof(Column))
        if self.plan is NULL:
            raise MemoryError
        for field in self.fields:
            self._add(field)
        self.last_place = max([field.place for field in self.fields])
        self.same_size = PyBytes_GET_SIZE(self.prefix)
        aging = general.aging
        if aging is not None:
            if self.same_size < AGES_BYTES:
                raise ValueError("the prefix has no room for ages")
            self.has_ages = True
            self.same_size -= AGES_BYTES
            self.keeps = aging.keeps
            self.due_after = aging.due_after
            self.spread = aging.spread
        return 0

    cdef int _add(self, field) except -1:
        """Fill in the next column."""
        cdef Column *column = &self.plan[self.count]
        cdef ValueCodec codec = self.codecs[self.count]
        column.in_payload = field not in self.key_fields
        column.has_default = field.default is not None or bool(field.aliases)
        column.bit = <uint64_t> field.bit if field.place < 64 else 0
        column.offset = slot_offset(field, self.model)
        name = self.names[self.count]
        column.name = <PyObject *> name
        column.packed_name = PyBytes_AS_STRING(name) if type(name) is bytes else NULL
        column.packed_size = PyBytes_GET_SIZE(name) if type(name) is bytes else 0
        validators = self.validators[self.count]
        column.validators = NULL if validators is None else <PyObject *> validators
        column.field = <PyObject *> field
        column.codec = <PyObject *> codec
        column.null = codec.null
        column.leaf = codec.leaf
        # Secrets are kept nowhere but in the rows.
        if getattr(field, "secret", False) or getattr(getattr(field, "field", None), "secret", False):
            codec.intern_nothing()
        self.count += 1
        return 0

    cdef bint holds_leaves(self, PyObject *instance) noexcept:
        """Tell whether no value of an instance may be part of a cycle."""
        cdef Py_ssize_t i
        cdef PyObject *value
        if (<PyObject **> (<char *> instance + self.related_offset))[0] is not NULL:
            return False
        for i in range(self.count):
            value = (<PyObject **> (<char *> instance + self.plan[i].offset))[0]
            if value is not NULL and not is_leaf(value):
                return False
        return True

    cdef Py_ssize_t choose(self, Buffer *buffer, PyObject *instance, Column *chosen) except -2:
        """Find the columns that were changed, and write the header of a map of them; see :meth:`MappingRows.changed`.

        Returns how many there are; -1 where the general path has to.
        """
        cdef PyObject *state = (<PyObject **> (<char *> instance + self.tracker_offset))[0]
        cdef uint64_t mask = 0
        cdef Py_ssize_t i
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t packed = 0
        if self.last_place > 63:
            return -1
        if state is not NULL:
            found = <object> state
            if type(found) is not int:
                row = <object> instance
                found = assigned(found, row)
            mask = PyLong_AsUnsignedLongLongMask(found)
            if mask & self.key_bits and not mask & NEW_BIT:
                mask = ALL_CHANGED
        for i in range(self.count):
            if mask & self.plan[i].bit and (<PyObject **> (<char *> instance + self.plan[i].offset))[0] is not NULL:
                chosen[count] = self.plan[i]
                count += 1
                packed += self.plan[i].in_payload
        if self.header is not None:
            put_map_header(buffer, packed)
        return count

    cdef bint put_key(self, instance, pk, bint *leaves) except -1:
        """Put the primary key into its slots; false if it is none of this model."""
        cdef Py_ssize_t i
        if self.key_offset >= 0:
            put_new(<PyObject *> instance, self.key_offset, pk)
            leaves[0] = leaves[0] and is_leaf(<PyObject *> pk)
            return True
        if type(pk) is not tuple or len(<tuple> pk) != len(self.key_offsets):
            return False
        for i in range(len(self.key_offsets)):
            value = (<tuple> pk)[i]
            put_new(<PyObject *> instance, <Py_ssize_t> self.key_offsets[i], value)
            leaves[0] = leaves[0] and is_leaf(<PyObject *> value)
        return True

    cdef inline bint has_prefix(self, bytes payload) noexcept:
        """Tell whether a payload begins as those of the model do."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.prefix)
        return not size or (
            PyBytes_GET_SIZE(payload) >= size
            and memcmp(
                PyBytes_AS_STRING(payload),
                PyBytes_AS_STRING(self.prefix),
                self.same_size if self.has_ages else size,
            ) == 0
        )

    cdef inline uint8_t *ages_in(self, bytes payload) noexcept:
        """Return where the ages are in a payload that has the prefix."""
        return <uint8_t *> PyBytes_AS_STRING(payload) + PyBytes_GET_SIZE(self.prefix) - AGES_BYTES

    cdef inline int state_in(self, bytes payload, int64_t now) noexcept:
        """Return ``OVER``, ``FRESH`` or ``DUE`` for a payload that has the prefix."""
        return state_at(self.ages_in(payload), now, self.due_after, self.spread, self.keeps)

    cdef int state_of(self, payload, int64_t now) except -2:
        """Return ``OVER``, ``FRESH`` or ``DUE`` for a payload of a model that has ages."""
        if type(payload) is bytes and self.has_prefix(<bytes> payload):
            return self.state_in(<bytes> payload, now)
        return self.general.aging.state(payload, now)
