"""Protobuf: by descriptors, with null told from zero, and with an instance holding what the message keeps."""

from __future__ import annotations

import enum
import math
import os
import struct
import subprocess
import sys
from typing import Any

import pytest

import cacheorm as co
from cacheorm.payload import Header, identify
from tests.protos import article_pb2, shapes_pb2, strict_pb2, user_pb2

SECRET = 987654321987


def model_of(message: Any, **fields: co.Field[Any]) -> Any:
    options = {"backend": co.SimpleBackend(), "serializer": co.ProtobufSerializer(message)}
    namespace = {
        "id": co.IntegerField(primary_key=True),
        **fields,
        "Meta": type("Meta", (), options),
        "__module__": __name__,
        "__qualname__": "model_of.<locals>.Row",
    }
    return type(co.Model)("Row", (co.Model,), namespace)


def single(number: float) -> float:
    """The 32-bit float that a message keeps of a number."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def shown(value: Any) -> str:
    """A form that tells types apart; maps of a message have no order."""
    return repr(sorted(value.items()) if isinstance(value, dict) else value)


# -- on its own --------------------------------------------------------------------------------------


def test_a_mapping_is_packed_by_its_fields_and_read_as_a_message_or_a_dict() -> None:
    serializer = co.ProtobufSerializer(user_pb2.User)
    packed = serializer.dumps({"name": "Sam", "height": 1.5, "married": True, "email": None, "tags": ["a"]})
    message = serializer.message(packed)
    assert isinstance(message, user_pb2.User)
    assert message == user_pb2.User(name="Sam", height=1.5, married=True, tags=["a"])
    assert not message.HasField("email")
    assert serializer.loads(packed) == {
        "name": "Sam",
        "height": 1.5,
        "married": True,
        "email": None,
        "score": None,
        "tags": ["a"],
        "counts": {},
        "address": None,
        "others": [],
        "photo": b"",
        "weight": 0.0,
        "level": 0,
        "small": 0,
    }


MESSAGES = pytest.mark.parametrize(
    "message",
    [
        user_pb2.User(),
        user_pb2.User(score=2**62, counts={"a": 2**62}, level=7, photo=b"\xff", email=""),
        user_pb2.User(address={"city": "Bonn"}, others=[{}, {"floor": 0}]),
        shapes_pb2.Shapes(phone="", moods=[3], children={1: {"flag": True}}, raw=b""),
        shapes_pb2.Shapes(mail="a@b", parent={"parent": {}}),
        strict_pb2.Strict(name="", score=5),
    ],
)


@MESSAGES
def test_a_dict_makes_the_same_message_again(message: Any) -> None:
    serializer = co.ProtobufSerializer(type(message))
    read = serializer.loads(serializer.dumps(message))
    assert type(read) is dict
    assert type(message)(**read) == message
    assert serializer.message(serializer.dumps(read)) == message


def test_a_message_is_packed_as_it_is() -> None:
    serializer = co.ProtobufSerializer(user_pb2.User)
    message = user_pb2.User(name="Sam", counts={"a": 1}, others=[{"city": "Bonn"}])
    assert serializer.dumps(message) == message.SerializeToString()
    assert serializer.message(serializer.dumps(message)) == message


@pytest.mark.parametrize("value", [None, 5, "text", [("name", "Sam")], object(), article_pb2.Article()])
def test_only_mappings_and_messages_of_the_type_are_packed(value: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a mapping or a cacheorm\.tests\.User message, got"):
        co.ProtobufSerializer(user_pb2.User).dumps(value)


@pytest.mark.parametrize("value", [None, user_pb2, user_pb2.User(), dict, "user_pb2.User", user_pb2.User.DESCRIPTOR])
def test_a_serializer_takes_a_message_class(value: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a generated message class such as user_pb2\.User, got"):
        co.ProtobufSerializer(value)


@pytest.mark.parametrize(
    ("row", "error", "text"),
    [
        ({"nme": 1}, ValueError, r"message cacheorm\.tests\.User has no field 'nme'"),
        ({"name": SECRET}, TypeError, r"field cacheorm\.tests\.User\.name cannot hold this int"),
        ({"name": b"\xff"}, ValueError, r"User\.name cannot hold this bytes"),
        ({"name": "\ud800"}, ValueError, r"User\.name cannot hold this str"),
        ({"small": SECRET}, ValueError, r"User\.small cannot hold this int"),
        ({"small": 1.5}, TypeError, r"User\.small cannot hold this float"),
        ({"level": SECRET}, ValueError, r"User\.level cannot hold this int"),
        ({"weight": 1e39}, ValueError, r"User\.weight cannot hold this float"),
        ({"weight": -1e300}, ValueError, r"User\.weight cannot hold this float"),
        ({"photo": "text"}, TypeError, r"User\.photo cannot hold this str"),
        ({"tags": "text"}, TypeError, r"User\.tags cannot hold this str"),
        ({"tags": {"a": 1}}, TypeError, r"User\.tags cannot hold this dict"),
        ({"tags": 5}, TypeError, r"User\.tags cannot hold this int"),
        ({"tags": [None]}, TypeError, r"User\.tags cannot hold this list"),
        ({"counts": [1]}, TypeError, r"User\.counts cannot hold this list"),
        ({"counts": {1: 1}}, TypeError, r"User\.counts cannot hold this dict"),
        ({"counts": {"a": 2**70}}, ValueError, r"User\.counts cannot hold this dict"),
        ({"address": 5}, TypeError, r"expected a mapping for the protobuf message cacheorm\.tests\.Address, got int"),
        ({"address": {"floor": SECRET}}, ValueError, r"Address\.floor cannot hold this int"),
        ({"others": [{"town": 1}]}, ValueError, r"message cacheorm\.tests\.Address has no field 'town'"),
        ({"others": [5]}, TypeError, r"expected a mapping for the protobuf message"),
    ],
)
def test_what_a_message_cannot_hold_is_refused_without_quoting_it(row: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        co.ProtobufSerializer(user_pb2.User).dumps(row)
    assert str(SECRET) not in str(caught.value)


def test_required_fields_are_required() -> None:
    serializer = co.ProtobufSerializer(strict_pb2.Strict)
    with pytest.raises(ValueError, match=r"cacheorm\.tests\.Strict requires name"):
        serializer.dumps({"score": 1})
    assert serializer.loads(serializer.dumps({"name": ""}))["name"] == ""


def test_maps_of_messages_and_messages_in_themselves() -> None:
    serializer = co.ProtobufSerializer(shapes_pb2.Shapes)
    row = {"children": {1: {"flag": True}, 2: {}}, "parent": {"parent": {"phone": "5"}}, "moods": [3, 0]}
    read = serializer.loads(serializer.dumps(row))
    assert {key: child["flag"] for key, child in read["children"].items()} == {1: True, 2: False}
    assert read["parent"]["parent"]["phone"] == "5"
    assert read["parent"]["parent"]["parent"] is None
    assert read["moods"] == [3, 0]


def test_alternatives_exclude_each_other() -> None:
    serializer = co.ProtobufSerializer(shapes_pb2.Shapes)
    assert serializer.loads(serializer.dumps({"phone": "5", "mail": None}))["mail"] is None
    with pytest.raises(ValueError, match=r"holds phone or mail, not both: they are alternatives \(oneof contact\)"):
        serializer.dumps({"phone": "5", "mail": "a@b"})


# -- through a model ---------------------------------------------------------------------------------


def test_null_and_zero_are_told_apart() -> None:
    model = model_of(user_pb2.User, email=co.StringField(null=True), score=co.IntegerField(null=True))
    for number, (email, score) in enumerate([(None, None), ("", 0), (None, 0), ("a", None)]):
        model.create(id=number, email=email, score=score)
        read = model.get(id=number)
        assert (read.email, read.score) == (email, score)


def test_zero_and_empty_values_come_back_without_presence() -> None:
    model = model_of(
        user_pb2.User,
        name=co.StringField(),
        height=co.FloatField(),
        married=co.BooleanField(),
        tags=co.ListField(co.StringField()),
        photo=co.BinaryField(ensure_str=False),
    )
    row = {"id": 1, "name": "", "height": 0.0, "married": False, "tags": [], "photo": b""}
    model.create(**row)
    assert model.get(id=1).to_dict() == row


def test_fields_that_cannot_be_null_are_named_when_the_class_is_created() -> None:
    with pytest.raises(
        TypeError,
        match=r"^Row: the protobuf message cacheorm\.tests\.User has no field city, zip and "
        r"cannot tell null from zero or empty for name, small: declare it `optional` and "
        r"cannot tell null from empty for tags, counts, as repeated and map fields are never unset: "
        r"declare the model's field without null=True",
    ):
        model_of(
            user_pb2.User,
            name=co.StringField(null=True),
            city=co.StringField(),
            small=co.IntegerField(null=True),
            tags=co.ListField(co.StringField(), null=True),
            zip=co.StringField(),
            counts=co.Field(null=True),
            address=co.Field(null=True),
            email=co.StringField(null=True),
        )


def test_the_check_waits_for_a_default_serializer_until_the_first_use() -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        city = co.StringField()

    before = co.defaults.serializer
    co.configure(serializer=co.ProtobufSerializer(user_pb2.User))
    try:
        with pytest.raises(TypeError, match="has no field city"):
            Row.create(id=1, city="Bonn")
    finally:
        co.configure(serializer=before)


class Level(enum.Enum):
    NONE = 0
    HIGH = 7


class Label(enum.Enum):
    NONE = "NONE"
    HIGH = "HIGH"


# field of the message -> a field for it, and values to be written
HELD: dict[str, tuple[co.Field[Any], list[Any]]] = {
    "name": (co.StringField(), ["", "Zoë 😀", 5]),
    "height": (co.FloatField(), [0.1, 1e308, -0.0, 5, "1.5"]),
    "married": (co.BooleanField(), [True, False, 1, 0]),
    "score": (co.IntegerField(), [0, -(2**63), 2**63 - 1, "5"]),
    "small": (co.BooleanField(), [True, 0]),
    "tags": (co.ListField(co.DecimalField()), [[], ["1.50", 2]]),
    "counts": (co.Field(), [{}, {"a": 1, "b": -1}]),
    "address": (co.Field(), [{}, {"city": "Bonn"}, {"city": "Bonn", "floor": 0}]),
    "others": (co.Field(), [[], [{"city": "Bonn"}, {"floor": 2}]]),
    "photo": (co.BinaryField(ensure_str=False), [b"", b"\x00\xff"]),
    "weight": (co.FloatField(), [0.1, 3.3333333333333335, 16777217, -0.0, 3.4e38, 1e-46]),
    "level": (co.EnumField(Level), [Level.HIGH, 0]),
}
SHAPES: dict[str, tuple[co.Field[Any], list[Any]]] = {
    "ratio": (co.FloatField(null=True), [0.1, None, 0]),
    "weights": (co.ListField(co.FloatField()), [[], [0.1, 0.2]]),
    "prices": (
        co.StructField(dict, lambda stored: {key: round(value, 7) for key, value in stored.items()}),
        [{"a": 0.1}],
    ),
    "parent": (co.Field(null=True), [{"ratio": 0.1, "weights": (0.1,), "prices": {"a": 0.7}}, None]),
    "moods": (co.ListField(co.IntegerField()), [[3, 0]]),
    "flag": (co.BooleanField(), [True]),
    "raw": (co.BinaryField(ensure_str=False, null=True), [b"", None, bytearray(b"x")]),
}
CASES = [
    (message, name, field, value)
    for message, table in ((user_pb2.User, HELD), (shapes_pb2.Shapes, SHAPES))
    for name, (field, values) in table.items()
    for value in values
]


@pytest.mark.parametrize(("message", "name", "field", "value"), CASES)
def test_an_instance_holds_what_a_later_read_gives(message: Any, name: str, field: Any, value: Any) -> None:
    model = model_of(message, **{name: field})
    written = model.create(id=1, **{name: value})
    read = model.get(id=1)
    assert shown(getattr(written, name)) == shown(getattr(read, name))
    again = model.insert_many(read).execute()[0]
    assert shown(getattr(model.get(id=1), name)) == shown(getattr(again, name)) == shown(getattr(read, name))


def test_a_float_member_keeps_32_bits_and_says_so_at_once() -> None:
    model = model_of(user_pb2.User, weight=co.FloatField(default=0.2))
    assert model.create(id=1, weight=0.1).weight == single(0.1) != 0.1
    assert model.create(id=2).weight == single(0.2)
    assert model.update(id=1, weight=0.7).execute().weight == single(0.7)
    assert model.get(id=1).weight == single(0.7)


def test_a_float_member_keeps_nan_and_infinity_where_the_field_takes_them() -> None:
    model = model_of(user_pb2.User, weight=co.FloatField(allow_nan=True))
    assert math.isnan(model.create(id=1, weight=math.nan).weight)
    assert model.create(id=2, weight=math.inf).weight == math.inf
    with pytest.raises(co.ValidationError, match=r"User\.weight cannot hold this float"):
        model.create(id=3, weight=1e39)


@pytest.mark.parametrize(
    ("name", "field", "value", "text"),
    [
        ("small", co.IntegerField(), SECRET, r"the protobuf field cacheorm\.tests\.User\.small cannot hold this int"),
        ("score", co.IntegerField(), 2**63, r"User\.score cannot hold this int"),
        ("score", co.IntegerField(), 2**64, r"User\.score cannot hold this str"),
        ("weight", co.FloatField(), 1e39, r"User\.weight cannot hold this float"),
        ("married", co.IntegerField(), 2, "expected an integer, got bool"),
        ("name", co.BinaryField(ensure_str=False), b"\xff", r"User\.name cannot hold this bytes"),
        ("name", co.BinaryField(ensure_str=False), b"x", "expected bytes, got str"),
        ("photo", co.StringField(), "x", r"User\.photo cannot hold this str"),
        ("counts", co.Field(), {"a": SECRET**4}, r"User\.counts cannot hold this dict"),
        ("address", co.Field(), {"town": 1}, r"message cacheorm\.tests\.Address has no field 'town'"),
        ("level", co.EnumField(Label), Label.HIGH, r"(expected the value of a member of Label, got int|cannot hold)"),
    ],
)
def test_what_would_not_come_back_is_refused_with_model_field_and_key(
    name: str, field: Any, value: Any, text: str
) -> None:
    model = model_of(user_pb2.User, **{name: field})
    with pytest.raises(co.ValidationError, match=rf"^Row\.{name}: .*{text}.* \(key m:row:id:1\)$") as caught:
        model.create(id=1, **{name: value})
    assert str(SECRET) not in str(caught.value)


def test_alternatives_given_together_are_refused_through_a_model() -> None:
    model = model_of(shapes_pb2.Shapes, phone=co.StringField(null=True), mail=co.StringField(null=True))
    model.create(id=1, phone="5")
    assert model.get(id=1).mail is None
    with pytest.raises(
        ValueError, match=r"^Row: the protobuf .* cannot hold the row: .* holds phone or mail, not both"
    ):
        model.create(id=2, phone="5", mail="a@b")


def test_foreign_keys_and_keys_of_any_type_need_no_field_in_the_message() -> None:
    class Author(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

    model = model_of(article_pb2.Article, author=co.ForeignKeyField(Author), title=co.StringField())
    Author.create(id=5, name="Sam")
    model.create(id=1, author=5, title="x")
    assert model.get(id=1).author.name == "Sam"


def test_two_models_share_a_serializer() -> None:
    serializer = co.ProtobufSerializer(user_pb2.User)
    meta = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": serializer})

    class Named(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        Meta = meta

    class Scored(co.Model):
        id = co.IntegerField(primary_key=True)
        score = co.IntegerField(null=True)
        Meta = meta

    Named.create(id=1, name="Sam")
    Scored.create(id=1, score=None)
    assert Named.get(id=1).name == "Sam"
    assert Scored.get(id=1).score is None
    payload = Named._meta.backend.get(Named.key(id=1))
    prefix = b"\xc1\x01\x00\x1cprotobuf cacheorm.tests.User"
    assert payload.startswith(prefix)
    assert serializer.message(payload.removeprefix(prefix)) == user_pb2.User(name="Sam")


def test_unknown_fields_of_a_newer_message_are_dropped() -> None:
    model = model_of(user_pb2.User, name=co.StringField())
    newer = user_pb2.User(name="Sam").SerializeToString() + b"\xf8\x7f\x05"
    model._meta.backend.set(model.key(id=1), newer)
    assert model.get(id=1).name == "Sam"


# A field number that no message declares, and its value.
UNKNOWN = b"\xf8\x7f\x05"


@MESSAGES
def test_a_message_is_packed_in_another_format_unless_it_has_unknown_fields(message: Any) -> None:
    old = model_of(type(message))

    class Row(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            serializer = "msgpack"
            backend = old._meta.backend
            accepts = (old._meta.serializer,)

    header = Header(old._meta.serializer.name).pack()
    Row._meta.backend.set(Row.key(id=1), header + message.SerializeToString())
    assert Row.update(id=1).execute()
    assert identify(Row._meta.backend.get(Row.key(id=1))) == (Header("msgpack"), 0)
    Row._meta.backend.set(Row.key(id=1), header + message.SerializeToString() + UNKNOWN)
    with pytest.raises(ValueError, match=r"^Row: the msgpack serializer cannot hold the row: it has fields .*\(key "):
        Row.update(id=1).execute()


@pytest.mark.parametrize("place", ["address", "others", "parent", "children"])
def test_unknown_fields_of_nested_messages_are_not_dropped_either(place: str) -> None:
    message: Any = user_pb2.User() if place in ("address", "others") else shapes_pb2.Shapes()
    target = getattr(message, place)
    if place == "others":
        target = target.add()
    elif place == "children":
        target = target[5]
    target.MergeFromString(UNKNOWN)
    form = co.ProtobufSerializer(type(message)).row_format()
    assert form.check_known is not None
    with pytest.raises(ValueError, match="has fields that the protobuf message"):
        form.check_known(message.SerializeToString())


def test_a_field_added_since_gets_its_default_if_the_message_has_presence_for_it() -> None:
    model = model_of(user_pb2.User, email=co.StringField(default="none", null=True), score=co.IntegerField(default=5))
    model._meta.backend.set(model.key(id=1), b"")
    assert (model.get(id=1).email, model.get(id=1).score) == (None, 5)


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\xff", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x00", b"\x0b" * 200])
def test_bytes_that_are_no_message_are_payload_errors(payload: bytes) -> None:
    model = model_of(user_pb2.User, name=co.StringField())
    model._meta.backend.set(model.key(id=1), payload)
    with pytest.raises(co.PayloadError, match=r"^Row: .*\(key m:row:id:1, read as protobuf cacheorm\.tests\.User\)"):
        model.get(id=1)
    with pytest.raises(Exception, match=r"."):
        model._meta.serializer.loads(payload)


def test_the_library_written_in_python_does_the_same() -> None:
    """protobuf has a second implementation, which checks types by other code and with other errors."""
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    command += [
        "--deselect",
        f"{__file__}::test_the_library_written_in_python_does_the_same",
        "-k",
        "not written_in_python",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
