"""Values by key in order of use, with deadlines: the C version of ``_lru_table_py.py``, which documents it.

While the table is changed, nothing is called that could let other code run.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_FromObject
from libc.math cimport INFINITY, NAN
from libc.stdint cimport uint32_t

from ._hash_table cimport *
from ._timers cimport *

cdef extern from "Python.h":
    PyObject *PySequence_Fast_GET_ITEM "PySequence_Fast_GET_ITEM"(object sequence, Py_ssize_t i) noexcept
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence) noexcept

__all__ = ["LruTable", "is_exact"]

cdef enum:
    # Slots of a table that outgrows the caches: below, to prefetch takes more than it saves.
    LARGE = 1 << 14
    # How many keys before its turn the slot of a key, its entry, and what that refers to are prefetched.
    SLOT_DISTANCE = 24
    ENTRY_DISTANCE = 16
    VALUE_DISTANCE = 8


cdef object text(object key):
    """Return the text of a key as an exact ``str``, ``None`` for what is no ``str``."""
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
    """Convert a batch to a ``dict`` of exact strings and bytes: itself if it is one."""
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


cdef class LruTable:
    """Bytes under ``str`` keys, the least recently used first."""

    cdef Table table

    def __cinit__(self, bint measured=False):
        self.table.measured = measured
        if not allocate(&self.table):
            raise MemoryError

    def __dealloc__(self):
        deallocate(&self.table)

    def __len__(self):
        return self.table.count

    def __iter__(self):
        return iter([key for key, _ in self.items()])

    def __contains__(self, key):
        return self._find(key) != 0

    def items(self):
        """Return keys and values in order of use."""
        # To make lists may let other code run, so they are there before the first look.
        cdef Py_ssize_t count = self.table.count
        cdef list keys = [None] * count
        cdef list values = [None] * count
        cdef Py_ssize_t i = 0
        cdef uint32_t at = self.table.entries[0].after
        while at and i < count:
            keys[i] = <object> self.table.entries[at].key
            values[i] = <object> self.table.entries[at].value
            at = self.table.entries[at].after
            i += 1
        return list(zip(keys[:i], values[:i]))

    def keys_from(self, cursor, Py_ssize_t count):
        """Return some keys, and the cursor of the next call: the place of an entry, which it keeps as long as it is."""
        cdef list keys = [None] * count
        cdef Py_ssize_t i = 0
        cdef uint32_t at = 1 if cursor is None else cursor
        # From here on nothing runs but this loop. A cursor may lie behind the last entry since the table was cleared.
        while at < self.table.begun and i < count:
            if self.table.entries[at].key is not NULL:
                keys[i] = <object> self.table.entries[at].key
                i += 1
            at += 1
        return keys[:i], at if at < self.table.begun else None

    def get(self, key):
        """Return the value of a key, which is no use of it."""
        cdef uint32_t at = self._find(key)
        return <object> self.table.entries[at].value if at else None

    def use(self, key):
        """Return the value of a key."""
        cdef uint32_t at = self._find(key)
        if not at:
            return None
        move_to_end(&self.table, at)
        return <object> self.table.entries[at].value

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
        cdef bint prefetching = self.table.mask >= LARGE
        for i in range(count):
            if prefetching:
                if i + SLOT_DISTANCE < count:
                    prefetch_slot(&self.table, PySequence_Fast_GET_ITEM(keys, i + SLOT_DISTANCE))
                if i + ENTRY_DISTANCE < count:
                    prefetch_entry(&self.table, PySequence_Fast_GET_ITEM(keys, i + ENTRY_DISTANCE))
                if i + VALUE_DISTANCE < count:
                    prefetch_value(&self.table, PySequence_Fast_GET_ITEM(keys, i + VALUE_DISTANCE))
            at = find(&self.table, PySequence_Fast_GET_ITEM(keys, i))
            if at:
                move_to_end(&self.table, at)
                value = <object> self.table.entries[at].value
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
        store(&self.table, <PyObject *> key, <PyObject *> value, NAN if deadline is None else deadline, &timer)

    def put_many(self, batch, deadline):
        """Store values in their order; see :meth:`put`. Nothing is stored if one of them cannot be."""
        cdef PyObject *key
        cdef PyObject *value
        cdef Py_ssize_t at = 0, slot_at = 0, entry_at = 0, value_at = 0
        cdef int i
        cdef uint32_t timer = 0
        cdef double until = NAN if deadline is None else deadline
        batch = exact_batch(batch)
        cdef bint prefetching = self.table.mask >= LARGE
        # The positions of the prefetches stay so far in front of the one that is stored.
        for i in range(SLOT_DISTANCE if prefetching else 0):
            if PyDict_Next(batch, &slot_at, &key, NULL):
                prefetch_slot(&self.table, key)
            if i >= SLOT_DISTANCE - ENTRY_DISTANCE and PyDict_Next(batch, &entry_at, &key, NULL):
                prefetch_entry(&self.table, key)
            if i >= SLOT_DISTANCE - VALUE_DISTANCE and PyDict_Next(batch, &value_at, &key, NULL):
                prefetch_value(&self.table, key)
        while PyDict_Next(batch, &at, &key, &value):
            store(&self.table, key, value, until, &timer)
            if prefetching:
                if PyDict_Next(batch, &slot_at, &key, NULL):
                    prefetch_slot(&self.table, key)
                if PyDict_Next(batch, &entry_at, &key, NULL):
                    prefetch_entry(&self.table, key)
                if PyDict_Next(batch, &value_at, &key, NULL):
                    prefetch_value(&self.table, key)

    def remove(self, key):
        """Remove a value. Return whether there was one."""
        cdef uint32_t at = self._find(key)
        if not at:
            return False
        remove(&self.table, at)
        return True

    def remove_first(self):
        """Remove the least recently used value, if there is any."""
        if self.table.count:
            remove(&self.table, self.table.entries[0].after)

    def clear(self):
        """Remove all values, and free their memory."""
        if not empty(&self.table):
            raise MemoryError

    @property
    def size(self):
        """The characters of all keys and the bytes of all values; without ``measured`` they are added up now."""
        return size_of_all(&self.table)

    # -- deadlines -------------------------------------------------------------------------------

    @property
    def timed(self):
        """How many values have a deadline."""
        return self.table.timed

    @property
    def timers(self):
        """How many timers are pending; it does not grow with what was written over."""
        return self.table.timers.pending

    @property
    def next_deadline(self):
        """No value has an earlier deadline; infinity if none has any."""
        return next_deadline(&self.table.timers)

    def deadline(self, key):
        """Return a key's deadline, ``None`` if it has no value."""
        cdef uint32_t at = self._find(key)
        if not at:
            return None
        cdef uint32_t timer = self.table.entries[at].timer
        return self.table.timers.all[timer].deadline if timer else INFINITY

    def set_deadlines(self, keys, double deadline):
        """Set another deadline for values, which is no use of them. Return for each key whether it has a value."""
        if not isinstance(keys, (list, tuple)):
            raise TypeError("keys are a list or a tuple")
        cdef list texts = [text(key) for key in keys]
        cdef list found = [False] * len(texts)
        cdef Py_ssize_t i
        cdef uint32_t at
        cdef uint32_t timer = 0
        reserve_timer(&self.table.timers)
        # From here on nothing runs but this loop.
        for i in range(len(texts)):
            at = find(&self.table, <PyObject *> texts[i])
            if not at:
                continue
            found[i] = True
            # A key may come twice; its timer must not end with it.
            if timer and self.table.entries[at].timer == timer:
                continue
            remove_from_timer(&self.table, at)
            if deadline != INFINITY:
                if not timer:
                    timer = begin_timer(&self.table.timers, deadline)
                add_to_timer(&self.table, at, timer)
        return found

    def expire(self, double now):
        """Remove the values whose deadlines are not after ``now``. Return how many."""
        cdef Py_ssize_t count = 0
        # A timer goes with the last of its values.
        while self.table.timers.pending and next_deadline(&self.table.timers) <= now:
            remove(&self.table, self.table.timers.all[self.table.timers.heap[0]].first)
            count += 1
        return count

    cdef uint32_t _find(self, object key):
        """Return the entry of a key of any type, 0 without one."""
        if PyUnicode_CheckExact(key):
            return find(&self.table, <PyObject *> key)
        key = text(key)
        return 0 if key is None else find(&self.table, <PyObject *> key)
