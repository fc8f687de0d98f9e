"""Putting changed fields into rows of JSON."""

from ..convert import json_codec


cdef struct Member:
    Span name
    Span value
    const uint8_t *end
    bint escaped  # whether the name has to be unescaped


cdef inline const uint8_t *past_space(const uint8_t *at, const uint8_t *end) noexcept:
    while at < end and (at[0] == 0x20 or at[0] == 0x09 or at[0] == 0x0A or at[0] == 0x0D):
        at += 1
    return at


cdef inline const uint8_t *past_text(const uint8_t *at, const uint8_t *end, bint *escaped) noexcept:
    """Return where a text that begins with a quotation mark ends; ``NULL`` if it does not."""
    at += 1
    while at < end:
        if at[0] == 0x22:
            return at + 1
        if at[0] == 0x5C:
            escaped[0] = True
            if end - at < 2:
                return NULL
            at += 1
        at += 1
    return NULL


cdef inline bint is_mark(uint8_t byte) noexcept:
    """Tell whether a byte is one of ``"[]{},:`` or space, which end a number or a name such as ``true``."""
    return (
        byte == 0x22 or byte == 0x5B or byte == 0x5D or byte == 0x7B or byte == 0x7D or byte == 0x2C or byte == 0x3A
        or byte == 0x20 or byte == 0x09 or byte == 0x0A or byte == 0x0D
    )


cdef const uint8_t *past_value(const uint8_t *at, const uint8_t *end) noexcept:
    """Return where a value ends; ``NULL`` if there is none."""
    cdef bint escaped
    cdef Py_ssize_t depth = 0
    cdef const uint8_t *start = at
    if at >= end:
        return NULL
    if at[0] == 0x22:
        return past_text(at, end, &escaped)
    if at[0] != 0x5B and at[0] != 0x7B:
        while at < end and not is_mark(at[0]):
            at += 1
        if at is start:
            return NULL
        return at
    while at < end:
        if at[0] == 0x22:
            at = past_text(at, end, &escaped)
            if at is NULL:
                return NULL
            continue
        if at[0] == 0x5B or at[0] == 0x7B:
            depth += 1
        elif at[0] == 0x5D or at[0] == 0x7D:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return NULL


cdef bint take_member(const uint8_t *at, const uint8_t *end, Member *member) noexcept:
    """Find the next name and value of an object; false if there are none."""
    member.escaped = False
    at = past_space(at, end)
    if at >= end or at[0] != 0x22:
        return False
    member.name.at = at
    at = past_text(at, end, &member.escaped)
    if at is NULL:
        return False
    member.name.size = at - member.name.at
    at = past_space(at, end)
    if at >= end or at[0] != 0x3A:
        return False
    member.value.at = past_space(at + 1, end)
    member.end = past_value(member.value.at, end)
    if member.end is NULL:
        return False
    member.value.size = member.end - member.value.at
    return True


cdef inline const uint8_t *past_mark(const uint8_t *at, const uint8_t *end, bint *last) noexcept:
    """Return what follows the comma or brace after a value, ``NULL`` if there is neither; ``last`` tells which."""
    at = past_space(at, end)
    if at >= end or (at[0] != 0x2C and at[0] != 0x7D):
        return NULL
    last[0] = at[0] == 0x7D
    return at + 1


cdef object plain_name(Member *member):
    """Return a name as it is usually packed; ``None`` if it is none."""
    pack, unpack = json_codec()
    try:
        return pack(unpack(PyBytes_FromStringAndSize(<const char *> member.name.at, member.name.size)))
    except ValueError:
        return None


cdef bint read_json_changes(bytes packed, Changes *changes, Change *room) except -1:
    """Lay out the changes of a row, which have no space between them; see :func:`read_msgpack_changes`."""
    cdef Member member
    cdef Change *change
    cdef const uint8_t *start = <const uint8_t *> PyBytes_AS_STRING(packed)
    cdef const uint8_t *end = start + PyBytes_GET_SIZE(packed)
    cdef const uint8_t *at = start + 1
    changes.count = 0
    while take_member(at, end, &member):
        changes.count += 1
        at = member.end + 1
    changes.all = make_room(changes.count, room)
    changes.missing = changes.count
    change = changes.all
    at = start + 1
    while take_member(at, end, &member):
        change.found = False
        change.name = member.name
        change.value = member.value
        change.pair.at = at
        change.pair.size = member.end - at
        change += 1
        at = member.end + 1
    return True


cdef bint put_json_patched(Buffer *buffer, Reader row, Changes *changes, set old_names) except -1:
    """Write a row with its changes; false, with anything written, if it is no object of JSON, or has old names."""
    cdef Py_ssize_t i
    cdef Member member
    cdef Change *change
    cdef bint last = False
    cdef bint written = False
    cdef const uint8_t *copied = row.at
    cdef const uint8_t *body_end
    row.at = past_space(row.at, row.end)
    if row.at >= row.end or row.at[0] != 0x7B:
        return False
    row.at = body_end = past_space(row.at + 1, row.end)
    if row.at < row.end and row.at[0] == 0x7D:
        row.at += 1
        last = True
    while not last:
        if not take_member(row.at, row.end, &member):
            return False
        name = None
        if member.escaped:
            name = plain_name(&member)
            if name is None:
                return False
            member.name.at = <const uint8_t *> PyBytes_AS_STRING(name)
            member.name.size = PyBytes_GET_SIZE(name)
        change = change_of(changes, member.name.at, member.name.size)
        if change is not NULL:
            put_between(buffer, copied, member.value.at)
            put_bytes(buffer, <const char *> change.value.at, change.value.size)
            copied = member.end
        elif is_old(old_names, member.name.at, member.name.size):
            return False
        written = True
        body_end = member.end
        row.at = past_mark(member.end, row.end, &last)
        if row.at is NULL:
            return False
    if past_space(row.at, row.end) != row.end:
        return False
    put_between(buffer, copied, body_end)
    for i in range(changes.count):
        change = &changes.all[i]
        if not change.found:
            if written:
                put_bytes(buffer, ",", 1)
            put_bytes(buffer, <const char *> change.pair.at, change.pair.size)
            written = True
    put_between(buffer, body_end, row.end)
    return True
