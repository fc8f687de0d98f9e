"""The shortcuts of models and instances: operations that execute at once, with their results converted.

They call no methods of the model, since a field may have the name of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .._speedups import assigned
from .._speedups import keys as key_makers
from ..errors import ValidationError, WriteError
from ..loaders import Loader, Loaders
from ..metadata import RowPlan
from ..requests import Steps
from ..types import TTL, OfModel, is_model
from .delete import ModelDelete
from .expire import ModelExpire
from .increment import Increment
from .insert import Creation, GetOrCreate, ModelInsert, create_by, is_creation, save_new
from .lifetimes import seconds_left
from .presence import is_there
from .query import ModelQuery
from .read_through import ModelLoad
from .signal_senders import signal_senders
from .update import ModelUpdate

if TYPE_CHECKING:
    from ..instances import Instance

__all__ = [
    "create",
    "delete",
    "delete_by_id",
    "exists",
    "expire",
    "expire_many",
    "get",
    "get_by_id",
    "get_many",
    "get_or_create",
    "get_or_load",
    "increment",
    "save",
    "set_by_id",
    "ttl_left",
]

M = TypeVar("M", bound="Instance")


def create(model: type[M], values: Mapping[str, Any], save: Callable[[M], Any] | None) -> Steps[M]:
    """Make an instance and write it, by ``save`` if that is given."""
    instance = model(**values)
    if save is None:
        insert: ModelInsert[M] = ModelInsert(model._meta, [instance], False)
        return (yield from insert.steps())
    yield from create_by(save, Creation(instance, None))
    return instance


def get(model: type[M], row: Any) -> Steps[M]:
    """Read the row whose primary key ``row`` has, or raise ``DoesNotExist``."""
    query: ModelQuery[M | None] = ModelQuery(model._meta, [row], False)
    found = yield from query.steps()
    if found is None:
        raise model._meta.missing(row)
    return found


def get_by_id(model: type[M], pk: Any) -> Steps[M]:
    """Read the row with a primary key, or raise ``DoesNotExist``."""
    return (yield from get(model, model._meta.row_of(pk)))


def get_many(
    model: type[M], pks: Iterable[Any], loader: Loader | None = None, cached_only: bool = False
) -> Steps[dict[Any, M]]:
    """Read rows by primary key; return those that exist, by primary key."""
    given = _primary_keys("get_many", pks)
    plan = model._meta
    query: ModelQuery[list[M | None]] = ModelQuery(plan, given, True, by_pk=True)
    if cached_only:
        query.cached_only()
    if loader is not None:
        query = query.load_missing(loader)
    try:
        rows = yield from query.steps()
    except WriteError as error:
        if error.rows is not None:
            error.rows = _by_pk(plan, given, error.rows)
        raise
    return _by_pk(plan, given, rows)


def get_or_create(
    model: type[M], defaults: Mapping[str, Any] | None, values: Mapping[str, Any], save: Callable[[M], Any] | None
) -> GetOrCreate:
    """Return the operation that reads a row or creates it; its primary key is part of ``values``.

    ``values`` may have ``defaults`` by name, unless a field is called so.
    """
    plan = model._meta
    if defaults is None and "defaults" not in plan.names:
        values = {**values}
        defaults = values.pop("defaults", None)
    key_names = {name for field in plan.key_fields for name in field.accepted_names}
    key_part = {name: value for name, value in values.items() if name in key_names}
    if defaults is None:
        return GetOrCreate(plan, (key_part, values), save)
    _check_values(plan, "get_or_create", "defaults", defaults)
    for field in plan.key_fields:
        for part in [key_part[name] for name in field.accepted_names if name in key_part]:
            _check_part(plan, field, part, defaults, "defaults")
    # By field: a foreign key has two names.
    given = {plan.names.get(name) for name in values}
    others = {name: value for name, value in defaults.items() if plan.names.get(name) not in given}
    return GetOrCreate(plan, (key_part, {**others, **values}), save)


def get_or_load(
    model: type[M],
    pk: Any,
    loader: Callable[[Any], Any],
    ttl: TTL,
    negative_ttl: TTL | OfModel,
    lease: TTL | OfModel,
) -> ModelLoad[M | None]:
    """Return the operation that reads one row or loads it."""
    plan = model._meta
    rows = [plan.row_of(pk)]
    loaders = Loaders.given(loader, "a primary key")
    load: ModelLoad[M | None] = ModelLoad(plan, rows, False, loaders, negative_ttl, lease, one_by_one=True)
    return load if ttl is None else load.ttl(ttl)


def set_by_id(model: type[M], pk: Any, values: Mapping[str, Any]) -> Steps[M]:
    """Change fields of a row, or raise ``DoesNotExist``."""
    plan = model._meta
    row = plan.row_of(pk)
    _check_values(plan, "set_by_id", "values", values)
    for field in plan.key_fields:
        _check_part(plan, field, row[field.name], values, "values")
    update: ModelUpdate[M | None] = ModelUpdate(plan, [{**values, **row}], False)
    updated = yield from update.steps()
    if updated is None:
        raise plan.missing(row)
    return updated


def delete_by_id(model: type[M], pk: Any) -> Steps[bool]:
    """Remove a row, or raise ``DoesNotExist``."""
    plan = model._meta
    row = plan.row_of(pk)
    delete: ModelDelete[bool] = ModelDelete(plan, [row], False)
    if not (yield from delete.steps()):
        raise plan.missing(row)
    return True


def increment(model: type[M], pk: Any, field: Any, by: Any) -> Steps[Any]:
    """Add to a field of a row, or raise ``DoesNotExist``."""
    plan = model._meta
    addition = Increment(plan, field, by)
    row = plan.row_of(pk)
    update: ModelUpdate[M | None] = ModelUpdate(plan, [row], False)
    updated = yield from update.apply(addition).atomic(Increment.RETRIES).keep_ttl().steps()
    if updated is None:
        raise plan.missing(row)
    return addition.field.peek(updated)


def expire_many(model: type[M], pks: Iterable[Any], ttl: TTL) -> Steps[dict[Any, bool]]:
    """Set the lifetime of rows anew; return whether each exists, by primary key."""
    given = _primary_keys("expire_many", pks)
    operation = ModelExpire(model._meta, given, True, by_pk=True)
    existed = yield from (operation if ttl is None else operation.ttl(ttl)).steps()
    return _by_pk(model._meta, given, existed)


def expire(instance: Any, ttl: TTL) -> ModelExpire:
    """Return the operation that sets the lifetime of an instance's row anew; ``None`` is the model's ttl."""
    operation = ModelExpire(type(instance)._meta, [instance], False)
    return operation if ttl is None else operation.ttl(ttl)


def exists(model: type[M], row: Any) -> Steps[bool]:
    """Return whether there is a row with the primary key that ``row`` has."""
    plan = model._meta
    return (yield from is_there(plan, *plan.identity.identify_one(row, True)))


def save(instance: Any, force_insert: bool, ttl: TTL, keep_ttl: bool, atomic: bool) -> Steps[bool]:
    """Write what was changed in an instance if it has a primary key; insert it otherwise."""
    plan = type(instance)._meta
    if keep_ttl and ttl is not None:
        raise ValueError(f"{plan.model.__name__}: ttl gives the row a lifetime, and keep_ttl keeps the one it has")
    state = plan.tracker.peek(instance)
    is_new = instance._pk is None or (plan.references and _borrows_key(plan, instance))
    if force_insert or is_new or assigned.is_unsaved(state) or is_creation(instance):
        return (yield from save_new(instance, ttl))
    changed = assigned.assigned(state, instance)
    # Receivers of signals may change a row in which nothing was changed.
    if not changed and ttl is None and signal_senders("save", plan.model) is None:
        return True
    update: ModelUpdate[Any] = ModelUpdate(plan, [instance], False)
    if ttl is not None:
        update.ttl(ttl)
    if keep_ttl:
        update.keep_ttl()
    if atomic:
        update.atomic()
    return (yield from update.steps()) is not None


def _borrows_key(plan: RowPlan, instance: Any) -> bool:
    """Return whether a part of the key is only that of a related instance so far: such a row was never stored."""
    parts = [field.peek(instance) for field in plan.key_fields]
    return any(part is None or is_model(type(part)) for part in parts)


def delete(instance: Any) -> Steps[bool]:
    """Remove the row of an instance."""
    plan = type(instance)._meta
    operation: ModelDelete[bool] = ModelDelete(plan, [instance], False)
    existed = yield from operation.steps()
    # All its values belong to no row any more.
    plan.tracker.poke(instance, assigned.ALL)
    return existed


def ttl_left(plan: RowPlan, row: Any) -> Steps[int | None]:
    """Return the seconds that a row has left; ``None`` if there is none with the primary key that ``row`` has."""
    return (yield from seconds_left(plan, *plan.identity.identify_one(row, True)))


def _check_values(plan: RowPlan, method: str, what: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        got = type(given).__name__
        raise TypeError(f"{plan.model.__name__}.{method}: {what} is a dict of values by field name, got {got}")


def _check_part(plan: RowPlan, field: Any, part: Any, values: Mapping[str, Any], what: str) -> None:
    """Raise :exc:`ValidationError` if values have another value for a part of the primary key than the one given."""
    for name in field.accepted_names:
        if name in values and not field.same(values[name], part):
            problem = f"{name} in the {what} contradicts the primary key that is given"
            raise ValidationError(plan.model.__name__, [(field.name, problem)])


def _by_pk(plan: RowPlan, pks: list[Any], found: list[Any]) -> dict[Any, Any]:
    try:
        return key_makers.found(pks, found)
    except TypeError as error:
        raise TypeError(
            f"{plan.model.__name__}: a result by primary key needs hashable keys ({error}); query_many takes any"
        ) from None


def _primary_keys(method: str, pks: Iterable[Any]) -> list[Any]:
    if isinstance(pks, (str, bytes)):
        raise TypeError(f"{method} takes an iterable of primary keys, got {type(pks).__name__}")
    return [*pks]
