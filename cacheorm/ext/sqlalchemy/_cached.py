"""Making a cached model of a mapped class."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import ColumnProperty, Mapper, Session, scoped_session
from sqlalchemy.types import NullType

from ...errors import did_you_mean
from ...fields import CompositeKey, DateTimeTZField, Field
from .._commits import CachedModel
from .._making import make_model
from ._columns import as_utc, field_of, is_null
from ._listening import listen
from ._loading import RowSource
from ._registry import register
from ._relations import LateField, Relation, reference, relations

__all__ = ["cached"]


def cached(
    mapped: type[Any],
    session: Callable[[], Any],
    *,
    on_commit: str = "delete",
    only: Iterable[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    fields: Mapping[str, Field[Any]] | None = None,
    **options: Any,
) -> Any:
    """Return a model whose rows are those of a mapped class, in a cache.

    ::

        Product = cached(ProductRow, Session, backend="redis://localhost", ttl=3600)
        Product.query_many(ids).execute()  # the cache, and SELECT ... WHERE id IN (...) for what is missing

    Each column is a field, by its type, under the name of its attribute; each many-to-one relation a foreign key, whose
    row is read through the cache if its class is cached, too. After the commit of a session, of this factory or of any
    other in the process, the rows that it has changed are removed from the cache.

    Args:
        mapped: the mapped class.
        session: makes sessions: a ``sessionmaker``, a ``scoped_session``, any function that returns a new
            :class:`~sqlalchemy.orm.Session`, or an ``async_sessionmaker``. With the last, rows are loaded by awaited
            reads alone.
        on_commit: ``"delete"`` removes changed rows after a commit; ``"write"`` also loads them again at once.
        only: the names of the attributes to cache, besides the primary key; ``None``: all that are not deferred.
        include: names of deferred attributes to cache as well.
        exclude: names of attributes, or relations, to leave out.
        fields: the fields of attributes that are to have others than their types say.
        options: options of Meta, such as ``backend``, ``ttl``, ``name`` and ``negative_ttl``.

    Raises:
        TypeError: a class that is not mapped to a table, a column of a type without a field, an unknown name, or an
            option that follows from the mapping.
        ValueError: ``on_commit`` is neither of the two.
    """
    mapper = _mapper_of(mapped)
    chosen = _Chosen(mapper, only, include, exclude, fields or {})
    source = RowSource(mapper, chosen.columns, chosen.keys, chosen.conversions, _new_sessions(session))
    is_awaited = isinstance(session, (async_sessionmaker, async_scoped_session))
    follows: dict[str, Any] = {"aloader": source.aload} if is_awaited else {"loader": source.load}
    if len(chosen.keys) > 1:
        follows["primary_key"] = CompositeKey(*[chosen.field_names[name] for name in chosen.keys])
    module = sys._getframe(1).f_globals.get("__name__", __name__)
    model = make_model(mapped, mapped.__name__, module, chosen.fields, options, follows)
    register(mapper, CachedModel(model, on_commit), chosen.key_columns)
    listen()
    return model


def _mapper_of(mapped: Any) -> Mapper[Any]:
    """Return the mapper of a class.

    Raises:
        TypeError: it is not mapped, or not to a table.
    """
    try:
        mapper = sa.inspect(mapped)
    except NoInspectionAvailable:
        mapper = None
    name = getattr(mapped, "__name__", type(mapped).__name__)
    if not isinstance(mapper, Mapper):
        raise TypeError(f"cached() takes a class that SQLAlchemy maps, got {name}")
    if not isinstance(mapper.local_table, sa.Table):
        raise TypeError(
            f"cached({name}): it is mapped to a {type(mapper.local_table).__name__} and not to a table, so that nothing"
            " says which of its rows a commit has changed"
        )
    return mapper


def _new_sessions(session: Any) -> Callable[[], Any]:
    """Return what makes sessions that nobody else uses.

    Raises:
        TypeError: it is a session, or something else that makes none.
    """
    if isinstance(session, (Session, AsyncSession)) or not callable(session):
        raise TypeError(
            f"cached() takes a function that makes sessions, such as sessionmaker(engine), got {type(session).__name__}"
        )
    if isinstance(session, (scoped_session, async_scoped_session)):
        session = session.session_factory
    return session  # type: ignore[no-any-return]


class _Chosen:
    """The attributes of a mapped class that are cached, and the fields for them.

    Attributes:
        columns: the names of the attributes to read.
        keys: those of the primary key, in its order.
        fields: the fields by name.
        field_names: the name of the field of each column.
        conversions: functions for values as the database gives them, by attribute.
        key_columns: the columns of the primary key in each table.
    """

    def __init__(
        self,
        mapper: Mapper[Any],
        only: Iterable[str] | None,
        include: Iterable[str],
        exclude: Iterable[str],
        given: Mapping[str, Field[Any]],
    ) -> None:
        name = mapper.class_.__name__
        attributes: Mapping[str, Any] = dict(mapper.columns.items())
        columns = {key: column for key, column in attributes.items() if isinstance(column, sa.Column)}
        related = {each.name: each for each in relations(mapper)}
        only = None if only is None else _names("only", only)
        include, exclude = _names("include", include), _names("exclude", exclude)
        for option, names in {"only": only or (), "include": include, "exclude": exclude, "fields": given}.items():
            for each in names:
                if each not in columns and each not in related:
                    hint = did_you_mean(each, [*columns, *related])
                    raise TypeError(f"cached({name}): {option} names {each!r}, which is no column of it{hint}")
        of_key = [mapper.get_property_by_column(column) for column in mapper.primary_key]
        self.keys = [of.key for of in of_key]
        self.key_columns = {table: _columns_in(table, of_key) for table in mapper.tables if isinstance(table, sa.Table)}
        if missing := [key for key in self.keys if key in exclude]:
            raise TypeError(f"cached({name}): {missing[0]!r} is of the primary key, and cannot be left out")
        wanted = set(columns if only is None else only)
        if only is None:
            wanted -= {key for key in columns if _is_deferred(mapper, columns[key])} - set(include)
        wanted |= {*include, *self.keys} | {related[each].column for each in wanted & related.keys()}
        self.columns = [key for key in columns if key in wanted and key not in exclude]
        relation_of = {
            each.column: each
            for each in related.values()
            if each.name not in exclude and each.column not in given and (only is None or _is_named(each, only))
        }
        self.fields: dict[str, Field[Any]] = {}
        self.field_names: dict[str, str] = {}
        self.conversions: dict[str, Callable[[Any], Any]] = {}
        for key in self.columns:
            relation = relation_of.get(key)
            self.field_names[key] = field_name = key if relation is None else relation.name
            field = given.get(field_name) or self._field(name, key, columns[key], relation)
            if isinstance(field, DateTimeTZField):
                self.conversions[key] = as_utc
            if [key] == self.keys:
                field.primary_key, field.null = True, False
            self.fields[field_name] = field

    def _field(self, name: str, key: str, column: sa.Column[Any], relation: Relation | None) -> Field[Any]:
        make_field = partial(field_of, name, key, column)
        if relation is not None:
            return reference(relation, make_field, is_null(column))
        if isinstance(column.type, NullType) and column.foreign_keys:
            return LateField(make_field, is_null(column))
        return make_field()


def _names(option: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"cached(): {option} is a list of names, got a text: write [{names!r}]")
    return tuple(names)


def _is_deferred(mapper: Mapper[Any], column: sa.Column[Any]) -> bool:
    of = mapper.get_property_by_column(column)
    return isinstance(of, ColumnProperty) and of.deferred


def _is_named(relation: Relation, only: Iterable[str]) -> bool:
    return relation.name in only or relation.column in only


def _columns_in(table: sa.Table, of_key: list[Any]) -> tuple[sa.Column[Any], ...]:
    """Return the columns of a table that are the primary key of a mapped class, which may inherit another table's."""
    return tuple(next(column for column in of.columns if column.table is table) for of in of_key)
