"""One stored payload of each form is kept in tests/golden, and read for ever after.

A file that is there must not change: rows like it lie in somebody's cache. What is written may change its form; then
the new form gets a file of its own.
"""

from __future__ import annotations

import datetime as dt
import enum
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from lifetimes import Clock

import cacheorm as co
from cacheorm.aging import Aging
from cacheorm.payload import ages_of

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import golden_pb2

GOLDEN = Path(__file__).parents[1] / "golden"


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Backwards(co.BaseSerializer):
    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.JSONSerializer().loads(s[::-1])


VALUES: dict[str, Any] = {
    "name": "Zoë",
    "height": 178.8,
    "married": True,
    "color": Color.BLUE,
    "naive": dt.datetime(2020, 1, 1, 10, 11, 12, 34567),
    "aware": dt.datetime(2020, 1, 1, 10, 11, 12, 34567, tzinfo=dt.UTC),
    "price": Decimal("12.34"),
    "token": UUID(int=5),
    "day": dt.date(2020, 1, 1),
    "big": 2**62,
    "tags": ["a", "ß", ""],
    "nothing": None,
    "remark": "again and again " * 20,
}


class Form(NamedTuple):
    """What reads a file: the model's serializer and options; and whether the model always writes the same bytes.

    Not where an older version wrote it, nor where the bytes are those of a library, which may find others.
    """

    serializer: Any
    options: dict[str, Any] = {}  # noqa: RUF012 - none of them is changed
    written: bool = True


PROTOBUF = co.ProtobufSerializer(golden_pb2.Golden)

ZSTD = co.Zstd(threshold=100)

FORMS = {
    "json": Form("json"),
    "json-versioned": Form("json", {"version": 7}),
    "json-0.0.1": Form("json", written=False),
    "msgpack": Form("msgpack"),
    "msgpack-versioned": Form("msgpack", {"version": 7}),
    "msgpack-0.0.1": Form("msgpack", written=False),
    "protobuf": Form(PROTOBUF),
    "protobuf-versioned": Form(PROTOBUF, {"version": 7}),
    "protobuf-0.0.1": Form(PROTOBUF, written=False),
    "pickle": Form("pickle", written=False),
    "pickle-signed": Form(co.PickleSerializer(secret="golden"), written=False),
    "pickle-signed-versioned": Form(co.PickleSerializer(secret=["new", "golden"]), {"version": 7}, written=False),
    "pickle-0.0.1": Form("pickle", written=False),
    "json-compressed": Form("json", {"compress": ZSTD}, written=False),
    "msgpack-compressed": Form("msgpack", {"compress": ZSTD}, written=False),
    "protobuf-compressed-versioned": Form(PROTOBUF, {"compress": ZSTD, "version": 7}, written=False),
    "pickle-compressed-signed": Form(co.PickleSerializer(secret="golden"), {"compress": ZSTD}, written=False),
    "custom": Form(Backwards()),
    "custom-versioned": Form(Backwards(), {"version": 7}),
}

# Of rows that have ages, those of one batch are different.
AGED = {"ttl": 1000, "refresh_after": 100, "keep_stale": 500, "loader": dict}

FORMS |= {
    "json-aged": Form("json", AGED, written=False),
    "msgpack-aged": Form("msgpack", AGED, written=False),
    "protobuf-aged-versioned": Form(PROTOBUF, {"version": 7, **AGED}, written=False),
    "custom-aged": Form(Backwards(), AGED, written=False),
    "msgpack-compressed-aged": Form("msgpack", {"compress": ZSTD, **AGED}, written=False),
    "pickle-signed-aged": Form(co.PickleSerializer(secret="golden"), AGED, written=False),
}

# When the payloads with ages were written.
THEN = 1_700_000_000.0


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(THEN)
    monkeypatch.setattr(Aging, "now", lambda aging: int(1000 * clock()))
    return clock


