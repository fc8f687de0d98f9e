"""A hash table of values by key, whose entries are linked in order of use and have deadlines.

A table of its own and not a ``dict``, for two reasons. Where a value lies, its place in the order of use and its
deadline are one entry, 40 bytes in one array: one look finds all, and what is written over leaves nothing behind. And
its memory can be prefetched. In a table that is larger than the processor's caches, each of the four accesses that a
key takes stalls until memory has answered. When many keys are read, what later keys need is fetched meanwhile ("group
prefetching", Chen, Ailamaki, Gibbons and Mowry, "Improving Hash Join Performance through Prefetching", ICDE 2004).

Only exact ``str`` and ``bytes`` are held, so releasing a reference runs no code, and the garbage collector has nothing
to visit. No other code runs in any of these functions.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.math cimport INFINITY, isnan
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from ._timers cimport *

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define CACHEORM_PREFETCH(at) __builtin_prefetch(at)
    #else
    #define CACHEORM_PREFETCH(at) ((void)(at))
    #endif
    """
    void prefetch "CACHEORM_PREFETCH"(const void *at) noexcept


cdef struct Entry:
    PyObject *key       # owned, an exact str; NULL where the entry is free
    PyObject *value     # owned, exact bytes
    uint32_t hash       # the lower half of the key's
    uint32_t before     # its neighbours in order of use
    uint32_t after      # of a free entry, the next free one
    uint32_t timer      # that of its deadline, 0 if it has none
    uint32_t prior      # its neighbours among the entries of its timer, 0 where there is none
    uint32_t next


cdef struct Table:
    # The first entry is none, but both neighbours of the whole: the order of use is a ring.
    Entry *entries
    # For each slot the lower half of the hash, and the entry: 0 where there is none.
    uint64_t *slots
    uint32_t mask       # slots - 1, a power of two less one
    uint32_t room       # entries that there is memory for
    uint32_t begun      # entries that have ever been used
    uint32_t free       # the first free one of those
    uint32_t count
    uint32_t timed      # entries with a timer
    bint measured       # whether `size` is kept
    int64_t size        # of all keys and values together
    Timers timers


cdef enum:
    FEWEST_SLOTS = 16
    FEWEST_ENTRIES = 8
    MOST_ENTRIES = 1 << 30


cdef inline bint equal_text(PyObject *one, PyObject *other) noexcept:
    """Tell whether two exact strings are equal."""
    if one == other:
        return True
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(<object> one)
    cdef int kind = PyUnicode_KIND(<object> one)
    # A string has the narrowest kind that holds it, so equal strings have the same.
    return (
        length == PyUnicode_GET_LENGTH(<object> other)
        and kind == PyUnicode_KIND(<object> other)
        and memcmp(PyUnicode_DATA(<object> one), PyUnicode_DATA(<object> other), <size_t> (length * kind)) == 0
    )


cdef inline uint32_t hash_of(PyObject *key) noexcept:
    # A string's hash cannot fail. It is kept in the string, so that asking twice costs nothing.
    return <uint32_t> PyObject_Hash(<object> key)  # held: by the table or the caller; that of a str runs no code


cdef inline int64_t size_of(PyObject *key, PyObject *value) noexcept:
    """Return the size of an entry: the characters of its key and the bytes of its value."""
    return PyUnicode_GET_LENGTH(<object> key) + PyBytes_GET_SIZE(<object> value)


cdef inline int64_t size_of_all(const Table *table) noexcept:
    """Return the size of all entries together."""
    cdef int64_t size = 0
    cdef uint32_t at
    if table.measured:
        return table.size
    for at in range(1, table.begun):
        if table.entries[at].key is not NULL:
            size += size_of(table.entries[at].key, table.entries[at].value)
    return size


cdef inline void reset(Table *table) noexcept:
    memset(table.slots, 0, (<size_t> table.mask + 1) * sizeof(uint64_t))
    table.entries[0].key = table.entries[0].value = NULL
    table.entries[0].before = table.entries[0].after = 0
    table.begun = 1
    table.free = table.count = table.timed = 0
    table.size = 0
    forget_timers(&table.timers)


cdef inline void release(Table *table, Entry *entries) noexcept:
    """Release the references of all entries in use."""
    cdef uint32_t at
    for at in range(1, table.begun):
        Py_XDECREF(entries[at].key)
        Py_XDECREF(entries[at].value)


cdef inline bint allocate(Table *table) noexcept:
    """Allocate an empty table; false if there is no memory."""
    table.entries = <Entry *> PyMem_Malloc(FEWEST_ENTRIES * sizeof(Entry))
    table.slots = <uint64_t *> PyMem_Malloc(FEWEST_SLOTS * sizeof(uint64_t))
    if not allocate_timers(&table.timers) or table.entries is NULL or table.slots is NULL:
        return False
    table.room = FEWEST_ENTRIES
    table.mask = FEWEST_SLOTS - 1
    reset(table)
    return True


