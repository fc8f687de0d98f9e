"""The descriptor behind every field, pure Python: reads and writes one hidden slot of an instance.

Twin of ``_slots_c.pyx``, which reads the slot's memory directly.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from itertools import repeat
from types import MemberDescriptorType
from typing import Any

__all__ = ["Slot", "distinct", "holds", "overlay", "relate"]


class Slot:
    """Data descriptor over a ``__slots__`` member that the class hides under another name."""

    _member: MemberDescriptorType | None = None
    holds_ids = False

    def attach(self, member: MemberDescriptorType) -> None:
        """Read and write through ``member``, the descriptor of the hidden slot."""
        if type(member) is not MemberDescriptorType:
            raise TypeError(f"expected the descriptor of a slot, got {type(member).__name__}")
        if "__slots__" not in vars(member.__objclass__):
            raise TypeError("expected the descriptor of a slot, got that of a built-in type's attribute")
        self._member = member

    def unset(self, instance: Any) -> Any:
        """Give what reading an instance without a value gives; subclasses override it."""
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
            return self._member.__get__(instance, owner)
        except AttributeError:
            return self.unset(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        self.poke(instance, value)

    def __delete__(self, instance: Any) -> None:
        if self._member is None:
            raise AttributeError("the field belongs to no model")
        try:
            self._member.__delete__(instance)
        except AttributeError:
            raise AttributeError("the field has no value") from None


def overlay(fields: tuple[Any, ...], sources: list[Any], targets: list[Any], related: Slot | None) -> None:
    """Copy the slots that instances have values in to other instances, and the related instances that they hold.

    Args:
        fields: the slots to copy.
        sources: instances of one class.
        targets: as many instances of that class; ``None`` among them is left out, as is a target that is its source.
        related: the slot of the dicts of related instances, by field name; ``None`` for a model without references.
    """
    for source, target in zip(sources, targets, strict=True):
        if target is None or target is source:
            continue
        stale = None if related is None else related.peek(target)
        for field in fields:
            try:
                value = field._member.__get__(source)
            except AttributeError:
                continue
            if stale:
                stale.pop(field.name, None)
            field.poke(target, value)
        held = None if related is None else related.peek(source)
        if held and related is not None:
            related.poke(target, {**(stale or {}), **held})


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
    """Give the values in one slot of many instances, each once and without ``None``.

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
    # All that is made here lives on, so that a collection in between would only walk it in vain.
    collecting = gc.isenabled()
    gc.disable()
    try:
        targets = map(found.get, _peek_many(slot, instances))
        for instance, target, there in zip(instances, targets, _ask_many(related, instances), strict=True):
            if target is None:
                continue
            if there is None:
                member.__set__(instance, {name: target})
            else:
                there[name] = target
    finally:
        if collecting:
            gc.enable()
