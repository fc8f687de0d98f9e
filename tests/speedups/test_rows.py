"""Rows to msgpack and back: the compiled codec and the pure one give the same bytes, rows and errors.

Where the extensions are in use both codecs run side by side over the same models. Without them the pure one is
alone, and is held against the msgpack library and the fields' own converters, as it is in both cases.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import enum
import gc
import math
import random
import struct
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from amounts import enough
from guarded import run_guarded
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from leaking import assert_nothing_stays

import cacheorm as co
from cacheorm._speedups.rows import _rows_py

MARK = "S3CRET"

TWINS: dict[str, Any] = {"pure": _rows_py.MsgpackRows}
if co.speedups_enabled:
    from cacheorm._speedups.rows import _rows_c

    TWINS["compiled"] = _rows_c.MsgpackRows


# -- models of all shapes ----------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"
    HALF = 0.5
    RAW = b"raw"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2**40


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Word(enum.StrEnum):
    YES = "yes"
    NO = "nö"


class Point:
    def __init__(self, x: Any, y: Any) -> None:
        self.parts = [x, y]

    def __repr__(self) -> str:
        return f"Point({self.parts!r})"


class ShoutField(co.Field[Any]):
    """Not idempotent: what it makes of a value it would make something else of again."""

    def cache_value(self, value: Any) -> Any:
        return f"{value}!"

    def python_value(self, value: Any) -> Any:
        return value


class NothingField(co.Field[Any]):
    """Stores an empty text as null, and reads "none" as nothing."""

    def cache_value(self, value: Any) -> Any:
        return None if value == "" else value

    def python_value(self, value: Any) -> Any:
        return None if value == "none" else value


class BrittleField(co.Field[Any]):
    def cache_value(self, value: Any) -> Any:
        if value == "boom":
            raise RuntimeError(MARK)
        return value

    def python_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise KeyError(MARK)
        return value


class OnlyReadField(co.IntegerField[Any]):
    def python_value(self, value: Any) -> Any:
        return super().python_value(value) + 1


def stamp_field(**options: Any) -> co.TimestampField[Any]:
    # Its own default is the current time, which is not the same twice.
    return co.TimestampField(6, utc=True, **{"default": dt.datetime(2020, 1, 1), **options})


def no_longer_than_five(value: Any) -> None:
    if len(str(value)) > 5:
        raise ValueError("expected something shorter")


UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
datetimes = st.datetimes()
aware = st.datetimes(
    min_value=dt.datetime(2, 1, 1), max_value=dt.datetime(9998, 1, 1), timezones=st.sampled_from([UTC, EAST])
)
texts = st.text(max_size=40) | st.sampled_from(["", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "ä" * 200, "a" * 65536])
ints = st.integers() | st.sampled_from(
    [
        sign * (2**bits + more)
        for sign in (1, -1)
        for bits in (0, 5, 7, 8, 15, 16, 31, 32, 63, 64, 70)
        for more in (-1, 0, 1)
    ]
)
floats = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none()
    | st.booleans()
    | ints.filter(lambda n: -(2**63) <= n < 2**64)
    | floats
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)

# name -> (a field with these options, values it is made for)
KINDS: dict[str, tuple[Callable[..., co.Field[Any]], st.SearchStrategy[Any]]] = {
    "int": (co.IntegerField, ints | ints.map(str)),
    "text": (co.StringField, texts | st.integers() | st.binary(max_size=5)),
    "short": (lambda **o: co.StringField(max_length=5, **o), st.text(max_size=6)),
    "secret": (lambda **o: co.StringField(secret=True, **o), texts),
    "bool": (co.BooleanField, st.booleans() | st.integers(0, 1)),
    "float": (co.FloatField, floats | st.integers(-5, 5)),
    "enum": (lambda **o: co.EnumField(Color, **o), st.sampled_from([*Color, 1, "blue", 0.5, b"raw"])),
    "size": (lambda **o: co.EnumField(Size, **o), st.sampled_from([*Size, 1, 2**40])),
    "word": (lambda **o: co.EnumField(Word, **o), st.sampled_from([*Word, "yes"])),
    "rights": (lambda **o: co.EnumField(Rights, **o), st.sampled_from([*Rights, Rights(3), 0, 3])),
    "aware": (co.DateTimeTZField, aware | aware.map(lambda moment: moment.replace(microsecond=0))),
    "naive": (co.DateTimeField, datetimes | datetimes.map(str)),
    "date": (co.DateField, st.dates() | datetimes),
    "time": (co.TimeField, st.times() | datetimes),
    "stamp": (stamp_field, datetimes | st.integers(0, 2**31)),
    "uuid": (co.UUIDField, st.uuids() | st.uuids().map(str)),
    "short_uuid": (co.ShortUUIDField, st.uuids()),
    "decimal": (co.DecimalField, st.decimals(-(10**9), 10**9, allow_nan=False)),
    "base64": (co.BinaryField, st.binary(max_size=300)),
    "raw": (lambda **o: co.BinaryField(ensure_str=False, **o), st.binary(max_size=300) | st.binary().map(bytearray)),
    "json": (co.JSONField, json_values),
    "struct": (
        lambda **o: co.StructField(lambda point: tuple(point.parts), lambda parts: Point(*parts), **o),
        st.builds(Point, st.integers(0, 9), st.text(max_size=3)),
    ),
    "list": (lambda **o: co.ListField(co.StringField(), **o), st.lists(texts, max_size=20)),
    "lists": (
        lambda **o: co.ListField(co.ListField(co.IntegerField(null=True)), **o),
        st.lists(st.lists(ints | st.none(), max_size=3), max_size=3),
    ),
    "anything": (co.Field, plain),
    "shout": (ShoutField, texts),
    "nothing": (NothingField, st.sampled_from(["", "none", "x", 5])),
    "brittle": (BrittleField, st.sampled_from(["fine", "boom", 5])),
    "only_read": (OnlyReadField, st.integers(0, 9)),
    "checked": (lambda **o: co.StringField(validators=[no_longer_than_five], **o), st.text(max_size=7)),
}  # fmt: skip

JUNK: list[Any] = [
    None, True, 0, -1, 1, 3.9, 1e300, math.nan, math.inf, -0.0, 2**64, -(2**63) - 1, 10**50, "", "tall", MARK, "1",
    "boom", "\ud800" + MARK, "none", b"\xff", b"raw", bytearray(b"x"), [], [1, MARK], ["\ud800"], {}, {"a": MARK},
    {1: 2}, (), object(), Color.BLUE, Size.SMALL, Rights.READ, Decimal("1.5"), Decimal("NaN"), UUID(int=5),
    dt.date(2020, 1, 2), dt.time(3, 4), dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.datetime(2020, 1, 2, tzinfo=EAST),
    dt.datetime(1, 1, 1, tzinfo=EAST), dt.datetime(2020, 1, 2, tzinfo=UTC, fold=1), Point(1, 2), lambda: None,
    MARK * 20_000,
]  # fmt: skip
STORED_JUNK: list[Any] = [
    None, True, False, 0, 1, 2, -33, 0.0, 0.5, math.nan, math.inf, -math.inf, 2**40, 2**63, 2**64 - 1, -(2**63), "",
    "x", MARK, "blue", "yes", "none", "1", "12345678901234567890", "01", "2020-01-02", "2020-01-02T03:04:05",
    "2020-01-02 03:04:05.000006", "2020-01-02T03:04:05+00:00", "2020-01-02T03:04:05.000006+00:00",
    "2020-01-02T03:04:05.000006+0000", "2020-01-02T03:04:05.000006+05:30", "2020-01-02T24:00:00+00:00",
    "2020-13-02T03:04:05+00:00", "2020-02-30T03:04:05+00:00", "2020-01-02T03:04:60+00:00",
    "0000-01-02T03:04:05+00:00", "2020-01-02T03:04:05.00000ä+00:00", "2020-01-02t03:04:05+00:00",
    "2020-01-02T03:04:05-00:00", "٢٠٢٠-01-02T03:04:05+00:00", "03:04:05", "1.5", "NaN", "Infinity", "1E+5", "YQ==",
    "YR==", "{}", "00000000000000000000000000000005", "2222222222222222222227", b"", b"raw", b"\xff", [], ["a"],
    [1, None], [[1]], {}, {"a": 1}, {1: 2}, [{}], msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2),
]  # fmt: skip

NAMES = ["name", "größe", "名前", "n" * 31, "n" * 32, "ä" * 150, "N" * 300, "_x", "x1", "Ω"]


def make_model(
    columns: dict[str, co.Field[Any]],
    key: dict[str, co.Field[Any]] | None = None,
    composite: tuple[str, ...] | None = None,
    **meta: Any,
) -> Any:
    fields = {**(key or {"id": co.IntegerField(primary_key=True)}), **columns}
    if composite is not None:
        meta["primary_key"] = co.CompositeKey(*composite)
    options = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": "msgpack", **meta})
    namespace = {**fields, "Meta": options, "__module__": __name__, "__qualname__": "make_model.<locals>.Row"}
    return type(co.Model)("Row", (co.Model,), namespace)


def codec_of(twin: Any, model: Any, skip_invalid: bool = False) -> Any:
    plan = model._meta
    return twin(model, tuple(plan.fields.values()), plan.key_fields, plan.identity, skip_invalid)


@st.composite
def models(draw: st.DrawFn) -> Any:
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=draw(st.sampled_from([2, 6, 40]))))
    names = [draw(st.sampled_from(NAMES)) + f"_{position}" for position in range(len(kinds))]
    columns: dict[str, co.Field[Any]] = {}
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, kind in zip(names, kinds, strict=True):
        build, good = KINDS[kind]
        options: dict[str, Any] = {"null": draw(st.booleans())}
        if draw(st.integers(0, 3)) == 0:
            # One that is wrong is refused with the class, unless it is made for each row.
            made = draw(st.booleans())
            default = draw(good | st.sampled_from(JUNK) if made else good)
            options["default"] = (lambda value: lambda: value)(default) if made else default
        columns[name] = build(**options)
        values[name] = good
    if len(names) >= 2 and draw(st.booleans()):
        composite = tuple(draw(st.permutations(names)))[:2]
        for name in composite:
            columns[name].null = False
        return make_model(columns, key={names[0]: columns[names[0]]}, composite=composite), values
    values["id"] = st.integers(0, 9)
    return make_model(columns), values


@st.composite
def rows(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A model and values for its fields, some of them wrong or not there."""
    model, good = draw(models())
    mostly_good = draw(st.booleans())
    row = {}
    for name, strategy in good.items():
        if mostly_good:
            choice = 0 if draw(st.integers(0, 12)) else draw(st.integers(0, 2))
        else:
            choice = draw(st.integers(0, 3))
        if choice <= 1:
            row[name] = draw(strategy)
        elif choice == 2:
            row[name] = draw(st.sampled_from(JUNK))
    return model, row


