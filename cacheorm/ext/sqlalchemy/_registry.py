"""Which cached models there are of mapped classes, and of their tables, kept in their own ``info``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from .._commits import CachedModel

__all__ = ["CachedTable", "cached_models", "cached_tables", "register"]

_NAME = "cacheorm"


class CachedTable(NamedTuple):
    """A cached model of a table.

    Attributes:
        cached: the model.
        keys: the columns of the table that are its primary key, in the order of the model.
    """

    cached: CachedModel
    keys: tuple[sa.Column[Any], ...]


def cached_models(mapper: Mapper[Any]) -> list[CachedModel]:
    """Return the cached models of a mapped class, the first one first."""
    found: list[CachedModel] = mapper.class_manager.info.get(_NAME, [])
    return found


def cached_tables(table: Any) -> list[CachedTable]:
    """Return the cached models that have columns of a table."""
    found: list[CachedTable] = table.info.get(_NAME, []) if isinstance(table, sa.Table) else []
    return found


def register(mapper: Mapper[Any], cached: CachedModel, keys: Mapping[sa.Table, tuple[sa.Column[Any], ...]]) -> None:
    """Add a cached model of a mapped class.

    Args:
        mapper: that of the class.
        cached: the model.
        keys: the columns of its primary key in each table.

    Raises:
        TypeError: another model with other columns has the same keys on the same backend.
    """
    cached.check_beside(cached_models(mapper))
    _add(mapper.class_manager.info, cached)
    for table, columns in keys.items():
        _add(table.info, CachedTable(cached, columns))


def _add(info: dict[Any, Any], new: Any) -> None:
    info[_NAME] = [*info.get(_NAME, ()), new]  # a new list: another thread may go through the old one
