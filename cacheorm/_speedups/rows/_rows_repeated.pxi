"""Texts that a column has again and again, such as countries and states: made once, and shared by the rows that hold them.

A str of its own takes longer to make and to free than its bytes to be found in a table of the last ones, and memory for
each row. Of columns whose texts are all different nothing comes of it: their table is given up for good after a few rows.
"""

cdef extern from *:
    """
    /* How many texts may be new, less those that were not. Threads without a common lock would have to take turns. */
    #if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
    #define TEXTS_PATIENCE 0
    #else
    #define TEXTS_PATIENCE 64
    #endif
    """
    const int PATIENCE "TEXTS_PATIENCE"

cdef enum:
    KEPT = 256          # places of a table: as many as a byte has values
    LONGEST_KEPT = 32   # bytes of a text
    GAIN = 3            # how many new texts one that is found makes up for

cdef struct Texts:
    PyObject **kept     # owned, and so are its references, all of ASCII; NULL while there is no table
    int patience        # what is left of it; 0 once the table is given up


cdef inline void begin_texts(Texts *texts) noexcept:
    texts.kept = NULL
    texts.patience = PATIENCE


cdef void give_up_texts(Texts *texts) noexcept:
    cdef int i
    texts.patience = 0
    if texts.kept is not NULL:
        for i in range(KEPT):
            Py_XDECREF(texts.kept[i])
        PyMem_Free(texts.kept)
        texts.kept = NULL


cdef inline PyObject *text_in(Texts *texts, const char *data, Py_ssize_t size) except NULL:
    """Give the str of some UTF-8, a new reference; raises where it is none."""
    # Python itself shares texts of one character.
    if texts.patience and 2 <= size <= LONGEST_KEPT:
        return shared_text(texts, data, size)
    return new_text(data, size)


cdef PyObject *shared_text(Texts *texts, const char *data, Py_ssize_t size) except NULL:
    # No other code runs between a look at the table and what comes of it.
    cdef PyObject *text
    cdef PyObject *old
    cdef uint8_t place = place_of(data, size)
    if texts.kept is NULL:
        texts.kept = <PyObject **> PyMem_Calloc(KEPT, sizeof(PyObject *))
        if texts.kept is NULL:
            raise MemoryError
    text = texts.kept[place]
    if text is not NULL and length_of(text) == size and same(<const char *> data_of(text), data, size):
        if texts.patience <= PATIENCE - GAIN:
            texts.patience += GAIN
        Py_XINCREF(text)
        return text
    text = new_text(data, size)
    if is_ascii(text):
        old = texts.kept[place]
        Py_XINCREF(text)
        texts.kept[place] = text
        Py_XDECREF(old)
    texts.patience -= 1
    if not texts.patience:
        give_up_texts(texts)
    return text


cdef inline uint8_t place_of(const char *data, Py_ssize_t size) noexcept:
    """Give the place of a text of two bytes or more, by its ends: what differs in the middle alone has the same one."""
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
