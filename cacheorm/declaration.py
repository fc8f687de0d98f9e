"""The metaclass of models: collects the fields of a class, determines its primary key, and lays out the slots."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import errors
from .class_bodies import annotations_of, check_bodies, check_class, is_field, is_of_class, name_of
from .fields import CompositeKey, Field, UUIDField
from .metadata import RowPlan, defaults
from .model_registry import connect, register
from .options import NOT_INHERITED, Options
from .types import is_model

if TYPE_CHECKING:
    from .models import Model

__all__ = ["Declared", "ModelBase"]


class Declared(NamedTuple):
    """The declaration of a model class, abstract or not, that its subclasses inherit.

    Attributes:
        options: the Meta options that it sets itself.
        own: the fields that it declares itself.
        fields: all its fields.
        composite: its composite key, or ``None``.
    """

    options: dict[str, Any]
    own: dict[str, Field[Any]]
    fields: dict[str, Field[Any]]
    composite: CompositeKey | None


_RESERVED = frozenset(
    {
        "DoesNotExist",
        "Meta",
        "_aread",
        "_assigned",
        "_changes",
        "_declared",
        "_loaded",
        "_loading_reader",
        "_meta",
        "_pk",
        "_plain_init",
        "_read",
        "_related",
        "_relations",
        "_sealed",
        "_set_named",
    }
)


class _Unknown:
    """In place of the plan of a model with rows, until that is known: its parent's plan must not be found."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError("_meta")  # with the text of ModelBase.__getattr__


_UNKNOWN = _Unknown()


class ModelBase(type):
    """The metaclass of models."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> ModelBase:
        if not any(isinstance(base, ModelBase) for base in bases):
            return super().__new__(mcs, name, bases, namespace, **kwargs)
        return _declare(super().__new__, mcs, name, bases, namespace, kwargs)

    def __getattr__(cls, name: str) -> Any:
        if vars(cls).get("_meta") is _UNKNOWN:
            raise AttributeError(
                f"{cls.__name__} is not complete yet: __init_subclass__ and __set_name__ run before its fields are "
                "known; use it after its class statement"
            )
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
        TypeError: a declaration that means something else than it says, an unknown Meta option, two concrete bases, or
            keys that another model writes.
        ValueError: no primary key, or more than one.
    """
    # A base that another base inherits from adds nothing.
    direct = [base for base in bases if not any(other is not base and base in other.__mro__ for other in bases)]
    parents: list[Declared] = [base._declared for base in direct if hasattr(base, "_declared")]
    concrete = [base for base in direct if is_model(base)]
    if len(concrete) > 1:
        raise TypeError(
            f"{name} inherits two models that have rows ({', '.join(base.__name__ for base in concrete)}): "
            "make all but one of them abstract (Meta.abstract = True)"
        )
    ancestors = _ancestors(bases)
    # The classes that its parents inherit: what they declare is inherited, and was checked.
    known = {cls for base in ancestors if isinstance(base, ModelBase) for cls in base.__mro__}
    check_bodies(name, namespace.get("__qualname__", name), namespace, ancestors, known)
    own = _own_fields(name, namespace)
    given = _meta_options(name, namespace.get("Meta"), known)
    inherited_options = _inherited_options(name, ancestors, known)
    if any(field.primary_key for field in own.values()):
        inherited_options.pop("primary_key", None)
    options = Options(**(inherited_options | given))
    if options.abstract and concrete:
        raise TypeError(
            f"{name} is abstract and inherits {concrete[0].__name__}, which has rows: make that one abstract"
        )
    body = set(namespace)
    inherited = _inherited_fields(ancestors)
    # A name that the subclass uses for something else is no longer a field.
    fields = {
        field_name: field for field_name, field in inherited.items() if field_name in own or field_name not in body
    } | own
    composite = _composite_key(name, fields, own, options, parents)
    if not options.abstract:
        fields = _with_primary_key(name, fields, composite, [namespace, *map(vars, ancestors)])
        namespace["_meta"] = _UNKNOWN
    members = {field.name: (field, field.place) for field in concrete[0]._meta.fields.values()} if concrete else {}
    extra = namespace.get("__slots__", ())
    extra = (extra,) if isinstance(extra, str) else (*extra,)
    hidden: dict[str, str] = {}
    for field_name in () if options.abstract else fields:
        if field_name not in members:
            slot = f"_value_{field_name}"
            while slot in namespace or slot in fields or slot in extra or slot in hidden.values():
                slot += "_"
            hidden[field_name] = slot
    namespace["__slots__"] = (*hidden.values(), *extra)
    namespace.update(fields)
    namespace["_declared"] = Declared(given, own, fields, composite)
    if composite is not None:
        namespace["__composite_key__"] = composite
    cls: Any = create(mcs, name, bases, namespace, **kwargs)
    taken = max(
        (field.place for base in cls.__mro__ if is_model(base) for field in base._meta.fields.values()), default=0
    )
    for place, (field_name, slot) in enumerate(hidden.items(), taken + 1):
        # The slot stays in the instances; only its second name is removed from the class.
        members[field_name] = cls.__dict__[slot], place
        delattr(cls, slot)
    root = next(base for base in reversed(cls.__mro__) if isinstance(base, ModelBase))
    if options.abstract:
        for field_name, field in fields.items():
            field.name, field.model = field_name, cls
    else:
        for field_name, field in fields.items():
            field.bind(cls, field_name, *members[field_name])
        _add_does_not_exist(cls)
        cls._plain_init = cls.__init__ is root.__init__  # type: ignore[misc]
        # The slots of fields have been removed from the classes by now; those that are left are others.
        others = [base for base in cls.__mro__ if base is not root and any(map(_is_slot, vars(base).values()))]
        cls._sealed = cls.__new__ is object.__new__ and cls.__dictoffset__ == 0 and not others
        cls._meta = _plan(cls, options, fields, composite, body)
    check_class(cls, root, fields, {field_name for parent in parents for field_name in parent.fields})
    if options.abstract:
        for field in fields.values():
            connect(field, cls)
    else:
        register(cls._meta, defaults.chosen_backend)
    return cls  # type: ignore[no-any-return]


