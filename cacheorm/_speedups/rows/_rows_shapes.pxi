"""Values to msgpack and back, by what their converter is."""

cdef struct Known:
    # One member of an enumeration, with its value as msgpack.
    PyObject *member       # borrowed from the converter
    char *packed           # owned
    Py_ssize_t size


cdef struct Shape:
    int kind
    bint null
    bint plain             # whether all that is stored is text and finite numbers, and lists of them
    bint compiled          # whether the converter is an extension type
    bint leaf              # whether its values refer to nothing else
    Py_ssize_t max_length  # of a text; -1 for none
    PyObject *converter    # borrowed from the codec's list
    PyObject *members      # of an enum: stored value -> member; borrowed from its converter
    PyObject *enum         # the enum; borrowed likewise
    PyObject *to_stored    # of a pair of functions; borrowed likewise
    PyObject *to_value
    Known *known           # its members, where they are few; owned
    Py_ssize_t known_count
    Py_ssize_t places      # of a decimal: digits after the point; -1 for any
    Shape *element         # of a list; owned
    Texts texts            # that were read


cdef enum:
    FEW_MEMBERS = 16


cdef void begin(Shape *shape) noexcept:
    """Let a shape own nothing; from then on it can be released."""
    shape.element = NULL
    shape.known = NULL
    begin_texts(&shape.texts)


cdef int describe(Shape *shape, converter, bint null) except -1:
    """Fill in a shape that has begun; the caller keeps ``converter`` alive, and calls :func:`release` in the end."""
    shape.kind = converter.kind
    shape.null = null
    shape.plain = shape.kind not in (OTHER, BYTES) and (shape.kind != FLOAT or not converter.allow_nan)
    shape.compiled = isinstance(converter, Converter)
    shape.max_length = -1
    shape.converter = <PyObject *> converter
    shape.members = NULL
    shape.enum = NULL
    shape.to_stored = NULL
    shape.to_value = NULL
    shape.known_count = 0
    shape.places = -1
    if shape.kind == ENUM:
        members = converter.members
        # 1, 1.0 and True are the same dict key; only where the stored values are plain text and ints is a
        # lookup without a look at the type the same as what the converter does.
        enum = converter.enum
        if type(members) is dict and all([type(stored) in (int, str) for stored in members]):
            shape.members = <PyObject *> members
            shape.enum = <PyObject *> enum
            describe_members(shape, members)
        else:
            shape.kind = OTHER
            shape.plain = False
    elif shape.kind == STR:
        if converter.max_length is not None:
            shape.max_length = min(converter.max_length, PY_SSIZE_T_MAX)
    elif shape.kind == DECIMAL:
        if converter.exponent is not None:
            shape.places = -converter.exponent.adjusted()
            if shape.places < 0:
                shape.kind = OTHER
    elif shape.kind == LIST:
        shape.element = <Shape *> PyMem_Malloc(sizeof(Shape))
        if shape.element is NULL:
            raise MemoryError
        begin(shape.element)
        element = converter.element
        describe(shape.element, element, converter.null)
        shape.plain = shape.element.plain
    elif shape.kind == UUID_KIND:
        if not UUID_SLOTS_KNOWN:
            shape.kind = OTHER
    elif type(converter) is Pair or type(converter) is Methods:
        to_stored, to_value = converter.to_stored, converter.to_value
        shape.kind = PAIR
        shape.to_stored = <PyObject *> to_stored
        shape.to_value = <PyObject *> to_value
    elif shape.kind not in (INT, BOOL, FLOAT, DATETIME, DATETIME_TZ, DATE, TIME):
        shape.kind = OTHER
    shape.leaf = shape.kind not in (OTHER, LIST, PAIR)
    return 0


cdef int describe_members(Shape *shape, dict members) except -1:
    """Pack the values of an enumeration once and for all, where going through them is sooner than a lookup."""
    cdef bytes packed
    cdef Known *known
    if len(members) > FEW_MEMBERS:
        return 0
    shape.known = <Known *> PyMem_Malloc(len(members) * sizeof(Known))
    if shape.known is NULL:
        raise MemoryError
    for stored, member in members.items():
        packed = pack(stored)
        known = &shape.known[shape.known_count]
        known.packed = <char *> PyMem_Malloc(len(packed))
        if known.packed is NULL:
            raise MemoryError
        memcpy(known.packed, PyBytes_AS_STRING(packed), len(packed))
        known.size = len(packed)
        known.member = <PyObject *> member
        shape.known_count += 1
    return 0


