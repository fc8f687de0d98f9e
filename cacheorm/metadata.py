"""What is known of a model once its class exists: Meta options, and one unchanging :class:`RowPlan`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._speedups import adopt, keys
from .backends import BaseBackend, SimpleBackend, backend_from_url
from .fields import CompositeKey, Field, ForeignKeyField
from .serializers import BaseSerializer, registry
from .types import check_ttl

if TYPE_CHECKING:
    from .models import Model

__all__ = [
    "NOT_INHERITED",
    "Defaults",
    "Options",
    "RowPlan",
    "bind",
    "configure",
    "defaults",
    "resolve_backend",
    "resolve_serializer",
]

_backends_by_url: dict[str, BaseBackend] = {}
_lock = threading.RLock()


def resolve_backend(backend: BaseBackend | str | None) -> BaseBackend | None:
    """Give the backend of a Meta option: models that name the same URL share one backend.

    Raises:
        TypeError: neither a backend nor a URL.
        ValueError: a URL that no backend knows.
    """
    if isinstance(backend, str):
        with _lock:
            known = _backends_by_url.get(backend)
            if known is None:
                known = _backends_by_url[backend] = backend_from_url(backend)
            return known
    # Anything that behaves like a backend will do: people wrap theirs to count, trace and time.
    if backend is None or (not isinstance(backend, type) and all(hasattr(backend, one) for one in _NEEDED)):
        return backend
    what = f"the class {backend.__name__}" if isinstance(backend, type) else type(backend).__name__
    raise TypeError(f"backend must be a backend instance or a URL, got {what}")


# What the drivers' own clients, which are no backends, do not have.
_NEEDED = ("get_many", "set_many", "get_chunks", "chunk_size")


def resolve_serializer(serializer: BaseSerializer | str | None) -> BaseSerializer | None:
    """Give the serializer of a Meta option.

    Raises:
        TypeError: neither a serializer nor a name.
        ValueError: a name that nothing is registered under.
    """
    if isinstance(serializer, str):
        found = registry.get_by_name(serializer)
        if found is None:
            known = ", ".join(registry.names())
            raise ValueError(f"no serializer is registered as {serializer!r}; registered are: {known}")
        return found
    if serializer is None or isinstance(serializer, BaseSerializer):
        return serializer
    raise TypeError(f"serializer must be a registered name or a BaseSerializer, got {type(serializer).__name__}")


class Defaults:
    """What models without a backend or serializer of their own use; :func:`configure` sets it."""

    def __init__(self) -> None:
        self._backend: BaseBackend | None = None
        self._serializer: BaseSerializer | None = None
        # Plans remember what they resolved to for as long as this number stays the same.
        self.generation = 0

    @property
    def backend(self) -> BaseBackend:
        """The process's default backend: an in-memory one until another is configured."""
        with _lock:  # two threads that came first would each write to a backend of its own
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
        """Set the defaults that are given, and make every plan resolve its own anew."""
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
        TypeError, ValueError: what is given is neither; nothing is changed.
    """
    defaults.set(resolve_backend(backend), resolve_serializer(serializer))


NOT_INHERITED = ("name", "primary_key", "abstract")
"""Options that a model does not hand down to its subclasses."""


class Options(NamedTuple):
    """The Meta options of a model, checked."""

    name: str | None = None
    namespace: str | None = None
    backend: BaseBackend | None = None
    serializer: BaseSerializer | None = None
    ttl: int | None = None
    ttl_jitter: float = 0.0
    on_invalid: str = "raise"
    primary_key: CompositeKey | None = None
    abstract: bool = False

    @classmethod
    def check(cls, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Give the options of a Meta class as they are used: URLs and names resolved, what is left out dropped.

        Raises:
            TypeError: an unknown option, or one of the wrong type.
            ValueError: an option with an impossible value.
        """
        known = cls._fields
        for option in given:
            if option not in known:
                from difflib import get_close_matches

                close = get_close_matches(option, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; known are: {', '.join(sorted(known))}"
                raise TypeError(f"{model}.Meta has no option {option!r}{hint}")
        checks: dict[str, Callable[[Any], Any]] = {
            "backend": resolve_backend,
            "serializer": resolve_serializer,
            "ttl": lambda ttl: None if ttl is None else check_ttl(ttl),
            "ttl_jitter": _check_jitter,
            "on_invalid": _check_on_invalid,
            "name": _check_name,
            "namespace": _check_name,
            "primary_key": _check_primary_key,
            "abstract": _check_abstract,
        }
        values = {}
        for option, value in given.items():
            try:
                checked = checks[option](value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{model}.Meta.{option}: {error}") from error
            if checked is not None or option not in ("backend", "serializer"):
                values[option] = checked
        return values


def _check_abstract(abstract: bool) -> bool:
    if not isinstance(abstract, bool):
        raise TypeError(f"expected True or False, got {type(abstract).__name__}")
    return abstract


def _check_jitter(jitter: Any) -> float:
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        raise ValueError("expected a fraction from 0 to 1")
    return float(jitter)


def _check_on_invalid(what: Any) -> str:
    if what not in ("raise", "miss"):
        raise ValueError("expected 'raise' or 'miss'")
    return str(what)


def _check_name(name: Any) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise TypeError("expected a text that is not empty")
    return name


def _check_primary_key(key: Any) -> CompositeKey | None:
    if key is not None and not isinstance(key, CompositeKey):
        raise ValueError("required primary key: expected a CompositeKey, or a field with primary_key=True")
    return key


class _Resolved(NamedTuple):
    generation: int
    backend: BaseBackend
    serializer: BaseSerializer
    codec: Any


class RowPlan:
    """How rows of one model become keys and payloads: all that can be known when the class is created.

    A plan never changes; binding a model to another backend gives it a new one.

    Attributes:
        model: the model class.
        options: its Meta options.
        fields: its fields by name, in declaration order.
        key_fields: those of the primary key, in key order.
        composite: its composite key, or ``None``.
        names: the field for every name a row may use, foreign keys under two.
        identity: finds primary keys in rows and makes keys.
        reader: reads one row, the shortest way.
    """

    def __init__(
        self,
        model: type[Model],
        options: Options,
        fields: Mapping[str, Field[Any]],
        key_fields: tuple[Field[Any], ...],
        composite: CompositeKey | None,
    ) -> None:
        self.model = model
        self.options = options
        self.fields = fields
        self.key_fields = key_fields
        self.composite = composite
        self.names = {name: one for one in fields.values() for name in one.accepted_names}
        self.references = tuple(one for one in fields.values() if isinstance(one, ForeignKeyField))
        self._adopter = adopt.Adopter(model, self.names, self.references)
        self.identity: Any = keys.Identity(model, key_fields, self.prefix, (composite or key_fields[0]).index_formatter)
        self._resolved: _Resolved | None = None
        self.reader = keys.RowReader(self.identity, self.resolved, defaults)
        if options.serializer is not None:
            self._check(options.backend, options.serializer)

    # -- what users look at ----------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's name in keys."""
        return self.options.name or self.model.__name__.lower()

    @property
    def prefix(self) -> str:
        """What the model's keys start with."""
        prefix = f"m:{keys.escape(self.name)}"
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

    # -- what operations use ---------------------------------------------------------------------

    def resolved(self) -> _Resolved:
        """Give backend, serializer and codec, with the process's defaults filled in."""
        # Read before the defaults: if they change meanwhile, the next call resolves again.
        generation = defaults.generation
        resolved = self._resolved
        if resolved is not None and resolved.generation == generation:
            return resolved
        backend = defaults.backend if self.options.backend is None else self.options.backend
        serializer = defaults.serializer if self.options.serializer is None else self.options.serializer
        self._check(backend, serializer)
        codec = serializer.row_codec(
            self.model,
            tuple(self.fields.values()),
            self.key_fields,
            self.identity,
            self.options.on_invalid == "miss",
        )
        resolved = _Resolved(generation, backend, serializer, codec)
        self._resolved = resolved
        return resolved

    def _check(self, backend: BaseBackend | None, serializer: BaseSerializer) -> None:
        """Refuse a serializer that cannot hold these rows, or must not on this backend."""
        name = self.model.__name__
        if backend is not None and serializer.trusted_only and not getattr(backend, "in_process", False):
            raise TypeError(
                f"{name}: pickle on {type(backend).__name__} is refused, because whoever can write to it could "
                "run code here; use msgpack or json, or signed pickles: co.PickleSerializer(secret=...)"
            )
        serializer.check_fields(name, [one for one in self.fields.values() if one not in self.key_fields])

    def adopt(self, rows: Iterable[Any]) -> list[Any]:
        """Turn rows, mappings or instances, into instances."""
        instances: list[Any] = self._adopter.adopt(rows)
        return instances

    def unknown_name(self, name: str) -> TypeError:
        """Give the error for a name that no field has."""
        from difflib import get_close_matches

        close = get_close_matches(name, self.names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has: {', '.join(self.names)}"
        return TypeError(f"{self.model.__name__} has no field {name!r}{hint}")

    def not_a_row(self, row: Any) -> TypeError:
        """Give the error for something that is neither a mapping nor an instance of the model."""
        name = self.model.__name__
        return TypeError(f"{name}: a row is a dict or an instance of {name}, got {type(row).__name__}")

    def row_of(self, pk: Any) -> dict[str, Any]:
        """Give the row that names a primary key, from its value or tuple of values.

        Raises:
            TypeError, ValueError: a composite key that is no tuple, or of the wrong length.
        """
        parts = (pk,) if self.composite is None else self.composite.check(pk)
        return {one.name: part for one, part in zip(self.key_fields, parts, strict=True)}

    def pick_ttl(self) -> int | None:
        """Give the lifetime for a write: the model's, less a random part of its jitter."""
        ttl = self.options.ttl
        if not ttl or not self.options.ttl_jitter:
            return ttl
        return max(1, round(ttl * (1 - self.options.ttl_jitter * random.random())))  # noqa: S311

    def rebind(self, backend: BaseBackend | None, serializer: BaseSerializer | None) -> RowPlan:
        """Give the plan of the same model on another backend or serializer."""
        options = self.options._replace(
            backend=self.options.backend if backend is None else backend,
            serializer=self.options.serializer if serializer is None else serializer,
        )
        return RowPlan(self.model, options, self.fields, self.key_fields, self.composite)


class bind:  # noqa: N801 - it is called like a function, and used as a context manager like one
    """Bind models to another backend or serializer, at once; as a context manager, until its end.

    Args:
        models: model classes.
        backend: a backend or a URL; ``None`` leaves each model's own.
        serializer: a serializer or a registered name; ``None`` leaves each model's own.

    Raises:
        TypeError, ValueError: an argument is wrong, or a model refuses the combination; no model is changed.
    """

    def __init__(
        self,
        models: Iterable[type[Model]],
        backend: BaseBackend | str | None = None,
        serializer: BaseSerializer | str | None = None,
    ) -> None:
        found, packer = resolve_backend(backend), resolve_serializer(serializer)
        self._before = {model: model._meta for model in models}
        plans = {model: plan.rebind(found, packer) for model, plan in self._before.items()}
        for model, plan in plans.items():
            model._meta = plan

    def __enter__(self) -> bind:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for model, plan in self._before.items():
            model._meta = plan
