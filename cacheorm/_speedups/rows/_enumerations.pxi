"""The codec of enumerations."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc

from ..convert._enumerations_c import Enumeration
from ._msgpack_c import pack

cdef enum:
    FEW_MEMBERS = 16  # so many are gone through sooner than looked up


cdef struct Member:
    PyObject *member       # borrowed from the dict of members
    const char *packed     # its value as msgpack, borrowed from the list of those
    Py_ssize_t size


cdef class EnumerationCodec(ValueCodec):
    """Members whose values are text and ints."""

    cdef object enum
    cdef dict members      # stored value -> member
    cdef list packed
    cdef Member *few       # the members, unless they are too many
    cdef Py_ssize_t count

    def __cinit__(self, converter, bint null):
        cdef Member *entry
        self.leaf = True
        self.enum = converter.enum
        self.members = dict(converter.members)
        if len(self.members) > FEW_MEMBERS:
            return
        self.packed = [pack(stored) for stored in self.members]
        self.few = <Member *> PyMem_Malloc(len(self.members) * sizeof(Member))
        if self.few is NULL:
            raise MemoryError
        for packed, member in zip(self.packed, self.members.values()):
            entry = &self.few[self.count]
            entry.member = <PyObject *> member
            entry.packed = PyBytes_AS_STRING(packed)
            entry.size = PyBytes_GET_SIZE(packed)
            self.count += 1

    def __dealloc__(self):
        PyMem_Free(self.few)

    cdef object stored_of(self, value):
        """Return the value of a member; ``None`` where the converter has to."""
        if type(value) is not self.enum:
            return None
        stored = value._value_
        if (type(stored) is int or type(stored) is str) and self.members.get(stored) is value:
            return stored
        return None

    cdef object encode(self, Buffer *buffer, value):
        cdef Py_ssize_t i
        for i in range(self.count):
            if self.few[i].member is <PyObject *> value:
                put_bytes(buffer, self.few[i].packed, self.few[i].size)
                return value
        stored = self.stored_of(value)
        if stored is None:
            return ValueCodec.encode(self, buffer, value)
        put_stored(buffer, stored)
        return value

    cdef object decode(self, Reader *reader):
        cdef const char *start = <const char *> reader.at
        cdef Py_ssize_t left = reader.end - reader.at
        cdef Member *entry
        cdef Py_ssize_t i
        for i in range(self.count):
            entry = &self.few[i]
            if entry.size <= left and equal_bytes(start, entry.packed, entry.size):
                reader.at += entry.size
                return <object> entry.member
        if reader.large and self.level:
            raise ValueError("its weight is not known yet")
        return self.from_stored(take_any(reader, self.level))

    cdef object to_stored(self, value, PyObject **canonical):
        stored = self.stored_of(value)
        return ValueCodec.to_stored(self, value, canonical) if stored is None else stored

    cdef object from_stored(self, stored):
        if type(stored) is int or type(stored) is str:
            member = self.members.get(stored)
            if member is not None:
                return member
        return self.load(stored)


def make_codec(converter, null):
    # 1, 1.0 and True are the same dict key. Only where the stored values are text and ints is a lookup the same as what
    # the converter does.
    return (EnumerationCodec if converter.packable else ValueCodec)(converter, null)


register(Enumeration, make_codec)
