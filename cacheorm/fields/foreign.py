"""Foreign keys: references to rows of other models."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import itemgetter
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, Unpack, overload
from uuid import UUID

from ..errors import CacheORMError, DoesNotExist
from ..types import Marker, is_model, not_a_model
from .base import Field, FieldOptions
from .lazy import keep_errors, warn_if_blocking
from .references import Reference, has_rows_of

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["MISSING", "ForeignKeyField", "ObjectId"]

T = TypeVar("T")
M = TypeVar("M", bound="Model")

Lazy = Literal["load", "raise"]

Key = int | str | bytes | Decimal | UUID | date | time | Enum | tuple[Any, ...]
"""What a primary key may be, for type checkers: they cannot know that of a certain model."""


class _Missing(Marker):
    """Type of :data:`MISSING`."""


MISSING: Final = _Missing("MISSING")
"""In place of a related instance: the row was looked up, and does not exist."""


class ObjectId:
    """The attribute that holds the id of a foreign key; reading it never loads a row."""

    def __init__(self, field: ForeignKeyField[Any]) -> None:
        self.field = field

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self.field
        return self.field.object_id(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        self.field.__set__(instance, value)


class ForeignKeyField(Field[T]):
    """A reference to a row of another model, stored as its primary key.

    ``article.author`` loads the row at the first access and keeps it. ``article.author_id`` is the id; reading it never
    loads the row. Both can be set to an instance or an id.

    Inside a running event loop, an access that reads warns (:exc:`~cacheorm.LazyLoadWarning`), once for each line of
    code, because the loop is blocked meanwhile.

    Args:
        model: the model referred to: the class, ``"self"``, or its name (``"User"``, or
            ``"package.module.User"`` where several have that name) if it is declared later.
        object_id_name: name of the id attribute; default ``<name>_id``.
        lazy: what access does if the row has not been loaded: ``"load"`` reads it, ``"raise"`` is an error. Preloading
            and :meth:`aget` load it either way.

    Raises:
        DoesNotExist: (of the related model, on access) the row does not exist, or the reference was never set; it is
            an :exc:`AttributeError` too, so that ``hasattr`` and ``getattr`` with a default take it for "no value".
        CacheORMError: (on access) the row has not been loaded, and ``lazy`` is ``"raise"``.
        ValueError: ``lazy`` is neither.
    """

    @overload
    def __init__(
        self: ForeignKeyField[M],
        model: type[M],
        object_id_name: str | None = None,
        *,
        null: Literal[False] = False,
        lazy: Lazy = "load",
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: ForeignKeyField[M | None],
        model: type[M],
        object_id_name: str | None = None,
        *,
        null: Literal[True],
        lazy: Lazy = "load",
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: ForeignKeyField[Any],
        model: str,
        object_id_name: str | None = None,
        *,
        null: bool = False,
        lazy: Lazy = "load",
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        model: type[Model] | str,
        object_id_name: str | None = None,
        *,
        null: bool = False,
        lazy: Lazy = "load",
        **options: Unpack[FieldOptions],
    ) -> None:
        given: Any = model
        if not isinstance(given, str) and not is_model(given):
            what = not_a_model(given)
            raise TypeError(f"ForeignKeyField takes a model with rows, 'self' or a model's name, got {what}")
        if lazy not in ("load", "raise"):
            raise ValueError(f"lazy is 'load' or 'raise', got {lazy!r}")
        self.lazy = lazy
        self.given = model
        self.target: type[Model] | str = model
        self.find: Callable[[], type[Model] | None] | None = None
        self._given_id_name = object_id_name
        self.object_id_name = object_id_name or ""
        super().__init__(null=null, **options)

    def make_converter(self) -> Any:
        return Reference(self)

    @property
    def slot_converter(self) -> Any:
        """The converter of the related key, since slots hold ids. Slots that hold an instance take a slower path."""
        if self.converter is not self._own or not isinstance(self.target, type):
            return self.converter
        meta = self.target._meta
        if meta.composite is not None or meta.key_fields[0] is self:
            return self.converter
        return meta.key_fields[0].slot_converter

    @property
    def rel_model(self) -> type[Model]:
        """The model referred to.

        Raises:
            CacheORMError: it was named, and there is no such model, or more than one.
        """
        if isinstance(self.target, str):
            # At the first use and not earlier: a model of that name in a nearer scope may be declared later.
            found = self._known
            if found is None:
                raise CacheORMError(
                    f"{self!r} refers to {self.target!r}, and no such model is declared "
                    "(or several modules declare one: then give its full name, package.module.Model)"
                )
            self.target = found
        return self.target

    @property
    def _known(self) -> type[Model] | None:
        """The model referred to, ``None`` as long as it is not declared."""
        if isinstance(self.target, str):
            return self.find() if self.find else None
        return self.target

    @property
    def accepted_names(self) -> tuple[str, ...]:
        return (self.name, self.object_id_name)

    def bind(self, model: type[Model], name: str, member: MemberDescriptorType | Field[Any], place: int) -> None:
        self.object_id_name = self._given_id_name or (name if name.endswith("_id") else f"{name}_id")
        if self._given_id_name == name:
            raise ValueError(f"{model.__name__}.{name}: object_id_name needs a name other than the field's own")
        super().bind(model, name, member, place)
        self.watched = False
        self.holds_ids = type(self).__set__ is ForeignKeyField.__set__
        # A field that is itself called "..._id" reads as the id.
        setattr(model, self.object_id_name, ObjectId(self))
        self.warned: set[tuple[str, int]] = set()
        keep_errors(model, ForeignKeyField)

    def belong_to(self, model: type[Model], name: str) -> None:
        super().belong_to(model, name)
        if self.target == "self":
            self.target = model

    def _default_maker(self) -> Callable[[], Any]:
        # An id or an instance, which is not copied.
        default: Any = self.default
        return default if self.makes_default else partial(itemgetter(0), (default,))

    def unset(self, instance: Any) -> Any:
        """Return the related instance for a default; without one, ``None`` or an error as in :meth:`_related`."""
        return self._related(instance, self.object_id(instance))

    def object_id(self, instance: Any) -> Any:
        """Return the id of the related row, or that of the default if none was set; never loads the row."""
        value = self.peek(instance, MISSING)
        if value is None:
            value = _loaded(instance).get(self.name)
        elif value is MISSING:
            value = None
            if self.default is not None and not self.primary_key:
                value = self.make_default()
                if self.makes_default or is_model(type(value)):
                    self._hold(instance, value)
        # An instance that had no id when it was assigned may have one now.
        return self._id_of(value) if is_model(type(value)) else value

    def _id_of(self, related: Any) -> Any:
        """Return the id of an instance that was assigned.

        Raises:
            ValidationError: it is no instance of the model referred to.
        """
        if self._known is not None:
            self._named(self._own.check, related)
        return related._pk

    def key_value(self, instance: Any) -> Any:
        value = self.peek(instance)
        if value is None:
            value = _loaded(instance).get(self.name)
        if not is_model(type(value)):
            return value
        target = self._known
        # What is no row of the target is refused when it is converted.
        return value._pk if target is None or has_rows_of(value, target) else value

    def _related(self, instance: Any, value: Any) -> Any:
        if value is None:
            if self.null:
                return None
            raise self.rel_model.DoesNotExist.Related(f"{self!r} is not set")
        related = _loaded(instance).get(self.name)
        if related is None:
            if self.lazy == "raise":
                raise CacheORMError(
                    f"{self!r} has not been loaded, and is declared with lazy='raise': preload it, as by "
                    f".preload({self.name!r}) or co.preload(row, {self.name!r}), or await its aget(row)"
                )
            warn_if_blocking(self)
            related = self.rel_model._read(self._id_of(value) if is_model(type(value)) else value)
            if related is None:
                raise self._gone(value)
            instance._relations[self.name] = related
        elif related is MISSING:
            raise self._gone(value)
        return related

    def _gone(self, value: Any) -> DoesNotExist:
        plan = self.rel_model._meta
        return plan.missing(plan.row_of(value), related=True)

    async def aget(self, instance: Model) -> T:
        """Return the row that an instance refers to, without blocking the event loop, and keep it.

        ::

            author = await Article.author.aget(article)

        From then on, access to the attribute returns it. ``co.apreload`` does the same for many instances.

        Args:
            instance: an instance of the model that the foreign key belongs to.

        Returns:
            The row, ``None`` for a null reference.

        Raises:
            DoesNotExist: (of the related model) the row does not exist, or the reference was never set.
        """
        value = self.object_id(instance)
        if value is None or self.name in _loaded(instance):
            return self.__get__(instance, type(instance))
        related: Any = await self.rel_model._aread(value)
        if related is None:
            raise self._gone(value)
        if self.object_id(instance) == value:  # otherwise another task has assigned another id meanwhile
            instance._relations[self.name] = related
        return related  # type: ignore[no-any-return]

    def settle(self, instance: Any) -> None:
        """Copy the id of a related instance that had none when it was assigned."""
        related = _loaded(instance).get(self.name)
        if related is None:
            return
        value = self.peek(instance)
        if value is None or value is related:
            pk = related._pk
            # If it has no id yet, the instance itself: it may get one while the same batch is written. If it does not,
            # the write is refused.
            self.poke(instance, related if pk is None else pk)

    def _hold(self, instance: Any, value: Any) -> None:
        """Set the reference, without noting that it was assigned."""
        if is_model(type(value)):
            # An instance may be assigned before the model that is named here can be found.
            target = self._known
            if target is not None and has_rows_of(value, target):
                self.poke(instance, value._pk)
                instance._relations[self.name] = value
                return
        loaded = _loaded(instance)
        if loaded and (value is None or self.peek(instance) != value):
            loaded.pop(self.name, None)
        self.poke(instance, value)

    if TYPE_CHECKING:
        # Both, since type checkers take a descriptor that has only one of them to hold what was assigned.
        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> T: ...
        def __get__(self, instance: object | None, owner: type | None = None) -> Any: ...

        def __set__(self, instance: object, value: T | Key) -> None: ...

    else:

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            loaded = _loaded(instance).get(self.name)
            if loaded is not None and loaded is not MISSING:
                return loaded
            value = self.peek(instance, MISSING)
            return self.unset(instance) if value is MISSING else self._related(instance, value)

        def __set__(self, instance: Any, value: Any) -> None:
            kept = self.in_key and self.keeps_key(instance, value)
            self._hold(instance, value)
            if not kept:
                self.mark(instance)

        def __delete__(self, instance: Any) -> None:
            _loaded(instance).pop(self.name, None)
            super().__delete__(instance)

    def clone(self) -> Self:
        copied = super().clone()
        if self.given == "self":
            copied.target = "self"
        return copied


_NOTHING: dict[str, Any] = {}


def _loaded(instance: Any) -> dict[str, Any]:
    """Return the loaded related instances, without allocating a dict for a row that has none."""
    loaded: dict[str, Any] = instance._related or _NOTHING
    return loaded
