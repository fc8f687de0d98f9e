"""Putting the changed fields of a row into its packed form: the C version of ``_patches_py.py``, which documents it."""

from libc.string cimport memmove

from ..convert import json_codec

# Rows with more changed fields get memory of their own for them.
cdef enum:
    MOST_ON_STACK = 16


cdef struct Span:
    const uint8_t *at
    Py_ssize_t size


cdef struct Change:
    Span name   # as it is usually packed; msgpack: without its header
    Span value
    Span pair   # both
    bint found


cdef struct Changes:
    Change *all
    Py_ssize_t count
    Py_ssize_t expected  # the next in the order of the plan
    Py_ssize_t missing   # how many the row does not have


cdef inline Change *change_of(Changes *changes, const uint8_t *name, Py_ssize_t size) noexcept:
    """Find the change of a name, ``NULL`` if there is none; rows mostly have them in the same order."""
    cdef Py_ssize_t i
    cdef Py_ssize_t at = changes.expected
    cdef Change *change
    for i in range(changes.count):
        if at >= changes.count:
            at = 0
        change = &changes.all[at]
        at += 1
        if change.name.size == size and equal_bytes(<const char *> change.name.at, <const char *> name, size):
            changes.expected = at
            if not change.found:
                change.found = True
                changes.missing -= 1
            return change
    return NULL


cdef inline bint is_old(set old_names, const uint8_t *name, Py_ssize_t size) except -1:
    """Tell whether a name is one that a field had; rows with such names are for the general path."""
    return old_names is not None and PyBytes_FromStringAndSize(<const char *> name, size) in old_names


cdef inline int put_between(Buffer *buffer, const uint8_t *start, const uint8_t *end) except -1:
    return put_bytes(buffer, <const char *> start, end - start)


# -- msgpack -----------------------------------------------------------------------------------------

cdef inline bint skip_value(Reader *reader) noexcept:
    """Step over one value as :func:`skip` does; sooner over short texts, numbers below 128, and floats."""
    cdef Py_ssize_t left = reader.end - reader.at
    cdef Py_ssize_t size = 0
    cdef uint8_t head
    if left > 0:
        head = reader.at[0]
        if head < 0x80 or head == 0xC0:
            size = 1
        elif 0xA0 <= head <= 0xBF:
            size = 1 + (head & 0x1F)
        elif head == 0xCB:
            size = 9
        elif head == 0xD9 and left > 1:
            size = 2 + reader.at[1]
        if 0 < size <= left:
            reader.at += size
            return True
    return skip(reader)


cdef bint read_msgpack_changes(bytes packed, Changes *changes, Change *room) except -1:
    """Lay out the changes of a row; false if they are none. ``room`` has places for :data:`MOST_ON_STACK` of them."""
    cdef Reader reader
    cdef const char *name
    cdef Py_ssize_t i
    cdef Change *change
    reader.at = <const uint8_t *> PyBytes_AS_STRING(packed)
    reader.end = reader.at + PyBytes_GET_SIZE(packed)
    if not take_map_header(&reader, &changes.count):
        return False
    changes.all = make_room(changes.count, room)
    changes.missing = changes.count
    for i in range(changes.count):
        change = &changes.all[i]
        change.found = False
        change.pair.at = reader.at
        if not take_text(&reader, &name, &change.name.size):
            return False
        change.name.at = <const uint8_t *> name
        change.value.at = reader.at
        if not skip_value(&reader):
            return False
        change.value.size = reader.at - change.value.at
        change.pair.size = reader.at - change.pair.at
    return True


cdef Change *make_room(Py_ssize_t count, Change *room) except NULL:
    if count <= MOST_ON_STACK:
        return room
    room = <Change *> PyMem_Malloc(count * sizeof(Change))
    if room is NULL:
        raise MemoryError
    return room


