"""The protocols of Redis and memcached without I/O, on C buffers. Twin of ``_wire_py.py``, which explains it.

Requests are measured first, then written into one bytes object of exactly that size: nothing grows, and nothing
is left to free when something goes wrong. No Python code runs between measuring and writing. Replies are read
within the bounds of what has arrived, and lengths that the peer claims are checked against it before use.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check
from libc.string cimport memchr, memcmp, memcpy, memmove

from ..errors import InvalidKeyError
from ..types import to_bytes

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PySequence_Fast(object items, const char *message)
    Py_ssize_t PySequence_Fast_GET_SIZE(object items)
    PyObject *PySequence_Fast_GET_ITEM(object items, Py_ssize_t index)

__all__ = [
    "MetaReader",
    "RespReader",
    "check_keys",
    "check_memcached_keys",
    "encode_values",
    "pack_command",
    "pack_keys",
    "pack_meta",
    "pack_meta_get",
    "pack_meta_set",
    "pack_set",
    "total_size",
]

cdef Py_ssize_t MAX_KEY_BYTES = 250
cdef Py_ssize_t MAX_LINE = 4096
cdef Py_ssize_t MAX_VALUE = 1 << 30
cdef Py_ssize_t RESP_ROOM = 1 << 18
cdef bytes OK = b"OK"


# -- keys and values -----------------------------------------------------------------------------------


cdef const char *key_bytes(object keys, Py_ssize_t index, Py_ssize_t *size) except NULL:
    """Give a key as UTF-8. For ASCII that is its own memory; for the rest Python keeps it with the key."""
    cdef object key = <object> PySequence_Fast_GET_ITEM(keys, index)
    return PyUnicode_AsUTF8AndSize(key, size)


cdef const char *checked_key(object keys, Py_ssize_t index, Py_ssize_t *size) except NULL:
    cdef object key = <object> PySequence_Fast_GET_ITEM(keys, index)
    if not PyUnicode_Check(key):
        raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")
    try:
        return PyUnicode_AsUTF8AndSize(key, size)
    except UnicodeEncodeError:
        raise InvalidKeyError(f"key {key[:80]!a} cannot be encoded as UTF-8") from None


def check_keys(keys):
    """Raise :exc:`InvalidKeyError` unless every key is a ``str`` that UTF-8 can encode."""
    cdef Py_ssize_t i, size = 0
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        checked_key(keys, i, &size)


def check_memcached_keys(keys):
    """Raise :exc:`InvalidKeyError` unless memcached takes every key."""
    cdef Py_ssize_t i, j, size = 0
    cdef const char *data
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        data = checked_key(keys, i, &size)
        if not 0 < size <= MAX_KEY_BYTES:
            key = <object> PySequence_Fast_GET_ITEM(keys, i)
            raise InvalidKeyError(f"key {key[:80]!a} has {size} bytes; memcached takes 1 to {MAX_KEY_BYTES}")
        for j in range(size):
            if <unsigned char> data[j] <= 0x20 or data[j] == 0x7F:
                key = <object> PySequence_Fast_GET_ITEM(keys, i)
                raise InvalidKeyError(
                    f"key {key[:80]!a} holds a space or a control character; memcached takes none"
                )


def encode_values(keys, list values):
    """Give all values as bytes: the list itself where they are, a new one otherwise."""
    for value in values:
        if not PyBytes_CheckExact(value):
            return [encode_value(key, value) for key, value in zip(keys, values, strict=True)]
    return values


cdef object encode_value(key, value):
    try:
        encoded = to_bytes(value)
    except TypeError as error:
        raise TypeError(f"{key}: {error}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{key}: the text cannot be encoded as UTF-8") from None
    if encoded is None:
        raise TypeError(f"{key}: cannot store NoneType as bytes: expected bytes, str, int or float")
    return encoded


cdef Py_ssize_t value_size(object values, Py_ssize_t index) except -1:
    cdef object value = <object> PySequence_Fast_GET_ITEM(values, index)
    if not PyBytes_CheckExact(value):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return PyBytes_GET_SIZE(value)


def total_size(values):
    """Give the bytes in ``values`` together, where ``None`` is none."""
    cdef Py_ssize_t i, total = 0
    values = PySequence_Fast(values, "values must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(values)):
        if PySequence_Fast_GET_ITEM(values, i) != <PyObject *> None:
            total += value_size(values, i)
    return total


# -- writing into a buffer of known size -----------------------------------------------------------------


cdef inline Py_ssize_t digits(Py_ssize_t number) noexcept nogil:
    cdef Py_ssize_t count = 1
    while number >= 10:
        number //= 10
        count += 1
    return count


cdef inline char *put_number(char *to, Py_ssize_t number) noexcept nogil:
    cdef char *end = to + digits(number)
    cdef char *at = end
    while True:
        at -= 1
        at[0] = <char> (48 + number % 10)
        number //= 10
        if number == 0:
            return end


cdef inline char *put(char *to, const char *data, Py_ssize_t size) noexcept nogil:
    memcpy(to, data, size)
    return to + size


cdef inline Py_ssize_t bulk_size(Py_ssize_t size) noexcept nogil:
    """The size of ``$<size> CR LF <data> CR LF``."""
    return 1 + digits(size) + 2 + size + 2


cdef inline char *put_bulk(char *to, const char *data, Py_ssize_t size) noexcept nogil:
    to[0] = b"$"
    to = put(put_number(to + 1, size), b"\r\n", 2)
    return put(put(to, data, size), b"\r\n", 2)


# -- RESP ----------------------------------------------------------------------------------------------


def pack_command(args):
    """Pack one Redis command, its name first."""
    cdef list parts = [arg if isinstance(arg, bytes) else str(arg).encode("utf-8") for arg in args]
    cdef Py_ssize_t count = len(parts), total = 1 + digits(count) + 2
    cdef bytes part, packed
    cdef char *to
    for part in parts:
        total += bulk_size(PyBytes_GET_SIZE(part))
    packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    to[0] = b"*"
    to = put(put_number(to + 1, count), b"\r\n", 2)
    for part in parts:
        to = put_bulk(to, PyBytes_AS_STRING(part), PyBytes_GET_SIZE(part))
    return packed


def pack_keys(bytes name, keys, Py_ssize_t start, Py_ssize_t stop):
    """Pack one Redis command over many keys, such as ``MGET`` or ``DEL``."""
    cdef Py_ssize_t i, total, size = 0
    cdef const char *data
    cdef char *to
    keys = PySequence_Fast(keys, "keys must be a sequence")
    start = max(start, 0)
    stop = min(stop, PySequence_Fast_GET_SIZE(keys))
    cdef bytes head = b"*%d\r\n$%d\r\n%b\r\n" % (max(stop - start, 0) + 1, len(name), name)
    total = len(head)
    for i in range(start, stop):
        key_bytes(keys, i, &size)
        total += bulk_size(size)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = put(PyBytes_AS_STRING(packed), PyBytes_AS_STRING(head), len(head))
    for i in range(start, stop):
        data = key_bytes(keys, i, &size)
        to = put_bulk(to, data, size)
    return packed


def pack_set(keys, values, ttl, bytes condition, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t limit):
    """Pack a Redis ``SET`` for each entry, and stop early once the buffer has ``limit`` bytes."""
    cdef Py_ssize_t i, options, size = 0, total = 0
    cdef const char *data
    cdef char *to
    cdef bytes tail
    if ttl > 0:
        seconds = b"%d" % ttl
        options, tail = 2, b"$2\r\nEX\r\n$%d\r\n%b\r\n" % (len(seconds), seconds)
    elif ttl < 0:
        options, tail = 1, b"$7\r\nKEEPTTL\r\n"
    else:
        options, tail = 0, b""
    if condition:
        options += 1
        tail += b"$%d\r\n%b\r\n" % (len(condition), condition)
    cdef bytes head = b"*%d\r\n$3\r\nSET\r\n" % (3 + options)
    cdef Py_ssize_t fixed = len(head) + len(tail)
    keys = PySequence_Fast(keys, "keys must be a sequence")
    values = PySequence_Fast(values, "values must be a sequence")
    start = max(start, 0)
    stop = min(stop, PySequence_Fast_GET_SIZE(keys), PySequence_Fast_GET_SIZE(values))
    i = start
    while i < stop and (total < limit or i == start):
        key_bytes(keys, i, &size)
        total += fixed + bulk_size(size) + bulk_size(value_size(values, i))
        i += 1
    stop = max(i, start)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for i in range(start, stop):
        to = put(to, PyBytes_AS_STRING(head), len(head))
        data = key_bytes(keys, i, &size)
        to = put_bulk(to, data, size)
        value = <object> PySequence_Fast_GET_ITEM(values, i)
        to = put_bulk(to, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        to = put(to, PyBytes_AS_STRING(tail), len(tail))
    return packed, stop


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
        cdef Py_ssize_t at, stop, size
        self.foreign = False
        if self.left < 0:
            if self.start == self.end:
                return False
            if data[self.start] != b"*":
                self.foreign = True
                return False
            stop = line_end(data, self.start, self.end)
            if stop < 0:
                return False
            size = resp_size(data + self.start, stop - self.start)
            if size != count:
                raise ValueError(f"expected {count} values, got {size}")
            self.left = count
            self.start = stop + 2
        while self.left:
            # Nothing in here runs Python code that could move the buffer.
            at = self.start
            if at == self.end:
                return False
            stop = line_end(data, at, self.end)
            if stop < 0:
                return False
            if data[at] == b"$":
                size = resp_size(data + at, stop - at)
            elif data[at] == b"_" and stop - at == 1:
                size = -1
            else:
                raise ValueError(f"expected a value, got {ascii(data[at:min(at + 1, stop)])}")
            if size < 0:
                values.append(None)
                self.start = stop + 2
            else:
                if self.end - stop - 4 < size:
                    return False
                if memcmp(data + stop + 2 + size, b"\r\n", 2) != 0:
                    raise ValueError("a value is not as long as its size says")
                values.append(PyBytes_FromStringAndSize(data + stop + 2, size))
                self.start = stop + 4 + size
            self.left -= 1
        self.left = -1
        return True

    def read_statuses(self, list statuses, Py_ssize_t count):
        """Take replies to ``SET``, and append one each until there are ``count``."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at, stop
        self.foreign = False
        while PyList_GET_SIZE(statuses) < count:
            at = self.start
            if at == self.end:
                return False
            if data[at] != b"+" and data[at] != b"$" and data[at] != b"_":
                self.foreign = True
                return False
            stop = line_end(data, at, self.end)
            if stop < 0:
                return False
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
        cdef Py_ssize_t at, stop, after, size
        self.foreign = False
        while PyList_GET_SIZE(replies) < count:
            # Nothing in here runs Python code that could move the buffer.
            at = self.start
            if at == self.end:
                return False
            if data[at] != b"+" and data[at] != b":" and data[at] != b"$" and data[at] != b"_":
                self.foreign = True
                return False
            stop = line_end(data, at, self.end)
            if stop < 0:
                return False
            after = stop + 2
            reply = None
            if data[at] == b"+":
                reply = PyBytes_FromStringAndSize(data + at + 1, stop - at - 1)
            elif data[at] == b":":
                reply = resp_number(data + at, stop - at)
            elif data[at] == b"$":
                size = resp_size(data + at, stop - at)
                if size >= 0:
                    if self.end - after - 2 < size:
                        return False
                    if memcmp(data + after + size, b"\r\n", 2) != 0:
                        raise ValueError("a value is not as long as its size says")
                    reply = PyBytes_FromStringAndSize(data + after, size)
                    after += size + 2
            elif stop - at != 1:
                raise ValueError("expected nothing, got something")
            replies.append(reply)
            self.start = after
        return True


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


