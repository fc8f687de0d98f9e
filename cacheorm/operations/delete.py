"""Removing rows by primary key."""

from __future__ import annotations

from typing import Any

from ..store import Call
from .base import Operation, R, Steps, slices

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
        backend = plan.backend
        keys = plan.identity.identify(self._rows, True, self._many)[1]
        existed: Any
        if self._many:
            existed = True
            for part in slices(dict.fromkeys(keys), self._chunk or backend.chunk_size):
                existed = bool((yield Call(backend, "delete_many", tuple(part)))) and existed
        else:
            existed = bool((yield Call(backend, "delete", (keys[0],))))
        return existed  # type: ignore[no-any-return]
