"""The descriptor behind every field, compiled: reads and writes one hidden slot by its offset.

Twin of ``_slots_py.py``. The offset comes from the slot's own member descriptor, and an instance is
touched only after its type was checked against the type that the descriptor belongs to, so the
address is always inside an object that has this slot.

An instance whose values refer to nothing else is of no interest to the garbage collector: it can be part of no
cycle. Those that come from a batch are left out of its lists, as CPython does with tuples and dicts of plain
values, so that a million rows cost a collection nothing. Every write to a slot puts its instance back where the new
value may refer to something. This is safe only for instances that are nothing but such slots (``_sealed``).

A list of such values is left out too, as long as nobody but its instance has it: what nobody has seen, nobody can have
changed. Whoever reads it from its slot may put anything into it, so it is put back, with its instance, before it is
given away. Every function here that gives the value of a slot does that by :func:`seen`; code elsewhere that reads
slots by their offset may look at such a list, but not hand it on.
"""

from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from enum import EnumMeta
from types import MemberDescriptorType
from uuid import UUID

cdef extern from "Python.h":
    int PyGC_Disable()
    int PyGC_Enable()

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
    bint PyObject_IS_GC(PyObject *)
    bint PyObject_GC_IsTracked(PyObject *)
    void PyObject_GC_Track(PyObject *)
    void PyObject_GC_UnTrack(PyObject *)
    bint PyType_IsSubtype(PyTypeObject *, PyTypeObject *)
    bint PyList_CheckExact(PyObject *)

__all__ = ["Slot", "distinct", "holds", "overlay", "relate"]


cdef PyTypeObject *UUID_TYPE = <PyTypeObject *> <PyObject *> UUID
cdef PyTypeObject *ENUM_TYPE = <PyTypeObject *> <PyObject *> EnumMeta


cdef bint is_collectable_leaf(PyObject *value) noexcept:
    """Tell the same of a value whose type the collector knows about."""
    cdef PyTypeObject *kind
    if not PyObject_IS_GC(value):
        return True
    if PyList_CheckExact(value):
        return not PyObject_GC_IsTracked(value)
    # Two kinds that the collector knows about only because their classes are written in Python. A UUID holds an int; a
    # member of an enumeration is kept by its class, and lives as long as that.
    kind = Py_TYPE(value)
    return kind is UUID_TYPE or PyType_IsSubtype(Py_TYPE(<PyObject *> kind), ENUM_TYPE)


cdef void keep_tracked(PyObject *instance, PyObject *value) noexcept:
    """Let the collector know of an instance that is about to hold ``value``, if it has to."""
    if not PyObject_GC_IsTracked(instance) and not is_leaf(value):
        PyObject_GC_Track(instance)


cdef void leave_untracked(PyObject *found) noexcept:
    """Take an instance of a sealed model, or a list that nobody has seen yet, off the collector's lists.

    All values in it have to be leaves.
    """
    PyObject_GC_UnTrack(found)


cdef object seen(PyObject *instance, PyObject *value):
    """Give the value of a slot away, ``instance`` being what has the slot, or ``NULL`` for a value that has none yet."""
    if PyList_CheckExact(value) and not PyObject_GC_IsTracked(value):
        PyObject_GC_Track(value)
        if instance is not NULL and not PyObject_GC_IsTracked(instance):
            PyObject_GC_Track(instance)
    return <object> value


cdef Py_ssize_t slot_offset(member, model) except -1:
    """Give where a slot lies in the instances of ``model``."""
    cdef PyMemberDef *definition
    if type(member) is not MemberDescriptorType:
        raise TypeError("the field has no slot")
    if not issubclass(model, <object> <PyObject *> PyDescr_TYPE(<PyObject *> member)):
        raise TypeError("the field belongs to another model")
    definition = (<PyMemberDescrObject *> <PyObject *> member).d_member
    if definition.type != T_OBJECT_EX:
        raise TypeError("the field has no slot")
    return definition.offset


cdef class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name."""

    # ``plain`` says whether no subclass does more than to write the slot, ``holds_ids`` whether that is also all it does
    # for an id on an instance without related rows.

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

    cdef bint has_value(self, instance) except -1:
        return self.place(instance)[0] is not NULL

    def unset(self, instance):
        """Give what reading an instance without a value gives; subclasses override it."""
        return None

    def peek(self, instance, absent=None):
        """Read the slot as it is: its value, or ``absent`` where nothing was stored."""
        cdef PyObject *value = self.place(instance)[0]
        return absent if value is NULL else seen(<PyObject *> instance, value)

    def poke(self, instance, value):
        """Write the slot as it is."""
        self.write(instance, value)

    cdef int write(self, instance, value) except -1:
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        keep_tracked(<PyObject *> instance, <PyObject *> value)
        # The new value is in place before the old one goes: its destructor may run any code.
        Py_INCREF(value)
        place[0] = <PyObject *> value
        Py_XDECREF(old)
        return 0

    def __get__(self, instance, owner):
        if instance is None:
            return self
        cdef PyObject *value = self.place(instance)[0]
        return self.unset(instance) if value is NULL else seen(<PyObject *> instance, value)

    def __set__(self, instance, value):
        self.write(instance, value)

    def __delete__(self, instance):
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        if old is NULL:
            raise AttributeError("the field has no value")
        place[0] = NULL
        Py_XDECREF(old)


def overlay(tuple fields, list sources, list targets, Slot related):
    """Copy the slots that instances have values in to other instances; see the twin."""
    cdef PyObject *found
    cdef Slot field
    if len(sources) != len(targets):
        raise ValueError("there must be as many targets as sources")
    for source, target in zip(sources, targets):
        if target is None or target is source:
            continue
        stale = None if related is None else related.peek(target)
        for field in fields:
            found = field.place(source)[0]
            if found is NULL:
                continue
            value = seen(<PyObject *> source, found)
            if stale:
                stale.pop(field.name, None)
            field.write(target, value)
        held = None if related is None else related.peek(source)
        if held:
            related.write(target, {**(stale or {}), **held})


def holds(Slot slot, list instances):
    """Tell whether one of many instances has a value in a slot; see the twin."""
    for instance in instances:
        if instance is not None and slot.place(instance)[0] is not NULL:
            return True
    return False


def distinct(Slot slot, list instances):
    """Give the values in one slot of many instances, each once and without ``None``; see the twin."""
    cdef PyObject *value
    cdef dict values = {}
    for instance in instances:
        value = NULL if instance is None else slot.place(instance)[0]
        if value is not NULL and <object> value is not None:
            values[<object> value] = None
    return values


def relate(Slot related, Slot slot, str name, list instances, dict found):
    """Put related instances where their rows keep them; see the twin."""
    cdef PyObject *value
    cdef PyObject *target
    cdef PyObject *there
    cdef bint collecting = PyGC_Disable()
    try:
        for instance in instances:
            value = NULL if instance is None else slot.place(instance)[0]
            if value is NULL or <object> value is None:
                continue
            target = PyDict_GetItemWithError(found, <object> value)
            if target is NULL:
                continue
            there = related.place(instance)[0]
            if there is NULL:
                related.write(instance, {name: <object> target})
            else:
                (<dict> <object> there)[name] = <object> target
    finally:
        if collecting:
            PyGC_Enable()
