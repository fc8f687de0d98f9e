"""Batches a column at a time: what makes the Python version fast enough. An optimisation, not the reference.

The reference is :class:`~._mapping.MappingRows`, which takes a row at a time: some Python per value, which is what is
slow about it. By columns the values of one field are checked and converted by C functions of the standard library,
without Python per value: ``set(map(type, ...))``, ``"".join(...).isascii()``, ``map(datetime.isoformat, ...)``. To
write 1 000 rows takes 44 percent fewer instructions this way, to read them 56 percent, and without it this version
misses its bars.

Columns take only values of exactly the type that their converter stores and reads back unchanged. They return what the
converter would. For anything else they raise an error of :data:`UNUSUAL` before anything is changed. The batch is then
taken row by row by the reference, which also raises all errors that users see.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from itertools import compress, repeat
from math import isfinite
from types import MemberDescriptorType
from typing import Any
from uuid import UUID

from ..convert import _enumerations, _numbers, _temporal, _text, _uuids
from ._slots_py import Slot

__all__ = ["UNUSUAL", "Column", "fill", "read", "read_set", "slot_of"]

UNUSUAL = (AttributeError, KeyError, OverflowError, TypeError, ValueError)
"""What tells that a batch has to be taken row by row."""

_NONE = type(None)
_DAY = r"\d{4}-\d\d-\d\d"
_MOMENT = rf"{_DAY}T(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{{6}})?"


def slot_of(field: Any) -> MemberDescriptorType | None:
    """Return the descriptor of a field's slot, ``None`` if the field overrides how its slot is read or written."""
    kind = type(field)
    plain = getattr(kind, "peek", None) is Slot.peek and getattr(kind, "poke", None) is Slot.poke
    return field._member if plain else None


def read(member: MemberDescriptorType, instances: Iterable[Any]) -> list[Any]:
    """Read one slot of each instance; :exc:`AttributeError` if one has no value."""
    return [*map(member.__get__, instances)]


def read_set(member: MemberDescriptorType, instances: Iterable[Any]) -> list[Any]:
    """Read one slot of those instances that have a value in it."""
    get = member.__get__
    values = []
    for instance in instances:
        try:
            value = get(instance)
        except AttributeError:
            continue
        values.append(value)
    return values


def fill(member: MemberDescriptorType, instances: Iterable[Any], values: Iterable[Any]) -> None:
    """Write one slot of each instance."""
    deque(map(member.__set__, instances, values), 0)


class Column:
    """The values of one field in many rows.

    Args:
        field: a field of a model.
        converter: its converter.

    Raises:
        TypeError: the field is not one that can be taken by columns.
    """

    def __init__(self, field: Any, converter: Any) -> None:
        member = slot_of(field)
        if member is None or field.validators:
            raise TypeError("the field has code of its own")
        self.name = field.name
        self.null = field.null
        self.bit = field.bit
        self.member = member
        self.converter = converter
        self._dump, self._load = _COLUMNS[type(converter)]

    def dump(self, values: list[Any]) -> list[Any]:
        """Return the stored forms of values, which are what a read of those forms returns."""
        return self._with_nulls(self._dump, values)

    def load(self, stored: list[Any]) -> list[Any]:
        """Return the values of stored forms."""
        return self._with_nulls(self._load, stored)

    def _with_nulls(self, convert_column: Callable[[Any, list[Any]], list[Any]], column: list[Any]) -> list[Any]:
        if _NONE not in set(map(type, column)):
            return convert_column(self.converter, column)
        if not self.null:
            raise ValueError("null")
        present = [value is not None for value in column]
        if not any(present):
            return column
        converted = iter(convert_column(self.converter, [*compress(column, present)]))
        return [next(converted) if there else None for there in present]


# -- one pair of functions for each converter ---------------------------------------------------------


def _only(kind: type, values: list[Any]) -> None:
    if set(map(type, values)) != {kind}:
        raise TypeError("mixed types")


def _all_match(pattern: re.Pattern[str], texts: list[Any]) -> None:
    """Make sure that each text matches, by a pattern for many of them, each with a line break after it."""
    _only(str, texts)
    joined = "\n".join(texts) + "\n"
    if joined.count("\n") != len(texts) or pattern.fullmatch(joined) is None:
        raise ValueError("another layout")


def _many(layout: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{layout}\n)*", re.ASCII)


_DAYS = _many(_DAY)
_NAIVE = _many(_MOMENT)
_AWARE = _many(rf"{_MOMENT}\+00:00")
_HEX = _many("[0-9a-f]{32}")


def _dump_int(converter: _numbers.Integer, values: list[Any]) -> list[Any]:
    _only(int, values)
    if min(values) < -(1 << 63) or max(values) >= 1 << 64:
        raise ValueError("stored as text")
    return values


