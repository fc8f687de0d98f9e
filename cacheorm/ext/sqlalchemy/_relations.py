"""Many-to-one relations of mapped classes, and the foreign keys that cached models have for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import MANYTOONE, Mapper, RelationshipProperty

from ...fields import Field
from ...fields.references import Reference
from ...models import Model
from .._references import LateReference, StandIn
from ._registry import cached_models

__all__ = ["LateField", "Relation", "reference", "relations"]


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


class LateField(StandIn, Field[Any]):
    """A field for a column that refers to one of a table that is not declared yet.

    Args:
        make_key: makes the field for the values of the column, once that is known.
        null: whether ``None`` is a value.
    """

    def __init__(self, make_key: Callable[[], Field[Any]], null: bool) -> None:
        self.make_key = make_key
        super().__init__(null)

    @property
    def rel_model(self) -> type[Model]:
        """What :class:`~cacheorm.fields.references.Reference` converts by."""
        return self.stand_in

    def make_converter(self) -> Any:
        return Reference(self)  # type: ignore[arg-type]


def reference(relation: Relation, make_key: Callable[[], Field[Any]], null: bool) -> LateReference:
    """Return a foreign key to the cached model of a mapped class, which may be made later, or never.

    Args:
        relation: the relation.
        make_key: makes the field for the values of its column.
        null: whether there may be no related row.
    """
    refuse, find = partial(_refusal, relation), partial(_find, relation.of)
    return LateReference(relation.name, relation.column, find, make_key, refuse, null=null)


def _refusal(relation: Relation) -> str:
    of, column = relation.of, relation.column
    name = of.mapper.class_.__name__
    return (
        f"{of.parent.class_.__name__}.{relation.name} refers to {name}, which is not cached: call"
        f" cached({name}, ...), too, or read {column}, which is its primary key"
    )


def _find(of: RelationshipProperty[Any]) -> type[Model] | None:
    if not of.parent.configured and not _can_be_configured(of.parent):
        return None
    for mapper in of.mapper.iterate_to_root():
        for cached in reversed(cached_models(mapper)):
            for model in cached.models():  # an abstract one is there for a class that inherits it
                return model
    return None
