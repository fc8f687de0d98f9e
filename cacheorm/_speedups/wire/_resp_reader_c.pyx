"""RESP replies on C buffers: twin of ``_resp_reader_py.py``, which explains it."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_SIZE
from libc.string cimport memcmp, memcpy, memmove

from ._replies cimport line_end
from ._requests cimport position_at

__all__ = ["RespReader"]

cdef Py_ssize_t RESP_ROOM = 1 << 18
cdef bytes OK = b"OK"


cdef class RespReader:
    """Parses the replies to many Redis commands from bytes that arrive in any pieces."""

    cdef bytearray buffer
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef Py_ssize_t left
    cdef readonly bint foreign

    def __cinit__(self):
        self.buffer = PyByteArray_FromStringAndSize(NULL, RESP_ROOM)
        self.left = -1

    @property
    def pending(self):
        """How many bytes arrived and were not consumed."""
        return self.end - self.start

    @property
    def capacity(self):
        """The size of the buffer in bytes."""
        return PyByteArray_GET_SIZE(self.buffer)

    def room(self):
        """Give a view of free memory for bytes that arrive."""
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

    def take(self):
        """Give the bytes that were not consumed, and forget them."""
        cdef bytes rest = PyByteArray_AS_STRING(self.buffer)[self.start : self.end]
        self.start = self.end
        return rest

    def read_values(self, list values, Py_ssize_t count):
        """Take the reply to an ``MGET`` of ``count`` keys, and append a value for each."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t stop, end, size
        self.foreign = False
        if self.left < 0:
            stop = next_line(self, data, b"*", b"*", b"*", b"*")
            if stop < 0:
                return False
            size = resp_size(data + self.start, stop - self.start)
            if size != count:
                raise ValueError(f"expected {count} values, got {size}")
            self.left = count
            self.start = stop + 2
        while self.left:
            # Nothing in here runs Python code that could move the buffer.
            stop = line_end(data, self.start, self.end)
            if stop < 0:
                return False
            end = value_end(data, self.start, stop, self.end, &size)
            if end < 0:
                return False
            values.append(None if size < 0 else PyBytes_FromStringAndSize(data + stop + 2, size))
            self.start = end
            self.left -= 1
        self.left = -1
        return True

    def read_gets(self, list values, list positions, Py_ssize_t place):
        """Take replies to :func:`pack_gets`, and put each where its key stands."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t stop, end, size, position
        self.foreign = False
        if place < 0:
            raise IndexError("place must lie inside the positions")
        while place < PyList_GET_SIZE(positions):
            stop = next_line(self, data, b"$", b"_", b"_", b"_")
            if stop < 0:
                break
            end = value_end(data, self.start, stop, self.end, &size)
            if end < 0:
                break
            value = None if size < 0 else PyBytes_FromStringAndSize(data + stop + 2, size)
            position = position_at(positions, place, PyList_GET_SIZE(values))
            values[position] = value
            # What was there before is gone, and may have run code as it went.
            data = PyByteArray_AS_STRING(self.buffer)
            self.start = end
            place += 1
        return place

    def read_statuses(self, list statuses, Py_ssize_t count):
        """Take replies to ``SET``, and append one each until there are ``count``."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at, stop
        self.foreign = False
        while PyList_GET_SIZE(statuses) < count:
            stop = next_line(self, data, b"+", b"$", b"_", b"_")
            if stop < 0:
                return False
            at = self.start
            if stop - at == 3 and memcmp(data + at, b"+OK", 3) == 0:
                statuses.append(OK)
            elif data[at] == b"+":
                statuses.append(data[at + 1 : stop])
            elif (data[at] == b"_" and stop - at == 1) or (stop - at == 3 and memcmp(data + at, b"$-1", 3) == 0):
                statuses.append(None)
            else:
                raise ValueError(f"expected a status, got {ascii(data[at:at + 1])}")
            self.start = stop + 2
        return True

    def read_replies(self, list replies, Py_ssize_t count):
        """Take replies of one value each, and append them until there are ``count``."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at, stop, end, size
        self.foreign = False
        while PyList_GET_SIZE(replies) < count:
            # Nothing in here runs Python code that could move the buffer.
            stop = next_line(self, data, b"+", b":", b"$", b"_")
            if stop < 0:
                return False
            at = self.start
            end = stop + 2
            reply = None
            if data[at] == b"+":
                reply = PyBytes_FromStringAndSize(data + at + 1, stop - at - 1)
            elif data[at] == b":":
                reply = resp_number(data + at, stop - at)
            elif data[at] == b"$":
                end = value_end(data, at, stop, self.end, &size)
                if end < 0:
                    return False
                if size >= 0:
                    reply = PyBytes_FromStringAndSize(data + stop + 2, size)
            elif stop - at != 1:
                raise ValueError("expected nothing, got something")
            replies.append(reply)
            self.start = end
        return True


cdef inline Py_ssize_t next_line(RespReader reader, const char *data, char a, char b, char c, char d) except -2:
    """Find the end of the next line, -1 where it has not arrived.

    Where it begins with none of ``a`` to ``d``, the reply is ``foreign``, and -1 is returned.
    """
    cdef char kind
    if reader.start == reader.end:
        return -1
    kind = data[reader.start]
    if kind != a and kind != b and kind != c and kind != d:
        reader.foreign = True
        return -1
    return line_end(data, reader.start, reader.end)


cdef inline Py_ssize_t value_end(
    const char *data, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t end, Py_ssize_t *size
) except -2:
    """Find the end of a value whose line lies from ``at`` to ``stop``; -1 where it has not arrived.

    ``size`` becomes the number of its bytes, which follow the line; -1 for no value.
    """
    size[0] = -1
    if data[at] == b"$":
        size[0] = resp_size(data + at, stop - at)
    elif data[at] != b"_" or stop - at != 1:
        raise ValueError(f"expected a value, got {ascii(data[at:min(at + 1, stop)])}")
    if size[0] < 0:
        return stop + 2
    if end - stop - 4 < size[0]:
        return -1
    if memcmp(data + stop + 2 + size[0], b"\r\n", 2) != 0:
        raise ValueError("a value is not as long as its size says")
    return stop + 4 + size[0]


cdef object resp_number(const char *line, Py_ssize_t length):
    """Parse the number in ``:<number>``, one of 64 bits at most."""
    cdef Py_ssize_t i, first = 2 if length > 1 and line[1] == b"-" else 1
    cdef unsigned long long number = 0
    if not 0 < length - first <= 19:
        raise ValueError("expected a number, got something else")
    for i in range(first, length):
        if not 48 <= line[i] <= 57:
            raise ValueError("expected a number, got something else")
        number = number * 10 + <unsigned long long> (line[i] - 48)
    return -int(number) if first == 2 else number


cdef Py_ssize_t resp_size(const char *line, Py_ssize_t length) except -2:
    """Parse the size in ``$<size>`` or ``*<size>``; -1 stands for nothing."""
    cdef Py_ssize_t i, size = 0
    if length == 3 and memcmp(line + 1, b"-1", 2) == 0:
        return -1
    if not 1 < length <= 13:
        raise ValueError("a size is no number")
    for i in range(1, length):
        if not 48 <= line[i] <= 57:
            raise ValueError("a size is no number")
        size = size * 10 + (line[i] - 48)
    return size
