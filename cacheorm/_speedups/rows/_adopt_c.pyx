"""The rows that users pass, as instances: the C version of ``_adopt_py.py``, which documents it.

Values go straight into the slots where writing a field does no more than that.
"""

from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from collections.abc import Mapping

from ._assigned_c import ALL
from ._slots_c cimport Slot, is_leaf, leave_untracked, new_instance, new_sealed, put_new

__all__ = ["Adopter"]

cdef tuple NO_ARGUMENTS = ()


cdef struct Name:
    PyObject *name     # this and the field are borrowed from what the adopter owns
    PyObject *field
    Py_ssize_t offset  # of the slot, -1 where the field has none of its own
    bint plain         # whether writing the field writes the slot, and nothing else
    bint holds_ids     # whether that is so for ids, as long as the instance has no related ones


cdef class Adopter:
    """Turns rows of one model into instances.

    Args:
        model: the model class.
        fields: the field for every name that a row may use.
        references: its foreign keys.
    """

    cdef readonly object model
    cdef tuple owned     # what the table borrows
    cdef readonly tuple references
    cdef dict places     # name -> position in the table
    cdef Name *table
    cdef Py_ssize_t count
    cdef Slot related
    cdef Slot tracker

    def __cinit__(self, model, fields, tuple references):
        cdef Name *entry
        self.model = model
        self.owned = tuple(fields.items())
        self.references = references
        self.related = <Slot?> model._related
        self.tracker = <Slot?> model._assigned
        self.places = {}
        self.table = <Name *> PyMem_Malloc(max(len(self.owned), 1) * sizeof(Name))
        if self.table is NULL:
            raise MemoryError
        for name, field in self.owned:
            entry = &self.table[self.count]
            entry.name = <PyObject *> name
            entry.field = <PyObject *> field
            entry.offset = (<Slot> field).offset if isinstance(field, Slot) else -1
            entry.plain = entry.offset >= 0 and (<Slot> field).plain
            entry.holds_ids = entry.offset >= 0 and (<Slot> field).holds_ids
            self.places[name] = self.count
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.table)

    def adopt(self, rows, bint changes=False, bint many=False):
        """Return rows as instances."""
        cdef list instances = []
        cdef bint plain = changes or self.model._plain_init
        cdef bint sealed = self.model._sealed
        for row in rows:
            if type(row) is self.model:
                instance = row
            elif type(row) is dict and plain:
                instance = self.filled(<dict> row, sealed, changes, instances if many else None)
            elif not isinstance(row, Mapping):
                raise self.model._meta.not_a_row(type(row).__name__, len(instances) if many else None)
            elif plain:
                instance = self.filled(dict(row), sealed, changes, instances if many else None)
            else:
                instance = self.model(**row)
            if self.references and self.related.has_value(instance) and instance._related:
                for reference in self.references:
                    reference.settle(instance)
            instances.append(instance)
        return instances

    cdef object filled(self, dict row, bint sealed, bint changes, list before):
        """Make an instance with the fields that ``row`` names.

        ``changes`` says whether they count as changed, and ``before`` are the instances that were made before, if
        errors should say which row it is.
        """
        cdef PyObject *name_there
        cdef PyObject *value_there
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t expected = 0
        cdef Name *entry
        cdef bint leaves = True
        cdef bint twice = False
        cdef Py_ssize_t size = len(row)
        instance = new_sealed(self.model, NO_ARGUMENTS) if sealed else new_instance(self.model, NO_ARGUMENTS)
        cdef bint direct = type(instance) is self.model
        while PyDict_Next(row, &position, &name_there, &value_there):
            # To look for a name, and to write a field, may run code that changes the row.
            value = <object> value_there
            # Rows mostly name the fields in their order, with the very names of the class.
            while expected < self.count and self.table[expected].name is not name_there:
                expected += 1
            if expected == self.count:
                name = <object> name_there
                expected = self.place_of(name, before)
                check_size(row, size)
            entry = &self.table[expected]
            expected += 1
            if direct and entry.plain:
                put_new(<PyObject *> instance, entry.offset, value)
                leaves = leaves and is_leaf(<PyObject *> value)
                continue
            # Only a foreign key, which has two names, can be there twice.
            if direct and entry.holds_ids and leaves and is_leaf(<PyObject *> value):
                twice |= (<PyObject **> (<char *> <PyObject *> instance + entry.offset))[0] is not NULL
                put_new(<PyObject *> instance, entry.offset, value)
            else:
                twice |= not direct or entry.offset < 0
                twice = twice or (<PyObject **> (<char *> <PyObject *> instance + entry.offset))[0] is not NULL
                field = <object> entry.field
                if entry.holds_ids:
                    field._hold(instance, value)  # nothing of it has been changed yet
                else:
                    field.__set__(instance, value)
                check_size(row, size)
                leaves = False
        if twice and self.references:
            self.model._meta.check_names(row, None if before is None else len(before))
        if changes:
            put_new(<PyObject *> instance, self.tracker.offset, ALL)
        if leaves and sealed:
            leave_untracked(<PyObject *> instance)
        return instance

    cdef Py_ssize_t place_of(self, name, list before) except -1:
        cdef PyObject *place = PyDict_GetItemWithError(self.places, name)
        if place is NULL:
            raise self.model._meta.unknown_name(name, None if before is None else len(before))
        found = <object> place
        return found


cdef inline int check_size(dict row, Py_ssize_t size) except -1:
    """Raise what a loop over a dict raises if code has changed its size meanwhile."""
    if len(row) != size:
        raise RuntimeError("dictionary changed size during iteration")
    return 0