# -- what came of it, to be compared -----------------------------------------------------------------

_UNSET = type("Unset", (), {"__repr__": lambda self: "unset"})()


def exact(value: Any) -> Any:
    """A form that tells apart what == does not: types, signs of zero, folds."""
    if isinstance(value, (list, tuple)):
        return (type(value), [exact(item) for item in value])
    if isinstance(value, dict):
        return (type(value), [(exact(key), exact(item)) for key, item in value.items()])
    if isinstance(value, dt.datetime):
        return (type(value), value.replace(tzinfo=None, fold=0), value.fold, value.tzinfo)
    if isinstance(value, float):
        return struct.pack("d", value)
    return (type(value), repr(value))


def slots_of(instance: Any) -> dict[str, Any]:
    return {name: exact(field.peek(instance, _UNSET)) for name, field in type(instance)._meta.fields.items()}


def caught(error: Exception, key: str | None = None) -> Any:
    text = str(error)
    assert MARK not in text.replace(str(getattr(error, "key", None)), "")
    if isinstance(error, co.PayloadError):
        assert (error.model, error.key, error.serializer) == ("Row", key, "msgpack")
        assert all(part in text for part in ("Row", key, "msgpack", error.field or ""))
    where = [getattr(error, part, None) for part in ("model", "key", "field", "serializer", "row", "problems")]
    return type(error), text, where, type(error.__cause__)


