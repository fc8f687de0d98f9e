"""The codec of UUIDs: as two 64-bit halves, and as hexadecimal digits, without the detours of their class."""

from libc.stdint cimport uint8_t, uint64_t
from types import MemberDescriptorType
from uuid import UUID, SafeUUID

from ..convert._uuids_c import Uuid
from ._slots_c cimport Slot, leave_untracked, new_instance, put_new, slot_offset

cdef object UNKNOWN_SAFETY = SafeUUID.unknown
cdef tuple NO_ARGUMENTS = ()

cdef Py_ssize_t offset_in_uuid(member) except -1:
    cdef Slot slot = Slot()
    slot.attach(member)
    return slot_offset(slot, UUID)


# A UUID keeps what it holds in slots; should that change, its class makes them.
cdef bint SLOTS_KNOWN = type(vars(UUID).get("int")) is MemberDescriptorType is type(vars(UUID).get("is_safe"))
cdef Py_ssize_t NUMBER = offset_in_uuid(UUID.int) if SLOTS_KNOWN else -1
cdef Py_ssize_t SAFETY = offset_in_uuid(UUID.is_safe) if SLOTS_KNOWN else -1


cdef extern from *:
    """
    /* An int is read and made by its digits, as the headers of CPython declare them, where they have 30 bits: through
       its bytes, one at a time, it takes ten times as long. */
    #if !defined(PYPY_VERSION) && PY_VERSION_HEX < 0x030E0000 && PYLONG_BITS_IN_DIGIT == 30
    #if PY_VERSION_HEX >= 0x030C0000
    #define UUID_DIGITS(number) ((PyLongObject *)(number))->long_value.ob_digit
    #define UUID_SIZE(number) \\
        ((((PyLongObject *)(number))->long_value.lv_tag & 3) == 2 ? -1 \\
         : (Py_ssize_t)(((PyLongObject *)(number))->long_value.lv_tag >> 3))
    #else
    #define UUID_DIGITS(number) ((PyLongObject *)(number))->ob_digit
    #define UUID_SIZE(number) Py_SIZE(number)
    #endif

    /* The two halves of an int; 0 where it is negative or larger. */
    static inline int uuid_halves(PyObject *number, uint64_t *high, uint64_t *low)
    {
        const digit *digits = UUID_DIGITS(number);
        const Py_ssize_t size = UUID_SIZE(number);
        uint64_t all[5] = {0, 0, 0, 0, 0};
        Py_ssize_t at;
        if (size < 0 || size > 5 || (size == 5 && digits[4] >> 8))
            return 0;
        for (at = 0; at < size; at++)
            all[at] = digits[at];
        *low = all[0] | all[1] << 30 | all[2] << 60;
        *high = all[2] >> 4 | all[3] << 26 | all[4] << 56;
        return 1;
    }

    static inline PyObject *uuid_int(uint64_t high, uint64_t low)
    {
        PyLongObject *made;
        if (high == 0)
            return PyLong_FromUnsignedLongLong(low);
        made = _PyLong_New(high >> 56 ? 5 : high >> 26 ? 4 : 3);
        if (made != NULL) {
            digit *digits = UUID_DIGITS(made);
            digits[0] = (digit)(low & PyLong_MASK);
            digits[1] = (digit)(low >> 30 & PyLong_MASK);
            digits[2] = (digit)((low >> 60 | high << 4) & PyLong_MASK);
            if (high >> 26)
                digits[3] = (digit)(high >> 26 & PyLong_MASK);
            if (high >> 56)
                digits[4] = (digit)(high >> 56);
        }
        return (PyObject *)made;
    }
    #else
    static inline uint64_t uuid_half(const unsigned char *octets)
    {
        uint64_t half = 0;
        int at;
        for (at = 0; at < 8; at++)
            half = half << 8 | octets[at];
        return half;
    }

    /* Likewise; -1 with an exception set. */
    static inline int uuid_halves(PyObject *number, uint64_t *high, uint64_t *low)
    {
        unsigned char octets[16];
    #if PY_VERSION_HEX >= 0x030D0000
        Py_ssize_t size = PyLong_AsNativeBytes(
            number, octets, 16,
            Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
        int fits = size >= 0 && size <= 16;
        int failed = size < 0;
    #else
        int fits = _PyLong_AsByteArray((PyLongObject *)number, octets, 16, 0, 0) == 0;
        int failed = !fits;
    #endif
        if (failed) {
            if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_ValueError))
                return -1;
            PyErr_Clear();
        }
        if (fits) {
            *high = uuid_half(octets);
            *low = uuid_half(octets + 8);
        }
        return fits;
    }

    static inline PyObject *uuid_int(uint64_t high, uint64_t low)
    {
        unsigned char octets[16];
        int at;
        for (at = 0; at < 8; at++) {
            octets[at] = (unsigned char)(high >> (56 - 8 * at));
            octets[at + 8] = (unsigned char)(low >> (56 - 8 * at));
        }
    #if PY_VERSION_HEX >= 0x030D0000
        return PyLong_FromUnsignedNativeBytes(octets, 16, Py_ASNATIVEBYTES_BIG_ENDIAN);
    #else
        return _PyLong_FromByteArray(octets, 16, 0, 0);
    #endif
    }
    #endif
    """
    int uuid_halves(object number, uint64_t *high, uint64_t *low) except -1
    object uuid_number "uuid_int"(uint64_t high, uint64_t low)


