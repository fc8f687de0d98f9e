"""The descriptor behind every field, compiled: reads and writes one hidden slot by its offset.

The C version of ``_slots_py.py``. The offset comes from the slot's own member descriptor, and an instance is
touched only after its type was checked against the type that the descriptor belongs to, so the
address is always inside an object that has this slot.

An instance whose values refer to nothing else is of no interest to the garbage collector: it can be part of no
cycle. Those that come from a batch are left out of its lists, as CPython does with tuples and dicts of plain
values, so that a million rows cost a collection nothing. Every write to a slot puts its instance back where the new
value may refer to something. This is safe only for instances that are nothing but such slots (``_sealed``).

A list of such values is left out too, as long as only its instance refers to it. Code that reads it from its slot may
put anything into it, so it is put back, with its instance, before it is returned. Every function here that returns the
value of a slot does that by :func:`expose`. Code elsewhere that reads slots by their offset may look at such a list,
but not return it.
"""

from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from enum import EnumMeta
from ._assigned_c import look, marked
from types import MemberDescriptorType
from uuid import UUID

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

__all__ = ["Slot", "clear", "complete", "distinct", "holds", "relate", "taken_from"]


cdef PyTypeObject *UUID_TYPE = <PyTypeObject *> <PyObject *> UUID
cdef PyTypeObject *ENUM_TYPE = <PyTypeObject *> <PyObject *> EnumMeta


cdef bint is_collectable_leaf(PyObject *value) noexcept:
    """Tell the same as :func:`is_leaf`, of a value whose type the collector knows about."""
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
    """Have the collector track an instance that is about to hold ``value``, if that may be part of a cycle."""
    if not PyObject_GC_IsTracked(instance) and not is_leaf(value):
        PyObject_GC_Track(instance)


cdef void leave_untracked(PyObject *found) noexcept:
    """Remove an instance of a sealed model, or a list that has no other reference, from the collector's lists.

    All values in it have to be leaves.
    """
    PyObject_GC_UnTrack(found)


cdef object expose(PyObject *instance, PyObject *value):
    """Return the value of a slot to code that may change it.

    ``instance`` is what has the slot, ``NULL`` for a value that is in none yet.
    """
    if PyList_CheckExact(value) and not PyObject_GC_IsTracked(value):
        PyObject_GC_Track(value)
        if instance is not NULL and not PyObject_GC_IsTracked(instance):
            PyObject_GC_Track(instance)
    return <object> value


cdef Py_ssize_t slot_offset(slot, model) except -1:
    """Return the offset of a slot in the instances of ``model``."""
    if not isinstance(slot, Slot) or (<Slot> slot).owner is None:
        raise TypeError("the field has no slot")
    if not issubclass(model, (<Slot> slot).owner):
        raise TypeError("the field belongs to another model")
    return (<Slot> slot).offset


