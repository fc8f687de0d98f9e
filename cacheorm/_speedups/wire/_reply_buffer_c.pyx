"""The memory that replies arrive in: the C version of ``_reply_buffer_py.py``, which documents it."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from libc.string cimport memcpy, memmove

__all__ = ["REPLY_LIMIT", "ReplyBuffer"]

REPLY_LIMIT = 1 << 29

cdef Py_ssize_t ROOM = 1 << 18


cdef class ReplyBuffer:
    """Holds the bytes that arrived, in any pieces, until they are parsed."""

    def __cinit__(self, Py_ssize_t limit=REPLY_LIMIT):
        self.limit = limit
        self.buffer = PyByteArray_FromStringAndSize(NULL, ROOM)

    @property
    def pending(self):
        """How many bytes arrived and were not consumed."""
        return self.end - self.start

    @property
    def capacity(self):
        """The size of the buffer in bytes."""
        return PyByteArray_GET_SIZE(self.buffer)

    cdef int check_size(self, Py_ssize_t size) except -1:
        """Raise ``ValueError`` if a reply of this size is more than the limit."""
        if size > self.limit:
            raise ValueError(
                f"a reply has {size} bytes or more; the option reply_limit of the backend takes {self.limit}"
            )
        return 0

    def room(self):
        """Return a view of free memory for bytes that arrive."""
        cdef Py_ssize_t capacity = PyByteArray_GET_SIZE(self.buffer), size = self.end - self.start
        cdef bytearray grown
        if capacity - size < capacity // 2:
            # A new one: views of the old one may be about.
            grown = PyByteArray_FromStringAndSize(NULL, capacity * 2)
            memcpy(PyByteArray_AS_STRING(grown), PyByteArray_AS_STRING(self.buffer) + self.start, size)
            self.buffer = grown
        elif self.start:
            memmove(PyByteArray_AS_STRING(self.buffer), PyByteArray_AS_STRING(self.buffer) + self.start, size)
        self.start, self.end = 0, size
        return memoryview(self.buffer)[size:]

    def fill(self, Py_ssize_t size):
        """Count ``size`` bytes that were written to the start of :meth:`room`."""
        if not 0 <= size <= PyByteArray_GET_SIZE(self.buffer) - self.end:
            raise ValueError(f"there is no room for {size} bytes")
        self.end += size