def dumped(codec: Any, instance: Any, position: int | None = None) -> tuple[Any, Any]:
    try:
        result: Any = codec.dump_many([instance], False)[0] if position is None else codec.dump(instance, position)
    except Exception as error:  # noqa: BLE001 - whatever it is, all twins must raise it
        return caught(error), slots_of(instance)
    return result, slots_of(instance)


def loaded(codec: Any, payload: Any, pk: tuple[Any, ...], key: str = "the:key") -> Any:
    try:
        result = codec.load_many([payload], [pk if len(pk) > 1 else pk[0]], [key])[0]
    except Exception as error:  # noqa: BLE001 - as above
        return caught(error, key)
    return None if result is None else slots_of(result)


def expected_row(model: Any, payload: bytes, pk: tuple[Any, ...]) -> dict[str, Any]:
    """What a good payload means, by the msgpack library and the fields' own converters."""
    row = msgpack.unpackb(payload, raw=False, strict_map_key=False)
    plan = model._meta
    values = dict(zip([field.name for field in plan.key_fields], pk, strict=True))
    for name, field in plan.fields.items():
        if name not in values:
            values[name] = None if row[name] is None else field.converter.load(row[name])
    return {name: exact(values[name]) for name in plan.fields}


def alone(outcomes: dict[str, Any]) -> Any:
    """The outcome that all twins agree on."""
    first = outcomes["pure"]
    for twin, outcome in outcomes.items():
        assert outcome == first, twin
    return first


MANY = settings(max_examples=enough(150), deadline=None, suppress_health_check=list(HealthCheck))


# -- writing -----------------------------------------------------------------------------------------


@MANY
@given(rows())
def test_rows_of_any_shape_are_packed_alike_or_refused_alike(case: tuple[Any, dict[str, Any]]) -> None:
    model, values = case
    outcomes = {}
    for name, twin in TWINS.items():
        instance = model(**{field: copy_of(value) for field, value in values.items()})
        outcomes[name] = dumped(codec_of(twin, model), instance)
    payload, slots = alone(outcomes)
    if not isinstance(payload, bytes):
        assert payload[0] in (co.ValidationError, TypeError, ValueError)
        return
    stored = msgpack.unpackb(payload, raw=False, strict_map_key=False)
    plan = model._meta
    assert list(stored) == [field for field in plan.fields if field not in {one.name for one in plan.key_fields}]
    assert msgpack.packb(stored) == payload
    # The instance holds what a read gives.
    instance = model(**{field: copy_of(value) for field, value in values.items()})
    codec = codec_of(TWINS["pure"], model)
    codec.dump_many([instance])
    pk = tuple(field.peek(instance) for field in plan.key_fields)
    read = alone({name: loaded(codec_of(twin, model), payload, pk) for name, twin in TWINS.items()})
    if not {ShoutField, OnlyReadField} & {type(field) for field in plan.key_fields}:
        assert read == slots
    assert read == expected_row(model, payload, pk)


def copy_of(value: Any) -> Any:
    # Not what has no copy: enum members, functions, objects that are compared by identity.
    return copy.deepcopy(value) if isinstance(value, (list, dict, bytearray, Point)) else value


@MANY
@given(rows(), st.integers(0, 5))
def test_single_rows_and_rows_of_a_batch_are_reported_alike(case: tuple[Any, dict[str, Any]], position: int) -> None:
    model, values = case
    outcome = alone({name: dumped(codec_of(twin, model), model(**values), position) for name, twin in TWINS.items()})[0]
    if isinstance(outcome, tuple) and outcome[0] is co.ValidationError:
        assert f"row {position}" in outcome[1]


def test_the_bytes_are_those_of_the_msgpack_library(twin: Any) -> None:
    model = make_model(
        {
            "text": co.StringField(),
            "number": co.IntegerField(),
            "real": co.FloatField(),
            "none": co.StringField(null=True),
        }
    )
    for length in (0, 1, 31, 32, 33, 255, 256, 257, 65535, 65536, 70000):
        for letter in ("a", "ß", "語", "😀"):
            row = {"text": letter * length, "number": length - 300, "real": length / 7, "none": None}
            assert codec_of(twin, model).dump_many([model(id=1, **row)]) == [msgpack.packb(row)]


def test_ints_take_their_shortest_form_at_every_boundary(twin: Any) -> None:
    model = make_model({"number": co.IntegerField()})
    codec = codec_of(twin, model)
    edges = {sign * (1 << bits) + more for bits in range(65) for sign in (1, -1) for more in (-1, 0, 1)}
    for number in edges:
        stored = number if -(2**63) <= number < 2**64 else str(number)
        payload = codec.dump_many([model(id=1, number=number)])[0]
        assert payload == msgpack.packb({"number": stored})
        assert codec.load(payload, 1, "k").number == number


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
def test_maps_of_every_size_class_are_written_and_read(twin: Any, count: int) -> None:
    model = make_model({f"f{position}": co.IntegerField(null=True) for position in range(count)})
    row = {f"f{position}": position or None for position in range(count)}
    codec = codec_of(twin, model)
    payload = codec.dump_many([model(id=1, **row)])[0]
    assert payload == msgpack.packb(row)
    assert codec.load(payload, 1, "k").to_dict() == {"id": 1, **row}


def test_a_converter_that_is_not_idempotent_is_called_once_per_write(twin: Any) -> None:
    """A later field without a value, with a default or with one that cannot be packed must not start it over."""
    model = make_model(
        {
            "shout": ShoutField(),
            "late": co.StringField(default="x"),
            "other": co.ListField(co.StringField(), default=[]),
        }
    )
    codec = codec_of(twin, model)
    instance = model(id=1, shout="hey")
    assert msgpack.unpackb(codec.dump_many([instance])[0])["shout"] == "hey!"
    assert instance.shout == "hey!"
    assert instance.other == []


