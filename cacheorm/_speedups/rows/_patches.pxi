"""Putting the changed fields of a row into its packed form: the C version of ``_patches_py.py``, which documents it."""

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


cdef Change *make_room(Py_ssize_t count, Change *room) except NULL:
    if count <= MOST_ON_STACK:
        return room
    room = <Change *> PyMem_Malloc(count * sizeof(Change))
    if room is NULL:
        raise MemoryError
    return room


include "_msgpack_patches.pxi"
include "_json_patches.pxi"


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