cdef inline void deallocate(Table *table) noexcept:
    # Begun are none if it could not be allocated.
    release(table, table.entries)
    PyMem_Free(table.entries)
    PyMem_Free(table.slots)
    deallocate_timers(&table.timers)


cdef inline bint empty(Table *table) noexcept:
    """Remove all entries, and free their memory; false, with nothing changed, if there is no memory."""
    cdef Entry *entries = table.entries
    cdef uint64_t *slots = table.slots
    cdef Entry *few = <Entry *> PyMem_Malloc(FEWEST_ENTRIES * sizeof(Entry))
    cdef uint64_t *fewest = <uint64_t *> PyMem_Malloc(FEWEST_SLOTS * sizeof(uint64_t))
    if few is NULL or fewest is NULL:
        PyMem_Free(few)
        PyMem_Free(fewest)
        return False
    release(table, entries)
    table.entries, table.slots, table.room, table.mask = few, fewest, FEWEST_ENTRIES, FEWEST_SLOTS - 1
    reset(table)
    PyMem_Free(entries)
    PyMem_Free(slots)
    return True


cdef inline uint32_t find(Table *table, PyObject *key) noexcept:
    """Return the entry of an exact string, 0 without one and for ``None``."""
    if not PyUnicode_CheckExact(<object> key):
        return 0
    cdef uint32_t hash = hash_of(key)
    cdef uint32_t slot = hash & table.mask
    cdef uint64_t held = table.slots[slot]
    while held:
        if <uint32_t> (held >> 32) == hash and equal_text(table.entries[<uint32_t> held].key, key):
            return <uint32_t> held
        slot = (slot + 1) & table.mask
        held = table.slots[slot]
    return 0


# What follows prefetches what a lookup needs, by the first slot of a key. It may be that of another: that does no harm.

cdef inline void prefetch_slot(Table *table, PyObject *key) noexcept:
    if PyUnicode_CheckExact(<object> key):
        prefetch(&table.slots[hash_of(key) & table.mask])


cdef inline void prefetch_entry(Table *table, PyObject *key) noexcept:
    if PyUnicode_CheckExact(<object> key):
        prefetch(&table.entries[<uint32_t> table.slots[hash_of(key) & table.mask]])


cdef inline void prefetch_value(Table *table, PyObject *key) noexcept:
    cdef uint64_t held
    cdef Entry *entry
    if PyUnicode_CheckExact(<object> key):
        held = table.slots[hash_of(key) & table.mask]
        entry = &table.entries[<uint32_t> held]
        if <uint32_t> (held >> 32) == hash_of(key):
            prefetch(entry.key)
            prefetch(entry.value)
            prefetch(<char *> entry.value + 64)
            prefetch(<char *> entry.value + 128)
            prefetch(&table.entries[entry.before])
            prefetch(&table.entries[entry.after])


cdef inline void move_to_end(Table *table, uint32_t at) noexcept:
    cdef Entry *entries = table.entries
    if entries[at].after == 0:
        return
    unlink(table, at)
    link(table, at)


cdef inline void link(Table *table, uint32_t at) noexcept:
    cdef Entry *entries = table.entries
    cdef uint32_t last = entries[0].before
    entries[at].before = last
    entries[at].after = 0
    entries[last].after = at
    entries[0].before = at


cdef inline void unlink(Table *table, uint32_t at) noexcept:
    cdef Entry *entries = table.entries
    entries[entries[at].before].after = entries[at].after
    entries[entries[at].after].before = entries[at].before


cdef inline int store(Table *table, PyObject *key, PyObject *value, double deadline, uint32_t *timer) except -1:
    """Store a value.

    ``timer`` is that of the values that were stored with it; 0 for the first of them, which then begins one.
    """
    cdef bint timed = not isnan(deadline) and deadline != INFINITY
    cdef uint32_t at
    cdef PyObject *old
    # What can fail comes before anything is changed.
    reserve_entry(table)
    if timed:
        reserve_timer(&table.timers)
    at = find(table, key)
    Py_INCREF(<object> value)
    if table.measured:
        table.size += size_of(key, value)
    if at:
        old = table.entries[at].value
        if table.measured:
            table.size -= size_of(key, old)
        table.entries[at].value = value
        Py_DECREF(<object> old)
        move_to_end(table, at)
        if not isnan(deadline):
            remove_from_timer(table, at)
    else:
        Py_INCREF(<object> key)
        at = take_entry(table)
        table.entries[at].key = key
        table.entries[at].value = value
        table.entries[at].hash = hash_of(key)
        table.entries[at].timer = 0
        link(table, at)
        insert_slot(table, at)
        table.count += 1
    if timed:
        if not timer[0]:
            timer[0] = begin_timer(&table.timers, deadline)
        add_to_timer(table, at, timer[0])
    return 0