cdef void release(Shape *shape) noexcept:
    """Free what a shape owns."""
    cdef Py_ssize_t i
    if shape.element is not NULL:
        release(shape.element)
        PyMem_Free(shape.element)
        shape.element = NULL
    if shape.known is not NULL:
        for i in range(shape.known_count):
            PyMem_Free(shape.known[i].packed)
        PyMem_Free(shape.known)
        shape.known = NULL
    give_up_texts(&shape.texts)


cdef object dump(Shape *shape, value):
    """Let the converter give the stored form of a value."""
    converter = <object> shape.converter
    # Built-in converters without a detour through Python.
    stored = (<Converter> converter).dump(value) if shape.compiled else converter.dump(value)
    if stored is None and not shape.null:
        raise ValueError("null")
    return stored


cdef object load(Shape *shape, stored):
    """Let the converter give the value of a stored form."""
    converter = <object> shape.converter
    return (<Converter> converter).load(stored) if shape.compiled else converter.load(stored)


cdef object canonical_of(Shape *shape, value, stored):
    """Let the converter give what a read gives."""
    converter = <object> shape.converter
    if shape.compiled:
        return (<Converter> converter).canonical(value, stored)
    return converter.canonical(value, stored)


cdef object encode(Buffer *buffer, Shape *shape, value):
    """Write a value that is not ``None``, and give what a read gives; raises where the general path has to."""
    cdef Py_ssize_t i
    cdef char text[32]
    if shape.kind == STR:
        if type(value) is str and (shape.max_length < 0 or len(<str> value) <= shape.max_length):
            put_str(buffer, <PyObject *> value)
            return value
    elif shape.kind == FLOAT:
        if type(value) is float and isfinite(PyFloat_AS_DOUBLE(value)):
            put_float(buffer, PyFloat_AS_DOUBLE(value))
            return value
    elif shape.kind == BOOL:
        if type(value) is bool:
            reserve(buffer, 1)
            put(buffer, value is True)
            return value
    elif shape.kind == INT:
        if type(value) is int and put_fitting(buffer, value):
            return value
    elif shape.kind == ENUM:
        for i in range(shape.known_count):
            if shape.known[i].member is <PyObject *> value:
                put_bytes(buffer, shape.known[i].packed, shape.known[i].size)
                return value
        if type(value) is <object> shape.enum:
            stored = value._value_
            if (type(stored) is int or type(stored) is str) and (<dict> shape.members).get(stored) is value:
                put_stored(buffer, stored)
                return value
    elif shape.kind == DATETIME_TZ:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is UTC and not datetime_fold(value):
            put_datetime(buffer, value, True)
            return value
    elif shape.kind == DATETIME:
        if type(value) is DATETIME_TYPE and datetime_tzinfo(value) is None and not datetime_fold(value):
            put_datetime(buffer, value, False)
            return value
    elif shape.kind == DATE:
        if type(value) is DATE_TYPE:
            put_date(buffer, value)
            return value
    elif shape.kind == TIME:
        if type(value) is TIME_TYPE and time_tzinfo(value) is None and not time_fold(value):
            put_time(buffer, value)
            return value
    elif shape.kind == UUID_KIND:
        if type(value) is UUID and uuid_digits(text, value):
            put_text(buffer, text, 32)
            return value
    elif shape.kind == DECIMAL:
        if type(value) is DECIMAL_TYPE:
            i = format_decimal(text, value)
            if i and has_places(value, shape.places):
                put_text(buffer, text, i)
                return value
            stored = decimal_text(value, shape.places)
            if stored is not None:
                put_str(buffer, <PyObject *> stored)
                return value
    elif shape.kind == LIST:
        if type(value) is list:
            return encode_list(buffer, shape, <list> value)
    elif shape.kind == PAIR:
        return encode_pair(buffer, shape, value)
    stored = dump(shape, value)
    canonical = canonical_of(shape, value, stored)
    put_stored(buffer, stored)
    return canonical