# -- memcached -----------------------------------------------------------------------------------------


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


def pack_meta(bytes name, keys, bytes flags, Py_ssize_t start, Py_ssize_t stop):
    """Pack one meta command without a value, such as ``md``, for each key; every one is answered."""
    return pack_lines(name + b" ", keys, b" %b\r\n" % flags if flags else b"\r\n", start, stop, b"")


def pack_meta_get(keys, Py_ssize_t start, Py_ssize_t stop):
    """Pack quiet meta gets, closed by ``mn``: hits are answered with their key, misses not at all."""
    return pack_lines(b"mg ", keys, b" k v q\r\n", start, stop, b"mn\r\n")


def pack_meta_set(keys, values, exptime, bytes mode, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t limit):
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
        total += 3 + size + 1 + digits(amount) + len(tail) + amount + 2
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


cdef class MetaReader:
    """Parses the replies of memcached's meta commands from bytes that arrive in any pieces."""

    cdef bytearray buffer

    def __cinit__(self):
        self.buffer = bytearray()

    @property
    def pending(self):
        """How many bytes were fed and not consumed."""
        return PyByteArray_GET_SIZE(self.buffer)

    def feed(self, data):
        """Take bytes that arrived."""
        self.buffer += data

    def read_values(self, keys, list values, Py_ssize_t position, Py_ssize_t stop):
        """Take the replies to :func:`pack_meta_get`."""
        cdef Py_ssize_t at = 0, end, size, length, name_size = 0, known_size = 0
        cdef const char *data
        cdef const char *name
        cdef const char *known
        keys = PySequence_Fast(keys, "keys must be a sequence")
        if not 0 <= position <= stop <= PySequence_Fast_GET_SIZE(keys) or stop > len(values):
            raise IndexError("position and stop must lie inside the batch")
        try:
            while True:
                # Read anew for each reply: nothing above may have moved it, and this is how that stays true.
                data = PyByteArray_AS_STRING(self.buffer)
                length = PyByteArray_GET_SIZE(self.buffer)
                end = line_end(data, at, length)
                if end < 0:
                    return position
                if end - at == 2 and memcmp(data + at, b"MN", 2) == 0:
                    at = end + 2
                    return -1
                if end - at < 3 or memcmp(data + at, b"VA ", 3) != 0:
                    raise ValueError(f"expected a value or MN, got {shown(data + at, end - at)}")
                size = claimed_size(data + at, end - at)
                if length - end - 4 < size:
                    return position
                if memcmp(data + end + 2 + size, b"\r\n", 2) != 0:
                    raise ValueError("a value is not as long as its size says")
                name = find_flag(data + at, end - at, b"k", &name_size)
                if name is NULL:
                    raise ValueError("a value came without its key")
                # Misses are silent and hits come in the order of the request: what is not ahead was not asked.
                while position < stop:
                    known = key_bytes(keys, position, &known_size)
                    if known_size == name_size and memcmp(known, name, name_size) == 0:
                        break
                    position += 1
                if position >= stop:
                    raise ValueError("a value came for a key that was not asked for at this place")
                values[position] = PyBytes_FromStringAndSize(data + end + 2, size)
                position += 1
                at = end + 4 + size
        finally:
            del self.buffer[:at]

    def read_statuses(self, list statuses, Py_ssize_t count):
        """Take replies without values, and append one status each until there are ``count``."""
        cdef Py_ssize_t at = 0, end, length, size
        cdef const char *data
        cdef const char *line
        try:
            while len(statuses) < count:
                data = PyByteArray_AS_STRING(self.buffer)
                length = PyByteArray_GET_SIZE(self.buffer)
                end = line_end(data, at, length)
                if end < 0:
                    return False
                line = data + at
                size = end - at
                if size >= 2 and (size == 2 or line[2] == b" ") and is_status(line):
                    statuses.append(line[0] == b"H")
                elif is_error(line, size):
                    statuses.append(line[:size].decode("utf-8", "replace"))
                else:
                    raise ValueError(f"expected a status, got {shown(line, size)}")
                at = end + 2
            return True
        finally:
            del self.buffer[:at]

    def read_reply(self):
        """Take one reply of any kind."""
        cdef Py_ssize_t end, size, length
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef bytes line, value
        length = PyByteArray_GET_SIZE(self.buffer)
        end = line_end(data, 0, length)
        if end < 0:
            return None
        line = data[:end]
        words = line.split(b" ")
        if end >= 3 and memcmp(data, b"VA ", 3) == 0:
            size = claimed_size(data, end)
            if length - end - 4 < size:
                return None
            if memcmp(data + end + 2 + size, b"\r\n", 2) != 0:
                raise ValueError("a value is not as long as its size says")
            value = PyBytes_FromStringAndSize(data + end + 2, size)
            del self.buffer[: end + 4 + size]
            return b"VA", [word for word in words[2:] if word], value
        error = is_error(data, end)
        del self.buffer[: end + 2]
        if error:
            return line, [], None
        return words[0], [word for word in words[1:] if word], None


