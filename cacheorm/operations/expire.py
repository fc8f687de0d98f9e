"""Setting the lifetime of stored rows anew, without reading them."""

from __future__ import annotations

from ..requests import Call, Steps
from .base import WriteOperation
from .rows import slices

__all__ = ["ModelExpire"]


class ModelExpire(WriteOperation[list[bool]]):
    """Sets the lifetime of rows anew; returns for each, in the order given, whether it exists.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was changed.
    """

    _verb = "expire"

    def steps(self) -> Steps[list[bool]]:
        plan = self._plan
        if not self._many:
            (row,) = self._rows
            return [bool((yield Call(plan.backend, "touch", (plan.key_of(row), self._pick_ttl()))))]
        keys = self._identify(self._rows)[1]
        existed: dict[str, bool] = {}
        for part in slices(dict.fromkeys(keys), self._batch_size(len(keys))):
            existed |= yield Call(plan.backend, "touch_many", (part, self._pick_ttl()))
        return [existed[key] for key in keys]
