"""memcached's meta commands on C buffers: the C version of ``_meta_py.py``, which documents it."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.string cimport memcmp

from .._digits cimport count_digits, put_number
from ._replies cimport MAX_LINE, line_end
from ._reply_buffer_c cimport ReplyBuffer
from ._requests cimport *

__all__ = ["MetaReader", "pack_meta", "pack_meta_get", "pack_meta_set"]


cdef bytes pack_lines(bytes head, keys, bytes tail, Py_ssize_t start, Py_ssize_t stop, bytes end):
    """Pack ``<head><key><tail>`` for each key, and ``end`` after them."""
    cdef Py_ssize_t i, size = 0, total = len(end)
    cdef const char *data
    cdef char *to
    keys = PySequence_Fast(keys, "keys must be a sequence")
    start = max(start, 0)
    stop = min(stop, PySequence_Fast_GET_SIZE(keys))
    for i in range(start, stop):
        key_bytes(keys, i, &size)
        total += len(head) + size + len(tail)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for i in range(start, stop):
        to = put(to, PyBytes_AS_STRING(head), len(head))
        data = key_bytes(keys, i, &size)
        to = put(to, data, size)
        to = put(to, PyBytes_AS_STRING(tail), len(tail))
    put(to, PyBytes_AS_STRING(end), len(end))
    return packed


def pack_meta(bytes name not None, keys, bytes flags, Py_ssize_t start, Py_ssize_t stop):
    """Pack one meta command without a value, such as ``md``, for each key; every one is answered."""
    return pack_lines(name + b" ", keys, b" %b\r\n" % flags if flags else b"\r\n", start, stop, b"")


def pack_meta_get(keys, Py_ssize_t start, Py_ssize_t stop):
    """Pack quiet meta gets, closed by ``mn``: hits are answered with their key, misses not at all."""
    return pack_lines(b"mg ", keys, b" k v q\r\n", start, stop, b"mn\r\n")


def pack_meta_set(
    keys, values, exptime, bytes mode not None, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t limit
):
    """Pack a meta set for each entry, and stop early once the buffer has ``limit`` bytes."""
    cdef Py_ssize_t i, amount, size = 0, total = 0
    cdef const char *data
    cdef char *to
    cdef bytes tail = b" T%d M%b\r\n" % (exptime, mode)
    keys = PySequence_Fast(keys, "keys must be a sequence")
    values = PySequence_Fast(values, "values must be a sequence")
    start = max(start, 0)
    stop = min(stop, PySequence_Fast_GET_SIZE(keys), PySequence_Fast_GET_SIZE(values))
    i = start
    while i < stop and (total < limit or i == start):
        key_bytes(keys, i, &size)
        amount = value_size(values, i)
        total += 3 + size + 1 + count_digits(amount) + len(tail) + amount + 2
        i += 1
    stop = max(i, start)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for i in range(start, stop):
        data = key_bytes(keys, i, &size)
        to = put(put(put(to, b"ms ", 3), data, size), b" ", 1)
        value = <object> PySequence_Fast_GET_ITEM(values, i)
        to = put_number(to, PyBytes_GET_SIZE(value))
        to = put(to, PyBytes_AS_STRING(tail), len(tail))
        to = put(put(to, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)), b"\r\n", 2)
    return packed, stop


cdef class MetaReader(ReplyBuffer):
    """Parses the replies of memcached's meta commands from bytes that arrive in any pieces."""

    def read_values(self, keys, list values not None, Py_ssize_t position, Py_ssize_t stop):
        """Take the replies to :func:`pack_meta_get`."""
        cdef Py_ssize_t at, end, size, flags = 0, name_size = 0, known_size = 0
        cdef const char *data
        cdef const char *name
        cdef const char *known
        keys = PySequence_Fast(keys, "keys must be a sequence")
        check_places(position, stop, PySequence_Fast_GET_SIZE(keys))
        check_places(position, stop, PyList_GET_SIZE(values))
        while True:
            # Read anew for each reply: what stood in the list before may have run code as it went.
            data = PyByteArray_AS_STRING(self.buffer)
            at = self.start
            end = line_end(data, at, self.end)
            if end < 0:
                return position
            if end - at == 2 and memcmp(data + at, b"MN", 2) == 0:
                self.start = end + 2
                return -1
            if end - at < 3 or memcmp(data + at, b"VA ", 3) != 0:
                raise ValueError(f"expected a value or MN, got {shown(data + at, end - at)}")
            size = claimed_size(data + at, end - at, &flags)
            self.check_size(size)
            if not has_value(data, end, self.end, size):
                return position
            name = find_flag(data + at, flags, end - at, b"k", &name_size)
            if name is NULL:
                raise ValueError("a value came without its key")
            # Misses are silent and hits come in the order of the request: a key further back was not requested.
            while position < min(stop, PySequence_Fast_GET_SIZE(keys)):
                known = key_bytes(keys, position, &known_size)
                if known_size == name_size and memcmp(known, name, name_size) == 0:
                    break
                position += 1
            else:
                raise ValueError("a value came for a key that was not asked for at this place")
            value = PyBytes_FromStringAndSize(data + end + 2, size)
            self.start = end + 4 + size
            values[position] = value
            position += 1

    def read_statuses(self, list values not None, list positions, Py_ssize_t place, Py_ssize_t stop):
        """Take replies without values, and put one status each where it belongs."""
        cdef Py_ssize_t end, size, position
        cdef const char *data
        cdef const char *line
        check_places(place, stop, PyList_GET_SIZE(values if positions is None else positions))
        while place < stop:
            position = position_at(positions, place, PyList_GET_SIZE(values))
            data = PyByteArray_AS_STRING(self.buffer)
            line = data + self.start
            if self.end - self.start >= 4 and memcmp(line, b"HD\r\n", 4) == 0:
                # As nearly all are: there is no need to search for its end.
                status, end = True, self.start + 2
            else:
                end = line_end(data, self.start, self.end)
                if end < 0:
                    break
                size = end - self.start
                if size >= 2 and (size == 2 or line[2] == b" ") and is_status(line):
                    status = line[0] == b"H"
                elif is_error(line, size):
                    status = line[:size].decode("utf-8", "replace")
                else:
                    raise ValueError(f"expected a status, got {shown(line, size)}")
            self.start = end + 2
            # What was there before goes, and may run code as it does.
            values[position] = status
            place += 1
        return place

    def read_reply(self):
        """Take one reply of any kind."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at = self.start, end, size, flags = 0
        cdef bytes line, value = None
        cdef bint error
        end = line_end(data, at, self.end)
        if end < 0:
            return None
        error = is_error(data + at, end - at)
        line = PyBytes_FromStringAndSize(data + at, end - at)
        if end - at >= 3 and memcmp(data + at, b"VA ", 3) == 0:
            size = claimed_size(data + at, end - at, &flags)
            self.check_size(size)
            if not has_value(data, end, self.end, size):
                return None
            value = PyBytes_FromStringAndSize(data + end + 2, size)
            end += size + 2
        # Nothing up to here has run Python code that could move the buffer.
        self.start = end + 2
        if error:
            return line, [], None
        words = line.split(b" ")
        return words[0], [word for word in words[1 if value is None else 2:] if word], value

    def read_lines(self):
        """Take all whole lines that have arrived; return them as they are."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at = self.end
        while at > self.start and data[at - 1] != b"\n":
            at -= 1
        if at == self.start:
            if self.end - self.start >= MAX_LINE:
                raise ValueError(f"a line is longer than {MAX_LINE} bytes")
            return b""
        lines = PyBytes_FromStringAndSize(data + self.start, at - self.start)
        self.start = at
        return lines


