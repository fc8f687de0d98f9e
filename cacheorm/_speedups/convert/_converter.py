# cython: language_level=3, annotation_typing=False
"""What converts the values of a field to their stored forms and back: the base, and those that call functions.

There is one :class:`Converter` per kind of field. It has three methods:

``dump(value)``
    gives the stored form: str, int, float, bytes, lists and dicts of them. It takes all that the field does.
``load(stored)``
    gives the Python value. It trusts nothing: what neither ``dump`` nor cacheorm 0.0.1 writes is an error.
``canonical(value, stored)``
    gives what ``load(stored)`` gives, sooner where ``value`` already is that.

All raise :exc:`ValueError` with "expected ..., got <type>"; the caller adds model and field. Messages
never hold any part of a value, and errors whose text does (``int("...")``, ``strptime``) are not
chained. ``None`` never gets here: null is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import ValidationError
from .. import _shim as cython
from .._limits import MAX_DEPTH

if cython.compiled:
    import cython

__all__ = ["Anything", "Converter", "Methods", "Pair", "Validated"]


@cython.cfunc
def expected(what: str, value: Any) -> ValueError:
    return ValueError(f"expected {what}, got {type(value).__name__}")


@cython.cfunc
def attempt(function: Callable[[Any], Any], argument: Any) -> Any:
    """Return what a function returns, ``None`` if it raises :exc:`ValueError`: its text may hold a part of a value."""
    try:
        return function(argument)
    except ValueError:
        return None


@cython.cfunc
def encodable(text: str) -> bool:
    """Whether text has a form in UTF-8: lone surrogates have none."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@cython.cfunc
@cython.locals(depth=cython.longlong)
def plain(stored: Any, depth: int) -> Any:
    """Copy what custom code gave as it will be read back: tuples as lists, subclasses as their base."""
    kind = type(stored)
    if stored is None or kind is str or kind is int or kind is float or kind is bool or kind is bytes:
        return stored
    if isinstance(stored, str):
        return str.__str__(stored)
    if isinstance(stored, int):
        return int.__int__(stored)
    if isinstance(stored, float):
        return float.__float__(stored)
    if isinstance(stored, (bytes, bytearray, memoryview)):
        return bytes(stored)
    if depth >= MAX_DEPTH:
        raise ValueError(f"expected at most {MAX_DEPTH} levels of lists and dicts, got more")
    if isinstance(stored, (list, tuple)):
        return [plain(item, depth + 1) for item in stored]
    if isinstance(stored, dict):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in stored.items()}
    return stored


@cython.cclass
class Converter:
    """The base: converts nothing. Subclasses, in Python or compiled, override the three methods."""

    @property
    def packable(self) -> bool:
        """Whether every serializer takes all stored forms: text, finite numbers, and lists of them."""
        return False

    @property
    def mixed(self) -> bool:
        """Whether stored forms are of several types, of which some may have the same text."""
        return False

    @property
    def key_type(self) -> type | None:
        """The type whose values stand in keys without being converted, if there is one."""
        return None

    @cython.ccall
    def dump(self, value: Any) -> Any:
        return value

    @cython.ccall
    def load(self, stored: Any) -> Any:
        return stored

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return self.load(stored)


@cython.cclass
class Anything(Converter):
    """Takes whatever the serializer takes. Containers are copied, so that row and value share nothing."""

    mixed = True

    @cython.ccall
    def dump(self, value: Any) -> Any:
        return plain(value, 0)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return plain(stored, 0)


@cython.cclass
class Pair(Converter):
    """Calls a pair of functions: what one makes of a value is stored, and the other makes the value of that.

    A :exc:`ValidationError` of theirs is taken at its word. Of any other error only the type is
    reported, as its text may quote the value.

    Attributes:
        to_stored, to_value: the two.
        names: what they are called in messages.
    """

    to_stored: Callable[[Any], Any] = cython.declare(object, visibility="readonly")
    to_value: Callable[[Any], Any] = cython.declare(object, visibility="readonly")
    names = ("the serializer", "the deserializer")

    def __init__(self, to_stored: Callable[[Any], Any], to_value: Callable[[Any], Any]) -> None:
        self.to_stored = to_stored
        self.to_value = to_value

    @cython.ccall
    def dump(self, value: Any) -> Any:
        return plain(_call(self, 0, self.to_stored, value), 0)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        return _call(self, 1, self.to_value, stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        # The function may map a value of its own choice to null, which is read back without a call. It may keep what it
        # gets, and the row is not packed yet: so it gets a copy.
        return None if stored is None else self.load(plain(stored, 0))


@cython.cclass
class Methods(Pair):
    """Calls the methods of a custom field."""

    names = ("cache_value", "python_value")


@cython.cfunc
def _call(pair: Any, which: int, function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except ValidationError as error:
        raise ValueError("; ".join([problem for _, problem in error.problems])) from error
    except Exception as error:
        name = pair.names[which]
        raise ValueError(f"{name} raised {type(error).__name__}") from error


@cython.cclass
class Validated(Converter):
    """Another converter, whose values also have to pass validators: for the elements of lists."""

    inner: Converter = cython.declare(Converter, visibility="public")
    validators: Sequence[Callable[[Any], object]] = cython.declare(object, visibility="public")

    def __init__(self, inner: Converter, validators: Sequence[Callable[[Any], object]]) -> None:
        self.inner = inner
        self.validators = tuple(validators)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        stored = self.inner.dump(value)
        checked = self.inner.canonical(value, stored)
        for validator in self.validators:
            validator(checked)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        return self.inner.load(stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return self.inner.canonical(value, stored)
