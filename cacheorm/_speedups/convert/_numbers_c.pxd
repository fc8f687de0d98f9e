cdef to_decimal(value)