# Eight digits at a time, each in a byte of a word, the first in the highest. A sum of two bytes below 0x80 sets no bit
# of the next one, and its own highest bit where it is at least 0x80 ("SIMD within a register").
cdef enum:
    AT_ONCE = 8

cdef inline uint64_t each(uint8_t byte) noexcept:
    """Return a word of eight equal bytes."""
    return <uint64_t> 0x0101010101010101 * byte


cdef inline void put_hexadecimal(char *to, uint64_t number) noexcept:
    """Write the eight lower-case hexadecimal digits of a 32-bit number."""
    cdef uint64_t letters
    cdef int at
    number = (number | number << 16) & <uint64_t> 0x0000FFFF0000FFFF
    number = (number | number << 8) & <uint64_t> 0x00FF00FF00FF00FF
    number = (number | number << 4) & each(0x0F)
    letters = (number + each(6)) >> 4 & each(1)
    number += each(c"0") + letters * (c"a" - c"0" - 10)
    for at in range(AT_ONCE):
        to[at] = <char> (number >> (56 - 8 * at) & 0xFF)


cdef inline bint take_hexadecimal(const char *text, uint64_t *number) noexcept:
    """Read eight lower-case hexadecimal digits; false if there is anything else."""
    cdef uint64_t word = 0
    cdef uint64_t digits, letters
    cdef int at
    for at in range(AT_ONCE):
        word = word << 8 | <uint8_t> text[at]
    digits = (word + each(0x80 - c"0")) & ~(word + each(0x7F - c"9"))
    letters = (word + each(0x80 - c"a")) & ~(word + each(0x7F - c"f"))
    if ((digits | letters) & ~word & each(0x80)) != each(0x80):
        return False
    word = (word & each(0x0F)) + (letters >> 7 & each(1)) * 9
    word = (word | word >> 4) & <uint64_t> 0x00FF00FF00FF00FF
    word = (word | word >> 8) & <uint64_t> 0x0000FFFF0000FFFF
    number[0] = (word | word >> 16) & <uint64_t> 0xFFFFFFFF
    return True


cdef bint put_uuid(char *to, object number) except -1:
    """Write the 32 hexadecimal digits of a UUID's number; false if it is none of 128 bits."""
    cdef uint64_t high, low
    if type(number) is not int or not uuid_halves(number, &high, &low):
        return False
    put_hexadecimal(to, high >> 32)
    put_hexadecimal(to + 8, high & <uint64_t> 0xFFFFFFFF)
    put_hexadecimal(to + 16, low >> 32)
    put_hexadecimal(to + 24, low & <uint64_t> 0xFFFFFFFF)
    return True


cdef bint take_uuid(const char *text, uint64_t *high, uint64_t *low) noexcept:
    """Read 32 lower-case hexadecimal digits; false if there is anything else."""
    cdef uint64_t a, b, c, d
    if not take_hexadecimal(text, &a) or not take_hexadecimal(text + 8, &b):
        return False
    if not take_hexadecimal(text + 16, &c) or not take_hexadecimal(text + 24, &d):
        return False
    high[0] = a << 32 | b
    low[0] = c << 32 | d
    return True


cdef class UuidCodec(FormattedCodec):
    """UUIDs as 32 lower-case hexadecimal digits."""

    cdef Py_ssize_t format(self, char *text, value) except -1:
        cdef PyObject *there
        if type(value) is not UUID:
            return 0
        there = (<PyObject **> (<char *> <PyObject *> value + NUMBER))[0]
        if there is NULL:
            return 0
        number = <object> there
        return 32 if put_uuid(text, number) else 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        cdef uint64_t high, low
        if size != 32 or not take_uuid(text, &high, &low):
            return None
        made = new_instance(UUID, NO_ARGUMENTS)
        put_new(<PyObject *> made, NUMBER, uuid_number(high, low))
        put_new(<PyObject *> made, SAFETY, UNKNOWN_SAFETY)
        # It refers to nothing that could refer to it.
        leave_untracked(<PyObject *> made)
        return made

    cdef object key_value(self, value):
        return value if type(value) is UUID else FormattedCodec.key_value(self, value)

    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2:
        return self.format(to, value) or -1 if room >= 32 else -1


if SLOTS_KNOWN:
    register(Uuid, UuidCodec)
