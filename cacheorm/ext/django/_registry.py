"""The cached models of each Django model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._commits import CachedModel

if TYPE_CHECKING:
    from ._rows import Rows

__all__ = ["cached_model_of", "every_rows", "is_cached", "reading", "register"]

# The rows that have columns of a table, the newest last, by the name of the table: migrations, for one, have classes of
# their own for it. They go with the classes of the cached models.
_rows: dict[str, tuple[weakref.ref[Rows], ...]] = {}
_lock = threading.RLock()


def register(rows: Rows) -> None:
    """Note what rows a cached model has.

    Raises:
        TypeError: another model with other fields has the same keys on the same backend.
    """
    with _lock:
        rows.cached.check_beside(reading(rows.table.model))
        for model in rows.table.tables:
            name = model._meta.db_table
            _rows[name] = (*[known for known in _rows.get(name, ()) if known() is not None], weakref.ref(rows))


def is_cached(model: Any) -> bool:
    """Return whether there are, or were, rows in a cache that have columns of the table of a Django model."""
    return model._meta.db_table in _rows


def reading(model: Any) -> list[CachedModel]:
    """Return the cached models whose rows have columns of the table of a Django model."""
    return [rows.cached for rows in _living(model._meta.db_table)]


def cached_model_of(model: Any) -> Any:
    """Return the cached model that was made last of a Django model; ``None`` if there is none."""
    name = model._meta.db_table
    own = [rows.cached for rows in _living(name) if rows.table.model._meta.db_table == name]
    # An abstract one is there for a class that inherits it.
    return next((found for cached in reversed(own) for found in cached.models()), None)


def every_rows() -> Iterator[Rows]:
    """Yield the rows of each cached model, once for each table that they are in."""
    for name in [*_rows]:
        yield from _living(name)


def _living(name: str) -> list[Rows]:
    return [rows for known in _rows.get(name, ()) if (rows := known()) is not None]
