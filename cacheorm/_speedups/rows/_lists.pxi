"""The codec of lists, by the codec of their elements."""

from cpython.ref cimport Py_INCREF

from ..convert._structured_c import ListOf
from ._slots_c cimport expose, leave_untracked, taken

cdef extern from "Python.h":
    object PyList_New(Py_ssize_t size)
    void PyList_SET_ITEM(object items, Py_ssize_t index, object item)


cdef class ListCodec(ValueCodec):
    """Lists. Those that are returned are referred to from nowhere else."""

    cdef ValueCodec element

    def __cinit__(self, converter, bint null):
        self.element = codec_of(converter.element, converter.null)

    cdef void intern_nothing(self) noexcept:
        self.element.intern_nothing()

    cdef object encode(self, Buffer *buffer, value):
        if type(value) is not list:
            return ValueCodec.encode(self, buffer, value)
        # What a read returns is mostly what is there.
        cdef list canonical = (<list> value)[:]
        cdef Py_ssize_t i
        put_list_header(buffer, len(canonical))
        for i in range(len(canonical)):
            # Held meanwhile: a converter may run any code.
            item = canonical[i]
            if item is not None:
                found = self.element.encode(buffer, item)
                if found is not item:
                    canonical[i] = self.shared(found)
            elif self.element.null:
                put_null(buffer)
            else:
                raise ValueError("null")
        return self.finished(canonical)

    cdef object decode(self, Reader *reader):
        cdef list value
        cdef Py_ssize_t i, size
        if reader.large and self.element.converter.weight:
            raise ValueError("its weight is not known yet")
        if not take_list_header(reader, &size):
            return ValueCodec.decode(self, reader)
        if self.element.leaf:
            # Code that runs meanwhile must not find it among what the collector tracks, as there are gaps in it.
            value = self.finished(PyList_New(size))
            for i in range(size):
                item = self.decode_item(reader)
                Py_INCREF(item)
                PyList_SET_ITEM(value, i, item)
            return value
        value = []
        for i in range(size):
            value.append(self.decode_item(reader))
        return value

    cdef inline object shared(self, item):
        """Return an element that whoever gets the list can get hold of."""
        return item if self.element.leaf else expose(NULL, <PyObject *> item)

    cdef inline list finished(self, list value):
        """Return a list that nothing else refers to."""
        if self.element.leaf:
            leave_untracked(<PyObject *> value)
        return value

    cdef inline object decode_item(self, Reader *reader):
        if reader.at >= reader.end:
            raise ValueError("truncated")
        if reader.at[0] != 0xC0:
            return self.shared(self.element.decode(reader))
        if not self.element.null:
            raise ValueError("null")
        reader.at += 1
        return None

    cdef object to_stored(self, value, PyObject **canonical):
        if type(value) is not list:
            return ValueCodec.to_stored(self, value, canonical)
        cdef list items = (<list> value)[:]
        cdef list stored = []
        cdef PyObject *changed = NULL
        cdef Py_ssize_t i
        for i in range(len(items)):
            item = items[i]
            if item is not None:
                form = self.element.to_stored(item, &changed)
                if changed is not NULL:
                    found = taken(changed)
                    changed = NULL
                    items[i] = self.shared(found)
                stored.append(form)
            elif self.element.null:
                stored.append(None)
            else:
                raise ValueError("null")
        self.finished(items)
        Py_INCREF(items)
        canonical[0] = <PyObject *> items
        return stored

    cdef object from_stored(self, stored):
        if type(stored) is not list:
            return self.load(stored)
        cdef list value = []
        for item in <list> stored:
            if item is not None:
                value.append(self.shared(self.element.from_stored(item)))
            elif self.element.null:
                value.append(None)
            else:
                raise ValueError("null")
        return self.finished(value)


def list_codec(converter, null):
    # The converter makes equal combinations of flags once.
    element = converter.element
    return (ValueCodec if isinstance(element, Enumeration) and element.flag else ListCodec)(converter, null)


register(ListOf, list_codec)
