"""The descriptor behind every field, compiled: reads and writes one hidden slot by its offset.

Twin of ``_slots_py.py``. The offset comes from the slot's own member descriptor, and an instance is
touched only after its type was checked against the type that the descriptor belongs to, so the
address is always inside an object that has this slot.
"""

from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
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

__all__ = ["Slot"]


cdef class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name."""

    cdef Py_ssize_t offset
    cdef object owner

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
