"""Text as UTF-8 and back, straight between the bytes of a payload and those of a str.

Python's own codecs widen and move what they have made with each wider character that they meet. Here the bytes are
gone through twice: first for how many characters they are and how wide the widest is, then to write them.

UTF-8: https://www.unicode.org/versions/latest/core-spec/chapter-3/#G7404 (table 3-7, well-formed byte sequences);
str: https://peps.python.org/pep-0393/
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    /* The UTF-8 that a str already keeps, as libraries leave it there; NULL for none. */
    static inline const char *kept_utf8(PyObject *text, Py_ssize_t *size)
    {
    #if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
        return NULL;
    #else
        *size = ((PyCompactUnicodeObject *)text)->utf8_length;
        return ((PyCompactUnicodeObject *)text)->utf8;
    #endif
    }
    """
    const char *kept_utf8(PyObject *text, Py_ssize_t *size)

cdef extern from "Python.h":
    PyObject *new_unicode "PyUnicode_New"(Py_ssize_t size, Py_UCS4 maxchar) except NULL
    PyObject *decoded "PyUnicode_DecodeUTF8"(const char *data, Py_ssize_t size, const char *errors) except NULL
    int kind_of "PyUnicode_KIND"(PyObject *text)
    void *data_of "PyUnicode_DATA"(PyObject *text)
    Py_ssize_t length_of "PyUnicode_GET_LENGTH"(PyObject *text)

ctypedef fused Unit:
    uint8_t
    uint16_t
    uint32_t

cdef enum:
    CONTINUED = 0xC0  # what tells a continuation byte from others, 10xxxxxx
    CONTINUATION = 0x80


# -- reading -----------------------------------------------------------------------------------------

cdef inline bint all_ascii(const uint8_t *at, Py_ssize_t size) noexcept:
    """Tell whether bytes are ASCII, a word at a time; the last word overlaps the one before."""
    cdef uint64_t found = 0
    cdef uint64_t a, b
    cdef uint32_t c, d
    cdef const uint8_t *end = at + size
    if size >= 8:
        while end - at > 8:
            memcpy(&a, at, 8)
            if a & <uint64_t> 0x8080808080808080:
                return False
            at += 8
        memcpy(&b, end - 8, 8)
        return not b & <uint64_t> 0x8080808080808080
    if size >= 4:
        memcpy(&c, at, 4)
        memcpy(&d, end - 4, 4)
        return not (c | d) & <uint32_t> 0x80808080
    while at < end:
        found |= at[0]
        at += 1
    return found < 0x80


cdef inline bint continues(uint8_t byte) noexcept:
    return (byte & CONTINUED) == CONTINUATION


cdef Py_ssize_t count_characters(const uint8_t *at, const uint8_t *end, uint8_t *highest) noexcept:
    """Count the characters of UTF-8, and find the highest of their first bytes; -1 if it is not well-formed."""
    cdef Py_ssize_t count = 0
    cdef uint8_t head
    cdef uint8_t most = 0
    while at < end:
        head = at[0]
        if head < 0x80:
            at += 1
        elif head < 0xE0:
            # 0xC0 and 0xC1 would begin longer forms of ASCII.
            if head < 0xC2 or end - at < 2 or not continues(at[1]):
                return -1
            at += 2
        elif head < 0xF0:
            if end - at < 3 or not continues(at[1]) or not continues(at[2]):
                return -1
            # Longer forms of what two bytes hold, and surrogates.
            if (head == 0xE0 and at[1] < 0xA0) or (head == 0xED and at[1] >= 0xA0):
                return -1
            at += 3
        else:
            if head > 0xF4 or end - at < 4 or not continues(at[1]) or not continues(at[2]) or not continues(at[3]):
                return -1
            # Longer forms of what three bytes hold, and what lies beyond U+10FFFF.
            if (head == 0xF0 and at[1] < 0x90) or (head == 0xF4 and at[1] >= 0x90):
                return -1
            at += 4
        if head > most:
            most = head
        count += 1
    highest[0] = most
    return count


cdef inline void write_characters(Unit *to, const uint8_t *at, const uint8_t *end) noexcept:
    """Write the characters of UTF-8 that is known to be well-formed, and to fit."""
    cdef uint32_t head
    while at < end:
        head = at[0]
        if head < 0x80:
            to[0] = <Unit> head
            at += 1
        elif head < 0xE0:
            to[0] = <Unit> (((head & 0x1F) << 6) | (at[1] & 0x3F))
            at += 2
        elif head < 0xF0:
            to[0] = <Unit> (((head & 0x0F) << 12) | ((<uint32_t> at[1] & 0x3F) << 6) | (at[2] & 0x3F))
            at += 3
        else:
            to[0] = <Unit> (
                ((head & 0x07) << 18)
                | ((<uint32_t> at[1] & 0x3F) << 12)
                | ((<uint32_t> at[2] & 0x3F) << 6)
                | (at[3] & 0x3F)
            )
            at += 4
        to += 1


