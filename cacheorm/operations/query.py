"""Reading rows by primary key."""

from __future__ import annotations

from typing import Any, Self

from .._speedups import keys as key_makers
from ..errors import BackendError
from ..store import Call, Fetch
from .base import Operation, R, Steps, slices
from .related import Tree, load_related, paths_of, refers_to

__all__ = ["ModelQuery"]


class ModelQuery(Operation[R]):
    """Reads rows; gives an instance or ``None`` for each, in the order asked.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type.
        TypeError: names that are not the primary key's.
        PayloadError: stored bytes that are no row of the model.
    """

    _paths: tuple[Any, ...] = ()
    _tree: Tree | None = None

    def preload(self, *paths: Any) -> Self:
        """Load the rows that foreign keys refer to as well, with one read per level and backend.

        Args:
            paths: foreign keys (``Article.author``), or their names with those of the models they lead to
                (``"article.author"``).

        Raises:
            TypeError: a path that is neither.
            ValueError: a foreign key that the model does not have.
        """
        paths = (*self._paths, *paths)
        (self._tree,) = paths_of([self._plan], paths)
        self._paths = paths
        return self

    def steps(self) -> Steps[R]:
        result: Any = yield from (self._query_many() if self._many else self._query_one())
        if self._tree:
            yield from self._load_related(result if self._many else [result], self._tree)
        return result  # type: ignore[no-any-return]

    def _load_related(self, rows: list[Any], tree: Tree) -> Steps[None]:
        found = [row for row in rows if row is not None]
        known = {}
        if refers_to(tree, self._plan.model):
            # A row that refers to another one of the same result gets that one: they were read together.
            keys = self._plan.identity.identify(found, False)[1]
            known = {(self._plan.model, key): row for key, row in zip(keys, found, strict=True)}
        yield from load_related([(found, tree)], known)

    def _query_one(self) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        return None if payload is None else resolved.codec.load(payload, pk, key)

    def _query_many(self) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        found: list[Any] = []
        for part in slices(self._rows, self._chunk or resolved.backend.chunk_size):
            pks, keys = self._plan.identity.identify(part, True)
            found += yield from read(resolved, pks, keys)
        return found


def read(resolved: Any, pks: list[Any], keys: list[str]) -> Steps[list[Any]]:
    """Read rows; the same key at several places gives the same instance there."""
    repeated = key_makers.has_repeats(keys)
    distinct = dict(zip(keys, pks, strict=True)) if repeated else {}
    asked, wanted = (list(distinct), list(distinct.values())) if repeated else (keys, pks)
    rows: list[Any] = []

    def receive(position: int, payloads: list[bytes | None]) -> None:
        end = position + len(payloads)
        whole = position == 0 and end == len(asked)
        part = (wanted, asked) if whole else (wanted[position:end], asked[position:end])
        rows.extend(resolved.codec.load_many(payloads, *part))

    yield Fetch(resolved.backend, asked, receive)
    if len(rows) != len(asked):
        # Going on would give rows to the wrong keys.
        raise BackendError(f"{type(resolved.backend).__name__} gave {len(rows)} values for {len(asked)} keys")
    if repeated:
        by_key = dict(zip(asked, rows, strict=True))
        return [by_key[key] for key in keys]
    return rows
