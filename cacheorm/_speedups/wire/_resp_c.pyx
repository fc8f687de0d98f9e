"""RESP requests on C buffers: the C version of ``_resp_py.py``, which documents it."""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.string cimport memchr

from .._digits cimport count_digits, put_number
from ._requests cimport *

__all__ = ["SLOTS", "key_slots", "pack_command", "pack_commands", "pack_gets", "pack_keys", "pack_set", "route"]

SLOTS = 16384


def pack_command(args):
    """Pack one Redis command, its name first."""
    return pack_commands((args,), 0, 1, 0)[0]


def pack_commands(commands, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t limit):
    """Pack Redis commands, and stop early once the buffer has ``limit`` bytes."""
    cdef Py_ssize_t place, size = 0, total = 0
    # Of each command in turn the number of its arguments, and those as bytes, or as texts that UTF-8 can encode.
    cdef list parts = []
    cdef const char *data
    cdef char *to
    start = max(start, 0)
    stop = min(stop, len(commands))
    place = start
    while place < stop and (total < limit or place == start):
        command = commands[place]
        count = len(command)
        total += 1 + count_digits(count) + 2
        parts.append(count)
        for arg in command:
            if not isinstance(arg, bytes) and type(arg) is not str:
                arg = str(arg)
            argument_bytes(arg, &size)
            total += bulk_size(size)
            parts.append(arg)
        place += 1
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for part in parts:
        if isinstance(part, int):
            to[0] = b"*"
            to = put(put_number(to + 1, part), b"\r\n", 2)
        else:
            data = argument_bytes(part, &size)
            to = put_bulk(to, data, size)
    return packed, place


cdef inline const char *argument_bytes(object arg, Py_ssize_t *size) except NULL:
    if isinstance(arg, bytes):
        size[0] = PyBytes_GET_SIZE(arg)
        return PyBytes_AS_STRING(arg)
    return PyUnicode_AsUTF8AndSize(arg, size)


def pack_keys(bytes name not None, keys, Py_ssize_t start, Py_ssize_t stop):
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


def pack_gets(keys, list positions, Py_ssize_t start, Py_ssize_t stop):
    """Pack a Redis ``GET`` for each key."""
    cdef Py_ssize_t place, size = 0, total = 0, count
    cdef const char *data
    cdef char *to
    keys = PySequence_Fast(keys, "keys must be a sequence")
    count = PySequence_Fast_GET_SIZE(keys)
    start = max(start, 0)
    stop = min(stop, count if positions is None else PyList_GET_SIZE(positions))
    for place in range(start, stop):
        key_bytes(keys, position_at(positions, place, count), &size)
        total += 13 + bulk_size(size)
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for place in range(start, stop):
        data = key_bytes(keys, position_at(positions, place, count), &size)
        to = put_bulk(put(to, b"*2\r\n$3\r\nGET\r\n", 13), data, size)
    return packed


def pack_set(
    keys, values, ttl, bytes condition, list positions, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t limit
):
    """Pack a Redis ``SET`` for each entry, and stop early once the buffer has ``limit`` bytes."""
    cdef Py_ssize_t place, position, size = 0, total = 0, count
    cdef char *to
    cdef bytes head, tail
    head, tail = set_frame(ttl, condition)
    cdef Py_ssize_t fixed = len(head) + len(tail)
    keys = PySequence_Fast(keys, "keys must be a sequence")
    values = PySequence_Fast(values, "values must be a sequence")
    count = min(PySequence_Fast_GET_SIZE(keys), PySequence_Fast_GET_SIZE(values))
    start = max(start, 0)
    stop = min(stop, count if positions is None else PyList_GET_SIZE(positions))
    place = start
    while place < stop and (total < limit or place == start):
        position = position_at(positions, place, count)
        key_bytes(keys, position, &size)
        total += fixed + bulk_size(size) + bulk_size(value_size(values, position))
        place += 1
    stop = place
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, total)
    to = PyBytes_AS_STRING(packed)
    for place in range(start, stop):
        to = put_entry(to, head, keys, values, position_at(positions, place, count), tail)
    return packed, stop


cdef tuple set_frame(ttl, bytes condition):
    """Return what stands before and after key and value in a ``SET``."""
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


# -- to the nodes of a cluster --------------------------------------------------------------------------

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
    """Return the hash slot of a key."""
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
    """Return the hash slot of each key."""
    cdef Py_ssize_t i, size = 0
    cdef const char *data
    cdef list slots = []
    keys = PySequence_Fast(keys, "keys must be a sequence")
    for i in range(PySequence_Fast_GET_SIZE(keys)):
        data = key_bytes(keys, i, &size)
        slots.append(slot_of(data, size))
    return slots


def route(keys, array.array owners not None, Py_ssize_t nodes, Py_ssize_t start, Py_ssize_t stop):
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
