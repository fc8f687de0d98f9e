"""Batches taken by columns, in the version without extensions, do what single rows do."""

from __future__ import annotations

import datetime as dt
import enum
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgpack
import pytest
from amounts import enough
from hypothesis import given, settings
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.rows import _columns_py, _rows_py
from cacheorm._speedups.rows._assigned import ALL
from cacheorm._speedups.rows._mapping import MappingRows

pytestmark = pytest.mark.skipif(co.speedups_enabled, reason="the extensions do not work by columns")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Mixed(enum.Enum):
    """Of several types, and True is 1 where a dict looks it up."""

    TEXT = "s"
    TRUE = True
    TWO = 2


class Everything(co.Model):
    id = co.IntegerField(primary_key=True)
    text = co.StringField(max_length=8)
    note = co.StringField(null=True)
    amount = co.IntegerField()
    ratio = co.FloatField()
    wild = co.FloatField(allow_nan=True)
    yes = co.BooleanField()
    color = co.EnumField(Color)
    size = co.EnumField(Size)
    uuid = co.UUIDField()
    day = co.DateField()
    naive = co.DateTimeField()
    aware = co.DateTimeTZField(null=True)
    late = co.IntegerField(default=7)


class Odd(co.Model):
    id = co.IntegerField(primary_key=True)
    mixed = co.EnumField(Mixed)


class Pair(co.Model):
    left = co.IntegerField()
    right = co.StringField()
    value = co.StringField(null=True)

    class Meta:
        primary_key = co.CompositeKey("right", "left")


class Child(co.Model):
    id = co.UUIDField(primary_key=True)
    parent = co.ForeignKeyField(Everything, null=True)


DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 12, 30, 1, 5)
FIELDS = [name for name in Everything._meta.fields if name != "id"]

PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    "note": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    "amount": st.integers(-(2**63), 2**64 - 1),
    "ratio": st.floats(allow_nan=False, allow_infinity=False),
    "wild": st.floats(),
    "yes": st.booleans(),
    "color": st.sampled_from(Color),
    "size": st.sampled_from(Size),
    "uuid": st.uuids(),
    "day": st.dates(),
    "naive": st.datetimes(),
    "aware": st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    "late": st.integers(0, 9),
}
UNUSUAL = st.sampled_from(
    [
        None,
        "2",
        "true",
        "\ud800",
        "a longer text",
        b"bytes",
        2**64,
        -(2**70),
        True,
        1,
        1.5,
        math.inf,
        math.nan,
        DAY,
        MOMENT,
        MOMENT.replace(fold=1),
        MOMENT.replace(tzinfo=dt.UTC, fold=1),
        MOMENT.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
        Color.RED,
        Size.LARGE,
        UUID(int=7),
        str(UUID(int=7)),
        [],
        object(),
    ]
)
STORED = st.sampled_from(
    [
        None,
        "",
        "2",
        "x" * 32,
        "a" * 32,
        "A" * 32,
        2**64 - 1,
        0,
        1,
        2,
        0.5,
        True,
        False,
        "s",
        b"bytes",
        math.nan,
        [],
        "2024-02-29",
        "2023-02-29",
        "2024-W09-4",
        "2024-02-29\n2024-02-29",
        "2024-02-29T12:30:01",
        "2024-02-29 12:30:01",
        "2024-02-29T24:00:00",
        "2024-02-29T12:30:01.000005",
        "2024-02-29T12:30:01,000005",
        "2024-02-29T12:30:01+00:00",
        "2024-02-29T12:30:01+0000",
        "2024-02-29T12:30:01+02:00",
        "2024-02-29T12:30:01.000005+00:00",
        "2024-02-29T12:30:01+00:00\n",
    ]
)


def both(model: type[co.Model], serializer: str = "msgpack", skip_invalid: bool = False) -> tuple[Any, Any]:
    """Give the codec that works by columns, and the one for single rows."""
    plan: Any = model._meta
    arguments = (model, tuple(plan.fields.values()), plan.key_fields, plan.identity)
    chosen: Any = co.registry.get_by_name(serializer)
    codec = chosen.row_codec(*arguments, skip_invalid)
    assert isinstance(codec, _rows_py._ColumnRows)
    if serializer == "msgpack":
        pack, unpack, patch = _rows_py.pack, _rows_py.unpack, _rows_py.patch_msgpack
    else:
        pack, unpack, patch = chosen.dumps, chosen.loads, _rows_py.patch_json
    return codec, MappingRows(*arguments, serializer, pack, unpack, skip_invalid, patch=patch)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - all of them are compared
        return type(error), str(error)