def a_model(form: Form, **options: Any) -> Any:
    class Golden(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        height = co.FloatField()
        married = co.BooleanField()
        color = co.EnumField(Color)
        naive = co.DateTimeField()
        aware = co.DateTimeTZField()
        price = co.DecimalField()
        token = co.UUIDField()
        day = co.DateField()
        big = co.IntegerField()
        tags = co.ListField(co.StringField())
        nothing = co.StringField(null=True)
        remark = co.StringField()
        Meta = type(
            "Meta",
            (),
            {"backend": co.SimpleBackend(), "serializer": form.serializer, **form.options, **options},
        )

    return Golden


def test_every_form_has_its_file() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*FORMS, "absent"}


@pytest.mark.parametrize("name", FORMS)
def test_a_stored_payload_is_read(name: str) -> None:
    model = a_model(FORMS[name])
    payload = (GOLDEN / f"{name}.bin").read_bytes()
    model._meta.backend.set(model.key(id=1), payload)
    expected = {"id": 1, **VALUES}
    assert model.get(id=1).to_dict() == expected
    # Batches are read by other code than single rows.
    for row in model.query_many({"id": 1}).execute() + list(model.get_many([1]).values()):
        assert row.to_dict() == expected
    codec = model._meta.resolved().codec
    for row in codec.load_many([payload] * 9, [1] * 9, [model.key(id=1)] * 9):
        assert row.to_dict() == expected


@pytest.mark.parametrize("name", FORMS)
def test_a_stored_payload_is_read_after_a_change_of_serializer(name: str) -> None:
    form = FORMS[name]
    if "0.0.1" in name and name.split("-")[0] not in ("json", "msgpack"):
        return  # they do not say what they are
    for serializer in ("json", "msgpack", PROTOBUF):
        model = a_model(form._replace(serializer=serializer), accepts=[form.serializer])
        model._meta.backend.set(model.key(id=1), (GOLDEN / f"{name}.bin").read_bytes())
        assert model.get(id=1).to_dict() == {"id": 1, **VALUES}


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.written])
def test_a_row_is_stored_as_the_same_bytes(name: str) -> None:
    model = a_model(FORMS[name])
    model.create(id=1, **VALUES)
    model.insert_many([{"id": number, **VALUES} for number in range(2, 12)]).execute()
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert [*map(model._meta.backend.get, map(model._meta.key_of, ({"id": number} for number in range(1, 12))))] == [
        golden
    ] * 11


@pytest.mark.parametrize("name", ["json-aged", "msgpack-aged", "protobuf-aged-versioned", "custom-aged"])
def test_a_row_is_stored_with_its_ages(name: str) -> None:
    model = a_model(FORMS[name])
    model.create(id=1, **VALUES)
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert model._meta.backend.get(model.key(id=1)) == golden
    ages = ages_of(golden)
    assert ages is not None
    assert (ages.written, ages.ends) == (1000 * THEN, 1000 * (THEN + 1000))


@pytest.mark.parametrize("name", [name for name in FORMS if "aged" in name])
def test_ages_count_for_models_that_have_them(name: str, wall_clock: Clock) -> None:
    form = FORMS[name]
    payload = (GOLDEN / f"{name}.bin").read_bytes()
    plain = a_model(form._replace(options={name: form.options[name] for name in form.options.keys() - AGED.keys()}))
    aged = a_model(form)
    for late, due, there in ((99, False, True), (101, True, True), (999, True, True), (1001, False, False)):
        wall_clock.now = THEN + late
        for model in (plain, aged):
            key, found = model.key(id=1), list[int]()
            codec = model._meta.resolved().codec
            rows = codec.load_many([payload] * 9, [1] * 9, [key] * 9, None, found)
            assert found == ([*range(9)] if due and model is aged else [])
            assert [row is not None for row in rows] == [there or model is plain] * 9
            assert (codec.load(payload, 1, key) is not None) == (there or model is plain)
            (kept,) = codec.load_many([payload], [1], [key], None, None, 0)
            assert kept.to_dict() == {"id": 1, **VALUES}


@pytest.mark.parametrize("name", FORMS)
def test_a_remembered_miss_is_one(name: str) -> None:
    model = a_model(FORMS[name])
    model._meta.backend.set(model.key(id=1), (GOLDEN / "absent.bin").read_bytes())
    assert model.get_or_none(id=1) is None
    assert model.query_many([{"id": 1}] * 9).execute() == [None] * 9
