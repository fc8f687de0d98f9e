"""Rows to payloads and back, on C buffers: the C version of ``_rows_py.py``.

Decoding expects a map with the model's columns in plan order, one ``memcmp`` per name, and writes each value straight
into the instance's slot. Encoding reads the slots and writes msgpack into a growing buffer. The general path takes what
is not expected; see ``_slot_rows.pxi``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from ._codec_c cimport ValueCodec
from ._mapping_c import MappingRows
from ._msgpack_c cimport *
from ._msgpack_c import pack, unpack
from ._slots_c cimport is_leaf, put_new

__all__ = ["DictRows", "MsgpackRows", "measure_msgpack", "pack", "patch_json", "patch_msgpack", "unpack"]

include "_ages.pxi"
include "_columns.pxi"
include "_measure.pxi"
include "_slot_rows.pxi"
include "_patches.pxi"


cdef class MsgpackRows(SlotRows):
    """The :class:`~._mapping.MappingRows` of the msgpack serializer."""

    def __init__(
        self,
        model,
        fields,
        key_fields,
        identity,
        skip_invalid,
        *,
        bytes prefix not None=b"",
        unwrap=None,
        memory_limit=None,
        aging=None,
    ):
        fields = tuple(fields)
        general = MappingRows(
            model,
            fields,
            key_fields,
            identity,
            "msgpack",
            pack,
            unpack,
            skip_invalid,
            prefix=prefix,
            unwrap=unwrap,
            patch=patch_msgpack,
            measure=measure_msgpack,
            memory_limit=memory_limit,
            aging=aging,
        )
        self.prefix = prefix
        self.old_names = {name.encode() for name in general.old_names} or None
        converters = [field.slot_converter for field in fields]
        self.describe_columns(general, fields, converters, tuple([pack(field.name) for field in fields]))
        size = len(self.columns)
        # As the library writes an empty map, with the count of ours: 0x80, 0xDE or 0xDF.
        if size < 16:
            self.header = prefix + bytes([0x80 | size])
        elif size <= 0xFFFF:
            self.header = prefix + b"\xde" + size.to_bytes(2, "big")
        else:
            self.header = prefix + b"\xdf" + size.to_bytes(4, "big")
        if not self.has_ages:
            self.same_size = PyBytes_GET_SIZE(self.header)
        self.made = True

    cdef object patch_quickly(self, Buffer *buffer, bytes payload, changes):
        if type(changes) is not bytes or not self.has_prefix(payload):
            return None
        return patched(buffer, payload, PyBytes_GET_SIZE(self.prefix), changes, False, self.old_names)

    cdef bint load_row(self, bytes payload, instance, bint *leaves) except -1:
        cdef Reader reader
        cdef Py_ssize_t i
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.header)
        cdef Column *column
        reader.at = <const uint8_t *> PyBytes_AS_STRING(payload)
        reader.end = reader.at + PyBytes_GET_SIZE(payload)
        if reader.end - reader.at < size or memcmp(reader.at, PyBytes_AS_STRING(self.header), self.same_size) != 0:
            return False
        if self.same_size < size and memcmp(
            reader.at + self.same_size + AGES_BYTES,
            PyBytes_AS_STRING(self.header) + self.same_size + AGES_BYTES,
            size - self.same_size - AGES_BYTES,
        ) != 0:
            return False
        reader.at += size
        reader.large = PyBytes_GET_SIZE(payload) > self.unmeasured
        if reader.large and (self.has_unread or not self.is_cheap(payload)):
            return False
        try:
            for i in range(self.count):
                column = &self.plan[i]
                if not column.in_payload:
                    continue
                if reader.end - reader.at <= column.packed_size:
                    return False
                if not equal_bytes(<const char *> reader.at, column.packed_name, column.packed_size):
                    return False
                reader.at += column.packed_size
                if reader.at[0] == 0xC0:
                    if not column.null:
                        return False
                    reader.at += 1
                    put_new(<PyObject *> instance, column.offset, None)
                    continue
                value = (<ValueCodec> column.codec).decode(&reader)
                if value is None:
                    return False
                if not column.leaf and not is_leaf(<PyObject *> value):
                    leaves[0] = False
                put_new(<PyObject *> instance, column.offset, value)
        except Exception:
            # Whatever it was, the general path meets it too, and says what it was.
            return False
        return reader.at == reader.end


cdef bint is_shallow(bytes packed):
    """Return whether JSON has few enough brackets to have few levels; all others are for the general path."""
    cdef const char *data = PyBytes_AS_STRING(packed)
    cdef Py_ssize_t i, count = 0
    for i in range(PyBytes_GET_SIZE(packed)):
        count += data[i] == c"[" or data[i] == c"{"
    return count <= <Py_ssize_t> MAX_DEPTH


cdef class DictRows(SlotRows):
    """The :class:`~._mapping.MappingRows` of any other serializer: rows to dicts of stored values and back."""

    cdef object pack
    cdef object unpack
    cdef object check
    cdef bint is_json

    def __init__(
        self,
        model,
        fields,
        key_fields,
        identity,
        serializer,
        pack,
        unpack,
        skip_invalid,
        converter_of=None,
        check=None,
        pack_checked=None,
        bytes prefix not None=b"",
        unwrap=None,
        patch=None,
        merge=None,
        unpack_set=None,
        measure=None,
        memory_limit=None,
        aging=None,
    ):
        fields = tuple(fields)
        general = MappingRows(
            model,
            fields,
            key_fields,
            identity,
            serializer,
            pack,
            unpack,
            skip_invalid,
            converter_of,
            prefix,
            unwrap,
            patch,
            merge,
            unpack_set,
            measure,
            memory_limit,
            aging,
        )
        self.is_json = patch is patch_json
        self.old_names = {pack(name) for name in general.old_names} or None if self.is_json else None
        self.prefix = prefix
        self.pack = pack if pack_checked is None else pack_checked
        self.unpack = unpack
        self.check = check
        converters = [
            field.slot_converter if converter is field.converter else converter
            for field, converter, _ in general.steps
        ]
        self.describe_columns(general, fields, converters, tuple([field.name for field in fields]))
        self.own_code = self.own_code and self.is_json
        self.made = True

    cdef object write(self, dict row, Column *column, value):
        cdef ValueCodec codec = <ValueCodec> column.codec
        cdef PyObject *canonical = NULL
        name = <object> column.name
        if value is None:
            row[name] = None
            return None
        stored = codec.to_stored(value, &canonical)
        if canonical is not NULL:
            value = taken(canonical)
        if self.check is not None and not codec.packable:
            self.check(stored)
        row[name] = stored
        return value

    cdef object finish(self, dict row):
        packed = self.pack(row)
        if self.has_ages:
            # The ages are written into these bytes, which must be new: a sum of the prefix and nothing is the prefix.
            return b"".join((self.prefix, packed))
        return self.prefix + packed if PyBytes_GET_SIZE(self.prefix) else packed

    cdef object finish_changes(self, dict row):
        return self.pack(row) if self.is_json else row

    cdef object patch_quickly(self, Buffer *buffer, bytes payload, changes):
        if not self.is_json or type(changes) is not bytes or not self.has_prefix(payload):
            return None
        return patched(buffer, payload, PyBytes_GET_SIZE(self.prefix), changes, True, self.old_names)

    cdef bint load_row(self, bytes payload, instance, bint *leaves) except -1:
        cdef Py_ssize_t i
        cdef Column *column
        cdef dict row
        cdef Py_ssize_t before = PyBytes_GET_SIZE(self.prefix)
        if before and not self.has_prefix(payload):
            return False
        if PyBytes_GET_SIZE(payload) > self.unmeasured and (
            self.has_lists or self.has_unread or not self.is_cheap(payload)
        ):
            return False
        if before:
            payload = PyBytes_FromStringAndSize(PyBytes_AS_STRING(payload) + before, PyBytes_GET_SIZE(payload) - before)
        try:
            unpacked = self.unpack(payload)
            if type(unpacked) is not dict:
                return False
            row = <dict> unpacked
            if (
                PyBytes_GET_SIZE(payload) > MAX_DEPTH
                and (self.nests or len(row) > len(self.columns))
                and self.is_json
                and not is_shallow(payload)
            ):
                return False
            for i in range(self.count):
                column = &self.plan[i]
                if not column.in_payload:
                    continue
                name = <object> column.name
                stored = row.get(name)
                if stored is not None:
                    value = (<ValueCodec> column.codec).from_stored(stored)
                    if value is None:
                        return False
                elif column.null and not column.has_default:
                    value = None
                else:
                    return False
                if not column.leaf and not is_leaf(<PyObject *> value):
                    leaves[0] = False
                put_new(<PyObject *> instance, column.offset, value)
        except Exception:
            return False
        return True
