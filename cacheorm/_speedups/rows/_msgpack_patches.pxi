"""Putting changed fields into rows of msgpack."""

from libc.string cimport memmove


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
