"""What the plan of a model with loaders has in place of the reader of rows: the shortest way to a row that is there."""

from __future__ import annotations

from typing import Any

from ..metadata import RowPlan
from ..payload import ABSENT
from ..sync_driver import run
from . import single_flight
from .base import R
from .query import ModelQuery
from .read_through import ModelLoad
from .single_flight import Moment

__all__ = ["LoadingReader"]


class LoadingReader:
    """Reads one row, as ``RowReader`` does for models without loaders, and turns queries into loads.

    Args:
        plan: the plan of the model.
    """

    def __init__(self, plan: RowPlan) -> None:
        self._plan = plan
        self._loaders: Any = plan.loaders

    def read(self, row: Any) -> Any:
        """Read or load one row; return ``None`` if it does not exist."""
        plan = self._plan
        resolved = plan.resolved()
        began = single_flight.now()
        pk, key = plan.identity.identify_one(row, True)
        payload = resolved.backend.get(key)
        if plan.aging is not None:
            return self._read_aged(row, pk, key, payload, began)
        found = None if payload is None else resolved.codec.load(payload, pk, key)
        if found is None and payload != ABSENT:
            return run(self._load_of_row(row).filling({key: (pk, payload)}, began))
        return found

    def _read_aged(self, row: Any, pk: Any, key: str, payload: Any, began: Moment) -> Any:
        """Read a payload with ages, or load the row; if it is due, have it loaded anew behind the answer."""
        due: list[int] = []
        (found,) = self._plan.resolved().codec.load_many([payload], [pk], [key], None, due)
        if found is None and payload != ABSENT:
            return run(self._load_of_row(row).filling({key: (pk, payload)}, began))
        if due:
            run(self._load_of_row(row).refreshing(pk, key, payload))
        return found

    def _load_of_row(self, row: Any) -> ModelLoad[Any]:
        return ModelLoad(self._plan, [row], False, self._loaders)

    def load_of(self, query: ModelQuery[R]) -> ModelLoad[R]:
        """Return the operation that does what a query asks, and loads what is missing."""
        return ModelLoad.of(query, self._loaders)