def test_a_row_that_is_refused_is_converted_as_far_as_it_is_good(twin: Any) -> None:
    model = make_model({"shout": ShoutField(), "bad": co.IntegerField()})
    instance = model(id="1", shout="hey", bad="tall")
    with pytest.raises(co.ValidationError, match=r"^Row\.bad: expected an integer, got str \(row 0, key m:row:id:1\)$"):
        codec_of(twin, model).dump_many([instance])
    assert (instance.id, instance.shout, instance.bad) == (1, "hey!", "tall")


def test_all_bad_fields_of_a_row_are_reported_together(twin: Any) -> None:
    model = make_model({"a": co.IntegerField(), "b": co.StringField(), "c": co.FloatField()})
    with pytest.raises(co.ValidationError) as caught_error:
        codec_of(twin, model).dump_many([model(id=1, a=1, b="", c=1.0), model(a=MARK, c=math.nan)])
    error = caught_error.value
    assert [field for field, _ in error.problems] == ["id", "a", "b", "c"]
    assert (error.model, error.row, error.key) == ("Row", 1, None)
    assert "missing value for <Field: Row.b>" in str(error)
    assert MARK not in str(error)


def test_a_custom_field_that_stores_null_needs_null(twin: Any) -> None:
    """Else the row could be written and never read."""
    good, bad = (make_model({"nothing": NothingField(null=null)}) for null in (True, False))
    codec = codec_of(twin, good)
    instance = good(id=1, nothing="")
    assert codec.dump_many([instance]) == [msgpack.packb({"nothing": None})]
    assert instance.nothing is None
    with pytest.raises(co.ValidationError, match=r"Row\.nothing: its stored form is null, and the field takes no null"):
        codec_of(twin, bad).dump_many([bad(id=1, nothing="")])


def test_validators_see_values_and_not_null(twin: Any) -> None:
    seen: list[Any] = []
    model = make_model({"number": co.IntegerField(null=True, validators=[seen.append])})
    codec_of(twin, model).dump_many([model(id=1, number="5"), model(id=2, number=None), model(id=3)])
    assert seen == [5]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (object(), TypeError, "can not serialize 'object' object"),
        (2**64, ValueError, "out of range"),
        ("\ud800", ValueError, "surrogates"),
        ({"deep": [object()]}, TypeError, "can not serialize"),
    ],
)
def test_what_msgpack_cannot_hold_is_reported_with_model_and_field(
    twin: Any, value: Any, error: type[Exception], text: str
) -> None:
    model = make_model({"good": co.IntegerField(), "any": co.Field()})
    with pytest.raises(error, match=rf"^Row\.any: the msgpack serializer cannot hold it: .*{text}"):
        codec_of(twin, model).dump_many([model(id=1, good=1, any=value)])


# -- reading -----------------------------------------------------------------------------------------


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Any, bytes, int]:
    """A model, a payload that is or once was good, and how many columns the model has."""
    model, values = draw(rows())
    codec = codec_of(TWINS["pure"], model)
    stored: dict[str, Any] = {}
    for field in codec.columns:
        value = values.get(field.name)
        try:
            stored[field.name] = None if value is None else field.converter.dump(copy_of(value))
            msgpack.packb(stored[field.name])
        except (TypeError, ValueError, OverflowError):
            stored[field.name] = draw(st.sampled_from(STORED_JUNK))
    items = list(stored.items())
    what = draw(
        st.sampled_from(["good", "junk", "reorder", "drop", "unknown", "duplicate", "renamed", "nulls", "forms"])
    )
    if items and what == "junk":
        at = draw(st.integers(0, len(items) - 1))
        items[at] = (items[at][0], draw(st.sampled_from(STORED_JUNK)))
    elif what == "reorder":
        items = draw(st.permutations(items))
    elif items and what == "drop":
        del items[draw(st.integers(0, len(items) - 1))]
    elif what == "unknown":
        name = draw(st.sampled_from(["unknown", "", 5, None, b"name", "x" * 40]))
        items.insert(draw(st.integers(0, len(items))), (name, draw(st.sampled_from(STORED_JUNK))))
    elif items and what == "duplicate":
        items.insert(
            draw(st.integers(0, len(items))), (draw(st.sampled_from(items))[0], draw(st.sampled_from(STORED_JUNK)))
        )
    elif items and what == "renamed":
        at = draw(st.integers(0, len(items) - 1))
        items[at] = (items[at][0][:-1] + "?", items[at][1])
    elif what == "nulls":
        items = [(name, None if draw(st.booleans()) else value) for name, value in items]
    payload = msgpack.Packer().pack_map_header(len(items))
    for name, value in items:
        single = what == "forms" and isinstance(value, float) and abs(value) < 1e38
        payload += msgpack.packb(name) + msgpack.packb(value, use_single_float=single)
    return model, payload, len(items)


def read_by_all(model: Any, payload: Any) -> Any:
    pk = tuple(f"pk{position}" for position in range(len(model._meta.key_fields)))
    return alone({name: loaded(codec_of(twin, model), payload, pk) for name, twin in TWINS.items()})


@MANY
@given(payloads())
def test_payloads_of_any_shape_are_read_alike_or_refused_alike(case: tuple[Any, bytes, int]) -> None:
    model, payload, _ = case
    outcome = read_by_all(model, payload)
    if isinstance(outcome, tuple):
        assert outcome[0] is co.PayloadError


@MANY
@given(payloads(), st.randoms(use_true_random=False))
def test_mutated_payloads_are_read_alike_or_refused_alike(case: tuple[Any, bytes, int], chance: random.Random) -> None:
    model, payload, _ = case
    for _ in range(20):
        mutated = bytearray(payload)
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(len(mutated))
            how = chance.randrange(4)
            if how == 0:
                mutated[at] = chance.randrange(256)
            elif how == 1:
                mutated[at] ^= 1 << chance.randrange(8)
            elif how == 2:
                mutated[at:at] = bytes(chance.choices(range(256), k=chance.randrange(1, 6)))
            elif len(mutated) > 1:
                del mutated[at]
        outcome = read_by_all(model, bytes(mutated))
        if isinstance(outcome, tuple):
            assert outcome[0] is co.PayloadError


