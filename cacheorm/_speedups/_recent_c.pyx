"""Values by key in order of use: twin of ``_recent_py.py``, which says what they do.

A hash table of its own and not a ``dict``, for two reasons. Where a value lies, its place in the order of use and its
deadline are one entry, 40 bytes in one array: one look finds all, and what is written over leaves nothing behind. And
who reads many keys can say beforehand where it is going to look. In a table that is larger than the processor's caches,
each of the four looks that a key takes waits for memory; of keys that are known beforehand, those of one are fetched
while others are looked at ("group prefetching", Chen, Ailamaki, Gibbons and Mowry, "Improving Hash Join Performance
through Prefetching", ICDE 2004).

Only exact ``str`` and ``bytes`` are held, so none of their references runs any code when it is given up, and there is
nothing for the garbage collector to visit. While the table is changed, nothing is called that could let other code run.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_Hash
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.unicode cimport (PyUnicode_CheckExact, PyUnicode_DATA, PyUnicode_FromObject, PyUnicode_GET_LENGTH,
                              PyUnicode_KIND)
from libc.math cimport INFINITY, NAN, isnan
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memset

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define CACHEORM_FETCH(at) __builtin_prefetch(at)
    #else
    #define CACHEORM_FETCH(at) ((void)(at))
    #endif
    """
    void fetch "CACHEORM_FETCH"(const void *at) noexcept

cdef extern from "Python.h":
    PyObject *PySequence_Fast_GET_ITEM "PySequence_Fast_GET_ITEM"(object sequence, Py_ssize_t i) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence) noexcept

__all__ = ["Recent", "is_exact"]


cdef struct Entry:
    PyObject *key       # owned, an exact str; NULL where the entry is free
    PyObject *value     # owned, exact bytes
    uint32_t hash       # the lower half of the key's
    uint32_t before     # its neighbours in order of use
    uint32_t after      # of a free entry, the next free one
    uint32_t timer      # that of its deadline, 0 if it has none
    uint32_t prior      # its neighbours among the entries of its timer, 0 where there is none
    uint32_t next


cdef struct Timer:
    double deadline
    uint32_t first      # of its entries; of a free timer, the next free one
    uint32_t place      # in the heap


cdef enum:
    FEWEST_SLOTS = 16
    FEWEST_ENTRIES = 8
    FEWEST_TIMERS = 8
    MOST_ENTRIES = 1 << 30
    # Slots of a table that outgrows the caches: below, fetching beforehand takes more than it saves.
    LARGE = 1 << 14
    # How many keys beforehand its slot, its entry, and what the entry refers to are fetched.
    SLOT_AHEAD = 24
    ENTRY_AHEAD = 16
    VALUE_AHEAD = 8


cdef inline bint same(PyObject *one, PyObject *other) noexcept:
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
    return <uint32_t> PyObject_Hash(<object> key)


cdef object text(object key):
    """Give the text of a key as an exact ``str``, and ``None`` for what is no ``str``."""
    if PyUnicode_CheckExact(key):
        return key
    return PyUnicode_FromObject(key) if isinstance(key, str) else None


cdef object exact_bytes(object value):
    return value if PyBytes_CheckExact(value) else PyBytes_FromStringAndSize(
        PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
    )


cpdef bint is_exact(object batch):
    """Tell whether a batch is a ``dict`` of exact strings and bytes."""
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t at = 0
    if type(batch) is not dict:
        return False
    while PyDict_Next(batch, &at, &key, &value):
        if not (PyUnicode_CheckExact(<object> key) and PyBytes_CheckExact(<object> value)):
            return False
    return True


cdef object exact_batch(object batch):
    """Give a batch as a ``dict`` of exact strings and bytes: itself if it is one."""
    if is_exact(batch):
        return batch
    made = {}
    for name, content in batch.items():
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise TypeError("a key is a str, and a value bytes")
        # As when they are stored one by one, the later of two with the same text is the last.
        made.pop(text(name), None)
        made[text(name)] = exact_bytes(content)
    return made


