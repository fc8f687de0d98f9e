"""Many-to-one relations of mapped classes, and the foreign keys that cached models have for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import MANYTOONE, Mapper, RelationshipProperty

from ...backends import SimpleBackend
from ...declaration import ModelBase
from ...errors import CacheORMError
from ...fields import Field, ForeignKeyField
from ...fields.references import Reference
from ...models import Model
from ._registry import cached_models

__all__ = ["LateField", "RelatedField", "Relation", "relations"]


class Relation(NamedTuple):
    """A many-to-one relation over one column.

    Attributes:
        name: the attribute of the related object.
        column: the attribute of its primary key.
        of: the relation.
    """

    name: str
    column: str
    of: RelationshipProperty[Any]


def relations(mapper: Mapper[Any]) -> Iterator[Relation]:
    """Yield the many-to-one relations of a mapped class over one column that refers to a primary key.

    Classes that are mapped later may be named in relations, of this class and of others, and then nothing must be
    configured yet. Such a relation is known by its column, which is called as it is, with ``_id`` at the end.
    """
    every = {name: each for name, each in _relationships(mapper) if not each.viewonly}
    if _can_be_configured(mapper):
        mapper.registry.configure(cascade=True)
        for name, each in every.items():
            if each.direction is MANYTOONE and len(each.local_remote_pairs) == 1:
                ((local, remote),) = each.local_remote_pairs
                if [remote] == list(each.mapper.primary_key) and local.table is mapper.local_table:
                    yield Relation(name, mapper.get_property_by_column(local).key, each)
        return
    for name, each in every.items():
        column = mapper.columns.get(f"{name}_id")
        if isinstance(column, sa.Column) and column.foreign_keys and not each.uselist:
            yield Relation(name, f"{name}_id", each)


def _relationships(mapper: Mapper[Any]) -> Iterator[tuple[str, RelationshipProperty[Any]]]:
    """Yield relations by name, without configuring them."""
    for name, attribute in mapper.all_orm_descriptors.items():
        of = getattr(attribute, "prop", None)
        if isinstance(of, RelationshipProperty):
            yield name, of


def _can_be_configured(mapper: Mapper[Any]) -> bool:
    """Return whether all classes that are named in relations exist: an attempt that fails would be remembered."""
    if mapper.configured:
        return True
    mappers = [*mapper.registry.mappers]
    names = {each.class_.__name__ for each in mappers}
    for each in mappers:
        for _, relation in () if each.configured else _relationships(each):
            argument: Any = relation.argument
            if isinstance(argument, str) and argument.rpartition(".")[2] not in names:
                return False
            if not isinstance(argument, (str, type, Mapper)):
                return False  # a function, which may name what is not there yet
    return True


class _Late:
    """A field for a column whose type may be known later, as it is that of the column it refers to.

    Its values are converted as the primary keys of a model that has no rows: the *stand-in*.
    """

    _make_field: Callable[[], Field[Any]]
    _refusal: Callable[[], str]

    @cached_property
    def _stand_in(self) -> type[Model]:
        def load(pks: list[Any]) -> Any:
            raise CacheORMError(self._refusal())

        key = self._make_field()
        key.primary_key, key.null = True, False
        options = {"name": "stand-in", "backend": SimpleBackend(), "loader": load, "lease": None}
        namespace = {"id": key, "Meta": type("Meta", (), options), "__qualname__": "<locals>.StandIn"}
        return ModelBase("StandIn", (Model,), namespace)  # type: ignore[return-value]


class LateField(_Late, Field[Any]):
    """A field for a column that refers to one of a table that is not declared yet.

    Args:
        make_field: makes the field for the values of the column, once that is known.
        null: whether ``None`` is a value.
    """

    def __init__(self, make_field: Callable[[], Field[Any]], null: bool) -> None:
        self._make_field = make_field
        super().__init__(null)

    @property
    def rel_model(self) -> type[Model]:
        """What :class:`~cacheorm.fields.references.Reference` converts by."""
        return self._stand_in

    def make_converter(self) -> Any:
        return Reference(self)  # type: ignore[arg-type]


class RelatedField(_Late, ForeignKeyField[Any]):
    """A foreign key to the cached model of a mapped class, which may be made later, or never.

    Args:
        relation: the relation.
        make_field: makes the field for the values of its column.
        null: whether there may be no related row.
    """

    def __init__(self, relation: Relation, make_field: Callable[[], Field[Any]], null: bool) -> None:
        self._relation = relation
        self._make_field = make_field
        super().__init__(relation.name, relation.column, null=null)
        self.find = self._find

    def _refusal(self) -> str:
        of, column = self._relation.of, self._relation.column
        name = of.mapper.class_.__name__
        return (
            f"{of.parent.class_.__name__}.{self._relation.name} refers to {name}, which is not cached: call"
            f" cached({name}, ...), too, or read {column}, which is its primary key"
        )

    def _find(self) -> type[Model] | None:
        of = self._relation.of
        if not of.parent.configured and not _can_be_configured(of.parent):
            return None
        for mapper in of.mapper.iterate_to_root():
            for cached in cached_models(mapper):
                return cached.model
        return None

    @property
    def rel_model(self) -> type[Model]:
        known = self._known
        if known is None:
            return self._stand_in
        self.target = known
        return known

    @property
    def slot_converter(self) -> Any:
        return self.rel_model._meta.key_fields[0].slot_converter
