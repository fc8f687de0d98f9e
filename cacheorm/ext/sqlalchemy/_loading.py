"""Loaders of cached models: columns of the rows with some primary keys, in a session of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session

from ._listening import is_listened_to

__all__ = ["RowSource"]

_MOST_PARAMETERS = 1000
"""In one statement: some databases take no more than that in a list, others a few thousand in all."""


class RowSource:
    """Reads rows of a mapped class as dicts.

    Args:
        mapper: that of the class.
        names: the names of the attributes to read, those of the primary key among them.
        keys: the names of the attributes that are the primary key.
        conversions: functions for values of attributes, by name.
        make_session: returns a new session, a :class:`~sqlalchemy.orm.Session` or an ``AsyncSession``.
    """

    def __init__(
        self,
        mapper: Mapper[Any],
        names: Sequence[str],
        keys: Sequence[str],
        conversions: dict[str, Callable[[Any], Any]],
        make_session: Callable[[], Any],
    ) -> None:
        self._mapper = mapper
        self._names = tuple(names)
        self._keys = tuple(keys)
        self._conversions = tuple(conversions.items())
        self._make_session = make_session
        self._size = _MOST_PARAMETERS // len(keys)
        self._made: dict[bool, tuple[Any, dict[str, Any]]] = {}

    def load(self, pks: list[Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows that exist of those with some primary keys.

        Raises:
            TypeError: the function for sessions returns some that are to be awaited.
        """
        made = self._make_session()
        if isinstance(made, AsyncSession):
            raise TypeError(
                f"cached({self._mapper.class_.__name__}): its function for sessions returns an AsyncSession: give an"
                " async_sessionmaker instead, by which awaited reads are told"
            )
        session: Session
        with made as session:
            statement, options = self._statement(session)
            for part in self._parts(pks):
                yield from self._rows(session.execute(statement, {"pks": part}, **options))

    async def aload(self, pks: list[Any]) -> AsyncIterator[dict[str, Any]]:
        """Do the same with an ``AsyncSession``."""
        async with self._make_session() as session:
            statement, options = self._statement(session.sync_session)
            for part in self._parts(pks):
                for row in self._rows(await session.execute(statement, {"pks": part}, **options)):
                    yield row

    def _statement(self, session: Session) -> tuple[Any, dict[str, Any]]:
        """Return the SELECT, and the options to execute it with.

        Of a table alone, it is made of its columns, which costs a third less than of mapped attributes. Only these have
        the criteria of classes that inherit others, and those that listeners of the session add.
        """
        mapper = self._mapper
        by_table = mapper.single is False and mapper.inherits is None and not is_listened_to(session)
        if by_table not in self._made:
            # Not before it is used: it configures the mapped classes, of which some may not exist before.
            of: Any = self._column if by_table else partial(getattr, mapper.class_)
            keys = [of(name) for name in self._keys]
            key: Any = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
            made = sa.select(*map(of, self._names)).where(key.in_(sa.bindparam("pks", expanding=True)))
            self._made[by_table] = made, {"bind_arguments": {"mapper": mapper}} if by_table else {}
        return self._made[by_table]

    def _column(self, name: str) -> Any:
        return self._mapper.columns[name]

    def _parts(self, pks: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, len(pks), self._size):
            yield pks[start : start + self._size]

    def _rows(self, result: Any) -> list[dict[str, Any]]:
        rows = [*map(dict, map(zip, repeat(self._names), result))]  # without code in Python for each row
        for name, convert in self._conversions:
            for row in rows:
                row[name] = convert(row[name])
        return rows
