"""Values to stored forms and back, for formats that other libraries pack."""

cdef object to_stored(Shape *shape, value, PyObject **canonical):
    """Give the stored form of a value that is not ``None``; raises where the general path has to.

    ``canonical`` becomes a new reference to what a read gives, or stays as it is where that is the value itself.
    """
    cdef char text[32]
    if shape.kind == STR:
        if type(value) is str and (shape.max_length < 0 or len(<str> value) <= shape.max_length):
            check_text(<str> value)
            return value
    elif shape.kind == FLOAT:
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            return value
    elif shape.kind == BOOL:
        if type(value) is bool:
            return 1 if value else 0
    elif shape.kind == INT:
        if type(value) is int and fits(value):
            return value
    elif shape.kind == ENUM:
        if type(value) is <object> shape.enum:
            stored = value._value_
            if (type(stored) is int or type(stored) is str) and (<dict> shape.members).get(stored) is value:
                return stored
    elif shape.kind == DATETIME_TZ:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is UTC and not datetime_fold(value):
            return PyUnicode_DecodeASCII(text, format_datetime(text, value, True), NULL)
    elif shape.kind == DATETIME:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is None and not datetime_fold(value):
            return PyUnicode_DecodeASCII(text, format_datetime(text, value, False), NULL)
    elif shape.kind == DATE:
        if type(value) is DATE_TYPE:
            put_day(text, date_year(value), date_month(value), date_day(value))
            return PyUnicode_DecodeASCII(text, 10, NULL)
    elif shape.kind == TIME:
        if type(value) is TIME_TYPE and time_tzinfo(value) is None and not time_fold(value):
            return PyUnicode_DecodeASCII(text, format_time(text, value), NULL)
    elif shape.kind == UUID_KIND:
        if type(value) is UUID and uuid_digits(text, value):
            return PyUnicode_DecodeASCII(text, 32, NULL)
    elif shape.kind == DECIMAL:
        if type(value) is DECIMAL_TYPE:
            stored = decimal_text(value, shape.places)
            if stored is not None:
                return stored
    elif shape.kind == LIST:
        if type(value) is list:
            return list_to_stored(shape, <list> value, canonical)
    stored = dump(shape, value)
    found = canonical_of(shape, value, stored)
    Py_INCREF(found)
    canonical[0] = <PyObject *> found
    return stored


cdef list list_to_stored(Shape *shape, list value, PyObject **canonical):
    cdef list items = value[:]
    cdef list stored = []
    cdef PyObject *changed = NULL
    cdef Py_ssize_t i
    for i in range(len(items)):
        if items[i] is not None:
            stored.append(to_stored(shape.element, items[i], &changed))
            if changed is not NULL:
                items[i] = <object> changed
                Py_XDECREF(changed)
                changed = NULL
        elif shape.element.null:
            stored.append(None)
        else:
            raise ValueError("null")
    if shape.element.leaf:
        leave_untracked(<PyObject *> items)
    Py_INCREF(items)
    canonical[0] = <PyObject *> items
    return stored


cdef int check_text(str text) except -1:
    """Raise for text with lone surrogates."""
    if not PyUnicode_IS_COMPACT_ASCII(text):
        text.encode("utf-8")
    return 0


cdef object from_stored(Shape *shape, stored):
    """Give the value of a stored form that is not ``None``; raises where the general path has to."""
    if shape.kind == STR:
        if type(stored) is str:
            check_text(<str> stored)
            return stored
    elif shape.kind == INT:
        if type(stored) is int:
            return stored
    elif shape.kind == FLOAT:
        if type(stored) is float and isfinite(PyFloat_AS_DOUBLE(stored)):
            return stored
    elif shape.kind == BOOL:
        if type(stored) is bool:
            return stored
    elif shape.kind == ENUM:
        if type(stored) is int or type(stored) is str:
            member = (<dict> shape.members).get(stored)
            if member is not None:
                return member
    elif shape.kind == LIST:
        if type(stored) is list:
            return list_from_stored(shape, <list> stored)
    elif shape.kind != OTHER and shape.kind != PAIR:
        if type(stored) is str and PyUnicode_IS_COMPACT_ASCII(stored):
            value = value_of_text(shape.kind, <const char *> PyUnicode_DATA(stored), PyUnicode_GET_LENGTH(stored))
            if value is not None:
                return value
    return load(shape, stored)


cdef list list_from_stored(Shape *shape, list stored):
    cdef list value = []
    for item in stored:
        if item is not None:
            value.append(from_stored(shape.element, item))
        elif shape.element.null:
            value.append(None)
        else:
            raise ValueError("null")
    if shape.element.leaf:
        leave_untracked(<PyObject *> value)
    return value
