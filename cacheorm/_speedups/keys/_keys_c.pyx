# cython: cdivision=True
"""The keys of whole batches, on C buffers: the C version of ``_keys_py.py``, which documents it."""

from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
import os

from ._identity_c import DIGEST_MARK, KEY_TYPES, MAX_KEY_BYTES, escape, text_maker, unescape
from ._identity_c import Identity as GeneralIdentity
from ..rows._codec_c cimport ValueCodec, codec_of
from ..rows._slots_c cimport is_leaf, leave_untracked, slot_offset, taken

cdef extern from "Python.h":
    void PyObject_GC_Track(PyObject *found)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    object PyTuple_New(Py_ssize_t size)
    void PyTuple_SET_ITEM(object items, Py_ssize_t index, PyObject *item)

cdef extern from *:
    """
    /* A dict with room for so many keys, where there is a way to have it. */
    static inline PyObject *new_dict(Py_ssize_t size)
    {
    #if defined(PYPY_VERSION) || PY_VERSION_HEX >= 0x030E0000
        return PyDict_New();
    #else
        return _PyDict_NewPresized(size);
    #endif
    }
    """
    dict new_dict(Py_ssize_t size)

__all__ = [
    "DIGEST_MARK",
    "KEY_TYPES",
    "MAX_KEY_BYTES",
    "Identity",
    "RowReader",
    "batch",
    "escape",
    "found",
    "missing_positions",
    "has_duplicates",
    "text_maker",
    "unescape",
]

# The longest key that is made here; a longer one gets a digest. Not Python's number: the buffers below have this size.
cdef enum:
    LONGEST = 250

assert MAX_KEY_BYTES == LONGEST

cdef struct Step:
    PyObject *codec        # a ValueCodec; this and what follows is borrowed from the list that the steps own
    Py_ssize_t offset      # of the slot in an instance
    PyObject *name
    PyObject *other_name
    const char *label      # what comes before the value
    Py_ssize_t label_size


cdef inline object text_key(const char *text, Py_ssize_t size):
    """Return a key of printable ASCII."""
    key = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(key), text, size)
    return key


cdef class Steps:
    """How the key values of one model are found and written."""

    cdef Step *steps
    cdef Py_ssize_t count
    cdef object model
    cdef object format     # the model's own formatter, or None
    cdef list owned        # what the steps borrow
    cdef bint quick        # whether all key fields are of the plain kinds

    def __cinit__(self):
        self.steps = NULL
        self.count = 0

    def __dealloc__(self):
        PyMem_Free(self.steps)

    cdef bint fill(self, identity) except -1:
        """Lay out the steps; false where some key field is not of the plain kinds."""
        cdef Step *step
        fields = identity.fields
        start = identity.prefix
        self.model = identity.model
        self.format = None if identity.formatter is None else identity.format
        self.owned = []
        self.steps = <Step *> PyMem_Malloc(max(len(fields), 1) * sizeof(Step))
        if self.steps is NULL:
            raise MemoryError
        for field in fields:
            if field.slot_converter.key_type is None:
                return False
            codec = codec_of(field.slot_converter, False)
            step = &self.steps[self.count]
            step.offset = slot_offset(field, self.model)
            names = field.accepted_names
            name, other_name = names[0], names[len(names) - 1]
            label = f"{start}:{escape(field.name)}:".encode("ascii")
            self.owned += [codec, name, other_name, label]
            step.codec = <PyObject *> codec
            step.name = <PyObject *> name
            step.other_name = <PyObject *> other_name
            step.label = <char *> label
            step.label_size = len(label)
            self.count += 1
            start = ""
        return True

    cdef bint find(self, row, bint strict, PyObject **pk_found, PyObject **key_found) except -1:
        """Find primary key and key of one row, new references; false, with none set, if the general path has to."""
        cdef char text[LONGEST]
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t at = 0
        cdef PyObject *found = NULL
        cdef PyObject *name
        cdef Step *step
        cdef bint given = type(row) is dict
        if given:
            if strict and len(<dict> row) != self.count:
                return False
        elif type(row) is not self.model:
            return False
        cdef bint leaves = True
        parts = None
        value = None
        if self.count > 1:
            # Code that runs meanwhile must not find it, as there are gaps in it.
            parts = PyTuple_New(self.count)
            leave_untracked(<PyObject *> parts)
        for i in range(self.count):
            step = &self.steps[i]
            if given:
                # Rows mostly name the parts of the key first and in order, with the very names of the class.
                if not PyDict_Next(<dict> row, &at, &name, &found) or name is not step.name:
                    found = PyDict_GetItemWithError(<dict> row, <object> step.name)  # held: by the steps
                if found is NULL or found is <PyObject *> None:
                    found = PyDict_GetItemWithError(<dict> row, <object> step.other_name)  # held: by the steps
            else:
                found = (<PyObject **> (<char *> <PyObject *> row + step.offset))[0]
            if found is NULL:
                return False
            value = <object> found
            if parts is not None:
                Py_INCREF(value)
                PyTuple_SET_ITEM(parts, i, found)
                leaves = leaves and is_leaf(found)
            if self.format is None:
                size = self.put(text, size, step, value)
                if size < 0:
                    return False
        pk = value
        if parts is not None:
            pk = parts
            if not leaves:
                PyObject_GC_Track(<PyObject *> parts)
        key = text_key(text, size) if self.format is None else self.formatted(pk)
        if key is None:
            return False
        Py_INCREF(pk)
        Py_INCREF(key)
        pk_found[0] = <PyObject *> pk
        key_found[0] = <PyObject *> key
        return True

    cdef object find_key(self, pk):
        """Return the key of a row by its primary key; ``None`` if the general path has to make it."""
        cdef char text[LONGEST]
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        if self.count > 1 and (type(pk) is not tuple or len(<tuple> pk) != self.count):
            return None
        if self.format is not None:
            return self.formatted(pk)
        for i in range(self.count):
            size = self.put(text, size, &self.steps[i], pk if self.count == 1 else (<tuple> pk)[i])
            if size < 0:
                return None
        return text_key(text, size)

    cdef inline Py_ssize_t put(self, char *text, Py_ssize_t size, Step *step, value) except -2:
        """Write label and value after ``size`` bytes, and return how many there are then; -1 for the general path."""
        cdef Py_ssize_t length
        if step.label_size > LONGEST - size:
            return -1
        memcpy(text + size, step.label, step.label_size)
        size += step.label_size
        length = (<ValueCodec> step.codec).put_key(text + size, LONGEST - size, value)
        return -1 if length < 0 else size + length

    cdef object formatted(self, pk):
        """Return the key that the model's formatter makes of the stored forms; ``None`` if the general path has to."""
        cdef PyObject *canonical = NULL
        cdef list stored = []
        cdef Py_ssize_t i
        try:
            for i in range(self.count):
                value = pk if self.count == 1 else (<tuple> pk)[i]
                stored.append((<ValueCodec> self.steps[i].codec).to_stored(value, &canonical))
                if canonical is not NULL:
                    # The value is not what a read returns.
                    Py_XDECREF(canonical)
                    return None
        except ValueError:
            return None
        return self.format(stored)


