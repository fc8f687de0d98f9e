# cython: language_level=3, annotation_typing=False, auto_pickle=False, nonecheck=True
"""What converts the values of a field to their stored forms and back: the base, and those that call functions.

There is one :class:`Converter` per kind of field. It has four methods:

``dump(value)``
    returns the stored form: str, int, float, bytes, lists and dicts of them. It takes all that the field does.
``load(stored)``
    returns the Python value. What neither ``dump`` nor cacheorm 0.0.1 writes is an error.
``canonical(value, stored)``
    returns what ``load(stored)`` returns, sooner where ``value`` already is that.
``key_form(value, stored)``
    returns the stored form of all values that are equal to ``value``, for keys. ``value`` is what a read returns.

All raise :exc:`ValueError` with "expected ..., got <type>"; the caller adds model and field. Messages
never hold any part of a value, and errors whose text does (``int("...")``, ``strptime``) are not
chained. ``None`` is never passed: callers handle null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import is_not
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
    """Tell whether UTF-8 can encode a text: it cannot encode lone surrogates."""
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
    """Copy what custom code returned as it will be read back: tuples as lists, subclasses as their base."""
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
        return {_plain_key(key, depth + 1): plain(item, depth + 1) for key, item in stored.items()}
    return stored


@cython.cfunc
@cython.locals(depth=cython.longlong)
def _plain_key(key: Any, depth: int) -> Any:
    """Copy the key of a dict: a tuple stays one, since a list cannot be a key. Some serializers take none."""
    if isinstance(key, tuple) and depth < MAX_DEPTH:
        return tuple([_plain_key(part, depth + 1) for part in key])
    return plain(key, depth)


_PLAIN_DIGITS = 40
_MOST_DIGITS = 400  # of a float written as an int


@cython.cfunc
def normal_decimal(number: Decimal) -> Decimal:
    """Return the one of all equal finite Decimals that stands for them, without trailing zeros after the point."""
    text = str(number)
    if "E" not in text and len(text) <= _PLAIN_DIGITS and ("." not in text or text[-1] != "0") and text != "-0":
        return number
    if not number:
        return Decimal(0)
    exponent: Any
    sign, digits, exponent = number.as_tuple()
    size = len(digits)
    while digits[size - 1] == 0:
        size -= 1
    exponent += len(digits) - size
    digits = digits[:size]
    if exponent > 0 and size + exponent <= _PLAIN_DIGITS:
        digits += (0,) * exponent
        exponent = 0
    return Decimal((sign, digits, exponent))


@cython.cfunc
@cython.locals(depth=cython.longlong)
def normal(value: Any, depth: int, keep_types: bool) -> Any:
    """Return the one of all equal values that stands for them in keys; the same object where it is that already.

    Args:
        value: a stored form, or with ``keep_types`` a value of a custom field.
        depth: in how many lists and dicts it is.
        keep_types: whether bools, Decimals, and floats in no container keep their types: the functions of a custom
            field may ask for them.
    """
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is bool:
        return value if keep_types else int(value)
    if kind is float:
        if value.is_integer() and (depth > 0 or not keep_types):
            return int(value)
        return 0.0 if value == 0 else value
    if kind is Decimal:
        return _normal_of_decimal(value, keep_types)
    if kind is datetime:
        return _normal_of_datetime(value)
    if depth >= MAX_DEPTH:
        return value
    if kind is list or kind is tuple:
        items = [normal(item, depth + 1, keep_types) for item in value]
        return kind(items) if any(map(is_not, items, value)) else value
    if kind is dict:
        pairs = [(normal(key, depth + 1, keep_types), normal(value[key], depth + 1, keep_types)) for key in value]
        order = sorted([(repr(pair[0]), position) for position, pair in enumerate(pairs)])
        pairs = [pairs[position] for _, position in order]
        found = dict(pairs)
        same = not any(map(is_not, found, value)) and not any(map(is_not, found.values(), value.values()))
        return value if same else found
    return value


@cython.cfunc
def _normal_of_decimal(number: Decimal, keep_types: bool) -> Any:
    if not number.is_finite():
        return number
    if not keep_types:
        if number.adjusted() < _MOST_DIGITS and number == number.to_integral_value():
            return int(number)
        if float(number) == number:
            return float(number)
    return normal_decimal(number)


@cython.cfunc
def _normal_of_datetime(value: datetime) -> datetime:
    if value.tzinfo is None or value.tzinfo is UTC:
        return value
    try:
        return value.astimezone(UTC)
    except (OverflowError, ValueError):
        return value


@cython.cclass
class Converter:
    """The base: converts nothing. Subclasses, in Python or compiled, override the four methods.

    Attributes:
        level: in how many lists the values are, each in a list of the one before.
        weight: bytes that a value takes besides its stored form.
        varies: whether :meth:`weigh` has to look at each stored form.
    """

    if not cython.compiled:
        level = 0
    weight = 0

    varies = False

    @property
    def packable(self) -> bool:
        """Whether every serializer takes all stored forms: text, finite numbers, and lists of them."""
        return False

    @property
    def mixed(self) -> bool:
        """Whether stored forms are of several types, of which some may have the same text."""
        return False

    @property
    def own_code(self) -> bool:
        """Whether reading a stored form runs no code of the application, such as hooks and functions of fields."""
        return False

    @property
    def key_type(self) -> type | None:
        """The type whose values stand in keys without being converted, if there is one."""
        return None

    @property
    def key_parts(self) -> list[Any] | None:
        """The converters of the values in a stored form that is a list of them: a reference to a composite key."""
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

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return stored

    def put_at(self, level: int) -> None:
        """Set the level, also of the converters inside."""
        self.level = level

    def weigh(self, stored: Any, most: int) -> int:
        """Return about how much memory the value of a stored form takes beside it, as measured by the readers.

        Those count three for a byte, and two for a byte of a list or dict.

        Args:
            stored: a stored form, of any type.
            most: what it may be; the result may be too small if it is more.
        """
        return 3 * self.weight

    def weigh_all(self, stored: list[Any], most: int) -> int:
        """Return the sum of :meth:`weigh` of the items of a list."""
        if not self.varies:
            return 3 * self.weight * len(stored)
        cost = 0
        for item in stored:
            if cost > most:
                break
            if item is not None:
                cost += self.weigh(item, most - cost)
        return cost


@cython.cclass
class Anything(Converter):
    """Takes whatever the serializer takes. Containers are copied, so that row and value share nothing."""

    own_code = True
    mixed = True

    @cython.ccall
    def dump(self, value: Any) -> Any:
        return plain(value, self.level)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return plain(stored, self.level)

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return normal(stored, 0, False)


@cython.cclass
class Pair(Converter):
    """Calls two functions of the application: one converts values to stored forms, the other converts them back.

    The problems of a :exc:`ValidationError` are reported as they are. Of any other error only the type is reported,
    as its text may quote the value.

    Attributes:
        to_stored, to_value: the two functions.
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
        return plain(_call(self, 0, self.to_stored, value), self.level)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        return _call(self, 1, self.to_value, stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        # The function may map a value of its own choice to null, which is read back without a call. It may keep what it
        # gets, and the row is not packed yet: so it gets a copy.
        return None if stored is None else self.load(plain(stored, self.level))

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        found = normal(value, 0, True)
        if found is not value:
            try:
                stored = self.dump(found)
            except ValueError:
                pass  # the function takes other values only
        return normal(stored, 0, False)


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
    except MemoryError:
        raise
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

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return self.inner.key_form(value, stored)

    def put_at(self, level: int) -> None:
        self.level = level
        self.inner.put_at(level)

    def weigh(self, stored: Any, most: int) -> int:
        return self.inner.weigh(stored, most)

    def weigh_all(self, stored: list[Any], most: int) -> int:
        return self.inner.weigh_all(stored, most)
