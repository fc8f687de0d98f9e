"""Models: the classes that users declare, with the operations on their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Self, overload

from . import errors
from ._speedups import slots
from .all_rows import AllRows
from .async_methods import AsyncMethods, N, saver
from .declaration import Declared, ModelBase
from .fields import Field
from .loaders import Loader
from .metadata import RowPlan
from .operations import ModelDelete, ModelInsert, ModelQuery, ModelUpdate, shortcuts
from .operations.loading_reader import LoadingReader
from .operations.rows import as_keys, as_rows
from .sync_driver import run
from .types import OF_MODEL, TTL, OfModel

__all__ = ["CacheBuilder", "Model"]


class Model(AsyncMethods, AllRows, metaclass=ModelBase):
    """A row of typed fields, stored under its primary key.

    Declare fields as class attributes and options in an inner ``class Meta``::

        class User(co.Model):
            id = co.IntegerField(primary_key=True)
            name = co.StringField()

            class Meta:
                backend = "redis://localhost"
                ttl = 3600

    Meta options: ``primary_key`` (a :class:`CompositeKey`), ``backend`` (instance or URL), ``serializer`` (instance
    or registered name), ``ttl`` (seconds; ``None``, the default, is that of the backend, 600 or 300 seconds; 0
    never expires), ``ttl_jitter`` (the fraction of the ttl by which lifetimes are shortened at random, so that rows
    written together do not expire together), ``name`` and ``namespace`` (both part of the key), ``on_invalid``
    (``"raise"`` or ``"miss"``: how bytes that are no row of the model are treated), ``accepts`` (further
    serializers, or their names, whose payloads the model reads), ``version`` (of the schema: a row of another
    version is no row of the model), ``upgrade`` (a function of a version and a dict of stored forms, which turns rows
    of older versions into today's; as a ``@staticmethod``), ``version_in_key`` (whether the version is part of the
    key), ``loader`` and ``aloader`` (functions that load the rows that a read does not find in the cache, or names of
    class methods), ``negative_ttl``, ``lease`` and ``max_loads`` (for how many seconds misses are remembered and others
    wait for a load, and how many loader calls run at a time in the process), ``refresh_after`` (after how many seconds
    a row is loaded anew behind the answer), ``keep_stale`` (for how many seconds past its ttl a row is kept, to be
    given if the loader fails), ``retry_after`` and ``loader_timeout`` (for how many seconds no loader is called for a
    row after it has failed, and after how many it counts as late), ``compress`` (``"zstd"``, or a :class:`Zstd` with
    options), ``memory_limit`` (bytes of memory that a row may take as it is read), ``abstract``. All but ``name``,
    ``primary_key`` and ``abstract`` are inherited.

    Without a primary key of its own a model gets ``id = UUIDField(primary_key=True, default=uuid.uuid4)``.

    Instances keep their values in slots: an attribute that is no field cannot be set. A subclass that needs
    other attributes declares ``__slots__`` for them, or ``__slots__ = ("__dict__",)``.

    Args:
        values: field values, foreign keys also under their id name. They are converted and checked
            when the row is written.

    Raises:
        TypeError: a name that no field has.
    """

    __slots__ = ("__weakref__", "_changes", "_loaded")

    _meta: ClassVar[RowPlan]
    _declared: ClassVar[Declared]
    _plain_init: ClassVar[bool]
    """Whether instances can be made without calling ``__init__``: not if a subclass has its own."""
    _sealed: ClassVar[bool]
    """Whether instances hold fields only: not if a class has slots, a ``__dict__`` or a ``__new__`` of its own."""
    DoesNotExist: ClassVar[type[errors.DoesNotExist]]
    _related: ClassVar[Any]
    _assigned: ClassVar[Any]
    """The slot that keeps which fields were changed since the row was read or stored; see ``_speedups/rows/``."""
    _loading_reader: ClassVar[Any] = LoadingReader
    """What reads single rows of models that have loaders."""

    # -- operations, to be executed --------------------------------------------------------------

    @classmethod
    def insert(cls, /, **values: Any) -> ModelInsert[Self]:
        """Write one row, replacing any row with its key; returns the instance on execute."""
        return ModelInsert(cls._meta, [values], False)

    @classmethod
    def insert_many(cls, *rows: Any) -> ModelInsert[list[Self]]:
        """Write rows; returns the instances on execute, and the same objects for instances that were passed.

        Args:
            rows: dicts and instances, or one iterable of them.
        """
        return ModelInsert(cls._meta, as_rows(rows), True)

    @classmethod
    def query(cls, /, **pk: Any) -> ModelQuery[Self | None]:
        """Read one row by its primary key; returns the instance or ``None`` on execute."""
        return ModelQuery(cls._meta, [pk], False)

    @classmethod
    def query_many(cls, *pks: Any) -> ModelQuery[list[Self | None]]:
        """Read rows by their primary keys; returns a list in the order asked on execute, with ``None`` for misses.

        Args:
            pks: primary keys (tuples for composite ones), dicts of the key fields and instances, or one iterable of
                them.
        """
        return ModelQuery(cls._meta, as_keys(cls._meta, pks), True)

    @classmethod
    def update(cls, /, **pk_and_changes: Any) -> ModelUpdate[Self | None]:
        """Change the named fields of one row; returns the whole row on execute, or ``None`` if it does not exist."""
        return ModelUpdate(cls._meta, [pk_and_changes], False)

    @classmethod
    def update_many(cls, *rows: Any) -> ModelUpdate[list[Self | None]]:
        """Change the named fields of rows; returns a list in the order given on execute, ``None`` for rows not found.

        Args:
            rows: dicts of key fields and changes and instances, or one iterable of them. Of an instance, the changes
                are those that its ``save()`` writes.
        """
        return ModelUpdate(cls._meta, as_rows(rows), True)

    @classmethod
    def delete(cls, /, **pk: Any) -> ModelDelete[bool]:
        """Remove one row; returns whether it existed on execute."""
        return ModelDelete(cls._meta, [pk], False)

    @classmethod
    def delete_many(cls, *pks: Any) -> ModelDelete[bool]:
        """Remove rows; returns ``True`` on execute only if all of them existed. All are removed either way.

        Args:
            pks: primary keys (tuples for composite ones), dicts of the key fields and instances, or one iterable of
                them.
        """
        return ModelDelete(cls._meta, as_keys(cls._meta, pks), True)

    # -- shortcuts that execute at once ----------------------------------------------------------

    @classmethod
    def create(cls, /, **values: Any) -> Self:
        """Make an instance and write it, replacing any row with its key.

        A model that overrides ``save()`` is written by ``save(force_insert=True)``, here and by :meth:`get_or_create`.
        """
        return run(shortcuts.create(cls, values, saver(cls, "save")))

    @classmethod
    def get(cls, /, **pk: Any) -> Self:
        """Read one row.

        Raises:
            DoesNotExist: there is none.
        """
        found: Self | None = cls._meta.reader.read(pk)
        if found is None:
            raise cls._meta.missing(pk)
        return found

    @classmethod
    def get_by_id(cls, pk: Any) -> Self:
        """Read the row with this primary key (a tuple for composite keys).

        Raises:
            DoesNotExist: there is none.
        """
        found = cls._read(pk)
        if found is None:
            raise cls._meta.missing(cls._meta.row_of(pk))
        return found

    @classmethod
    def _read(cls, pk: Any) -> Self | None:
        # What foreign keys call: a model may have a field with the name of any method.
        found: Self | None = cls._meta.reader.read(cls._meta.row_of(pk))
        return found

    @classmethod
    def get_or_none(cls, /, **pk: Any) -> Self | None:
        """Read one row; ``None`` if there is none."""
        found: Self | None = cls._meta.reader.read(pk)
        return found

    @classmethod
    def get_many(
        cls, pks: Iterable[Any], *, loader: Loader | None = None, cached_only: bool = False
    ) -> dict[Any, Self]:
        """Read rows by primary key.

        Args:
            pks: primary keys, tuples for composite ones.
            loader: loads the rows that are not in the cache, instead of the loader of the model, if that has one; see
                :meth:`ModelQuery.load_missing <cacheorm.operations.ModelQuery.load_missing>`.
            cached_only: whether to ask the cache alone.

        Returns:
            The rows found, by the primary keys as they were given (lists as tuples).

        Raises:
            TypeError: no iterable of keys, or a text, which would be read as one key per character.
            ValueError: ``cached_only`` with a ``loader``.
        """
        return run(shortcuts.get_many(cls, pks, loader, cached_only))

    @classmethod
    def get_or_create(cls, defaults: Mapping[str, Any] | None = None, /, **values: Any) -> tuple[Self, bool]:
        """Read the row, or create it if there is none. Of concurrent callers, one creates it and all get its row.

        Args:
            defaults: values used only to create the row. They may be given by name, as ``defaults={...}``, unless the
                model has a field that is called ``defaults``.
            values: the primary key, and values to create the row with.

        Returns:
            The row, and whether this call created it.
        """
        return shortcuts.get_or_create(cls, defaults, values, saver(cls, "save")).execute()

    @classmethod
    def get_or_load(
        cls,
        pk: Any,
        loader: Callable[[Any], Any],
        *,
        ttl: TTL = None,
        negative_ttl: TTL | OfModel = OF_MODEL,
        lease: TTL | OfModel = OF_MODEL,
    ) -> Self | None:
        """Read the row, or load and store it if it is missing. Of concurrent callers, one loads it and all get it.

        Args:
            pk: the primary key, a tuple for composite ones.
            loader: called with the primary key if the row is not in the cache. It returns a dict, an instance, or
                ``None`` if there is no such row.
            ttl: lifetime of a loaded row, seconds or a ``timedelta``; ``None``: the model's.
            negative_ttl: seconds for which it is remembered that there is no row; ``None``: it is not remembered. The
                default is the model's.
            lease: as for :meth:`ModelQuery.load_missing <cacheorm.operations.ModelQuery.load_missing>`.

        Returns:
            The row, ``None`` if it does not exist.

        Raises:
            ValidationError, TypeError: a primary key of the wrong type; what was loaded is no row of the model.
            ValueError: the loader returned another row than it was asked for.
            BackendError: the cache cannot be read; the loader was not called.
            WriteError: the row was not stored; ``rows`` of the error is the row.

            An error of the loader reaches all callers of this process that wait for it, each as a copy of its own;
            nothing is stored then.
        """
        return shortcuts.get_or_load(cls, pk, loader, ttl, negative_ttl, lease).execute()

    @classmethod
    def set_by_id(cls, pk: Any, values: Mapping[str, Any]) -> Self:
        """Change fields of the row with this primary key; return the whole row.

        Raises:
            DoesNotExist: there is none.
        """
        return run(shortcuts.set_by_id(cls, pk, values))

    @classmethod
    def delete_by_id(cls, pk: Any) -> bool:
        """Remove the row with this primary key.

        Raises:
            DoesNotExist: there is none.
        """
        return run(shortcuts.delete_by_id(cls, pk))

    @overload
    @classmethod
    def increment(cls, pk: Any, field: Field[N], by: int | float | Decimal = 1) -> N: ...
    @overload
    @classmethod
    def increment(cls, pk: Any, field: Field[N | None], by: int | float | Decimal = 1) -> N: ...
    @overload
    @classmethod
    def increment(cls, pk: Any, field: str, by: int | float | Decimal = 1) -> Any: ...
    @classmethod
    def increment(cls, pk: Any, field: Any, by: Any = 1) -> Any:
        """Add to a field of a row atomically, and return its new value. The row keeps its lifetime.

        Args:
            pk: the primary key (a tuple for composite keys).
            field: a field that holds numbers, or its name.
            by: what to add, positive or negative.

        Raises:
            DoesNotExist: there is no such row.
            TypeError: the field holds no numbers, or ``by`` is no number that can be added to them.
            ValueError: the model has no such field, the field is null, or the field does not take the sum.
            ConflictError: the row was changed by others at each try.
        """
        return run(shortcuts.increment(cls, pk, field, by))

    @classmethod
    def expire_many(cls, pks: Iterable[Any], ttl: TTL = None) -> dict[Any, bool]:
        """Set the lifetime of stored rows anew.

        They are read for that, but decoded only with ``on_invalid = "miss"``: what is stored may be a remembered miss.

        Args:
            pks: primary keys, tuples for composite ones.
            ttl: seconds or a ``timedelta``; 0 never expires; ``None`` is the model's ttl.

        Returns:
            Whether each row exists, by the primary keys as they were given (lists as tuples).

        Raises:
            TypeError: no iterable of keys, or a text, which would be read as one key per character.
        """
        return run(shortcuts.expire_many(cls, pks, ttl))

    @classmethod
    def exists(cls, /, **pk: Any) -> bool:
        """Return whether the row is in the cache, which is asked alone, also by models that have a loader.

        What is stored is fetched, as it may be a remembered miss or a lease.
        """
        return run(shortcuts.exists(cls, pk))

    @classmethod
    def key(cls, /, **pk: Any) -> str:
        """Return the backend key of a row.

        Raises:
            ValidationError: a part of the primary key is missing or of the wrong type.
        """
        return cls._meta.key_of(pk)


# Reads the slot of loaded related rows as None if nothing was loaded. Code that reads it for every row of a batch needs
# this: an AttributeError that is raised and caught would cost more than the rest.
Model._related = slots.taken_from(Model, "_loaded")
Model._assigned = slots.taken_from(Model, "_changes")


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
        """Return the backend key.

        Raises:
            ValidationError: (a :exc:`ValueError`) a part of the primary key is missing.
        """
        return self.model._meta.key_of(self._instance)
