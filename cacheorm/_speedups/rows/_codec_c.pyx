# cython: cdivision=True
"""The codec of one kind of value: one is registered for each converter, and does its common values on C buffers.

A codec returns what its converter returns, or calls it; :class:`ValueCodec` itself calls it for every value. When a
method raises, the general path converts the row again, and raises the errors that users see.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeASCII

from ..convert._converter_c cimport Converter, plain
from ..convert._converter_c import Methods, Pair
from ._msgpack_c cimport *

cdef extern from "Python.h":
    Py_ssize_t PyList_GET_SIZE(object items)
    PyObject *item_of "PyList_GET_ITEM"(object items, Py_ssize_t index)
    object call_one "PyObject_CallOneArg"(object function, object argument)
    PyTypeObject *Py_TYPE(PyObject *)
    PyTypeObject PyFloat_Type
    PyTypeObject PyList_Type
    PyTypeObject PyLong_Type
    PyTypeObject PyUnicode_Type

__all__ = []

cdef dict CODECS = {}


cdef int register(converter_type, codec_type) except -1:
    """Have the values of a converter, of exactly this type, done by a codec.

    Args:
        converter_type: the class of the converter.
        codec_type: a subclass of :class:`ValueCodec`, or a function that makes one of a converter and ``null``.
    """
    CODECS[converter_type] = codec_type
    return 0


cdef ValueCodec codec_of(converter, bint null):
    """Make the codec of a converter's values; ``null`` says whether ``None`` is one of them."""
    return CODECS.get(type(converter), ValueCodec)(converter, null)


cdef class ValueCodec:
    """Calls the converter for every value.

    Args:
        converter: the converter.
        null: whether ``None`` is a value.
    """

    def __cinit__(self, converter, bint null):
        self.converter = converter
        self.null = null
        self.packable = converter.packable
        self.level = converter.level
        self.compiled = isinstance(converter, Converter)
        self.own_code = self.compiled and converter.own_code

    cdef object encode(self, Buffer *buffer, value):
        """Write a value that is not ``None`` as msgpack, and return what a read returns."""
        stored = self.dump(value)
        canonical = self.canonical(value, stored)
        put_stored(buffer, stored)
        return canonical

    cdef object decode(self, Reader *reader):
        """Read a value that is not null from msgpack."""
        if reader.large and self.level:
            raise ValueError("its weight is not known yet")
        return self.load(take_any(reader, self.level))

    cdef object to_stored(self, value, PyObject **canonical):
        """Return the stored form of a value that is not ``None``, for a format that a library packs.

        ``canonical`` becomes a new reference to what a read returns, or stays as it is where that is the value itself.
        """
        stored = self.dump(value)
        found = self.canonical(value, stored)
        Py_INCREF(found)
        canonical[0] = <PyObject *> found
        return stored

    cdef object from_stored(self, stored):
        """Return the value of a stored form that is not ``None``."""
        return self.load(stored)

    cdef object key_value(self, value):
        """Return what a read returns for a part of a primary key."""
        return self.canonical(value, self.dump(value))

    cdef Py_ssize_t put_key(self, char *to, Py_ssize_t room, value) except -2:
        """Write a value as it stands in keys, and return its size; -1 where the general path has to.

        Only the codecs of converters that have a ``key_type`` write any.
        """
        return -1

    cdef void intern_nothing(self) noexcept:
        """Keep no text that is read: secrets may be kept nowhere but in the rows."""

    cdef object dump(self, value):
        """Return the stored form, by the converter."""
        # Compiled converters without a detour through Python.
        stored = (<Converter> self.converter).dump(value) if self.compiled else self.converter.dump(value)
        if stored is None and not self.null:
            raise ValueError("null")
        return stored

    cdef object load(self, stored):
        """Return the value, by the converter."""
        return (<Converter> self.converter).load(stored) if self.compiled else self.converter.load(stored)

    cdef object canonical(self, value, stored):
        """Return what a read returns, by the converter."""
        if self.compiled:
            return (<Converter> self.converter).canonical(value, stored)
        return self.converter.canonical(value, stored)


