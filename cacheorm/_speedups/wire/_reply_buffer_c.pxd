"""The memory that replies arrive in, for the readers that parse them."""

cdef class ReplyBuffer:
    cdef bytearray buffer
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t limit

    cdef int check_size(self, Py_ssize_t size) except -1