def _load_int(converter: _numbers.Integer, stored: list[Any]) -> list[Any]:
    _only(int, stored)
    return stored


def _dump_bool(converter: _numbers.Boolean, values: list[Any]) -> list[Any]:
    _only(bool, values)
    return [*map(int, values)]


def _load_bool(converter: _numbers.Boolean, stored: list[Any]) -> list[Any]:
    if not {0, 1}.issuperset(stored) or not {bool, int}.issuperset(map(type, stored)):
        raise ValueError("no bool")
    return [*map(bool, stored)]


def _dump_real(converter: _numbers.Real, values: list[Any]) -> list[Any]:
    _only(float, values)
    # Also where the field takes them: not every serializer does, and the batch is packed without its checks.
    if not all(map(isfinite, values)):
        raise ValueError("not finite")
    return values


def _load_real(converter: _numbers.Real, stored: list[Any]) -> list[Any]:
    _only(float, stored)
    if not converter.allow_nan and not all(map(isfinite, stored)):
        raise ValueError("not finite")
    return stored


def _load_text(converter: _text.Text, stored: list[Any]) -> list[Any]:
    _only(str, stored)
    joined = "".join(stored)
    if not joined.isascii():
        joined.encode()
    return stored


def _dump_text(converter: _text.Text, values: list[Any]) -> list[Any]:
    _load_text(converter, values)
    if converter.max_length is not None and max(map(len, values)) > converter.max_length:
        raise ValueError("too long")
    return values


def _dump_enum(converter: _enumerations.Enumeration, values: list[Any]) -> list[Any]:
    _only(converter.enum, values)
    stored = [value._value_ for value in values]
    if converter.flag or not {int, str}.issuperset(map(type, stored)):
        raise TypeError("a value of a type that is stored as another")
    return stored


def _load_enum(converter: _enumerations.Enumeration, stored: list[Any]) -> list[Any]:
    members = converter.members
    # Of one type: 1 finds a member whose value is True as well.
    (kind,) = {type(member._value_) for member in members.values()}
    if kind is not int and kind is not str:
        raise TypeError("a value of a type that is stored as another")
    _only(kind, stored)
    return [members[each] for each in stored]


def _dump_aware(converter: _temporal.DateTimeTZ, values: list[Any]) -> list[Any]:
    _only(datetime, values)
    if {value.tzinfo is UTC and not value.fold for value in values} != {True}:
        raise ValueError("another time zone")
    return [*map(datetime.isoformat, values)]


def _load_aware(converter: _temporal.DateTimeTZ, stored: list[Any]) -> list[Any]:
    _all_match(_AWARE, stored)
    return [*map(datetime.fromisoformat, stored)]


def _dump_naive(converter: _temporal.DateTime, values: list[Any]) -> list[Any]:
    _only(datetime, values)
    if {value.tzinfo is None and not value.fold for value in values} != {True}:
        raise ValueError("a time zone")
    return [*map(datetime.isoformat, values)]


def _load_naive(converter: _temporal.DateTime, stored: list[Any]) -> list[Any]:
    _all_match(_NAIVE, stored)
    return [*map(datetime.fromisoformat, stored)]


def _dump_date(converter: _temporal.Date, values: list[Any]) -> list[Any]:
    _only(date, values)
    return [*map(date.isoformat, values)]


def _load_date(converter: _temporal.Date, stored: list[Any]) -> list[Any]:
    _all_match(_DAYS, stored)
    return [*map(date.fromisoformat, stored)]


def _dump_uuid(converter: _uuids.Uuid, values: list[Any]) -> list[Any]:
    _only(UUID, values)
    return [f"{value.int:032x}" for value in values]


def _load_uuid(converter: _uuids.Uuid, stored: list[Any]) -> list[Any]:
    _all_match(_HEX, stored)
    return [*map(_uuids.make_uuid, map(int, stored, repeat(16)))]


_COLUMNS: dict[type, tuple[Callable[[Any, list[Any]], list[Any]], Callable[[Any, list[Any]], list[Any]]]] = {
    _numbers.Boolean: (_dump_bool, _load_bool),
    _temporal.Date: (_dump_date, _load_date),
    _temporal.DateTime: (_dump_naive, _load_naive),
    _temporal.DateTimeTZ: (_dump_aware, _load_aware),
    _enumerations.Enumeration: (_dump_enum, _load_enum),
    _numbers.Integer: (_dump_int, _load_int),
    _numbers.Real: (_dump_real, _load_real),
    _text.Text: (_dump_text, _load_text),
    _uuids.Uuid: (_dump_uuid, _load_uuid),
}
