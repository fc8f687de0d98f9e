"""References to rows of other models."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from .._speedups import convert
from ..errors import CacheORMError
from .base import Field, FieldOptions

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["ForeignKeyField", "ObjectId"]

T = TypeVar("T")
M = TypeVar("M", bound="Model")


class _Reference(convert.Converter):
    """Converts ids as the primary key of the target does, and instances of it to their ids.

    The target may be declared after the model that refers to it, so it is looked up at each use.
    """

    def __init__(self, field: ForeignKeyField[Any]) -> None:
        self.field = field

    def _id_of(self, value: Any) -> Any:
        if isinstance(value, self.field.rel_model):
            value = value._pk
            if value is None:
                raise ValueError(
                    f"the {self.field.rel_model.__name__} it refers to has no primary key yet: save it"
                )
        return value

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
            raise ValueError(
                f"expected a list of {len(meta.key_fields)} key values, got {type(stored).__name__}"
            )
        return tuple(field.converter.load(part) for field, part in zip(meta.key_fields, stored, strict=True))

    def canonical(self, value: Any, stored: Any) -> Any:
        meta = self.field.rel_model._meta
        if meta.composite is None:
            return meta.key_fields[0].converter.canonical(self._id_of(value), stored)
        return self.load(stored)


class ObjectId:
    """The attribute that gives a foreign key's id, and never loads anything."""

    def __init__(self, field: ForeignKeyField[Any]) -> None:
        self.field = field

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self.field
        return self.field.peek(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        self.field.__set__(instance, value)


class ForeignKeyField(Field[T]):
    """A reference to a row of another model, stored as its primary key.

    ``article.author`` loads the row at the first access and keeps it; ``article.author_id`` is the id
    and never loads. Both take an instance or an id.

    Args:
        model: the model referred to: the class, ``"self"``, or its name (``"User"``, or
            ``"package.module.User"`` where several have that name) if it is declared later.
        object_id_name: name of the id attribute; default ``<name>_id``.

    Raises:
        DoesNotExist: (of the related model, on access) the row is gone, or the reference was never set.
    """

    @overload
    def __init__(
        self: ForeignKeyField[M],
        model: type[M],
        object_id_name: str | None = None,
        *,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: ForeignKeyField[M | None],
        model: type[M],
        object_id_name: str | None = None,
        *,
        null: Literal[True],
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: ForeignKeyField[Any],
        model: str,
        object_id_name: str | None = None,
        *,
        null: bool = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        model: type[Model] | str,
        object_id_name: str | None = None,
        *,
        null: bool = False,
        **options: Unpack[FieldOptions],
    ) -> None:
        if not isinstance(model, str) and not hasattr(model, "_meta"):
            raise TypeError(
                f"ForeignKeyField takes a model class, 'self' or a model's name, got {type(model).__name__}"
            )
        self.target = model
        self._given_id_name = object_id_name
        self.object_id_name = object_id_name or ""
        super().__init__(null=null, **options)

    def make_converter(self) -> Any:
        return _Reference(self)

    @property
    def rel_model(self) -> type[Model]:
        """The model referred to.

        Raises:
            CacheORMError: it was given by name, and no such model is declared yet.
        """
        if isinstance(self.target, str):
            raise CacheORMError(f"{self!r} refers to {self.target!r}, and no such model is declared yet")
        return self.target

    @property
    def accepted_names(self) -> tuple[str, ...]:
        return (self.name, self.object_id_name)

    def bind(self, model: type[Model], name: str, member: MemberDescriptorType) -> None:
        self.object_id_name = self._given_id_name or (name if name.endswith("_id") else f"{name}_id")
        if self._given_id_name == name:
            raise ValueError(
                f"{model.__name__}.{name}: object_id_name needs a name other than the field's own"
            )
        if self.target == "self":
            self.target = model
        super().bind(model, name, member)
        # A field that is itself called "..._id" reads as the id.
        setattr(model, self.object_id_name, ObjectId(self))

    def unset(self, instance: Any) -> Any:
        """Give the related instance for a default id, or what :meth:`_related` makes of no id."""
        return self._related(instance, super().unset(instance))

    def _related(self, instance: Any, value: Any) -> Any:
        if value is None:
            if self.null:
                return None
            raise self.rel_model.DoesNotExist(f"{self!r} is not set")
        loaded = instance._relations
        related = loaded.get(self.name)
        if related is None:
            related = loaded[self.name] = self.rel_model.get_by_id(value)
        return related

    def settle(self, instance: Any) -> None:
        """Take over the id of a related instance that had none when it was assigned."""
        related = instance._relations.get(self.name)
        if related is not None and self.peek(instance) is None:
            self.poke(instance, related._pk)

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            loaded = instance._relations.get(self.name)
            if loaded is not None:
                return loaded
            value = self.peek(instance)
            return self.unset(instance) if value is None else self._related(instance, value)

        def __set__(self, instance: Any, value: Any) -> None:
            # Not through rel_model: an id may be set before the model it belongs to is declared.
            if not isinstance(self.target, str) and isinstance(value, self.target):
                self.poke(instance, value._pk)
                instance._relations[self.name] = value
                return
            if self.peek(instance) != value:
                instance._relations.pop(self.name, None)
            self.poke(instance, value)

    def clone(self) -> Self:
        copied = super().clone()
        if copied.target is self.model:
            copied.target = "self"
        return copied
