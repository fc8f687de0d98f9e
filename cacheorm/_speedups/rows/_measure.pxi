"""What reading msgpack would cost: the C version of ``_measure_py.py``, which documents it."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    MEASURED_LEVELS = MOST_LEVELS + 8  # of the row's own map, too
    FEW_PAIRS = 21


cdef inline int64_t map_memory(int64_t count) noexcept:
    if count <= 5:
        return 224 if count else 64
    return 352 if count <= 10 else 640 if count <= FEW_PAIRS else 80 * count


cdef bytes named_rest(bytes body, const uint8_t *name):
    return body[name - <const uint8_t *> PyBytes_AS_STRING(body):]


def measure_msgpack(bytes body not None, int64_t allowed, int levels):
    """Return about how much memory the objects take that msgpack is read as, and where it ended."""
    cdef const uint8_t *at = <const uint8_t *> PyBytes_AS_STRING(body)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(body)
    cdef const uint8_t *start
    cdef const uint8_t *name = at
    cdef uint64_t pending[MEASURED_LEVELS]
    cdef bint few[MEASURED_LEVELS]
    cdef int depth = 0
    cdef int width, each
    cdef int64_t cost = 0
    cdef uint64_t size
    cdef uint8_t head
    cdef bint is_key
    if levels >= MEASURED_LEVELS:
        raise ValueError("more levels than are measured")
    pending[0] = 1
    few[0] = False
    while cost <= allowed:
        while not pending[depth]:
            if not depth:
                return cost, b""
            depth -= 1
        if at >= end:
            return cost, b""
        is_key = few[depth] and not pending[depth] & 1
        if depth == 1 and not pending[1] & 1:
            name = at
        pending[depth] -= 1
        head = at[0]
        if head < 0x80 or head >= 0xFB:
            at += 1
            continue
        if head < 0xA0 or 0xDC <= head <= 0xDF:
            if head < 0xA0:
                width, each, size = 0, 2 if head < 0x90 else 1, head & 0x0F
            else:
                width, each = 4 if head & 1 else 2, 2 if head >= 0xDE else 1
                if end - at <= width:
                    return cost, b""
                size = big_endian(at + 1, width)
            at += 1 + width
            if size * each > <uint64_t> (end - at):
                return cost, b""
            if depth >= levels:
                return -1, named_rest(body, name)
            cost += 2 * (map_memory(<int64_t> size) if each == 2 else 56 + 8 * <int64_t> size)
            depth += 1
            pending[depth] = size * each
            few[depth] = each == 2 and size <= FEW_PAIRS
            continue
        start = at + 1
        if head < 0xC0:
            size = head & 0x1F
        elif 0xC4 <= head <= 0xC9 or 0xD9 <= head <= 0xDB:
            width = 1 << ((head - 0xC4) % 3 if head <= 0xC9 else head - 0xD9)
            if end - start < width:
                return cost, b""
            size = big_endian(start, width) + (0xC7 <= head <= 0xC9)
            start += width
        elif 0xCA <= head <= 0xD3:
            size = (4 if head == 0xCA else 8) if head <= 0xCB else <uint64_t> 1 << ((head - 0xCC) & 3)
        elif 0xD4 <= head <= 0xD8:
            size = (<uint64_t> 1 << (head - 0xD4)) + 1
        else:
            size = 0
        if size > <uint64_t> (end - start):
            return cost, b""
        at = start + size
        if head < 0xC0 or 0xD9 <= head <= 0xDB:
            if size > 1 and not is_key:
                cost += 3 * <int64_t> (52 + size if start[0] < 0x80 else 80 + 2 * size)
        elif head >= 0xE0:
            cost += 96
        elif 0xC4 <= head <= 0xC6:
            cost += 3 * <int64_t> (36 + size) if size > 1 else 0
        elif 0xC7 <= head <= 0xC9 or 0xD4 <= head <= 0xD8:
            cost += 3 * <int64_t> (128 + size)
        elif head >= 0xCD or head == 0xCA or head == 0xCB:
            cost += 96
    return cost, named_rest(body, name)
