"""Primary keys made of several fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from .base import IndexFormatter

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["CompositeKey"]


class CompositeKey:
    """A primary key of several fields, for ``Meta.primary_key``.

    On an instance it is the tuple of the fields' values, for foreign keys their ids; setting it sets all fields.

    Args:
        field_names: names of two or more fields of the model, in key order.
        index_formatter: a ``%``-format string or a callable of the stored key values.
    """

    primary_key = True

    def __init__(self, *field_names: str, index_formatter: IndexFormatter | None = None) -> None:
        if len(field_names) < 2 or not all(isinstance(name, str) for name in field_names):
            raise TypeError("CompositeKey takes the names of two or more fields")
        if len(set(field_names)) != len(field_names):
            raise ValueError(f"CompositeKey names a field twice: {', '.join(field_names)}")
        self.field_names = field_names
        self.index_formatter = index_formatter
        self.model: type[Model] | None = None

    def bind(self, model: type[Model]) -> None:
        """Attach the key to ``model``."""
        self.model = model

    def clone(self) -> Self:
        """Return an unbound copy, for a model that inherits this key."""
        return type(self)(*self.field_names, index_formatter=self.index_formatter)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        values = tuple([field.key_value(instance) for field in instance._meta.key_fields])
        return None if any(value is None for value in values) else values

    def __set__(self, instance: Any, value: Sequence[Any]) -> None:
        fields = instance._meta.key_fields
        for field, part in zip(fields, self.check(value), strict=True):
            field.__set__(instance, part)

    def check(self, value: Sequence[Any]) -> Sequence[Any]:
        """Check that ``value`` has the type and length of a key; return it.

        Raises:
            TypeError: it is no tuple or list.
            ValueError: it has another length than the key.
        """
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{self!r} takes a tuple of {len(self.field_names)} values, got {type(value).__name__}")
        if len(value) != len(self.field_names):
            raise ValueError(f"{self!r} takes {len(self.field_names)} values, got {len(value)}")
        return value

    def __repr__(self) -> str:
        owner = f"{self.model.__name__}." if self.model else ""
        return f"<CompositeKey: {owner}({', '.join(self.field_names)})>"
