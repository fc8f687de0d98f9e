"""The rows that users pass, as instances: the Python version of ``_adopt_c.pyx``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._assigned import ALL
from ._slots_py import Slot

__all__ = ["Adopter"]


class Adopter:
    """Turns rows of one model into instances.

    Args:
        model: the model class.
        fields: the field for every name that a row may use.
        references: its foreign keys.
    """

    def __init__(self, model: Any, fields: Mapping[str, Any], references: tuple[Any, ...]) -> None:
        self.model = model
        self.fields = dict(fields)
        self.references = references
        self._setters: dict[str, Any] = {}

    def adopt(self, rows: Iterable[Any], changes: bool = False, many: bool = False) -> list[Any]:
        """Return rows as instances: instances as they are, mappings as new ones.

        Foreign keys take over the keys that their related instances got since they were assigned.

        Args:
            rows: mappings and instances.
            changes: whether mappings hold changes of rows that exist. ``__init__`` is not called for them, and all
                their values count as changed.
            many: whether errors should say which row it is.

        Raises:
            ShapeError: something that is no row of this model, or an unknown name.
            ValidationError: the two names of a foreign key have different values.
        """
        model = self.model
        plain = changes or model._plain_init
        setters = self._setters or self._find_setters()
        instances: list[Any] = []
        for row in rows:
            if type(row) is model:
                instance = row
            elif type(row) is not dict and not isinstance(row, Mapping):
                raise model._meta.not_a_row(type(row).__name__, len(instances) if many else None)
            elif plain:
                instance = model.__new__(model)
                for name, value in row.items():
                    put = setters.get(name)
                    if put is None:
                        raise model._meta.unknown_name(name, len(instances) if many else None)
                    put(instance, value)
                if self.references and len(row) > 1:
                    model._meta.check_names(row, len(instances) if many else None)
                if changes:
                    model._assigned.poke(instance, ALL)
            else:
                instance = model(**row)
            if self.references and instance._related:
                for reference in self.references:
                    reference.settle(instance)
            instances.append(instance)
        return instances

    def _find_setters(self) -> dict[str, Any]:
        self._setters = {name: _setter(field) for name, field in self.fields.items()}
        return self._setters


def _setter(field: Any) -> Any:
    """Return the function that sets a field of a new instance, of which nothing has been changed yet."""
    if type(field).__set__ is Slot.__set__:
        return field._member.__set__
    return field._hold if field.holds_ids else field.__set__
