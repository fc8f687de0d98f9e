# cython: language_level=3, annotation_typing=False
# ruff: noqa: SIM105, BLE001, S110, DTZ001, DTZ006, DTZ007, SIM113
# SIM105, SIM113: a context manager or enumerate costs more than what it saves. BLE001, S110: code of the
# user's may raise anything, and its text stays out of messages. DTZ: naive datetimes are the subject here.
"""Field conversion: Python values to stored forms and back. One source, also compiled under a second name.

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

import math
import numbers
import operator
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from enum import Enum, Flag
from typing import Any
from uuid import UUID, SafeUUID

from ..errors import ValidationError
from . import _shim as cython
from ._kinds import (
    KIND_BOOL,
    KIND_BYTES,
    KIND_DATE,
    KIND_DATETIME,
    KIND_DATETIME_TZ,
    KIND_DECIMAL,
    KIND_ENUM,
    KIND_FLOAT,
    KIND_INT,
    KIND_JSON,
    KIND_LIST,
    KIND_OTHER,
    KIND_STR,
    KIND_TIME,
    KIND_TIMESTAMP,
    KIND_UUID,
)

if cython.compiled:
    import cython  # type: ignore[import-not-found,import-untyped,no-redef,unused-ignore]

__all__ = [
    "KIND_BOOL",
    "KIND_BYTES",
    "KIND_DATE",
    "KIND_DATETIME",
    "KIND_DATETIME_TZ",
    "KIND_DECIMAL",
    "KIND_ENUM",
    "KIND_FLOAT",
    "KIND_INT",
    "KIND_JSON",
    "KIND_LIST",
    "KIND_OTHER",
    "KIND_STR",
    "KIND_TIME",
    "KIND_TIMESTAMP",
    "KIND_UUID",
    "MAX_DEPTH",
    "Anything",
    "Binary",
    "Boolean",
    "Converter",
    "Date",
    "DateTime",
    "DateTimeTZ",
    "DecimalText",
    "Enumeration",
    "Integer",
    "Json",
    "ListOf",
    "Methods",
    "Pair",
    "Real",
    "ShortUuid",
    "Text",
    "Time",
    "Timestamp",
    "Uuid",
    "Validated",
    "check_json",
    "json_codec",
]

MAX_DEPTH = 200
"""Levels of lists and dicts that a stored value may have; every serializer takes them, deep in a call too."""

_INT_MIN = -(1 << 63)
_INT_MAX = (1 << 64) - 1

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)

_SHORT_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SHORT_LENGTH = 22
_SHORT_BASE = 57 * 57
# Two characters at a time, which halves the arithmetic on long integers. Filled when first needed.
_SHORT_PAIRS: list[str] = []
_SHORT_DIGITS: dict[str, int] = {}

_DECIMAL_DIGITS = 1_000_000
_INT_TEXT = re.compile(r"-?[1-9][0-9]*|0", re.ASCII)
_DECIMAL_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_AWARE_TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{6})?[+-]\d\d:?\d\d(?::?\d\d(?:\.\d{6})?)?", re.ASCII
)

_set = object.__setattr__
# Looked up once: a member of an enumeration is a slow attribute.
_UNKNOWN_SAFETY = SafeUUID.unknown


@cython.cfunc
def _expected(what: str, value: Any) -> ValueError:
    return ValueError(f"expected {what}, got {type(value).__name__}")


@cython.cfunc
def _encodable(text: str) -> bool:
    """Whether text has a form in UTF-8: lone surrogates have none."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@cython.cfunc
def _number_text(value: str) -> str:
    """Give a number's text ready to be parsed, and "" for forms that Python takes only in programs."""
    text = value.strip()
    return text if text.isascii() and "_" not in text else ""


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

    kind = KIND_OTHER

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


# -- numbers ---------------------------------------------------------------------------------------


