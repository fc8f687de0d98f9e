"""Deadlines in a heap, the earliest first; each is a timer with a list of the entries that expire then.

No other code runs in any of these functions.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    FEWEST_TIMERS = 8


cdef struct Timer:
    double deadline
    uint32_t first      # of its entries; of a free timer, the next free one
    uint32_t place      # in the heap


cdef struct Timers:
    # The first timer is none. Each has entries; the heap has the earliest one first.
    Timer *all
    uint32_t *heap
    uint32_t room       # timers that there is memory for
    uint32_t begun      # timers that have ever been used
    uint32_t free       # the first free one of those
    uint32_t waiting    # timers in the heap


cdef inline bint allocate_timers(Timers *timers) noexcept:
    """Allocate room for the first timers; false if there is no memory."""
    timers.all = <Timer *> PyMem_Malloc(FEWEST_TIMERS * sizeof(Timer))
    timers.heap = <uint32_t *> PyMem_Malloc(FEWEST_TIMERS * sizeof(uint32_t))
    timers.room = FEWEST_TIMERS
    return timers.all is not NULL and timers.heap is not NULL


cdef inline void deallocate_timers(Timers *timers) noexcept:
    PyMem_Free(timers.all)
    PyMem_Free(timers.heap)


cdef inline double next_deadline(const Timers *timers) noexcept:
    """Return the earliest deadline, infinity if there is none."""
    return timers.all[timers.heap[0]].deadline if timers.waiting else INFINITY


cdef inline void forget_timers(Timers *timers) noexcept:
    """End all timers."""
    timers.begun = 1
    timers.free = timers.waiting = 0


cdef inline int reserve_timer(Timers *timers) except -1:
    """See that there is room for one more timer."""
    cdef size_t room
    cdef void *grown
    if timers.free or timers.begun < timers.room:
        return 0
    room = 2 * <size_t> timers.room
    grown = PyMem_Realloc(timers.all, room * sizeof(Timer))
    if grown is NULL:
        raise MemoryError
    timers.all = <Timer *> grown
    # If this one fails, the other has more room than it is known to have.
    grown = PyMem_Realloc(timers.heap, room * sizeof(uint32_t))
    if grown is NULL:
        raise MemoryError
    timers.heap = <uint32_t *> grown
    timers.room = <uint32_t> room
    return 0


cdef inline uint32_t begin_timer(Timers *timers, double deadline) noexcept:
    """Give a new timer, of those that there is room for."""
    cdef uint32_t timer = timers.free
    if timer:
        timers.free = timers.all[timer].first
    else:
        timer = timers.begun
        timers.begun += 1
    timers.all[timer].deadline = deadline
    timers.all[timer].first = 0
    timers.waiting += 1
    rise(timers, timers.waiting - 1, timer)
    return timer


cdef inline void end_timer(Timers *timers, uint32_t timer) noexcept:
    cdef uint32_t place = timers.all[timer].place
    cdef uint32_t last
    timers.waiting -= 1
    if place != timers.waiting:
        # The last one takes its place, from where it has to go up or down.
        last = timers.heap[timers.waiting]
        sink(timers, place, last)
        rise(timers, timers.all[last].place, last)
    timers.all[timer].first = timers.free
    timers.free = timer


cdef inline void rise(Timers *timers, uint32_t place, uint32_t timer) noexcept:
    """Put a timer in a place of the heap, or where those above it are earlier."""
    cdef double deadline = timers.all[timer].deadline
    cdef uint32_t above
    while place:
        above = (place - 1) // 2
        if timers.all[timers.heap[above]].deadline <= deadline:
            break
        set_place(timers, place, timers.heap[above])
        place = above
    set_place(timers, place, timer)


cdef inline void sink(Timers *timers, uint32_t place, uint32_t timer) noexcept:
    """Put a timer in a place of the heap, or where those below it are later."""
    cdef double deadline = timers.all[timer].deadline
    cdef uint64_t below
    while True:
        below = 2 * <uint64_t> place + 1
        if below >= timers.waiting:
            break
        if below + 1 < timers.waiting and (
            timers.all[timers.heap[below + 1]].deadline < timers.all[timers.heap[below]].deadline
        ):
            below += 1
        if deadline <= timers.all[timers.heap[below]].deadline:
            break
        set_place(timers, place, timers.heap[below])
        place = <uint32_t> below
    set_place(timers, place, timer)


cdef inline void set_place(Timers *timers, uint32_t place, uint32_t timer) noexcept:
    timers.heap[place] = timer
    timers.all[timer].place = place
