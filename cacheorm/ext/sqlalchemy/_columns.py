"""The fields of cached models, from the columns of mapped classes by their types."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.types import TypeEngine

from ...fields import (
    BinaryField,
    BooleanField,
    DateField,
    DateTimeField,
    DateTimeTZField,
    DecimalField,
    EnumField,
    Field,
    FloatField,
    IntegerField,
    JSONField,
    ListField,
    StringField,
    StructField,
    TimeField,
    UUIDField,
)

__all__ = ["as_utc", "field_of", "is_null"]

Make = Callable[[bool], Field[Any]]

_MICROSECOND = dt.timedelta(microseconds=1)


def is_null(column: sa.Column[Any]) -> bool:
    """Return whether a column may have NULL."""
    return bool(column.nullable and not column.primary_key)


def field_of(model: str, name: str, column: sa.Column[Any]) -> Field[Any]:
    """Return the field for the values of a column.

    Args:
        model: the name of the mapped class, for the error.
        name: the name of the attribute.
        column: the column.

    Raises:
        TypeError: there is no field for its type.
    """
    made = _of_type(column.type, is_null(column))
    if made is None:
        raise TypeError(
            f"{model}.{name}: there is no field for a column of type {type(column.type).__name__}; leave it out by"
            f" exclude=[{name!r}], or say which field it is by"
            f" fields={{{name!r}: co.StructField(to_stored, from_stored)}}"
        )
    return made


def as_utc(value: dt.datetime | None) -> dt.datetime | None:
    """Return a datetime of a column with time zone, which is in UTC where the database keeps no time zones."""
    return value if value is None or value.tzinfo is not None else value.replace(tzinfo=dt.UTC)


def _of_type(kind: TypeEngine[Any], null: bool) -> Field[Any] | None:
    """Return the field for values of a type of SQLAlchemy, ``None`` if there is none."""
    if isinstance(kind, sa.PickleType):
        return None
    if isinstance(kind, sa.TypeDecorator):
        return _decorated(kind, null)
    if isinstance(kind, sa.Enum):
        return StringField(null=null) if kind.enum_class is None else _enumeration(kind.enum_class, null)
    if isinstance(kind, sa.ARRAY):
        return _array(kind, null)
    if isinstance(kind, sa.JSON) or kind.__visit_name__ == "HSTORE":
        return JSONField(null=True)  # its null is a value, also where the column has no NULL
    if isinstance(kind, sa.DateTime):
        return DateTimeTZField(null=null) if kind.timezone else DateTimeField(null=null)
    if isinstance(kind, sa.Time) and kind.timezone:
        return StructField(dt.time.isoformat, dt.time.fromisoformat, null=null)
    if kind.__visit_name__ == "DOMAIN":
        return _of_type(kind.data_type, null)  # type: ignore[attr-defined]
    return _of_python_type(kind, null)


def _of_python_type(kind: TypeEngine[Any], null: bool) -> Field[Any] | None:
    try:
        python_type: Any = kind.python_type
    except NotImplementedError:
        return None
    if isinstance(python_type, type) and issubclass(python_type, Enum):
        return _enumeration(python_type, null)
    make = _BY_PYTHON_TYPE.get(python_type)
    return None if make is None else make(null)


def _decorated(kind: sa.TypeDecorator[Any], null: bool) -> Field[Any] | None:
    """Return the field of the Python type that a decorator names, or one that converts as the decorator itself does."""
    made = _of_python_type(kind, null)
    if made is not None and not isinstance(made, DateTimeField):  # whether datetimes have a time zone it does not say
        return made
    inner = _of_type(kind.impl_instance, null)
    if inner is None:
        return None
    dialect = DefaultDialect()

    def to_stored(value: Any) -> Any:
        return inner.cache_value(kind.process_bind_param(value, dialect))

    def from_stored(stored: Any) -> Any:
        return kind.process_result_value(inner.python_value(stored), dialect)

    return StructField(to_stored, from_stored, null=null)


def _enumeration(enum_class: type[Enum], null: bool) -> Field[Any]:
    """Return a field that stores the values of members, or their names if some value cannot be stored."""
    try:
        return EnumField(enum_class, null=null)
    except TypeError:
        return StructField(lambda member: member.name, enum_class.__getitem__, null=null)


def _array(kind: sa.ARRAY[Any], null: bool) -> Field[Any] | None:
    made = _of_type(kind.item_type, True)
    if made is None:
        return None
    for _ in range(1, kind.dimensions or 1):
        made = ListField(made, null=True)
    return ListField(made, null=null)


def _interval(null: bool) -> Field[Any]:
    return StructField(lambda value: value // _MICROSECOND, lambda stored: dt.timedelta(microseconds=stored), null=null)


_BY_PYTHON_TYPE: dict[type, Make] = {
    bool: lambda null: BooleanField(null=null),
    bytes: lambda null: BinaryField(null=null),
    Decimal: lambda null: DecimalField(null=null),
    dict: lambda null: JSONField(null=True),
    dt.date: lambda null: DateField(null=null),
    dt.datetime: lambda null: DateTimeField(null=null),
    dt.time: lambda null: TimeField(null=null),
    dt.timedelta: _interval,
    float: lambda null: FloatField(allow_nan=True, null=null),
    int: lambda null: IntegerField(null=null),
    list: lambda null: JSONField(null=True),
    str: lambda null: StringField(null=null),
    uuid.UUID: lambda null: UUIDField(null=null),
}