def _is_slot(value: Any) -> bool:
    return type(value) is MemberDescriptorType


def _plan(
    cls: type[Model],
    options: Options,
    fields: dict[str, Field[Any]],
    composite: CompositeKey | None,
    body: set[str],
) -> RowPlan:
    """Return the plan of a model.

    Raises:
        ValueError: two fields use one name, or the primary key refers to its own model.
    """
    if composite is not None:
        composite.bind(cls)
        key_fields = tuple(fields[field_name] for field_name in composite.field_names)
    else:
        key_fields = tuple(field for field in fields.values() if field.primary_key)
    taken: dict[str, str] = {}
    for field_name, field in fields.items():
        for accepted in set(field.accepted_names):
            if accepted in taken:
                raise ValueError(f"{cls.__name__}: {taken[accepted]} and {field_name} both use the name {accepted!r}")
            if accepted not in fields and accepted in body:
                raise ValueError(
                    f"{cls.__name__}: {field_name} gives its id under the name {accepted!r}, which the class uses for "
                    "something else; give the field another object_id_name"
                )
            taken[accepted] = field_name
    for field in fields.values():
        field.in_key = field in key_fields
    for field in key_fields:
        if getattr(field, "target", None) is cls:
            raise ValueError(f"{cls.__name__}.{field.name}: a primary key cannot refer to its own model")
    return RowPlan(cls, options, fields, key_fields, composite)


def _ancestors(bases: tuple[type, ...]) -> list[type]:
    """Return the classes that a new class will inherit, nearest first (https://docs.python.org/3/howto/mro.html).

    The slots of the new class have to be laid out before it exists, so its own ``__mro__`` cannot be used.
    """
    sequences = [*(list(base.__mro__) for base in bases), list(bases)]
    order: list[type] = []
    while sequences := [left for left in sequences if left]:
        heads = [left[0] for left in sequences]
        head = next((cls for cls in heads if not any(cls in left[1:] for left in sequences)), None)
        if head is None:
            return order  # there is no such order; creating the class raises the error
        order.append(head)
        for left in sequences:
            if left[0] is head:
                del left[0]
    return order


def _meta_options(name: str, meta: Any, known: set[type]) -> dict[str, Any]:
    """Return the checked options of a Meta class, with those of the classes it inherits."""
    if meta is None:
        return {}
    if not isinstance(meta, type):
        raise TypeError(f"{name}.Meta must be a class, got {type(meta).__name__}")
    of_parents = {vars(base).get("Meta") for base in known}
    given: dict[str, Any] = {}
    valued: set[str] = set()
    for base in meta.__mro__:
        valued |= vars(base).keys()
        for option, annotation in annotations_of(vars(base)).items():
            if option in Options._fields and option not in valued and not is_of_class(annotation, base.__module__):
                raise TypeError(f"{name}.Meta.{option}: an annotation sets no option; write {option} = and its value")
    for base in reversed(meta.__mro__):
        # class Meta(Base.Meta) repeats what is inherited anyway. Options that are not inherited remain Base's own.
        kept = NOT_INHERITED if base in of_parents else ()
        found = {option: getattr(base, option) for option in vars(base) if option[0] != "_" and option not in kept}
        given |= Options.check(name, found)
    return given


