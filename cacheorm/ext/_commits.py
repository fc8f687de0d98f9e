"""What transactions of a database have changed in cached models, and its removal from the cache after their commits.

This module knows no database library: a listener of one collects :class:`Changes` for each transaction and savepoint,
adds those of a savepoint that lasts to those around it, drops them at a rollback, and applies them after the commit.

A row is removed and never written from what the transaction knew: the listeners of two commits may run in the other
order, and the older row would replace the newer one. A reader that loads meanwhile has a lease under the row's key,
which goes with the row, so what it has read before the commit is not stored afterwards. With ``on_commit="write"`` the
rows are removed first and then loaded as any reader would, under leases: whatever the order, what is stored was read
after the last removal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import Any

from ..async_driver import arun
from ..deadlines import lift
from ..errors import CacheORMError
from ..logs import log
from ..models import Model
from ..operations import ModelQuery
from ..operations.own_keys import OwnKeys
from ..operations.rows import slices
from ..requests import Call, Steps
from ..sync_driver import run
from ..types import is_model

__all__ = ["CachedModel", "Changes", "listed"]

# Refers to the tasks that an event loop runs, which itself does not.
_tasks: set[Any] = set()


class CachedModel:
    """A model whose rows are those of a database.

    Args:
        model: the model, which has a loader.
        on_commit: what becomes of a row after the commit of a transaction that has changed it: ``"delete"`` removes it,
            and the next read loads it; ``"write"`` loads it at once.

    Raises:
        ValueError: ``on_commit`` is neither.
    """

    def __init__(self, model: type[Model], on_commit: str = "delete") -> None:
        if on_commit not in ("delete", "write"):
            raise ValueError(f"{model.__name__}: on_commit is 'delete' or 'write', got {on_commit!r}")
        self.model = model
        self.on_commit = on_commit

    def models(self) -> Iterator[type[Model]]:
        """Yield the model, and those that inherit it and have rows of their own, which the same loader loads."""
        found: list[type[Model]] = [self.model]
        while found:
            model = found.pop()
            found += model.__subclasses__()
            if is_model(model):
                yield model

    def check_beside(self, others: Iterable[CachedModel]) -> None:
        """Check that no other model of the same rows has the same keys and other fields.

        Raises:
            TypeError: one has.
        """
        for other in others:
            if not is_model(self.model) or not is_model(other.model):
                continue
            one, two = self.model._meta, other.model._meta
            is_same = two.prefix == one.prefix and two.options.backend is one.options.backend
            if is_same and two.fields.keys() != one.fields.keys():
                raise TypeError(
                    f"{self.model.__name__} is cached already, with other columns and the same keys"
                    f" ({one.prefix}:...): give one of the two another name=, as cached(..., name='...')"
                )


class Changes:
    """The rows that a transaction, or a savepoint of one, has changed.

    Applying them raises no :exc:`Exception`, as the transaction has been committed by then: what the cache could not do
    is logged, and with ``on_failure="miss"`` the backend remembers the keys. A ``co.deadline`` around the commit does
    not bound it; the ``operation_timeout`` of the backend does.
    """

    def __init__(self) -> None:
        self._rows: dict[CachedModel, dict[Any, None]] = {}
        self._whole: dict[CachedModel, str] = {}
        self._to_load: dict[type[Model], list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows or self._whole)

    def __contains__(self, cached: CachedModel) -> bool:
        """Return whether rows of a model have been added."""
        return cached in self._rows or cached in self._whole

    def add(self, cached: CachedModel, pks: Iterable[Any]) -> None:
        """Add rows that were inserted, changed or deleted.

        Args:
            cached: their model.
            pks: their primary keys, tuples for composite ones; of a row whose primary key has changed, both.
        """
        self._rows.setdefault(cached, {}).update(dict.fromkeys(pks))

    def add_all(self, cached: CachedModel, why: str) -> None:
        """Add all rows of a model.

        Args:
            cached: the model.
            why: what has changed them, for the log, without values.
        """
        self._whole.setdefault(cached, why)

    def add_by_hand(self, models: Iterable[CachedModel], pks: list[Any] | None) -> None:
        """Add what ``invalidate()`` was called for: rows, or all of them if ``pks`` is ``None``."""
        for cached in models:
            if pks is None:
                self.add_all(cached, "invalidate() was called for all of them")
            else:
                self.add(cached, pks)

    def update(self, other: Changes) -> None:
        """Add the changes of a savepoint that has been released."""
        for cached, pks in other._rows.items():
            self._rows.setdefault(cached, {}).update(pks)
        self._whole = other._whole | self._whole

    def apply(self) -> None:
        """Remove the rows from the cache, and load those of models with ``on_commit="write"`` again."""
        self.remove()
        self.load()

    async def aapply(self) -> None:
        """Do the same without blocking the event loop; see :meth:`aremove`."""
        await self.aremove()
        await self.aload()

    def remove(self) -> None:
        """Remove the rows from the cache."""
        copy_context().run(_unbounded, self._removal())

    async def aremove(self) -> None:
        """Do the same without blocking the event loop.

        If the task is cancelled, it goes on behind; if the loop ends before that, it blocks the loop to its end.
        """
        await _shielded(self._removal(), self.remove)

    def load(self) -> None:
        """Load the rows that were removed again, of models with ``on_commit="write"``."""
        if self._to_load:
            copy_context().run(_unbounded, self._loading())

    async def aload(self) -> None:
        """Do the same without blocking the event loop."""
        if self._to_load:
            await _shielded(self._loading(), lambda: None)

    def _removal(self) -> Steps[None]:
        for cached, why in self._whole.items():
            for model in cached.models():
                yield from _try(model, "rows", _remove_all(model, why))
        for cached, pks in self._rows.items():
            for model in cached.models() if cached not in self._whole else ():
                done = yield from _try(model, f"{len(pks)} rows", _remove(model, [*pks]))
                if done and cached.on_commit == "write":
                    self._to_load[model] = [*pks]

    def _loading(self) -> Steps[None]:
        for model, pks in self._to_load.items():
            query: ModelQuery[Any] = ModelQuery(model._meta, pks, True)
            try:
                yield from query.steps()
            except Exception as error:  # noqa: BLE001 - whatever a loader may raise
                message = "%s: rows that a transaction has changed are loaded when they are read, and not at once: %s"
                log(logging.WARNING, "not loaded after a commit", message, model.__name__, _text(error))


def listed(pks: Iterable[Any] | None) -> list[Any] | None:
    """Return the primary keys that ``invalidate()`` was called for; ``None`` for those of all rows.

    Raises:
        TypeError: one primary key in place of several.
    """
    given: Any = pks
    if given is not None and (isinstance(given, (str, bytes)) or not isinstance(given, Iterable)):
        raise TypeError(f"invalidate() takes a list of primary keys, got one {type(given).__name__}: write [pk]")
    return None if pks is None else [*pks]


def _unbounded(steps: Steps[None]) -> None:
    lift()
    run(steps)


async def _shielded(steps: Steps[None], instead: Callable[[], None]) -> None:
    """Run steps in a task that goes on if the caller is cancelled; if it is cancelled itself, call ``instead``."""
    import asyncio

    async def main() -> None:
        lift()
        try:
            await arun(steps)
        except asyncio.CancelledError:
            instead()
            raise

    task = asyncio.create_task(main())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    await asyncio.shield(task)


def _remove(model: type[Model], pks: list[Any]) -> Steps[None]:
    """Remove rows, leases and remembered misses: no signals, and nothing is read."""
    plan = model._meta
    backend = plan.backend
    try:
        keys = plan.identity.identify_pks(pks)[1]
    except (TypeError, ValueError):
        yield from _remove_all(model, "a primary key among those that were changed is of another type")
        return
    for part in slices(keys, backend.chunk_size):
        yield Call(backend, "delete_many", tuple(part))


def _remove_all(model: type[Model], why: str) -> Steps[None]:
    """Remove all rows, leases and remembered misses of a model.

    Raises:
        CacheORMError: its keys cannot be enumerated.
    """
    plan = model._meta
    log(logging.WARNING, "all rows removed", "%s: all rows are removed from the cache, since %s", model.__name__, why)
    try:
        prefix = OwnKeys(plan).prefix
    except ValueError as error:
        raise CacheORMError(str(error)) from None  # for the log, as it has no values
    yield Call(plan.backend, "clear", (prefix,))


def _try(model: type[Model], what: str, steps: Steps[None]) -> Steps[bool]:
    """Run the removal of ``what``; log an error, and return whether there was none."""
    try:
        yield from steps
    except Exception as error:  # noqa: BLE001 - backends are objects of users, too; the commit has succeeded
        message = (
            "%s: %s that a transaction has changed could not be removed from the cache, which may have their old"
            ' values: %s; with on_failure="miss" a backend remembers keys, and removes them when the server is back'
        )
        log(logging.ERROR, "not removed after a commit", message, model.__name__, what, _text(error))
        return False
    return True


def _text(error: Exception) -> str:
    """Return the text of an error of ours, and the type of another one, whose text may have values."""
    return str(error) if isinstance(error, CacheORMError) else type(error).__name__
