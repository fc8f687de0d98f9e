"""The base class of fields: a descriptor over a slot, with two conversions that subclasses override."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import itemgetter
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar, overload
from uuid import UUID

from .._speedups import convert, slots
from ..errors import ValidationError

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["Field", "FieldOptions", "IndexFormatter", "check_aliases"]

T = TypeVar("T")

# Their values cannot be changed in place.
_OF_CONSTANTS = {
    convert.Binary,
    convert.Boolean,
    convert.Date,
    convert.DateTime,
    convert.DateTimeTZ,
    convert.DecimalText,
    convert.Enumeration,
    convert.Integer,
    convert.Real,
    convert.ShortUuid,
    convert.Text,
    convert.Time,
    convert.Timestamp,
    convert.Uuid,
}

IndexFormatter = str | Callable[..., str]
"""Makes the key of a row from its stored key values: a ``%``-format string or a callable."""

_IMMUTABLE = (type(None), bool, int, float, str, bytes, tuple, frozenset, date, time, timedelta, Decimal, Enum, UUID)


class FieldOptions(TypedDict, total=False):
    """Options that every field takes besides ``null``."""

    default: Any
    primary_key: bool
    index_formatter: IndexFormatter | None
    validators: Iterable[Callable[[Any], object]]
    alias: str | Iterable[str]


class Field(slots.Slot, Generic[T]):
    """A typed attribute of a model.

    Access on an instance reads and writes the value; access on the class returns the field itself.

    Args:
        null: whether ``None`` is a value.
        default: the value for rows without one, or a callable that makes it. A mutable default is
            copied for each instance. ``None`` means that there is no default.
        primary_key: whether this field is the model's primary key.
        index_formatter: see :data:`IndexFormatter`; only on a primary key.
        validators: callables that get the converted value on every write and raise
            :exc:`ValueError` to refuse it.
        alias: the name, or the names, under which rows that were written before have the value. A row that has
            several is read by the field's own name, or else by the first of these. A write uses the field's own.

    Custom fields override :meth:`cache_value` and :meth:`python_value`.
    """

    def __init__(
        self,
        null: bool = False,
        default: Any = None,
        primary_key: bool = False,
        index_formatter: IndexFormatter | None = None,
        validators: Iterable[Callable[[Any], object]] = (),
        alias: str | Iterable[str] = (),
    ) -> None:
        if index_formatter is not None and not primary_key:
            raise ValueError("index_formatter goes with primary_key=True: it makes the key of a row")
        if primary_key and null:
            raise ValueError("a primary key cannot be null: a row without one has no key")
        self.null = null
        self.default = default
        self.primary_key = primary_key
        self.index_formatter = index_formatter
        self.validators = tuple(validators)
        self.aliases = _names_of(alias)
        self.model: type[Model] | None = None
        self.name = ""
        # A member of an enumeration is a value, also if it is callable.
        self.makes_default = callable(default) and not isinstance(default, Enum)
        self.make_default = self._default_maker()
        self._own = self.make_converter()

    aliases: tuple[str, ...] = ()
    """The other names under which stored rows may have the value."""

    # -- conversion ------------------------------------------------------------------------------

    def make_converter(self) -> Any:
        """Return a new converter for this field's own conversions; see ``_speedups/convert/``."""
        return convert.Anything()

    @property
    def converter(self) -> Any:
        """The converter of this field: its own, or one that calls the methods that a subclass overrides."""
        cls = type(self)
        if cls.cache_value is Field.cache_value and cls.python_value is Field.python_value:
            return self._own
        return convert.Methods(self.cache_value, self.python_value)

    @property
    def slot_converter(self) -> Any:
        """The converter for values as they are in the slots, for the compiled codec."""
        return self.converter

    def cache_value(self, value: Any) -> Any:
        """Convert a Python value to its stored form: str, int, float, bytes, None, lists and dicts of them.

        Raises:
            ValidationError: the field does not take this value.
        """
        return self._named(self._own.dump, value)

    def python_value(self, value: Any) -> Any:
        """Convert a stored form back to the Python value.

        Raises:
            ValidationError: no value of this field is stored like this.
        """
        return self._named(self._own.load, value)

    def _named(self, convert_value: Callable[[Any], Any], value: Any) -> Any:
        if value is None:
            return None
        try:
            return convert_value(value)
        except ValueError as error:
            model = self.model.__name__ if self.model else None
            raise ValidationError(model, [(self.name or type(self).__name__, str(error))]) from error

    def key_value(self, instance: Any) -> Any:
        """Return the value in the primary key; a foreign key's may be that of a related instance by now."""
        return self.peek(instance)

    def canonical(self, value: Any) -> Any:
        """Return a value as a read returns it; one that the field does not take as it is."""
        if type(value) is self.slot_converter.key_type:
            return value
        converter = self.converter
        try:
            return converter.canonical(value, converter.dump(value))
        except ValueError:
            return value

    def same(self, one: Any, other: Any) -> bool:
        """Return whether two values are equal once they are converted; values that the field does not take are not."""
        if one is other or one is None or other is None:
            return one is other
        converter = self.converter
        try:
            first, second = [converter.canonical(value, converter.dump(value)) for value in (one, other)]
        except ValueError:
            return False
        return bool(first == second)

    # -- defaults --------------------------------------------------------------------------------

    make_default: Callable[[], Any]
    """Returns the default for one row: called if callable, copied if mutable, ``None`` if there is none."""

    def _default_maker(self) -> Callable[[], Any]:
        """Return the function for :attr:`make_default`, one of C if possible, since it is called for every row."""
        default = self.default
        if self.makes_default:
            return default  # type: ignore[no-any-return]
        if isinstance(default, _IMMUTABLE) or copy.deepcopy(default) is default:
            return partial(itemgetter(0), (default,))
        if type(default) in (list, set) and all(isinstance(part, _IMMUTABLE) for part in default):
            return default.copy  # type: ignore[no-any-return]
        return default.copy if default == {} and type(default) is dict else partial(copy.deepcopy, default)

    def unset(self, instance: Any) -> Any:
        """Return the value of a field that was not set: its default.

        A default that is made or copied is stored on the instance, so that the next read and the write use the same
        object. A primary key is made only when the row is written: until then this returns ``None``.
        """
        if self.primary_key or self.default is None:
            return None
        value = self.make_default()
        if self.makes_default or value is not self.default:
            self.poke(instance, value)
        return value

    # -- belonging to a model --------------------------------------------------------------------

    def bind(self, model: type[Model], name: str, member: MemberDescriptorType | Field[Any], place: int) -> None:
        """Attach the field to ``model`` under ``name``.

        Args:
            model: the model.
            name: the field's name.
            member: the descriptor of the slot for its values, or the field of a parent that has it.
            place: the place of that slot among those of its model, from 1.
        """
        self.belong_to(model, name)
        self.place = place
        self.attach(member, place, model._assigned)
        self.watched = type(self.converter) not in _OF_CONSTANTS

    def belong_to(self, model: type[Model], name: str) -> None:
        """Note whose field it is: of a model, or of the list that is the field ``name`` of a model."""
        self.model = model
        self.name = name

    @property
    def accepted_names(self) -> tuple[str, ...]:
        """The names under which a row may hold this field's value."""
        return (self.name,)

    def clone(self) -> Self:
        """Return an unbound copy, for a model that inherits this field."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        copied.model = None
        copied._own = copied.make_converter()
        return copied

    def __repr__(self) -> str:
        owner = f"{self.model.__name__}.{self.name}" if self.model else "(unbound)"
        return f"<{type(self).__name__}: {owner}>"

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> T: ...
        def __get__(self, instance: object | None, owner: type | None = None) -> Any: ...

        def __set__(self, instance: object, value: T) -> None: ...


def _names_of(alias: str | Iterable[str]) -> tuple[str, ...]:
    given: Any = (alias,) if isinstance(alias, str) else alias
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"alias is the name of a field in stored rows, or a list of names, got {type(given).__name__}")
    names = tuple(dict.fromkeys(given))
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"alias is the name of a field in stored rows, got {type(name).__name__}")
        if not name:
            raise ValueError("alias is the name of a field in stored rows, got an empty text")
    return names


def check_aliases(model: str, fields: Iterable[Field[Any]], key_fields: Iterable[Field[Any]]) -> None:
    """Check the aliases of a model's fields.

    Raises:
        ValueError: a name that belongs to two fields, or an alias of a part of the primary key.
    """
    names = {field.name for field in fields}
    owners: dict[str, str] = {}
    for field in fields:
        if field.aliases and field in key_fields:
            raise ValueError(
                f"{model}.{field.name}: alias is for fields that are stored in rows; a part of the primary key is "
                "stored in the key, which has its present name"
            )
        for alias in field.aliases:
            if alias == field.name:
                raise ValueError(f"{model}.{field.name}: its alias is its own name")
            if alias in names:
                raise ValueError(f"{model}: {alias!r} is an alias of {field.name}, and the name of another field")
            if owners.setdefault(alias, field.name) != field.name:
                raise ValueError(f"{model}: {owners[alias]} and {field.name} both have the alias {alias!r}")
