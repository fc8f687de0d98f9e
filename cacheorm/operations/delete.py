"""Removing rows by primary key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import BackendError
from ..requests import Call, SendSignal, Steps
from .base import Operation, R
from .presence import is_there, may_be_none, those_there
from .rows import slices
from .signal_senders import signal_senders

__all__ = ["ModelDelete"]


class ModelDelete(Operation[R]):
    """Removes rows; returns ``True`` if the row existed, or for many rows if all of them existed.

    All rows are removed either way. What is stored is read before only if it may be no row: with
    ``on_invalid = "miss"``, and on a backend on which this process has loaded rows, where it may be a remembered miss.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was removed.
        TypeError: names that are not the primary key's; nothing was removed.
    """

    _verb = "delete"
    # Of an execution that failed: the keys that it has removed, and whether one of them did not exist.
    _removed: frozenset[str] = frozenset()
    _lacked = False

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
            existed = not self._lacked
            reading = may_be_none(plan)
            pk_of = dict(zip(keys, pks, strict=True))
            left = [key for key in pk_of if key not in self._removed] if self._removed else [*pk_of]
            done = 0
            try:
                for part in slices(left, self._chunk or backend.chunk_size):
                    there = not (existed and reading) or (
                        yield from self._are_there([pk_of[key] for key in part], part)
                    )
                    existed = bool((yield Call(backend, "delete_many", tuple(part)))) and there and existed
                    done += len(part)
            finally:
                # Once for the whole operation: noted part by part, a large one would copy its keys again and again.
                ended = done == len(left) and not self._is_part
                self._removed = frozenset() if ended else self._removed.union(left[:done])
                self._lacked = not (ended or existed)
        else:
            existed = not may_be_none(plan) or (yield from self._are_there(pks, keys))
            existed = bool((yield Call(backend, "delete", (keys[0],)))) and existed
        if signals is not None and signals.after is not None and (self._many or existed):
            yield SendSignal(signals.after, instances, {})
        return existed  # type: ignore[no-any-return]

    def _are_there(self, pks: list[Any], keys: list[str]) -> Steps[bool]:
        """Return whether all these rows exist; ``True`` if they cannot be read, as they are removed all the same."""
        try:
            if self._many:
                return len((yield from those_there(self._plan, pks, keys))) == len(keys)
            return (yield from is_there(self._plan, pks[0], keys[0]))
        except BackendError:
            return True

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
