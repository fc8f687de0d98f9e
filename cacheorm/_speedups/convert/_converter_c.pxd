"""What the other converters, and the codecs of rows, call without a detour through Python."""


cdef class Converter:
    cpdef dump(self, value)
    cpdef load(self, stored)
    cpdef canonical(self, value, stored)


cdef attempt(function, argument)
cdef expected(what, value)
cdef encodable(text)
cdef plain(stored, long long depth)
