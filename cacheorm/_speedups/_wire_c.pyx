"""The protocols of Redis and memcached without I/O, on C buffers. Twin of ``_wire_py.py``, which explains it.

Requests are measured first, then written into one bytes object of exactly that size: nothing grows, and nothing
is left to free when something goes wrong. No Python code runs between measuring and writing. Replies are read
within the bounds of what has arrived, and lengths that the peer claims are checked against it before use.
"""

from cpython cimport array
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
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
    "SLOTS",
    "MetaReader",
    "RespReader",
    "check_keys",
    "check_memcached_keys",
    "encode_values",
    "key_slots",
    "pack_command",
    "pack_gets",
    "pack_keys",
    "pack_meta",
    "pack_meta_get",
    "pack_meta_set",
    "pack_set",
    "pack_sets",
    "route",
    "total_size",
]

SLOTS = 16384

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
    cdef Py_ssize_t i, size = 0, total = 0
    cdef char *to
    cdef bytes head, tail
    head, tail = set_frame(ttl, condition)
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
        to = put_entry(to, head, keys, values, i, tail)
    return packed, stop


cdef tuple set_frame(ttl, bytes condition):
    """Give what stands before and after key and value in a ``SET``."""
    cdef Py_ssize_t options
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
    return b"*%d\r\n$3\r\nSET\r\n" % (3 + options), tail


cdef char *put_entry(char *to, bytes head, object keys, object values, Py_ssize_t i, bytes tail) except NULL:
    """Write one ``SET`` whose key and value have been measured."""
    cdef Py_ssize_t size = 0
    cdef const char *data = key_bytes(keys, i, &size)
    cdef object value = <object> PySequence_Fast_GET_ITEM(values, i)
    to = put(to, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
    to = put_bulk(to, data, size)
    to = put_bulk(to, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return put(to, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))


# -- RESP, to the nodes of a cluster -----------------------------------------------------------------------

cdef unsigned short CRC16[256]


cdef void fill_crc16() noexcept:
    """Fill the table of CRC-16/XMODEM, polynomial 0x1021."""
    cdef int i, bit
    cdef unsigned int value
    for i in range(256):
        value = i << 8
        for bit in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        CRC16[i] = <unsigned short> value


fill_crc16()


cdef int slot_of(const char *data, Py_ssize_t size) noexcept nogil:
    """Give the hash slot of a key."""
    cdef const char *opened = <const char *> memchr(data, b"{", size)
    cdef const char *closed
    cdef unsigned int crc = 0
    cdef Py_ssize_t i
    if opened is not NULL:
        opened += 1
        closed = <const char *> memchr(opened, b"}", size - (opened - data))
        if closed is not NULL and closed > opened:
            data, size = opened, closed - opened
    for i in range(size):
        crc = ((crc << 8) & 0xFFFF) ^ CRC16[((crc >> 8) ^ <unsigned char> data[i]) & 0xFF]
    return crc & 16383


def key_slots(keys):
    """Give the hash slot of each key."""
    cdef Py_ssize_t i, size = 0
    cdef const char *data
    cdef list slots = []
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        data = key_bytes(keys, i, &size)
        slots.append(slot_of(data, size))
    return slots


def route(keys, array.array owners, Py_ssize_t nodes, Py_ssize_t start, Py_ssize_t stop):
    """Divide a part of a batch by the node that serves each key."""
    cdef Py_ssize_t i, owner, size = 0
    cdef const char *data
    if owners.typecode != "H" or len(owners) != 16384:
        raise ValueError(f"owners must be an array of {SLOTS} numbers of type H")
    cdef list parts = [[] for _ in range(nodes + 1)]
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(max(start, 0), min(stop, PySequence_Fast_GET_SIZE(keys))):
        data = key_bytes(keys, i, &size)
        # Nothing in here runs Python code that could make the array shorter.
        owner = owners.data.as_ushorts[slot_of(data, size)]
        (<list> parts[min(owner, nodes)]).append(i)
    return parts


cdef Py_ssize_t position_at(list positions, Py_ssize_t place, Py_ssize_t count) except -1:
    """Give the position that stands at a place, which is inside of the list."""
    cdef Py_ssize_t position = <object> PyList_GET_ITEM(positions, place)
    if not 0 <= position < count:
        raise IndexError(f"position {position} is outside of the batch")
    return position


def pack_gets(keys, list positions):
    """Pack a Redis ``GET`` of the key at each position."""
    cdef Py_ssize_t i, at, size = 0, total = 0, count = PyList_GET_SIZE(positions)
    cdef const char *data
    cdef char *to
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(count):
        at = position_at(positions, i, PySequence_Fast_GET_SIZE(keys))
        key_bytes(keys, at, &size)
        total += 13 + bulk_size(size)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for i in range(count):
        at = position_at(positions, i, PySequence_Fast_GET_SIZE(keys))
        data = key_bytes(keys, at, &size)
        to = put_bulk(put(to, b"*2\r\n$3\r\nGET\r\n", 13), data, size)
    return packed


def pack_sets(keys, values, ttl, bytes condition, list positions):
    """Pack a Redis ``SET`` of the entry at each position."""
    cdef Py_ssize_t i, at, size = 0, total = 0, count = PyList_GET_SIZE(positions), limit
    cdef char *to
    cdef bytes head, tail
    head, tail = set_frame(ttl, condition)
    cdef Py_ssize_t fixed = len(head) + len(tail)
    keys = PySequence_Fast(keys, "keys must be a sequence")
    values = PySequence_Fast(values, "values must be a sequence")
    limit = min(PySequence_Fast_GET_SIZE(keys), PySequence_Fast_GET_SIZE(values))
    for i in range(count):
        at = position_at(positions, i, limit)
        key_bytes(keys, at, &size)
        total += fixed + bulk_size(size) + bulk_size(value_size(values, at))
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for i in range(count):
        to = put_entry(to, head, keys, values, position_at(positions, i, limit), tail)
    return packed


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

    def read_gets(self, list values, list positions, Py_ssize_t place):
        """Take replies to :func:`pack_gets`, and put each where its key stands."""
        cdef const char *data = PyByteArray_AS_STRING(self.buffer)
        cdef Py_ssize_t at, stop, size, position
        self.foreign = False
        if place < 0:
            raise IndexError("place must lie inside the positions")
        while place < PyList_GET_SIZE(positions):
            at = self.start
            if at == self.end:
                break
            if data[at] != b"$" and data[at] != b"_":
                self.foreign = True
                break
            stop = line_end(data, at, self.end)
            if stop < 0:
                break
            if data[at] == b"$":
                size = resp_size(data + at, stop - at)
            elif stop - at == 1:
                size = -1
            else:
                raise ValueError(f"expected a value, got {ascii(data[at:at + 1])}")
            at = stop + 2
            value = None
            if size >= 0:
                if self.end - at - 2 < size:
                    break
                if memcmp(data + at + size, b"\r\n", 2) != 0:
                    raise ValueError("a value is not as long as its size says")
                value = PyBytes_FromStringAndSize(data + at, size)
                at += size + 2
            position = position_at(positions, place, PyList_GET_SIZE(values))
            values[position] = value
            # What was there before is gone, and may have run code as it went.
            data = PyByteArray_AS_STRING(self.buffer)
            self.start = at
            place += 1
        return place

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
