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
    """Add a cached model of a mapped class; it replaces one that was made by the same call, as in a notebook.

    Args:
        mapper: that of the class.
        cached: the model.
        keys: the columns of its primary key in each table.

    Raises:
        TypeError: another model with other columns has the same keys on the same backend.
    """
    plan = cached.model._meta
    earlier = [each for each in cached_models(mapper) if _same_keys(each.model._meta, plan)]
    for each in earlier:
        if each.model._meta.fields.keys() != plan.fields.keys():
            raise TypeError(
                f"{mapper.class_.__name__} is cached already, with other columns and the same keys"
                f" ({plan.prefix}:...): give one of the two another name=, as cached(..., name='...')"
            )
    _add(mapper.class_manager.info, cached, [each for each in cached_models(mapper) if each not in earlier])
    for table, columns in keys.items():
        others = [each for each in cached_tables(table) if each.cached not in earlier]
        _add(table.info, CachedTable(cached, columns), others)


def _add(info: dict[Any, Any], new: Any, others: list[Any]) -> None:
    info[_NAME] = [*others, new]  # a new list: another thread may go through the old one


def _same_keys(one: Any, other: Any) -> bool:
    return bool(one.prefix == other.prefix and one.options.backend is other.options.backend)