def state(row: Any) -> Any:
    if row is None:
        return None
    found = {}
    for name, field in type(row)._meta.fields.items():
        value = field.peek(row, "unset")
        found[name] = (type(value), repr(value), getattr(value, "fold", None))
    return found


def make(rows: list[dict[str, Any]]) -> list[Any]:
    made = []
    for number, row in enumerate(rows):
        instance = Everything(id=number)
        for name, value in row.items():
            Everything._meta.fields[name].poke(instance, value)
        Everything._assigned.poke(instance, ALL)
        made.append(instance)
    return made


@st.composite
def batches(draw: st.DrawFn, unusual: st.SearchStrategy[Any]) -> list[dict[str, Any]]:
    rows = draw(st.lists(st.fixed_dictionaries(PLAIN), min_size=4, max_size=6))
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.sampled_from(rows))
        name = draw(st.sampled_from(FIELDS))
        if draw(st.booleans()):
            row.pop(name, None)
        else:
            row[name] = draw(unusual)
    return rows


@pytest.mark.no_cover
@settings(max_examples=enough(400), deadline=None)
@given(batches(UNUSUAL), st.sampled_from(["msgpack", "json"]), st.booleans())
def test_a_batch_is_packed_as_its_rows_are(rows: list[dict[str, Any]], serializer: str, many: bool) -> None:
    columns, single = both(Everything, serializer)
    ours, theirs = make(rows), make(rows)
    assert outcome(lambda: columns.dump_many(ours, many)) == outcome(lambda: single.dump_many(theirs, many))
    assert [state(row) for row in ours] == [state(row) for row in theirs]


@pytest.mark.no_cover
@settings(max_examples=enough(300), deadline=None)
@given(batches(UNUSUAL), st.booleans())
def test_changes_are_packed_as_those_of_single_rows_are(rows: list[dict[str, Any]], many: bool) -> None:
    columns, single = both(Everything)
    ours, theirs = make(rows), make(rows)
    assert outcome(lambda: columns.pack_changes(ours, many)) == outcome(lambda: single.pack_changes(theirs, many))
    assert [state(row) for row in ours] == [state(row) for row in theirs]


@pytest.mark.no_cover
@settings(max_examples=enough(400), deadline=None)
@given(batches(STORED), st.lists(st.booleans(), min_size=6, max_size=6), st.booleans())
def test_a_batch_is_read_as_its_rows_are(rows: list[dict[str, Any]], present: list[bool], skip_invalid: bool) -> None:
    columns, single = both(Everything, skip_invalid=skip_invalid)
    payloads = []
    for row, there in zip(rows, present, strict=False):
        stored = {
            name: Everything._meta.fields[name].converter.dump(value)
            if type(value) in (dt.date, dt.datetime, UUID, Color, Size)
            else value
            for name, value in row.items()
        }
        payloads.append(msgpack.packb(stored, unicode_errors="surrogatepass") if there else None)
    pks = list(range(len(payloads)))
    keys = [f"k{pk}" for pk in pks]
    ours = outcome(lambda: [state(row) for row in columns.load_many(payloads, pks, keys)])
    assert ours == outcome(lambda: [state(row) for row in single.load_many(payloads, pks, keys)])


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01", b"\x93abc", b"\xc0", b"\x80", b"\x81\x01\x02", b"\x80\x80"])
def test_a_payload_that_is_no_row_is_reported_alike(payload: bytes) -> None:
    columns, single = both(Everything)
    good = single.dump_many(make([{name: PLAIN_ROW[name] for name in FIELDS}] * 5))
    payloads = [*good, payload]
    pks = list(range(6))
    keys = [f"k{pk}" for pk in pks]
    ours = outcome(lambda: columns.load_many(payloads, pks, keys))
    assert ours == outcome(lambda: single.load_many(payloads, pks, keys))
    assert ours[0] is co.PayloadError


PLAIN_ROW: dict[str, Any] = {
    "text": "caf\u00e9",
    "note": None,
    "amount": 2,
    "ratio": 0.5,
    "wild": 1.5,
    "yes": True,
    "color": Color.RED,
    "size": Size.LARGE,
    "uuid": UUID(int=7),
    "day": DAY,
    "naive": MOMENT,
    "aware": MOMENT.replace(tzinfo=dt.UTC),
    "late": 1,
}


