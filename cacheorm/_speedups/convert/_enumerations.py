# cython: language_level=3, annotation_typing=False, auto_pickle=False
"""Members of enumerations, by their values."""

from __future__ import annotations

import math
import threading
from enum import Enum, EnumMeta, Flag
from typing import Any
from weakref import WeakValueDictionary

from .. import _shim as cython
from .._limits import INT_MAX, INT_MIN

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, encodable, expected, plain
else:
    from ._converter import Converter, encodable, expected, plain

__all__ = ["Enumeration"]

# Bytes that a combination of flags takes.
_COMBINATION = 400

# Re-entrant: a signal handler or a finalizer may come here while it is held, which never runs code of a user's.
_lock = threading.RLock()


class _Combinations(dict[int, Any]):
    """The members of a flag by their values, in place of its class's own table, which keeps all that it ever made.

    Members of a :class:`enum.Flag` are equal if they are the same object. So combinations that were made of values from
    outside are found here, by the class too, but only as long as anything else refers to them.

    Args:
        members: those that the class keeps.
    """

    def __init__(self, members: dict[int, Any]) -> None:
        super().__init__(members)
        self.unkept: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def __missing__(self, value: int) -> Any:
        with _lock:
            return self[value] if value in self else self.unkept[value]

    def setdefault(self, value: int, member: Any) -> Any:  # type: ignore[override]
        """Do what that of a dict does: two threads may make the same combination."""
        with _lock:
            found = self.unkept.get(value)
            return super().setdefault(value, member) if found is None else found

    def let_go(self, value: int) -> None:
        """Keep a member no longer than anything else refers to it."""
        with _lock:
            member = self.pop(value, None)
            if member is not None:
                self.unkept[value] = member


@cython.cclass
class Enumeration(Converter):
    """A member of an enumeration, as its value.

    Attributes:
        enum: the enumeration.
        members: the member for each stored value. True equals 1 and 1.0 as a key: look at the type too.
        flag: whether unnamed combinations of members are values as well.
        exact: whether a member is read from its own value alone: a flag's class may drop bits.
    """

    enum: type[Enum] = cython.declare(object, visibility="public")
    members: dict[Any, Enum] = cython.declare(object, visibility="public")
    flag: bool = cython.declare(object, visibility="public")
    exact: bool = cython.declare(object, visibility="public")

    def __init__(self, enum: Any) -> None:
        if not isinstance(enum, type) or not issubclass(enum, Enum):
            raise TypeError(f"expected a subclass of enum.Enum, got {enum!r}")
        if not enum.__members__:
            raise TypeError(f"{enum.__name__} has no members, so that no value could be stored")
        self.enum = enum
        self.flag = issubclass(enum, Flag)
        self.exact = getattr(enum._missing_, "__func__", None) is Flag._missing_.__func__  # type: ignore[attr-defined]
        self.members = {}
        for name, member in enum.__members__.items():
            stored = plain(member._value_, 0)
            if not _storable(stored):
                raise TypeError(
                    f"{enum.__name__}.{name} cannot be stored by its value, "
                    f"of type {type(member._value_).__name__}: give it a finite number within 64 bits, "
                    "a str or bytes, or use StructField"
                )
            self.members[stored] = member
        table = enum._value2member_map_
        # Members that are ints are equal by value; there can be no weak references to them, and none is needed.
        if self.flag and enum.__eq__ is object.__eq__ and not isinstance(table, _Combinations):
            enum._value2member_map_ = _Combinations(table)

    @property
    def packable(self) -> bool:
        """Whether the values are text and ints."""
        return all(type(stored) in (int, str) for stored in self.members)

    @property
    def own_code(self) -> bool:
        """Whether the enumeration has neither a metaclass nor a hook of its own."""
        no_hook = getattr(self.enum._missing_, "__func__", None) is Enum._missing_.__func__  # type: ignore[attr-defined]
        return type(self.enum) is EnumMeta and (no_hook or self.exact)

    @property
    def mixed(self) -> bool:
        """Whether the values are of several types."""
        return len({type(stored) for stored in self.members}) > 1

    @cython.ccall
    def dump(self, value: Any) -> Any:
        member = value
        if type(value) is not self.enum:
            member = self._find(value)
            if member is None:
                raise expected(f"a member of {self.enum.__name__} or the value of one", value)
        stored = member._value_
        if self.flag and type(stored) is bool:
            stored = int(stored)
        kind = type(stored)
        if kind is str:
            return stored
        if kind is not int:
            stored = plain(stored, 0)
        if self.flag and not _storable(stored):
            raise expected(f"a combination of {self.enum.__name__} within 64 bits", value)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        kind = type(stored)
        scalar = kind is str or kind is int or kind is float or kind is bool or kind is bytes
        member = self.members.get(stored) if scalar else None
        if member is None:
            # An older release may have stored a value that _missing_ maps to a member of today.
            member = self._find(stored)
            known = member is not None and (not self.exact or (kind is int and member._value_ == stored))
            if known and (not self.flag or _storable(member._value_)):
                return member
        elif type(member._value_) is kind or type(plain(member._value_, 0)) is kind:
            return member
        raise expected(f"the value of a member of {self.enum.__name__}", stored)

    @cython.cfunc
    def _find(self, value: Any) -> Any:
        """Return the member for a value, also one that the enumeration's own hook knows; ``None`` if there is none."""
        member = None
        if isinstance(value, bool):
            # Not through the class: a flag would make and keep a member whose value is the bool.
            member = self.members.get(value)
            if member is not None:
                return member if type(member._value_) is bool else None
            if self.flag:
                return None
        try:
            member = self._combination(value) if self.flag else self.enum(value)
        except MemoryError:
            raise
        except Exception:
            pass  # a _missing_ hook may raise anything
        return member if type(member) is self.enum else None

    @cython.cfunc
    def _combination(self, value: Any) -> Any:
        """Return the member of a flag for a value; if there is none yet, the class does not keep it.

        The values come from the backend: a class that kept a member for each of them would grow without a bound.
        """
        table: Any = self.enum._value2member_map_
        if value in table:
            return table[value]
        member = self.enum(value)
        # A negative value is another one's complement, and the class keeps the member under both.
        for made in {value, member._value_}.difference(self.members):
            if isinstance(table, _Combinations):
                table.let_go(made)
            else:
                table.pop(made, None)
        return member

    def weigh_all(self, stored: list[Any], most: int) -> int:
        # A combination of flags is an object of its own, with a dict and a name; ListOf makes equal ones once.
        if not self.flag:
            return 0
        made: set[int] = set()
        for item in stored:
            if type(item) is int and item not in self.members:
                made.add(item)
                if 3 * _COMBINATION * len(made) > most:
                    break
        return 3 * _COMBINATION * len(made)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is self.enum else self.load(stored)


@cython.cfunc
def _storable(stored: Any) -> bool:
    """Tell whether every serializer reads a scalar back as it was (bytes: every one that takes them)."""
    kind = type(stored)
    if kind is int:
        return bool(INT_MIN <= stored <= INT_MAX)
    if kind is float:
        return math.isfinite(stored)
    if kind is str:
        return encodable(stored)
    return kind is bool or kind is bytes
