"""RESP replies on C buffers: the C version of ``_resp_reader_py.py``, which documents it."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.string cimport memcmp

from ._replies cimport line_end
from ._reply_buffer_c cimport ReplyBuffer
from ._requests cimport check_places, position_at

__all__ = ["RespReader"]

include "_resp_values.pxi"

cdef enum:
    MAX_DEPTH = 8
    EACH = 64  # bytes that a reply inside of a list or map counts for, besides those of a value

# What stands for a reply that has not arrived, and for one that is not a reply to a command.
cdef object MISSING = object()
cdef object DROPPED = object()


cdef class RespReader(ReplyBuffer):
    """Parses the replies to Redis commands, RESP 2 and RESP 3, from bytes that arrive in any pieces."""

    cdef Py_ssize_t left
    cdef Py_ssize_t held
    # Replies so far, kind and number of replies of each aggregate that is not complete, the outermost first.
    cdef list open
    cdef char kinds[MAX_DEPTH]
    cdef Py_ssize_t sizes[MAX_DEPTH]

    def __cinit__(self):
        self.left = -1
        self.open = []

    def read_values(self, list values not None, Py_ssize_t count):
        """Take the reply to one ``MGET`` of ``count`` keys, and append a value or ``None`` for each."""
        cdef const char *data
        cdef Py_ssize_t stop, size
        while self.left < 0:
            data = PyByteArray_AS_STRING(self.buffer)
            if not PyList_GET_SIZE(self.open) and self.start < self.end and data[self.start] == b"*":
                stop = line_end(data, self.start, self.end)
                if stop < 0:
                    return False
                size = parse_size(data + self.start, stop - self.start)
                if size != count:
                    raise ValueError(f"expected {count} values, got {size}")
                self.left = count
                self.start = stop + 2
                break
            reply = next_reply(self, b"*")
            if reply is MISSING:
                return False
            if reply is not DROPPED:
                values.append(reply)
                return True
        while self.left > 0:
            reply = quick_reply(self, b"$_")
            if reply is MISSING:
                reply = next_reply(self, b"$_")
                if reply is MISSING:
                    return False
                if reply is DROPPED:
                    continue
            if isinstance(reply, str):
                raise ValueError("expected a value, got a refusal")
            self.left -= 1
            values.append(reply)
        self.left = -1
        return True

    def read_replies(
        self, list values not None, list positions, Py_ssize_t place, Py_ssize_t stop, bytes kinds not None = b""
    ):
        """Take replies to several commands, and put each where it belongs."""
        cdef Py_ssize_t position
        check_places(place, stop, PyList_GET_SIZE(values if positions is None else positions))
        while place < stop:
            position = position_at(positions, place, PyList_GET_SIZE(values))
            reply = quick_reply(self, kinds)
            if reply is MISSING:
                reply = next_reply(self, kinds)
                if reply is MISSING:
                    break
                if reply is DROPPED:
                    continue
            # What was there before goes, and may run code as it does.
            values[position] = reply
            place += 1
        return place


cdef inline object quick_reply(RespReader reader, bytes kinds):
    """Take a reply as nearly all are, ``MISSING`` if the next one is another, or not complete.

    Where a value, no value, ``OK`` or a short number ends is seen without a search for the end of its line.
    """
    cdef const char *data = PyByteArray_AS_STRING(reader.buffer) + reader.start
    cdef Py_ssize_t left = reader.end - reader.start, i = 1, number = 0
    if left < 3 or PyList_GET_SIZE(reader.open) or not is_allowed(data[0], kinds):
        return MISSING
    if data[0] == b"$" or data[0] == b":":
        while i < 13 and 48 <= data[i] <= 57:
            number = number * 10 + (data[i] - 48)
            i += 1
            if i + 2 > left:
                return MISSING
        if i > 1 and memcmp(data + i, b"\r\n", 2) == 0:
            if data[0] == b":":
                reader.start += i + 2
                return number
            if left - i - 4 >= number and number <= reader.limit and memcmp(data + i + 2 + number, b"\r\n", 2) == 0:
                reader.start += i + 4 + number
                return PyBytes_FromStringAndSize(data + i + 2, number)
        elif left >= 5 and memcmp(data, b"$-1\r\n", 5) == 0:
            reader.start += 5
            return None
    elif left >= 5 and memcmp(data, b"+OK\r\n", 5) == 0:
        reader.start += 5
        return OK
    elif memcmp(data, b"_\r\n", 3) == 0:
        reader.start += 3
        return None
    return MISSING


cdef object next_reply(RespReader reader, bytes kinds):
    """Take the next reply; ``DROPPED`` for an attribute or a push, ``MISSING`` if it has not arrived whole."""
    cdef Py_ssize_t depth
    cdef list items
    cdef char kind
    while True:
        reply = next_item(reader, kinds)
        if reply is MISSING:
            return reply
        while True:
            depth = PyList_GET_SIZE(reader.open)
            if not depth:
                return reply
            items = reader.open[depth - 1]
            if reply is not DROPPED:
                items.append(reply)
            if PyList_GET_SIZE(items) < reader.sizes[depth - 1]:
                break
            kind = reader.kinds[depth - 1]
            reader.open.pop()
            if depth == 1:
                reader.held = 0
            reply = DROPPED if kind == b"|" or kind == b">" else make_aggregate(kind, items)


cdef object next_item(RespReader reader, bytes kinds):
    """Take a line and the bytes that belong to it; ``DROPPED`` if it begins an aggregate."""
    # Read anew for each: whatever makes objects of other kinds than bytes and numbers may run code that moves it.
    cdef const char *data = PyByteArray_AS_STRING(reader.buffer)
    cdef Py_ssize_t at = reader.start, stop, end, size
    cdef char kind
    if at == reader.end:
        return MISSING
    kind = data[at]
    if not PyList_GET_SIZE(reader.open) and not is_allowed(kind, kinds):
        raise ValueError(f"expected a reply that begins with one of {ascii(kinds)}, got {ascii(data[at:at + 1])}")
    stop = line_end(data, at, reader.end)
    if stop < 0:
        return MISSING
    end = stop + 2
    if is_sized(kind):
        size = parse_size(data + at, stop - at)
        if size < 0:
            reader.start = end
            return None
        reader.check_size(reader.held + size)
        if reader.end - end - 2 < size:
            return MISSING
        if memcmp(data + end + size, b"\r\n", 2) != 0:
            raise ValueError("a value is not as long as its size says")
        reader.start = end + size + 2
        if PyList_GET_SIZE(reader.open):
            reader.held += size
        return parse_sized(kind, data + end, size)
    if is_aggregate(kind):
        size = parse_size(data + at, stop - at)
        reader.start = end
        if size < 0:
            return None
        begin(reader, kind, size)
        return DROPPED
    reader.start = end
    return parse_line(data + at, stop - at)


cdef inline bint is_allowed(char kind, bytes kinds) noexcept:
    """Return whether a reply to a command may begin so. Refusals, attributes and pushes always may come."""
    cdef const char *allowed = PyBytes_AS_STRING(kinds)
    cdef Py_ssize_t i, count = PyBytes_GET_SIZE(kinds)
    for i in range(count):
        if allowed[i] == kind:
            return True
    return not count or kind == b"-" or kind == b"!" or kind == b"|" or kind == b">"


cdef int begin(RespReader reader, char kind, Py_ssize_t size) except -1:
    """Begin an aggregate; its replies come next."""
    cdef list items = []
    cdef Py_ssize_t depth = PyList_GET_SIZE(reader.open)
    cdef Py_ssize_t count = size * 2 if kind == b"%" or kind == b"|" else size
    if kind == b">" and (depth or reader.left >= 0):
        raise ValueError("a push came inside of a reply")
    if depth == MAX_DEPTH:
        raise ValueError(f"replies are nested more than {MAX_DEPTH} levels deep")
    reader.held += EACH * count
    reader.check_size(reader.held)
    reader.open.append(items)
    reader.kinds[depth] = kind
    reader.sizes[depth] = count
    return 0
