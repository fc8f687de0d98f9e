"""The ages in the headers of rows, on bytes: what :mod:`cacheorm.aging` and :class:`~cacheorm.payload.Ages` document."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from ...payload import AGES_SIZE

cdef enum:
    TIME_SIZE = 6
    PART_AT = 12
    AGES_BYTES = 14
    OVER = -1
    FRESH = 0
    DUE = 1
cdef int64_t LATEST = (<int64_t> 1 << 48) - 1
cdef uint64_t GOLDEN = 2654435769
assert AGES_BYTES == AGES_SIZE


cdef inline int64_t time_at(const uint8_t *at) noexcept:
    # Written so that compilers make two loads of it.
    cdef uint64_t first = <uint64_t> at[0] << 24 | <uint64_t> at[1] << 16 | <uint64_t> at[2] << 8 | at[3]
    return <int64_t> (first << 16 | <uint64_t> at[4] << 8 | at[5])


cdef inline int64_t part_at(const uint8_t *ages) noexcept:
    return <int64_t> ages[PART_AT] << 8 | ages[PART_AT + 1]


cdef inline void put_time(uint8_t *at, int64_t time) noexcept:
    cdef int i
    time = min(max(time, 0), LATEST)
    for i in range(TIME_SIZE):
        at[TIME_SIZE - 1 - i] = time & 0xFF
        time >>= 8


cdef struct Stamped:
    int64_t now
    int64_t ends
    int64_t spread


cdef int take_stamp(stamp, Stamped *stamped) except -1:
    """Read a :class:`~cacheorm.aging.Stamp`."""
    now, ends, spread = stamp
    stamped.now = now
    stamped.ends = 0 if ends is None else ends
    stamped.spread = spread
    return 0


cdef inline void put_end(uint8_t *ages, Stamped *stamped) noexcept:
    """Write when the lifetime of a row ends, whose share of the jitter is there."""
    put_time(
        ages + TIME_SIZE, stamped.ends - (stamped.spread * part_at(ages) >> 16) if stamped.ends else 0
    )


cdef inline void put_ages(uint8_t *ages, Stamped *stamped, Py_ssize_t place) noexcept:
    """Write the ages of a row that is written as a whole, at a place of its batch."""
    cdef uint64_t part = ((<uint64_t> stamped.now + <uint64_t> place) * GOLDEN & 0xFFFFFFFF) >> 16
    put_time(ages, stamped.now)
    ages[PART_AT] = part >> 8
    ages[PART_AT + 1] = part & 0xFF
    put_end(ages, stamped)


cdef inline int state_at(
    const uint8_t *ages, int64_t now, int64_t due_after, int64_t spread, bint keeps
) noexcept:
    """Return whether a row is ``OVER``, ``FRESH`` or ``DUE``; see :meth:`~cacheorm.aging.Aging.state`."""
    cdef int64_t end, age
    if keeps:
        end = time_at(ages + TIME_SIZE)
        if end and now >= end:
            return OVER
    if not due_after:
        return FRESH
    age = now - time_at(ages)
    return DUE if age >= due_after - (spread * part_at(ages) >> 16) or -age >= due_after else FRESH
