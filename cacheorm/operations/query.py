"""Reading rows by primary key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ..loaders import Loader, Loaders
from ..requests import Call, Steps
from ..types import OF_MODEL, TTL, OfModel
from .base import R
from .loaded_rows import not_stored
from .preloading import Path, Reading, Tree, load_related_of_read, paths_of
from .read import read
from .rows import slices
from .unreadable import ReadingOperation

if TYPE_CHECKING:
    from .loaded_rows import Refused
    from .read_through import ModelLoad

__all__ = ["ModelQuery", "contradiction"]


def contradiction() -> ValueError:
    """Return the error for a query that is to ask the cache alone, and to load."""
    return ValueError("cached_only() calls no loader, and load_missing() calls one: leave one of them out")


class ModelQuery(ReadingOperation[R]):
    """Reads rows; returns an instance or ``None`` for each, in the order asked.

    If the model has a ``Meta.loader``, rows that are not in the cache are loaded; see :meth:`load_missing`.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type.
        TypeError: names that are not the primary key's.
        PayloadError: stored bytes that are no row of the model; its ``failed`` lists all such rows.
    """

    _verb = "query"
    _paths: tuple[Path, ...] = ()
    _tree: Tree | None = None
    _cached_only = False

    def cached_only(self) -> Self:
        """Ask the cache alone, also for the rows of :meth:`preload`: no loader of a model is called.

        Raises:
            ValueError: the operation is one of :meth:`load_missing`.
        """
        self._cached_only = True
        return self

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

    def load_missing(
        self, loader: Loader, *, negative_ttl: TTL | OfModel = OF_MODEL, lease: TTL | OfModel = OF_MODEL
    ) -> ModelLoad[R]:
        """Load and store the rows that are not in the cache; of concurrent callers, one loads each row.

        A model with a ``Meta.loader`` does so at each read, and this is for another loader. The options of its Meta
        are the defaults of the arguments.

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

        if self._cached_only:
            raise contradiction()
        return ModelLoad.of(self, Loaders.given(loader), negative_ttl, lease)

    def steps(self) -> Steps[R]:
        plan = self._plan
        if plan.loaders is not None and not self._cached_only:
            load: ModelLoad[R] = plan.reader.load_of(self)
            return load.steps()
        reading: Steps[Any] = self._read_many() if self._many else self._read_one()
        return self._with_related(reading, self._tree) if self._tree else reading

    def reading(self, refused: list[Refused]) -> Steps[Any]:
        """Return the operation without the related rows; loaded rows that are not stored are added to ``refused``."""
        plan = self._plan
        if plan.loaders is not None and not self._cached_only:
            load: ModelLoad[Any] = plan.reader.load_of(self)
            return load.reading(refused)
        return self._read_many() if self._many else self._read_one()

    def _with_related(self, reading: Steps[Any], tree: Tree) -> Steps[Any]:
        result = yield from reading
        refused: list[Refused] = []
        yield from self._load_related(result, tree, refused)
        if refused:
            raise not_stored(refused, result)
        return result

    def _load_related(self, result: Any, tree: Tree, refused: list[Refused]) -> Steps[None]:
        """Load what the rows of a result refer to, as :meth:`preload` asked."""
        rows = result if self._many else [result]
        reading = Reading(refused, self._on_invalid, self._cached_only)
        yield from load_related_of_read([(self._plan.model, rows, tree)], reading)

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