cdef Py_ssize_t line_end(const char *data, Py_ssize_t at, Py_ssize_t length) except -2:
    """Give the place of the line's CR LF, -1 where it has not arrived."""
    cdef Py_ssize_t limit = min(length, at + MAX_LINE), i = at
    cdef const char *found
    while i < limit - 1:
        found = <const char *> memchr(data + i, b"\r", limit - 1 - i)
        if found is NULL:
            break
        i = found - data
        if data[i + 1] == b"\n":
            return i
        i += 1
    if length - at >= MAX_LINE:
        raise ValueError(f"a line is longer than {MAX_LINE} bytes")
    return -1


cdef Py_ssize_t claimed_size(const char *line, Py_ssize_t length) except -1:
    """Parse the size in ``VA <size> <flags>*``."""
    cdef Py_ssize_t i = 3, size = 0
    while i < length and i < 13 and 48 <= line[i] <= 57:
        size = size * 10 + (line[i] - 48)
        i += 1
    if i == 3 or (i < length and line[i] != b" ") or size > MAX_VALUE:
        raise ValueError(f"expected the size of a value, got {shown(line, length)}")
    return size


cdef const char *find_flag(
    const char *line, Py_ssize_t length, char flag, Py_ssize_t *size
) noexcept:
    """Find the first of the words after a value's size that starts with ``flag``; give what follows it."""
    cdef Py_ssize_t i = 3, start
    while i < length and line[i] != b" ":
        i += 1
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
