"""Removing rows by primary key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..store import Call, Tell
from .base import Operation, R, Steps, slices
from .notices import notices

__all__ = ["ModelDelete"]


class ModelDelete(Operation[R]):
    """Removes rows; gives ``True`` if the row existed, for many rows only if all of them did.

    All rows are removed either way.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was removed.
        TypeError: names that are not the primary key's; nothing was removed.
    """

    def steps(self) -> Steps[R]:
        plan = self._plan
        rows = list(self._rows) if self._many else self._rows
        pks, keys = plan.identity.identify(rows, True, self._many)
        told = notices("delete", plan.model)
        instances = [] if told is None else self._instances(rows, pks, keys)
        if told is not None and told.before is not None:
            yield Tell(told.before, instances, {})
        backend = plan.backend
        existed: Any
        if self._many:
            existed = True
            for part in slices(dict.fromkeys(keys), self._chunk or backend.chunk_size):
                existed = bool((yield Call(backend, "delete_many", tuple(part)))) and existed
        else:
            existed = bool((yield Call(backend, "delete", (keys[0],))))
        if told is not None and told.after is not None and (self._many or existed):
            yield Tell(told.after, instances, {})
        return existed  # type: ignore[no-any-return]

    def _instances(self, rows: Iterable[Any], pks: list[Any], keys: list[str]) -> list[tuple[int, Any]]:
        """Give what receivers get, each row once and after its place: instances, or their keys as instances."""
        plan = self._plan
        found: dict[str, tuple[int, Any]] = {}
        for place, (row, pk, key) in enumerate(zip(rows, pks, keys, strict=True)):
            if key not in found:
                found[key] = place, row if type(row) is plan.model else plan.adopt([plan.row_of(pk)])[0]
        return list(found.values())
