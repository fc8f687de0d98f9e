"""Which rows a statement changes: those that its WHERE or its values name, that it returns, or that a SELECT finds.

A statement is looked at when a connection is about to execute it, and afterwards. So it makes no difference who has
made it: the unit of work, a bulk method of the session, or the user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList
from sqlalchemy.sql.lambdas import StatementLambdaElement

from ._registry import CachedTable, cached_tables

__all__ = ["Change", "change_of"]

Params = Sequence[Mapping[str, Any]]
Key = tuple[Any, ...]

_EXPRESSION: Any = object()
"""In place of a value that the database computes."""


class Change:
    """A statement that changes rows of a table of cached models.

    Args:
        statement: the statement.
        cached: the cached models of its table.
        connection: is about to execute it.
        params: its parameters, in one set or in many.

    Attributes:
        statement: the statement to execute in its place, which may return the primary keys as well.
        only_adds: whether it changes no row that was there before, so that only a remembered miss may be wrong.
    """

    only_adds = False

    def __init__(self, statement: Any, cached: list[CachedTable], connection: sa.Connection, params: Params) -> None:
        self.cached = cached
        self._table: sa.Table = statement.entity_description["table"]
        self._pks = tuple(self._table.primary_key.columns)
        self._params = params
        self._given = statement
        self._found: list[Key] | None = None
        self._returns = False
        self._prepare(connection)
        self.statement = statement
        if self._returns:
            # An INSERT returns what it is given itself only where that is asked for beside its defaults.
            beside = self._pks if isinstance(statement, sa.Insert) else None
            self.statement = statement.return_defaults(*self._pks, supplemental_cols=beside)

    def rows(self, result: Any) -> list[dict[Any, Any]] | None:
        """Return the primary keys of the rows that were changed, each by column; ``None`` if nothing tells them.

        Args:
            result: what the connection has returned for the statement.
        """
        found = self._found
        if self._returns:
            returned = result.returned_defaults_rows
            if returned is None and result.rowcount == 0:
                returned = []
            found = None if returned is None else [tuple(row._mapping[each] for each in self._pks) for row in returned]
        elif found is None:
            found = self._told_by(result)
        if found is None or any(part is None or part is _EXPRESSION for key in found for part in key):
            return None
        return [dict(zip(self._pks, key, strict=True)) for key in found]

    def _prepare(self, connection: sa.Connection) -> None:
        """Find the rows, or see to it that the statement returns their primary keys."""

    def _told_by(self, result: Any) -> list[Key] | None:
        """Return the primary keys that a result tells by itself."""
        return None

    def _values_of(self, column: sa.Column[Any], values: Mapping[Any, Any], default: Any = _EXPRESSION) -> Any:
        """Return the value for a column among values by column, or by name."""
        entity = self._given.entity_description.get("entity")
        names = {column.key, sa.inspect(entity).get_property_by_column(column).key} if entity else {column.key}
        for name, value in values.items():
            if (name if isinstance(name, str) else name.key) in names:
                plain = value.effective_value if isinstance(value, BindParameter) else value
                return _EXPRESSION if isinstance(plain, sa.ClauseElement) else plain
        return default


class _Insert(Change):
    def _prepare(self, connection: sa.Connection) -> None:
        given, dialect = self._given, connection.dialect
        conflict = given._post_values_clause
        updates = conflict is not None and "nothing" not in conflict.__visit_name__
        self.only_adds = not updates and not given._prefixes
        at_once = bool(given._multi_values) or given.select is not None
        many = "executemany_" if len(self._params) > 1 else ""
        may_return = getattr(dialect, f"insert_{many}returning") and not (
            given._returning or given._prefixes or given._return_defaults or given.select is not None
        )
        if updates:
            if _names(conflict) == {column.name for column in self._pks}:
                self._found = self._named()
            self._returns = bool(self._found is None and may_return)
        elif len(self._params) > 1 and may_return and not at_once and self._remember_misses():
            self._returns = self._named() is None
        elif at_once:
            self._found = self._named()

    def _named(self) -> list[Key] | None:
        """Return the primary keys of its values, ``None`` if one is not among them."""
        rows: list[Mapping[Any, Any]] = [row for rows in self._given._multi_values for row in rows]
        if not rows and self._given.select is None:
            own = self._given._values or {}
            rows = [{**own, **params} for params in self._params or ({},)]
        found = [tuple(self._values_of(column, row) for column in self._pks) for row in rows]
        return None if not found or any(part is _EXPRESSION for key in found for part in key) else found

    def _told_by(self, result: Any) -> list[Key] | None:
        if not self.only_adds:
            return None
        try:
            return [tuple(row) for row in result.inserted_primary_key_rows]
        except InvalidRequestError:  # it has a RETURNING of its own
            return self._named()

    def _remember_misses(self) -> bool:
        return any(each.cached.model._meta.options.negative_ttl for each in self.cached)


class _Narrowed(Change):
    """An UPDATE or a DELETE, of the rows that its WHERE names."""

    def _prepare(self, connection: sa.Connection) -> None:
        given = self._given
        self._found = self._named()
        if isinstance(given, sa.Update) and self._sets_key():
            self._found = None if self._found is None else [*self._found, *self._moved(self._found)]
        elif self._found is None and len(self._params) <= 1:
            if given._returning or not self._can_return(connection.dialect):
                self._found = self._selected(connection)
            else:
                self._returns = True

    def _named(self) -> list[Key] | None:
        """Return the primary keys that the WHERE gives, as values or as parameters; ``None`` if it does not."""
        key, binds = self._table.primary_key.columns, dict[str, BindParameter[Any]]()
        for clause in _parts(self._given.whereclause):
            if isinstance(clause, BinaryExpression) and clause.operator in (operators.eq, operators.in_op):
                column, value = clause.left, clause.right
                if isinstance(value, BindParameter) and key.contains_column(column) and _is_key(value, column):
                    binds.setdefault(str(column.key), value)
        if binds.keys() != {column.key for column in self._pks}:
            return None
        ordered = [binds[column.key] for column in self._pks]
        found: list[Key] = []
        for params in self._params or ({},):
            values = [params.get(bind.key, bind.effective_value) for bind in ordered]
            if not any(bind.expanding for bind in ordered):
                found.append(tuple(values))
            elif len(values) > 1:
                return None
            else:
                found += [(value,) for value in values[0]]
        return found

    def _sets_key(self) -> bool:
        return any(self._new(column, 0, None) is not None for column in self._pks)

    def _moved(self, old: list[Key]) -> list[Key]:
        """Return the primary keys that an UPDATE gives to rows."""
        columns = [*enumerate(self._pks)]
        return [tuple(self._new(each, row, key[i]) for i, each in columns) for row, key in enumerate(old)]

    def _new(self, column: sa.Column[Any], row: int, default: Any) -> Any:
        """Return what is assigned to a column, by the parameters of a row or by the statement."""
        given = self._given
        params = self._params[row] if row < len(self._params) else {}
        values = {**dict(getattr(given, "_ordered_values", None) or ()), **(given._values or {}), **params}
        return self._values_of(column, values, default)

    def _can_return(self, dialect: Any) -> bool:
        kind = "update" if isinstance(self._given, sa.Update) else "delete"
        where = self._given.whereclause
        tables = set() if where is None else {*where._from_objects} - {self._table}
        can = getattr(dialect, f"{kind}_returning") and self._table.implicit_returning
        return bool(can and (not tables or getattr(dialect, f"{kind}_returning_multifrom")))

    def _selected(self, connection: sa.Connection) -> list[Key]:
        """Return the primary keys of the rows that the WHERE names now, which the SELECT locks where that is done."""
        where = self._given.whereclause
        query = sa.select(*self._pks).with_for_update()
        params = dict(self._params[0]) if self._params else {}
        return [tuple(row) for row in connection.execute(query if where is None else query.where(where), params)]


def change_of(statement: Any, connection: sa.Connection, params: Params) -> Change | None:
    """Return the change that a statement makes to rows of cached models; ``None`` for any other statement."""
    if isinstance(statement, StatementLambdaElement):
        statement = statement._resolved
    kind = _Insert if isinstance(statement, sa.Insert) else _Narrowed
    if kind is _Narrowed and not isinstance(statement, (sa.Update, sa.Delete)):
        return None
    cached = cached_tables(statement.entity_description["table"])
    if not cached:
        return None
    try:
        return kind(statement, cached, connection, params)
    except (AttributeError, KeyError, LookupError, TypeError):  # the statement is of a form that nobody has thought of
        return Change(statement, cached, connection, params)


def _parts(clause: Any) -> Iterator[Any]:
    """Yield the parts of a WHERE that hold all together."""
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _parts(part)
    elif clause is not None:
        yield clause


def _is_key(bind: BindParameter[Any], column: Any) -> bool:
    """Return whether a row that a comparison finds has this value, and not one that only the database finds equal."""
    kind = column.type
    if bind.required:
        return True  # by the unit of work, whose values are those of rows
    if getattr(kind, "collation", None) is not None or kind.__visit_name__ == "CITEXT":
        return False
    try:
        python_type = kind.python_type
    except NotImplementedError:
        return True
    given: Any = bind.effective_value
    values = given if bind.expanding else [given]
    return all(isinstance(value, python_type) for value in values)


def _names(conflict: Any) -> set[str]:
    """Return the names of the columns that an upsert looks for conflicts in; none where it names a constraint."""
    elements = getattr(conflict, "inferred_target_elements", None) or ()
    return {each if isinstance(each, str) else getattr(each, "name", "") for each in elements}
