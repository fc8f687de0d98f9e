"""What the compiled codecs call without a detour through Python."""


cdef class Converter:
    cpdef dump(self, value)
    cpdef load(self, stored)
    cpdef canonical(self, value, stored)


cdef plain(stored, long long depth)
