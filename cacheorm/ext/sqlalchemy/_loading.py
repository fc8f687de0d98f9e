"""Loaders of cached models: columns of the rows with some primary keys, in a session of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, QueryableAttribute, Session

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
        self._class = mapper.class_
        self._names = tuple(names)
        self._keys = tuple(keys)
        self._conversions = tuple(conversions.items())
        self._make_session = make_session
        self._size = _MOST_PARAMETERS // len(keys)
        self._made: Any = None

    def load(self, pks: list[Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows that exist of those with some primary keys."""
        session: Session
        with self._make_session() as session:
            for part in self._parts(pks):
                yield from self._rows(session.execute(self._statement(), {"pks": part}))

    async def aload(self, pks: list[Any]) -> AsyncIterator[dict[str, Any]]:
        """Do the same with an ``AsyncSession``."""
        async with self._make_session() as session:
            for part in self._parts(pks):
                for row in self._rows(await session.execute(self._statement(), {"pks": part})):
                    yield row

    def _statement(self) -> Any:
        # Not before it is used: it configures the mapped classes, of which some may not exist before.
        if self._made is None:
            keys: list[QueryableAttribute[Any]] = [getattr(self._class, name) for name in self._keys]
            key: Any = keys[0] if len(keys) == 1 else sa.tuple_(*keys)
            columns = [getattr(self._class, name) for name in self._names]
            self._made = sa.select(*columns).where(key.in_(sa.bindparam("pks", expanding=True)))
        return self._made

    def _parts(self, pks: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, len(pks), self._size):
            yield pks[start : start + self._size]

    def _rows(self, result: Any) -> list[dict[str, Any]]:
        names = self._names
        rows = [dict(zip(names, row, strict=True)) for row in result]
        for name, convert in self._conversions:
            for row in rows:
                row[name] = convert(row[name])
        return rows
