"""What a Django model has in the database: its columns, the tables that they are in, and its primary key."""

from __future__ import annotations

from typing import Any

from django.db.models.base import Model, ModelBase

__all__ = ["Table", "key_fields"]


class Table:
    """The columns of a Django model, in its own table and in those of the models that it inherits.

    Attributes:
        model: the Django model.
        name: its name with that of its app, for errors.
        tables: the models whose tables have columns of it, its own first.
        columns: its fields with columns, by name, without the links to the models that it inherits.
        key: the fields of the primary key; of a model that inherits another with a table, those of that one.

    Raises:
        TypeError: it is no Django model, has no table, or no primary key that all its tables have in common.
    """

    def __init__(self, model: Any) -> None:
        if not isinstance(model, ModelBase) or model is Model:
            what = model.__name__ if isinstance(model, type) else f"an instance of {type(model).__name__}"
            raise TypeError(f"cached() takes a Django model, got {what}")
        options = model._meta
        self.model = model
        self.name = str(options.label)
        if options.abstract or options.swapped:
            what = "abstract" if options.abstract else f"replaced by {options.swapped}"
            raise TypeError(f"{self.name} is {what}, and has no rows: take a model that has")
        columns = options.concrete_fields
        self.tables: list[Any] = [*dict.fromkeys([options.concrete_model, *[field.model for field in columns]])]
        links = [field for field in columns if _is_parent_link(field)]
        roots = [table for table in self.tables if not _is_parent_link(table._meta.pk)]
        if len(roots) != 1 or len(links) != len(self.tables) - 1:
            raise TypeError(
                f"{self.name} inherits several models with tables, or one by a link that is not its primary key, so"
                " that its tables have no primary key in common: cache the models that it inherits instead"
            )
        self.columns: dict[str, Any] = {field.name: field for field in columns if field not in links}
        self.key = key_fields(roots[0])


def key_fields(model: Any) -> tuple[Any, ...]:
    """Return the fields of a primary key: several are a ``CompositePrimaryKey``, which Django has since 5.2."""
    return tuple(getattr(model._meta, "pk_fields", (model._meta.pk,)))


def _is_parent_link(field: Any) -> bool:
    return bool(field.remote_field and getattr(field.remote_field, "parent_link", False))
