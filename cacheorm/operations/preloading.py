"""Preloading: reading the rows that foreign keys refer to, a level at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from .._speedups import slots
from ..async_driver import arun
from ..errors import WriteError
from ..fields import ForeignKeyField
from ..fields.foreign import MISSING
from ..metadata import RowPlan
from ..requests import Steps
from ..sync_driver import run
from ..types import is_model
from .loaded_rows import Refused, not_stored
from .merging import run_merged
from .read import read
from .unreadable import Unreadable

if TYPE_CHECKING:
    from ..models import Model

__all__ = ["Path", "Reading", "Tree", "apreload", "check_path", "load_related_of_read", "paths_of", "preload"]

M = TypeVar("M", bound="Model")
R = TypeVar("R", bound="Model | None")

Step = str | ForeignKeyField[Any]

Path = Step | tuple[Step, ...]
"""A path along foreign keys: a field, names with dots between, or a tuple of these, one step each."""

Tree = dict[ForeignKeyField[Any], "Tree"]
"""The foreign keys of one model to be loaded, each with those of the model that it refers to."""


@overload
def preload(instances: M, *paths: Path, cached_only: bool = False) -> M: ...
@overload
def preload(instances: Iterable[R], *paths: Path, cached_only: bool = False) -> list[R]: ...
def preload(instances: Any, *paths: Path, cached_only: bool = False) -> Any:
    """Load the rows that foreign keys of instances refer to, with one read per level and backend.

    Rows that are referred to more than once are read once, and are one object. Related instances that are loaded
    already are kept. After that, access to the reference reads nothing: it returns the row, or ``None`` for a null
    reference, or raises ``DoesNotExist`` if the row does not exist. Of models with a ``Meta.loader``, the rows that are
    not in the cache are loaded, with one call per level and model.

    Args:
        instances: an instance, or an iterable of instances of one model or of several; ``None`` among them is skipped.
        paths: foreign keys (``Article.author``), names with dots between (``"article.author"``), and tuples of such
            steps (``(Collection.article, Article.author)``). Of several models, each path is followed from those that
            have it.
        cached_only: whether to ask the cache alone, and call no loader.

    Returns:
        The instance, or the instances as a list.

    Raises:
        TypeError: a path that is neither, or something that is no instance of a model.
        ValueError: a path that none of the models has.
        PayloadError: stored bytes that are no row of their model.
    """
    return run(_preload(instances, paths, cached_only))


@overload
async def apreload(instances: M, *paths: Path, cached_only: bool = False) -> M: ...
@overload
async def apreload(instances: Iterable[R], *paths: Path, cached_only: bool = False) -> list[R]: ...
async def apreload(instances: Any, *paths: Path, cached_only: bool = False) -> Any:
    """Await :func:`preload`."""
    return await arun(_preload(instances, paths, cached_only))


def _preload(instances: Any, paths: Iterable[Path], cached_only: bool) -> Steps[Any]:
    if is_model(type(instances)):
        try:
            yield from _preload([instances], paths, cached_only)
        except WriteError as error:
            error.rows = instances
            raise
        return instances
    given = list(instances)
    by_model: dict[Any, list[Any]] = {}
    for instance in given:
        if instance is not None:
            of_model = by_model.get(type(instance))
            if of_model is None:
                if not is_model(type(instance)):
                    raise TypeError(f"preload takes instances of models, got {type(instance).__name__}")
                of_model = by_model[type(instance)] = []
            of_model.append(instance)
    trees = paths_of([model._meta for model in by_model], paths)
    reading = Reading([], cached_only=cached_only)
    yield from load_related([(rows, tree) for rows, tree in zip(by_model.values(), trees, strict=True)], {}, reading)
    if reading.refused:
        raise not_stored(reading.refused, given)
    return given


def paths_of(plans: list[RowPlan], paths: Iterable[Path]) -> list[Tree]:
    """Resolve paths for models: a tree for each of ``plans``.

    Raises:
        TypeError, ValueError: as :func:`preload`.
    """
    trees: list[Tree] = [{} for _ in plans]
    for path in paths:
        check_path(path)
        reasons = [_follow(plan, path, tree) for plan, tree in zip(plans, trees, strict=True)]
        if plans and None not in reasons:
            raise ValueError("; ".join(filter(None, reasons)))
    return trees


def check_path(path: Any) -> None:
    """Raise :exc:`TypeError` for an object that is no path."""
    for step in path if isinstance(path, tuple) and path else (path,):
        if not isinstance(step, (str, ForeignKeyField)):
            raise TypeError(f"expected a foreign key or a path such as 'article.author', got {type(step).__name__}")


def _follow(plan: RowPlan, path: Path, tree: Tree) -> str | None:
    """Add a path to the tree of a model; return the reason if the model has no such path."""
    found: list[ForeignKeyField[Any]] = []
    for step in _steps(path):
        name = step if isinstance(step, str) else step.name
        if not isinstance(step, str) and not issubclass(plan.model, step.model or ()):
            owner = step.model.__name__ if step.model else "no model"
            return (
                f"{step!r} belongs to {owner}: from {plan.model.__name__}, give the whole path, as 'article.author' or "
                "(Collection.article, Article.author)"
            )
        field = plan.fields.get(name)
        if not isinstance(field, ForeignKeyField):
            known = ", ".join(field.name for field in plan.references) or "none"
            return f"{plan.model.__name__} has no foreign key {name!r}; it has: {known}"
        found.append(field)
        plan = field.rel_model._meta
    for field in found:
        tree = tree.setdefault(field, {})
    return None


def _steps(path: Path) -> Iterator[str | ForeignKeyField[Any]]:
    for part in path if isinstance(path, tuple) else (path,):
        if isinstance(part, str):
            yield from part.split(".")
        else:
            yield part


def refers_to(tree: Tree, model: Any) -> bool:
    """Return whether a tree leads to rows of ``model``."""
    return any(field.rel_model is model or refers_to(below, model) for field, below in tree.items())


Known = dict[Any, dict[str, Any]]
"""Rows by model and key, or :data:`MISSING`."""


class Reading(NamedTuple):
    """How related rows are read.

    Attributes:
        refused: gets the loaded rows that are not stored.
        on_invalid: what to do with stored bytes that are no row; ``None``: what their model says.
        cached_only: whether to ask the cache alone.
    """

    refused: list[Refused]
    on_invalid: str | None = None
    cached_only: bool = False


def load_related_of_read(groups: Iterable[tuple[Any, list[Any], Tree]], reading: Reading) -> Steps[None]:
    """Load the rows that the rows of a read refer to.

    A row that refers to another row of the same result gets that instance; it is not read again.

    Args:
        groups: models, rows of each (``None`` for misses), and the foreign keys to load.
        reading: how the rows are read.
    """
    groups = [group for group in groups if group[1]]
    known: Known = {}
    for model, rows, _ in groups:
        if any(refers_to(tree, model) for _, _, tree in groups):
            found = [row for row in rows if row is not None]
            keys = model._meta.identity.identify(found, False)[1]
            known[model] = dict(zip(keys, found, strict=True))
    yield from load_related([(rows, tree) for _, rows, tree in groups if tree], known, reading)


def load_related(level: list[tuple[list[Any], Tree]], known: Known, reading: Reading) -> Steps[None]:
    """Load the rows that instances refer to, level by level.

    Args:
        level: lists of instances, each list of one model, with the foreign keys to load; ``None`` is skipped.
        known: rows that need not be read, by model and key; those that are read are added.
        reading: how the rows are read.
    """
    while level:
        edges = [_Edge(field, rows, below) for rows, tree in level for field, below in tree.items()]
        missing: dict[Any, dict[str, Any]] = {}
        for edge in edges:
            rows_of_target = known.setdefault(edge.target, {})
            new = {key: pk for key, pk in edge.pks.items() if key not in rows_of_target} if rows_of_target else edge.pks
            if new:
                missing[edge.target] = missing.get(edge.target, {}) | new
        yield from _read(missing, known, reading)
        level = [(rows, edge.below) for edge in edges if (rows := edge.set_related(known))]


class _Edge:
    """One foreign key of instances of one model, and the rows that it refers to.

    Attributes:
        below: the foreign keys of those rows to load.
        target: their model.
        pks: the primary keys, by key, of the rows that are not loaded yet.
    """

    def __init__(self, field: ForeignKeyField[Any], instances: list[Any], below: Tree) -> None:
        self.below = below
        self._field = field
        self._loaded: list[Any] = []
        self._waiting = instances
        # A hashable label for the id of each instance. ``None`` if the ids in the slots themselves are the labels,
        # because all instances were read and none has loaded anything.
        self._labels: list[Any] | None = None
        ids = self._ids_of_read() or self._ids_of_any()
        self.target = field.rel_model
        plan = self.target._meta
        # A row that many instances refer to is identified once.
        pks, keys = plan.identity.identify_pks([*ids.values()])
        self._keys = dict(zip(ids, keys, strict=True))
        self.pks: dict[str, Any] = dict(zip(keys, pks, strict=True))

    @property
    def _related(self) -> Any:
        model: Any = self._field.model
        return model._related

    def _ids_of_read(self) -> dict[Any, Any] | None:
        """Return the ids by themselves if all instances were read and none has loaded anything; otherwise ``None``."""
        if self._field.default is not None or slots.holds(self._related, self._waiting):
            return None
        try:
            ids = slots.distinct(self._field, self._waiting)
        except TypeError:
            return None
        return dict(zip(ids, ids, strict=True))

    def _ids_of_any(self) -> dict[Any, Any]:
        """Return the ids by label, for any instances; those that have loaded the related row are left out."""
        field, instances = self._field, self._waiting
        self._waiting, ids = [], []
        for instance in instances:
            if instance is None:
                continue
            value = field.object_id(instance)
            related = (instance._related or {}).get(field.name, MISSING)
            if related is not MISSING:
                self._loaded.append(related)
            elif value is not None:
                self._waiting.append(instance)
                ids.append(value)
        self._labels = ids
        try:
            return dict(zip(ids, ids, strict=True))
        except TypeError:
            # A row that was never written may hold a list for a composite key, which is not hashable. Then keys are
            # used.
            plan = field.rel_model._meta
            self._labels = [plan.key_of(plan.row_of(value)) for value in ids]
            return dict(zip(self._labels, ids, strict=True))

    def set_related(self, known: Known) -> list[Any]:
        """Set the related rows of the instances; return each row once if foreign keys of it are to be loaded."""
        name = self._field.name
        rows = known[self.target]
        related = {label: rows[key] for label, key in self._keys.items()}
        if self._labels is None:
            slots.relate(self._related, self._field, name, self._waiting, related)
        else:
            for instance, label in zip(self._waiting, self._labels, strict=True):
                instance._relations[name] = related[label]
        if not self.below:
            return []
        return list({id(row): row for row in (*self._loaded, *related.values()) if row is not MISSING}.values())


def _read(missing: dict[Any, dict[str, Any]], known: Known, reading: Reading) -> Steps[None]:
    """Read rows of any models, with one read per backend.

    Args:
        missing: primary keys by model and key.
        known: the rows are added to it.
        reading: how they are read.
    """
    parts = [_read_of(model._meta, [*pks.values()], [*pks], reading) for model, pks in missing.items()]
    results = yield from run_merged(parts, reads=True)
    for (model, pks), part in zip(missing.items(), results, strict=True):
        if part.error is not None:
            raise part.error
        known[model].update(zip(pks, [MISSING if row is None else row for row in part.result], strict=True))


def _read_of(plan: RowPlan, pks: list[Any], keys: list[str], reading: Reading) -> Steps[list[Any]]:
    if plan.loaders is not None and not reading.cached_only:
        from .read_through import ModelLoad  # here, as it builds on this module

        operation: ModelLoad[list[Any]] = ModelLoad(plan, pks, True, plan.loaders, by_pk=True)
        operation._on_invalid = reading.on_invalid
        rows: list[Any] = yield from operation.reading(reading.refused)
        return rows
    unreadable = Unreadable(plan, reading.on_invalid)
    rows = yield from read(plan.resolved(), pks, keys, unreadable)
    unreadable.check()
    return rows