@MANY
@given(payloads())
def test_payloads_cut_anywhere_are_refused_alike(case: tuple[Any, bytes, int]) -> None:
    model, payload, _ = case
    assume(len(payload) < 1000)
    for size in range(len(payload)):
        outcome = read_by_all(model, payload[:size])
        assert outcome[0] is co.PayloadError
        assert "cannot be decoded" in outcome[1]


def everything() -> Any:
    return make_model({f"{name}_{null}": KINDS[name][0](null=null) for name in KINDS for null in (False, True)})


def whole_row() -> dict[str, Any]:
    """A good value for each field of the model of everything."""
    good: dict[str, Any] = {
        "int": 70000, "text": "Zoë", "short": "abc", "secret": MARK, "bool": True, "float": 1.5, "enum": Color.BLUE,
        "size": Size.LARGE, "word": Word.NO, "rights": Rights(3),
        "aware": dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "naive": dt.datetime(2020, 1, 2, 3, 4, 5),
        "date": dt.date(2020, 1, 2), "time": dt.time(3, 4, 5), "stamp": dt.datetime(2020, 1, 2), "uuid": UUID(int=5),
        "short_uuid": UUID(int=5), "decimal": Decimal("1.5"), "base64": b"\x00\xff", "raw": b"\x00\xff",
        "json": {"a": [1, None]}, "struct": Point(1, "y"), "list": ["a", "b"], "lists": [[1, None], []],
        "anything": {"a": [1.5, b"x"]}, "shout": "hey", "nothing": "x", "brittle": "fine", "only_read": 5,
        "checked": "abc",
    }  # fmt: skip
    assert set(good) == set(KINDS)
    return {f"{name}_{null}": copy_of(value) for name, value in good.items() for null in (False, True)}


def test_a_row_of_every_kind_of_field_comes_back(twin: Any) -> None:
    model = everything()
    codec = codec_of(twin, model)
    written = model(id=1, **whole_row())
    payload = codec.dump_many([written])[0]
    assert slots_of(codec.load(payload, 1, "k")) == slots_of(written)
    assert expected_row(model, payload, (1,)) == slots_of(written)


def test_every_stored_form_in_every_kind_of_field_is_read_alike() -> None:
    for name, (build, _) in KINDS.items():
        for null in (False, True):
            model = make_model({"x": build(null=null)})
            for stored in STORED_JUNK:
                outcome = read_by_all(model, msgpack.packb({"x": stored}))
                assert isinstance(outcome, dict) or outcome[0] is co.PayloadError, (name, stored)