cdef class Recent:
    """Bytes under ``str`` keys, the least recently used first: see the twin."""

    # The first entry is none, but both neighbours of the whole: the order of use is a ring.
    cdef Entry *_entries
    # For each slot the lower half of the hash, and the entry: 0 where there is none.
    cdef uint64_t *_slots
    cdef uint32_t _mask      # slots - 1, a power of two less one
    cdef uint32_t _room      # entries that there is memory for
    cdef uint32_t _begun     # entries that have ever been used
    cdef uint32_t _free      # the first free one of those
    cdef uint32_t _count
    cdef uint32_t _timed     # entries with a timer
    # The first timer is none. Each has entries; the heap has the earliest one first.
    cdef Timer *_timers
    cdef uint32_t *_heap
    cdef uint32_t _timer_room
    cdef uint32_t _begun_timers
    cdef uint32_t _free_timer
    cdef uint32_t _waiting   # timers in the heap

    def __cinit__(self):
        self._entries = <Entry *> PyMem_Malloc(FEWEST_ENTRIES * sizeof(Entry))
        self._slots = <uint64_t *> PyMem_Malloc(FEWEST_SLOTS * sizeof(uint64_t))
        self._timers = <Timer *> PyMem_Malloc(FEWEST_TIMERS * sizeof(Timer))
        self._heap = <uint32_t *> PyMem_Malloc(FEWEST_TIMERS * sizeof(uint32_t))
        if self._entries is NULL or self._slots is NULL or self._timers is NULL or self._heap is NULL:
            raise MemoryError
        self._timer_room = FEWEST_TIMERS
        self._room = FEWEST_ENTRIES
        self._mask = FEWEST_SLOTS - 1
        self._reset()

    def __dealloc__(self):
        # Begun are none if it could not be made.
        self._give_up(self._entries)
        PyMem_Free(self._entries)
        PyMem_Free(self._slots)
        PyMem_Free(self._timers)
        PyMem_Free(self._heap)

    def __len__(self):
        return self._count

    def __iter__(self):
        return iter([key for key, _ in self.items()])

    def __contains__(self, key):
        return self._find(key) != 0

    def items(self):
        """Return keys and values in order of use."""
        # To make lists may let other code run, so they are there before the first look.
        cdef Py_ssize_t count = self._count
        cdef list keys = [None] * count
        cdef list values = [None] * count
        cdef Py_ssize_t i = 0
        cdef uint32_t at = self._entries[0].after
        while at and i < count:
            keys[i] = <object> self._entries[at].key
            values[i] = <object> self._entries[at].value
            at = self._entries[at].after
            i += 1
        return list(zip(keys[:i], values[:i]))

    def get(self, key):
        """Return the value of a key, which is no use of it."""
        cdef uint32_t at = self._find(key)
        return <object> self._entries[at].value if at else None

    def use(self, key):
        """Return the value of a key."""
        cdef uint32_t at = self._find(key)
        if not at:
            return None
        self._to_end(at)
        return <object> self._entries[at].value

    def use_many(self, keys):
        """Return the values of keys in their order, ``None`` for each that has none, and how many those are."""
        cdef Py_ssize_t i, count
        cdef Py_ssize_t missed = 0
        cdef uint32_t at
        cdef object value
        if not isinstance(keys, (list, tuple)):
            raise TypeError("keys are a list or a tuple")
        count = PySequence_Fast_GET_SIZE(keys)
        for i in range(count):
            if not PyUnicode_CheckExact(<object> PySequence_Fast_GET_ITEM(keys, i)):
                keys = [text(key) for key in keys]
                break
        cdef list values = PyList_New(count)
        if PySequence_Fast_GET_SIZE(keys) != count:
            # To make the list may let other code run. From here on nothing runs but this loop.
            raise RuntimeError("keys changed size while they were read")
        cdef bint ahead = self._mask >= LARGE
        for i in range(count):
            if ahead:
                if i + SLOT_AHEAD < count:
                    self._fetch_slot(PySequence_Fast_GET_ITEM(keys, i + SLOT_AHEAD))
                if i + ENTRY_AHEAD < count:
                    self._fetch_entry(PySequence_Fast_GET_ITEM(keys, i + ENTRY_AHEAD))
                if i + VALUE_AHEAD < count:
                    self._fetch_value(PySequence_Fast_GET_ITEM(keys, i + VALUE_AHEAD))
            at = self._find_exact(PySequence_Fast_GET_ITEM(keys, i))
            if at:
                self._to_end(at)
                value = <object> self._entries[at].value
            else:
                value = None
                missed += 1
            Py_INCREF(value)
            PyList_SET_ITEM(values, i, value)
        return values, missed

    def put(self, key, value, deadline):
        """Store a value; with ``None``, one that was there keeps its deadline."""
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise TypeError("a key is a str, and a value bytes")
        cdef uint32_t timer = 0
        key, value = text(key), exact_bytes(value)
        self._put(<PyObject *> key, <PyObject *> value, NAN if deadline is None else deadline, &timer)

    def put_many(self, batch, deadline):
        """Store values in their order; see :meth:`put`. Nothing is stored if one of them cannot be."""
        cdef PyObject *key
        cdef PyObject *value
        cdef Py_ssize_t at = 0, slot_at = 0, entry_at = 0, value_at = 0
        cdef int i
        cdef uint32_t timer = 0
        cdef double until = NAN if deadline is None else deadline
        batch = exact_batch(batch)
        cdef bint ahead = self._mask >= LARGE
        # So far ahead of the one that is stored go those for which something is fetched.
        for i in range(SLOT_AHEAD if ahead else 0):
            if PyDict_Next(batch, &slot_at, &key, NULL):
                self._fetch_slot(key)
            if i >= SLOT_AHEAD - ENTRY_AHEAD and PyDict_Next(batch, &entry_at, &key, NULL):
                self._fetch_entry(key)
            if i >= SLOT_AHEAD - VALUE_AHEAD and PyDict_Next(batch, &value_at, &key, NULL):
                self._fetch_value(key)
        while PyDict_Next(batch, &at, &key, &value):
            self._put(key, value, until, &timer)
            if ahead:
                if PyDict_Next(batch, &slot_at, &key, NULL):
                    self._fetch_slot(key)
                if PyDict_Next(batch, &entry_at, &key, NULL):
                    self._fetch_entry(key)
                if PyDict_Next(batch, &value_at, &key, NULL):
                    self._fetch_value(key)

    def remove(self, key):
        """Remove a value. Return whether there was one."""
        cdef uint32_t at = self._find(key)
        if not at:
            return False
        self._remove(at)
        return True

    def remove_first(self):
        """Remove the least recently used value, if there is any."""
        if self._count:
            self._remove(self._entries[0].after)

    def clear(self):
        """Remove all values, and give back what they took."""
        cdef Entry *entries = self._entries
        cdef uint64_t *slots = self._slots
        cdef Entry *few = <Entry *> PyMem_Malloc(FEWEST_ENTRIES * sizeof(Entry))
        cdef uint64_t *fewest = <uint64_t *> PyMem_Malloc(FEWEST_SLOTS * sizeof(uint64_t))
        if few is NULL or fewest is NULL:
            PyMem_Free(few)
            PyMem_Free(fewest)
            raise MemoryError
        self._give_up(entries)
        self._entries, self._slots, self._room, self._mask = few, fewest, FEWEST_ENTRIES, FEWEST_SLOTS - 1
        self._reset()
        PyMem_Free(entries)
        PyMem_Free(slots)

    # -- deadlines -------------------------------------------------------------------------------

    @property
    def timed(self):
        """How many values have a deadline."""
        return self._timed

    @property
    def timers(self):
        """How many deadlines there are to wait for; it does not grow with what was written over."""
        return self._waiting

    @property
    def next_deadline(self):
        """No value has an earlier deadline; infinity if none has any."""
        return self._timers[self._heap[0]].deadline if self._waiting else INFINITY

    def deadline(self, key):
        """Return a key's deadline, ``None`` if it has no value."""
        cdef uint32_t at = self._find(key)
        if not at:
            return None
        return self._timers[self._entries[at].timer].deadline if self._entries[at].timer else INFINITY

    def set_deadlines(self, keys, double deadline):
        """Give values another deadline, which is no use of them. Return for each key whether it has one."""
        if not isinstance(keys, (list, tuple)):
            raise TypeError("keys are a list or a tuple")
        cdef list texts = [text(key) for key in keys]
        cdef list found = [False] * len(texts)
        cdef Py_ssize_t i
        cdef uint32_t at
        cdef uint32_t timer = 0
        self._reserve_timer()
        # From here on nothing runs but this loop.
        for i in range(len(texts)):
            at = self._find_exact(<PyObject *> texts[i])
            if not at:
                continue
            found[i] = True
            # A key may come twice; its timer must not end with it.
            if timer and self._entries[at].timer == timer:
                continue
            self._untime(at)
            if deadline != INFINITY:
                if not timer:
                    timer = self._begin(deadline)
                self._time(at, timer)
        return found

    def expire(self, double now):
        """Remove the values whose deadlines are not after ``now``. Return how many."""
        cdef Py_ssize_t count = 0
        # A timer goes with the last of its values.
        while self._waiting and self._timers[self._heap[0]].deadline <= now:
            self._remove(self._timers[self._heap[0]].first)
            count += 1
        return count

    # -- how: no other code runs in any of these -------------------------------------------------

    cdef void _reset(self) noexcept:
        memset(self._slots, 0, (<size_t> self._mask + 1) * sizeof(uint64_t))
        self._entries[0].key = self._entries[0].value = NULL
        self._entries[0].before = self._entries[0].after = 0
        self._begun = self._begun_timers = 1
        self._free = self._count = self._timed = self._free_timer = self._waiting = 0

    cdef void _give_up(self, Entry *entries) noexcept:
        """Give up the references of all entries in use."""
        cdef uint32_t at
        for at in range(1, self._begun):
            Py_XDECREF(entries[at].key)
            Py_XDECREF(entries[at].value)

    cdef uint32_t _find(self, object key):
        """Give the entry of a key of any kind, 0 without one."""
        if PyUnicode_CheckExact(key):
            return self._find_exact(<PyObject *> key)
        key = text(key)
        return 0 if key is None else self._find_exact(<PyObject *> key)

    cdef inline uint32_t _find_exact(self, PyObject *key) noexcept:
        """Give the entry of an exact string (or ``None``, which has none), 0 without one."""
        if not PyUnicode_CheckExact(<object> key):
            return 0
        cdef uint32_t hash = hash_of(key)
        cdef uint32_t slot = hash & self._mask
        cdef uint64_t held = self._slots[slot]
        while held:
            if <uint32_t> (held >> 32) == hash and same(self._entries[<uint32_t> held].key, key):
                return <uint32_t> held
            slot = (slot + 1) & self._mask
            held = self._slots[slot]
        return 0

    # These have fetched from memory what a look for a key takes. What lies there is another's at worst, which does no
    # harm; nearly always it is the first slot that has it.

    cdef inline void _fetch_slot(self, PyObject *key) noexcept:
        if PyUnicode_CheckExact(<object> key):
            fetch(&self._slots[hash_of(key) & self._mask])

    cdef inline void _fetch_entry(self, PyObject *key) noexcept:
        if PyUnicode_CheckExact(<object> key):
            fetch(&self._entries[<uint32_t> self._slots[hash_of(key) & self._mask]])

    cdef inline void _fetch_value(self, PyObject *key) noexcept:
        cdef uint64_t held
        cdef Entry *entry
        if PyUnicode_CheckExact(<object> key):
            held = self._slots[hash_of(key) & self._mask]
            entry = &self._entries[<uint32_t> held]
            if <uint32_t> (held >> 32) == hash_of(key):
                fetch(entry.key)
                fetch(entry.value)
                fetch(<char *> entry.value + 64)
                fetch(<char *> entry.value + 128)
                fetch(&self._entries[entry.before])
                fetch(&self._entries[entry.after])

    cdef inline void _to_end(self, uint32_t at) noexcept:
        cdef Entry *entries = self._entries
        if entries[at].after == 0:
            return
        self._unlink(at)
        self._link(at)

    cdef inline void _link(self, uint32_t at) noexcept:
        cdef Entry *entries = self._entries
        cdef uint32_t last = entries[0].before
        entries[at].before = last
        entries[at].after = 0
        entries[last].after = at
        entries[0].before = at

    cdef inline void _unlink(self, uint32_t at) noexcept:
        cdef Entry *entries = self._entries
        entries[entries[at].before].after = entries[at].after
        entries[entries[at].after].before = entries[at].before

    cdef int _put(self, PyObject *key, PyObject *value, double deadline, uint32_t *timer) except -1:
        """Store a value.

        ``timer`` is that of the values that were stored with it; 0 for the first of them, which then begins one.
        """
        cdef bint timed = not isnan(deadline) and deadline != INFINITY
        cdef uint32_t at
        cdef PyObject *old
        # What can fail comes before anything is changed.
        self._reserve_entry()
        if timed:
            self._reserve_timer()
        at = self._find_exact(key)
        Py_INCREF(<object> value)
        if at:
            old = self._entries[at].value
            self._entries[at].value = value
            Py_DECREF(<object> old)
            self._to_end(at)
            if not isnan(deadline):
                self._untime(at)
        else:
            Py_INCREF(<object> key)
            at = self._take()
            self._entries[at].key = key
            self._entries[at].value = value
            self._entries[at].hash = hash_of(key)
            self._entries[at].timer = 0
            self._link(at)
            self._enter(at)
            self._count += 1
        if timed:
            if not timer[0]:
                timer[0] = self._begin(deadline)
            self._time(at, timer[0])
        return 0

    cdef int _reserve_entry(self) except -1:
        """See that there is room for one more entry, and a slot for it."""
        # At most two of three slots are in use, so that looks stay short.
        if 3 * (<uint64_t> self._count + 1) > 2 * (<uint64_t> self._mask + 1):
            self._spread()
        if not self._free and self._begun == self._room:
            self._grow()
        return 0

    cdef uint32_t _take(self) noexcept:
        """Give a free entry, of those that there is room for."""
        cdef uint32_t at = self._free
        if at:
            self._free = self._entries[at].after
        else:
            at = self._begun
            self._begun += 1
        return at

    cdef int _grow(self) except -1:
        if self._room >= MOST_ENTRIES:
            raise MemoryError
        cdef size_t room = 2 * <size_t> self._room
        cdef Entry *grown = <Entry *> PyMem_Realloc(self._entries, room * sizeof(Entry))
        if grown is NULL:
            raise MemoryError
        self._entries, self._room = grown, <uint32_t> room
        return 0

    cdef int _spread(self) except -1:
        """Double the slots."""
        cdef size_t count = 2 * (<size_t> self._mask + 1)
        cdef uint64_t *slots = <uint64_t *> PyMem_Malloc(count * sizeof(uint64_t))
        cdef uint32_t at
        if slots is NULL:
            raise MemoryError
        memset(slots, 0, count * sizeof(uint64_t))
        PyMem_Free(self._slots)
        self._slots, self._mask = slots, <uint32_t> (count - 1)
        for at in range(1, self._begun):
            if self._entries[at].key is not NULL:
                self._enter(at)
        return 0

    cdef inline void _enter(self, uint32_t at) noexcept:
        """Have an entry found."""
        cdef uint32_t hash = self._entries[at].hash
        cdef uint32_t slot = hash & self._mask
        while self._slots[slot]:
            slot = (slot + 1) & self._mask
        self._slots[slot] = <uint64_t> hash << 32 | at

    cdef void _remove(self, uint32_t at) noexcept:
        cdef Entry *entry = &self._entries[at]
        cdef PyObject *key = entry.key
        cdef PyObject *value = entry.value
        self._leave(at)
        self._unlink(at)
        self._untime(at)
        entry.key = entry.value = NULL
        entry.after = self._free
        self._free = at
        self._count -= 1
        Py_DECREF(<object> key)
        Py_DECREF(<object> value)

    cdef void _leave(self, uint32_t at) noexcept:
        """Have an entry no longer found, and close the gap that it leaves (Knuth, volume 3, 6.4, algorithm R)."""
        cdef uint32_t mask = self._mask
        cdef uint32_t gap = self._entries[at].hash & mask
        cdef uint32_t slot, home
        while <uint32_t> self._slots[gap] != at:
            gap = (gap + 1) & mask
        slot = (gap + 1) & mask
        while self._slots[slot]:
            home = <uint32_t> (self._slots[slot] >> 32) & mask
            # It may move up unless it would lie before the slot where looks for it begin.
            if ((slot - home) & mask) >= ((slot - gap) & mask):
                self._slots[gap] = self._slots[slot]
                gap = slot
            slot = (slot + 1) & mask
        self._slots[gap] = 0

    # -- how: timers, in a heap, each with a list of the entries whose deadline it is --------------------

    cdef int _reserve_timer(self) except -1:
        """See that there is room for one more timer."""
        cdef size_t room
        cdef void *grown
        if self._free_timer or self._begun_timers < self._timer_room:
            return 0
        room = 2 * <size_t> self._timer_room
        grown = PyMem_Realloc(self._timers, room * sizeof(Timer))
        if grown is NULL:
            raise MemoryError
        self._timers = <Timer *> grown
        # If this one fails, the other has more room than it is known to have.
        grown = PyMem_Realloc(self._heap, room * sizeof(uint32_t))
        if grown is NULL:
            raise MemoryError
        self._heap = <uint32_t *> grown
        self._timer_room = <uint32_t> room
        return 0

    cdef uint32_t _begin(self, double deadline) noexcept:
        """Give a new timer, of those that there is room for."""
        cdef uint32_t timer = self._free_timer
        if timer:
            self._free_timer = self._timers[timer].first
        else:
            timer = self._begun_timers
            self._begun_timers += 1
        self._timers[timer].deadline = deadline
        self._timers[timer].first = 0
        self._waiting += 1
        self._rise(self._waiting - 1, timer)
        return timer

    cdef inline void _time(self, uint32_t at, uint32_t timer) noexcept:
        """Add an entry that has no timer to those of one."""
        cdef uint32_t first = self._timers[timer].first
        self._entries[at].timer = timer
        self._entries[at].prior = 0
        self._entries[at].next = first
        if first:
            self._entries[first].prior = at
        self._timers[timer].first = at
        self._timed += 1

    cdef inline void _untime(self, uint32_t at) noexcept:
        """Take an entry from its timer, if it has one, and end a timer that has no other."""
        cdef Entry *entry = &self._entries[at]
        cdef uint32_t timer = entry.timer
        if not timer:
            return
        if entry.prior:
            self._entries[entry.prior].next = entry.next
        else:
            self._timers[timer].first = entry.next
        if entry.next:
            self._entries[entry.next].prior = entry.prior
        entry.timer = 0
        self._timed -= 1
        if not self._timers[timer].first:
            self._end(timer)

    cdef void _end(self, uint32_t timer) noexcept:
        cdef uint32_t place = self._timers[timer].place
        cdef uint32_t last
        self._waiting -= 1
        if place != self._waiting:
            # The last one takes its place, from where it has to go up or down.
            last = self._heap[self._waiting]
            self._sink(place, last)
            self._rise(self._timers[last].place, last)
        self._timers[timer].first = self._free_timer
        self._free_timer = timer

    cdef void _rise(self, uint32_t place, uint32_t timer) noexcept:
        """Put a timer in a place of the heap, or where those above it are earlier."""
        cdef double deadline = self._timers[timer].deadline
        cdef uint32_t above
        while place:
            above = (place - 1) // 2
            if self._timers[self._heap[above]].deadline <= deadline:
                break
            self._set(place, self._heap[above])
            place = above
        self._set(place, timer)

    cdef void _sink(self, uint32_t place, uint32_t timer) noexcept:
        """Put a timer in a place of the heap, or where those below it are later."""
        cdef double deadline = self._timers[timer].deadline
        cdef uint64_t below
        while True:
            below = 2 * <uint64_t> place + 1
            if below >= self._waiting:
                break
            if below + 1 < self._waiting and (
                self._timers[self._heap[below + 1]].deadline < self._timers[self._heap[below]].deadline
            ):
                below += 1
            if deadline <= self._timers[self._heap[below]].deadline:
                break
            self._set(place, self._heap[below])
            place = <uint32_t> below
        self._set(place, timer)

    cdef inline void _set(self, uint32_t place, uint32_t timer) noexcept:
        self._heap[place] = timer
        self._timers[timer].place = place