cdef PyObject *new_text(const char *data, Py_ssize_t size) except NULL:
    """Make a str of UTF-8, a new reference; raises where it is none."""
    cdef const uint8_t *at = <const uint8_t *> data
    cdef const uint8_t *end = at + size
    cdef Py_ssize_t count
    cdef uint8_t highest
    cdef PyObject *text
    # Texts of one character, which Python keeps and shares.
    if size < 2 or (size == 2 and at[0] >= 0x80):
        return decoded(data, size, NULL)
    if all_ascii(at, size):
        text = new_unicode(size, 0x7F)
        memcpy(data_of(text), data, size)
        return text
    count = count_characters(at, end, &highest)
    if count < 2:
        return decoded(data, size, NULL)
    if highest < 0xC4:
        text = new_unicode(count, 0xFF)
        write_characters(<uint8_t *> data_of(text), at, end)
    elif highest < 0xF0:
        text = new_unicode(count, 0xFFFF)
        write_characters(<uint16_t *> data_of(text), at, end)
    else:
        text = new_unicode(count, 0x10FFFF)
        write_characters(<uint32_t *> data_of(text), at, end)
    return text


# -- writing -----------------------------------------------------------------------------------------

cdef inline Py_ssize_t encoded_size(const Unit *at, Py_ssize_t count) noexcept:
    """Count the bytes of characters as UTF-8."""
    cdef Py_ssize_t size = count
    cdef Py_ssize_t i
    for i in range(count):
        size += at[i] >= 0x80
        if Unit is not uint8_t:
            size += at[i] >= 0x800
        if Unit is uint32_t:
            size += at[i] >= 0x10000
    return size


cdef inline bint encode_characters(char *to, const Unit *at, Py_ssize_t count) noexcept:
    """Write characters as UTF-8; false for lone surrogates, which have none."""
    cdef Py_ssize_t i
    cdef uint32_t point
    for i in range(count):
        point = at[i]
        if point < 0x80:
            to[0] = <char> point
            to += 1
        elif point < 0x800:
            to[0] = <char> (0xC0 | (point >> 6))
            to[1] = <char> (0x80 | (point & 0x3F))
            to += 2
        elif point < 0x10000:
            if 0xD800 <= point <= 0xDFFF:
                return False
            to[0] = <char> (0xE0 | (point >> 12))
            to[1] = <char> (0x80 | ((point >> 6) & 0x3F))
            to[2] = <char> (0x80 | (point & 0x3F))
            to += 3
        else:
            to[0] = <char> (0xF0 | (point >> 18))
            to[1] = <char> (0x80 | ((point >> 12) & 0x3F))
            to[2] = <char> (0x80 | ((point >> 6) & 0x3F))
            to[3] = <char> (0x80 | (point & 0x3F))
            to += 4
    return True


cdef Py_ssize_t utf8_size(PyObject *text) noexcept:
    """Count the bytes of a str as UTF-8."""
    cdef Py_ssize_t size
    cdef Py_ssize_t count = length_of(text)
    cdef const void *data = data_of(text)
    cdef int kind = kind_of(text)
    # Not PyUnicode_AsUTF8AndSize: it would leave a copy of the text in the string for good.
    if kept_utf8(text, &size) is not NULL:
        return size
    if kind == 1:
        return encoded_size(<const uint8_t *> data, count)
    if kind == 2:
        return encoded_size(<const uint16_t *> data, count)
    return encoded_size(<const uint32_t *> data, count)


cdef bint put_utf8(char *to, PyObject *text) noexcept:
    """Write a str as UTF-8, into as many bytes as :func:`utf8_size` counts; false for lone surrogates."""
    cdef Py_ssize_t size
    cdef Py_ssize_t count = length_of(text)
    cdef const void *data = data_of(text)
    cdef int kind = kind_of(text)
    cdef const char *kept = kept_utf8(text, &size)
    if kept is not NULL:
        memcpy(to, kept, size)
        return True
    if kind == 1:
        return encode_characters(to, <const uint8_t *> data, count)
    if kind == 2:
        return encode_characters(to, <const uint16_t *> data, count)
    return encode_characters(to, <const uint32_t *> data, count)
