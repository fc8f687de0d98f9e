"""Removing rows by primary key."""

from __future__ import annotations

from typing import Any

from ..store import Call
from .base import Operation, R, Steps, slices
from .notices import notice

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
        keys = plan.identity.identify(rows, True, self._many)[1]
        before, after = notice("pre_delete", plan.model), notice("post_delete", plan.model)
        instances = [] if before is after is None else plan.adopt(rows)
        if before is not None:
            for instance in instances:
                before(instance=instance)
        existed: Any = yield from self._delete(keys)
        if after is not None and (self._many or existed):
            for instance in instances:
                after(instance=instance)
        return existed  # type: ignore[no-any-return]

    def _delete(self, keys: list[str]) -> Steps[bool]:
        backend = self._plan.backend
        if not self._many:
            return bool((yield Call(backend, "delete", (keys[0],))))
        existed = True
        for part in slices(dict.fromkeys(keys), self._chunk or backend.chunk_size):
            existed = bool((yield Call(backend, "delete_many", tuple(part)))) and existed
        return existed
