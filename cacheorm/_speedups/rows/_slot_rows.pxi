"""What the codecs of rows share.

Whatever is not expected (wrong types, broken bytes, a value that needs a default) goes to the general path, which reads
or converts the row from the start and makes all errors. So nothing here raises an error about a row, and both paths
agree by construction.
"""

cdef class SlotRows(Columns):
    """What the codecs below share: packing instances, reading payloads, and changing them.

    Whatever a codec does not do itself is done by ``general``.
    """

    cdef inline int check_made(self) except -1:
        """Raise for an object that was made by ``__new__`` alone, or whose ``__init__`` failed."""
        if not self.made:
            raise TypeError(f"{type(self).__name__}.__init__() was not called")
        return 0

    # -- writing -------------------------------------------------------------------------------------

    def dump_many(self, list instances not None, bint many=True, stamp=None):
        """Pack instances, filling in defaults and replacing their values by what a read returns."""
        return self._pack_many(instances, many, False, True, stamp)

    def dump(self, instance, position=None, ages=None):
        """Pack one instance; ``position`` is its place in a bulk call, and ``ages`` are its packed ages."""
        return self.general.dump(instance, position, ages)

    def pack_changes(self, list instances not None, bint many=True, bint replace=False):
        """Convert and pack the fields that were changed since their row was read or stored."""
        return self._pack_many(instances, many, True, replace, None)

    cdef list _pack_many(self, list instances, bint many, bint changes_only, bint replace, stamp):
        cdef Buffer buffer
        cdef Py_ssize_t position, changes
        cdef list payloads = []
        cdef Py_ssize_t begun = 0
        cdef Stamped stamped
        cdef bint stamps = self.has_ages and not changes_only
        self.check_made()
        if stamps:
            stamp = self.general.stamp_of(stamp)
            take_stamp(stamp, &stamped)
        buffer.size = 0
        buffer.capacity = 512
        buffer.data = <char *> PyMem_Malloc(buffer.capacity)
        # Of this call alone: a converter's code may come back here with other rows.
        cdef PyObject **changed = <PyObject **> PyMem_Calloc(self.count, sizeof(PyObject *))
        cdef Column *columns = self.plan
        cdef Column *chosen = NULL
        cdef Py_ssize_t count = self.count
        try:
            if buffer.data is NULL or changed is NULL:
                raise MemoryError
            if changes_only:
                columns = chosen = <Column *> PyMem_Malloc(self.count * sizeof(Column))
                if chosen is NULL:
                    raise MemoryError
            elif self.header is not None:
                put_bytes(&buffer, PyBytes_AS_STRING(self.header), PyBytes_GET_SIZE(self.header))
                begun = buffer.size
            for position in range(len(instances)):
                instance = instances[position]
                payload = None
                if PyObject_TypeCheck(instance, <PyTypeObject *> self.model):
                    buffer.size = begun
                    changes = 0
                    if changes_only:
                        count = self.choose(&buffer, <PyObject *> instance, chosen)
                    if count >= 0:
                        payload = self.dump_row(&buffer, columns, count, changed, &changes, instance, changes_only)
                    if changes:
                        self.replace_values(instance, columns, count, changed, replace and payload is not None)
                if payload is not None:
                    if stamps:
                        # The bytes were made just now, and nobody else has seen them yet.
                        put_ages(self.ages_in(<bytes> payload), &stamped, position)
                    payloads.append(payload)
                elif changes_only:
                    payloads.append(self.general.changes(instance, position if many else None, replace))
                else:
                    ages = stamp.ages(position).pack() if stamps else None
                    payloads.append(self.general.dump(instance, position if many else None, ages))
        finally:
            if changed is not NULL:
                # What is left there when a converter was interrupted.
                for position in range(self.count):
                    Py_XDECREF(changed[position])
            PyMem_Free(changed)
            PyMem_Free(chosen)
            PyMem_Free(buffer.data)
        return payloads

    cdef void replace_values(
        self, instance, Column *columns, Py_ssize_t count, PyObject **changed, bint done
    ) noexcept:
        """Put the values that a read returns into the slots of an instance, or forget them."""
        cdef Py_ssize_t i
        cdef PyObject *value
        cdef bint listed = False
        for i in range(count):
            value = changed[i]
            if value is not NULL:
                changed[i] = NULL
                made = taken(value)
                if done:
                    listed = listed or type(made) is list
                    store(<PyObject *> instance, columns[i].offset, made)
        # It was tracked for the lists that it was given, which are not those that it has now.
        if listed and self.sealed and type(instance) is self.model and self.holds_leaves(<PyObject *> instance):
            leave_untracked(<PyObject *> instance)

    cdef object dump_row(
        self,
        Buffer *buffer,
        Column *columns,
        Py_ssize_t count,
        PyObject **changed,
        Py_ssize_t *changes,
        instance,
        bint changes_only,
    ):
        """Pack some columns of one instance; ``None`` if the general path has to.

        ``buffer`` holds what the payload begins with. ``changed`` has a place for each column, for a new reference to
        what a read returns, where that is not what the slot holds; ``changes`` counts them. Those values are kept back
        until the row is packed: should the general path have to do it, it must convert the values as they were, as a
        converter may make something else of its own result. ``changes_only`` says whether all columns have values, or
        may have defaults.
        """
        cdef Py_ssize_t i
        cdef Column *column
        cdef PyObject *slot
        cdef PyObject *found
        cdef dict row = None
        try:
            if self.header is None:
                row = {}
            for i in range(count):
                column = &columns[i]
                slot = (<PyObject **> (<char *> <PyObject *> instance + column.offset))[0]
                if slot is not NULL and slot is not <PyObject *> None:
                    # A converter may run any code, the slot's owner's included: it is held meanwhile.
                    value = <object> slot
                else:
                    if not self.value_of(column, slot, changes_only, &found):
                        return None
                    value = taken(found)
                if not column.in_payload:
                    canonical = (<ValueCodec> column.codec).key_value(value)
                elif row is not None:
                    canonical = self.write(row, column, value)
                else:
                    put_bytes(buffer, column.packed_name, column.packed_size)
                    canonical = (
                        (<ValueCodec> column.codec).encode(buffer, value) if value is not None else put_null(buffer)
                    )
                if column.validators is not NULL and canonical is not None:
                    expose(NULL, <PyObject *> canonical)
                    validators = <object> column.validators
                    for validator in <tuple> validators:
                        validator(canonical)
                if <PyObject *> canonical is not slot:
                    Py_INCREF(canonical)
                    changed[i] = <PyObject *> canonical
                    changes[0] += 1
            if row is None:
                return PyBytes_FromStringAndSize(buffer.data, buffer.size)
            return self.finish_changes(row) if changes_only else self.finish(row)
        except Exception:
            # Whatever it was, the general path meets it too, and says which row and field it was.
            return None

    cdef object write(self, dict row, Column *column, value):
        """Add a value to a row, and return what a read returns; raises where the general path has to."""
        raise NotImplementedError

    cdef object finish(self, dict row):
        """Return the payload of a row."""
        raise NotImplementedError

    cdef object finish_changes(self, dict row):
        """Return the changes of a row, as :meth:`patch_many` takes them."""
        raise NotImplementedError

    cdef bint value_of(self, Column *column, PyObject *slot, bint changes_only, PyObject **value) except -1:
        """Find the value to write for a column whose slot is empty or ``None``; false if the row cannot be written.

        ``value`` becomes a new reference to it.
        """
        if slot is not NULL and column.null:
            Py_XINCREF(slot)
            value[0] = slot
            return True
        if changes_only:
            return False
        if not column.has_default:
            if not column.null:
                return False
            made = None
        else:
            field = <object> column.field
            made = field.make_default()
            if made is None and not column.null:
                return False
        Py_INCREF(made)
        value[0] = <PyObject *> made
        return True

    # -- changing ------------------------------------------------------------------------------------

    def patch_many(
        self, list payloads not None, list changes not None, list keys not None, unreadable=None, stamp=None
    ):
        """Put changed fields into payloads; see :meth:`MappingRows.patch_many`."""
        cdef Py_ssize_t i
        cdef Py_ssize_t count = len(payloads)
        cdef Buffer buffer
        cdef Stamped stamped
        cdef int64_t now = 0
        cdef bint stamps = False
        cdef list made = []
        if len(changes) != count or len(keys) != count:
            raise ValueError("payloads, changes and keys must be of one length")
        self.check_made()
        if self.has_ages:
            now = self.general.aging.now()
            if stamp is not None and stamp.ends is not None:
                stamps = True
                take_stamp(stamp, &stamped)
        buffer.size = 0
        buffer.capacity = 512
        buffer.data = <char *> PyMem_Malloc(buffer.capacity)
        try:
            if buffer.data is NULL:
                raise MemoryError
            for i in range(count):
                payload = payloads[i]
                if payload is None or (self.has_ages and self.state_of(payload, now) == OVER):
                    made.append(None)
                    continue
                new = self.patch_quickly(&buffer, <bytes> payload, changes[i]) if type(payload) is bytes else None
                if new is None:
                    new = self.general.patch(payload, changes[i], keys[i], unreadable, stamp)
                elif stamps:
                    put_end(self.ages_in(<bytes> new), &stamped)
                made.append(new)
        finally:
            PyMem_Free(buffer.data)
        return made

    def merged(self, changes, later):
        """Return two changes of one row as one."""
        return self.general.merged(changes, later)

    cdef object patch_quickly(self, Buffer *buffer, bytes payload, changes):
        """Return a payload with changes; ``None`` if the general path has to."""
        raise NotImplementedError

    # -- reading -------------------------------------------------------------------------------------

    def load_many(
        self,
        list payloads not None,
        list pks not None,
        list keys not None,
        unreadable=None,
        list due=None,
        now=None,
    ):
        """Read payloads as instances; see :meth:`MappingRows.load_many`."""
        cdef Py_ssize_t i
        cdef int64_t at = 0
        cdef int state = FRESH
        cdef bint has_ages = self.has_ages
        cdef Py_ssize_t count = len(payloads)
        cdef list rows = []
        if len(pks) != count or len(keys) != count:
            raise ValueError("payloads, primary keys and keys must be of one length")
        self.check_made()
        if has_ages:
            at = self.general.aging.now() if now is None else now
        # Everything made here lives on, so that a collection in between would only walk it in vain. Whether it is on is
        # the application's choice as soon as code of the application runs.
        cdef bint paused = self.own_code and pause_collection()
        try:
            for i in range(count):
                payload = payloads[i]
                if payload is None:
                    rows.append(None)
                    continue
                row = self.load_quickly(payload, pks[i])
                if has_ages:
                    # A row that was read has the prefix.
                    state = self.state_of(payload, at) if row is None else self.state_in(<bytes> payload, at)
                    if state == OVER:
                        rows.append(None)
                        continue
                if row is None:
                    if paused:
                        resume_collection()
                        paused = False
                    row = self.general.load(payload, pks[i], keys[i], unreadable, True)
                    paused = self.own_code and pause_collection()
                rows.append(row)
                if state == DUE and due is not None and row is not None:
                    due.append(i)
        finally:
            if paused:
                resume_collection()
        return rows

    def load(self, payload, pk, key, unreadable=None):
        """Read one payload as an instance; see :meth:`MappingRows.load_many`."""
        self.check_made()
        if self.keeps and self.state_of(payload, self.general.aging.now()) == OVER:
            return None
        row = self.load_quickly(payload, pk)
        return self.general.load(payload, pk, key, unreadable, True) if row is None else row

    cdef object load_quickly(self, payload, pk):
        """Read one payload; ``None`` if the general path has to."""
        cdef bint leaves = True
        if type(payload) is not bytes:
            return None
        if self.sealed:
            instance = new_sealed(self.model, NO_ARGUMENTS)
        else:
            instance = new_instance(self.model, NO_ARGUMENTS)
            if not PyObject_TypeCheck(instance, <PyTypeObject *> self.model):
                return None
            # What its __new__ has assigned is no change.
            put_new(<PyObject *> instance, self.tracker_offset, 0)
        if not self.load_row(<bytes> payload, instance, &leaves) or not self.put_key(instance, pk, &leaves):
            return None
        if leaves and self.sealed:
            leave_untracked(<PyObject *> instance)
        return instance

    cdef bint is_cheap(self, bytes payload) except -1:
        """Return whether a payload of many bytes costs no more to unpack than it may."""
        try:
            self.general.budget.check(payload[PyBytes_GET_SIZE(self.prefix):], self.general.measure)
        except TooCostly:
            return False
        return True

    cdef bint load_row(self, bytes payload, instance, bint *leaves) except -1:
        """Read one row into an instance; false if the general path has to.

        Sets ``leaves`` to false where a value may be part of a cycle.
        """
        raise NotImplementedError
