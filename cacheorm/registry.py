"""Which models exist: refuses two that would write the same keys, and finds models by name."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .fields import ForeignKeyField
    from .metadata import RowPlan
    from .models import Model

__all__ = ["register"]

_by_prefix: dict[str, list[weakref.ref[type[Model]]]] = {}
_by_name: dict[str, list[weakref.ref[type[Model]]]] = {}
_waiting: weakref.WeakSet[ForeignKeyField[Any]] = weakref.WeakSet()


def register(plan: RowPlan) -> None:
    """Enter a new model, and connect it with the foreign keys that refer to each other by name.

    Raises:
        TypeError: another module-level model writes the same keys to the same backend.
    """
    model = plan.model
    if "<locals>" not in model.__qualname__:
        _refuse_twin(plan)
        _enter(_by_prefix, plan.prefix, model)
    names = (model.__name__, f"{model.__module__}.{model.__name__}")
    for name in names:
        _enter(_by_name, name, model)
    for reference in plan.references:
        if isinstance(reference.target, str):
            found = _find(reference.target, model.__module__)
            if found is None:
                _waiting.add(reference)
            else:
                reference.target = found
    for reference in list(_waiting):
        if reference.target in names:
            reference.target = model
        if not isinstance(reference.target, str):
            _waiting.discard(reference)


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
        if (other.__module__, other.__qualname__) == (model.__module__, model.__qualname__):
            continue  # the same source executed again, as notebooks and reloads do
        if other._meta.options.backend is plan.options.backend and _formatter(other._meta) == _formatter(
            plan
        ):
            names = " and ".join(f"{one.__module__}.{one.__qualname__}" for one in (model, other))
            raise TypeError(
                f"{names} would write the same keys ({plan.prefix}:...) to the same backend: "
                "give one of them another Meta.name or Meta.namespace"
            )


def _find(name: str, module: str) -> type[Model] | None:
    """Find a model by name: the latest of that name in ``module``, or in the only module that has one."""
    candidates = list(_living(_by_name, name))
    near = [model for model in candidates if model.__module__ == module]
    if near:
        return near[-1]
    return candidates[-1] if len({model.__module__ for model in candidates}) == 1 else None
