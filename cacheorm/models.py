"""Models: the classes users declare, and the operations they offer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from . import errors
from ._speedups import slots
from .declaration import Declared, ModelBase
from .fields import ForeignKeyField
from .metadata import RowPlan
from .operations import GetOrCreate, ModelDelete, ModelInsert, ModelQuery, ModelUpdate
from .operations.base import as_rows
from .store import Call, perform
from .types import TTL, check_ttl

__all__ = ["CacheBuilder", "Model"]


class Model(metaclass=ModelBase):
    """A row of typed fields, stored under its primary key.

    Declare fields as class attributes and options in an inner ``class Meta``::

        class User(co.Model):
            id = co.IntegerField(primary_key=True)
            name = co.StringField()

            class Meta:
                backend = "redis://localhost"
                ttl = 3600

    Meta options: ``primary_key`` (a :class:`CompositeKey`), ``backend`` (instance or URL), ``serializer``
    (instance or registered name), ``ttl`` (seconds; 0 never expires), ``ttl_jitter`` (the fraction of the
    ttl by which lifetimes are shortened at random, so that rows written together do not expire
    together), ``name`` and ``namespace`` (both part of the key), ``on_invalid`` (``"raise"`` or ``"miss"``:
    what bytes that are no row of the model count as), ``abstract``. They are inherited, but for ``name``,
    ``primary_key`` and ``abstract``.

    Without a primary key of its own a model gets ``id = UUIDField(primary_key=True, default=uuid.uuid4)``.

    Instances keep their values in slots: an attribute that is no field cannot be set. Where a subclass
    needs other attributes it declares ``__slots__`` for them, or ``__slots__ = ("__dict__",)``.

    Args:
        values: field values, foreign keys also under their id name. They are converted and checked
            when the row is written.

    Raises:
        TypeError: a name that no field has.
    """

    __slots__ = ("__weakref__", "_loaded")

    _meta: ClassVar[RowPlan]
    _declared: ClassVar[Declared]
    _plain_init: ClassVar[bool]
    """Whether instances can be made without calling ``__init__``: not where a subclass has its own."""
    _sealed: ClassVar[bool]
    """Whether instances hold fields alone: not where a class has slots, a ``__dict__`` or a ``__new__`` of its own."""
    DoesNotExist: ClassVar[type[errors.DoesNotExist]]
    _loaded: dict[str, Any]
    _related: ClassVar[Any]

    def __init__(self, **values: Any) -> None:
        plan = type(self)._meta
        for name, value in values.items():
            field = plan.names.get(name)
            if field is None:
                raise plan.unknown_name(name)
            field.__set__(self, value)

    # -- the instance ----------------------------------------------------------------------------

    @property
    def _relations(self) -> dict[str, Any]:
        """The related instances that are loaded, by field name."""
        try:
            return self._loaded
        except AttributeError:
            type(self)._related.poke(self, {})
            return self._loaded

    def get_id(self) -> Any:
        """Give the primary key: a value, a tuple for composite keys, ``None`` where it is not set yet."""
        return self._pk

    @property
    def _pk(self) -> Any:
        # Not through get_id(), which subclasses override: Flask-Login's wants a str.
        plan = type(self)._meta
        if plan.composite is not None:
            return plan.composite.__get__(self)
        value = plan.key_fields[0].peek(self)
        # A reference holds an instance while that has no key to take over.
        return None if plan.references and hasattr(type(value), "_meta") else value

    @_pk.setter
    def _pk(self, value: Any) -> None:
        key = type(self)._meta.primary_key
        key.__set__(self, value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        pk = self._pk
        return pk is not None and bool(pk == other._pk)

    def __hash__(self) -> int:
        return hash((type(self), self._pk))

    def __repr__(self) -> str:
        shown = []
        for field in type(self)._meta.fields.values():
            value = field.peek(self)
            if value is not None:
                shown.append(f"{field.accepted_names[-1]}={'***' if getattr(field, 'secret', False) else repr(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        absent = object()
        values = {name: field.peek(self, absent) for name, field in type(self)._meta.fields.items()}
        state: dict[str, Any] = {"values": {name: value for name, value in values.items() if value is not absent}}
        attributes = super().__getstate__()
        # The __dict__, or a pair of it and the slots: those of the subclasses, and that of the relations.
        if isinstance(attributes, tuple):
            attributes, state["slots"] = attributes
        if attributes:
            state["attributes"] = attributes
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = type(self)._meta.fields
        for name, value in state["values"].items():
            if name in fields:
                fields[name].poke(self, value)
        for name, value in state.get("slots", {}).items():
            if name == "_loaded":
                # A copy: two instances must not share their relations.
                type(self)._related.poke(self, dict(value))
            else:
                setattr(self, name, value)
        if "attributes" in state:
            self.__dict__.update(state["attributes"])

    def to_dict(self) -> dict[str, Any]:
        """Give the fields' values by field name; a foreign key as the related primary key."""
        return {
            name: field.object_id(self) if isinstance(field, ForeignKeyField) else field.__get__(self, type(self))
            for name, field in type(self)._meta.fields.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make an instance from what :meth:`to_dict` gave.

        Raises:
            TypeError: a name that no field has.
        """
        return cls(**values)

    def save(self, force_insert: bool = False) -> bool:
        """Write this row: update it when its primary key is set, insert it otherwise.

        Args:
            force_insert: insert it in any case.

        Returns:
            ``False`` if the row to update does not exist (any more); nothing was written then.

        Raises:
            ValidationError: all fields with bad or missing values.
            WriteError: the backend refused the row.
        """
        plan = type(self)._meta
        if force_insert or self._pk is None:
            ModelInsert(plan, [self], False).execute()
            return True
        return ModelUpdate(plan, [self], False).execute() is not None

    def delete_instance(self) -> bool:
        """Remove this row from the backend; ``True`` if it existed. The instance keeps its values."""
        return ModelDelete(type(self)._meta, [self], False).execute()

    def refresh(self) -> Self:
        """Read this row again, into this instance, and forget loaded related instances.

        Raises:
            DoesNotExist: the row is gone; the instance keeps its values.
        """
        plan = type(self)._meta
        fresh: Self | None = plan.reader.read(self)
        if fresh is None:
            raise _missing(plan, self)
        for field in plan.fields.values():
            field.poke(self, field.peek(fresh))
        self._relations.clear()
        return self

    def ttl(self) -> int | None:
        """Give the seconds that the stored row has left; 0 if it never expires, ``None`` if it is gone."""
        plan = type(self)._meta
        left: int | None = perform(Call(plan.backend, "ttl", (_key_of(plan, self),)))
        return left

    def touch(self, ttl: TTL = None) -> bool:
        """Give the stored row a new lifetime; ``False`` if it is gone.

        Args:
            ttl: seconds; 0 never expires; ``None`` is the model's ttl.
        """
        plan = type(self)._meta
        seconds = plan.pick_ttl() if ttl is None else check_ttl(ttl)
        return bool(perform(Call(plan.backend, "touch", (_key_of(plan, self), seconds))))

    # -- operations, to be executed --------------------------------------------------------------

    @classmethod
    def insert(cls, **values: Any) -> ModelInsert[Self]:
        """Write one row, over whatever is there; gives the instance."""
        return ModelInsert(cls._meta, [values], False)

    @classmethod
    def insert_many(cls, *rows: Any) -> ModelInsert[list[Self]]:
        """Write rows; gives the instances, those that were passed being themselves.

        Args:
            rows: dicts and instances, or one iterable of them.
        """
        return ModelInsert(cls._meta, as_rows(rows), True)

    @classmethod
    def query(cls, **pk: Any) -> ModelQuery[Self | None]:
        """Read one row by its primary key; gives the instance or ``None``."""
        return ModelQuery(cls._meta, [pk], False)

    @classmethod
    def query_many(cls, *pks: Any) -> ModelQuery[list[Self | None]]:
        """Read rows by their primary keys; gives a list in the order asked, ``None`` for misses.

        Args:
            pks: dicts of the key fields and instances, or one iterable of them.
        """
        return ModelQuery(cls._meta, as_rows(pks), True)

    @classmethod
    def update(cls, **pk_and_changes: Any) -> ModelUpdate[Self | None]:
        """Change the named fields of one row; gives the whole row, or ``None`` if it does not exist."""
        return ModelUpdate(cls._meta, [pk_and_changes], False)

    @classmethod
    def update_many(cls, *rows: Any) -> ModelUpdate[list[Self | None]]:
        """Change the named fields of rows; gives a list in the order given, ``None`` where no row exists.

        Args:
            rows: dicts of key fields and changes and instances, or one iterable of them. Of an instance, the
                fields that have a value are the changes.
        """
        return ModelUpdate(cls._meta, as_rows(rows), True)

    @classmethod
    def delete(cls, **pk: Any) -> ModelDelete[bool]:
        """Remove one row; gives whether it existed."""
        return ModelDelete(cls._meta, [pk], False)

    @classmethod
    def delete_many(cls, *pks: Any) -> ModelDelete[bool]:
        """Remove rows; gives ``True`` only if all of them existed. All are removed either way.

        Args:
            pks: dicts of the key fields and instances, or one iterable of them.
        """
        return ModelDelete(cls._meta, as_rows(pks), True)

    # -- shortcuts that execute at once ----------------------------------------------------------

    @classmethod
    def create(cls, **values: Any) -> Self:
        """Make an instance and write it, over whatever is there."""
        instance = cls(**values)
        ModelInsert(cls._meta, [instance], False).execute()
        return instance

    @classmethod
    def get(cls, **pk: Any) -> Self:
        """Read one row.

        Raises:
            DoesNotExist: there is none.
        """
        found: Self | None = cls._meta.reader.read(pk)
        if found is None:
            raise _missing(cls._meta, pk)
        return found

    @classmethod
    def get_by_id(cls, pk: Any) -> Self:
        """Read the row with this primary key (a tuple for composite keys).

        Raises:
            DoesNotExist: there is none.
        """
        return cls._read(pk)

    @classmethod
    def _read(cls, pk: Any) -> Self:
        # What foreign keys call: a model may have a field with the name of any method.
        row = cls._meta.row_of(pk)
        found: Self | None = cls._meta.reader.read(row)
        if found is None:
            raise _missing(cls._meta, row)
        return found

    @classmethod
    def get_or_none(cls, **pk: Any) -> Self | None:
        """Read one row; ``None`` if there is none."""
        found: Self | None = cls._meta.reader.read(pk)
        return found

    @classmethod
    def get_many(cls, pks: Iterable[Any]) -> dict[Any, Self]:
        """Read rows by primary key.

        Args:
            pks: primary keys, tuples for composite ones.

        Returns:
            The rows found, by the primary keys as they were given (lists as tuples).

        Raises:
            TypeError: no iterable of keys, or a text, which would be read as one key per character.
        """
        if isinstance(pks, (str, bytes)):
            raise TypeError(f"get_many takes an iterable of primary keys, got {type(pks).__name__}")
        wanted = [tuple(pk) if isinstance(pk, list) else pk for pk in pks]
        plan = cls._meta
        query: ModelQuery[list[Self | None]] = ModelQuery(plan, map(plan.row_of, wanted), True)
        found = query.execute()
        return {pk: row for pk, row in zip(wanted, found, strict=True) if row is not None}

    @classmethod
    def get_or_create(cls, defaults: Mapping[str, Any] | None = None, **values: Any) -> tuple[Self, bool]:
        """Read the row, or create it if there is none. Of several callers one creates it and all get its row.

        Args:
            defaults: values used only to create the row.
            values: the primary key, and values to create the row with.

        Returns:
            The row, and whether this call created it.
        """
        plan = cls._meta
        key_names = {name for field in plan.key_fields for name in field.accepted_names}
        wanted = {name: value for name, value in values.items() if name in key_names}
        return GetOrCreate(plan, (wanted, {**(defaults or {}), **values}), False).execute()

    @classmethod
    def set_by_id(cls, pk: Any, values: Mapping[str, Any]) -> Self:
        """Change fields of the row with this primary key; gives the whole row.

        Raises:
            DoesNotExist: there is none.
        """
        row = cls._meta.row_of(pk)
        update: ModelUpdate[Self | None] = ModelUpdate(cls._meta, [{**values, **row}], False)
        updated = update.execute()
        if updated is None:
            raise _missing(cls._meta, row)
        return updated

    @classmethod
    def delete_by_id(cls, pk: Any) -> bool:
        """Remove the row with this primary key.

        Raises:
            DoesNotExist: there is none.
        """
        row = cls._meta.row_of(pk)
        delete: ModelDelete[bool] = ModelDelete(cls._meta, [row], False)
        if not delete.execute():
            raise _missing(cls._meta, row)
        return True

    @classmethod
    def exists(cls, **pk: Any) -> bool:
        """Tell whether the row exists, without reading it."""
        return bool(perform(Call(cls._meta.backend, "has", (_key_of(cls._meta, pk),))))

    @classmethod
    def key(cls, **pk: Any) -> str:
        """Give the backend key of a row.

        Raises:
            ValidationError: a part of the primary key is missing or of the wrong type.
        """
        return _key_of(cls._meta, pk)


# Reads the slot of loaded rows as None where nothing was loaded. For what asks every row of a batch: an AttributeError
# that is raised and caught costs more than the rest.
Model._related = slots.Slot()
Model._related.attach(vars(Model)["_loaded"])


def _key_of(plan: RowPlan, row: Any) -> str:
    key: str = plan.identity.identify_one(row, True)[1]
    return key


def _missing(plan: RowPlan, row: Any) -> errors.DoesNotExist:
    return plan.model.DoesNotExist(f"{plan.model.__name__}: no row under key {_key_of(plan, row)}")


class CacheBuilder:
    """Builds the key of one row; :meth:`Model.key` does it in one call.

    Args:
        model: the model.
        row: values by field name, at least those of the primary key.
        instance: an instance instead of a row.
    """

    def __init__(self, model: type[Model], row: Mapping[str, Any] | None = None, instance: Model | None = None) -> None:
        self.model = model
        self._instance = model(**(row or {})) if instance is None else instance

    def build_key(self) -> str:
        """Give the backend key.

        Raises:
            ValidationError: (a :exc:`ValueError`) a part of the primary key is missing.
        """
        return _key_of(self.model._meta, self._instance)