cdef bint put_msgpack_patched(Buffer *buffer, Reader row, Changes *changes, set old_names) except -1:
    """Write a row with its changes; false, with anything written, if it is no map of msgpack, or has old names."""
    cdef Py_ssize_t i, count, begun
    cdef const char *name
    cdef Py_ssize_t size
    cdef const uint8_t *start = row.at
    cdef const uint8_t *copied
    cdef Change *change
    if not take_map_header(&row, &count):
        return False
    begun = buffer.size
    put_between(buffer, start, row.at)
    copied = row.at
    for i in range(count):
        change = NULL
        if take_text(&row, &name, &size):
            change = change_of(changes, <const uint8_t *> name, size)
            if change is NULL and is_old(old_names, <const uint8_t *> name, size):
                return False
        elif not skip(&row):
            return False
        start = row.at
        if not skip_value(&row):
            return False
        if change is not NULL:
            put_between(buffer, copied, start)
            put_bytes(buffer, <const char *> change.value.at, change.value.size)
            copied = row.at
    if row.at != row.end:
        return False
    put_between(buffer, copied, row.end)
    if changes.missing:
        for i in range(changes.count):
            change = &changes.all[i]
            if not change.found:
                put_bytes(buffer, <const char *> change.pair.at, change.pair.size)
        put_longer_header(buffer, begun, count + changes.missing)
    return True


cdef int put_longer_header(Buffer *buffer, Py_ssize_t begun, Py_ssize_t count) except -1:
    """Replace the header of the map that begins at ``begun``, of which what follows has ``count`` pairs."""
    cdef Reader old
    cdef Py_ssize_t ignored, size, header
    if count < 16 and <uint8_t> buffer.data[begun] & 0xF0 == 0x80:
        buffer.data[begun] = <char> (0x80 | count)
        return 0
    old.at = <const uint8_t *> buffer.data + begun
    old.end = <const uint8_t *> buffer.data + buffer.size
    take_map_header(&old, &ignored)
    size = (<char *> old.at - buffer.data) - begun
    header = 1 if count < 16 else 3 if count <= 0xFFFF else 5
    if header > size:
        reserve(buffer, header - size)
    memmove(buffer.data + begun + header, buffer.data + begun + size, buffer.size - begun - size)
    size = buffer.size + header - size
    buffer.size = begun
    put_map_header(buffer, count)
    buffer.size = size
    return 0


# -- JSON --------------------------------------------------------------------------------------------

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


# -- both --------------------------------------------------------------------------------------------

cdef object patched(
    Buffer *buffer, bytes payload, Py_ssize_t prefix, bytes packed, bint is_json, set old_names
):
    """Return a payload, of which the row follows a prefix, with changes; ``None`` if the general path has to."""
    cdef Change room[MOST_ON_STACK]
    cdef Changes changes
    cdef Reader row
    cdef bint done
    changes.all = room
    changes.expected = 0
    row.at = <const uint8_t *> PyBytes_AS_STRING(payload)
    row.end = row.at + PyBytes_GET_SIZE(payload)
    buffer.size = 0
    put_between(buffer, row.at, row.at + prefix)
    row.at += prefix
    try:
        if is_json:
            done = read_json_changes(packed, &changes, room) and put_json_patched(buffer, row, &changes, old_names)
        else:
            done = read_msgpack_changes(packed, &changes, room) and put_msgpack_patched(
                buffer, row, &changes, old_names
            )
        return PyBytes_FromStringAndSize(buffer.data, buffer.size) if done else None
    finally:
        if changes.all is not room:
            PyMem_Free(changes.all)


cdef object patched_alone(bytes row, bytes packed, bint is_json):
    cdef Buffer buffer
    buffer.size = 0
    buffer.capacity = PyBytes_GET_SIZE(row) + PyBytes_GET_SIZE(packed) + 1
    buffer.data = <char *> PyMem_Malloc(buffer.capacity)
    try:
        if buffer.data is NULL:
            raise MemoryError
        return patched(&buffer, row, 0, packed, is_json, None)
    finally:
        PyMem_Free(buffer.data)


def patch_msgpack(bytes row not None, bytes changes not None, old_names=None):
    """Put changes into a row; ``None`` if it is no map of msgpack."""
    if old_names:
        from ._patches_py import patch_msgpack as patch_and_rename  # rows with old names are few

        return patch_and_rename(row, changes, old_names)
    return patched_alone(row, changes, False)


def patch_json(bytes row not None, bytes changes not None, old_names=None):
    """Put changes into a row; ``None`` if it is no object of JSON."""
    if old_names:
        from ._patches_py import patch_json as patch_and_rename

        return patch_and_rename(row, changes, old_names)
    return patched_alone(row, changes, True)
