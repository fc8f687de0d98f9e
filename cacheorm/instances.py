"""The instance side of models: values, equality, pickling, and the operations on an instance's own row."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from ._speedups import assigned, slots
from .fields import ForeignKeyField
from .metadata import RowPlan
from .operations import shortcuts
from .operations.validate import validate
from .sync_driver import run
from .types import TTL

__all__ = ["Instance", "refreshed"]

M = TypeVar("M", bound="Instance")


class Instance:
    """The instance side of :class:`~cacheorm.models.Model`, which has the slots."""

    __slots__ = ()

    if TYPE_CHECKING:
        _meta: ClassVar[RowPlan]
        _related: ClassVar[Any]
        _assigned: ClassVar[Any]

    def __init__(self, /, **values: Any) -> None:
        plan = type(self)._meta
        self._set_named(plan, values)
        plan.tracker.poke(self, assigned.marked(plan.tracker.peek(self), assigned.NEW))

    def _set_named(self, plan: RowPlan, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            field = plan.names.get(name)
            if field is None:
                raise plan.unknown_name(name)
            field.__set__(self, value)
        if plan.id_names and not plan.id_names.isdisjoint(values):
            plan.check_names(values)

    @property
    def _relations(self) -> dict[str, Any]:
        """The loaded related instances, by field name."""
        slot = type(self)._related
        loaded: dict[str, Any] | None = slot.peek(self)
        if loaded is None:
            slot.poke(self, loaded := {})
        return loaded

    def get_id(self) -> Any:
        """Return the primary key: a value, a tuple for composite keys, ``None`` if it is not set yet."""
        return self._pk

    @property
    def _pk(self) -> Any:
        # Not through get_id(), which subclasses may override: for Flask-Login it has to return a str.
        plan = type(self)._meta
        if plan.composite is not None:
            return plan.composite.__get__(self)
        field = plan.key_fields[0]
        return field.key_value(self) if plan.references else field.peek(self)

    @_pk.setter
    def _pk(self, value: Any) -> None:
        key = type(self)._meta.primary_key
        key.__set__(self, value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        pk = type(self)._meta.canonical_key(self._pk)
        return pk is not None and bool(pk == type(self)._meta.canonical_key(other._pk))

    def __hash__(self) -> int:
        # Not of the value as it was assigned, which a write may replace: sets would lose the instance.
        pk = type(self)._meta.canonical_key(self._pk)
        if pk is None:
            name = type(self).__name__
            raise TypeError(
                f"a {name} without a primary key has no hash: sets and dicts would lose it when save() gives it one"
            )
        return hash((type(self), pk))

    def __repr__(self) -> str:
        shown = []
        for field in type(self)._meta.fields.values():
            value = field.peek(self)
            if value is not None:
                shown.append(f"{field.accepted_names[-1]}={'***' if getattr(field, 'secret', False) else repr(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __getstate__(self) -> dict[str, Any]:
        absent = object()
        plan = type(self)._meta
        values = {name: field.peek(self, absent) for name, field in plan.fields.items()}
        state: dict[str, Any] = {"values": {name: value for name, value in values.items() if value is not absent}}
        tracked = plan.tracker.peek(self)
        mask = assigned.assigned(tracked, self)
        # By name: the fields may have other places where this is read.
        state["new"] = bool(mask & assigned.NEW)
        if assigned.is_unsaved(tracked):
            state["unsaved"] = True
        state["assigned"] = [name for name, field in plan.fields.items() if mask & field.bit]
        for name, value in state["values"].items():
            # A copy may share it.
            plan.fields[name].look(self, value)
        attributes = super().__getstate__()
        # The __dict__, or a pair of the __dict__ and the slots of subclasses.
        if isinstance(attributes, tuple):
            attributes, others = attributes
            # A field may have the name that the slot of another field had.
            state["slots"] = {
                name: value for name, value in others.items() if name != "_changes" and name not in plan.names
            }
        if attributes:
            state["attributes"] = attributes
        loaded = type(self)._related.peek(self)
        if loaded is not None:
            state.setdefault("slots", {})["_loaded"] = loaded
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = type(self)._meta.fields
        # Older versions did not note what was assigned.
        mask = (assigned.NEW if state["new"] else 0) if "assigned" in state else assigned.ALL
        for name in state.get("assigned", ()):
            mask |= fields[name].bit if name in fields else 0
        type(self)._assigned.poke(self, assigned.unsaved(mask) if "unsaved" in state else mask)
        for name, value in state["values"].items():
            if name in fields:
                fields[name].poke(self, value)
                fields[name].look(self, value)
        for name, value in state.get("slots", {}).items():
            if name == "_loaded":
                # A copy: two instances must not share their relations.
                type(self)._related.poke(self, dict(value))
            else:
                setattr(self, name, value)
        if "attributes" in state:
            self.__dict__.update(state["attributes"])

    def __replace__(self, /, **changes: Any) -> Self:
        """Return a copy with other values, as :func:`copy.replace` of Python 3.13 does.

        Raises:
            TypeError: a name that no field has.
        """
        changed = copy(self)
        changed._set_named(type(self)._meta, changes)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Return the fields' values by field name; for a foreign key, the related primary key."""
        return {
            name: field.object_id(self) if isinstance(field, ForeignKeyField) else field.__get__(self, type(self))
            for name, field in type(self)._meta.fields.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make an instance from a dict of :meth:`to_dict`.

        Raises:
            TypeError: a name that no field has.
        """
        return cls(**values)

    def save(
        self, force_insert: bool = False, *, ttl: TTL = None, keep_ttl: bool = False, atomic: bool = False
    ) -> bool:
        """Write this row: update it when its primary key is set, insert it otherwise.

        An update writes the fields that were assigned since the row was read or stored, and the lists, dicts and other
        mutable values that were changed in place. If there are none, nothing is sent.

        Args:
            force_insert: insert it in any case.
            ttl: the lifetime of the row, seconds or a ``timedelta``; ``None``: the model's.
            keep_ttl: whether an update keeps the lifetime that the row has.
            atomic: whether an update is retried if others have changed the row meanwhile, as
                :meth:`~cacheorm.operations.ModelUpdate.atomic` ones are.

        Returns:
            ``False`` if the row to update does not exist; nothing was written then.

        Raises:
            ValidationError: bad or missing values; it lists all such fields.
            ValueError: both ``ttl`` and ``keep_ttl`` are given.
            WriteError: the backend refused the row.
        """
        return run(shortcuts.save(self, force_insert, ttl, keep_ttl, atomic))

    def validate(self) -> None:
        """Convert and check the values as a write does, and write nothing.

        Of a row that was read, these are the values that :meth:`save` would write; otherwise all, with defaults. The
        instance stays as it is: its values are not replaced by what a later read would return, no primary key is made,
        and receivers of signals are not called.

        Raises:
            ValidationError: bad or missing values; it lists all such fields.
            TypeError, ValueError: the serializer cannot hold a value.
        """
        validate(self)

    def delete_instance(self) -> bool:
        """Remove this row from the backend; ``True`` if it existed. The instance keeps its values."""
        return run(shortcuts.delete(self))

    def refresh(self) -> Self:
        """Read this row again, into this instance, and forget loaded related instances.

        Raises:
            DoesNotExist: the row is gone; the instance keeps its values.
        """
        plan = type(self)._meta
        fresh: Self | None = plan.reader.read(self)
        if fresh is None:
            raise plan.missing(self)
        return refreshed(self, fresh)

    def ttl(self) -> int | None:
        """Return the seconds that the stored row has left; 0 if it never expires, ``None`` if it does not exist.

        A row of a model without a ``ttl`` lives for the default of its backend, 600 or 300 seconds; see ``Meta.ttl``.
        """
        return run(shortcuts.ttl_left(type(self)._meta, self))

    def touch(self, ttl: TTL = None) -> bool:
        """Set the lifetime of the stored row anew; return ``False`` if it does not exist.

        Args:
            ttl: seconds or a ``timedelta``; 0 never expires; ``None`` is the model's ttl.
        """
        return shortcuts.expire(self, ttl).execute()[0]


def refreshed(instance: M, fresh: M) -> M:
    """Return an instance, after copying the values of another one to it and dropping its loaded related instances."""
    plan = type(instance)._meta
    slots.complete(plan.every_field, [fresh], [instance], None, plan.tracker)
    instance._relations.clear()
    return instance
