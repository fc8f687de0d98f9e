"""The descriptor behind every field, compiled: reads and writes one hidden slot by its offset.

Twin of ``_slots_py.py``. The offset comes from the slot's own member descriptor, and an instance is
touched only after its type was checked against the type that the descriptor belongs to, so the
address is always inside an object that has this slot.
"""

from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from collections.abc import Mapping
from types import MemberDescriptorType

cdef extern from *:
    """
    #include <structmember.h>
    #include <descrobject.h>
    """
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
        int flags
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member
    PyTypeObject *PyDescr_TYPE(PyObject *)
    const int T_OBJECT_EX
    const int READONLY
    int PyGC_Disable()
    int PyGC_Enable()

__all__ = ["Slot", "adopt", "copy"]


cdef class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name."""

    cdef Py_ssize_t offset
    cdef object owner
    cdef bint plain  # whether no subclass does more than to write the slot
    # Whether that is also all it does for an int or a str on an instance without related rows.
    cdef public bint holds_ids

    def attach(self, member):
        """Read and write through ``member``, the descriptor of the hidden slot."""
        cdef PyMemberDef *definition
        if type(member) is not MemberDescriptorType:
            raise TypeError(f"expected the descriptor of a slot, got {type(member).__name__}")
        definition = (<PyMemberDescrObject *> <PyObject *> member).d_member
        if definition.type != T_OBJECT_EX or definition.flags & READONLY:
            raise TypeError("expected the descriptor of a slot, got that of a built-in type's attribute")
        self.offset = definition.offset
        self.owner = <object> PyDescr_TYPE(<PyObject *> member)
        self.plain = type(self).__set__ is Slot.__set__

    cdef PyObject **place(self, instance) except NULL:
        if self.owner is None:
            raise AttributeError("the field belongs to no model")
        if not PyObject_TypeCheck(instance, <PyTypeObject *> <PyObject *> self.owner):
            raise TypeError(
                f"descriptor for '{self.owner.__name__}' objects doesn't apply to a '{type(instance).__name__}' object"
            )
        return <PyObject **> (<char *> <PyObject *> instance + self.offset)

    def unset(self, instance):
        """Give what reading an instance without a value gives; subclasses override it."""
        return None

    def peek(self, instance, absent=None):
        """Read the slot as it is: its value, or ``absent`` where nothing was stored."""
        cdef PyObject *value = self.place(instance)[0]
        return absent if value is NULL else <object> value

    def poke(self, instance, value):
        """Write the slot as it is."""
        self.write(instance, value)

    cdef int write(self, instance, value) except -1:
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        # The new value is in place before the old one goes: its destructor may run any code.
        Py_INCREF(value)
        place[0] = <PyObject *> value
        Py_XDECREF(old)
        return 0

    def __get__(self, instance, owner):
        if instance is None:
            return self
        cdef PyObject *value = self.place(instance)[0]
        return self.unset(instance) if value is NULL else <object> value

    def __set__(self, instance, value):
        self.write(instance, value)

    def __delete__(self, instance):
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        if old is NULL:
            raise AttributeError("the field has no value")
        place[0] = NULL
        Py_XDECREF(old)


def adopt(model, dict fields, rows, bint plain):
    """Turn rows into instances: instances as they are, mappings into new ones."""
    cdef list instances = []
    # Off for lists only: what makes the rows of a generator may need the collector.
    cdef bint collecting = type(rows) in (list, tuple) and PyGC_Disable()
    try:
        adopt_all(instances, model, fields, rows, plain)
    finally:
        if collecting:
            PyGC_Enable()
    return instances


cdef int adopt_all(list instances, model, dict fields, rows, bint plain) except -1:
    for row in rows:
        if type(row) is model:
            instances.append(row)
        elif plain and type(row) is dict:
            instance = model.__new__(model)
            fill(instance, fields, <dict> row)
            instances.append(instance)
        elif not isinstance(row, Mapping):
            raise model._meta.not_a_row(row)
        elif plain:
            instance = model.__new__(model)
            fill(instance, fields, dict(row))
            instances.append(instance)
        else:
            instances.append(model(**row))
    return 0


cdef int fill(instance, dict fields, dict row) except -1:
    """Set the fields that ``row`` names, of an instance that is new."""
    for name, value in row.items():
        field = fields.get(name)
        if field is None:
            raise instance._meta.unknown_name(name)
        if isinstance(field, Slot) and (
            (<Slot> field).plain or ((<Slot> field).holds_ids and (type(value) is int or type(value) is str))
        ):
            (<Slot> field).write(instance, value)
        else:
            field.__set__(instance, value)
    return 0


def copy(tuple fields, source, target):
    """Copy the slots that ``source`` has values in."""
    cdef PyObject *value
    cdef Slot field
    for field in fields:
        value = field.place(source)[0]
        if value is not NULL:
            field.write(target, <object> value)