@cython.cfunc
def _to_int(value: Any) -> Any:
    """Give the int that a value stands for, and ``None`` if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    try:
        if isinstance(value, str):
            return int(_number_text(value))
        if isinstance(value, Decimal):
            # The bound comes first: Decimal("1E+999999999") is short, and as an int fills the memory.
            if value.is_finite() and value.adjusted() <= _DECIMAL_DIGITS and value == value.to_integral_value():
                return int(value)
            return None
        return int(operator.index(value))
    except Exception:
        return None


@cython.cclass
class Integer(Converter):
    """int, as itself where msgpack has a form for it (-2**63 to 2**64-1) and as decimal text beyond."""

    kind = KIND_INT

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = value if type(value) is int else _to_int(value)
        if number is None:
            raise _expected("an integer", value)
        if _INT_MIN <= number <= _INT_MAX:
            return number
        try:
            return str(number)
        except ValueError:
            pass
        raise _expected("an integer with fewer digits (sys.set_int_max_str_digits sets the limit)", value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is int:
            return stored
        if type(stored) is str and _INT_TEXT.fullmatch(stored) is not None:
            try:
                return int(stored)
            except ValueError:
                pass
        raise _expected("an integer", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is int else self.load(stored)


@cython.cclass
class Boolean(Converter):
    """bool, stored as 0 and 1."""

    kind = KIND_BOOL

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if value is True:
            return 1
        if value is False:
            return 0
        if isinstance(value, int) and (value == 0 or value == 1):
            return int.__int__(value)
        raise _expected("True, False, 1 or 0", value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is bool:
            return stored
        if type(stored) is int and (stored == 0 or stored == 1):
            return stored == 1
        raise _expected("0 or 1", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored == 1


@cython.cclass
class Real(Converter):
    """float."""

    kind = KIND_FLOAT
    allow_nan: bool = cython.declare(object, visibility="public")

    def __init__(self, allow_nan: bool = False) -> None:
        self.allow_nan = allow_nan

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = value
        if type(value) is not float:
            number = _to_float(value)
            if number is None:
                raise _expected("a number", value)
        if not self.allow_nan and not math.isfinite(number):
            raise _expected("a finite number", value)
        return number

    @cython.ccall
    def load(self, stored: Any) -> Any:
        number = stored
        if type(stored) is int:
            number = _to_float(stored)
        elif type(stored) is not float:
            number = None
        if number is None:
            raise _expected("a number", stored)
        if not self.allow_nan and not math.isfinite(number):
            raise _expected("a finite number", stored)
        return number

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored


@cython.cfunc
def _to_float(value: Any) -> Any:
    """Give the float that a value stands for, and ``None`` if it is none or too large."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            return float(_number_text(value))
        if hasattr(value, "__float__") or hasattr(value, "__index__"):
            return float(value)
    except Exception:
        pass
    return None


@cython.cfunc
def _to_decimal(value: Any) -> Any:
    """Give the exact decimal that a value stands for, and ``None`` if it is none or not finite."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, Decimal):
            number = Decimal(value)
        elif isinstance(value, float):
            # The shortest text that stands for this float: 0.1 is meant as 0.1, not as its binary neighbour.
            number = Decimal(float.__repr__(value))
        elif isinstance(value, str):
            number = Decimal(_number_text(value))
        else:
            number = Decimal(operator.index(value))
    except Exception:
        return None
    return number if number.is_finite() else None


@cython.cfunc
def _precision(digits: int) -> Context:
    """Give a context for numbers of any magnitude, whatever the current thread's own one is."""
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation])


