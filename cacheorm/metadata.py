"""The plan of a model, which holds all that is known once its class exists; and the defaults of the process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._speedups import adopt, keys
from .aging import Aging
from .backends import BaseBackend, SimpleBackend
from .errors import DoesNotExist, ShapeError, ValidationError, did_you_mean
from .fields import CompositeKey, Field, ForeignKeyField
from .fields.base import check_aliases
from .loaders import Loaders, LoadLimit, Paused
from .model_registry import refuse_same_keys, registered_plans
from .options import Options, resolve_backend, resolve_serializer
from .serializers import BaseSerializer, Envelope, registry

if TYPE_CHECKING:
    from .models import Model

__all__ = [
    "Defaults",
    "RowPlan",
    "bind",
    "configure",
    "defaults",
]

_lock = threading.RLock()


class Defaults:
    """The backend and serializer of models without their own; :func:`configure` sets them."""

    def __init__(self) -> None:
        self._backend: BaseBackend | None = None
        self._serializer: BaseSerializer | None = None
        # Plans keep the backend and serializer that they resolved until this number changes.
        self.generation = 0

    @property
    def chosen_backend(self) -> BaseBackend | None:
        """The process's default backend if there is one yet."""
        return self._backend

    @property
    def backend(self) -> BaseBackend:
        """The process's default backend: an in-memory one until another is configured."""
        with _lock:  # otherwise two threads might each make one
            if self._backend is None:
                self._backend = SimpleBackend()
            return self._backend

    @property
    def serializer(self) -> BaseSerializer:
        """The process's default serializer: msgpack until another is configured."""
        if self._serializer is None:
            self._serializer = registry.get_by_name("msgpack")
            if self._serializer is None:
                raise ValueError("the msgpack serializer was unregistered: configure another default")
        return self._serializer

    def set(self, backend: BaseBackend | None, serializer: BaseSerializer | None) -> None:
        """Set the defaults that are not ``None``, and make every plan resolve its own anew."""
        # Compared with None: a backend may have a length, and be empty.
        self._backend = self._backend if backend is None else backend
        self._serializer = self._serializer if serializer is None else serializer
        self.generation += 1


defaults = Defaults()


def configure(backend: BaseBackend | str | None = None, serializer: BaseSerializer | str | None = None) -> None:
    """Set the backend and serializer of all models that declare none.

    Args:
        backend: a backend or a URL; ``None`` leaves it as it is.
        serializer: a serializer or a registered name; ``None`` leaves it as it is.

    Raises:
        TypeError, ValueError: what is given is neither, or a model would write the keys of another to the same backend;
            nothing is changed.
    """
    new_backend, new_serializer = resolve_backend(backend), resolve_serializer(serializer)
    if new_backend is not None:
        # Those with a backend of their own, since all others have shared one before.
        refuse_same_keys([plan for plan in registered_plans() if plan.options.backend is new_backend], new_backend)
    defaults.set(new_backend, new_serializer)


class _Resolved(NamedTuple):
    generation: int
    backend: BaseBackend
    serializer: BaseSerializer
    codec: Any


