"""The descriptor behind every field, pure Python: reads and writes one hidden slot of an instance.

The Python version of ``_slots_c.pyx``, which reads the slot's memory directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import compress, repeat
from types import MemberDescriptorType
from typing import Any

from ._assigned import look, marked

__all__ = ["Slot", "clear", "complete", "distinct", "holds", "relate", "taken_from"]


class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name.

    Attributes:
        bit: the field's bit in the mask of the fields that were assigned; 0 where that is not noted.
        watched: whether its values can be changed in place.
        in_key: whether it is a part of the primary key.
    """

    _member: MemberDescriptorType | None = None
    _tracker: Slot | None = None
    bit = 0
    watched = False
    in_key = False
    holds_ids = False

    def attach(self, member: MemberDescriptorType | Slot, place: int = 0, tracker: Slot | None = None) -> None:
        """Read and write through ``member``, the descriptor of the hidden slot.

        Args:
            member: the descriptor, or another slot that is attached to it.
            place: the place of the field's bit among those of its model.
            tracker: the slot that keeps which fields were assigned; see :mod:`._assigned`.
        """
        if isinstance(member, Slot) and member._member is not None:
            member = member._member
        if type(member) is not MemberDescriptorType:
            raise TypeError(f"expected the descriptor of a slot, got {type(member).__name__}")
        if "__slots__" not in vars(member.__objclass__):
            raise TypeError("expected the descriptor of a slot, got that of a built-in type's attribute")
        self._member = member
        if tracker is not None:
            self._tracker, self.bit = tracker, 1 << place

    def unset(self, instance: Any) -> Any:
        """Return what reading an instance without a value returns; subclasses override it."""
        return None

    def peek(self, instance: Any, absent: Any = None) -> Any:
        """Read the slot as it is: its value, or ``absent`` where nothing was stored."""
        if self._member is None:
            raise AttributeError("the field belongs to no model")
        if instance is None:
            raise TypeError(f"descriptor for {self._member.__objclass__.__name__!r} objects doesn't apply to None")
        try:
            return self._member.__get__(instance, type(instance))
        except AttributeError:
            return absent

    def poke(self, instance: Any, value: Any) -> None:
        """Write the slot as it is."""
        if self._member is None:
            raise AttributeError("the field belongs to no model")
        self._member.__set__(instance, value)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if self._member is None:
            raise AttributeError("the field belongs to no model")
        try:
            value = self._member.__get__(instance, owner)
        except AttributeError:
            value = self.unset(instance)
        self.look(instance, value)
        return value

    def look(self, instance: Any, value: Any) -> None:
        """Note the present state of a value that is handed out, if it can be changed in place."""
        if self.watched and self._tracker is not None:
            look(self, self._tracker, instance, value)

    def __set__(self, instance: Any, value: Any) -> None:
        kept = self.in_key and self.keeps_key(instance, value)
        self.poke(instance, value)
        if not kept:
            self.mark(instance)

    def keeps_key(self, instance: Any, value: Any) -> bool:
        """Return whether a new value of a part of the primary key equals the present one: the row stays the same."""
        present = self.peek(instance)
        return present is not None and self.same(present, value)

    def same(self, one: Any, other: Any) -> bool:
        """Return whether two values are equal; subclasses compare them converted."""
        return bool(one == other)

    def mark(self, instance: Any) -> None:
        """Note that the field was assigned."""
        if self._tracker is not None:
            self._tracker.poke(instance, marked(self._tracker.peek(instance), self.bit))

    def __delete__(self, instance: Any) -> None:
        if self._member is None:
            raise AttributeError("the field belongs to no model")
        try:
            self._member.__delete__(instance)
        except AttributeError:
            raise AttributeError("the field has no value") from None


def taken_from(cls: type, name: str) -> Slot:
    """Return a descriptor of a slot that a class has; the compiled version removes the one that Python made."""
    slot = Slot()
    slot.attach(vars(cls)[name])
    return slot


def complete(
    fields: tuple[Any, ...],
    sources: list[Any],
    targets: list[Any],
    related: Slot | None,
    tracker: Slot | None = None,
) -> list[Any]:
    """Copy all values of instances to other instances, which keep the related instances that they still refer to.

    Args:
        fields: the slots to copy.
        sources: instances of one class. ``None`` among them is left out, as is one that is its target.
        targets: as many instances of that class.
        related: the slot of the dicts of related instances, by field name; ``None`` for a model without references.
        tracker: the slot that is emptied in the targets, since they are as they are stored.

    Returns:
        The targets, and ``None`` where that was the source.
    """
    completed = []
    for source, target in zip(sources, targets, strict=True):
        completed.append(None if source is None else target)
        if source is None:
            continue
        if tracker is not None:
            clear(tracker, [target])
        if target is source:
            continue
        held = None if related is None else related.peek(target)
        for field in fields:
            value = field.peek(source)
            if held and field.name in held and field.peek(target) != value:
                held.pop(field.name, None)  # to compare may have run code that did it
            field.poke(target, value)
    return completed


def clear(slot: Slot, instances: list[Any]) -> None:
    """Empty one slot of many instances; ``None`` among them is left out."""
    member: Any = slot._member
    for instance in compress(instances, _ask_many(slot, instances)):
        with suppress(AttributeError):  # another thread may have been first
            member.__delete__(instance)


def holds(slot: Slot, instances: list[Any]) -> bool:
    """Tell whether one of many instances has a value in a slot; ``None`` among them is left out."""
    return any(related is not None for related in _ask_many(slot, instances))


def _ask_many(slot: Slot, instances: list[Any]) -> Iterator[Any]:
    # By name, because an error that is raised and caught for each row costs more than all the rest.
    member: Any = slot._member
    return map(getattr, instances, repeat(member.__name__), repeat(None))


def _peek_many(slot: Slot, instances: list[Any]) -> list[Any]:
    member: Any = slot._member
    try:
        return [*map(member.__get__, instances)]
    except (AttributeError, TypeError):  # a row without a value, or no row
        return [None if instance is None else slot.peek(instance) for instance in instances]


def distinct(slot: Slot, instances: list[Any]) -> dict[Any, None]:
    """Return the values in one slot of many instances, each once and without ``None``.

    Args:
        slot: a slot of the instances' class.
        instances: instances of one class; ``None`` among them is left out.

    Raises:
        TypeError: a value that cannot be hashed.
    """
    values = dict.fromkeys(_peek_many(slot, instances))
    values.pop(None, None)
    return values


def relate(related: Slot, slot: Slot, name: str, instances: list[Any], found: dict[Any, Any]) -> None:
    """Put related instances where their rows keep them.

    Args:
        related: the slot of the dicts of related instances, by field name.
        slot: that of a foreign key, which holds ids.
        name: the foreign key's.
        instances: rows that refer to others; ``None`` among them is left out.
        found: the related instances by id; rows that refer to others are left alone.
    """
    member: Any = related._member
    targets = map(found.get, _peek_many(slot, instances))
    for instance, target, there in zip(instances, targets, _ask_many(related, instances), strict=True):
        if target is None:
            continue
        if there is None:
            member.__set__(instance, {name: target})
        else:
            there[name] = target
