"""Rows that were written before: by cacheorm 0.0.1, and by earlier versions of a model."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import cacheorm as co


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Author(co.Model):
    id = co.IntegerField(primary_key=True)

    class Meta:
        backend = co.SimpleBackend()
        name = "old_author"


# The bytes as 0.0.1 left them: no primary key, None left out, in the order of its fields.
OLD_JSON = (
    b'{"author": 3, "name": "Zo\\u00eb", "height": 178.8, "married": 1, "color": "blue", '
    b'"naive": "2020-01-01 10:11:12.034567", "whole": "2020-01-01 10:11:12.000000", '
    b'"aware": "2020-01-01T10:11:12.034567+0000", "price": 12.34, "token": "00000000000000000000000000000005", '
    b'"day": "2020-01-01", "big": 12345678901234567890}'
)
OLD_MSGPACK = (
    b"\x8c\xa6author\x03\xa4name\xa4Zo\xc3\xab\xa6height\xcb@fY\x99\x99\x99\x99\x9a\xa7married\x01\xa5color\xa4blue"
    b"\xa5naive\xba2020-01-01 10:11:12.034567\xa5whole\xba2020-01-01 10:11:12.000000"
    b"\xa5aware\xbf2020-01-01T10:11:12.034567+0000\xa5price\xcb@(\xae\x14z\xe1G\xae"
    b"\xa5token\xd9 00000000000000000000000000000005\xa3day\xaa2020-01-01\xa3big\xcf\xabT\xa9\x8c\xeb\x1f\n\xd2"
)


def old_model(chosen: str) -> Any:
    class Old(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(Author)
        name = co.StringField()
        height = co.FloatField()
        married = co.BooleanField()
        color = co.EnumField(Color)
        naive = co.DateTimeField()
        whole = co.DateTimeField()
        aware = co.DateTimeTZField()
        price = co.DecimalField()
        token = co.UUIDField()
        day = co.DateField()
        big = co.IntegerField()
        nothing = co.StringField(null=True)

        class Meta:
            backend = co.SimpleBackend()
            serializer = chosen

    return Old


@pytest.mark.parametrize(("serializer", "payload"), [("json", OLD_JSON), ("msgpack", OLD_MSGPACK)])
def test_rows_of_the_first_version_are_read(serializer: str, payload: bytes) -> None:
    model = old_model(serializer)
    model._meta.backend.set("m:old:id:7", payload)
    row = model.get(id=7)
    assert row.to_dict() == {
        "id": 7,
        "author": 3,
        "name": "Zoë",
        "height": 178.8,
        "married": True,
        "color": Color.BLUE,
        "naive": dt.datetime(2020, 1, 1, 10, 11, 12, 34567),
        "whole": dt.datetime(2020, 1, 1, 10, 11, 12),
        "aware": dt.datetime(2020, 1, 1, 10, 11, 12, 34567, tzinfo=dt.UTC),
        "price": Decimal("12.34"),
        "token": UUID(int=5),
        "day": dt.date(2020, 1, 1),
        "big": 12345678901234567890,
        "nothing": None,
    }
    # An update rewrites the row in today's form, and it means the same.
    before = {**row.to_dict(), "name": "Sam"}
    assert model.update(id=7, name="Sam").execute().to_dict() == before
    assert model.get(id=7).to_dict() == before


@pytest.mark.parametrize(
    ("stored", "hours"), [("2020-01-01T10:11:12.000000+0530", -5.5), ("2020-01-01T10:11:12.000000-0800", 8)]
)
def test_instants_of_the_first_version_keep_their_offset(stored: str, hours: float) -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        at = co.DateTimeTZField()

        class Meta:
            backend = co.SimpleBackend()
            serializer = "json"

    Row._meta.backend.set(Row.key(id=1), f'{{"at": "{stored}"}}'.encode())
    expected = dt.datetime(2020, 1, 1, 10, 11, 12, tzinfo=dt.UTC) + dt.timedelta(hours=hours)
    assert Row.get(id=1).at == expected
    assert Row.get(id=1).at.tzinfo is dt.UTC


@pytest.mark.parametrize("chosen", ["json", "msgpack", "pickle"])
def test_a_model_that_has_changed_since_reads_its_old_rows(chosen: str) -> None:
    memory = co.SimpleBackend()

    class Before(co.Model):
        id = co.IntegerField(primary_key=True)
        kept = co.StringField()
        dropped = co.StringField()
        strict = co.IntegerField(null=True)

        class Meta:
            backend = memory
            serializer = chosen
            name = "row"

    class After(co.Model):
        added = co.ListField(co.StringField(), default=["new"])
        maybe = co.StringField(null=True)
        made = co.IntegerField(default=lambda: "5")
        strict = co.IntegerField(default=8)
        id = co.IntegerField(primary_key=True)
        kept = co.StringField()

        class Meta:
            backend = memory
            serializer = chosen
            name = "row"

    Before.create(id=1, kept="a", dropped="b", strict=None)
    Before.create(id=2, kept="a", dropped="b", strict=7)
    one, two = After.query_many({"id": 1}, {"id": 2}).execute()
    assert one.to_dict() == {"added": ["new"], "maybe": None, "made": 5, "strict": 8, "id": 1, "kept": "a"}
    assert two.strict == 7
    assert one.added is not two.added

    class Stricter(After):
        needed = co.StringField()

        class Meta:
            name = "row"

    with pytest.raises(
        co.PayloadError, match=r"^Stricter\.needed: has no value, and the field no default \(key m:row:id:1, read as"
    ):
        Stricter.get(id=1)
