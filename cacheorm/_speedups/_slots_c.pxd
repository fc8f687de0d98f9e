"""What other compiled modules need to know about slots."""

from cpython.object cimport PyObject


cdef Py_ssize_t slot_offset(member, model) except -1
cdef bint is_leaf(PyObject *value) noexcept
cdef void keep_tracked(PyObject *instance, PyObject *value) noexcept
cdef void leave_untracked(PyObject *instance) noexcept
