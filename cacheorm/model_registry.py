"""The registry of models: refuses two models that would write the same keys, and finds models by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .fields import Field, ForeignKeyField, ListField

if TYPE_CHECKING:
    from .metadata import RowPlan
    from .models import Model

__all__ = ["connect", "refuse_same_keys", "register", "registered_plans"]

_by_prefix: dict[str, list[weakref.ref[type[Model]]]] = {}
"""The models at the level of their modules, by what their keys start with."""

_by_origin: dict[tuple[str, str], list[weakref.ref[type[Model]]]] = {}
"""The models with an ``index_formatter``, by the full name of the class that declares it."""

_by_name: dict[str, list[weakref.ref[type[Model]]]] = {}
# Weak references, and no WeakSet: a finalizer may declare a model while another declaration goes through them.
_references: set[weakref.ref[ForeignKeyField[Any]]] = set()
_lock = threading.RLock()  # taken again by models that are declared in finalizers and signal handlers


def register(plan: RowPlan, default: Any) -> None:
    """Add a new model, and let its foreign keys find the models that they name.

    Args:
        plan: the plan of the model.
        default: the backend of models without their own, as for :func:`refuse_same_keys`.

    Raises:
        TypeError: another model writes the same keys to the same backend.
    """
    model = plan.model
    with _lock:
        refuse_same_keys([plan], default)
        origin = _origin(plan)
        if origin is not None:
            _add(_by_origin, _full_name(origin), model)
        if not _is_local(model):
            _add(_by_prefix, plan.prefix, model)
            _replace_earlier(model)
        for name in (model.__name__, f"{model.__module__}.{model.__name__}"):
            _add(_by_name, name, model)
    for field in plan.every_field:
        connect(field, model)


def connect(field: Field[Any], model: type[Model]) -> None:
    """Let a foreign key that names its model find it, from where ``model`` is declared, when it is first used.

    A foreign key may be the field of a list, or of lists in it.
    """
    while isinstance(field, ListField):
        field = field.field
    if isinstance(field, ForeignKeyField) and isinstance(field.target, str):
        if field.find is None:
            field.find = partial(_find, field.target, model.__module__, _scope(model))
        _references.add(weakref.ref(field, _references.discard))


def _replace_earlier(model: type[Model]) -> None:
    """Let references by name to an earlier execution of the same source find this one."""
    for known in _references.copy():
        reference = known()
        target = None if reference is None else reference.target
        if reference is not None and isinstance(target, type) and _full_name(target) == _full_name(model):
            reference.target = reference.given


def _full_name(model: type) -> tuple[str, str]:
    return model.__module__, model.__qualname__


def _scope(model: type[Model]) -> str:
    return model.__qualname__.rpartition(".")[0]


def _add(table: dict[Any, list[weakref.ref[type[Model]]]], key: Any, model: type[Model]) -> None:
    # In one step each, so that nothing is lost to a finalizer that declares a model meanwhile.
    models = table.setdefault(key, [])
    models.append(weakref.ref(model, models.remove))


def _living(table: dict[Any, list[weakref.ref[type[Model]]]], key: Any) -> Iterator[type[Model]]:
    for known in [*table.get(key, ())]:
        model = known()
        if model is not None:
            yield model


def registered_plans() -> list[RowPlan]:
    """Return the plans of the models that :func:`refuse_same_keys` compares."""
    tables: tuple[dict[Any, Any], ...] = (_by_prefix, _by_origin)
    return [model._meta for table in tables for key in list(table) for model in _living(table, key)]


def refuse_same_keys(plans: Iterable[RowPlan], default: Any) -> None:
    """Make sure that models write other keys than all other models, or to other backends.

    Models made inside functions, as tests do, may have the names of others.

    Args:
        plans: the plans that models are about to have.
        default: the backend of models without their own; ``None`` while there is none yet.

    Raises:
        TypeError: two models would write the same keys to the same backend; it names both.
    """
    changed = {plan.model: plan for plan in plans}
    for plan in changed.values():
        for other, reason in _with_same_keys(plan):
            theirs = changed.get(other, other._meta)
            if _backend(theirs, default) is _backend(plan, default):
                names = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in (plan.model, other))
                raise TypeError(f"{names} would write the same keys {reason}")


def _backend(plan: RowPlan, default: Any) -> Any:
    return default if plan.options.backend is None else plan.options.backend


def _with_same_keys(plan: RowPlan) -> Iterator[tuple[type[Model], str]]:
    """Yield the other models that make the same keys, each with the rest of the error."""
    model, formatter = plan.model, _formatter(plan)
    for other in () if _is_local(model) else _living(_by_prefix, plan.prefix):
        # One of the same full name is the same source executed again, as notebooks and reloads do.
        if _full_name(other) != _full_name(model) and _formatter(other._meta) == formatter:
            yield (
                other,
                f"({plan.prefix}:...) to the same backend: give one of them another Meta.name or Meta.namespace",
            )
    origin = _origin(plan)
    if origin is None:
        return
    for other in _living(_by_origin, _full_name(origin)):
        if other._meta.options.key_version != plan.options.key_version:
            continue
        # A model made inside a function has the name of another on purpose.
        if plan.prefix != other._meta.prefix and _origin(other._meta) is origin and _share(model, other, origin):
            yield (
                other,
                f"to the same backend, since both have the index_formatter of {origin.__qualname__}: "
                "declare the primary key of one of them again, with an index_formatter of its own",
            )


def _share(model: type[Model], other: type[Model], origin: Any) -> bool:
    """Return whether two models with one formatter exist side by side: functions make classes at each call."""
    if issubclass(model, other) or issubclass(other, model) or _is_local(origin):
        return _full_name(model) != _full_name(other)
    return not _is_local(model) and not _is_local(other) and _full_name(model) != _full_name(other)


def _is_local(cls: type) -> bool:
    return "<locals>" in cls.__qualname__


def _formatter(plan: RowPlan) -> Any:
    return plan.primary_key.index_formatter


def _origin(plan: RowPlan) -> type | None:
    """Return the class that declares the formatter of a model's keys, a model or a mixin; ``None`` without one."""
    formatter = _formatter(plan)
    if formatter is None:
        return None
    name = plan.key_fields[0].name
    return next(cls for cls in reversed(plan.model.__mro__) if _formatter_in(cls, name) is formatter)


def _formatter_in(cls: type, name: str) -> Any:
    """Return the formatter of the key that a class has, a field of this name or a composite key."""
    names = vars(cls)
    if "_declared" in names:
        key = names["_declared"].composite or names["_declared"].fields.get(name)
    else:
        key = getattr(names.get("Meta"), "primary_key", None) or names.get(name)
    return getattr(key, "index_formatter", None)


def _find(name: str, module: str, scope: str) -> type[Model] | None:
    """Return a model by name: the latest one in the scope, in the enclosing scopes, in the module, or anywhere.

    Returns ``None`` if there is none, or if the name is ambiguous because several modules have one.
    """
    candidates = list(_living(_by_name, name))
    near = [model for model in candidates if model.__module__ == module]
    while near:
        here = [model for model in near if _scope(model) == scope]
        if here:
            return here[-1]
        if not scope:
            return near[-1]
        scope = scope.rpartition(".")[0]
    return candidates[-1] if len({model.__module__ for model in candidates}) == 1 else None
