"""The codecs of integers, floats, booleans and decimals."""

from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_FromDouble
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

from .._digits cimport count_digits, put_digits
from ..convert._numbers_c import Boolean, DecimalText, Integer, Real


cdef class IntegerCodec(ValueCodec):
    """ints of 64 bits and a sign."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is int and put_fitting(buffer, value):
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        value = take_int(reader)
        return ValueCodec.decode(self, reader) if value is None else value

    cdef object to_stored(self, value, PyObject **canonical):
        cdef int overflow = 0
        if type(value) is int:
            PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow:
                return value
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is int else self.load(stored)

    cdef object key_value(self, value):
        return value if type(value) is int else ValueCodec.key_value(self, value)

    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2:
        cdef int overflow = 0
        cdef int64_t number
        cdef uint64_t digits
        cdef int size
        if type(value) is not int:
            return -1
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        # Not -number: the smallest int has no positive counterpart.
        digits = <uint64_t> number if number >= 0 else 0 - <uint64_t> number
        size = count_digits(digits)
        if overflow or size + (number < 0) > room:
            return -1
        if number < 0:
            to[0] = c"-"
            to += 1
        put_digits(to, digits, size)
        return size + (number < 0)


cdef class RealCodec(ValueCodec):
    """Finite floats."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            put_float(buffer, PyFloat_AS_DOUBLE(value))
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        cdef double number
        cdef const uint8_t *start = reader.at
        if take_float(reader, &number):
            if isfinite(number):
                return PyFloat_FromDouble(number)
            reader.at = start
        return ValueCodec.decode(self, reader)

    cdef object to_stored(self, value, PyObject **canonical):
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            return value
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is float and isfinite(PyFloat_AS_DOUBLE(stored)) else self.load(stored)


cdef class BooleanCodec(ValueCodec):
    """bools, as 0 and 1."""

    def __cinit__(self):
        self.leaf = True

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is bool:
            reserve(buffer, 1)
            put(buffer, value is True)
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        cdef uint8_t head
        if reader.at < reader.end:
            head = reader.at[0]
            if head <= 1 or head == 0xC2 or head == 0xC3:
                reader.at += 1
                return (head & 1) == 1
        return ValueCodec.decode(self, reader)

    cdef object to_stored(self, value, PyObject **canonical):
        if type(value) is bool:
            return 1 if value else 0
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return stored if type(stored) is bool else self.load(stored)


# -- decimals ----------------------------------------------------------------------------------------

# ``decimal`` has no C interface, and making a Decimal by calling it costs several times what the number does: most goes
# into finding the arguments, and into reading text of any form and size. So this looks at the object itself. How it is
# laid out is in no header, only in the sources of CPython (``Modules/_decimal/_decimal.c``, and ``mpd_t`` of libmpdec,
# https://www.bytereef.org/mpdecimal/doc/libmpdec/memory.html), where it has been the same since 3.3. Therefore it is
# compared on import with objects that the library has made; if anything differs, the library is called as ever.

cdef extern from *:
    """
    typedef struct {
        PyObject_HEAD
        Py_hash_t hash;       /* -1 until somebody asks for it */
        uint8_t flags;        /* what follows up to "words" is an mpd_t */
        Py_ssize_t exponent;
        Py_ssize_t digits;
        Py_ssize_t length;    /* words in use */
        Py_ssize_t allocated;
        uint64_t *data;       /* "words", or memory elsewhere for longer numbers */
        uint64_t words[4];    /* of 19 decimal digits each, the lowest first */
    } DecimalObject;

    static inline PyTypeObject *plain_type(PyObject *type)
    {
        PyTypeObject *found = (PyTypeObject *)type;
        return PyType_Check(type) && found->tp_basicsize == sizeof(DecimalObject) && found->tp_itemsize == 0
            && !PyType_IS_GC(found) && found->tp_alloc == PyType_GenericAlloc ? found : NULL;
    }

    /* A copy of an object whose number is in its own words. */
    static inline PyObject *copy_of_decimal(PyTypeObject *type, const DecimalObject *like)
    {
        DecimalObject *made = (DecimalObject *)type->tp_alloc(type, 0);
        if (made != NULL) {
            memcpy((char *)made + sizeof(PyObject), (const char *)like + sizeof(PyObject),
                   sizeof(DecimalObject) - sizeof(PyObject));
            made->data = made->words;
        }
        return (PyObject *)made;
    }
    """
    ctypedef struct DecimalObject:
        Py_hash_t hash
        uint8_t flags
        Py_ssize_t exponent
        Py_ssize_t digits
        Py_ssize_t length
        Py_ssize_t allocated
        uint64_t *data
        uint64_t words[4]
    PyTypeObject *plain_type(object type)
    object copy_of_decimal(PyTypeObject *type, const DecimalObject *like)