def _inherited_options(name: str, ancestors: list[type], known: set[type]) -> dict[str, Any]:
    """Return the options that a new class has from the Meta classes of its ancestors.

    Those that are not inherited are taken from plain classes alone, by the first model that inherits these.
    """
    options: dict[str, Any] = {}
    for base in reversed(ancestors):
        declared: Declared | None = vars(base).get("_declared")
        found = _meta_options(name, vars(base).get("Meta"), known) if declared is None else declared.options
        options |= {key: value for key, value in found.items() if base not in known or key not in NOT_INHERITED}
    return options


def _own_fields(name: str, namespace: dict[str, Any]) -> dict[str, Field[Any]]:
    own: dict[str, Field[Any]] = {}
    for field_name, value in namespace.items():
        if not is_field(value):
            continue
        if field_name in _RESERVED or field_name.startswith("__"):
            raise ValueError(f"{name}: a field cannot be called {field_name!r}, every model uses that name itself")
        # A field object that is in use already is copied: it holds the slot of another field.
        in_use = value.model is not None or any(value is other for other in own.values())
        own[field_name] = value.clone() if in_use else value
    return own


def _inherited_fields(ancestors: list[type]) -> dict[str, Field[Any]]:
    """Return copies of the fields that a new class inherits, those of plain classes (mixins) included."""
    fields: dict[str, Field[Any]] = {}
    for base in reversed(ancestors):
        names = vars(base)
        declared: Declared | None = names.get("_declared")
        if declared is None:
            own = {field_name: value for field_name, value in names.items() if is_field(value)}
            known = own
        else:
            own, known = declared.own, declared.fields
        fields = {
            field_name: field for field_name, field in fields.items() if field_name in known or field_name not in names
        }
        fields |= {field_name: field.clone() for field_name, field in own.items()}
        for field_name, field in fields.items():
            if field_name in known and not known[field_name].primary_key:
                field.primary_key, field.index_formatter = False, None
    return fields


def _composite_key(
    name: str,
    fields: dict[str, Field[Any]],
    own: dict[str, Field[Any]],
    options: Options,
    parents: list[Declared],
) -> CompositeKey | None:
    """Return the composite key, if there is one, and leave ``primary_key`` set on the key field only.

    Raises:
        ValueError: more than one primary key.
    """
    own_keys = [field_name for field_name, field in own.items() if field.primary_key]
    if len(own_keys) + (options.primary_key is not None) > 1:
        parts = [*own_keys, *(["Meta.primary_key"] if options.primary_key else [])]
        raise ValueError(f"over-determined primary key of {name}: {', '.join(parts)}")
    composite = options.primary_key
    if own_keys or composite is not None:
        for field_name, field in fields.items():
            if field.primary_key and field_name not in own_keys:
                field.primary_key, field.index_formatter = False, None
    else:
        inherited = {parent.composite.field_names: parent.composite for parent in parents[::-1] if parent.composite}
        keys = [field_name for field_name, field in fields.items() if field.primary_key]
        if len(inherited) + len(keys) > 1:
            raise ValueError(f"over-determined primary key of {name}: its bases bring different ones")
        composite = next((key for key in inherited.values()), None)
    return composite.clone() if composite is not None else None


def _with_primary_key(
    name: str, fields: dict[str, Field[Any]], composite: CompositeKey | None, bodies: list[Mapping[str, Any]]
) -> dict[str, Field[Any]]:
    """Return the fields of a model with rows; without a primary key of its own it gets ``id``.

    Raises:
        TypeError: an annotation, its own or an inherited one, says that ``id`` is something else.
        ValueError: a wrong composite key, or a field ``id`` that is no primary key.
    """
    if composite is not None:
        for field_name in composite.field_names:
            if field_name not in fields:
                raise ValueError(f"{name}: its composite key names {field_name!r}, which is no field of it")
            if fields[field_name].null:
                raise ValueError(f"{name}.{field_name}: a part of the primary key cannot be null")
        return fields
    if any(field.primary_key for field in fields.values()):
        return fields
    if "id" in fields:
        raise ValueError(f"{name}: required primary key: none of its fields has primary_key=True")
    annotation = next((found["id"] for found in map(annotations_of, bodies) if "id" in found), None)
    if name_of(annotation) in ("int", "str", "bytes", "float"):
        raise TypeError(
            f"{name}.id: an annotation alone declares no field, and the key would be a UUID; "
            "write id = co.IntegerField(primary_key=True) or another field"
        )
    return {"id": UUIDField(primary_key=True, default=uuid.uuid4), **fields}


def _add_does_not_exist(cls: Any) -> None:
    parent = getattr(cls, "DoesNotExist", errors.DoesNotExist)
    name = f"{cls.__qualname__}.DoesNotExist"
    error: Any = type("DoesNotExist", (parent,), {"__module__": cls.__module__, "__qualname__": name})
    names = {"__module__": cls.__module__, "__qualname__": f"{name}.Related"}
    error.Related = type("Related", (error, AttributeError), names)
    cls.DoesNotExist = error
