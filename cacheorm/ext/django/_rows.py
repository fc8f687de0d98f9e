"""The rows of a Django model as the loader of a cached model reads them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asgiref.sync import sync_to_async
from django.core.signals import request_finished, request_started
from django.db import connections, router

from ...loaders import Uncommitted
from ...operations.rows import slices
from .._commits import CachedModel
from ._tables import Table
from ._transactions import sees_uncommitted_rows

__all__ = ["Rows"]

_PART = 1000
"""The most primary keys in one SELECT."""

_PART_OF_COMPOSITE = 200
"""The same where each takes a condition of its own."""

# The connections that were opened for a load, in threads in which nobody else would close them.
_opened: weakref.WeakSet[Any] = weakref.WeakSet()


class Rows:
    """Loads rows of a Django model by their primary keys.

    Args:
        table: the columns of the model.
        columns: the names of the fields of the cached model, and those of the Django model's that have their values.
        using: the database to read from; ``None``: the one that the routers name.

    Attributes:
        cached: the cached model.
    """

    cached: CachedModel

    def __init__(self, table: Table, columns: dict[str, str], using: str | None) -> None:
        self.table = table
        self._names = tuple(columns)
        self._columns = tuple(columns.values())
        self._using = using

    def load(self, pks: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the rows that exist, in any order."""
        model = self.table.model
        with _connection(self._using or router.db_for_read(model)) as connection:
            most = _PART if len(self.table.key) == 1 else _PART_OF_COMPOSITE
            if connection.features.max_query_params is not None:
                most = min(most, connection.features.max_query_params // len(self.table.key))
            every = model._base_manager.using(connection.alias).order_by().values_list(*self._columns)
            rows = [
                dict(zip(self._names, values, strict=True))
                for part in slices(pks, most)
                for values in every.filter(pk__in=part)
            ]
            return Uncommitted(rows) if sees_uncommitted_rows(connection, self.cached) else rows

    async def aload(self, pks: Sequence[Any]) -> list[dict[str, Any]]:
        """Do the same for an awaited read, in the thread in which Django's own awaited queries run."""
        return await sync_to_async(self.load)(pks)


# -- closing connections -----------------------------------------------------------------------------


class _Present(threading.local):
    """Whether the present thread handles a request, at whose end Django closes the connections of the thread."""

    request = False


_present = _Present()


def _begin_request(**_: Any) -> None:
    _present.request = True


def _end_request(**_: Any) -> None:
    _present.request = False


request_started.connect(_begin_request)
request_finished.connect(_end_request)


@contextmanager
def _connection(alias: str) -> Iterator[Any]:
    """Return the connection of the present thread to a database.

    In the main thread and in a request it stays open, as after any query. In other threads, nobody closes a connection
    that was not open before: here this is done as at the end of a request, by its ``CONN_MAX_AGE``.
    """
    connection = connections[alias]
    if _present.request or threading.current_thread() is threading.main_thread():
        yield connection
        return
    _close_if_old(connection)
    if connection.connection is None:
        _opened.add(connection)
    try:
        yield connection
    finally:
        _close_if_old(connection)


def _close_if_old(connection: Any) -> None:
    if connection in _opened and not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