cdef extern from *:
    """
    /* Whether a list that a function gave belongs to whoever has got it, and to nobody else. */
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
    """Tell whether what a function gave is as :func:`plain` would copy it, with nobody who could see that it is none."""
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


cdef object encode_pair(Buffer *buffer, Shape *shape, value):
    """Write what a function of the application makes of a value, and give what the other one makes of that."""
    stored = call_one(shape.to_stored, value)
    if not is_own(<PyObject *> stored):
        stored = plain(stored, 0)
    if stored is None and not shape.null:
        raise ValueError("null")
    put_stored(buffer, stored)
    # It is packed already: the function may keep it.
    return None if stored is None else call_one(shape.to_value, stored)


cdef list encode_list(Buffer *buffer, Shape *shape, list value):
    """Write a list, and give the list that a read gives, which nobody has seen."""
    # What a read gives is mostly what is there.
    cdef list canonical = value[:]
    cdef Py_ssize_t size = PyList_GET_SIZE(canonical)
    cdef Py_ssize_t i
    cdef PyObject *item
    cdef bint texts = shape.element.kind == STR and shape.element.max_length < 0
    cdef bint numbers = shape.element.kind == INT
    put_list_header(buffer, size)
    for i in range(size):
        item = item_of(canonical, i)
        if texts and Py_TYPE(item) is &PyUnicode_Type:
            put_str(buffer, item)
        elif numbers and Py_TYPE(item) is &PyLong_Type and put_fitting(buffer, <object> item):
            pass
        elif <object> item is not None:
            # Held meanwhile: a converter may run any code.
            given = <object> item
            found = encode(buffer, shape.element, given)
            if found is not given:
                canonical[i] = found
        elif shape.element.null:
            put_null(buffer)
        else:
            raise ValueError("null")
    if shape.element.leaf:
        leave_untracked(<PyObject *> canonical)
    return canonical


cdef object decode(Reader *reader, Shape *shape):
    """Read a value that is not null; raises where the general path has to."""
    cdef const char *data
    cdef Py_ssize_t size, i
    cdef double number
    cdef const uint8_t *start = reader.at
    cdef int kind = shape.kind
    if kind == STR:
        if take_text(reader, &data, &size):
            return owned(text_in(&shape.texts, data, size))
    elif kind == INT:
        value = take_int(reader)
        if value is not None:
            return value
    elif kind == FLOAT:
        if take_float(reader, &number):
            if isfinite(number):
                return PyFloat_FromDouble(number)
            reader.at = start
    elif kind == BOOL:
        if reader.end > reader.at and (start[0] <= 1 or start[0] == 0xC2 or start[0] == 0xC3):
            reader.at += 1
            return (start[0] & 1) == 1
    elif kind == ENUM:
        size = reader.end - reader.at
        for i in range(shape.known_count):
            if shape.known[i].size <= size and same(<const char *> start, shape.known[i].packed, shape.known[i].size):
                reader.at += shape.known[i].size
                return <object> shape.known[i].member
        stored = take_any(reader, 0)
        if type(stored) is int or type(stored) is str:
            member = (<dict> shape.members).get(stored)
            if member is not None:
                return member
        reader.at = start
    elif kind == LIST:
        if take_list_header(reader, &size):
            return decode_list(reader, shape, size)
    elif kind == PAIR:
        return call_one(shape.to_value, take_any(reader, 0))
    elif kind != OTHER:
        if take_text(reader, &data, &size):
            value = value_of_text(kind, data, size)
            if value is not None:
                return value
            reader.at = start
    # What the field's own converter makes of it; a wrong value raises, and the general path reports it.
    return load(shape, take_any(reader, 0))


cdef list decode_list(Reader *reader, Shape *shape, Py_ssize_t size):
    """Read a list, which nobody has seen."""
    cdef list value
    cdef Py_ssize_t i
    cdef const char *data
    cdef Py_ssize_t length
    cdef bint texts = shape.element.kind == STR
    cdef bint numbers = shape.element.kind == INT
    if shape.element.leaf:
        value = PyList_New(size)
        for i in range(size):
            if texts and take_text(reader, &data, &length):
                PyList_SET_ITEM(value, i, text_in(&shape.element.texts, data, length))
                continue
            item = take_int(reader) if numbers else None
            if item is None:
                item = decode_item(reader, shape)
            Py_INCREF(item)
            PyList_SET_ITEM(value, i, <PyObject *> item)
        leave_untracked(<PyObject *> value)
        return value
    # Code that is not ours may see the list meanwhile: it must have no gaps.
    value = []
    for i in range(size):
        value.append(decode_item(reader, shape))
    return value


cdef object decode_item(Reader *reader, Shape *shape):
    if reader.at >= reader.end:
        raise ValueError("truncated")
    if reader.at[0] != 0xC0:
        return decode(reader, shape.element)
    if not shape.element.null:
        raise ValueError("null")
    reader.at += 1
    return None