@cython.cclass
class DecimalText(Converter):
    """Decimal, as its exact text; with ``exponent`` rounded to that power of ten."""

    kind = KIND_DECIMAL
    exponent: Decimal | None = cython.declare(object, visibility="public")
    rounding: str = cython.declare(object, visibility="public")
    _context: Context = cython.declare(object)

    def __init__(self, exponent: Decimal | None = None, rounding: str = ROUND_HALF_EVEN) -> None:
        self.exponent = exponent
        self.rounding = rounding
        self._context = _precision(60)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = _to_decimal(value)
        if number is None:
            raise _expected("a finite decimal number", value)
        if self.exponent is not None:
            # Rounding writes out all digits, and quantize refuses to give more than its context's precision.
            digits = number.adjusted() - self.exponent.adjusted() + 2
            if digits > _DECIMAL_DIGITS:
                raise _expected(f"a decimal number of at most {_DECIMAL_DIGITS} digits", value)
            context = self._context if digits <= 60 else _precision(digits)
            number = number.quantize(self.exponent, rounding=self.rounding, context=context)
        return str(number)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        # Version 0.0.1 stored floats.
        if type(stored) is str:
            number = Decimal(stored) if _DECIMAL_TEXT.fullmatch(stored) is not None else None
        elif type(stored) is int or type(stored) is float:
            number = _to_decimal(stored)
        else:
            number = None
        if number is None or not number.is_finite():
            raise _expected("the text of a finite decimal number", stored)
        return number

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is Decimal and self.exponent is None else Decimal(stored)


# -- text and bytes --------------------------------------------------------------------------------


@cython.cfunc
def _to_text(value: Any) -> Any:
    """Give the text that a value stands for, and ``None`` if there is none."""
    if isinstance(value, str):
        return str.__str__(value)
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).decode("utf-8")
        if isinstance(value, bool):
            return None
        if isinstance(value, int):
            return str(int.__int__(value))
        if isinstance(value, float):
            return float.__repr__(value)
        if isinstance(value, (UUID, Decimal, numbers.Number)):
            return str.__str__(str(value))
    except Exception:
        pass
    return None


@cython.cclass
class Text(Converter):
    """str, at most ``max_length`` characters on write. What is stored already stays readable."""

    kind = KIND_STR
    max_length: int | None = cython.declare(object, visibility="public")

    def __init__(self, max_length: int | None = None) -> None:
        self.max_length = max_length

    @cython.ccall
    def dump(self, value: Any) -> Any:
        text = value if type(value) is str else _to_text(value)
        if text is None:
            what = "UTF-8" if isinstance(value, (bytes, bytearray, memoryview)) else "text"
            raise _expected(what, value)
        if not _encodable(text):
            raise _expected("text without lone surrogates", value)
        if self.max_length is not None and len(text) > self.max_length:
            raise ValueError(f"expected at most {self.max_length} characters, got {len(text)}")
        return text

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not str:
            raise _expected("text", stored)
        if not _encodable(stored):
            raise _expected("text without lone surrogates", stored)
        return stored

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored


