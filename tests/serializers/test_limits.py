"""What reading a payload costs is bounded by its size, and what costs more is refused before it is read."""

from __future__ import annotations

import enum
import gc
import re
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

import cacheorm as co
from cacheorm.payload import COMPRESSED, Header

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MB = 300_000
MIB = 1 << 20
LEVELS = "expected at most 200 levels of lists and dicts, got more"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Bit(enum.Flag):
    locals().update({f"BIT_{place}": 1 << place for place in range(20)})


def same(value: Any) -> Any:
    return value


def anything() -> co.StructField[Any]:
    return co.StructField(same, same)


def decimals() -> co.ListField[Any]:
    return co.ListField(co.DecimalField())


def a_model(field: co.Field[Any], serializer: Any = "msgpack", **options: Any) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        value = field
        Meta = type("Meta", (), {"backend": co.SimpleBackend(max_bytes=1 << 30), "serializer": serializer, **options})

    return Row


def put(model: Any, payload: bytes) -> None:
    model._meta.backend.set(model.key(id=1), payload)


def peak_of(read: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a call returned, or its error, and the most memory that it took meanwhile."""
    gc.collect()
    tracemalloc.start()
    try:
        result: Any = read()
    except co.PayloadError as error:
        result = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return result, peak


def many(item: bytes, size: int = MB) -> bytes:
    """Return a list in msgpack that repeats an item."""
    count = size // len(item)
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def packed(value: Any) -> bytes:
    result: bytes = msgpack.packb(value)
    return result


HOSTILE: dict[str, tuple[Callable[[], co.Field[Any]], Callable[[], bytes]]] = {
    "lists": (anything, lambda: many(b"\x90")),
    "maps": (anything, lambda: many(b"\x80")),
    "lists of one": (anything, lambda: many(b"\x91\x01")),
    "maps of one": (anything, lambda: many(b"\x81\x00\x00")),
    "maps of six": (anything, lambda: many(packed(dict.fromkeys(range(6), 0)))),
    "keys": (anything, lambda: packed({f"{number:x}": 0 for number in range(MB // 5)})),
    "negative numbers": (anything, lambda: many(b"\xe0")),
    "texts of two letters": (anything, lambda: many(b"\xa2ab")),
    "texts of one wide letter": (anything, lambda: many(packed("€"))),
    "extensions": (anything, lambda: many(b"\xd4\x01\x00")),
    "lists in lists": (lambda: co.ListField(co.ListField(co.IntegerField())), lambda: many(b"\x90")),
    "decimals": (decimals, lambda: many(b"\xa10")),
    "timestamps": (lambda: co.ListField(co.TimestampField()), lambda: many(b"\x01")),
    "times": (lambda: co.ListField(co.TimeField(formats=["%H"])), lambda: many(b"\xa201")),
    "ints as floats": (lambda: co.ListField(co.FloatField()), lambda: many(b"\x01")),
    "texts as ints": (lambda: co.ListField(co.IntegerField()), lambda: many(b"\xa212")),
    "flags": (lambda: co.ListField(co.EnumField(Right)), lambda: packed([*range(300, 130_000)])),
    "flags of an object": (lambda: co.ListField(co.EnumField(Bit)), lambda: packed([*range(300, 130_000)])),
    "texts of JSON": (lambda: co.ListField(co.JSONField()), lambda: many(b"\xa2[]")),
    "JSON of maps": (co.JSONField, lambda: packed(f"[{','.join(['{}'] * (MB // 3))}]")),
    "JSON of lists in lists": (co.JSONField, lambda: packed(f"[{','.join(['[[]]'] * (MB // 5))}]")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_payload_that_would_take_too_much_memory_is_refused(name: str) -> None:
    field, value = HOSTILE[name]
    row = a_model(field())
    payload = b"\x81\xa5value" + value()
    put(row, payload)
    error, peak = peak_of(lambda: row.get(id=1))
    assert isinstance(error, co.PayloadError), error
    allowed = 16 * len(payload)
    assert peak <= allowed
    assert str(error) == (
        f"Row.value: takes more than {allowed} bytes of memory; if that is right, set Meta.memory_limit to more "
        "(key m:row:id:1, read as msgpack)"
    )
    with pytest.raises(co.PayloadError, match=re.escape(str(error))):
        row.query_many([1]).execute()


ORDINARY: dict[str, tuple[Callable[[], co.Field[Any]], Any]] = {
    "text": (co.StringField, "x" * (3 * MIB)),
    "wide text": (co.StringField, "x€" * MB),
    "bytes": (lambda: co.BinaryField(ensure_str=False), b"x" * (3 * MIB)),
    "ints": (lambda: co.ListField(co.IntegerField()), [*range(40_000)]),
    "small ints": (lambda: co.ListField(co.IntegerField()), [1, 2, 3] * 40_000),
    "floats": (lambda: co.ListField(co.FloatField()), [number / 7 for number in range(40_000)]),
    "texts": (lambda: co.ListField(co.StringField()), [f"text {number}" for number in range(40_000)]),
    "records": (anything, [{"id": number, "name": "Alice", "score": 1.5} for number in range(8000)]),
    "records of JSON": (co.JSONField, [{"id": number, "name": "Alice", "score": 1.5} for number in range(8000)]),
    "points": (anything, [[1.5, 2.5]] * 8000),
    "flags": (lambda: co.ListField(co.EnumField(Right)), [Right.READ | Right.WRITE, Right(9)] * 20_000),
    "booleans": (lambda: co.ListField(co.BooleanField()), [True, False] * 40_000),
}


@pytest.mark.parametrize("serializer", ["msgpack", "json", "pickle"])
@pytest.mark.parametrize("name", ORDINARY)
def test_large_ordinary_payloads_are_read(name: str, serializer: str) -> None:
    field, value = ORDINARY[name]
    if serializer == "json" and name == "bytes":
        pytest.skip("JSON has no bytes")
    row = a_model(field(), serializer)
    row.create(id=1, value=value)
    found, peak = peak_of(lambda: row.get(id=1))
    assert found.value == value
    assert peak <= max(24 * len(row._meta.backend.get(row.key(id=1))), 4 * MIB)
    row.update(id=1, value=value).execute()
    assert row.query_many([1]).execute()[0].value == value


def test_small_payloads_may_take_more() -> None:
    row = a_model(decimals())
    put(row, b"\x81\xa5value" + many(b"\xa10", 24_000))
    assert len(row.get(id=1).value) == 12_000


def test_the_limit_is_an_option() -> None:
    payload = b"\x81\xa5value" + many(b"\x90", 200_000)
    for serializer in ("msgpack", "json"):
        row = a_model(anything(), serializer, memory_limit=20 * MIB)
        put(row, payload)
        assert len(row.get(id=1).value) == 200_000
        row = a_model(anything(), serializer, memory_limit=10_000)
        put(row, b"\x81\xa5value" + many(b"\x90", 400))
        with pytest.raises(co.PayloadError, match=r"^Row.value: takes more than 10000 bytes of memory; if"):
            row.get(id=1)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), ("1", TypeError)])
def test_wrong_limits(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^Row.Meta.memory_limit: expected a (whole )?number of bytes"):
        a_model(anything(), memory_limit=limit)


@pytest.mark.parametrize("name", ["msgpack", "json"])
def test_compressed_payloads_are_measured_as_they_are_read(name: str) -> None:
    bodies = {"json": b'{"value":[' + b"[]," * MIB + b"[]]}", "msgpack": b"\x81\xa5value" + many(b"\x90", MIB)}
    body = bodies[name]
    row = a_model(anything(), name, compress="zstd")
    put(row, Header(name, None, COMPRESSED).pack() + zstd.compress(body))
    error, peak = peak_of(lambda: row.get(id=1))
    assert f"takes more than {16 * len(body)} bytes of memory" in str(error)
    assert peak < 4 * len(body)


def test_messages_of_protobuf() -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds: Any = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="limits.proto", package="limits", syntax="proto3")
    part = file.message_type.add(name="Part")
    part.field.add(name="number", number=1, type=kinds.TYPE_INT32, label=1)
    whole = file.message_type.add(name="Whole")
    whole.field.add(name="value", number=1, type=kinds.TYPE_MESSAGE, label=3, type_name=".limits.Part")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("limits.Whole"))
    row = a_model(anything(), co.ProtobufSerializer(message))
    header = Header("protobuf limits.Whole").pack()
    put(row, header + b"\x0a\x00" * 5000)
    assert len(row.get(id=1).value) == 5000
    put(row, header + b"\x0a\x00" * (MB // 2))
    error, peak = peak_of(lambda: row.get(id=1))
    assert f"takes more than {16 * MB} bytes of memory" in str(error)
    assert peak <= 16 * MB
    put(row, header + (b"\x0a\x02\x08\x07" + b"\x0a\x16\x12\x14" + b"x" * 20) * 1000)
    assert len(row.get(id=1).value) == 2000


class Own(co.BaseSerializer):
    """A format of a user's, on top of one of ours."""

    def dumps(self, obj: Any) -> bytes:
        return co.MessagePackSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.MessagePackSerializer().loads(s[::-1])


def test_serializers_on_top_of_ours_are_bounded() -> None:
    row = a_model(anything(), Own())
    put(row, Header("Own").pack() + (b"\x81\xa5value" + many(b"\x90"))[::-1])
    with pytest.raises(co.PayloadError, match=r"^Row.* takes more than 48\d+ bytes.*\(key m:row:id:1, read as Own\)"):
        row.get(id=1)


@pytest.mark.parametrize("serializer", [co.JSONSerializer(), co.MessagePackSerializer()])
def test_serializers_by_themselves_are_bounded(serializer: co.BaseSerializer) -> None:
    deep: Any = 1
    for _ in range(201):
        deep = [deep]
    assert serializer.loads(serializer.dumps(deep[0])) == deep[0]
    made = {"json": b"[" * 202 + b"1" + b"]" * 202, "msgpack": b"\x91" * 202 + b"\x01"}[serializer.name]
    with pytest.raises(co.PayloadError, match=LEVELS):
        serializer.loads(made)
    made = {"json": b"[" + b"{}," * MB + b"{}]", "msgpack": many(b"\x90")}[serializer.name]
    with pytest.raises(co.PayloadError, match="bytes of memory"):
        serializer.loads(made)


# -- levels ---------------------------------------------------------------------------------------------


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@pytest.mark.parametrize("wrap", ["value", "list", "list of lists"])
def test_as_many_levels_are_read_as_can_be_written(serializer: str, wrap: str) -> None:
    field: co.Field[Any] = anything()
    inside = 200
    lists = ["value", "list", "list of lists"].index(wrap)
    for _ in range(lists):
        field = co.ListField(field)
        inside -= 1
    row = a_model(field, serializer)

    def wrapped(value: Any) -> Any:
        for _ in range(lists):
            value = [value]
        return value

    row.create(id=1, value=wrapped(nested(inside)))
    assert row.get(id=1).value == wrapped(nested(inside))
    assert row.query_many([1]).execute()[0].value == wrapped(nested(inside))
    row.update(id=1, value=wrapped(nested(inside))).execute()
    with pytest.raises(co.ValidationError, match=f"^Row.*value.*{LEVELS}"):
        row.create(id=1, value=wrapped(nested(inside + 1)))
    refusal = rf"^Row(\.value)?: {LEVELS} \(key m:row:id:1, read as {serializer}\)$"
    for levels in (inside + 1, 500, 900):
        made = {"value": wrapped(nested(levels))}
        if serializer == "json":
            import json

            payload = json.dumps(made).encode()
        else:
            payload = packed(made) if levels < 500 else b"\x81\xa5value" + b"\x91" * (levels + lists) + b"\x01"
        put(row, payload)
        for read in (lambda: row.get(id=1), row.query_many([1]).execute):
            with pytest.raises(co.PayloadError, match=refusal):
                read()


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_levels_of_fields_that_the_model_does_not_know_count(serializer: str) -> None:
    row = a_model(co.IntegerField(), serializer)
    deep = {"msgpack": b"\x82\xa5value\x01\xa5other" + b"\x91" * 201 + b"\x01"}
    deep["json"] = b'{"value":1,"other":' + b"[" * 201 + b"1" + b"]" * 201 + b"}"
    put(row, deep[serializer])
    for read in (lambda: row.get(id=1), row.query_many([1] * 5).execute, row.query_many([1]).execute):
        with pytest.raises(co.PayloadError, match=rf"^Row: {LEVELS}"):
            read()


# -- tables that grow -----------------------------------------------------------------------------------


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@pytest.mark.parametrize("flags", [Right, Bit])
def test_no_combination_of_flags_is_kept(serializer: str, flags: Any) -> None:
    row = a_model(co.EnumField(flags), serializer)
    row.insert_many({"id": number, "value": flags(number + 1)} for number in range(2000)).execute()
    before = len(flags._value2member_map_)
    for _ in range(2):
        found = row.query_many([*range(2000)]).execute()
        assert [one.value.value for one in found] == [*range(1, 2001)]
        assert {type(one.value) for one in found} == {flags}
    assert len(flags._value2member_map_) <= before
    del found
    gc.collect()
    kept = getattr(flags._value2member_map_, "unkept", {})
    assert len(kept) == 0


def test_a_combination_that_was_read_is_the_one_that_a_program_makes() -> None:
    row = a_model(co.EnumField(Bit))
    made = Bit.BIT_1 | Bit.BIT_17
    row.create(id=1, value=made.value)
    read = row.get(id=1).value
    assert read is made
    assert read is Bit.BIT_17 | Bit.BIT_1
    assert Bit(made.value) is made
    assert ~~read is made
    assert row.get(id=1).value is row.get(id=1).value
    row.create(id=2, value=Bit.BIT_3)
    assert row.get(id=2).value is Bit.BIT_3
    again = a_model(co.EnumField(Bit))
    again.create(id=1, value=made)
    assert again.get(id=1).value is made


def test_keys_of_flags_are_not_kept() -> None:
    class Grant(co.Model):
        right = co.EnumField(Right, primary_key=True)

        class Meta:
            backend = co.SimpleBackend()

    before = len(Right._value2member_map_)
    for number in range(100, 200):
        Grant.create(right=number)
        assert Grant.get(right=number).right == number
    assert len(Right._value2member_map_) == before