class RowPlan:
    """How rows of one model become keys and payloads: all that can be computed when the class is created.

    A plan is immutable: binding a model to another backend makes a new one.

    Attributes:
        model: the model class.
        options: its Meta options.
        fields: its fields by name, in declaration order.
        every_field: the same fields.
        key_fields: those of the primary key, in key order.
        key_bits: the bits of those in the mask of the fields that were assigned.
        tracker: the slot that keeps that mask.
        id_names: the names of foreign keys other than those of fields.
        related: the slot of the dicts of related instances, ``None`` without foreign keys.
        composite: its composite key, or ``None``.
        names: the field for every name that a row may use; foreign keys have two names.
        identity: finds primary keys in rows and makes keys.
        reader: reads one row with as few calls as possible.
        loaders: the functions that load missing rows, ``None`` without.
        load_limit: how many loader calls run at a time in this process, ``None`` for any number.
        aging: how old rows may become, ``None`` if they have no ages.
        paused: the keys whose rows are not loaded anew for a while.
    """

    def __init__(
        self,
        model: type[Model],
        options: Options,
        fields: Mapping[str, Field[Any]],
        key_fields: tuple[Field[Any], ...],
        composite: CompositeKey | None,
        load_limit: LoadLimit | None = None,
        aging: Aging | None = None,
    ) -> None:
        options.check_version(model.__name__)
        options.check_loading(model.__name__)
        check_aliases(model.__name__, fields.values(), key_fields)
        self.model = model
        self.options = options
        self.fields = fields
        self.every_field = tuple(fields.values())
        self.key_fields = key_fields
        self.key_bits = sum(field.bit for field in key_fields)
        self.composite = composite
        self.names = {name: field for field in fields.values() for name in field.accepted_names}
        self.references = tuple(field for field in fields.values() if isinstance(field, ForeignKeyField))
        # The second names of foreign keys; a row that has one may contradict itself.
        self.id_names = frozenset(field.object_id_name for field in self.references) - fields.keys()
        self.tracker = model._assigned
        self.related = model._related if self.references else None
        self._adopter = adopt.Adopter(model, self.names, self.references)
        formatter = (composite or key_fields[0]).index_formatter
        # The values of most keys need no conversion, and are compared often. References are not looked up yet.
        self._plain_key = None if composite or key_fields[0] in self.references else key_fields[0].converter.key_type
        self.identity: Any = keys.Identity(model, key_fields, self.prefix, formatter, options.key_version)
        self._resolved: _Resolved | None = None
        self.loaders = Loaders.of_model(model, options)
        self.aging: Any = aging or Aging.of_model(options)
        self.paused = Paused()
        if load_limit is None and options.max_loads is not None:
            load_limit = LoadLimit(options.max_loads)
        self.load_limit = load_limit
        self.reader: Any = (
            keys.RowReader(self.identity, self.resolved, defaults)
            if self.loaders is None
            else model._loading_reader(self)
        )
        self._check(options.backend, options.serializer)

    # -- what users may read ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's name in keys."""
        return self.options.name or self.model.__name__.lower()

    @property
    def prefix(self) -> str:
        """What the model's keys start with, unless they are made by an ``index_formatter``."""
        prefix = f"m:{keys.escape(self.name)}"
        if self.options.key_version:
            # What follows the name is otherwise the name of a field, which has no "@".
            prefix += f":{self.options.key_version}"
        namespace = self.options.namespace
        return f"{keys.escape(namespace, colon=True)}:{prefix}" if namespace else prefix

    @property
    def primary_key(self) -> Field[Any] | CompositeKey:
        """The primary-key field, or the composite key."""
        return self.composite or self.key_fields[0]

    @property
    def ttl(self) -> int | None:
        """Lifetime of rows in seconds; ``None`` is the backend's default, 0 never expires."""
        return self.options.ttl

    @property
    def backend(self) -> BaseBackend:
        """The model's backend, or the process's default."""
        return self.resolved().backend

    @property
    def serializer(self) -> BaseSerializer:
        """The model's serializer, or the process's default."""
        return self.resolved().serializer

    @property
    def failed_loads(self) -> int:
        """How often rows could not be loaded anew in this process, and callers got older ones."""
        return 0 if self.aging is None else self.aging.failures

    # -- what operations use ---------------------------------------------------------------------

    def resolved(self) -> _Resolved:
        """Return backend, serializer and codec, with the process's defaults filled in."""
        # Read before the defaults: if they change meanwhile, the next call resolves again.
        generation = defaults.generation
        resolved = self._resolved
        if resolved is not None and resolved.generation == generation:
            return resolved
        backend = defaults.backend if self.options.backend is None else self.options.backend
        serializer = defaults.serializer if self.options.serializer is None else self.options.serializer
        self._check(backend, serializer)
        options = self.options
        envelope = Envelope(
            self.model.__name__,
            serializer,
            options.accepts,
            options.version,
            options.compress,
            options.upgrade,
            self.aging is not None,
        )
        codec = serializer.row_codec(
            self.model,
            tuple(self.fields.values()),
            self.key_fields,
            self.identity,
            self.options.on_invalid == "miss",
            prefix=envelope.prefix,
            unwrap=envelope.unwrap,
            memory_limit=options.memory_limit,
            aging=self.aging,
        )
        resolved = _Resolved(generation, backend, serializer, envelope.wrap(codec, self.identity))
        self._resolved = resolved
        return resolved

    def _check(self, backend: BaseBackend | None, serializer: BaseSerializer | None) -> None:
        """Raise TypeError for a serializer that cannot hold these rows, or that is unsafe on this backend."""
        name = self.model.__name__
        if backend is not None and not getattr(backend, "in_process", False):
            for used in (serializer, *self.options.accepts):
                if getattr(used, "trusted_only", False):
                    raise TypeError(
                        f"{name}: {used} on {type(backend).__name__} is refused, because whoever can write to it could "
                        "run code here; use msgpack or json, or signed pickles: co.PickleSerializer(secret=...)"
                    )
        if serializer is not None:
            serializer.check_fields(name, [field for field in self.fields.values() if field not in self.key_fields])

    def adopt(self, rows: Iterable[Any], changes: bool = False, many: bool = False) -> list[Any]:
        """Return rows as instances; mappings are converted, instances stay the same objects.

        Args:
            rows: mappings and instances.
            changes: whether mappings hold changes of rows that exist: ``__init__`` is not called.
            many: whether errors should say which row it is.
        """
        instances: list[Any] = self._adopter.adopt(rows, changes, many)
        return instances

    def unknown_name(self, name: Any, position: int | None = None) -> ShapeError:
        """Return the error for a name that no field has; ``position`` is that of the row in a bulk call."""
        if not isinstance(name, str):
            what = f"a dict with a name of type {type(name).__name__} (a dict of rows? pass its values())"
            return self.not_a_row(what, position)
        hint = did_you_mean(name, self.names, f"; it has: {', '.join(self.names)}")
        for field in self.every_field:
            if name in field.aliases:
                hint = f"; that is an alias, under which {field.name!r} is stored in older rows"
        return ShapeError(f"{self.model.__name__} has no field {name!r}{hint}", position)

    def not_a_row(self, got: str, position: int | None = None, keys: bool = False) -> ShapeError:
        """Return the error for something in place of a row.

        Args:
            got: what it is.
            position: its position in a bulk call.
            keys: whether a primary key would do.
        """
        name = self.model.__name__
        key = ", ".join(field.name for field in self.key_fields)
        no_key = f", which is no primary key ({key}) either" if keys else ""
        return ShapeError(f"{name}: a row is a dict or an instance of {name}, got {got}{no_key}", position)

    def check_names(self, row: Mapping[str, Any], position: int | None = None) -> None:
        """Check that a row that has both names of a foreign key has the same value under both.

        Raises:
            ValidationError: the values are different; ``position`` is that of the row in a bulk call.
        """
        problems = [
            (field.name, f"{field.name} and {field.object_id_name} contradict each other")
            for field in self.references
            if field.name in row
            and field.object_id_name in row
            and not field.same(row[field.name], row[field.object_id_name])
        ]
        if problems:
            raise ValidationError(self.model.__name__, problems, position)

    def row_of(self, pk: Any) -> dict[str, Any]:
        """Return a primary key, a value or a tuple of values, as ``{field name: value}``.

        Raises:
            TypeError, ValueError: a composite key that is no tuple, or of the wrong length.
        """
        parts = (pk,) if self.composite is None else self.composite.check(pk)
        return {field.name: part for field, part in zip(self.key_fields, parts, strict=True)}

    def canonical_key(self, pk: Any) -> Any:
        """Return a primary key as a read returns it, with the values that its fields do not take as they are.

        Args:
            pk: a value, a tuple of a composite key's, or ``None``.
        """
        if pk is None or type(pk) is self._plain_key:
            return pk
        if self.composite is None:
            return self.key_fields[0].canonical(pk)
        return tuple([field.canonical(part) for field, part in zip(self.key_fields, pk, strict=True)])

    def key_of(self, row: Any) -> str:
        """Return the backend key of a row, a mapping or an instance.

        Raises:
            ValidationError: a part of the primary key is missing or of the wrong type.
        """
        key: str = self.identity.identify_one(row, True)[1]
        return key

    def missing(self, row: Any, related: bool = False) -> DoesNotExist:
        """Return the error for a row that does not exist; ``related`` says whether a foreign key refers to it."""
        kind = self.model.DoesNotExist.Related if related else self.model.DoesNotExist
        return kind(f"{self.model.__name__}: no row under key {self.key_of(row)}")

    def pick_ttl(self) -> int | None:
        """Return the lifetime for a write in seconds: the model's, shortened by a random part of its jitter."""
        ttl = self.options.ttl
        if not ttl or not self.options.ttl_jitter or (self.aging is not None and self.aging.keeps):
            return ttl  # of rows that are kept stale, the headers say when the lifetime of each ends
        import random  # here, as it takes a millisecond to import, and few models need it

        return max(1, round(ttl * (1 - self.options.ttl_jitter * random.random())))  # noqa: S311

    def rebind(self, backend: BaseBackend | None, serializer: BaseSerializer | None) -> RowPlan:
        """Return the plan of the same model on another backend or serializer."""
        options = self.options._replace(
            backend=self.options.backend if backend is None else backend,
            serializer=self.options.serializer if serializer is None else serializer,
        )
        return RowPlan(self.model, options, self.fields, self.key_fields, self.composite, self.load_limit, self.aging)


class bind:  # noqa: N801 - it is called like a function, and used as a context manager like one
    """Bind models to another backend or serializer, at once; as a context manager, until its end.

    Args:
        models: model classes.
        backend: a backend or a URL; ``None`` leaves each model's own.
        serializer: a serializer or a registered name; ``None`` leaves each model's own.

    Raises:
        TypeError, ValueError: an argument is wrong, a model refuses the combination, or two models would write the same
            keys to the same backend; no model is changed.
    """

    def __init__(
        self,
        models: Iterable[type[Model]],
        backend: BaseBackend | str | None = None,
        serializer: BaseSerializer | str | None = None,
    ) -> None:
        new_backend, new_serializer = resolve_backend(backend), resolve_serializer(serializer)
        self._before = {model: model._meta for model in models}
        plans = {model: plan.rebind(new_backend, new_serializer) for model, plan in self._before.items()}
        if new_backend is not None:
            refuse_same_keys(plans.values(), defaults.chosen_backend)
        for model, plan in plans.items():
            model._meta = plan

    def __enter__(self) -> bind:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for model, plan in self._before.items():
            model._meta = plan
