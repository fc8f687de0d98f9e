# cython: language_level=3, annotation_typing=False, auto_pickle=False
"""Integers, booleans, floats and decimals, and what stands for them."""

from __future__ import annotations

import math
import operator
import re
import sys
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

from .. import _shim as cython
from .._limits import INT_MAX, INT_MIN

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, attempt, expected, normal_decimal
else:
    from ._converter import Converter, attempt, expected, normal_decimal

__all__ = ["Boolean", "DecimalText", "Integer", "Real"]

_DECIMAL_DIGITS = 1_000_000
_INT_TEXT = re.compile(r"-?[1-9][0-9]*|0", re.ASCII)
_DECIMAL_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)


@cython.cfunc
def _number_text(value: str) -> str:
    """Strip the text of a number; return "" for forms that Python takes only in programs."""
    text = value.strip()
    return text if text.isascii() and "_" not in text else ""


@cython.cfunc
def _to_int(value: Any) -> Any:
    """Convert a value to the int that it stands for, ``None`` if it stands for none."""
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
            # The bound comes first: Decimal("1E+999999") is short, and takes half a minute to become an int.
            most = sys.get_int_max_str_digits() or _DECIMAL_DIGITS
            if value.is_finite() and value.adjusted() < most and value == value.to_integral_value():
                return int(value)
            return None
        return int(operator.index(value))
    except MemoryError:
        raise
    except Exception:
        return None


@cython.cclass
class Integer(Converter):
    """int, as itself where msgpack has a form for it (-2**63 to 2**64-1) and as decimal text beyond."""

    own_code = True
    packable = True
    key_type = int

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = value if type(value) is int else _to_int(value)
        if number is None:
            raise expected("an integer", value)
        if INT_MIN <= number <= INT_MAX:
            return number
        text = attempt(str, number)
        if text is not None:
            return text
        raise expected("an integer with fewer digits (sys.set_int_max_str_digits sets the limit)", value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is int:
            return stored
        if type(stored) is str and _INT_TEXT.fullmatch(stored) is not None:
            number = attempt(int, stored)
            if number is not None:
                return number
        raise expected("an integer", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is int else self.load(stored)

    def weigh_all(self, stored: list[Any], most: int) -> int:
        return 96 * operator.countOf(map(type, stored), str)

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return stored if type(stored) is int else value  # a number for formatters, also where it is stored as text


@cython.cclass
class Boolean(Converter):
    """bool, stored as 0 and 1."""

    own_code = True
    packable = True

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if value is True:
            return 1
        if value is False:
            return 0
        if isinstance(value, int) and (value == 0 or value == 1):
            return int.__int__(value)
        raise expected("True, False, 1 or 0", value)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is bool:
            return stored
        if type(stored) is int and (stored == 0 or stored == 1):
            return stored == 1
        raise expected("0 or 1", stored)

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored == 1


@cython.cclass
class Real(Converter):
    """float."""

    own_code = True

    allow_nan: bool = cython.declare(object, visibility="public")

    def __init__(self, allow_nan: bool = False) -> None:
        self.allow_nan = allow_nan

    @property
    def packable(self) -> bool:
        """Whether all values are finite."""
        return not self.allow_nan

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = value
        if type(value) is not float:
            number = _to_float(value)
            if number is None:
                raise expected("a number", value)
        if not self.allow_nan and not math.isfinite(number):
            raise expected("a finite number", value)
        return number

    @cython.ccall
    def load(self, stored: Any) -> Any:
        number = stored
        if type(stored) is int:
            number = _to_float(stored)
        elif type(stored) is not float:
            number = None
        if number is None:
            raise expected("a number", stored)
        if not self.allow_nan and not math.isfinite(number):
            raise expected("a finite number", stored)
        return number

    def weigh_all(self, stored: list[Any], most: int) -> int:
        return 96 * (len(stored) - operator.countOf(map(type, stored), float))

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return stored

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return 0.0 if stored == 0 else stored  # -0.0 as well


@cython.cfunc
def _to_float(value: Any) -> Any:
    """Convert a value to the float that it stands for, ``None`` if it stands for none or is too large."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, str):
            return float(_number_text(value))
        if hasattr(value, "__float__") or hasattr(value, "__index__"):
            return float(value)
    except MemoryError:
        raise
    except Exception:
        pass
    return None


@cython.cfunc
def to_decimal(value: Any) -> Any:
    """Convert a value to the exact Decimal that it stands for, ``None`` if it stands for none or is not finite."""
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
    except MemoryError:
        raise
    except Exception:
        return None
    return number if number.is_finite() else None


@cython.cfunc
def _precision(digits: int) -> Context:
    """Make a decimal context for numbers of any magnitude, independent of the current thread's."""
    return Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation])


@cython.cclass
class DecimalText(Converter):
    """Decimal, as its exact text; with ``exponent`` rounded to that power of ten."""

    own_code = True
    weight = 112
    packable = True
    exponent: Decimal | None = cython.declare(object, visibility="public")
    rounding: str = cython.declare(object, visibility="public")
    _context: Context = cython.declare(object)

    def __init__(self, exponent: Decimal | None = None, rounding: str = ROUND_HALF_EVEN) -> None:
        self.exponent = exponent
        self.rounding = rounding
        self._context = _precision(60)

    @cython.ccall
    def dump(self, value: Any) -> Any:
        number = to_decimal(value)
        if number is None:
            raise expected("a finite decimal number", value)
        if self.exponent is not None:
            # Rounding writes out all digits, and quantize refuses to give more than its context's precision.
            digits = number.adjusted() - self.exponent.adjusted() + 2
            if digits > _DECIMAL_DIGITS:
                raise expected(f"a decimal number of at most {_DECIMAL_DIGITS} digits", value)
            context = self._context if digits <= 60 else _precision(digits)
            number = number.quantize(self.exponent, rounding=self.rounding, context=context)
        return str(number)

    @cython.ccall
    def load(self, stored: Any) -> Any:
        # Version 0.0.1 stored floats.
        if type(stored) is str:
            number = Decimal(stored) if _DECIMAL_TEXT.fullmatch(stored) is not None else None
        elif type(stored) is int or type(stored) is float:
            number = to_decimal(stored)
        else:
            number = None
        if number is None or not number.is_finite():
            raise expected("the text of a finite decimal number", stored)
        return number

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        return value if type(value) is Decimal and self.exponent is None else Decimal(stored)

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return str(normal_decimal(value))