HOSTILE = {
    "nothing": b"",
    "null": b"\xc0",
    "a number": b"\x05",
    "a list": b"\x91\x01",
    "the byte that msgpack never uses": b"\xc1",
    "a map without content": b"\x81",
    "a map that says it is huge": b"\xdf\xff\xff\xff\xff",
    "a list that says it is huge": b"\x81\xa1x\xdd\xff\xff\xff\xff",
    "text that says it is huge": b"\x81\xa1x\xdb\xff\xff\xff\xff",
    "a name that says it is huge": b"\x81\xdb\xff\xff\xff\xff",
    "bytes that say they are huge": b"\x81\xa1x\xc6\xff\xff\xff\xff",
    "an extension that says it is huge": b"\x81\xa1x\xc9\xff\xff\xff\xff\x05",
    "an extension": b"\x81\xa1x\xd4\x05\x00",
    "a timestamp": b"\x81\xa1x\xd6\xff\x00\x00\x00\x00",
    "a broken timestamp": b"\x81\xa1x\xc7\x03\xff\x00\x00\x00",
    "ten thousand lists in each other": b"\x81\xa1x" + b"\x91" * 10_000 + b"\x01",
    "ten thousand maps in each other": b"\x81\xa1x" + b"\x81\xa1x" * 10_000 + b"\x01",
    "a map with lists for keys": b"\x81\xa1x\x81\x91\x01\x02",
    "text that is no UTF-8": b"\x81\xa1x\xa2\xc3\x28",
    "text with a surrogate": b"\x81\xa1x\xa3\xed\xa0\x80",
    "a name that is no UTF-8": b"\x81\xa1\xff\x01",
    "bytes behind the row": b"\x81\xa1x\x01\x00",
    "a second row behind the row": b"\x81\xa1x\x01\x81\xa1x\x01",
    "a JSON row": b'{"x": 1}',
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_payloads_are_refused_alike(payload: bytes) -> None:
    for name in ("int", "text", "float", "bool", "enum", "aware", "list", "json", "uuid"):
        outcome = read_by_all(make_model({"x": KINDS[name][0]()}), payload)
        assert outcome[0] is co.PayloadError


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_payloads_are_read_alike_by_a_field_that_takes_anything(payload: bytes) -> None:
    outcome = read_by_all(make_model({"x": co.Field()}), payload)
    assert isinstance(outcome, dict) or outcome[0] is co.PayloadError


@pytest.mark.parametrize("payload", [bytearray, memoryview, type("Raw", (bytes,), {})])
def test_payloads_may_be_other_buffers_of_bytes(twin: Any, payload: Any) -> None:
    model = make_model({"x": co.IntegerField()})
    assert codec_of(twin, model).load(payload(msgpack.packb({"x": 5})), 1, "k").x == 5


def test_misses_stay_misses_and_keep_their_place(twin: Any) -> None:
    model = make_model({"x": co.IntegerField()})
    payload = msgpack.packb({"x": 5})
    found = codec_of(twin, model).load_many([None, payload, None], [1, 2, 3], ["a", "b", "c"])
    assert [row and (row.id, row.x) for row in found] == [None, (2, 5), None]


def test_invalid_payloads_can_count_as_misses(twin: Any) -> None:
    model = make_model({"x": co.IntegerField()})
    codec = codec_of(twin, model, skip_invalid=True)
    good = msgpack.packb({"x": 5})
    bad = [
        b"",
        good[:-1],
        good + b"\x00",
        msgpack.packb({}),
        msgpack.packb({"x": "tall"}),
        msgpack.packb({"x": None}),
        b"\xc0",
    ]
    pks = list(range(len(bad) + 1))
    found = codec.load_many([*bad, good], pks, ["k"] * len(pks))
    assert [row and row.x for row in found] == [None] * len(bad) + [5]


def test_a_model_says_whether_invalid_payloads_are_misses() -> None:
    for on_invalid in ("miss", "raise"):
        model = make_model({"x": co.IntegerField()}, on_invalid=on_invalid)
        model._meta.backend.set(model.key(id=1), b"\xff")
        if on_invalid == "miss":
            assert model.get_or_none(id=1) is None
            assert model.query_many({"id": 1}).execute() == [None]
        else:
            with pytest.raises(co.PayloadError, match=r"^Row: .* \(key m:row:id:1, read as msgpack\)$"):
                model.get_or_none(id=1)


def test_lists_of_different_lengths_are_refused(twin: Any) -> None:
    codec = codec_of(twin, make_model({}))
    for arguments in (([b"\x80"], [], []), ([b"\x80"], [1], []), ([], [1], ["k"])):
        with pytest.raises(ValueError, match=r"length|shorter|longer"):
            codec.load_many(*arguments)


# -- what a codec must not do ------------------------------------------------------------------------


@pytest.fixture
def collecting() -> Iterator[None]:
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


class Watching(co.Field[Any]):
    """Notes whether collection is on while code of the application runs, and may switch it."""

    def __init__(self, switch: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.during: list[bool] = []
        self.switch = switch

    def cache_value(self, value: Any) -> Any:
        return self.python_value(value)

    def python_value(self, value: Any) -> Any:
        self.during.append(gc.isenabled())
        self.switch()
        return value


class Hooked(enum.Enum):
    KNOWN = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        hooked.append(gc.isenabled())
        return cls.KNOWN


hooked: list[bool] = []


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("enabled", [True, False])
def test_code_of_the_application_finds_the_collector_as_it_left_it(twin: Any, enabled: bool) -> None:
    watching, made, checked = Watching(), Watching(), Watching()
    fields = {
        "x": watching,
        "y": co.IntegerField(validators=[lambda _: checked.python_value(1)], default=lambda: made.python_value(5)),
        "color": co.EnumField(Hooked),
    }
    model = make_model(fields)
    codec = codec_of(twin, model)
    good = msgpack.packb({"x": 1, "y": 2, "color": 9})
    others = [msgpack.packb({"x": 1, "y": "tall", "color": 1}), msgpack.packb({"x": 1, "color": 1}), b"\xc1"]
    hooked.clear()
    (gc.enable if enabled else gc.disable)()
    codec.load_many([good] * 5, [1] * 5, ["k"] * 5)
    for other in others:
        with contextlib.suppress(co.PayloadError):
            codec.load_many([good, other, good], [1, 2, 3], ["k", "l", "m"])
        assert gc.isenabled() is enabled
    codec.dump_many([model(id=number, x=1, color=9) for number in range(5)])
    plan = model._meta
    plan.adopt([{"id": 1, "x": 1}] * 3)
    assert gc.isenabled() is enabled
    for during in (watching.during, made.during, checked.during, hooked):
        assert set(during) == {enabled}


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
@pytest.mark.parametrize("enabled", [True, False])
def test_what_the_application_switches_amid_a_batch_stays_switched(
    twin: Any, switch: Callable[[], None], enabled: bool
) -> None:
    # Its values are read without the field's code, but for one that is not as it should be.
    class Switching(enum.Enum):
        KNOWN = 1

        @classmethod
        def _missing_(cls, value: object) -> Any:
            switch()
            return cls.KNOWN

    wanted = switch is gc.enable
    for fields, payload in (
        ({"x": Watching(switch)}, {"x": 1}),
        ({"x": co.EnumField(Switching)}, {"x": 2}),
        ({"x": co.IntegerField(default=lambda: switch() or 5)}, {}),
    ):
        model = make_model(fields)
        (gc.enable if enabled else gc.disable)()
        plain = msgpack.packb({"x": 1})
        codec_of(twin, model).load_many([plain, msgpack.packb(payload), plain], [1, 2, 3], ["k", "l", "m"])
        assert gc.isenabled() is wanted


@pytest.mark.usefixtures("collecting")
def test_the_collector_comes_back_after_any_exception(twin: Any) -> None:
    class Stop(BaseException):
        pass

    class Stopping(co.Field[Any]):
        def python_value(self, value: Any) -> Any:
            raise Stop

    model = make_model({"x": Stopping()})
    gc.enable()
    with pytest.raises(Stop):
        codec_of(twin, model).load_many([msgpack.packb({"x": 1})], [1], ["k"])
    assert gc.isenabled()


def round_trips(model: Any, codec: Any, payloads: list[bytes]) -> None:
    """Everything a codec does, good and bad."""
    for payload in payloads:
        with contextlib.suppress(co.PayloadError):
            codec.load_many([payload, None], [1, 2], ["k", "l"])
    for row in ({}, {"int_False": "tall"}, {"anything_False": object()}):
        instance = model(id=1, **{**whole_row(), **row})
        with contextlib.suppress(TypeError, ValueError):
            codec.dump_many([instance])
            codec.dump_many([instance])


def smallest_objects() -> int:
    """The memory that is in use, as a number of objects of the smallest size, which have 16 to 32 bytes."""
    return tracemalloc.get_traced_memory()[0] // 32


@pytest.mark.no_cover
def test_nothing_leaks_on_any_path(twin: Any) -> None:
    """Thousands of good and bad rows, and memory is as it was before."""
    model = everything()
    codec = codec_of(twin, model)
    good = codec.dump_many([model(id=1, **whole_row())])[0]
    stored = msgpack.unpackb(good, strict_map_key=False)
    chance = random.Random(5)
    bad = [good[: chance.randrange(len(good))] for _ in range(8)]
    bad += [
        msgpack.packb({**stored, name: value})
        for name in ("int_False", "enum_True", "aware_False")
        for value in ("x", [], None)
    ]
    bad += [msgpack.packb(dict(reversed(stored.items()))), msgpack.packb({**stored, "more": 1}), good + b"\x00"]
    payloads = [good, *bad]
    tracemalloc.start()
    try:
        assert_nothing_stays(lambda: round_trips(model, codec, payloads), 60, measure=smallest_objects)
    finally:
        tracemalloc.stop()


def test_values_are_held_once_by_the_slot_and_dropped_with_the_instance(twin: Any) -> None:
    model = make_model({"color": co.EnumField(Color), "when": co.DateTimeTZField(), "none": co.StringField(null=True)})
    codec = codec_of(twin, model)
    moment, pk = dt.datetime(2020, 1, 2, tzinfo=UTC), 10**30
    payload = codec.dump_many([model(id=pk, color=Color.BLUE, when=moment)])[0]
    # How many references each instance that is read holds. From 3.12 on, UTC is immortal and not counted.
    held = [(Color.BLUE, 1), (moment, 0), (pk, 1)] + ([(UTC, 1)] if sys.version_info < (3, 12) else [])

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(value) for value, _ in held]

    before = counts()
    found = [codec.load(payload, pk, "k") for _ in range(100)]
    assert counts() == [count + 100 * times for count, (_, times) in zip(before, held, strict=True)]
    del found
    assert counts() == before
    written = [model(id=pk, color=Color.BLUE, when=moment) for _ in range(100)]
    codec.dump_many(written)
    codec.dump_many(written)
    del written
    assert counts() == before


def test_what_an_interrupted_batch_had_converted_is_dropped(twin: Any) -> None:
    class Stop(BaseException):
        pass

    class Thing:
        pass

    made = []

    class Making(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            return "x"

        def python_value(self, value: Any) -> Any:
            thing = Thing()
            made.append(weakref.ref(thing))
            return thing

    class Stopping(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            raise Stop

    codec = codec_of(twin, model := make_model({"first": Making(), "then": Stopping()}))
    with pytest.raises(Stop):
        codec.dump_many([model(id=1, first=1, then=2)])
    gc.collect()
    assert made
    assert all(one() is None for one in made)


def test_an_instance_changed_by_its_own_converter_does_no_harm(twin: Any) -> None:
    """A converter may drop the value that is being packed, or a destructor look at the instance."""
    holder: list[Any] = []

    class Dropping(co.Field[Any]):
        def cache_value(self, value: Any) -> Any:
            for field in model._meta.fields.values():
                if field.peek(holder[0], _UNSET) is not _UNSET:
                    field.__delete__(holder[0])
            return "x" * 1000

        def python_value(self, value: Any) -> Any:
            return [value]

    model = make_model({"drop": Dropping(), "text": co.StringField(null=True)})
    holder.append(model(id=1, drop=["y" * 1000], text="z" * 1000))
    with contextlib.suppress(co.ValidationError):
        payload = codec_of(twin, model).dump_many(holder)[0]
        assert msgpack.unpackb(payload)["drop"] == "x" * 1000


def test_a_codec_takes_only_the_fields_of_its_model(twin: Any) -> None:
    one, other = make_model({"x": co.IntegerField()}), make_model({"x": co.IntegerField()})
    codec = codec_of(twin, one)
    with pytest.raises((TypeError, AttributeError)):
        codec.dump_many([other(id=1, x=1)])
    with pytest.raises((TypeError, AttributeError)):
        codec.dump_many([object()])


@pytest.fixture(params=list(TWINS))
def twin(request: pytest.FixtureRequest) -> Any:
    return TWINS[request.param]


def test_hostile_bytes_do_no_harm_under_the_debugging_allocator() -> None:
    """The same fuzzing once more with guarded memory."""
    code = """
import random
model = tests.everything()
codecs = [tests.codec_of(twin, model) for twin in tests.TWINS.values()]
good = codecs[0].dump_many([model(id=1, **tests.whole_row())])[0]
chance = random.Random(7)
for size in range(0, len(good), 3):
    tests.read_by_all(model, good[:size])
for _ in range(500):
    mutated = bytearray(good)
    for _ in range(chance.randrange(1, 4)):
        mutated[chance.randrange(len(mutated))] = chance.randrange(256)
    tests.read_by_all(model, bytes(mutated))
for codec in codecs:
    tests.round_trips(model, codec, [good])
"""
    run_guarded(__file__, code)


# -- text that is no ASCII ---------------------------------------------------------------------------

# The first and the last character of each length in UTF-8 and of each width in memory, and what no UTF-8 may hold.
EDGES = [
    "a",
    "\x7f",
    "\x80",
    "\xff",
    "\u0100",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]
BROKEN = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2a", b"\xe0\x9f\xbf", b"\xe0\xa0", b"\xe1\x80a",
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xef\xbf", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80", b"\xf1\x80\x80a",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff",
]  # fmt: skip


def text_payload(raw: bytes) -> bytes:
    """A row whose text and only item of a list are these bytes, whatever they are."""
    packed = b"\xdb" + len(raw).to_bytes(4, "big") + raw
    return b"\x82\xa4text" + packed + b"\xa4many\x91" + packed


def text_model() -> Any:
    return make_model({"text": co.StringField(), "many": co.ListField(co.StringField())})


@settings(max_examples=enough(300))
@given(
    st.lists(st.sampled_from([*(edge.encode() for edge in EDGES), b"abcdefgh"]), max_size=12),
    st.none() | st.sampled_from(BROKEN),
    st.integers(0, 12),
    st.integers(0, 3),
)
def test_text_of_any_bytes_is_read_as_python_reads_it(
    parts: list[bytes], broken: bytes | None, at: int, less: int
) -> None:
    raw = b"".join([*parts[:at], broken or b"", *parts[at:]])
    raw = raw[: len(raw) - less] if less else raw
    model = text_model()
    found = {name: loaded(codec_of(twin, model), text_payload(raw), (1,)) for name, twin in TWINS.items()}
    assert all(one == found["pure"] for one in found.values())
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        assert isinstance(found["pure"], tuple)
    else:
        assert found["pure"]["text"] == exact(text)
        assert found["pure"]["many"] == exact([text])


@settings(max_examples=enough(200))
@given(st.text(st.sampled_from([*EDGES, "\ud800", "\udfff"]), max_size=300), st.booleans())
def test_text_is_written_as_python_encodes_it_whether_or_not_it_keeps_its_utf8(text: str, kept: bool) -> None:
    model = text_model()
    if kept:
        with contextlib.suppress(UnicodeEncodeError):
            msgpack.packb(text)  # which leaves the encoded form in the str
    found = {
        name: dumped(codec_of(twin, model), model(id=1, text=text, many=[text, text])) for name, twin in TWINS.items()
    }
    assert all(one == found["pure"] for one in found.values())
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        assert found["pure"][0] == msgpack.packb({"text": text, "many": [text, text]})


@pytest.mark.parametrize("odd", ["ä", "名", "😀"])
def test_one_character_that_is_not_ascii_is_found_wherever_it_is(odd: str) -> None:
    model = text_model()
    for size in range(34):
        for at in range(size + 1):
            text = "a" * at + odd + "a" * (size - at)
            raw = text.encode()
            broken = raw[:at] + b"\xff" + raw[at:]
            for twin in TWINS.values():
                codec = codec_of(twin, model)
                assert loaded(codec, text_payload(raw), (1,))["many"] == exact([text])
                assert isinstance(loaded(codec, text_payload(broken), (1,)), tuple)


# -- text that comes again ---------------------------------------------------------------------------

# Of all sizes around those that are compared in one step or two, and next to the longest that is kept; some differ in
# the middle alone, and so belong to one place.
AGAIN = [
    *("x" * size for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40)),
    *("abcdefgh" + middle + "ijklmnop" for middle in "0123456789"),
    *("ä", "aä", "名前", "ДЕ", "😀", "US", "DE", "FR", "Europe/Berlin", "America/Argentina/Buenos_Aires"),
]


@settings(max_examples=enough(60))
@given(st.lists(st.sampled_from(AGAIN) | st.text(max_size=35), max_size=40), st.sampled_from([0, 1, 2, 10]))
def test_text_is_read_alike_however_often_it_came_before(texts: list[str], new: int) -> None:
    model = text_model()
    codecs = {name: codec_of(twin, model) for name, twin in TWINS.items()}
    for turn in range(20):
        batch = [*texts, *(f"new in {turn}: {n}" for n in range(new)), *texts]
        packed = [text_payload(text.encode("utf-8", "surrogatepass")) for text in batch]
        for payload in [*packed, *(text_payload(raw + b"US") for raw in BROKEN)]:
            found = [loaded(codec, payload, (1,)) for codec in codecs.values()]
            assert all(one == found[0] for one in found)


def names_read(texts: list[Any], field: Any = None) -> list[Any]:
    """Read rows with these names, once, by the fastest codec there is."""
    model = make_model({"name": co.StringField() if field is None else field})
    codec = codec_of(list(TWINS.values())[-1], model)
    packed = [msgpack.packb({"name": text}) for text in texts]
    names = [row.name for row in codec.load_many(packed, [1] * len(packed), ["k"] * len(packed))]
    assert names == texts
    return names


@pytest.mark.skipif(len(TWINS) < 2, reason="the pure version leaves it to the msgpack library to make text")
def test_text_that_a_column_has_again_and_again_is_made_once() -> None:
    names = names_read([f"country {n % 50}" for n in range(5000)])
    assert len({id(name) for name in names}) < 1000


def test_text_that_never_comes_again_is_held_by_its_row_alone() -> None:
    names = names_read([f"name {n}" for n in range(1000)])
    others = [f"name {n}" for n in range(1000)]
    assert {sys.getrefcount(name) for name in names} == {sys.getrefcount(name) for name in others}


def test_a_secret_is_held_by_its_row_alone() -> None:
    names = names_read([f"secret {n % 2}" for n in range(100)], co.StringField(secret=True))
    assert len({id(name) for name in names}) == 100
    lists = names_read([[f"secret {n % 2}"] for n in range(100)], co.ListField(co.StringField(secret=True)))
    assert len({id(text) for (text,) in lists}) == 100


# -- UUIDs -------------------------------------------------------------------------------------------


@settings(max_examples=enough(200))
@given(st.integers(0, 2**128 - 1) | st.sampled_from([2**bits - 1 for bits in (0, 1, 30, 60, 64, 90, 120, 128)]))
def test_uuids_of_any_number_are_read_as_their_class_reads_them(number: int) -> None:
    model = make_model({"value": co.UUIDField()})
    expected = UUID(int=number)
    payload = msgpack.packb({"value": expected.hex})
    for twin in TWINS.values():
        codec = codec_of(twin, model)
        (row,) = codec.load_many([payload], [1], ["k"])
        assert (row.value, row.value.int, hash(row.value)) == (expected, number, hash(expected))
        assert [row.value.int + 1, row.value.int // 7, -row.value.int] == [number + 1, number // 7, -number]
        assert codec.dump_many([row]) == [payload]


def test_anything_but_a_digit_is_refused_alike_wherever_it_is() -> None:
    model = make_model({"value": co.UUIDField()})
    codecs = [codec_of(twin, model) for twin in TWINS.values()]
    for at in range(32):
        for byte in range(256):
            raw = bytearray(b"0123456789abcdef" * 2)
            raw[at] = byte
            payload = b"\x81\xa5value\xd9\x20" + bytes(raw)
            found = [loaded(codec, payload, (1,)) for codec in codecs]
            assert all(one == found[0] for one in found), (at, byte)


def test_text_that_is_written_keeps_no_second_form_of_itself() -> None:
    text = "".join(["ö", "名", "x"]) * 50
    size = sys.getsizeof(text)
    model = text_model()
    for twin in list(TWINS.values())[1:]:
        codec_of(twin, model).dump_many([model(id=1, text=text, many=[text])])
        assert sys.getsizeof(text) == size
