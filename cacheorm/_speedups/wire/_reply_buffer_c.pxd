"""The memory that replies arrive in, for the readers that parse them."""

cdef class ReplyBuffer:
    cdef bytearray buffer
    cdef Py_ssize_t start
    cdef Py_ssize_t end
