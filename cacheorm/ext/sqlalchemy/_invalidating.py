"""Saying by hand which rows a transaction has changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper, Session, scoped_session

from ...errors import CacheORMError
from .._commits import listed
from ._listening import changes_of
from ._registry import cached_tables

__all__ = ["invalidate"]

_Sessions = Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any]


def invalidate(mapped: type[Any], pks: Iterable[Any] | None = None, *, session: _Sessions) -> None:
    """Say that rows have been changed by what SQLAlchemy does not know, such as a statement in text.

    They are removed from the cache after the commit of the transaction that is open in the session.

    Args:
        mapped: the mapped class, for all cached models that have columns of its tables, or one cached model.
        pks: their primary keys, tuples for composite ones; all rows of the models if left out.
        session: the session that has changed them.

    Raises:
        TypeError: the class is not cached, or one primary key is given in place of a list.
        CacheORMError: the session is in no transaction, so that no commit would follow.
    """
    mapper = sa.inspect(getattr(mapped, "_made_of", mapped), raiseerr=False)
    tables = mapper.tables if isinstance(mapper, Mapper) else ()
    found = dict.fromkeys(each.cached for table in tables for each in cached_tables(table))
    if hasattr(mapped, "_made_of"):
        found = dict.fromkeys(cached for cached in found if issubclass(mapped, cached.model))
    name = getattr(mapped, "__name__", type(mapped).__name__)
    if not found:
        raise TypeError(f"invalidate() takes a class that cached() was called for, or has returned, got {name}")
    own = session() if isinstance(session, (scoped_session, async_scoped_session)) else session
    changes = changes_of(own.sync_session if isinstance(own, AsyncSession) else own)
    if changes is None:
        raise CacheORMError(
            f"invalidate({name}): the session is in no transaction: call it between the statement and the commit"
        )
    changes.add_by_hand(found, listed(pks))
