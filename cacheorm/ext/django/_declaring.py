"""Making a cached model of a Django model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import did_you_mean
from ...fields import CompositeKey, Field
from .._commits import CachedModel
from .._making import make_model
from ._fields import field_for
from ._registry import register
from ._rows import Rows
from ._statements import watch
from ._tables import Table

__all__ = ["cached"]


def cached(
    model: Any,
    *,
    only: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    fields: Mapping[str, Field[Any]] | None = None,
    using: str | None = None,
    on_commit: str = "delete",
    **meta: Any,
) -> Any:
    """Return a model whose rows are those of a Django model, kept in a cache.

    Rows that are not in the cache are read from the database. Rows that the ORM inserts, changes or deletes are removed
    from the cache after the commit.

    Args:
        model: the Django model.
        only: the names of the fields to cache; all of them if left out. The primary key is always among them.
        exclude: the names of fields to leave out.
        fields: fields of cacheorm to use for some fields of the Django model, by name.
        using: the alias of the database to read from; the one that the routers name if left out.
        on_commit: what becomes of a row after the commit of a transaction that has changed it: ``"delete"`` removes it,
            and the next read loads it; ``"write"`` loads it at once.
        meta: options as in Meta: ``backend``, ``ttl``, ``negative_ttl`` and others. ``name`` is that of the Django
            model with its app, ``shop.product``, if left out.

    Raises:
        TypeError: it is no Django model with rows, an argument names no field of it, a field has values of an unknown
            type, an option follows from the model, or another cached model with other fields has the same keys.
        ValueError: ``on_commit`` is neither, or an option has an impossible value.
    """
    table = Table(model)
    given = dict(fields or {})
    chosen = _chosen(table, only, exclude, given)
    body: dict[str, Field[Any]] = {}
    columns: dict[str, str] = {}
    is_composite = len(table.key) > 1
    for column in chosen:
        name = next((name for name in (column.name, column.attname) if name in given), "")
        if name:
            field = given[name]
            field.primary_key = field.primary_key or (column in table.key and not is_composite)
        else:
            name, field = field_for(column, primary_key=column in table.key and not is_composite)
        body[name] = field
        columns[name] = column.attname
    rows = Rows(table, columns, using)
    follows: dict[str, Any] = {"loader": rows.load, "aloader": rows.aload}
    if is_composite:
        follows["primary_key"] = CompositeKey(*[column.name for column in table.key])
    module = sys._getframe(1).f_globals.get("__name__", __name__)
    made = make_model(model, table.name, module, body, {"name": model._meta.label_lower, **meta}, follows)
    rows.cached = CachedModel(made, on_commit)
    register(rows)
    watch()
    return made


def _chosen(table: Table, only: Iterable[str] | None, exclude: Iterable[str], given: Mapping[str, Any]) -> list[Any]:
    """Return the fields of the Django model to cache, in their order.

    Raises:
        TypeError: one of the arguments names no field, or leaves out the primary key.
    """
    wanted = None if only is None else _named(table, "only", only)
    unwanted = _named(table, "exclude", exclude)
    own = _named(table, "fields", given)
    for column in table.key:
        if column in unwanted:
            raise TypeError(f"{table.name}: exclude names {column.name!r}, a field of the primary key")
    for column in own:
        if column in unwanted or (wanted is not None and column not in wanted):
            raise TypeError(f"{table.name}: fields names {column.name!r}, which is left out by only or exclude")
    return [
        column
        for column in table.columns.values()
        if column in table.key or (column not in unwanted and (wanted is None or column in wanted))
    ]


def _named(table: Table, argument: str, names: Iterable[str]) -> list[Any]:
    if isinstance(names, str):
        raise TypeError(f"{table.name}: {argument} takes a list of names, got one text: write [{names!r}]")
    known = {**table.columns, **{column.attname: column for column in table.columns.values()}}
    found = []
    for name in names:
        if name not in known:
            hint = did_you_mean(str(name), known, f"; known are: {', '.join(sorted(table.columns))}")
            raise TypeError(f"{table.name}: {argument} names {name!r}, which is no field with a column{hint}")
        found.append(known[name])
    return found