@cython.cclass
class Binary(Converter):
    """bytes, as they are or (``ensure_str``) as base64 text (RFC 4648, section 4)."""

    kind = KIND_BYTES
    ensure_str: bool = cython.declare(object, visibility="public")

    def __init__(self, ensure_str: bool = True) -> None:
        self.ensure_str = ensure_str

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise _expected("bytes", value)
        raw = value if type(value) is bytes else bytes(value)
        return b2a_base64(raw, newline=False).decode("ascii") if self.ensure_str else raw

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if not self.ensure_str:
            if type(stored) is bytes:
                return stored
            raise _expected("bytes", stored)
        if type(stored) is str and stored.isascii():
            raw = None
            try:
                raw = a2b_base64(stored, strict_mode=True)
            except Base64Error:
                pass
            # Strict mode lets the unused bits of the last character be set.
            if raw is not None and b2a_base64(raw, newline=False) == stored.encode("ascii"):
                return raw
        raise _expected("base64 text", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is bytes else bytes(value)


@cython.cfunc
def _to_uuid(value: Any) -> Any:
    """Give the UUID that a value stands for, and ``None`` if it is none."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    return None


@cython.cfunc
def _make_uuid(number: int) -> UUID:
    """Do what ``UUID(int=number)`` does, without its checks of the other five ways to call it."""
    made = UUID.__new__(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", _UNKNOWN_SAFETY)
    return made


@cython.cclass
class Uuid(Converter):
    """UUID, as 32 lower-case hexadecimal digits."""

    kind = KIND_UUID

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value if type(value) is UUID else _to_uuid(value)
        if found is None:
            raise _expected("a UUID", value)
        return f"{found.int:032x}"

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str and len(stored) == 32:
            raw = None
            try:
                raw = bytes.fromhex(stored)
            except ValueError:
                pass
            if raw is not None and raw.hex() == stored:
                return _make_uuid(int.from_bytes(raw, "big"))
        raise _expected("the 32 hexadecimal digits of a UUID", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is UUID else _make_uuid(int(stored, 16))


@cython.cclass
class ShortUuid(Converter):
    """UUID, as 22 digits of base 57, most significant first.

    This is the form of the ``shortuuid`` library since its version 1.0. The alphabet leaves out the
    characters that look alike (0 O, 1 I l).
    https://github.com/skorokithakis/shortuuid
    """

    def __init__(self) -> None:
        if not _SHORT_DIGITS:
            _SHORT_PAIRS.extend([first + second for first in _SHORT_ALPHABET for second in _SHORT_ALPHABET])
            _SHORT_DIGITS.update({pair: number for number, pair in enumerate(_SHORT_PAIRS)})

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value if type(value) is UUID else _to_uuid(value)
        if found is None:
            number = _short_number(value)
            if number is None:
                raise _expected("a UUID", value)
        else:
            number = found.int
        pairs = []
        for _ in range(_SHORT_LENGTH // 2):
            number, pair = divmod(number, _SHORT_BASE)
            pairs.append(_SHORT_PAIRS[pair])
        pairs.reverse()
        return "".join(pairs)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        number = _short_number(stored)
        if number is None:
            raise _expected("the 22 base-57 digits of a UUID", stored)
        return _make_uuid(number)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is UUID else self.load(stored)


@cython.cfunc
def _short_number(text: Any) -> Any:
    if not isinstance(text, str) or len(text) != _SHORT_LENGTH:
        return None
    number = 0
    for start in range(0, _SHORT_LENGTH, 2):
        pair = _SHORT_DIGITS.get(text[start : start + 2])
        if pair is None:
            return None
        number = number * _SHORT_BASE + pair
    # 22 digits reach a little further than 128 bits.
    return number if number >> 128 == 0 else None


# -- enumerations ----------------------------------------------------------------------------------


@cython.cclass
class Enumeration(Converter):
    """A member of an enumeration, as its value.

    Attributes:
        enum: the enumeration.
        members: the member for each stored value. True equals 1 and 1.0 as a key: look at the type too.
        flag: whether unnamed combinations of members are values as well.
    """

    kind = KIND_ENUM
    enum: type[Enum] = cython.declare(object, visibility="public")
    members: dict[Any, Enum] = cython.declare(object, visibility="public")
    flag: bool = cython.declare(object, visibility="public")

    def __init__(self, enum: Any) -> None:
        if not isinstance(enum, type) or not issubclass(enum, Enum):
            raise TypeError(f"expected a subclass of enum.Enum, got {enum!r}")
        if not enum.__members__:
            raise TypeError(f"{enum.__name__} has no members, so that no value could be stored")
        self.enum = enum
        self.flag = issubclass(enum, Flag)
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

    @cython.ccall
    def dump(self, value: Any) -> Any:
        member = value
        if type(value) is not self.enum:
            member = None
            if isinstance(value, bool):
                # Not through the class: a flag would make and keep a member whose value is the bool.
                member = self.members.get(value)
                if member is not None and type(member._value_) is not bool:
                    member = None
            else:
                try:
                    member = self.enum(value)
                except Exception:
                    pass  # a _missing_ hook may raise anything
            if type(member) is not self.enum:
                raise _expected(f"a member of {self.enum.__name__} or the value of one", value)
        stored = member._value_
        if self.flag and type(stored) is bool:
            stored = int(stored)
        kind = type(stored)
        if kind is str:
            return stored
        if kind is not int:
            stored = plain(stored, 0)
        if self.flag and not _storable(stored):
            raise _expected(f"a combination of {self.enum.__name__} within 64 bits", value)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        kind = type(stored)
        if kind is str or kind is int or kind is float or kind is bool or kind is bytes:
            member = self.members.get(stored)
            if member is not None:
                if type(member._value_) is kind or type(plain(member._value_, 0)) is kind:
                    return member
            elif self.flag and kind is int:
                try:
                    member = self.enum(stored)
                except Exception:
                    pass
                if type(member) is self.enum and member._value_ == stored and _storable(stored):
                    return member
        raise _expected(f"the value of a member of {self.enum.__name__}", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is self.enum else self.load(stored)


@cython.cfunc
def _storable(stored: Any) -> bool:
    """Whether every serializer gives this scalar back as it is (bytes: every one that takes them)."""
    kind = type(stored)
    if kind is int:
        return bool(_INT_MIN <= stored <= _INT_MAX)
    if kind is float:
        return math.isfinite(stored)
    if kind is str:
        return _encodable(stored)
    return kind is bool or kind is bytes


# -- dates and times -------------------------------------------------------------------------------


@cython.cfunc
def _parse(text: str, formats: Sequence[str]) -> datetime | None:
    """Read text by the first format that fits it."""
    for layout in formats:
        try:
            return datetime.strptime(text, layout)
        except ValueError:
            pass
    return None


@cython.cfunc
def _is_naive_text(text: str) -> bool:
    """Whether text is laid out as ``YYYY-MM-DD?HH:MM:SS[.ffffff]``; the digits are not checked.

    ``fromisoformat`` alone takes much more: weeks, comma for point, and 24:00 for the next day.
    """
    length = len(text)
    return (
        (length == 19 or (length == 26 and text[19] == "."))
        and text[4] == "-"
        and text[7] == "-"
        and text[13] == ":"
        and text[16] == ":"
        and text[11:13] != "24"
        and text.isascii()
    )


@cython.cclass
class DateTime(Converter):
    """Naive datetime, as ISO 8601 text. ``fold`` is not stored."""

    kind = KIND_DATETIME
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value
        if isinstance(value, str):
            found = _parse(value, self.formats)
            if found is None:
                try:
                    found = datetime.fromisoformat(value)
                except ValueError:
                    pass
        if not isinstance(found, datetime):
            raise _expected("a datetime or the text of one", value)
        if found.tzinfo is not None:
            raise ValueError(f"expected a datetime without time zone, got {type(value).__name__} with one")
        return datetime.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        # Version 0.0.1 wrote a space for the T.
        if type(stored) is str and _is_naive_text(stored) and (stored[10] == "T" or stored[10] == " "):
            found = None
            try:
                found = datetime.fromisoformat(stored)
            except ValueError:
                pass
            if found is not None and found.tzinfo is None:
                return found
        raise _expected("the ISO text of a datetime without time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is datetime and value.fold == 0 else datetime.fromisoformat(stored)


@cython.cclass
class DateTimeTZ(Converter):
    """Aware datetime, as ISO 8601 text in UTC."""

    kind = KIND_DATETIME_TZ

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, datetime):
            raise _expected("a datetime with time zone", value)
        if value.tzinfo is not UTC:
            value = _to_utc(value)
        return datetime.isoformat(value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str:
            found = None
            try:
                if (
                    stored.endswith("+00:00")
                    and (len(stored) == 25 or len(stored) == 32)
                    and stored[10] == "T"
                    and _is_naive_text(stored[:-6])
                ):
                    found = datetime.fromisoformat(stored)
                elif _AWARE_TEXT.fullmatch(stored) is not None:
                    # Version 0.0.1 wrote "+0000".
                    found = datetime.fromisoformat(stored).astimezone(UTC)
            except (OverflowError, ValueError):
                pass
            if found is not None and found.tzinfo is UTC:
                return found
        raise _expected("the ISO text of a datetime with time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        if type(value) is datetime and value.tzinfo is UTC and value.fold == 0:
            return value
        return datetime.fromisoformat(stored)


@cython.cfunc
def _to_utc(value: datetime) -> datetime:
    """Give the same instant in UTC."""
    raised = ""
    try:
        if value.utcoffset() is not None:
            return datetime.astimezone(value, UTC)
    except OverflowError:
        raised = "expected a datetime within the years 1 to 9999 in UTC, got one beyond"
    except Exception as error:
        # Time zones are classes that anybody may write.
        raised = f"the time zone of the {type(value).__name__} raised {type(error).__name__}"
    if raised:
        raise ValueError(raised)
    raise ValueError(f"expected a datetime with time zone, got {type(value).__name__} without one")


@cython.cclass
class Date(Converter):
    """date, as ISO 8601 text; the date of a naive datetime."""

    kind = KIND_DATE
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value
        if isinstance(value, str):
            found = _parse(value, self.formats)
            if found is None:
                try:
                    found = datetime.fromisoformat(value)
                except ValueError:
                    pass
        if not isinstance(found, date):
            raise _expected("a date or the text of one", value)
        if isinstance(found, datetime):
            if found.tzinfo is not None:
                raise ValueError(f"expected a date without time zone, got {type(value).__name__} with one")
            found = datetime.date(found)
        return date.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str and len(stored) == 10 and stored[4] == "-" and stored[7] == "-" and stored.isascii():
            try:
                return date.fromisoformat(stored)
            except ValueError:
                pass
        raise _expected("the ISO text of a date", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is date else date.fromisoformat(stored)


@cython.cclass
class Time(Converter):
    """Naive time of day, as ISO 8601 text; the time of a naive datetime. ``fold`` is not stored."""

    kind = KIND_TIME
    formats: Sequence[str] = cython.declare(object, visibility="public")

    def __init__(self, formats: Sequence[str] = ()) -> None:
        self.formats = tuple(formats)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        found = value
        if isinstance(value, str):
            found = _parse(value, self.formats)
            if found is None:
                try:
                    # More than a date, whose time would be a midnight that nobody asked for.
                    found = datetime.fromisoformat(value) if len(value) > 10 and value[10] in "T " else None
                except ValueError:
                    pass
            if found is None:
                try:
                    found = time.fromisoformat(value)
                except ValueError:
                    pass
        if not isinstance(found, (datetime, time)):
            raise _expected("a time or the text of one", value)
        if found.tzinfo is not None:
            raise ValueError(f"expected a time without time zone, got {type(value).__name__} with one")
        if isinstance(found, datetime):
            found = datetime.time(found)
        return time.isoformat(found)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if (
            type(stored) is str
            and (len(stored) == 8 or (len(stored) == 15 and stored[8] == "."))
            and stored[2] == ":"
            and stored[5] == ":"
            and stored[:2] != "24"
            and stored.isascii()
        ):
            found = None
            try:
                found = time.fromisoformat(stored)
            except ValueError:
                pass
            if found is not None and found.tzinfo is None:
                return found
        raise _expected("the ISO text of a time without time zone", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is time and value.fold == 0 else time.fromisoformat(stored)


@cython.cclass
class Timestamp(Converter):
    """An instant, as integer ticks since 1970-01-01T00:00:00Z, rounded down; read as a naive datetime.

    Attributes:
        resolution: ticks per second: a power of ten, at most 10**6.
        utc: whether naive datetimes are in UTC, rather than in local time.
    """

    kind = KIND_TIMESTAMP
    resolution: int = cython.declare(object, visibility="public")
    utc: bool = cython.declare(object, visibility="public")
    _tick: int = cython.declare(object)

    def __init__(self, resolution: int = 1, utc: bool = False) -> None:
        self.resolution = resolution
        self.utc = utc
        self._tick = 1_000_000 // resolution

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if isinstance(value, datetime):
            ticks = self._ticks_of(value)
            year = value.year
        elif isinstance(value, date):
            ticks = self._ticks_of(datetime(value.year, value.month, value.day))
            year = value.year
        else:
            # Seconds since the epoch, as time.time() gives; exactly, as 0.29 * 100 is not 29.
            seconds = None if isinstance(value, str) else _to_decimal(value)
            if seconds is None:
                raise _expected("a datetime, a date or a number of seconds", value)
            if seconds.adjusted() > 11:
                raise _expected("a time within the years 1 to 9999", value)
            numerator, denominator = seconds.as_integer_ratio() if seconds.adjusted() > -30 else (0, 1)
            ticks = numerator * self.resolution // denominator
            year = 1
        if year < 2 or year > 9998:
            # Next to the ends of the calendar an instant may be unreadable where it is writable.
            self.load(ticks)
        return ticks

    @cython.cfunc
    def _ticks_of(self, value: datetime) -> Any:
        if value.tzinfo is not None:
            since = _to_utc(value) - _EPOCH_UTC
        elif self.utc:
            since = value.replace(fold=0) - _EPOCH
        else:
            seconds = None
            try:
                # Of whole seconds: with microseconds the float would have too few digits. It tells folds.
                seconds = int(datetime.timestamp(value.replace(microsecond=0)))
            except (OverflowError, ValueError, OSError):
                pass
            if seconds is None:
                raise _expected("a time within the years 1 to 9999", value)
            return (seconds * 1_000_000 + value.microsecond) // self._tick
        return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) // self._tick

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not int:
            raise _expected("an integer", stored)
        seconds, ticks = divmod(stored, self.resolution)
        found = None
        try:
            if self.utc:
                found = _EPOCH + timedelta(0, seconds, ticks * self._tick)
            else:
                # Likewise of whole seconds.
                found = datetime.fromtimestamp(seconds)
                if ticks:
                    found = found.replace(microsecond=ticks * self._tick)
        except (OverflowError, ValueError, OSError):
            pass
        if found is None:
            raise _expected("a time within the years 1 to 9999", stored)
        return found

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        if (
            self.utc
            and type(value) is datetime
            and value.tzinfo is None
            and value.fold == 0
            and value.microsecond % self._tick == 0
        ):
            return value
        return self.load(stored)


# -- containers ------------------------------------------------------------------------------------


@cython.cclass
class ListOf(Converter):
    """A list, as the list of its elements' stored forms.

    Attributes:
        element: converter of the elements.
        null: whether elements may be ``None``.
    """

    kind = KIND_LIST
    element: Converter = cython.declare(Converter, visibility="public")
    null: bool = cython.declare(object, visibility="public")

    def __init__(self, element: Converter, null: bool = False) -> None:
        if not isinstance(element, Converter):
            raise TypeError(f"expected the element's converter, got {type(element).__name__}")
        self.element = element
        self.null = null

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _expected("a list or a tuple", value)
        stored: list[Any] = []
        for item in value:
            converted = None
            if item is not None:
                try:
                    converted = self.element.dump(item)
                except ValueError as error:
                    raise _at(stored, error) from error.__cause__
            if converted is None and not self.null:
                raise ValueError(f"item {len(stored)}: expected a value, got NoneType")
            stored.append(converted)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not list:
            raise _expected("a list", stored)
        value: list[Any] = []
        for item in stored:
            if item is None:
                if not self.null:
                    raise ValueError(f"item {len(value)}: expected a value, got NoneType")
                value.append(None)
                continue
            try:
                value.append(self.element.load(item))
            except ValueError as error:
                raise _at(value, error) from error.__cause__
        return value

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        found: list[Any] = []
        for item, form in zip(value, stored, strict=True):
            if form is None:
                found.append(None)
                continue
            try:
                found.append(self.element.canonical(item, form))
            except ValueError as error:
                raise _at(found, error) from error.__cause__
        return found


@cython.cfunc
def _at(done: list[Any], error: ValueError) -> ValueError:
    """Name the item after those that are done."""
    return ValueError(f"item {len(done)}: {error}")


_json_codec: list[Callable[[Any], Any]] = []


def json_codec() -> list[Callable[[Any], Any]]:
    """Give the functions that encode and decode JSON: msgspec's, which most programs never need, so loaded late."""
    if not _json_codec:
        import msgspec.json

        _json_codec.extend((msgspec.json.Encoder().encode, msgspec.json.Decoder().decode))
    return _json_codec


def check_json(value: Any, path: str = "$") -> None:
    """Make sure that a value is read back from JSON as it is written, tuples as lists apart.

    JSON libraries write much that they do not read back: NaN as null, bytes as base64, the key 1 as "1".

    Args:
        value: str, int, finite float, bool, None, and lists, tuples and str-keyed dicts of them.
        path: name of the value in messages. They give the way to the culprit as ``$.*[3]``: the keys of
            dicts are data, and not shown.

    Raises:
        TypeError: some part is of another type.
        ValueError: NaN or an infinity, text with lone surrogates, or more than :data:`MAX_DEPTH` levels.
    """
    problem = _json_problem(value, 0)
    if problem is not None:
        way, error, message = problem
        raise error(f"{path}{way}: {message}")


@cython.cfunc
def _json_problem(value: Any, depth: Any) -> Any:
    """Give ``None``, or the way to the culprit, the class of the error and what is wrong."""
    kind = type(value)
    if kind is str:
        if not _encodable(value):
            return "", ValueError, "expected text without lone surrogates, got str"
        return None
    if kind is int or value is None or kind is bool:
        return None
    if kind is float:
        return None if math.isfinite(value) else ("", ValueError, "expected a finite number, got float")
    if depth >= MAX_DEPTH:
        return "", ValueError, f"expected at most {MAX_DEPTH} levels of lists and dicts, got more"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return "", TypeError, f"expected a dict with str keys, got one with {type(key).__name__}"
            if not _encodable(key):
                return "", ValueError, "expected keys without lone surrogates, got str"
            problem = _json_problem(item, depth + 1)
            if problem is not None:
                return f".*{problem[0]}", problem[1], problem[2]
        return None
    if isinstance(value, (list, tuple)):
        index = 0
        for item in value:
            problem = _json_problem(item, depth + 1)
            if problem is not None:
                return f"[{index}]{problem[0]}", problem[1], problem[2]
            index += 1
        return None
    return "", TypeError, f"expected a JSON value, got {kind.__name__}"


@cython.cclass
class Json(Converter):
    """Any JSON value, as JSON text (RFC 8259)."""

    kind = KIND_JSON

    @cython.ccall
    def dump(self, value: Any) -> Any:
        problem = _json_problem(value, 0)
        if problem is not None:
            # Subclasses of str, int and float, such as members of a StrEnum, are what they derive from.
            value = plain(value, 0)
            problem = _json_problem(value, 0)
            if problem is not None:
                raise ValueError(f"${problem[0]}: {problem[2]}")
        raw = None
        try:
            raw = json_codec()[0](value)
        except (RecursionError, ValueError):
            pass
        if raw is None:
            raise _expected("a JSON value with less depth or fewer digits", value)
        return raw.decode("utf-8")

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str:
            try:
                return json_codec()[1](stored)
            except (RecursionError, ValueError):  # its own DecodeError is a ValueError
                pass
        raise _expected("JSON text", stored)