cdef enum:
    LONGEST = 50        # characters of the text of a Decimal
    WORD_DIGITS = 19    # of a Decimal's word, which is less than 10**19
    NEGATIVE = 1        # flags of an mpd_t
    NOT_FINITE = 14
    LEAST_ADJUSTED = -6  # below this exponent of the first digit, str() writes an exponent

# A context's method takes text sooner than the type does, which looks for the thread's own context first. Of no more
# digits than this one has nothing is rounded and no flag set, so that threads can share it.
cdef object MAKE_DECIMAL = Context(prec=LONGEST, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[]).create_decimal
cdef object DECIMAL_TYPE = Decimal
cdef object DECIMAL_ZERO = MAKE_DECIMAL("0")

# The type, if its objects are laid out as above; else NULL.
cdef PyTypeObject *KNOWN_DECIMAL = NULL


cdef struct Digits:
    # ``[-]digits[.digits]``
    bint negative
    Py_ssize_t places      # digits after the point
    Py_ssize_t significant # digits without leading zeros
    uint64_t coefficient   # what they say, where they fit into a word


cdef bint read_digits(const char *text, Py_ssize_t size, Digits *found) noexcept:
    """Read ``[-]digits[.digits]``; false for any other text."""
    cdef Py_ssize_t at = 1 if size and text[0] == c"-" else 0
    cdef Py_ssize_t start = at
    cdef Py_ssize_t point = -1
    cdef Py_ssize_t significant = 0
    cdef uint64_t coefficient = 0
    cdef unsigned int digit
    found.negative = at == 1
    while at < size:
        digit = <uint8_t> text[at] - <unsigned int> c"0"
        if digit <= 9:
            coefficient = coefficient * 10 + digit
            significant += significant > 0 or digit > 0
        elif text[at] == c"." and point < 0 and at > start:
            point = at
        else:
            return False
        at += 1
    if at == start or point == size - 1:
        return False
    found.places = size - 1 - point if point >= 0 else 0
    found.significant = significant
    found.coefficient = coefficient
    return True


cdef object make_decimal(const Digits *found):
    """Make a Decimal of a number that fits into a word, of the known layout."""
    made = copy_of_decimal(KNOWN_DECIMAL, <const DecimalObject *> <PyObject *> DECIMAL_ZERO)
    cdef DecimalObject *number = <DecimalObject *> <PyObject *> made
    if found.negative:
        number.flags |= NEGATIVE
    number.exponent = -found.places
    number.digits = found.significant if found.significant else 1
    number.words[0] = found.coefficient
    return made


cdef object parse_decimal(const char *text, Py_ssize_t size):
    """Read ``[-]digits[.digits]``; ``None`` for any other form, or more than :data:`LONGEST` characters."""
    cdef Digits found
    if size > LONGEST or not read_digits(text, size, &found):
        return None
    if KNOWN_DECIMAL is not NULL and found.significant <= WORD_DIGITS:
        return make_decimal(&found)
    return MAKE_DECIMAL(PyUnicode_DecodeASCII(text, size, NULL))


