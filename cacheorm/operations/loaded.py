"""What a loader gave, as instances by key: the rows it was asked for and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..metadata import RowPlan

__all__ = ["rows_by_key"]


def rows_by_key(plan: RowPlan, reply: Any, pks: Mapping[str, Any]) -> dict[str, Any]:
    """Give the rows of a loader as instances by backend key, without those that do not exist.

    Args:
        plan: the model's plan.
        reply: rows by primary key, or an iterable of rows that hold theirs; ``None`` for a row that does not exist.
        pks: the primary keys that were asked for, by backend key.

    Raises:
        TypeError: neither of the two, or something that is no row.
        ValidationError: a row without its primary key, or a primary key of the wrong type.
        ValueError: a row that was not asked for, or one given twice.
    """
    name = plan.model.__name__
    if isinstance(reply, Mapping):
        given = _by_key(plan, reply, pks)
        asked = [key for key, row in given if row is not None]
        instances = plan.adopt([_complete(plan, row, pks[key]) for key, row in given if row is not None])
    elif isinstance(reply, Iterable) and not isinstance(reply, (str, bytes)) and not hasattr(type(reply), "_meta"):
        asked = []
        instances = plan.adopt([row for row in reply if row is not None])
    else:
        raise TypeError(
            f"{name}: the loader gave {type(reply).__name__}, expected a dict of rows by primary key,"
            " or an iterable of rows"
        )
    keys = plan.identity.identify(instances, False)[1]
    for key, wanted in zip(keys, asked, strict=bool(asked)):
        if key != wanted:
            raise ValueError(f"{name}: the loader gave the row of {key} as that of {wanted}")
    rows = {}
    for key, instance in zip(keys, instances, strict=True):
        if key not in pks:
            raise ValueError(f"{name}: the loader gave the row of {key}, which it was not asked for")
        if key in rows:
            raise ValueError(f"{name}: the loader gave the row of {key} twice")
        rows[key] = instance
    return rows


def _by_key(plan: RowPlan, reply: Mapping[Any, Any], pks: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Find the backend keys of what is given by primary key."""
    try:
        known = {pk: key for key, pk in pks.items()}
    except TypeError:  # a primary key that is not hashable
        known = {}
    found = []
    for pk, row in reply.items():
        key = known.get(pk)
        if key is None:
            # The same in another form, such as "1" for 1.
            try:
                key = plan.key_of(plan.row_of(pk))
            except (TypeError, ValueError) as error:
                error.add_note("the loader has to give a dict of rows by primary key, or an iterable of rows")
                raise
            if key not in pks:
                raise ValueError(f"{plan.model.__name__}: the loader gave the row of {key}, which it was not asked for")
        found.append((key, row))
    return found


def _complete(plan: RowPlan, row: Any, pk: Any) -> Any:
    """Fill in the primary key of a row that does not hold it."""
    if isinstance(row, Mapping):
        if not all(any(row.get(name) is not None for name in one.accepted_names) for one in plan.key_fields):
            return {**row, **plan.row_of(pk)}
    elif type(row) is plan.model and (row._pk is None or (plan.composite is not None and None in row._pk)):
        row._pk = pk
    return row
