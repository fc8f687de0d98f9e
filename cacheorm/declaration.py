"""From a class statement to a model: collects fields, settles the primary key, lays out the slots."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import errors
from .fields import CompositeKey, Field, UUIDField
from .metadata import Options, RowPlan
from .registry import register

if TYPE_CHECKING:
    from .models import Model

__all__ = ["Declared", "ModelBase"]


@dataclass(frozen=True)
class Declared:
    """What a model class, abstract or not, hands down to its subclasses."""

    options: Options
    fields: dict[str, Field[Any]]
    composite: CompositeKey | None


class ModelBase(type):
    """The metaclass of models."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> ModelBase:
        if not any(isinstance(base, ModelBase) for base in bases):
            return super().__new__(mcs, name, bases, namespace, **kwargs)
        return _declare(super().__new__, mcs, name, bases, namespace, kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name == "_meta":
            raise AttributeError(f"{cls.__name__} is abstract and has no rows: declare a model that inherits it")
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")

    def __repr__(cls) -> str:
        return f"<Model: {cls.__name__}>"


def _declare(
    create: Callable[..., ModelBase],
    mcs: type[ModelBase],
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    kwargs: dict[str, Any],
) -> ModelBase:
    """Create a model class.

    Raises:
        TypeError: an unknown Meta option, two concrete bases, or keys that another model writes.
        ValueError: no primary key, or more than one.
    """
    parents: list[Declared] = [base._declared for base in bases if hasattr(base, "_declared")]
    concrete = [base for base in bases if hasattr(base, "_meta")]
    if len(concrete) > 1:
        raise TypeError(
            f"{name} inherits two models that have rows ({', '.join(base.__name__ for base in concrete)}): "
            "make all but one of them abstract (Meta.abstract = True)"
        )
    given = _meta_options(namespace.get("Meta"))
    options = Options.parse(name, given, parents[0].options if parents else None)
    if options.abstract and concrete:
        raise TypeError(
            f"{name} is abstract and inherits {concrete[0].__name__}, which has rows: make that one abstract"
        )
    own = _own_fields(namespace)
    fields = _all_fields(parents, own, namespace)
    composite = _settle_key(name, fields, own, options, parents)
    if not options.abstract:
        fields = _with_key(name, fields, composite)

    members = {field.name: field.member for field in concrete[0]._meta.fields.values()} if concrete else {}
    hidden = {} if options.abstract else {one: f"_value_{one}" for one in fields if one not in members}
    extra = namespace.get("__slots__", ())
    namespace["__slots__"] = (*hidden.values(), *((extra,) if isinstance(extra, str) else extra))
    namespace.update(fields)
    namespace["_declared"] = Declared(options, fields, composite)
    if composite is not None:
        namespace["__composite_key__"] = composite
    cls: Any = create(mcs, name, bases, namespace, **kwargs)
    for one, slot in hidden.items():
        # The slot stays in the instances; only the class forgets its second name.
        members[one] = cls.__dict__[slot]
        delattr(cls, slot)
    if options.abstract:
        for one, field in fields.items():
            field.name, field.model = one, cls
        return cls  # type: ignore[no-any-return]
    for one, field in fields.items():
        field.bind(cls, one, members[one])
    _give_exception(cls)
    _complete(cls, options, fields, composite)
    return cls  # type: ignore[no-any-return]


def _complete(
    cls: type[Model], options: Options, fields: dict[str, Field[Any]], composite: CompositeKey | None
) -> None:
    if composite is not None:
        composite.bind(cls)
        key_fields = tuple(fields[one] for one in composite.field_names)
    else:
        key_fields = tuple(field for field in fields.values() if field.primary_key)
    taken: dict[str, str] = {}
    for one, field in fields.items():
        for accepted in set(field.accepted_names):
            if accepted in taken:
                raise ValueError(f"{cls.__name__}: {taken[accepted]} and {one} both use the name {accepted!r}")
            taken[accepted] = one
    plan = RowPlan(cls, options, fields, key_fields, composite)
    cls._meta = plan
    register(plan)


def _meta_options(meta: type | None) -> dict[str, Any]:
    return {one: getattr(meta, one) for one in dir(meta) if not one.startswith("_")} if meta else {}


def _own_fields(namespace: dict[str, Any]) -> dict[str, Field[Any]]:
    # A field object that another model has already is copied: it holds that model's slot.
    return {
        one: value if value.model is None else value.clone()
        for one, value in namespace.items()
        if isinstance(value, Field)
    }


def _all_fields(
    parents: list[Declared], own: dict[str, Field[Any]], namespace: dict[str, Any]
) -> dict[str, Field[Any]]:
    fields: dict[str, Field[Any]] = {}
    for parent in reversed(parents):
        # A name that the subclass uses for something else is no field any more.
        fields |= {one: field for one, field in parent.fields.items() if one in own or one not in namespace}
    return {one: own[one] if one in own else field.clone() for one, field in {**fields, **own}.items()}


def _settle_key(
    name: str,
    fields: dict[str, Field[Any]],
    own: dict[str, Field[Any]],
    options: Options,
    parents: list[Declared],
) -> CompositeKey | None:
    """Give the composite key, if there is one, and leave ``primary_key`` on the key field only."""
    own_keys = [one for one, field in own.items() if field.primary_key]
    if len(own_keys) + (options.primary_key is not None) > 1:
        parts = [*own_keys, *(["Meta.primary_key"] if options.primary_key else [])]
        raise ValueError(f"over-determined primary key of {name}: {', '.join(parts)}")
    composite = options.primary_key
    if own_keys or composite is not None:
        for one, field in fields.items():
            if field.primary_key and one not in own_keys:
                field.primary_key, field.index_formatter = False, None
    else:
        inherited = {parent.composite.field_names: parent.composite for parent in parents if parent.composite}
        keys = [one for one, field in fields.items() if field.primary_key]
        if len(inherited) + len(keys) > 1:
            raise ValueError(f"over-determined primary key of {name}: its bases bring different ones")
        composite = next((key for key in inherited.values()), None)
    return composite.clone() if composite is not None else None


def _with_key(name: str, fields: dict[str, Field[Any]], composite: CompositeKey | None) -> dict[str, Field[Any]]:
    """Give the fields of a model with rows: it has a primary key, ``id`` if it declares none."""
    if composite is not None:
        for one in composite.field_names:
            if one not in fields:
                raise ValueError(f"{name}: its composite key names {one!r}, which is no field of it")
            if fields[one].null:
                raise ValueError(f"{name}.{one}: a part of the primary key cannot be null")
        return fields
    if any(field.primary_key for field in fields.values()):
        return fields
    if "id" in fields:
        raise ValueError(f"{name}: required primary key: none of its fields has primary_key=True")
    return {"id": UUIDField(primary_key=True, default=uuid.uuid4), **fields}


def _give_exception(cls: Any) -> None:
    parent = getattr(cls, "DoesNotExist", errors.DoesNotExist)
    cls.DoesNotExist = type(
        "DoesNotExist",
        (parent,),
        {"__module__": cls.__module__, "__qualname__": f"{cls.__qualname__}.DoesNotExist"},
    )
