"""The codec of text.

A column may have the same texts again and again, such as countries and states: those are made once, and shared by the
rows that hold them. A str of its own takes longer to make and to free than its bytes to be found in a table of the last
ones, and memory for each row. Of columns whose texts are all different nothing comes of it: their table is dropped for
good after a few rows.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from ..convert._text_c import Text

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from *:
    """
    /* How many texts may be new, less those that were not. None where threads have no common lock. */
    #if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
    #define NEW_TEXTS 0
    #else
    #define NEW_TEXTS 64
    #endif
    """
    const int MOST_NEW "NEW_TEXTS"

cdef enum:
    PLACES = 256            # places of a table: as many as a byte has values
    LONGEST_INTERNED = 32   # bytes of a text
    GAIN = 3                # how many new texts one that is found makes up for

cdef struct InternTable:
    PyObject **kept     # owned, and so are its references, all of ASCII; NULL while there is no table
    int left            # how many may still be new; 0 once the table is dropped


cdef inline void begin(InternTable *texts) noexcept:
    texts.kept = NULL
    texts.left = MOST_NEW


cdef void drop_table(InternTable *texts) noexcept:
    cdef int i
    texts.left = 0
    if texts.kept is not NULL:
        for i in range(PLACES):
            Py_XDECREF(texts.kept[i])
        PyMem_Free(texts.kept)
        texts.kept = NULL


cdef inline PyObject *intern_text(InternTable *texts, const char *data, Py_ssize_t size) except NULL:
    """Return UTF-8 as a str, a new reference, of the table if it is there; raises where it is no UTF-8."""
    # Python itself shares texts of one character.
    if texts.left and 2 <= size <= LONGEST_INTERNED:
        return shared_text(texts, data, size)
    return new_text(data, size)


cdef PyObject *shared_text(InternTable *texts, const char *data, Py_ssize_t size) except NULL:
    # No other code runs between a look at the table and what comes of it.
    cdef PyObject *text
    cdef PyObject *old
    cdef uint8_t place = place_of(data, size)
    if texts.kept is NULL:
        texts.kept = <PyObject **> PyMem_Calloc(PLACES, sizeof(PyObject *))
        if texts.kept is NULL:
            raise MemoryError
    text = texts.kept[place]
    if text is not NULL and PyUnicode_GET_LENGTH(text) == size and (
        equal_bytes(<const char *> PyUnicode_DATA(text), data, size)
    ):
        if texts.left <= MOST_NEW - GAIN:
            texts.left += GAIN
        Py_XINCREF(text)
        return text
    text = new_text(data, size)
    if PyUnicode_IS_COMPACT_ASCII(text):
        old = texts.kept[place]
        Py_XINCREF(text)
        texts.kept[place] = text
        Py_XDECREF(old)
    texts.left -= 1
    if not texts.left:
        drop_table(texts)
    return text


cdef inline uint8_t place_of(const char *data, Py_ssize_t size) noexcept:
    """Return the place of a text of two bytes or more, by its ends: what differs only in the middle shares one."""
    cdef uint64_t first = 0
    cdef uint64_t last = 0
    if size >= 8:
        memcpy(&first, data, 8)
        memcpy(&last, data + size - 8, 8)
    elif size >= 4:
        memcpy(&first, data, 4)
        memcpy(&last, data + size - 4, 4)
    else:
        memcpy(&first, data, 2)
        memcpy(&last, data + size - 2, 2)
    first = (first ^ <uint64_t> size) * <uint64_t> 0x9E3779B97F4A7C15
    return <uint8_t> (((first ^ last) * <uint64_t> 0xBF58476D1CE4E5B9) >> 56)


cdef class TextCodec(ValueCodec):
    """strs without lone surrogates, of at most ``max_length`` characters."""

    cdef Py_ssize_t max_length  # -1 for any
    cdef InternTable texts

    def __cinit__(self, converter, bint null):
        self.leaf = True
        self.max_length = -1 if converter.max_length is None else min(converter.max_length, PY_SSIZE_T_MAX)
        begin(&self.texts)

    def __dealloc__(self):
        drop_table(&self.texts)

    cdef void intern_nothing(self) noexcept:
        drop_table(&self.texts)

    cdef inline bint takes(self, value) noexcept:
        return type(value) is str and (self.max_length < 0 or len(<str> value) <= self.max_length)

    cdef object encode(self, Buffer *buffer, value):
        if self.takes(value):
            put_str(buffer, <PyObject *> value)
            return value
        return ValueCodec.encode(self, buffer, value)

    cdef object decode(self, Reader *reader):
        cdef const char *data
        cdef Py_ssize_t size
        if not take_text(reader, &data, &size):
            return ValueCodec.decode(self, reader)
        return taken(intern_text(&self.texts, data, size))

    cdef object to_stored(self, value, PyObject **canonical):
        if self.takes(value):
            return checked(<str> value)
        return ValueCodec.to_stored(self, value, canonical)

    cdef object from_stored(self, stored):
        return checked(<str> stored) if type(stored) is str else self.load(stored)

    cdef object key_value(self, value):
        if type(value) is str and self.max_length < 0 and PyUnicode_IS_COMPACT_ASCII(<PyObject *> value):
            return value
        return ValueCodec.key_value(self, value)

    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2:
        cdef const char *data
        cdef Py_ssize_t at, size
        if type(value) is not str or not PyUnicode_IS_COMPACT_ASCII(<PyObject *> value):
            return -1
        data = <const char *> PyUnicode_DATA(<PyObject *> value)
        size = PyUnicode_GET_LENGTH(<PyObject *> value)
        if size > room:
            return -1
        for at in range(size):
            # Printable ASCII but the two characters that mean something in a key; all else is escaped.
            if not 0x20 < data[at] < 0x7F or data[at] == c"%" or data[at] == c":":
                return -1
        memcpy(to, data, size)
        return size


cdef inline str checked(str text):
    """Return a text; raise for lone surrogates."""
    if not PyUnicode_IS_COMPACT_ASCII(<PyObject *> text):
        text.encode("utf-8")
    return text


register(Text, TextCodec)
