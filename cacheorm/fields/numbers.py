"""Fields of numbers."""

from __future__ import annotations

import decimal
import warnings
from decimal import Decimal
from typing import Any, Literal, TypeVar, Unpack, overload

from .._speedups import convert
from .base import Field, FieldOptions

__all__ = ["BooleanField", "DecimalField", "FloatField", "IntegerField"]

T = TypeVar("T")

_NOT_GIVEN: Any = object()

_ROUNDINGS = {
    decimal.ROUND_CEILING,
    decimal.ROUND_DOWN,
    decimal.ROUND_FLOOR,
    decimal.ROUND_HALF_DOWN,
    decimal.ROUND_HALF_EVEN,
    decimal.ROUND_HALF_UP,
    decimal.ROUND_UP,
    decimal.ROUND_05UP,
}


class IntegerField(Field[T]):
    """An integer of any size.

    Takes ints and values that are exactly one: ``"2"``, ``3.0``, ``Decimal(4)``, NumPy integers. ``3.9``
    and bools are errors.

    Stored as an integer within -2**63 to 2**64-1, the most that msgpack holds, and as decimal text beyond.
    """

    @overload
    def __init__(self: IntegerField[int], null: Literal[False] = False, **options: Unpack[FieldOptions]) -> None: ...
    @overload
    def __init__(self: IntegerField[int | None], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Integer()


class BooleanField(Field[T]):
    """A bool, stored as 0 or 1.

    Takes bools and the integers 0 and 1. All other values are errors, ``"false"`` and ``1.0`` included, since they are
    ambiguous.
    """

    @overload
    def __init__(self: BooleanField[bool], null: Literal[False] = False, **options: Unpack[FieldOptions]) -> None: ...
    @overload
    def __init__(self: BooleanField[bool | None], null: bool, **options: Unpack[FieldOptions]) -> None: ...
    def __init__(self, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Boolean()


class FloatField(Field[T]):
    """A float.

    Takes numbers and the text of one; bools are an error.

    Args:
        allow_nan: whether NaN and the infinities are values. msgpack and pickle hold them; JSON has no
            form for them, and its serializer refuses the row.
    """

    @overload
    def __init__(
        self: FloatField[float],
        allow_nan: bool = False,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: FloatField[float | None],
        allow_nan: bool = False,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(self, allow_nan: bool = False, null: bool = False, **options: Unpack[FieldOptions]) -> None:
        self.allow_nan = bool(allow_nan)
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        return convert.Real(self.allow_nan)


class DecimalField(Field[T]):
    """An exact decimal number, stored as text and never converted to a float.

    Takes Decimals, ints, text, and floats, which count as their shortest text: ``0.1`` is ``Decimal("0.1")``.
    NaN, the infinities and bools are errors.

    Args:
        decimal_places: digits after the point that ``auto_round`` leaves.
        auto_round: whether values are rounded. Otherwise they are stored as they are, whatever their digits.
        rounding: how, a ``decimal.ROUND_...`` constant; default ``decimal.ROUND_HALF_EVEN``.

    ``decimal_places`` or ``rounding`` without ``auto_round`` does nothing, and warns.

    Raises:
        TypeError, ValueError: ``decimal_places`` is no number of digits, or ``rounding`` no such constant.
    """

    @overload
    def __init__(
        self: DecimalField[Decimal],
        decimal_places: int = 5,
        auto_round: bool = False,
        rounding: str | None = None,
        null: Literal[False] = False,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: DecimalField[Decimal | None],
        decimal_places: int = 5,
        auto_round: bool = False,
        rounding: str | None = None,
        *,
        null: bool,
        **options: Unpack[FieldOptions],
    ) -> None: ...
    def __init__(
        self,
        decimal_places: Any = _NOT_GIVEN,
        auto_round: bool = False,
        rounding: str | None = None,
        null: bool = False,
        **options: Unpack[FieldOptions],
    ) -> None:
        useless = [] if decimal_places is _NOT_GIVEN else ["decimal_places"]
        if rounding is not None:
            useless.append("rounding")
        decimal_places = 5 if decimal_places is _NOT_GIVEN else decimal_places
        _check_count("decimal_places", decimal_places, least=0)
        if rounding is not None and rounding not in _ROUNDINGS:
            raise ValueError(f"rounding is one of the decimal.ROUND_... constants, got {rounding!r}")
        if useless and not auto_round:
            warnings.warn(
                f"{' and '.join(useless)} of DecimalField does nothing without auto_round=True: values are stored with "
                "all their digits; give auto_round=True to have them rounded, or leave it out",
                UserWarning,
                stacklevel=2,
            )
        self.decimal_places = decimal_places
        self.auto_round = bool(auto_round)
        self.rounding = rounding or decimal.ROUND_HALF_EVEN
        super().__init__(null, **options)

    def make_converter(self) -> convert.Converter:
        exponent = Decimal((0, (1,), -self.decimal_places)) if self.auto_round else None
        return convert.DecimalText(exponent, self.rounding)


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} is at least {least}, got {value}")
