"""The descriptor behind every field, pure Python: reads and writes one hidden slot of an instance.

Twin of ``_slots_c.pyx``, which reads the slot's memory directly.
"""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Any

__all__ = ["Slot", "copy"]


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


def copy(fields: tuple[Any, ...], source: Any, target: Any) -> None:
    """Copy the slots that ``source`` has values in."""
    for field in fields:
        member = field._member
        try:
            value = member.__get__(source)
        except AttributeError:
            continue
        member.__set__(target, value)
