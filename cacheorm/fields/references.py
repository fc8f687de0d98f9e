"""The conversion of references: ids of rows of other models, and instances of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._speedups import convert
from ..types import is_model

if TYPE_CHECKING:
    from ..models import Model
    from .foreign import ForeignKeyField

__all__ = ["Reference", "has_rows_of"]


class Reference(convert.Converter):
    """Converts ids like the primary key of the target, and instances of the target to their ids.

    The target may be declared after the model that refers to it, so it is looked up at each use.
    """

    def __init__(self, field: ForeignKeyField[Any]) -> None:
        self.field = field

    def check(self, instance: Any) -> None:
        """Check that an instance of a model is one of the target.

        Raises:
            ValueError: it is another model's, or that of a subclass whose rows have keys of their own.
        """
        target, kind = self.field.rel_model, type(instance)
        if not isinstance(instance, target):
            other = f"another {kind.__name__}" if kind.__name__ == target.__name__ else kind.__name__
            raise ValueError(f"expected a {target.__name__} or its primary key, got an instance of {other}")
        if not has_rows_of(instance, target):
            raise ValueError(f"expected a {target.__name__}, got {kind.__name__}, whose rows have keys of their own")

    def _id_of(self, value: Any) -> Any:
        if not is_model(type(value)):
            return value
        self.check(value)
        if value._pk is None:
            raise ValueError(f"the {type(value).__name__} it refers to has no primary key yet: save it first")
        return value._pk

    def dump(self, value: Any) -> Any:
        value = self._id_of(value)
        meta = self.field.rel_model._meta
        if meta.composite is None:
            return meta.key_fields[0].converter.dump(value)
        try:
            parts = meta.composite.check(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"expected a tuple of {len(meta.key_fields)} key values, got {type(value).__name__}"
            ) from None
        return [field.converter.dump(part) for field, part in zip(meta.key_fields, parts, strict=True)]

    def load(self, stored: Any) -> Any:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            return meta.key_fields[0].converter.load(stored)
        if not isinstance(stored, (list, tuple)) or len(stored) != len(meta.key_fields):
            raise ValueError(f"expected a list of {len(meta.key_fields)} key values, got {type(stored).__name__}")
        return tuple(field.converter.load(part) for field, part in zip(meta.key_fields, stored, strict=True))

    def canonical(self, value: Any, stored: Any) -> Any:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            return meta.key_fields[0].converter.canonical(self._id_of(value), stored)
        return self.load(stored)

    varies = True

    def weigh(self, stored: Any, most: int) -> int:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            weight: int = meta.key_fields[0].converter.weigh_all([stored], most)
            return weight
        parts: int = sum(64 + field.converter.weight for field in meta.key_fields)
        return 3 * parts

    @property
    def mixed(self) -> bool:
        meta = self.field.rel_model._meta
        return meta.composite is None and bool(meta.key_fields[0].converter.mixed)

    @property
    def key_parts(self) -> list[Any] | None:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            parts: list[Any] | None = meta.key_fields[0].converter.key_parts
            return parts
        return [field.converter for field in meta.key_fields]

    def key_form(self, value: Any, stored: Any) -> Any:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            return meta.key_fields[0].converter.key_form(value, stored)
        parts = zip(meta.key_fields, value, stored, strict=True)
        return [field.converter.key_form(part, form) for field, part, form in parts]


def has_rows_of(instance: Any, model: type[Model]) -> bool:
    """Return whether the row of an instance is one of a model: subclasses mostly have rows of their own."""
    return isinstance(instance, model) and (
        type(instance) is model or type(instance)._meta.prefix == model._meta.prefix
    )
