"""Noting which rows the INSERT, UPDATE and DELETE statements of Django change.

All that the ORM writes passes through the compilers of three classes of queries: ``save``, ``bulk_create``, ``update``
of any manager or related manager, ``delete`` with its cascades, ``_raw_delete``. Signals are sent for few of these. So
the compilers of queries on cached models, and of no others, also have the statement return the primary keys of the rows
that it changes: between a SELECT of them and the statement, others might change rows so that it finds other ones. Where
a database cannot return them, they are selected first, and locked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from operator import or_
from typing import Any

from django.db import transaction
from django.db.models import Q, deletion
from django.db.models.constants import OnConflict
from django.db.models.sql import constants
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.query import Query
from django.db.models.sql.subqueries import DeleteQuery, InsertQuery, UpdateQuery

from ...operations.rows import slices
from ._registry import is_cached
from ._tables import key_fields
from ._transactions import add_all, add_rows

__all__ = ["watch"]

_CONDITIONS = 200
"""The most rows to look for by one SELECT with a condition for each."""

CURSOR, NO_RESULTS = constants.CURSOR, constants.NO_RESULTS
# The type of result that tells how many rows were changed, in all versions of Django.
_COUNTED = getattr(constants, "ROW_COUNT", CURSOR)

# The kind of DB_CASCADE and its like, which Django has since 6.1.
_BY_DATABASE: Any = getattr(deletion, "DatabaseOnDelete", ())

_lock = threading.Lock()
# The classes of compilers that note changes, by those of Django that they are made of.
_with_mixin: dict[type, type] = {}


def watch() -> None:
    """Have statements on cached models note what they change, from now on in this process."""
    mixins: dict[Any, type] = {InsertQuery: _Insert, UpdateQuery: _Update, DeleteQuery: _Delete}
    with _lock:
        for query, mixin in mixins.items():
            if not hasattr(query.get_compiler, "_notes_changes"):
                query.get_compiler = _noting(query.get_compiler, mixin)


def _noting(get_compiler: Callable[..., Any], mixin: type) -> Callable[..., Any]:
    @wraps(get_compiler)
    def get(self: Any, *args: Any, **options: Any) -> Any:
        compiler = get_compiler(self, *args, **options)
        if is_cached(self.model):
            compiler.__class__ = _mixed(mixin, type(compiler))
        return compiler

    get._notes_changes = True  # type: ignore[attr-defined]
    return get


def _mixed(mixin: type, compiler: type) -> type:
    made = _with_mixin.get(compiler)
    if made is None:
        made = _with_mixin.setdefault(compiler, type(compiler.__name__, (mixin, compiler), {}))
    return made


class _Insert:
    """A compiler of INSERT statements that notes rows: new ones, whose absence may be remembered, and changed ones."""

    query: Any
    connection: Any

    def execute_sql(self, returning_fields: Any = None) -> Any:
        model, asked = self.query.model, [*(returning_fields or ())]
        keys = key_fields(model)
        given = self._given(keys)
        unique = self.query.unique_fields
        # Rows that are there under other keys than those given.
        others = self.query.on_conflict == OnConflict.UPDATE and {*unique} != {*keys}
        missing = [key for key in keys if key not in asked]
        if missing and (others or len(given) < len(self.query.objs)) and self._can_return_keys:
            rows = super().execute_sql([*asked, *missing])  # type: ignore[misc]
            returned = [row[: len(asked)] for row in rows] if asked else []
            asked += missing
        else:
            rows = returned = super().execute_sql(returning_fields)  # type: ignore[misc]
        if rows and all(key in asked for key in keys):
            places = [asked.index(key) for key in keys]
            # A row that is there already is none, where it is left alone.
            given = [_pk([row[place] for place in places]) for row in rows if row is not None]
        elif others and unique:
            given = self._with_values(unique, keys)
        elif others:
            add_all(self.connection, model, "bulk_create(update_conflicts=True) does not say which rows have changed")
        add_rows(self.connection, model, given)
        return returned

    @property
    def _can_return_keys(self) -> bool:
        features, single = self.connection.features, len(self.query.objs) == 1
        return bool(features.can_return_rows_from_bulk_insert or (features.can_return_columns_from_insert and single))

    def _given(self, keys: tuple[Any, ...]) -> list[Any]:
        """Return the primary keys that the objects had before; those that the database has made are unknown."""
        found = [[getattr(each, key.attname) for key in keys] for each in self.query.objs]
        return [
            _pk([key.to_python(value) for key, value in zip(keys, values, strict=True)])
            for values in found
            if not any(value is None or hasattr(value, "resolve_expression") for value in values)
        ]

    def _with_values(self, unique: list[Any], keys: tuple[Any, ...]) -> list[Any]:
        """Return the primary keys of the rows that have the values of unique fields of the objects."""
        rows = self.query.model._base_manager.using(self.connection.alias).order_by()
        found: list[Any] = []
        for part in slices(self.query.objs, _CONDITIONS):
            wanted = [Q(**{field.attname: getattr(each, field.attname) for field in unique}) for each in part]
            found += map(_pk, rows.filter(reduce(or_, wanted)).values_list(*[key.attname for key in keys]))
        return found


class _Returning:
    """A compiler of statements that change the rows of one table."""

    query: Any
    connection: Any
    using: Any
    get_converters: Any
    apply_converters: Any
    _returns = False

    def as_sql(self, *args: Any, **options: Any) -> tuple[str, Any]:
        sql, params = super().as_sql(*args, **options)  # type: ignore[misc]
        if sql and self._returns:
            columns = [self.connection.ops.quote_name(key.column) for key in key_fields(self.query.model)]
            sql = f"{sql} RETURNING {', '.join(columns)}"
        return sql, params

    def _execute_returning(self) -> Any:
        """Execute the statement and note the rows; return the cursor, ``None`` if there was nothing to execute."""
        self._returns = True
        try:
            cursor = SQLCompiler.execute_sql(self, CURSOR)
        finally:
            self._returns = False
        if cursor is not None:
            model = self.query.model
            rows = _fetch(cursor)
            converters = self.get_converters([key.get_col(model._meta.db_table) for key in key_fields(model)])
            if converters:
                rows = self.apply_converters(rows, converters)
            add_rows(self.connection, model, map(_pk, rows))
        return cursor

    def _execute_selected(self, execute: Callable[[], Any], new: Iterable[Any] = ()) -> Any:
        """Execute the statement and note the rows that it changes, which are selected before, and ``new`` ones."""
        model, alias = self.query.model, self.connection.alias
        locks = self.connection.features.has_select_for_update and not _returns_changes(self.connection)
        with self._atomic(locks):
            query = self.query.clone()
            query.__class__ = Query
            query.clear_ordering(force=True)
            query.clear_select_clause()
            query.add_fields([key.attname for key in key_fields(model)])
            query.select_for_update = locks and query.group_by is None
            pks = [_pk(row) for row in query.get_compiler(alias).results_iter()]
            result = execute()
            if (getattr(result, "rowcount", result) or 0) == len(pks):
                add_rows(self.connection, model, [*pks, *new])
            else:
                add_all(self.connection, model, "a statement has changed other rows than were selected before it")
        return result

    def _atomic(self, locks: bool) -> AbstractContextManager[Any]:
        return transaction.atomic(self.connection.alias, savepoint=False) if locks else nullcontext()


class _Delete(_Returning):
    def execute_sql(self, result_type: Any) -> Any:
        result = self._execute(result_type)
        for model in _changed_by_the_database(self.query.model):
            add_all(self.connection, model, "the database changes rows that refer to deleted ones")
        return result

    def _execute(self, result_type: Any) -> Any:
        if not _returns_changes(self.connection):
            return self._execute_selected(lambda: super(_Delete, self).execute_sql(result_type))  # type: ignore[misc]
        cursor = self._execute_returning()
        if cursor is None or result_type == CURSOR:
            return cursor
        with cursor:
            return cursor.rowcount


class _Update(_Returning):
    def execute_sql(self, result_type: Any) -> Any:
        keys = key_fields(self.query.model)
        moved = [(field, value) for field, _, value in self.query.values if field in keys]
        if moved or not _returns_changes(self.connection):
            return self._execute_unreturned(moved, _COUNTED if result_type == NO_RESULTS else result_type)
        cursor = self._execute_returning()
        count = None
        if cursor is not None:
            with cursor:
                count = cursor.rowcount
        # The rest is as in the method that this one replaces.
        for query in self.query.get_related_updates():
            other = query.get_compiler(self.using).execute_sql(result_type)
            count = other if count is None else count
        return count or 0

    def _execute_unreturned(self, moved: list[tuple[Any, Any]], result_type: Any) -> Any:
        """Execute a statement that cannot return what it changes, or changes primary keys: the old ones are gone."""

        def execute() -> Any:
            return super(_Update, self).execute_sql(result_type)  # type: ignore[misc]

        if not moved:
            return self._execute_selected(execute)
        (field, value), *others = moved
        if not others and not hasattr(value, "resolve_expression") and len(key_fields(self.query.model)) == 1:
            return self._execute_selected(execute, [field.to_python(getattr(value, "pk", value))])
        result = execute()
        add_all(self.connection, self.query.model, "an update has changed primary keys")
        return result

    def execute_returning_sql(self, returning_fields: Any) -> Any:
        """Execute the statement of :meth:`save` with expressions; Django does so since 6.0."""
        execute = super().execute_returning_sql  # type: ignore[misc]
        if not (returning_fields and self.connection.features.can_return_rows_from_update):
            return execute(returning_fields)  # which calls execute_sql
        keys = key_fields(self.query.model)
        rows = execute([*returning_fields, *keys])
        add_rows(self.connection, self.query.model, [_pk(row[-len(keys) :]) for row in rows])
        return [row[: -len(keys)] for row in rows]


def _changed_by_the_database(model: Any) -> set[Any]:
    """Return the models of which the database itself deletes or changes rows when rows of another are deleted."""
    found: set[Any] = set()
    models = [model]
    while models:
        for relation in models.pop()._meta.get_fields(include_hidden=True):
            if isinstance(getattr(relation, "on_delete", None), _BY_DATABASE) and relation.auto_created:
                related = relation.related_model
                if related not in found:
                    found.add(related)
                    models.append(related)
    return {each for each in found if is_cached(each)}


def _returns_changes(connection: Any) -> bool:
    """Return whether an UPDATE or DELETE can return the rows that it changes."""
    return connection.vendor in ("postgresql", "sqlite") and connection.features.can_return_columns_from_insert


def _fetch(cursor: Any) -> list[Any]:
    try:
        rows: list[Any] = cursor.fetchall()
    except BaseException:
        cursor.close()
        raise
    return rows


def _pk(values: Sequence[Any]) -> Any:
    """Return a primary key: one value, or a tuple of several."""
    return values[0] if len(values) == 1 else tuple(values)