cdef class FormattedCodec(ValueCodec):
    """The values of a kind that is stored as ASCII text of one form, such as dates.

    Subclasses format and parse the values of exactly one type. The converter is called for any other value or text.
    """

    def __cinit__(self):
        self.leaf = True

    cdef Py_ssize_t format(self, char *text, value) except -1:
        """Write a value, at most :data:`LONGEST_FORMATTED` bytes, and return its size; 0 for the converter to do it."""
        raise NotImplementedError

    cdef object parse(self, const char *text, Py_ssize_t size):
        """Read a value; ``None`` for the converter to do it."""
        raise NotImplementedError

    cdef object encode(self, Buffer *buffer, value):
        cdef char text[LONGEST_FORMATTED]
        cdef Py_ssize_t size = self.format(text, value)
        if not size:
            return ValueCodec.encode(self, buffer, value)
        put_text(buffer, text, size)
        return value

    cdef object decode(self, Reader *reader):
        cdef const char *data
        cdef Py_ssize_t size
        start = reader.at
        if take_text(reader, &data, &size):
            value = self.parse(data, size)
            if value is not None:
                return value
            reader.at = start
        return ValueCodec.decode(self, reader)

    cdef object to_stored(self, value, PyObject **canonical):
        cdef char text[LONGEST_FORMATTED]
        cdef Py_ssize_t size = self.format(text, value)
        if not size:
            return ValueCodec.to_stored(self, value, canonical)
        return PyUnicode_DecodeASCII(text, size, NULL)

    cdef object from_stored(self, stored):
        cdef PyObject *text = <PyObject *> stored
        if type(stored) is str and PyUnicode_IS_COMPACT_ASCII(text):
            value = self.parse(<const char *> PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
            if value is not None:
                return value
        return self.load(stored)


# -- functions of the application --------------------------------------------------------------------

cdef class PairCodec(ValueCodec):
    """Calls the two functions of a :class:`Pair` without its detours."""

    cdef object dumps
    cdef object loads

    def __cinit__(self, converter, bint null):
        self.dumps = converter.to_stored
        self.loads = converter.to_value

    cdef object encode(self, Buffer *buffer, value):
        stored = call_one(self.dumps, value)
        if not is_own(<PyObject *> stored):
            stored = plain(stored, self.level)
        if stored is None and not self.null:
            raise ValueError("null")
        put_stored(buffer, stored)
        # It is packed already: the function may keep it.
        return None if stored is None else call_one(self.loads, stored)

    cdef object decode(self, Reader *reader):
        return call_one(self.loads, take_any(reader, self.level))


register(Pair, PairCodec)
register(Methods, PairCodec)


cdef extern from *:
    """
    /* Whether the only reference to a list is the caller's. */
    static inline int only_reference(PyObject *list)
    {
    #if defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
        return 0;
    #else
        return Py_REFCNT(list) == 1;
    #endif
    }
    """
    bint only_reference(PyObject *list)


cdef bint is_own(PyObject *stored) noexcept:
    """Tell whether what a function returned equals its :func:`plain` copy, and has no other reference."""
    cdef PyTypeObject *kind = Py_TYPE(stored)
    cdef Py_ssize_t i
    if kind is not &PyList_Type:
        return is_scalar(kind)
    if not only_reference(stored):
        return False
    for i in range(PyList_GET_SIZE(<object> stored)):
        if not is_scalar(Py_TYPE(item_of(<object> stored, i))):
            return False
    return True


cdef inline bint is_scalar(PyTypeObject *kind) noexcept:
    return kind is &PyFloat_Type or kind is &PyUnicode_Type or kind is &PyLong_Type


# One file for each kind of value. They are parts of this module, since each module of its own would add a quarter of a
# millisecond to the import of the package, and 75 KB to its size.
include "_enumerations.pxi"
include "_lists.pxi"
include "_numbers.pxi"
include "_temporal.pxi"
include "_text.pxi"
include "_uuids.pxi"