cdef inline int reserve_entry(Table *table) except -1:
    """Make room for one more entry, and a slot for it."""
    # At most two of three slots are in use, so that looks stay short.
    if 3 * (<uint64_t> table.count + 1) > 2 * (<uint64_t> table.mask + 1):
        double_slots(table)
    if not table.free and table.begun == table.room:
        grow(table)
    return 0


cdef inline uint32_t take_entry(Table *table) noexcept:
    """Return a free entry; :func:`reserve_entry` has made room for it."""
    cdef uint32_t at = table.free
    if at:
        table.free = table.entries[at].after
    else:
        at = table.begun
        table.begun += 1
    return at


cdef inline int grow(Table *table) except -1:
    if table.room >= MOST_ENTRIES:
        raise MemoryError
    cdef size_t room = 2 * <size_t> table.room
    cdef Entry *grown = <Entry *> PyMem_Realloc(table.entries, room * sizeof(Entry))
    if grown is NULL:
        raise MemoryError
    table.entries, table.room = grown, <uint32_t> room
    return 0


cdef inline int double_slots(Table *table) except -1:
    """Double the slots."""
    cdef size_t count = 2 * (<size_t> table.mask + 1)
    cdef uint64_t *slots = <uint64_t *> PyMem_Malloc(count * sizeof(uint64_t))
    cdef uint32_t at
    if slots is NULL:
        raise MemoryError
    memset(slots, 0, count * sizeof(uint64_t))
    PyMem_Free(table.slots)
    table.slots, table.mask = slots, <uint32_t> (count - 1)
    for at in range(1, table.begun):
        if table.entries[at].key is not NULL:
            insert_slot(table, at)
    return 0


cdef inline void insert_slot(Table *table, uint32_t at) noexcept:
    """Insert an entry into the slots."""
    cdef uint32_t hash = table.entries[at].hash
    cdef uint32_t slot = hash & table.mask
    while table.slots[slot]:
        slot = (slot + 1) & table.mask
    table.slots[slot] = <uint64_t> hash << 32 | at


cdef inline void remove(Table *table, uint32_t at) noexcept:
    cdef Entry *entry = &table.entries[at]
    cdef PyObject *key = entry.key
    cdef PyObject *value = entry.value
    if table.measured:
        table.size -= size_of(key, value)
    delete_slot(table, at)
    unlink(table, at)
    remove_from_timer(table, at)
    entry.key = entry.value = NULL
    entry.after = table.free
    table.free = at
    table.count -= 1
    Py_DECREF(<object> key)
    Py_DECREF(<object> value)


cdef inline void delete_slot(Table *table, uint32_t at) noexcept:
    """Delete an entry from the slots, and close the gap that it leaves (Knuth, volume 3, 6.4, algorithm R)."""
    cdef uint32_t mask = table.mask
    cdef uint32_t gap = table.entries[at].hash & mask
    cdef uint32_t slot, home
    while <uint32_t> table.slots[gap] != at:
        gap = (gap + 1) & mask
    slot = (gap + 1) & mask
    while table.slots[slot]:
        home = <uint32_t> (table.slots[slot] >> 32) & mask
        # It may move up unless it would lie before the slot where looks for it begin.
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            table.slots[gap] = table.slots[slot]
            gap = slot
        slot = (slot + 1) & mask
    table.slots[gap] = 0

# -- how: timers, in a heap, each with a list of the entries whose deadline it is --------------------


cdef inline void add_to_timer(Table *table, uint32_t at, uint32_t timer) noexcept:
    """Add an entry that has no timer to those of one."""
    cdef uint32_t first = table.timers.all[timer].first
    table.entries[at].timer = timer
    table.entries[at].prior = 0
    table.entries[at].next = first
    if first:
        table.entries[first].prior = at
    table.timers.all[timer].first = at
    table.timed += 1


cdef inline void remove_from_timer(Table *table, uint32_t at) noexcept:
    """Take an entry from its timer, if it has one, and end a timer that has no other."""
    cdef Entry *entry = &table.entries[at]
    cdef uint32_t timer = entry.timer
    if not timer:
        return
    if entry.prior:
        table.entries[entry.prior].next = entry.next
    else:
        table.timers.all[timer].first = entry.next
    if entry.next:
        table.entries[entry.next].prior = entry.prior
    entry.timer = 0
    table.timed -= 1
    if not table.timers.all[timer].first:
        end_timer(&table.timers, timer)
