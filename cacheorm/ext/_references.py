"""Foreign keys between cached models, which may be made in any order, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn

from ..declaration import ModelBase
from ..errors import CacheORMError
from ..fields import Field, ForeignKeyField
from ..models import Model

__all__ = ["LateReference", "StandIn"]


class StandIn:
    """The part of a field whose values are converted as primary keys of a model that has no rows.

    Attributes:
        make_key: makes the field of the primary key.
        refuse: returns the text of the error where its rows are asked for.
    """

    make_key: Callable[[], Field[Any]]
    refuse: Callable[[], str]

    @cached_property
    def stand_in(self) -> type[Model]:
        """The model."""

        def load(pks: list[Any]) -> NoReturn:
            raise CacheORMError(self.refuse())

        key = self.make_key()
        key.primary_key, key.null = True, False
        options = {"name": "stand-in", "backend": "memory://", "loader": load, "lease": None}
        body = {"id": key, "Meta": type("Meta", (), options), "__qualname__": "<locals>.StandIn"}
        return ModelBase("StandIn", (Model,), body)  # type: ignore[return-value]


class LateReference(StandIn, ForeignKeyField[Any]):
    """A foreign key to a cached model that is looked up at each use until there is one.

    Before, the id can be read and written, and access to the row, or a preload of it, is a :exc:`CacheORMError`.

    Args:
        to: the name of what it refers to.
        object_id_name: the name of the attribute with the id.
        find: returns the cached model, ``None`` if there is none.
        make_key: makes the field of the primary key that it refers to.
        refuse: returns the text of that error.
        options: as of other fields.
    """

    def __init__(
        self,
        to: str,
        object_id_name: str,
        find: Callable[[], type[Model] | None],
        make_key: Callable[[], Field[Any]],
        refuse: Callable[[], str],
        **options: Any,
    ) -> None:
        self.make_key, self.refuse = make_key, refuse
        super().__init__(to, object_id_name, **options)
        self.find = find

    @property
    def rel_model(self) -> type[Model]:
        found = self._known
        if found is None:
            return self.stand_in
        self.target = found
        return found

    @property
    def slot_converter(self) -> Any:
        # That of the id, by which rows are packed and read without a call for each; it is the same for both models.
        return self.rel_model._meta.key_fields[0].slot_converter
