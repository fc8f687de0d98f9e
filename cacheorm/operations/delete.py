"""Removing rows by primary key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..requests import Call, SendSignal, Steps
from .base import Operation, R
from .rows import slices
from .signal_senders import signal_senders

__all__ = ["ModelDelete"]


class ModelDelete(Operation[R]):
    """Removes rows; returns ``True`` if the row existed, or for many rows if all of them existed.

    All rows are removed either way.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was removed.
        TypeError: names that are not the primary key's; nothing was removed.
    """

    _verb = "delete"

    def steps(self) -> Steps[R]:
        plan = self._plan
        rows = list(self._rows) if self._many else self._rows
        pks, keys = plan.identity.identify(rows, True, self._many)
        signals = signal_senders("delete", plan.model)
        instances = [] if signals is None else self._instances(rows, pks, keys)
        if signals is not None and signals.before is not None:
            yield SendSignal(signals.before, instances, {})
        backend = plan.backend
        existed: Any
        if self._many:
            existed = True
            for part in slices(dict.fromkeys(keys), self._chunk or backend.chunk_size):
                existed = bool((yield Call(backend, "delete_many", tuple(part)))) and existed
        else:
            existed = bool((yield Call(backend, "delete", (keys[0],))))
        if signals is not None and signals.after is not None and (self._many or existed):
            yield SendSignal(signals.after, instances, {})
        return existed  # type: ignore[no-any-return]

    def _instances(self, rows: Iterable[Any], pks: list[Any], keys: list[str]) -> list[tuple[int, Any]]:
        """Return pairs of a position and an instance for receivers, each key once.

        For a row that was not given as an instance, it is one with only the primary key set.
        """
        plan = self._plan
        found: dict[str, tuple[int, Any]] = {}
        for position, (row, pk, key) in enumerate(zip(rows, pks, keys, strict=True)):
            if key not in found:
                found[key] = position, row if type(row) is plan.model else plan.adopt([plan.row_of(pk)])[0]
        return list(found.values())
