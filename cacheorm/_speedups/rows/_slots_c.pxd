"""What other compiled modules need to know about slots."""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF


cdef extern from *:
    """
    /* An instance as ``type.__new__(type)`` makes it. */
    static inline PyObject *new_instance(PyObject *type, PyObject *no_arguments)
    {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, no_arguments, NULL);
    }

    /* The same of a sealed class: it has the __new__ of object, which does no more unless the class is abstract. */
    static inline PyObject *new_sealed(PyObject *type, PyObject *no_arguments)
    {
        if (((PyTypeObject *)type)->tp_flags & Py_TPFLAGS_IS_ABSTRACT)
            return new_instance(type, no_arguments);
        return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    }
    """
    object new_instance(object type, tuple no_arguments)
    object new_sealed(object type, tuple no_arguments)

cdef extern from "Python.h":
    bint PyType_IS_GC(PyTypeObject *)
    PyTypeObject *Py_TYPE(PyObject *)


cdef inline object taken(PyObject *new_reference):
    """Return an object, and take over the reference to it that the caller owns."""
    found = <object> new_reference
    Py_XDECREF(new_reference)
    return found


cdef inline void put_new(PyObject *instance, Py_ssize_t offset, value) noexcept:
    """Put a value into a slot of an instance that is new, and known to the collector."""
    cdef PyObject **place = <PyObject **> (<char *> instance + offset)
    cdef PyObject *old = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *> value
    # A name may be there twice, and values that ``__new__`` gave.
    Py_XDECREF(old)


cdef inline bint is_leaf(PyObject *value) noexcept:
    """Tell whether a value refers to nothing by which it could be part of a cycle."""
    return not PyType_IS_GC(Py_TYPE(value)) or is_collectable_leaf(value)


cdef Py_ssize_t slot_offset(slot, model) except -1
cdef bint is_collectable_leaf(PyObject *value) noexcept
cdef void keep_tracked(PyObject *instance, PyObject *value) noexcept
cdef void leave_untracked(PyObject *found) noexcept
cdef object expose(PyObject *instance, PyObject *value)


cdef class Slot:
    cdef Py_ssize_t offset
    cdef object owner
    cdef bint plain
    cdef Slot tracker
    cdef readonly object bit
    cdef public bint watched
    cdef public bint in_key
    cdef public bint holds_ids

    cdef PyObject **place(self, instance) except NULL
    cdef int write(self, instance, value) except -1
    cpdef mark(self, instance)
    cpdef look(self, instance, value)
    cdef int empty(self, instance) except -1
    cdef inline bint is_set(self, instance) noexcept:
        # The caller has checked that the instance has the slot.
        return (<PyObject **> (<char *> <PyObject *> instance + self.offset))[0] is not NULL
    cdef bint has_value(self, instance) except -1
