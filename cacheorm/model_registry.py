"""The registry of models: refuses two models that would write the same keys, and finds models by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .fields import Field, ForeignKeyField, ListField

if TYPE_CHECKING:
    from .metadata import RowPlan
    from .models import Model

__all__ = ["connect", "register"]

_by_prefix: dict[str, list[weakref.ref[type[Model]]]] = {}
_by_name: dict[str, list[weakref.ref[type[Model]]]] = {}
# Weak references, and no WeakSet: a finalizer may declare a model while another declaration goes through them.
_references: set[weakref.ref[ForeignKeyField[Any]]] = set()
_lock = threading.RLock()  # taken again by models that are declared in finalizers and signal handlers


def register(plan: RowPlan) -> None:
    """Add a new model, and let its foreign keys find the models that they name.

    Raises:
        TypeError: another module-level model writes the same keys to the same backend.
    """
    model = plan.model
    with _lock:
        if "<locals>" not in model.__qualname__:
            _refuse_same_keys(plan)
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


def _full_name(model: type[Model]) -> tuple[str, str]:
    return model.__module__, model.__qualname__


def _scope(model: type[Model]) -> str:
    return model.__qualname__.rpartition(".")[0]


def _add(table: dict[str, list[weakref.ref[type[Model]]]], key: str, model: type[Model]) -> None:
    # In one step each, so that nothing is lost to a finalizer that declares a model meanwhile.
    models = table.setdefault(key, [])
    models.append(weakref.ref(model, models.remove))


def _living(table: dict[str, list[weakref.ref[type[Model]]]], key: str) -> Iterator[type[Model]]:
    for known in [*table.get(key, ())]:
        model = known()
        if model is not None:
            yield model


def _formatter(plan: RowPlan) -> Any:
    return (plan.composite or plan.key_fields[0]).index_formatter


def _refuse_same_keys(plan: RowPlan) -> None:
    model = plan.model
    for other in _living(_by_prefix, plan.prefix):
        if _full_name(other) == _full_name(model):
            continue  # the same source executed again, as notebooks and reloads do
        if other._meta.options.backend is plan.options.backend and _formatter(other._meta) == _formatter(plan):
            names = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in (model, other))
            raise TypeError(
                f"{names} would write the same keys ({plan.prefix}:...) to the same backend: "
                "give one of them another Meta.name or Meta.namespace"
            )


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
