"""A MemoryError in code of an application or of a library is raised as it is: it says nothing about values or rows."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from typing import Any

import pytest

import cacheorm as co


def exhaust(*_: Any) -> Any:
    raise MemoryError


class Zone(dt.tzinfo):
    utcoffset = dst = tzname = exhaust


class Number:
    __index__ = __float__ = exhaust


class Identifier(uuid.UUID):
    __str__ = exhaust


class Color(enum.Enum):
    RED = 1
    _missing_ = classmethod(exhaust)


class Point:
    """A value that may be read, but neither looked at nor stored: pickling it takes memory."""

    __reduce_ex__ = exhaust


class Unpacking(co.BaseSerializer):
    """A serializer whose library has no memory for reading."""

    loads = exhaust  # type: ignore[assignment]

    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)


class Packing(Unpacking):
    """A serializer whose library has no memory at all."""

    dumps = exhaust  # type: ignore[assignment]


FIELDS: dict[str, tuple[Any, Any]] = {
    "int": (co.IntegerField(), Number()),
    "float": (co.FloatField(), Number()),
    "decimal": (co.DecimalField(), Number()),
    "text": (co.StringField(), Identifier(int=1)),
    "enum": (co.EnumField(Color), 2),
    "time zone": (co.DateTimeTZField(), dt.datetime(2024, 2, 1, tzinfo=Zone())),
    "function": (co.StructField(exhaust, exhaust), object()),
}


def make_model(field: Any, formatter: Any = None, **meta: Any) -> Any:
    options = {"backend": co.SimpleBackend(), "serializer": "json", **meta}

    class Row(co.Model):
        id = co.IntegerField(primary_key=True, index_formatter=formatter)
        held = field

        Meta = type("Meta", (), options)

    return Row


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("count", [1, 9])
def test_a_value_is_not_called_wrong(kind: str, count: int) -> None:
    field, value = FIELDS[kind]
    model = make_model(field)
    with pytest.raises(MemoryError):
        model.insert_many([{"id": number, "held": value} for number in range(count)]).execute()
    assert model.get_many([*range(count)]) == {}


def test_a_key_is_not_called_wrong() -> None:
    with pytest.raises(MemoryError):
        make_model(co.StringField(), exhaust).get(id=1)


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("on_invalid", ["raise", "miss"])
@pytest.mark.parametrize(
    ("written", "read"),
    [({"serializer": Unpacking()}, {}), ({}, {"version": 2, "upgrade": staticmethod(exhaust)})],
    ids=["serializer", "upgrade"],
)
def test_a_row_is_not_called_unreadable(
    written: dict[str, Any], read: dict[str, Any], on_invalid: str, count: int
) -> None:
    pks = [*range(count)]
    meta = {"backend": co.SimpleBackend(), "on_invalid": on_invalid, **written}
    make_model(co.StringField(), **meta).insert_many([{"id": pk, "held": "text"} for pk in pks]).execute()
    model = make_model(co.StringField(), **meta, **read)
    with pytest.raises(MemoryError):
        model.query_many(pks).execute()
    with pytest.raises(MemoryError):
        model.update_many([{"id": pk, "held": "other"} for pk in pks]).execute()


@pytest.mark.parametrize("count", [1, 9])
def test_a_row_is_not_called_unpackable(count: int) -> None:
    model = make_model(co.StringField(), serializer=Packing())
    with pytest.raises(MemoryError):
        model.insert_many([{"id": pk, "held": "text"} for pk in range(count)]).execute()


def test_a_value_is_not_taken_for_a_changed_one() -> None:
    model = make_model(co.StructField(lambda point: 1, lambda stored: Point()))
    model.insert_many([{"id": 1, "held": 1}]).execute()
    with pytest.raises(MemoryError):
        model.get(id=1).held  # noqa: B018
