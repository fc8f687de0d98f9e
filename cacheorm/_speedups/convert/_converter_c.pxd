"""What the other converters, and the codecs of rows, call without a detour through Python."""


cdef class Converter:
    cdef public long long level

    cpdef dump(self, value)
    cpdef load(self, stored)
    cpdef canonical(self, value, stored)
    cpdef key_form(self, value, stored)


cdef attempt(function, argument)
cdef expected(what, value)
cdef encodable(text)
cdef normal(value, long long depth, keep_types)
cdef normal_decimal(number)
cdef plain(stored, long long depth)