cdef inline bint has_value(const char *data, Py_ssize_t stop, Py_ssize_t end, Py_ssize_t size) except -1:
    """Return whether the value that follows a line has arrived."""
    if end - stop - 4 < size:
        return False
    if memcmp(data + stop + 2 + size, b"\r\n", 2) != 0:
        raise ValueError("a value is not as long as its size says")
    return True


cdef inline Py_ssize_t claimed_size(const char *line, Py_ssize_t length, Py_ssize_t *flags) except -1:
    """Parse the size in ``VA <size> <flags>*``; ``flags`` becomes the place where it ends."""
    cdef Py_ssize_t i = 3, size = 0
    while i < length and i < 13 and 48 <= line[i] <= 57:
        size = size * 10 + (line[i] - 48)
        i += 1
    if i == 3 or (i < length and line[i] != b" "):
        raise ValueError(f"expected the size of a value, got {shown(line, length)}")
    flags[0] = i
    return size


cdef inline const char *find_flag(
    const char *line, Py_ssize_t i, Py_ssize_t length, char flag, Py_ssize_t *size
) noexcept:
    """Find the first of the words from ``i`` on that starts with ``flag``; return what follows it."""
    cdef Py_ssize_t start
    while i < length:
        i += 1
        start = i
        while i < length and line[i] != b" ":
            i += 1
        if i > start and line[start] == flag:
            size[0] = i - start - 1
            return line + start + 1
    return NULL


cdef bint is_status(const char *line) noexcept:
    return (
        memcmp(line, b"HD", 2) == 0
        or memcmp(line, b"NS", 2) == 0
        or memcmp(line, b"NF", 2) == 0
        or memcmp(line, b"EX", 2) == 0
        or memcmp(line, b"EN", 2) == 0
    )


cdef bint is_error(const char *line, Py_ssize_t size) noexcept:
    return (
        (size == 5 and memcmp(line, b"ERROR", 5) == 0)
        or (size >= 6 and memcmp(line, b"ERROR ", 6) == 0)
        or (size >= 13 and memcmp(line, b"CLIENT_ERROR ", 13) == 0)
        or (size >= 13 and memcmp(line, b"SERVER_ERROR ", 13) == 0)
    )


cdef str shown(const char *line, Py_ssize_t size):
    """Show an error's line, or the start of any other: that may be a part of somebody's value."""
    return ascii(line[: size if is_error(line, size) else min(size, 16)])
