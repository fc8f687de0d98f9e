"""Replies are read within the bounds of what has arrived: what the modules that parse them share."""

from libc.string cimport memchr

cdef enum:
    MAX_LINE = 4096


cdef inline Py_ssize_t line_end(const char *data, Py_ssize_t at, Py_ssize_t length) except -2:
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
