"""Reading rows by primary key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ..requests import Call, Steps
from ..types import TTL
from .base import R
from .preloading import Path, Tree, load_related_of_read, paths_of
from .read import read
from .rows import slices
from .unreadable import ReadingOperation

if TYPE_CHECKING:
    from .read_through import Loader, ModelLoad

__all__ = ["LEASE_SECONDS", "ModelQuery"]

LEASE_SECONDS = 5
"""The default of ``lease``: longer than most database queries, and short enough to wait for after a crash."""


class ModelQuery(ReadingOperation[R]):
    """Reads rows; returns an instance or ``None`` for each, in the order asked.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type.
        TypeError: names that are not the primary key's.
        PayloadError: stored bytes that are no row of the model; its ``failed`` lists all such rows.
    """

    _verb = "query"
    _paths: tuple[Path, ...] = ()
    _tree: Tree | None = None

    def preload(self, *paths: Path) -> Self:
        """Also load the rows that foreign keys refer to, with one read per level and backend.

        Args:
            paths: foreign keys (``Article.author``), names with dots between (``"article.author"``), and tuples of
                such steps (``(Collection.article, Article.author)``).

        Raises:
            TypeError: a path that is neither.
            ValueError: a foreign key that the model does not have.
        """
        every = (*self._paths, *paths)
        (self._tree,) = paths_of([self._plan], every)
        self._paths = every
        return self

    def load_missing(self, loader: Loader, *, negative_ttl: TTL = None, lease: TTL = LEASE_SECONDS) -> ModelLoad[R]:
        """Load and store the rows that are not in the cache; of concurrent callers, one loads each row.

        Args:
            loader: called at most once with the list of the missing primary keys, plain values, or tuples for composite
                ones, in the order asked and without duplicates. It returns rows (dicts or instances), either as a
                dict by primary key, where the rows need not hold it, or as any iterable. A row that it leaves out, or
                returns ``None`` for, does not exist.
            negative_ttl: seconds for which it is remembered that a row does not exist; ``None``: it is not remembered.
            lease: seconds for which other callers wait for the one that loads a row, instead of loading it. For one
                second less than that, a row that is deleted while it is loaded is not stored. ``None``: no leases are
                taken, and other callers of this process wait until the load has ended.

        Returns:
            An operation with the result of this one; its ``ttl`` is that of the loaded rows.

        Raises (on execute):
            ValidationError, TypeError: as for any query; or a loaded row is no row of the model.
            ValueError: the loader returned a row that was not asked for, or one twice.
            BackendError: the cache cannot be read; the loader was not called.
            WriteError: loaded rows were not stored; ``rows`` of the error is what would have been returned.

            An error of the loader reaches all callers of this process that wait for it, each as a copy of its own;
            nothing is stored then.
        """
        from .read_through import ModelLoad  # here, as it builds on this module

        operation: ModelLoad[R] = ModelLoad(self._plan, self._rows, self._many, loader, negative_ttl, lease)
        operation._chunk, operation._by_pk = self._chunk, self._by_pk
        operation._paths, operation._tree = self._paths, self._tree
        operation._on_invalid = self._on_invalid
        return operation

    def steps(self) -> Steps[R]:
        reading: Steps[Any] = self._read_many() if self._many else self._read_one()
        return self._with_related(reading, self._tree) if self._tree else reading

    def _with_related(self, reading: Steps[Any], tree: Tree) -> Steps[Any]:
        result = yield from reading
        yield from self._load_related(result, tree)
        return result

    def _load_related(self, result: Any, tree: Tree) -> Steps[None]:
        """Load what the rows of a result refer to, as :meth:`preload` asked."""
        rows = result if self._many else [result]
        yield from load_related_of_read([(self._plan.model, rows, tree)], self._on_invalid)

    def _read_one(self) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        return None if payload is None else self._load_one(resolved.codec, payload, pk, key)

    def _read_many(self) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        found: list[Any] = []
        unreadable = self._unreadable()
        for part in slices(self._rows, self._chunk or resolved.backend.chunk_size):
            found += yield from read(resolved, *self._identify(part, len(found)), unreadable)
        unreadable.check()
        return found
