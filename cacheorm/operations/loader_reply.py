"""Converting and checking the reply of a loader: instances by key, only of rows that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..metadata import RowPlan
from ..types import is_model

__all__ = ["only_row", "rows_by_key"]


def rows_by_key(plan: RowPlan, reply: Any, pks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rows of a loader as instances by backend key, without those that do not exist.

    Args:
        plan: the model's plan.
        reply: rows by primary key, or an iterable of rows that hold theirs; ``None`` for a row that does not exist.
        pks: the primary keys that were asked for, by backend key.

    Raises:
        TypeError: neither of the two, or something that is no row.
        ValidationError: a row without its primary key, or a primary key of the wrong type.
        ValueError: a row that was not asked for, or one given twice.
    """
    if isinstance(reply, Mapping):
        return _completed(plan, _by_key(plan, reply, pks), pks)
    if isinstance(reply, Iterable) and not isinstance(reply, (str, bytes)) and not is_model(type(reply)):
        return _checked(plan, plan.adopt([row for row in reply if row is not None]), None, pks)
    raise TypeError(
        f"{plan.model.__name__}: the loader gave {type(reply).__name__}, expected a dict of rows by primary key,"
        " or an iterable of rows"
    )


def only_row(plan: RowPlan, row: Any, pks: Mapping[str, Any]) -> dict[str, Any]:
    """Do the same for a loader of one row, which returns that or ``None``; its primary key need not be hashable."""
    return _completed(plan, [(key, row) for key in pks], pks)


def _completed(plan: RowPlan, pairs: list[tuple[str, Any]], pks: Mapping[str, Any]) -> dict[str, Any]:
    given = [(key, row) for key, row in pairs if row is not None]
    return _checked(plan, plan.adopt(_complete(plan, given, pks)), [key for key, _ in given], pks)


def _checked(plan: RowPlan, instances: list[Any], asked: list[str] | None, pks: Mapping[str, Any]) -> dict[str, Any]:
    """Return instances by backend key; ``asked`` are the keys that the loader gave them for, if it did."""
    name = plan.model.__name__
    keys: list[str] = plan.identity.identify(instances, False)[1]
    rows = dict(zip(keys, instances, strict=True))
    if asked is not None and keys != asked:
        key, other = next((key, other) for key, other in zip(keys, asked, strict=True) if key != other)
        raise ValueError(f"{name}: the loader gave the row of {key} as that of {other}")
    if not rows.keys() <= pks.keys():
        raise _not_asked_for(plan, next(key for key in rows if key not in pks))
    if len(rows) < len(keys):
        key = next(key for key in rows if keys.count(key) > 1)
        raise ValueError(f"{name}: the loader gave the row of {key} twice")
    return rows


def _not_asked_for(plan: RowPlan, key: str) -> ValueError:
    return ValueError(f"{plan.model.__name__}: the loader gave the row of {key}, which it was not asked for")


def _by_key(plan: RowPlan, reply: Mapping[Any, Any], pks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the rows with their backend keys instead of their primary keys."""
    try:
        known = {pk: key for key, pk in pks.items()}
    except TypeError:  # a primary key that is not hashable
        known = {}
    found = []
    for pk, row in reply.items():
        key = known.get(pk)
        if key is None:
            # It may be a key in another form, such as "1" for 1.
            try:
                key = plan.key_of(plan.row_of(pk))
            except (TypeError, ValueError) as error:
                error.add_note("the loader has to give a dict of rows by primary key, or an iterable of rows")
                raise
            if key not in pks:
                raise _not_asked_for(plan, key)
        found.append((key, row))
    return found


def _complete(plan: RowPlan, given: list[tuple[str, Any]], pks: Mapping[str, Any]) -> list[Any]:
    """Return rows with their primary keys, filled in if they do not hold them."""
    names = [field.name for field in plan.key_fields]
    complete = []
    for key, row in given:
        pk = pks[key]
        if type(row) is dict or isinstance(row, Mapping):
            # A primary key that the row holds itself is kept, and has to be the same.
            key_part = {names[0]: pk} if plan.composite is None else dict(zip(names, pk, strict=True))
            complete.append({**key_part, **row})
        else:
            if type(row) is plan.model and (row._pk is None or (plan.composite is not None and None in row._pk)):
                row._pk = pk
            complete.append(row)
    return complete
