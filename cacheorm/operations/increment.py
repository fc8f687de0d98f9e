"""The change of a row that adds to one of its fields, for an atomic update."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from ..fields import Field
from ..metadata import RowPlan

__all__ = ["Increment"]


class Increment:
    """A function for :meth:`ModelUpdate.apply` that adds a number to one field.

    Args:
        plan: the model's plan.
        field: one of its fields, or the name of one; none of the primary key.
        by: what to add.

    Raises:
        TypeError: ``by`` is no number.
        ValueError: the model has no such field, or it belongs to the primary key.
    """

    RETRIES: ClassVar = 1000
    """The retries of an increment. Of concurrent callers one succeeds at each try, so that a counter with many callers
    needs many."""

    def __init__(self, plan: RowPlan, field: Any, by: Any) -> None:
        name = field.name if isinstance(field, Field) else field
        found = plan.fields.get(name)
        if isinstance(field, Field) and field is not found:
            own = f"; pass {plan.model.__name__}.{name}, or its name" if found else ""
            raise ValueError(f"{plan.model.__name__} cannot increment {field!r}, a field of another model{own}")
        if found is None:
            raise ValueError(f"{plan.model.__name__} has no field {name!r}; it has: {', '.join(plan.fields)}")
        self.field = found
        self._label = f"{plan.model.__name__}.{name}"
        if found in plan.key_fields:
            raise ValueError(f"{self._label}: part of the primary key, which cannot change")
        self._by = self._number(by)

    def __call__(self, row: Any) -> None:
        """Add to the field of a row."""
        value = self.field.peek(row)
        if value is None:
            raise ValueError(f"{self._label}: null, there is nothing to add to")
        number = self._number(value)
        try:
            self.field.__set__(row, number + self._by)
        except TypeError:
            raise TypeError(f"{self._label}: cannot add {type(self._by).__name__} to {type(value).__name__}") from None

    def _number(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise TypeError(f"{self._label}: expected a number, got {type(value).__name__}")
        return value