cdef class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name."""

    # ``plain``: setting the field writes the slot and does no more. ``holds_ids``: likewise for an id, on an instance
    # without related rows. ``bit``, ``watched`` and ``in_key``: see ``_slots_py.py``.

    def __cinit__(self):
        self.bit = 0

    def attach(self, member, place=0, Slot tracker=None):
        """Read and write through ``member``, the descriptor of the hidden slot, or as another slot does."""
        cdef PyMemberDef *definition
        if isinstance(member, Slot) and (<Slot> member).owner is not None:
            self.offset, self.owner = (<Slot> member).offset, (<Slot> member).owner
        elif type(member) is not MemberDescriptorType:
            raise TypeError(f"expected the descriptor of a slot, got {type(member).__name__}")
        else:
            definition = (<PyMemberDescrObject *> <PyObject *> member).d_member
            if definition.type != T_OBJECT_EX or definition.flags & READONLY:
                raise TypeError("expected the descriptor of a slot, got that of a built-in type's attribute")
            self.offset = definition.offset
            self.owner = <object> PyDescr_TYPE(<PyObject *> member)  # held: by the member
        self.plain = type(self).__set__ is Slot.__set__
        if tracker is not None:
            self.tracker, self.bit = tracker, 1 << place

    cdef PyObject **place(self, instance) except NULL:
        if self.owner is None:
            raise AttributeError("the field belongs to no model")
        if not PyObject_TypeCheck(instance, <PyTypeObject *> <PyObject *> self.owner):
            raise TypeError(
                f"descriptor for '{self.owner.__name__}' objects doesn't apply to a '{type(instance).__name__}' object"
            )
        return <PyObject **> (<char *> <PyObject *> instance + self.offset)

    cdef int empty(self, instance) except -1:
        """Forget the value, if there is one."""
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        place[0] = NULL
        Py_XDECREF(old)
        return 0

    cdef bint has_value(self, instance) except -1:
        return self.place(instance)[0] is not NULL

    def unset(self, instance):
        """Return what reading an instance without a value returns; subclasses override it."""
        return None

    def peek(self, instance, absent=None):
        """Read the slot as it is: its value, or ``absent`` where nothing was stored."""
        cdef PyObject *value = self.place(instance)[0]
        return absent if value is NULL else expose(<PyObject *> instance, value)

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
        cdef PyObject *found = self.place(instance)[0]
        value = self.unset(instance) if found is NULL else expose(<PyObject *> instance, found)
        if self.watched:
            self.look(instance, value)
        return value

    cpdef look(self, instance, value):
        """Note the present state of a value that is handed out, if it can be changed in place."""
        if self.watched and self.tracker is not None:
            look(self, self.tracker, instance, value)

    def __set__(self, instance, value):
        cdef bint kept = self.in_key and self.keeps_key(instance, value)
        self.write(instance, value)
        if not kept:
            self.mark(instance)

    def keeps_key(self, instance, value):
        """Return whether a new value of a part of the primary key equals the present one: the row stays the same."""
        cdef PyObject *found = self.place(instance)[0]
        # A reference of its own: to compare them may run code that assigns the field.
        present = None if found is NULL else <object> found
        return present is not None and self.same(present, value)

    def same(self, one, other):
        """Return whether two values are equal; subclasses compare them converted."""
        return bool(one == other)

    cpdef mark(self, instance):
        """Note that the field was assigned."""
        cdef PyObject *there
        if self.tracker is not None:
            there = self.tracker.place(instance)[0]
            state = None if there is NULL else <object> there
            self.tracker.write(instance, self.bit if state is None else marked(state, self.bit))

    def __delete__(self, instance):
        cdef PyObject **place = self.place(instance)
        cdef PyObject *old = place[0]
        if old is NULL:
            raise AttributeError("the field has no value")
        place[0] = NULL
        Py_XDECREF(old)


def taken_from(cls, str name not None):
    """Remove the descriptor that Python made for a slot, and return one whose writes the collector notices."""
    cdef Slot slot = Slot()
    slot.attach(vars(cls)[name])
    delattr(cls, name)
    return slot


def complete(tuple fields not None, list sources not None, list targets not None, Slot related, Slot tracker=None):
    """Copy all values of instances to other instances."""
    cdef PyObject *found
    cdef Slot field
    cdef list completed = []
    if len(sources) != len(targets):
        raise ValueError("there must be as many targets as sources")
    for source, target in zip(sources, targets):
        completed.append(None if source is None else target)
        if source is None:
            continue
        if tracker is not None:
            tracker.empty(target)
        if target is source:
            continue
        held = None if related is None else related.peek(target)
        for each in fields:
            field = <Slot?> each
            found = field.place(source)[0]
            value = None if found is NULL else expose(<PyObject *> source, found)
            if held and field.name in held and field.peek(target) != value:
                held.pop(field.name, None)  # to compare may have run code that did it
            if type(target) is type(source):
                keep_tracked(<PyObject *> target, <PyObject *> value)
                put_new(<PyObject *> target, field.offset, value)
            else:
                field.write(target, value)
    return completed


def clear(Slot slot not None, list instances not None):
    """Empty one slot of many instances."""
    checked = None
    for instance in instances:
        if instance is None:
            continue
        # The check takes longer than the rest.
        if type(instance) is not checked or slot.is_set(instance):
            slot.empty(instance)
            checked = type(instance)


def holds(Slot slot not None, list instances not None):
    """Tell whether one of many instances has a value in a slot."""
    for instance in instances:
        if instance is not None and slot.place(instance)[0] is not NULL:
            return True
    return False


def distinct(Slot slot not None, list instances not None):
    """Return the values in one slot of many instances, each once and without ``None``."""
    cdef PyObject *there
    cdef dict values = {}
    for instance in instances:
        there = NULL if instance is None else slot.place(instance)[0]
        if there is not NULL and there is not <PyObject *> None:
            value = <object> there
            values[value] = None
    return values


def relate(Slot related not None, Slot slot not None, str name not None, list instances not None, dict found not None):
    """Put related instances where their rows keep them."""
    cdef PyObject *there
    cdef PyObject *target
    cdef PyObject **place
    for instance in instances:
        there = NULL if instance is None else slot.place(instance)[0]
        if there is NULL or there is <PyObject *> None:
            continue
        # To hash and compare it may run code, which assigns the field or changes the dict.
        value = <object> there
        target = PyDict_GetItemWithError(found, value)
        if target is NULL:
            continue
        row = <object> target
        place = related.place(instance)
        if place[0] is NULL:
            made = {name: row}
            # Looked at again: to make a dict may collect, and so run code that puts another one there.
            if place[0] is NULL:
                related.write(instance, made)
                continue
        relations = <object> place[0]
        (<dict?> relations)[name] = row