def test_the_common_batch_takes_no_step_for_single_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, single = both(Everything)
    rows = [{**PLAIN_ROW, "note": None if number % 2 else "x"} for number in range(6)]
    payloads = single.dump_many(make(rows))
    expected = [state(row) for row in single.load_many(payloads, [*range(6)], ["k"] * 6)]

    def fail(*arguments: Any) -> None:
        raise AssertionError("a step for a single row")

    monkeypatch.setattr(MappingRows, "dump", fail)
    assert columns.dump_many(make(rows)) == payloads
    monkeypatch.setattr(MappingRows, "convert", fail)
    columns.pack_changes([Everything(id=number, text="a") for number in range(6)])
    monkeypatch.setattr(MappingRows, "load", fail)
    assert [state(row) for row in columns.load_many(payloads, [*range(6)], ["k"] * 6)] == expected
    pairs, _ = both(Pair)
    made = [Pair(left=number, right=str(number), value="v") for number in range(5)]
    read = pairs.load_many(pairs.dump_many(made), [row._pk for row in made], ["k"] * 5)
    assert [row.to_dict() for row in read] == [row.to_dict() for row in made]


def test_a_long_batch_names_the_place_of_its_bad_row() -> None:
    columns, _ = both(Everything)
    rows = make([PLAIN_ROW] * 1500)
    Everything._meta.fields["amount"].poke(rows[1200], "many")
    with pytest.raises(co.ValidationError, match="1200"):
        columns.dump_many(rows)


def test_members_stored_as_several_types_keep_theirs() -> None:
    columns, single = both(Odd)
    rows = [Odd(id=number, mixed=member) for number, member in enumerate([*Mixed, *Mixed])]
    payloads = columns.dump_many(rows)
    assert payloads == single.dump_many(rows)
    read = columns.load_many(payloads, [*range(6)], ["k"] * 6)
    assert [row.mixed for row in read] == [*Mixed, *Mixed]
    ones = [msgpack.packb({"mixed": 1})] * 6
    ours = outcome(lambda: columns.load_many(ones, [*range(6)], ["k"] * 6))
    assert ours == outcome(lambda: single.load_many(ones, [*range(6)], ["k"] * 6))


def test_ids_of_related_rows_are_columns_like_others() -> None:
    columns, single = both(Child)
    children = [Child(id=UUID(int=number), parent=None if number % 2 else number) for number in range(6)]
    payloads = columns.dump_many(children)
    assert payloads == single.dump_many(children)
    read = columns.load_many(payloads, [child._pk for child in children], ["k"] * 6)
    assert [child.parent_id for child in read] == [child.parent_id for child in children]


def test_fields_with_code_of_their_own_make_no_columns() -> None:
    class Loud(co.StringField[str]):
        def cache_value(self, value: Any) -> Any:
            return str(value).upper()

    class Checked(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(validators=[str.isupper])

    class Shouted(co.Model):
        id = co.IntegerField(primary_key=True)
        name = Loud()

    for model in (Checked, Shouted):
        columns, single = both(model)
        rows: list[Any] = [model(id=number, name="abc") for number in range(5)]
        assert outcome(partial(columns.dump_many, rows)) == outcome(partial(single.dump_many, rows))
        assert columns._row_columns == []
    field = Shouted._meta.fields["name"]
    with pytest.raises(_columns_py.UNUSUAL):
        _columns_py.Column(field, field.converter)


def test_threads_pack_batches_of_their_own() -> None:
    columns, single = both(Everything)
    rows = [make([{**PLAIN_ROW, "text": str(number)}] * 200) for number in range(4)]
    expected = [single.dump_many(part) for part in rows]
    found: dict[int, list[bytes]] = {}

    def work(number: int) -> None:
        for _ in range(20):
            found[number] = columns.dump_many(rows[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == expected


def test_what_json_cannot_hold_is_refused_in_any_row_of_a_batch() -> None:
    rows = [{"wild": 0.0}] * 5 + [{"wild": float("inf")}]
    for codec in both(Everything, "json"):
        with pytest.raises(ValueError, match="finite"):
            codec.dump_many(make([{**PLAIN_ROW, **row} for row in rows]))
