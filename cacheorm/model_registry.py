"""Which models exist: refuses two that would write the same keys, and finds models by name."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .fields import Field, ForeignKeyField

if TYPE_CHECKING:
    from .metadata import RowPlan
    from .models import Model

__all__ = ["connect", "register"]

_by_prefix: dict[str, list[weakref.ref[type[Model]]]] = {}
_by_name: dict[str, list[weakref.ref[type[Model]]]] = {}
_by_reference: weakref.WeakSet[ForeignKeyField[Any]] = weakref.WeakSet()


def register(plan: RowPlan) -> None:
    """Enter a new model, and let its foreign keys find the models that they name.

    Raises:
        TypeError: another module-level model writes the same keys to the same backend.
    """
    model = plan.model
    if "<locals>" not in model.__qualname__:
        _refuse_twin(plan)
        _enter(_by_prefix, plan.prefix, model)
        _supersede(model)
    for name in (model.__name__, f"{model.__module__}.{model.__name__}"):
        _enter(_by_name, name, model)
    for reference in plan.references:
        connect(reference, model)


def connect(field: Field[Any], model: type[Model]) -> None:
    """Let a foreign key that names its model find it, from where ``model`` is declared, when it is first used."""
    if isinstance(field, ForeignKeyField) and isinstance(field.target, str):
        if field.find is None:
            field.find = partial(_find, field.target, model.__module__, _scope(model))
        _by_reference.add(field)


def _supersede(model: type[Model]) -> None:
    """Let references by name to an earlier execution of the same source find this one."""
    for reference in _by_reference:
        target = reference.target
        if isinstance(target, type) and _place(target) == _place(model):
            reference.target = reference.given


def _place(model: type[Model]) -> tuple[str, str]:
    return model.__module__, model.__qualname__


def _scope(model: type[Model]) -> str:
    return model.__qualname__.rpartition(".")[0]


def _enter(table: dict[str, list[weakref.ref[type[Model]]]], key: str, model: type[Model]) -> None:
    living = [known for known in table.get(key, ()) if known() is not None]
    table[key] = [*living, weakref.ref(model)]


def _living(table: dict[str, list[weakref.ref[type[Model]]]], key: str) -> Iterator[type[Model]]:
    for known in table.get(key, ()):
        model = known()
        if model is not None:
            yield model


def _formatter(plan: RowPlan) -> Any:
    return (plan.composite or plan.key_fields[0]).index_formatter


def _refuse_twin(plan: RowPlan) -> None:
    model = plan.model
    for other in _living(_by_prefix, plan.prefix):
        if _place(other) == _place(model):
            continue  # the same source executed again, as notebooks and reloads do
        if other._meta.options.backend is plan.options.backend and _formatter(other._meta) == _formatter(plan):
            names = " and ".join(f"{one.__module__}.{one.__qualname__}" for one in (model, other))
            raise TypeError(
                f"{names} would write the same keys ({plan.prefix}:...) to the same backend: "
                "give one of them another Meta.name or Meta.namespace"
            )


def _find(name: str, module: str, scope: str) -> type[Model] | None:
    """Find a model by name: the latest one in the scope, in those around it, in the module, or anywhere.

    Gives ``None`` if there is none, or if several modules have one and it is not said which.
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
