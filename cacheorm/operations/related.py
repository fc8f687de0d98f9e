"""Loading the rows that foreign keys refer to, a level at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

from ..fields import ForeignKeyField
from ..fields.foreign import MISSING
from ..metadata import RowPlan
from ..store import Fetch, run
from .base import Steps

__all__ = ["Tree", "check_path", "load_related", "paths_of", "preload", "refers_to"]

Tree = dict[ForeignKeyField[Any], "Tree"]
"""The references of one model that are to be loaded, and those of the models they refer to."""


def preload(instances: Iterable[Any], *paths: Any) -> list[Any]:
    """Load the rows that foreign keys of instances refer to, with one read per level and backend.

    Rows that are referred to more than once are read once, and are one object. What an instance has loaded already is
    kept. After that, access to the reference reads nothing: it gives the row, ``None`` for a null reference, or raises
    ``DoesNotExist`` where the row is gone.

    Args:
        instances: instances, of one model or of several; ``None`` among them is skipped.
        paths: foreign keys (``Article.author``), or their names with those of the models they lead to
            (``"article.author"``). Of several models, each path is followed from those that have it.

    Returns:
        The instances, as a list.

    Raises:
        TypeError: a path that is neither, or something that is no instance of a model.
        ValueError: a path that none of the models has.
        PayloadError: stored bytes that are no row of their model.
    """
    given = list(instances)
    by_model: dict[Any, list[Any]] = {}
    for instance in given:
        if instance is not None:
            if not hasattr(type(instance), "_meta"):
                raise TypeError(f"preload takes instances of models, got {type(instance).__name__}")
            by_model.setdefault(type(instance), []).append(instance)
    trees = paths_of([model._meta for model in by_model], paths)
    run(load_related([(rows, tree) for rows, tree in zip(by_model.values(), trees, strict=True)], {}))
    return given


def paths_of(plans: list[RowPlan], paths: Iterable[Any]) -> list[Tree]:
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
    """Raise :exc:`TypeError` for what cannot be a path."""
    if not isinstance(path, (str, ForeignKeyField)):
        raise TypeError(f"expected a foreign key or a path such as 'article.author', got {type(path).__name__}")


def _follow(plan: RowPlan, path: str | ForeignKeyField[Any], tree: Tree) -> str | None:
    """Enter a path into the tree of a model; give the reason if the model has no such path."""
    steps = [path.name] if isinstance(path, ForeignKeyField) else path.split(".")
    found: list[ForeignKeyField[Any]] = []
    if isinstance(path, ForeignKeyField) and not issubclass(plan.model, path.model or ()):
        owner = path.model.__name__ if path.model else "no model"
        return f"{path!r} belongs to {owner}: from {plan.model.__name__}, name the whole path, as 'article.author'"
    for name in steps:
        field = plan.fields.get(name)
        if not isinstance(field, ForeignKeyField):
            known = ", ".join(one.name for one in plan.references) or "none"
            return f"{plan.model.__name__} has no foreign key {name!r}; it has: {known}"
        found.append(field)
        plan = field.rel_model._meta
    for field in found:
        tree = tree.setdefault(field, {})
    return None


def refers_to(tree: Tree, model: Any) -> bool:
    """Tell whether rows of ``model`` are among those that a tree leads to."""
    return any(field.rel_model is model or refers_to(below, model) for field, below in tree.items())


Known = dict[tuple[Any, str], Any]


def load_related(level: list[tuple[list[Any], Tree]], known: Known) -> Steps[None]:
    """Load the rows that instances refer to, level by level.

    Args:
        level: instances of one model each, with what is to be loaded of them.
        known: rows that need not be read, by model and key; those that are read are added.
    """
    while level:
        edges = [_Edge(field, rows, below) for rows, tree in level for field, below in tree.items()]
        wanted: dict[tuple[Any, str], Any] = {}
        for edge in edges:
            wanted |= {place: pk for place, pk in edge.places.items() if place not in known}
        yield from _read(wanted, known)
        level = [(edge.settle(known), edge.below) for edge in edges]
        level = [(rows, tree) for rows, tree in level if rows and tree]


class _Edge:
    """One reference of the instances of one model, and the rows that it leads to.

    Attributes:
        below: what is to be loaded of those rows.
        places: model and key of each row that is referred to and not loaded yet, with its primary key.
    """

    def __init__(self, field: ForeignKeyField[Any], instances: list[Any], below: Tree) -> None:
        self.below = below
        self._name = field.name
        self._loaded: list[Any] = []
        self._waiting = instances
        ids = _plain_ids(field, instances)
        self._ids = ids or []
        if ids is None:
            self._waiting = []
            for instance in instances:
                loaded = instance._related
                related = loaded.get(field.name) if loaded else None
                if related is not None and related is not MISSING:
                    self._loaded.append(related)
                    continue
                value = field.object_id(instance)
                if value is not None:
                    self._waiting.append(instance)
                    self._ids.append(value)
        target = field.rel_model
        plan = target._meta
        # A row that many refer to is identified once.
        distinct = [value for value in dict.fromkeys(self._ids) if value is not None]
        pks, keys = plan.identity.identify(map(plan.row_of, distinct), True)
        self._places = {value: (target, key) for value, key in zip(distinct, keys, strict=True)}
        self.places = dict(zip(self._places.values(), pks, strict=True))

    def settle(self, known: Known) -> list[Any]:
        """Hand the rows to the instances that refer to them, and give each row once."""
        name = self._name
        rows = {value: known.get(place) for value, place in self._places.items()}
        related = {value: MISSING if row is None else row for value, row in rows.items()}
        poke: Any = type(self._waiting[0])._related.poke if self._waiting else None
        # Everything made here lives on, so that a collection in between would only walk it in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            for instance, value in zip(self._waiting, self._ids, strict=True):
                if value is not None:
                    loaded = instance._related
                    if loaded is None:
                        poke(instance, {name: related[value]})
                    else:
                        loaded[name] = related[value]
        finally:
            if collecting:
                gc.enable()
        return list({id(row): row for row in (*self._loaded, *rows.values()) if row is not None}.values())


def _plain_ids(field: ForeignKeyField[Any], instances: list[Any]) -> list[Any] | None:
    """Give the ids that instances refer to, ``None`` for null, where all were read and none has loaded anything."""
    if not instances or any(map(type(instances[0])._related.peek, instances)):
        return None
    ids = [*map(field.peek, instances)]
    kinds = {*map(type, ids)}
    if any(hasattr(kind, "_meta") for kind in kinds) or (field.default is not None and type(None) in kinds):
        return None
    return ids


def _read(wanted: dict[tuple[Any, str], Any], known: Known) -> Steps[None]:
    """Read rows of any models, with one read per backend."""
    by_backend: dict[int, tuple[Any, dict[Any, list[str]]]] = {}
    for model, key in wanted:
        backend = model._meta.backend
        _, by_model = by_backend.setdefault(id(backend), (backend, {}))
        by_model.setdefault(model, []).append(key)
    for backend, by_model in by_backend.values():
        payloads: list[bytes | None] = []
        asked = [key for keys in by_model.values() for key in keys]
        yield Fetch(backend, asked, lambda _, part, payloads=payloads: payloads.extend(part))  # type: ignore[misc]
        start = 0
        for model, keys in by_model.items():
            part = payloads[start : start + len(keys)]
            pks = [wanted[model, key] for key in keys]
            rows = model._meta.resolved().codec.load_many(part, pks, keys)
            known.update(zip([(model, key) for key in keys], rows, strict=True))
            start += len(keys)