cdef Py_ssize_t format_decimal(char *text, value) noexcept:
    """Write a Decimal as its ``str()``, at most 32 bytes; 0 where that has an exponent or is longer."""
    cdef const DecimalObject *number = <const DecimalObject *> <PyObject *> value
    cdef Py_ssize_t places, count
    if KNOWN_DECIMAL is NULL or number.flags & NOT_FINITE or number.length != 1 or number.exponent > 0:
        return 0
    # A word has no more than 19 digits, so that this leaves 24 places and 25 digits.
    if number.digits > WORD_DIGITS or number.exponent + number.digits - 1 < LEAST_ADJUSTED:
        return 0
    places = -number.exponent
    count = number.digits if number.digits > places else places + 1
    if number.flags & NEGATIVE:
        text[0] = c"-"
        text += 1
    put_digits(text, number.data[0], <int> count)
    if places:
        memmove(text + count - places + 1, text + count - places, places)
        text[count - places] = c"."
    return count + (places > 0) + (number.flags & NEGATIVE)


cdef PyTypeObject *known_decimal() except? NULL:
    """Compare the layout with what the library makes; return the type, ``NULL`` if anything differs."""
    cdef PyTypeObject *kind = plain_type(DECIMAL_TYPE)
    cdef const DecimalObject *zero = <const DecimalObject *> <PyObject *> DECIMAL_ZERO
    cdef const DecimalObject *made
    cdef Digits found
    if kind is NULL or sizeof(Py_ssize_t) != 8:
        return NULL
    for text in ("0", "-1", "0.00", "-0.0", "12.5", "-0.000001", "9876543210.12345678", "9" * WORD_DIGITS):
        raw = <bytes> text.encode()
        number = MAKE_DECIMAL(text)
        made = <const DecimalObject *> <PyObject *> number
        if type(number) is not DECIMAL_TYPE or not read_digits(<const char *> raw, len(raw), &found):
            return NULL
        if made.hash != -1 or made.flags != zero.flags + found.negative or made.exponent != -found.places:
            return NULL
        if made.digits != max(found.significant, 1) or made.length != 1 or made.allocated != 4:
            return NULL
        if made.data != &made.words[0] or made.words[0] != found.coefficient:
            return NULL
    for text in ("NaN", "sNaN", "Infinity", "-Infinity"):
        number = MAKE_DECIMAL(text)
        if not (<const DecimalObject *> <PyObject *> number).flags & NOT_FINITE:
            return NULL
    return kind


KNOWN_DECIMAL = known_decimal()


cdef class DecimalCodec(FormattedCodec):
    """Decimals of any number of places, or of exactly one."""

    cdef Py_ssize_t places  # digits after the point; -1 for any

    def __cinit__(self, converter, bint null):
        self.places = -1 if converter.exponent is None else -converter.exponent.adjusted()

    cdef Py_ssize_t format(self, char *text, value) except -1:
        cdef Digits found
        cdef Py_ssize_t size
        if type(value) is not DECIMAL_TYPE:
            return 0
        size = format_decimal(text, value)
        if size:
            found.places = -(<const DecimalObject *> <PyObject *> value).exponent
        else:
            written = str(value)
            size = len(<str> written)
            # Beyond, the converter asks how many digits a context takes.
            if size > LONGEST or not PyUnicode_IS_COMPACT_ASCII(<PyObject *> written):
                return 0
            memcpy(text, PyUnicode_DATA(<PyObject *> written), size)
            if not read_digits(text, size, &found):
                return 0
        return size if self.places < 0 or found.places == self.places else 0

    cdef object parse(self, const char *text, Py_ssize_t size):
        return parse_decimal(text, size)


def decimal_codec(converter, null):
    # Rounded to tens or more, the text of a number has an exponent.
    if converter.exponent is not None and converter.exponent.adjusted() > 0:
        return ValueCodec(converter, null)
    return DecimalCodec(converter, null)

register(Integer, IntegerCodec)
register(Real, RealCodec)
register(Boolean, BooleanCodec)
register(DecimalText, decimal_codec)
