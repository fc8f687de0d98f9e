"""What RESP replies become in Python, one at a time: the C version of ``_resp_values_py.py``, which documents it."""

import re

cdef bytes OK = b"OK"
cdef object DOUBLE = re.compile(rb",[+-]?(?:inf|nan|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")


cdef inline bint is_sized(char kind) noexcept:
    return kind == b"$" or kind == b"=" or kind == b"!"


cdef inline bint is_aggregate(char kind) noexcept:
    return kind == b"*" or kind == b"~" or kind == b"%" or kind == b"|" or kind == b">"


cdef int refuse(str expected, const char *line, Py_ssize_t length) except -1:
    raise ValueError(f"expected {expected}, got {ascii(line[:min(length, 16)])}")


cdef inline Py_ssize_t parse_size(const char *line, Py_ssize_t length) except -2:
    """Parse the size in a line such as ``$<size>``; -1, which stands for nothing, in ``$`` and ``*`` only."""
    cdef Py_ssize_t i, size = 0
    if length == 3 and line[1] == b"-" and line[2] == b"1" and (line[0] == b"$" or line[0] == b"*"):
        return -1
    if not 1 < length <= 13:
        refuse("a size", line, length)
    for i in range(1, length):
        if not 48 <= line[i] <= 57:
            refuse("a size", line, length)
        size = size * 10 + (line[i] - 48)
    return size


cdef inline object parse_sized(char kind, const char *data, Py_ssize_t size):
    """Return the value, the text without its format, or the refusal that ``data`` holds."""
    if kind == b"=":
        if size < 4 or data[3] != b":":
            raise ValueError("a verbatim string came without its format")
        data, size = data + 4, size - 4
    value = PyBytes_FromStringAndSize(data, size)
    return value.decode("utf-8", "replace") if kind == b"!" else value


cdef inline object parse_line(const char *line, Py_ssize_t length):
    """Parse a reply that is a single line: a status, a refusal, a number, a boolean or nothing."""
    cdef char kind = line[0]
    cdef bytes whole
    if kind == b"+":
        if length == 3 and line[1] == b"O" and line[2] == b"K":
            return OK
        return PyBytes_FromStringAndSize(line + 1, length - 1)
    if kind == b":":
        return parse_integer(line, length)
    if kind == b"_":
        if length != 1:
            refuse("nothing", line, length)
        return None
    if kind == b"#":
        if length != 2 or (line[1] != b"t" and line[1] != b"f"):
            refuse("a boolean", line, length)
        return line[1] == b"t"
    # A copy: what follows may run Python code that moves the buffer.
    whole = PyBytes_FromStringAndSize(line, length)
    if kind == b"-":
        return whole[1:].decode("utf-8", "replace")
    if kind == b"(":
        return parse_big_number(whole)
    if kind == b",":
        if DOUBLE.fullmatch(whole) is None:
            refuse("a double", whole, length)
        return float(whole[1:])
    raise ValueError(f"expected a reply, got {ascii(whole[:1])}")


cdef object parse_integer(const char *line, Py_ssize_t length):
    cdef Py_ssize_t i, first = 2 if length > 1 and (line[1] == b"-" or line[1] == b"+") else 1
    cdef bint negative = first == 2 and line[1] == b"-"
    cdef unsigned long long number = 0
    cdef bint valid = 0 < length - first <= 19
    if valid:
        for i in range(first, length):
            if not 48 <= line[i] <= 57:
                valid = False
                break
            number = number * 10 + <unsigned long long> (line[i] - 48)
    if not valid or number > (<unsigned long long> 1 << 63) - (not negative):
        refuse("an integer of 64 bits", line, length)
    return -int(number) if negative else number


cdef object parse_big_number(bytes line):
    cdef const char *data = line
    cdef Py_ssize_t i, length = len(line), first = 2 if length > 1 and (data[1] == b"-" or data[1] == b"+") else 1
    for i in range(first, length):
        if not 48 <= data[i] <= 57:
            refuse("a big number", data, length)
    if first == length:
        refuse("a big number", data, length)
    return int(line[1:])


cdef object make_aggregate(char kind, list items):
    """Return the list, or the dict of a map, that the replies inside of an aggregate make."""
    if kind != b"%":
        return items
    try:
        return dict(zip(items[::2], items[1::2], strict=True))
    except TypeError:
        raise ValueError("a key of a map is a list or a map") from None
