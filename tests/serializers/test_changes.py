"""A model's serializer and schema change, and the rows that were written before are still there."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm.payload import COMPRESSED, SIGNED, Header, identify

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import user_pb2


class Backwards(co.BaseSerializer):
    """A format of its own."""

    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.JSONSerializer().loads(s[::-1])


class Loud(co.MessagePackSerializer):
    """A format of its own under an inherited name."""

    def dumps(self, obj: Any) -> bytes:
        return b"\x90" + super().dumps(obj)

    def loads(self, s: bytes) -> Any:
        assert s[:1] == b"\x90"
        return super().loads(s[1:])


SERIALIZERS: dict[str, co.BaseSerializer] = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "pickle": co.PickleSerializer(),
    "protobuf": co.ProtobufSerializer(user_pb2.User),
    "Backwards": Backwards(),
    "Loud": Loud(),
}
PLACES = co.ProtobufSerializer(user_pb2.Address)
HEADED = [name for name in SERIALIZERS if name not in ("json", "msgpack")]

VALUES: dict[str, Any] = {
    "name": "Zoë",
    "height": 1.75,
    "married": True,
    "email": None,
    "score": 2**40,
    "tags": ["a", ""],
}


def a_model(backend: co.BaseBackend, serializer: Any, **options: Any) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        height = co.FloatField()
        married = co.BooleanField()
        email = co.StringField(null=True)
        score = co.IntegerField(null=True)
        tags = co.ListField(co.StringField(), default=[])
        Meta = type("Meta", (), {"backend": backend, "serializer": serializer, **options})

    return Row


@pytest.fixture
def backend() -> co.SimpleBackend:
    return co.SimpleBackend()


def values_of(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "id"}


@pytest.mark.parametrize("after", SERIALIZERS)
@pytest.mark.parametrize("before", SERIALIZERS)
def test_rows_are_read_after_a_change_of_serializer_and_rewritten_by_the_next_write(
    backend: co.SimpleBackend, before: str, after: str
) -> None:
    old = a_model(backend, SERIALIZERS[before])
    new = a_model(backend, SERIALIZERS[after], accepts=[SERIALIZERS[before]])
    old.insert_many([{"id": number, **VALUES} for number in range(20)]).execute()
    new.insert_many([{"id": number, **VALUES} for number in range(0, 20, 3)]).execute()
    form = backend.get(new.key(id=0))
    assert values_of(new.get(id=1)) == VALUES
    rows = new.query_many([{"id": number} for number in range(21)]).execute()
    assert rows.pop() is None
    assert [values_of(row) for row in rows] == [VALUES] * 20
    # Each way to write leaves the new form.
    new.update(id=1, name="Zoë").execute()
    new.update_many({"id": 2, "name": "Zoë"}, *({"id": number, "score": 2**40} for number in range(7, 20))).execute()
    saved = new.get(id=4)
    saved.name = "Zoë"
    assert saved.save()
    assert new.get_or_create(id=5, **VALUES)[1] is False
    new.insert(id=5, **VALUES).execute()
    changed = (0, 1, 2, 4, 5, 7, 19)
    if before == "protobuf" != after:
        # A message has a type for what others store as 0 and 1, so it is not the same bytes.
        only_new = a_model(backend, SERIALIZERS[after])
        assert {number: values_of(only_new.get(id=number)) for number in changed} == dict.fromkeys(changed, VALUES)
    else:
        assert {backend.get(new.key(id=number)) for number in changed} == {form}


# A field number that no message here declares, and its value: https://protobuf.dev/programming-guides/encoding/
UNKNOWN = b"\xc0\x3e\x05"


def unknown_parts() -> dict[str, bytes]:
    """Return parts of a message that its type does not declare, in all the places where there may be some."""
    address = user_pb2.Address(city="Bern").SerializeToString() + UNKNOWN
    return {
        "row": UNKNOWN,
        "message": bytes([0x42, len(address)]) + address,
        "repeated": bytes([0x4A, len(address)]) + address,
    }


WRITES: dict[str, Any] = {
    "update": lambda model: model.update(id=1, name="b").execute(),
    "update of nothing": lambda model: model.update(id=1).execute(),
    "update_many": lambda model: model.update_many({"id": number, "name": "b"} for number in range(20)).execute(),
    "miss": lambda model: model.update(id=1, name="b").on_invalid("miss").execute(),
    "atomic": lambda model: model.update(id=1, name="b").atomic().execute(),
    "apply": lambda model: model.update(id=1).apply(lambda row: setattr(row, "name", "b")).execute(),
    "co.Update": lambda model: co.Update([(model, [{"id": 1, "name": "b"}])]).execute(),
    "increment": lambda model: model.increment(1, "score"),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("after", ["json", "msgpack", "pickle", "Backwards"])
def test_what_only_a_message_can_hold_is_not_dropped_without_an_error(
    backend: co.SimpleBackend, after: str, write: str
) -> None:
    user = SERIALIZERS["protobuf"]
    old = a_model(backend, user)
    new = a_model(backend, SERIALIZERS[after], accepts=[user])
    for unknown in unknown_parts().values():
        old.insert_many([{"id": number, **VALUES} for number in range(20)]).execute()
        payload: Any = backend.get(old.key(id=1))
        backend.set(old.key(id=1), payload + unknown)
        assert values_of(new.get(id=1)) == VALUES
        with pytest.raises(ValueError, match="does not declare") as caught:
            WRITES[write](new)
        assert str(caught.value).startswith(f"Row: the {new._meta.serializer} serializer cannot hold the row: it has ")
        assert "cacheorm.tests.User does not declare" in str(caught.value)
        assert str(caught.value).endswith("store the whole row anew (key m:row:id:1)")
        assert backend.get(old.key(id=1)) == payload + unknown
        new.insert(id=1, **VALUES).execute()
        WRITES[write](new)
        assert new.get(id=1).name in ("Zoë", "b")


@pytest.mark.parametrize("after", SERIALIZERS)
@pytest.mark.parametrize("before", ["json", "msgpack"])
def test_json_and_msgpack_are_read_by_every_model(backend: co.SimpleBackend, before: str, after: str) -> None:
    a_model(backend, before).create(id=1, **VALUES)
    a_model(backend, before, version=1).create(id=2, **VALUES)
    for row in a_model(backend, SERIALIZERS[after]).query_many({"id": 1}, {"id": 2}).execute():
        assert values_of(row) == VALUES


@pytest.mark.parametrize("after", SERIALIZERS)
@pytest.mark.parametrize("before", HEADED)
def test_a_serializer_that_is_not_accepted_is_named_with_a_hint(
    backend: co.SimpleBackend, before: str, after: str
) -> None:
    if before == after:
        return
    a_model(backend, SERIALIZERS[before]).create(id=1, **VALUES)
    model = a_model(backend, SERIALIZERS[after])
    name = "protobuf cacheorm.tests.User" if before == "protobuf" else before
    text = rf"^Row: was written by the serializer '{name}', .*Meta\.accepts \(key m:row:id:1\)$"
    for read in (
        lambda: model.get(id=1),
        model.query_many({"id": 1}).execute,
        model.query_many([{"id": 1}] * 9).execute,
        model.update(id=1, name="x").execute,
    ):
        with pytest.raises(co.PayloadError, match=text):
            read()
    lenient = a_model(backend, SERIALIZERS[after], on_invalid="miss")
    assert lenient.get_or_none(id=1) is None
    assert lenient.query_many({"id": 1}).execute() == [None]


def test_a_serializer_is_known_by_what_it_was_registered_as(backend: co.SimpleBackend) -> None:
    a_model(backend, Backwards()).create(id=1, **VALUES)
    registered = Backwards()
    co.registry.register("reversed", registered)
    try:
        model = a_model(backend, "reversed")
        model.create(id=2, **VALUES)
        assert backend.get(model.key(id=2)).startswith(b"\xc1\x01\x00\x08reversed}")
        # What it was called before it had that name is still its own.
        assert [values_of(row) for row in model.query_many({"id": 1}, {"id": 2}).execute()] == [VALUES] * 2
        reader = a_model(backend, "json", accepts=["reversed"])
        assert [values_of(row) for row in reader.query_many({"id": 1}, {"id": 2}).execute()] == [VALUES] * 2
    finally:
        co.registry.unregister("reversed")
    with pytest.raises(co.PayloadError, match="'reversed'"):
        a_model(backend, Backwards()).get(id=2)


def test_two_messages_are_not_taken_for_each_other(backend: co.SimpleBackend) -> None:
    class Place(co.Model):
        id = co.IntegerField(primary_key=True)
        city = co.StringField()
        Meta = type("Meta", (), {"backend": backend, "name": "row", "serializer": PLACES})

    Place.create(id=1, city="Bern")
    with pytest.raises(co.PayloadError, match=r"'protobuf cacheorm\.tests\.Address'"):
        a_model(backend, SERIALIZERS["protobuf"]).get(id=1)


@pytest.mark.parametrize("chosen", ["protobuf", "pickle", "Backwards"])
def test_rows_of_before_there_was_a_header_are_read_by_the_serializer_that_wrote_them(
    backend: co.SimpleBackend, chosen: str
) -> None:
    model = a_model(backend, SERIALIZERS[chosen])
    backend.set(model.key(id=1), SERIALIZERS[chosen].dumps(VALUES))
    assert values_of(model.get(id=1)) == VALUES


# -- nothing that is stored selects pickle -------------------------------------------------------------------


class Trap:
    """Its pickle leaves a mark when it is read."""

    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.trap_was_sprung = True",)


def sprung() -> bool:
    return vars(sys).pop("trap_was_sprung", False)


@pytest.fixture
def trap() -> Iterator[bytes]:
    made = pickle.dumps({**VALUES, "trap": Trap()})
    pickle.loads(made)
    assert sprung()
    yield made
    assert not sprung()


@pytest.mark.parametrize("chosen", [name for name in SERIALIZERS if name != "pickle"])
def test_no_stored_byte_selects_pickle(backend: co.SimpleBackend, chosen: str, trap: bytes) -> None:
    co.registry.register("other pickle", co.PickleSerializer())
    try:
        model = a_model(backend, SERIALIZERS[chosen], accepts=["json"])
        names = ["pickle", "PickleSerializer", "other pickle", "Pickle", "cacheorm.serializers.pickle", "cPickle"]
        payloads = [
            Header(name, version, flags).pack() + trap
            for name in names
            for version in (None, 0, 1)
            for flags in (0, SIGNED, COMPRESSED, SIGNED | COMPRESSED)
        ]
        payloads += [trap, pickle.dumps(Trap(), 0), b"\x80" + trap, Header(chosen).pack() + trap]
        for payload in payloads:
            backend.set(model.key(id=1), payload)
            for read in (
                lambda: model.get(id=1),
                model.query_many({"id": 1}).execute,
                model.query_many([{"id": 1}] * 9).execute,
                model.update(id=1, name="x").execute,
                lambda: model.get_or_create(id=1, **VALUES),
            ):
                with pytest.raises(co.PayloadError):
                    read()
    finally:
        co.registry.unregister("other pickle")


@pytest.mark.parametrize("chosen", SERIALIZERS)
@given(data=st.data())
def test_whatever_is_stored_is_a_row_or_a_payload_error(chosen: str, data: Any) -> None:
    if chosen == "pickle":
        return
    backend = co.SimpleBackend()
    model = a_model(backend, SERIALIZERS[chosen], accepts=[Backwards()])
    writer = data.draw(st.sampled_from([one for one in SERIALIZERS if one != "pickle"]))
    a_model(backend, SERIALIZERS[writer], version=data.draw(st.sampled_from([None, 1, 2]))).create(id=1, **VALUES)
    payload = bytearray(backend.get(model.key(id=1)) or b"")
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) :]
    backend.set(model.key(id=1), bytes(payload))
    outcomes = []
    for read in (lambda: [model.get_or_none(id=1)], model.query_many({"id": 1}).execute):
        try:
            outcomes.append([row and row.to_dict() for row in read()])
        except co.PayloadError as error:
            outcomes.append([str(error)])
    assert outcomes[0] == outcomes[1]


# -- schema versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_row_of_another_version_is_no_row_of_the_model(backend: co.SimpleBackend, chosen: str) -> None:
    third, second, plain = (a_model(backend, SERIALIZERS[chosen], version=version) for version in (3, 2, None))
    second.create(id=1, **VALUES)
    assert values_of(second.get(id=1)) == VALUES
    payload = backend.get(second.key(id=1))
    header, _ = identify(payload)
    assert header is not None
    assert header.version == 2
    text = r"^Row: is a row of version 2, and the model is at version {} \(key m:row:id:1, read as .*\)$"
    for model, version in ((third, 3), (plain, 1)):
        for read in (
            lambda model=model: model.get(id=1),
            model.query_many({"id": 1}).execute,
            model.update(id=1, name="x").execute,
        ):
            with pytest.raises(co.PayloadError, match=text.format(version)):
                read()
    lenient = a_model(backend, SERIALIZERS[chosen], version=3, on_invalid="miss")
    assert lenient.query_many({"id": 1}).execute() == [None]
    assert lenient.update(id=1, name="x").execute() is None
    row, created = lenient.get_or_create(id=1, **VALUES)
    assert created
    assert values_of(third.get(id=1)) == VALUES
    assert row == lenient.get(id=1)


@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_row_without_a_version_is_of_version_one(backend: co.SimpleBackend, chosen: str) -> None:
    plain, first, second = (a_model(backend, SERIALIZERS[chosen], version=version) for version in (None, 1, 2))
    plain.create(id=1, **VALUES)
    assert values_of(first.get(id=1)) == VALUES
    with pytest.raises(co.PayloadError, match="is a row of version 1, and the model is at version 2"):
        second.get(id=1)
    first.update(id=1, name="new").execute()
    assert identify(backend.get(first.key(id=1)))[0].version == 1  # type: ignore[union-attr]
    assert plain.get(id=1).name == "new"


def test_rows_of_another_version_among_others_are_misses_where_the_model_says_so(backend: co.SimpleBackend) -> None:
    first, second = (a_model(backend, "msgpack", version=version, on_invalid="miss") for version in (1, 2))
    first.insert_many([{"id": number, **VALUES} for number in range(10)]).execute()
    second.insert_many([{"id": number, **VALUES} for number in range(0, 10, 2)]).execute()
    found = second.query_many([{"id": number} for number in range(10)]).execute()
    assert [row is not None for row in found] == [True, False] * 5


# -- the options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "error", "text"),
    [
        ("accepts", "json", TypeError, "expected a list of serializers or registered names, got str"),
        ("accepts", co.JSONSerializer(), TypeError, "expected a list of serializers or registered names, got JSON"),
        ("accepts", [None], TypeError, "expected a list of serializers or registered names, got None in it"),
        ("accepts", [co.JSONSerializer], TypeError, "must be a registered name or a BaseSerializer, got type"),
        ("accepts", ["jsno"], ValueError, "no serializer is registered as 'jsno'"),
        ("version", "1", TypeError, "expected a whole number, got str"),
        ("version", True, TypeError, "expected a whole number, got bool"),
        ("version", -1, ValueError, "expected a number from 0 to 4294967295"),
        ("version", 2**32, ValueError, "expected a number from 0 to 4294967295"),
    ],
)
def test_a_wrong_option_is_refused_when_the_class_is_created(
    backend: co.SimpleBackend, option: str, value: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=rf"^Row\.Meta\.{option}: .*{text}"):
        a_model(backend, "json", **{option: value})


def test_the_options_are_inherited_and_can_be_taken_back(backend: co.SimpleBackend) -> None:
    base = a_model(backend, "json", version=2, accepts=[Backwards()])

    class Child(base):  # type: ignore[misc]
        class Meta:
            name = "row"

    class Plain(base):  # type: ignore[misc]
        class Meta:
            name = "row"
            version = None
            accepts = ()

    a_model(backend, Backwards(), version=2).create(id=1, **VALUES)
    assert values_of(Child.get(id=1)) == VALUES
    with pytest.raises(co.PayloadError, match="Backwards"):
        Plain.get(id=1)


def test_pickle_is_accepted_only_from_process_memory(tmp_path: Path) -> None:
    with (
        co.FileSystemBackend(tmp_path / "cache") as outside,
        pytest.raises(TypeError, match=r"^Row: pickle on FileSystemBackend is refused"),
    ):
        a_model(outside, "json", accepts=["pickle"])
    a_model(co.SimpleBackend(), "json", accepts=["pickle"])


def test_a_row_of_an_accepted_serializer_is_read_on_every_backend(
    redis_backend: Any, memcached_backend: Any, tmp_path: Path
) -> None:
    with co.FileSystemBackend(tmp_path / "cache") as file:
        for outside in (redis_backend, memcached_backend, file):
            old = a_model(outside, SERIALIZERS["protobuf"], version=4)
            new = a_model(outside, "msgpack", accepts=[SERIALIZERS["protobuf"]], version=4)
            old.insert_many([{"id": number, **VALUES} for number in range(20)]).execute()
            rows = new.query_many([{"id": number} for number in range(20)]).execute()
            assert [values_of(row) for row in rows] == [VALUES] * 20
