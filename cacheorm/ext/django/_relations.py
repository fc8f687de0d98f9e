"""Foreign keys between cached models, which may be made in any order, or not at all."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, NoReturn

from ...errors import CacheORMError
from ...fields import Field, ForeignKeyField
from ...models import Model
from ._registry import cached_model_of

__all__ = ["Related"]


class Related(ForeignKeyField[Any]):
    """A foreign key to the cached model of the Django model that a foreign key of Django refers to.

    That model is looked up at each use until there is one. Before, the id can be read and written, and access to the
    row, or a preload of it, is a :exc:`CacheORMError` that says what is missing.

    Args:
        field: the foreign key of Django.
        key: makes the field of the primary key that it refers to.
    """

    def __init__(self, field: Any, key: Any, **options: Any) -> None:
        self._field = field
        self._key = key
        super().__init__(field.related_model._meta.label, field.attname, **options)
        self.find = partial(cached_model_of, field.related_model)

    @property
    def rel_model(self) -> type[Model]:
        found = self._known
        if found is None:
            return self._stand_in
        self.target = found
        return found

    @property
    def slot_converter(self) -> Any:
        # That of the id, by which rows are packed and read without a call for each; it is the same for both models.
        return self.rel_model._meta.key_fields[0].slot_converter

    @cached_property
    def _stand_in(self) -> type[Model]:
        """A model without rows in place of one that is not cached, for the conversion of ids."""
        return _stand_in_for(self._field, self._key())


def _stand_in_for(foreign_key: Any, key: Field[Any]) -> type[Model]:
    name = foreign_key.related_model._meta.label
    owner = f"{foreign_key.model._meta.label}.{foreign_key.name}"

    def refuse(pks: list[Any]) -> NoReturn:
        raise CacheORMError(
            f"{owner} refers to {name}, which is not cached: call cached() for it too, or read the id,"
            f" {foreign_key.attname}"
        )

    class NotCached(Model):
        id = key

        class Meta:
            backend = "memory://"
            loader = refuse

    NotCached.__name__ = foreign_key.related_model.__name__
    return NotCached
