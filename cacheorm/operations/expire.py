"""Setting the lifetime of stored rows anew."""

from __future__ import annotations

from typing import Any

from ..errors import WriteError
from ..requests import Call, Steps
from .base import WriteOperation
from .lifetimes import restamp
from .presence import is_there, those_there
from .rows import slices

__all__ = ["ModelExpire"]


class ModelExpire(WriteOperation[list[bool]]):
    """Sets the lifetime of rows anew; returns for each, in the order given, whether it exists.

    What is stored is read before, since it may be a remembered miss or a lease, whose lifetime is not changed.

    Raises (on execute):
        ValidationError: a part of a primary key is missing or of the wrong type; nothing was changed.
        WriteError: rows that are kept stale after their lifetime, and that the backend refused to write with another.
    """

    _verb = "expire"

    def steps(self) -> Steps[list[bool]]:
        plan = self._plan
        if not self._many:
            (row,) = self._rows
            pk, key = plan.identity.identify_one(row, True)
            if not (yield from is_there(plan, pk, key)):
                return [False]
            if (yield from self._renew([pk], [key])):
                return [True]
            return [bool((yield Call(plan.backend, "touch", (key, self._pick_ttl()))))]
        pks, keys = self._identify(self._rows)
        pk_of = dict(zip(keys, pks, strict=True))
        existed = dict.fromkeys(keys, False)
        for part in slices([*pk_of], self._batch_size(len(keys))):
            there = yield from those_there(plan, [pk_of[key] for key in part], part)
            renewed = yield from self._renew([pk_of[key] for key in there], there)
            existed |= dict.fromkeys(renewed, True)
            if left := [key for key in there if key not in renewed]:
                existed |= yield Call(plan.backend, "touch_many", (left, self._pick_ttl()))
        return [existed[key] for key in keys]

    def _renew(self, pks: list[Any], keys: list[str]) -> Steps[set[str]]:
        """Set the lifetime in the headers of rows that are kept stale; return the keys of those that have one."""
        aging = self._plan.aging
        if aging is None or not aging.keeps or not keys:
            return set()
        renewed = yield from restamp(self._plan, pks, keys, aging.stamp(self._ttl), self._pick_ttl())
        if renewed.reasons:
            raise WriteError(self._failed_rows(renewed.reasons, renewed.unsure))
        return {key for key in renewed if renewed[key]}
