"""Reading rows by primary key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from .._speedups import keys as key_makers
from ..errors import BackendError
from ..payload import ABSENT
from ..store import Call, Fetch
from ..types import TTL
from .ahead import Wanted
from .base import Operation, R, Steps, slices
from .related import Path, Tree, load_related_of_read, paths_of

if TYPE_CHECKING:
    from .load import Loader, ModelLoad

__all__ = ["LEASE_SECONDS", "Gaps", "ModelQuery", "read"]

Gaps = dict[str, tuple[Any, bytes | None]]
"""Where no row is: the primary key by backend key, and what is stored instead of a row, if anything."""

LEASE_SECONDS = 5
"""Longer than nearly every query of a database, and short enough to wait for after a process has died."""


class ModelQuery(Operation[R]):
    """Reads rows; gives an instance or ``None`` for each, in the order asked.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type.
        TypeError: names that are not the primary key's.
        PayloadError: stored bytes that are no row of the model.
    """

    _paths: tuple[Path, ...] = ()
    _tree: Tree | None = None

    def preload(self, *paths: Path) -> Self:
        """Load the rows that foreign keys refer to as well, with one read per level and backend.

        Args:
            paths: foreign keys (``Article.author``), names with dots between (``"article.author"``), and tuples of
                such steps (``(Collection.article, Article.author)``).

        Raises:
            TypeError: a path that is neither.
            ValueError: a foreign key that the model does not have.
        """
        wanted = (*self._paths, *paths)
        (self._tree,) = paths_of([self._plan], wanted)
        self._paths = wanted
        return self

    def load_missing(self, loader: Loader, *, negative_ttl: TTL = None, lease: TTL = LEASE_SECONDS) -> ModelLoad[R]:
        """Have what is not in the cache loaded and stored; of several callers at a time one loads each row.

        Args:
            loader: called at most once with the list of the missing primary keys, plain values, or tuples for composite
                ones, in the order asked and without duplicates. It gives rows (dicts or instances), either as a
                dict by primary key, where the rows need not hold it, or as any iterable. What it leaves out, or gives
                ``None`` for, does not exist.
            negative_ttl: seconds for which it is remembered that a row does not exist; ``None``: it is not.
            lease: seconds for which callers in other processes leave a row to the one that loads it, and during which
                (less one) a row that is deleted meanwhile is not stored; ``None``: no leases are taken.

        Returns:
            An operation with the result of this one; its ``ttl`` is that of the loaded rows.

        Raises (on execute):
            ValidationError, TypeError: as for any query; a loaded row is none of the model.
            ValueError: the loader gave a row that it was not asked for, or one twice.
            WriteError: loaded rows that the backend refused.

            What the loader raises reaches all callers of this process that wait for it; nothing is stored then.
        """
        from .load import ModelLoad  # here, as it builds on this module

        operation: ModelLoad[R] = ModelLoad(self._plan, self._rows, self._many, loader, negative_ttl, lease)
        operation._chunk = self._chunk
        operation._paths, operation._tree = self._paths, self._tree
        return operation

    def steps(self) -> Steps[R]:
        result: Any = yield from (self._query_many() if self._many else self._query_one())
        if self._tree:
            yield from self._load_related(result if self._many else [result], self._tree)
        return result  # type: ignore[no-any-return]

    def _load_related(self, rows: list[Any], tree: Tree) -> Steps[None]:
        yield from load_related_of_read([(self._plan.model, rows, tree)])

    def _query_one(self) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        return None if payload is None else resolved.codec.load(payload, pk, key)

    def _query_many(self) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        size = self._chunk or resolved.backend.chunk_size
        rows = self._rows
        if getattr(resolved.backend, "reads_ahead", False) and isinstance(rows, (list, tuple)) and len(rows) > size:
            return (yield from self._query_ahead(resolved, rows, size))
        if type(rows) is list and 0 < len(rows) <= size:
            return (yield from read(resolved, *self._plan.identity.identify(rows, True)))
        found: list[Any] = []
        for part in slices(rows, size):
            pks, keys = self._plan.identity.identify(part, True)
            found += yield from read(resolved, pks, keys)
        return found

    def _query_ahead(self, resolved: Any, rows: Sequence[Any], size: int) -> Steps[list[Any]]:
        identify = self._plan.identity.identify
        wanted = Wanted(rows, size, lambda part: identify(part, True), resolved.codec.load_many)
        yield Fetch(resolved.backend, wanted, wanted.receive)
        _check_count(resolved.backend, len(wanted.found), len(rows))
        return wanted.found


def read(resolved: Any, pks: list[Any], keys: list[str], gaps: Gaps | None = None) -> Steps[list[Any]]:
    """Read rows; the same key at several places gives the same instance there.

    Args:
        resolved: the model's backend and codec.
        pks: the primary keys.
        keys: the backend keys.
        gaps: gets the primary key and the payload of each key where there is no row, unless that is a remembered miss.
    """
    repeated = key_makers.has_repeats(keys)
    distinct = dict(zip(keys, pks, strict=True)) if repeated else {}
    asked, wanted = (list(distinct), list(distinct.values())) if repeated else (keys, pks)
    found = _Found(resolved.codec, wanted, asked, gaps)
    yield Fetch(resolved.backend, asked, found.receive)
    rows = found.rows
    _check_count(resolved.backend, len(rows), len(asked))
    if repeated:
        by_key = dict(zip(asked, rows, strict=True))
        return [by_key[key] for key in keys]
    return rows


class _Found:
    """The rows of one read; many reads may wait at a time, so that each should be few objects."""

    __slots__ = ("_codec", "_gaps", "_keys", "_pks", "rows")

    def __init__(self, codec: Any, pks: list[Any], keys: list[str], gaps: Gaps | None) -> None:
        self._codec = codec
        self._pks = pks
        self._keys = keys
        self._gaps = gaps
        self.rows: list[Any] = []

    def receive(self, position: int, payloads: list[bytes | None]) -> None:
        """Make rows of the values of the keys from ``position`` on."""
        pks, keys = self._pks, self._keys
        end = position + len(payloads)
        if position or end != len(keys):
            pks, keys = pks[position:end], keys[position:end]
        loaded = self._codec.load_many(payloads, pks, keys)
        self.rows += loaded
        if self._gaps is not None:
            for at in key_makers.gaps(loaded):
                if payloads[at] != ABSENT:
                    self._gaps[keys[at]] = pks[at], payloads[at]


def _check_count(backend: Any, given: int, asked: int) -> None:
    if given != asked:
        # Going on would give rows to the wrong keys.
        raise BackendError(f"{type(backend).__name__} gave {given} values for {asked} keys")
