from cpython.object cimport PyObject

cdef PyObject *new_text(const char *data, Py_ssize_t size) except NULL
cdef Py_ssize_t utf8_size(PyObject *text) noexcept
cdef bint put_utf8(char *to, PyObject *text) noexcept
