"""What a transaction of Django has changed in cached models, until its commit.

A connection keeps it among its ``on_commit`` callbacks, with the savepoints around it: those that are rolled back take
their callbacks with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.db import connections, router
from django.db.models.base import ModelBase

from ...models import Model
from .._commits import CachedModel, Changes, listed
from ._registry import every_rows, reading

__all__ = ["add_all", "add_rows", "invalidate", "sees_uncommitted_rows"]


def invalidate(model: Any, pks: Iterable[Any] | None = None, *, using: str | None = None) -> None:
    """Say that rows have been changed by what Django does not know, such as SQL of one's own.

    They are removed from the cache after the commit of the transaction that is open, at once without one.

    Args:
        model: the Django model, for all cached models that have its columns, or one cached model.
        pks: their primary keys, tuples for composite ones; all rows of the model if left out.
        using: the database that they were changed in, the one that the Django model is written to if left out.

    Raises:
        TypeError: it is neither, or not cached, or one primary key is given in place of a list.
    """
    found, django_model = _cached_models(model)
    rows = listed(pks)
    with _changes(connections[using or router.db_for_write(django_model)]) as changes:
        changes.add_by_hand(found, rows)


def _cached_models(model: Any) -> tuple[list[CachedModel], Any]:
    """Return the cached models that are meant, and the Django model."""
    if isinstance(model, type) and issubclass(model, Model):
        for rows in every_rows():
            if issubclass(model, rows.cached.model):
                return [rows.cached], rows.table.model
    elif isinstance(model, ModelBase) and (found := reading(model)):
        return found, model
    what = model.__name__ if isinstance(model, type) else type(model).__name__
    raise TypeError(f"invalidate() takes a model that cached() was called for, or that it has returned, got {what}")


def add_rows(connection: Any, model: Any, pks: Iterable[Any]) -> None:
    """Note that rows of the table of a Django model were inserted, changed or deleted through a connection."""
    rows = [*pks]
    if rows:
        with _changes(connection) as changes:
            for cached in reading(model):
                changes.add(cached, rows)


def add_all(connection: Any, model: Any, why: str) -> None:
    """Note that any rows of the table of a Django model may have been changed through a connection."""
    with _changes(connection) as changes:
        for cached in reading(model):
            changes.add_all(cached, why)


class _Transaction:
    """What a transaction has changed.

    It is the first of the callbacks of the connection, to be found there, and also the last of ours, which removes
    all rows by one request. Between them are the callbacks of savepoints.
    """

    def __init__(self, by_hand: bool) -> None:
        self.changes = Changes()
        self.by_hand = by_hand

    def find(self) -> None:
        """Do nothing."""

    def apply(self) -> None:
        """Remove from the cache what the transaction has changed, of savepoints what was kept."""
        self.changes.apply()

    def fail(self) -> None:
        """Remove from the cache what the transaction has changed, without loading it: it is still open."""
        self.changes.remove()


class _Savepoint:
    """What was changed within savepoints of a transaction."""

    def __init__(self, transaction: _Transaction) -> None:
        self.changes = Changes()
        self._transaction = transaction

    def keep(self) -> None:
        """Add what the savepoints have changed to the transaction, which is committed with them."""
        self._transaction.changes.update(self.changes)

    def fail(self) -> None:
        """Remove from the cache what the savepoints have changed."""
        self.changes.remove()


@contextmanager
def _changes(connection: Any) -> Iterator[Changes]:
    """Return what is removed after the commit of the present transaction, or without one at the end of the block."""
    if not _is_in_transaction(connection):
        changes = Changes()
        yield changes
        changes.apply()
    elif any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        # Django's own tests commit by executing the callbacks that were added since a point of the test.
        transaction = _Transaction(False)
        yield transaction.changes
        connection.run_on_commit.append((set(connection.savepoint_ids), transaction.apply, True))
    else:
        yield _open_changes(connection)


def _open_changes(connection: Any) -> Changes:
    """Return the changes of a transaction within its present savepoints; add them to its callbacks if there are none.

    They come before the callbacks of others: one of these that fails ends the calls, and one that reads the cache is
    to get the new rows.
    """
    callbacks = connection.run_on_commit
    transaction = _owner(callbacks[0]) if callbacks else None
    if not isinstance(transaction, _Transaction):
        # In an atomic block without autocommit, the commit is not that of the block.
        transaction = _Transaction(by_hand=not (connection.in_atomic_block and connection.commit_on_exit))
        callbacks[:0] = [(set(), transaction.find, True), (set(), transaction.apply, True)]
        _apply_at_commits(connection)
    savepoints = set(connection.savepoint_ids)
    if not savepoints:
        return transaction.changes
    newest = callbacks[1]
    if newest[0] != savepoints:
        newest = savepoints, _Savepoint(transaction).keep, True
        callbacks.insert(1, newest)
    changes: Changes = _owner(newest).changes
    return changes


def _owner(entry: tuple[Any, ...]) -> Any:
    """Return the object whose method an entry of ``run_on_commit`` calls: savepoints, the callback, and how to call."""
    return getattr(entry[1], "__self__", None)


def _ours(connection: Any) -> list[tuple[Any, ...]]:
    return [entry for entry in connection.run_on_commit if isinstance(_owner(entry), _Transaction | _Savepoint)]


def _apply_at_commits(connection: Any) -> None:
    """Apply changes where Django runs no callbacks.

    That is at a ``commit()`` without autocommit, and at one that fails: the database may have committed, and only the
    answer was lost.
    """
    if "commit" in vars(connection):
        return
    commit = connection.commit

    @wraps(commit)
    def commit_and_apply() -> None:
        ours = _ours(connection)
        try:
            commit()
        except BaseException:
            for owner in dict.fromkeys(map(_owner, ours)):
                owner.fail()
            raise
        if ours and getattr(_owner(ours[0]), "by_hand", False):
            connection.run_on_commit = [entry for entry in connection.run_on_commit if entry not in ours]
            for _, callback, _ in ours:
                callback()

    connection.commit = commit_and_apply


def _is_in_transaction(connection: Any) -> bool:
    return bool(connection.in_atomic_block or not connection.get_autocommit())


def sees_uncommitted_rows(connection: Any, cached: CachedModel) -> bool:
    """Return whether a connection may read rows of a cached model that others do not see, or no longer see.

    Its transaction may have changed some, or read from a snapshot that is older than the last commit.
    """
    if not _is_in_transaction(connection):
        return False
    return any(cached in _owner(entry).changes for entry in _ours(connection)) or _reads_a_snapshot(connection)


def _reads_a_snapshot(connection: Any) -> bool:
    """Return whether all reads of a transaction are as of its beginning."""
    if connection.vendor == "sqlite":
        # Without the cursor of Django, whose queries tests count.
        return bool(connection.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")
    if connection.vendor not in ("postgresql", "mysql"):
        return False
    level = connection.isolation_level
    return str(getattr(level, "name", level)).lower().replace("_", " ") not in ("read committed", "read uncommitted")
