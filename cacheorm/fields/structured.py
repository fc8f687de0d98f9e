"""Fields of values with parts: objects through a pair of functions, JSON, lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from .._speedups import convert
from .base import Field, FieldOptions

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["JSONField", "ListField", "StructField"]

T = TypeVar("T")
S = TypeVar("S")


class StructField(Field[T]):
    """An object of any class, converted by a pair of functions.

    Args:
        serializer: converts a value to its stored form: str, int, float, bool, bytes, None, lists and dicts of
            them. Tuples are stored as lists.
        deserializer: converts a stored form back to the value.

    Errors of the two are reported by their type alone, since their text may quote the value.

    Raises:
        TypeError: one of the two cannot be called.
    """

    @overload
    def __init__(
        self: StructField[S],
        serializer: Callable[[S], Any],
        deserializer: Callable[[Any], S],
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: StructField[S | None],
        serializer: Callable[[S], Any],
        deserializer: Callable[[Any], S],
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        serializer: Callable[[Any], Any],
        deserializer: Callable[[Any], Any],
        null: bool = False,
        **options: Unpack[FieldOptions],
    ) -> None:
        for name, function in (("serializer", serializer), ("deserializer", deserializer)):
            if not callable(function):
                raise TypeError(f"{name} is a function of one argument, got {type(function).__name__}")
        self.serializer = serializer
        self.deserializer = deserializer
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Pair(self.serializer, self.deserializer)


class JSONField(Field[T]):
    """Any JSON value, stored as JSON text.

    Takes str, int, finite float, bool, None, and lists, tuples and str-keyed dicts of them, at most 200
    levels deep; everything else is an error. Tuples are read as lists. The instance holds a copy, as a read
    would make it.
    """

    @overload
    def __init__(self: JSONField[Any], null: Literal[False] = False, **options: Unpack[FieldOptions]) -> None: ...
    @overload
    def __init__(self: JSONField[Any], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Json()


class ListField(Field[T]):
    """A list of values of one field, stored as the list of their stored forms.

    Takes lists and tuples. Elements may be ``None`` if their field has ``null=True``, and have to pass its
    validators; its default means nothing here. A list of foreign keys holds the related primary keys.

    Args:
        field: the field of the elements, of any type: ``ListField(IntegerField())`` or
            ``ListField(ForeignKeyField("self"))``.

    Raises:
        TypeError: ``field`` is no field.
    """

    @overload
    def __init__(
        self: ListField[list[S]],
        field: Field[S],
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: ListField[list[S] | None], field: Field[S], null: bool, **options: Unpack[FieldOptions]
    ) -> None: ...
    def __init__(self, field: Any, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        if isinstance(field, type) and issubclass(field, Field):
            raise TypeError(f"ListField takes a field, got the class: write ListField({field.__name__}())")
        if not isinstance(field, Field):
            raise TypeError(f"ListField takes the field of its elements, got {type(field).__name__}")
        if field.primary_key:
            raise ValueError("the elements of a list cannot be a primary key")
        if field.aliases:
            raise ValueError("alias is for the list: its elements are stored without a name")
        self.field = field
        super().__init__(null, **options)

    def belong_to(self, model: type[Model], name: str) -> None:
        super().belong_to(model, name)
        # A copy: several lists may be given one field, and "self" is another model in each.
        self.field = self.field.clone()
        self.field.belong_to(model, name)
        self._own = self.make_converter()

    def make_converter(self) -> convert.Converter:
        element = self.field.converter
        if self.field.validators:
            element = convert.Validated(element, self.field.validators)
        return convert.ListOf(element, self.field.null)
