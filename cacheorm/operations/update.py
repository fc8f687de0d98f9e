"""Changing fields of rows that exist."""

from __future__ import annotations

from typing import Any, Self

from .._speedups import slots
from ..errors import BackendError
from ..store import Call
from ..types import KEEP_TTL
from .base import R, Steps, WriteOperation, slices
from .query import read

__all__ = ["ModelUpdate"]

_ABSENT: Any = object()


class ModelUpdate(WriteOperation[R]):
    """Reads rows, changes the fields that are named, and writes them back where they still exist.

    Gives the whole row as an instance, or ``None`` where there was none. A row that is deleted between
    the read and the write stays deleted. All changes are checked before anything is read or written.

    Raises (on execute):
        ValidationError: all bad fields of the first bad row.
        PayloadError: stored bytes that are no row of the model.
        WriteError: rows that the backend refused; all others are stored.
    """

    def keep_ttl(self) -> Self:
        """Leave the rows the lifetime they have instead of starting the model's anew."""
        self._ttl = KEEP_TTL
        return self

    def steps(self) -> Steps[R]:
        plan = self._plan
        codec = plan.resolved().codec
        changes = plan.adopt(self._rows)
        codec.convert_many(changes, self._many)
        if not self._many:
            (result,) = yield from self._update(changes)
            return result  # type: ignore[no-any-return]
        updated: list[Any] = []
        for part in slices(changes, self._chunk or plan.backend.chunk_size):
            try:
                updated += yield from self._update(part)
            except BackendError as error:
                if updated:
                    error.add_note(f"{len(updated)} rows of {plan.model.__name__} had been updated before")
                raise
        return updated  # type: ignore[return-value]

    def _update(self, changes: list[Any]) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        pks, keys = self._plan.identity.identify(changes, False, self._many)
        if self._many:
            rows = yield from read(resolved, pks, keys)
        else:
            payload = yield Call(resolved.backend, "get", (keys[0],))
            rows = [None if payload is None else resolved.codec.load(payload, pks[0], keys[0])]
        existing = {key: row for key, row in zip(keys, rows, strict=True) if row is not None}
        columns = resolved.codec.columns
        merge = merge_related if self._plan.references else slots.copy
        for key, change in zip(keys, changes, strict=True):
            if key in existing:
                merge(columns, change, existing[key])
        payloads = resolved.codec.dump_many(list(existing.values()), self._many)
        if not existing:
            written: dict[str, bool] = {}
        elif self._many:
            written = yield from self._write_many("replace_many", list(existing), payloads)
        else:
            written = {keys[0]: (yield Call(resolved.backend, "replace", (keys[0], payloads[0], self._pick_ttl())))}
        # An instance that only named some fields becomes the whole row, the caller's own included.
        for key, change in zip(keys, changes, strict=True):
            if written.get(key):
                merge(columns, existing[key], change)
        return [change if written.get(key) else None for key, change in zip(keys, changes, strict=True)]


def merge_related(columns: tuple[Any, ...], source: Any, target: Any) -> None:
    """Copy the fields that ``source`` has values for, and the related instances it holds."""
    stale = target._related
    if stale:
        for field in columns:
            if field.peek(source, _ABSENT) is not _ABSENT:
                stale.pop(field.name, None)
    slots.copy(columns, source, target)
    loaded = source._related
    if loaded:
        target._relations.update(loaded)