class Identity(GeneralIdentity):
    """Tells rows of one model apart; see :class:`~._identity.Identity`."""

    _steps_of_rows = None

    def identify_one(self, row, bint strict):
        """Find the primary key of one row."""
        cdef PyObject *pk
        cdef PyObject *key
        cdef Steps steps = self._steps_of_rows or steps_of(self)
        if not steps.quick or not steps.find(row, strict, &pk, &key):
            return self.identify_row(row, strict, None)
        return taken(pk), taken(key)

    def identify(self, rows, bint strict, bint many=True):
        """Find the primary keys of rows."""
        cdef PyObject *pk
        cdef PyObject *key
        cdef list pks = []
        cdef list keys = []
        cdef Py_ssize_t position = 0
        cdef Steps steps = self._steps_of_rows or steps_of(self)
        for row in rows:
            if steps.quick and steps.find(row, strict, &pk, &key):
                one, text = taken(pk), taken(key)
            else:
                plain = strict and many and steps.quick and type(row) is not dict and type(row) is not self.model
                one, text = row, steps.find_key(row) if plain else None
                if text is None:
                    one, text = self.identify_row(row, strict, position if many else None)
            pks.append(one)
            keys.append(text)
            position += 1
        return pks, keys

    def identify_pks(self, pks):
        """Find the keys of rows by their primary keys."""
        cdef list found = []
        cdef list keys = []
        cdef Py_ssize_t position = 0
        cdef Steps steps = self._steps_of_rows or steps_of(self)
        for pk in pks:
            key = steps.find_key(pk) if steps.quick else None
            if key is None:
                pk, key = self.identify_pk(pk, position)
            found.append(pk)
            keys.append(key)
            position += 1
        return found, keys


cdef Steps steps_of(identity):
    # Made at the first use: by then the models that key fields refer to are declared.
    cdef Steps steps = Steps()
    steps.quick = steps.fill(identity)
    identity._steps_of_rows = steps
    return steps


cdef class RowReader:
    """Reads rows one at a time."""

    cdef object identity
    cdef object resolve
    cdef object defaults
    cdef object generation
    cdef object backend
    cdef object load
    cdef Steps steps

    def __init__(self, identity, resolve, defaults):
        self.identity = identity
        self.resolve = resolve
        self.defaults = defaults

    def read(self, row):
        """Read one row."""
        cdef PyObject *pk_found
        cdef PyObject *key_found
        generation = self.defaults.generation
        if generation is not self.generation or self.steps is None:
            resolved = self.resolve()
            self.backend, self.load, self.generation = resolved.backend, resolved.codec.load, resolved.generation
            self.steps = self.identity._steps_of_rows or steps_of(self.identity)
        if self.steps.quick and self.steps.find(row, True, &pk_found, &key_found):
            pk, key = taken(pk_found), taken(key_found)
        else:
            pk, key = self.identity.identify_row(row, True, None)
        # Looked up on each call, so that it can be wrapped.
        payload = self.backend.get(key)
        return None if payload is None else self.load(payload, pk, key)


def missing_positions(list rows not None):
    """Return the positions where there is no row but ``None``."""
    cdef Py_ssize_t position
    cdef list found = []
    for position in range(len(rows)):
        if rows[position] is None:
            found.append(position)
    return found


def found(list pks not None, list rows not None):
    """Return the rows that there are by primary key."""
    cdef dict by_pk = new_dict(len(pks))
    cdef Py_ssize_t at
    if len(pks) != len(rows):
        raise ValueError("primary keys and rows must be of one length")
    for at in range(len(pks)):
        row = rows[at]
        if row is not None:
            pk = pks[at]
            by_pk[tuple(pk) if isinstance(pk, list) else pk] = row
    return by_pk


def batch(list keys not None, list values not None, Py_ssize_t start, Py_ssize_t stop):
    """Return some keys with their values."""
    cdef Py_ssize_t at
    if len(keys) != len(values):
        raise ValueError("keys and values must be of one length")
    stop = min(stop, len(keys))
    cdef dict found = new_dict(max(stop - start, 0))
    for at in range(start, stop):
        found[keys[at]] = values[at]
    return found


include "_duplicates.pxi"
