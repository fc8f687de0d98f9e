"""Operations on rows of several models in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NoReturn, Self, cast

from .._speedups import keys as key_makers
from ..errors import BackendError, ConflictError, FailedRow, ShapeError, ValidationError, WriteError
from ..metadata import RowPlan
from ..requests import Steps
from ..types import is_model, not_a_model
from .base import Operation, R
from .delete import ModelDelete
from .insert import MadeKeys, ModelInsert, related_to
from .loaded_rows import not_stored
from .merging import OperationResult, run_merged
from .preloading import Path, Reading, check_path, load_related_of_read, paths_of
from .query import ModelQuery
from .rows import DrawnRows, as_keys, as_rows
from .update import ModelUpdate

__all__ = ["Delete", "Insert", "Query", "Update"]


# Attributes of an operation on several models that are no modifiers, which the operation on each model has too.
_OWN = {"_begun", "_drawn", "_kept", "_made_keys", "_many", "_part_of", "_plan", "_rows"}

# What stands for one row in a pair, or for none.
_SINGLE = key_makers.KEY_TYPES | {dict}


class _Rows:
    """The rows of one model in a call, and their positions in it."""

    def __init__(self, rows: list[Any], start: int) -> None:
        self.rows = rows
        self.positions: list[int] | range = range(start, start + len(rows))


class _OverModels(Operation[R]):
    """The base class of operations on several models: one operation for each model, run concurrently.

    It has the modifiers of the operation on one model, and passes them on.
    """

    _single: ClassVar[type[Operation[Any]]]
    _written: ClassVar[str] = "stored"
    _by_key: ClassVar[bool] = False
    """Whether rows may be primary keys."""

    def __init__(self, *items: Any) -> None:
        only = items[0] if len(items) == 1 else None
        rows = DrawnRows(only) if isinstance(only, Iterator) and not is_model(type(only)) else items
        super().__init__(cast("RowPlan", None), rows, True)
        # What an execution that failed leaves for the next one: the parts, and the rows of iterators in pairs.
        self._part_of: dict[Any, Operation[Any]] = {}
        self._drawn: dict[int, DrawnRows] = {}

    def _ended(self, result: R) -> R:
        self._part_of = {}
        for rows in self._drawn.values():
            rows.forget()
        return super()._ended(result)

    def _named(self) -> str:
        # The items of an iterator are not known yet.
        items: Any = () if type(self._rows) is DrawnRows else self._rows
        if len(items) == 1 and type(items[0]) in (list, tuple) and not _is_pair(items[0]):
            (items,) = items
        models = [item[0] if _is_pair(item) else type(item) for item in items]
        names = dict.fromkeys(model.__name__ for model in models if is_model(model))
        return f"rows of {', '.join(names) or 'several models'}"

    def _first_backend(self) -> Any:
        items: Any = self._rows
        if type(items) is DrawnRows:
            return None
        if len(items) == 1 and isinstance(items[0], (list, tuple)) and not _is_pair(items[0]):
            (items,) = items
        if not items:
            return None
        model = items[0][0] if _is_pair(items[0]) else type(items[0])
        return model._meta.backend if is_model(model) else None

    def _by_model(self) -> dict[Any, _Rows]:
        """Group the rows by model.

        Raises:
            TypeError: something that is neither an instance nor a pair of a model and rows.
        """
        items: Any = self._rows
        if type(items) is not DrawnRows and len(items) == 1 and not _is_pair(items[0]) and not is_model(type(items[0])):
            (items,) = items
            if not isinstance(items, Iterable) or isinstance(items, (str, bytes, Mapping)):
                raise _not_rows(items)
        by_model: dict[Any, _Rows] = {}
        count = 0
        for item in items:
            # No function is called for an item of a model that has occurred before: there may be many of them.
            row, group = item, by_model.get(type(item))
            if group is None and type(item) is tuple and len(item) == 2 and isinstance(item[0], type):
                row, group = item[1], by_model.get(item[0])
            if group is None or not (row is item or type(row) in _SINGLE):
                model, rows = self._pair_of(item)
                group = by_model.get(model)
                if group is None:
                    by_model[model] = _Rows(rows, count)
                    count += len(rows)
                    continue
            else:
                rows = [row]
            if type(group.positions) is range:
                group.positions = [*group.positions]
            group.rows += rows
            group.positions += range(count, count + len(rows))
            count += len(rows)
        return by_model

    def _pair_of(self, item: Any) -> tuple[Any, list[Any]]:
        """Return the model and the rows of an item of the call.

        Raises:
            TypeError: something that is neither an instance nor a pair of a model and rows.
        """
        if is_model(type(item)):
            return type(item), [item]
        if not _is_pair(item):
            raise _not_rows(item)
        model, given = item
        rows = as_keys(model._meta, (given,)) if self._by_key else as_rows((given,))
        if type(rows) is DrawnRows:
            rows = self._drawn.setdefault(id(given), rows)
        return model, [*rows]

    def _adopt_all(self, by_model: dict[Any, _Rows], changes: bool = False) -> None:
        # As instances, since errors need the keys of rows, and keys may come from defaults.
        for model, group in by_model.items():
            try:
                group.rows = model._meta.adopt(group.rows, changes, True)
            except (ShapeError, ValidationError) as error:
                raise error.repositioned(group.positions) from error.__cause__

    def _parts(self, by_model: dict[Any, _Rows]) -> list[Operation[Any]]:
        """Return the operation on each model, with the modifiers of this one."""
        modifiers = {name: value for name, value in vars(self).items() if name not in _OWN}
        parts = {}
        for model, group in by_model.items():
            part = parts[model] = self._part_of.get(model) or self._single(model._meta, (), True)
            vars(part).update(modifiers, _rows=group.rows, _is_part=True)
        self._part_of = parts
        return list(parts.values())

    def _in_order(self, by_model: dict[Any, _Rows], results: Iterable[Any]) -> list[Any]:
        """Return the results of the models in the order of their rows in the call."""
        if len(by_model) == 1:
            return next(iter(results))
        ordered: list[Any] = [None] * sum(len(group.positions) for group in by_model.values())
        for group, result in zip(by_model.values(), results, strict=True):
            positions = group.positions
            if positions and positions[-1] - positions[0] < len(positions):  # nothing lies between them
                ordered[positions[0] : positions[-1] + 1] = result
            else:
                for position, row in zip(positions, result, strict=True):
                    ordered[position] = row
        return ordered

    def _write(self, by_model: dict[Any, _Rows]) -> Steps[list[OperationResult]]:
        """Run the operations on the models.

        Raises:
            WriteError: rows that are not written; all others have been.
        """
        results = yield from self._run(by_model)
        if any(outcome.error for outcome in results):
            raise self._failure(by_model, results)
        return results

    def _run(self, by_model: dict[Any, _Rows]) -> Steps[list[OperationResult]]:
        positions = [group.positions for group in by_model.values()]
        parts = zip(self._parts(by_model), positions, strict=True)
        return (yield from run_merged([_positioned(part.steps, of_part) for part, of_part in parts], positions))

    def _failure(self, by_model: dict[Any, _Rows], results: Sequence[OperationResult]) -> WriteError:
        failed: list[FailedRow] = []
        written: list[tuple[str, str]] = []
        for (model, group), outcome in zip(by_model.items(), results, strict=True):
            name = model.__name__
            error, done = outcome.error, outcome.written()
            keys = dict.fromkeys(model._meta.identity.identify(group.rows, self._by_key)[1])
            if isinstance(error, BackendError):
                # Without the remark that the write may have been applied, which is wrong for rows that were never sent.
                reason = str(error.args[0])
                left = [key for key in keys if key not in done]
                failed += [
                    FailedRow(name, key, str(error), True) if key in outcome.unsure else FailedRow(name, key, reason)
                    for key in left
                ]
                written += [(name, key) for key in keys if key in done]
            else:
                refused = error.failed if error else []
                failed += refused
                named = {row.key for row in refused}
                written += [(name, key) for key in keys if key not in named]
        errors = [outcome.error for outcome in results if outcome.error]
        kind = ConflictError if all(isinstance(error, ConflictError) for error in errors) else WriteError
        failure = kind(failed, written, self._written)
        failure.__cause__ = next((error for error in errors if isinstance(error, BackendError)), None)
        return failure


def _positioned(steps: Callable[[], Steps[R]], positions: Sequence[int]) -> Steps[R]:
    """Run an operation whose errors name the position of a row among all rows of the call."""
    try:
        # No variable refers to it: it ends with this one, even if a traceback keeps this frame.
        return (yield from steps())
    except (ShapeError, ValidationError) as error:
        raise error.repositioned(positions) from error.__cause__


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2 and is_model(item[0])


def _not_rows(item: Any) -> TypeError:
    return TypeError(f"expected instances of models and pairs of a model and its rows, got {not_a_model(item)}")


class Insert(_OverModels[list[Any]], ModelInsert[list[Any]]):
    """Writes rows of any models, replacing rows with the same keys, and returns the instances in the order given.

    All rows of all models are converted before the first byte is sent. Then each backend gets one write (for each
    lifetime, and in parts if there are many rows).

    ::

        co.Insert([sam, (Article, [{"id": 1, "author": sam}, {"id": 2, "author": sam}])]).execute()

    Args:
        items: instances, and pairs of a model and its rows (dicts and instances), or one iterable of them.

    Raises (on execute):
        TypeError: something else among the items.
        ValidationError: all bad fields of the first bad row; nothing was written.
        WriteError: rows that are not stored, for any reason; ``.stored`` lists those that are.
    """

    _single = ModelInsert

    def steps(self) -> Steps[list[Any]]:
        by_model = self._kept or self._by_model()
        self._kept = None
        self._adopt_all(by_model)
        made = {model: MadeKeys(model._meta) for model in by_model}
        for model, group in by_model.items():
            made[model].look(group.rows)
        # Not by the operations on the models, since errors need the keys of rows.
        self._made_keys = [*made.values()]
        keyless = [pair for keys in self._made_keys for pair in keys.rows]
        try:
            if keyless and any(model._meta.references for model in by_model):
                # Rows may refer to other rows of the call, so keys from defaults are set before the conversion.
                for field, row in keyless:
                    field.poke(row, field.make_default())
                self._adopt_all(by_model)
            results = yield from self._write(by_model)
        except BaseException as error:
            related = related_to(group.rows for group in by_model.values())
            for keys in self._made_keys:
                keys.settle(error, related)
            if keyless and any(keys.sent for keys in self._made_keys):
                self._kept = by_model
            raise
        return self._in_order(by_model, [outcome.result for outcome in results])

    def _parts(self, by_model: dict[Any, _Rows]) -> list[Operation[Any]]:
        parts: list[Any] = super()._parts(by_model)
        for part, made in zip(parts, self._made_keys, strict=True):
            part._made = made
        return parts


class Update(_OverModels[list[Any]], ModelUpdate[list[Any]]):
    """Changes the named fields of rows of any models; returns them in the order given, ``None`` for rows not found.

    Each backend gets one read and one write (for each lifetime). With ``.atomic()``, rows that others have changed
    meanwhile are tried again.

    Args:
        items: instances, and pairs of a model and rows (dicts of key fields and changes, and instances), or one
            iterable of them.

    Raises (on execute):
        TypeError: something else among the items.
        ValidationError: all bad fields of the first bad row; nothing was written.
        PayloadError: stored bytes that are no row of their model; its ``failed`` lists all such rows of the parts that
            were read, and these were not written.
        WriteError: rows that are not stored, for any reason; ``.stored`` lists those that are, and those that did not
            exist.
    """

    _single = ModelUpdate

    def steps(self) -> Steps[list[Any]]:
        by_model = self._by_model()
        self._adopt_all(by_model, True)
        results = yield from self._write(by_model)
        return self._in_order(by_model, [outcome.result for outcome in results])


class Delete(_OverModels[bool], ModelDelete[bool]):
    """Removes rows of any models; returns ``True`` only if all of them existed. All are removed either way.

    Args:
        items: instances, and pairs of a model and primary keys (as for ``delete_many``), or one iterable of them.

    Raises (on execute):
        TypeError: something else among the items.
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was removed.
        WriteError: rows that could not be removed, because a backend failed; ``.stored`` lists the others.
    """

    _single = ModelDelete
    _by_key = True
    _written = "removed"

    def steps(self) -> Steps[bool]:
        results = yield from self._write(self._by_model())
        return all(outcome.result for outcome in results)


class Query(_OverModels[list[Any]], ModelQuery[list[Any]]):
    """Reads rows of any models; returns instances in the order asked, ``None`` for misses.

    Each backend gets one read. Of models with a ``Meta.loader``, rows that are not in the cache are loaded, with one
    call per model.

    Args:
        items: instances, and pairs of a model and primary keys (as for ``query_many``), or one iterable of them.

    Raises (on execute):
        TypeError: something else among the items.
        ValidationError: a part of a primary key is missing or of the wrong type.
        PayloadError: stored bytes that are no row of their model; its ``failed`` lists all such rows.
        BackendError: a backend failed.
    """

    _single = ModelQuery
    _by_key = True

    def preload(self, *paths: Path) -> Self:
        """Also load the rows that foreign keys refer to; each path is followed from the models that have it."""
        for path in paths:
            check_path(path)
        self._paths = (*self._paths, *paths)
        return self

    def load_missing(self, loader: Any, **options: Any) -> NoReturn:
        """Raise :exc:`TypeError`: a loader is for the rows of one model."""
        raise TypeError(
            "a loader is for the rows of one model: declare a Meta.loader in each, or query them one by one"
        )

    def steps(self) -> Steps[list[Any]]:
        by_model = self._by_model()
        trees = paths_of([model._meta for model in by_model], self._paths)
        reading = Reading([], self._on_invalid, self._cached_only)
        parts: list[Any] = self._parts(by_model)
        groups = zip(parts, by_model.values(), strict=True)
        steps = [_positioned(partial(part.reading, reading.refused), group.positions) for part, group in groups]
        results = yield from run_merged(steps, reads=True)
        for outcome in results:
            if outcome.error is not None:
                raise outcome.error
        found = zip(by_model, [outcome.result for outcome in results], trees, strict=True)
        yield from load_related_of_read(found, reading)
        rows = self._in_order(by_model, [outcome.result for outcome in results])
        if reading.refused:
            raise not_stored(reading.refused, rows)
        return rows
