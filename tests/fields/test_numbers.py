"""Fields of numbers."""

from __future__ import annotations

import decimal
import enum
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from converted import refuses, takes

import cacheorm as co


class Size(enum.IntEnum):
    LARGE = 3


class Indexed:
    """What NumPy's integers are like."""

    def __index__(self) -> int:
        return 7


class TestIntegerField:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (2, 2),
            ("2", 2),
            (" -2 ", -2),
            ("+2", 2),
            (3.0, 3),
            (1e300, int(1e300)),
            (Decimal("4.0"), 4),
            (Decimal("1E+3"), 1000),
            (Size.LARGE, 3),
            (Indexed(), 7),
            (0, 0),
            (-(2**63), -(2**63)),
            (2**64 - 1, 2**64 - 1),
        ],
    )
    def test_takes_what_stands_for_an_integer_exactly(self, value: Any, expected: int) -> None:
        takes(co.IntegerField(), value, expected)

    @pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**40, -(10**4000)])
    def test_stores_integers_beyond_64_bits_as_text(self, value: int) -> None:
        assert takes(co.IntegerField(), value, value) == str(value)

    @pytest.mark.parametrize(
        "value",
        [
            True,
            3.9,
            math.nan,
            math.inf,
            "3.0",
            "",
            "1_000",
            "٣",
            "0x1",
            b"2",
            None.__class__,
            [1],
            Decimal("3.5"),
            Decimal("NaN"),
            Decimal("1E+999999999"),
            Fraction(3, 1),
            object(),
            1j,
        ],
    )
    def test_refuses_everything_else(self, value: Any) -> None:
        refuses(co.IntegerField(), value, "expected an integer, got ")

    def test_says_so_when_python_cannot_write_an_integer_out(self) -> None:
        refuses(co.IntegerField(), 10**5000, "expected an integer with fewer digits")

    @pytest.mark.parametrize("stored", [True, 1.0, "1.0", "", "-0", "01", " 1", "1_0", "٣", b"1", [], "9" * 5000])
    def test_reads_only_integers_and_their_plain_text(self, stored: Any) -> None:
        refuses(co.IntegerField(), stored, "expected an integer, got ", reading=True)

    def test_reads_small_integers_in_text_too(self) -> None:
        assert co.IntegerField().python_value("-12") == -12


class TestBooleanField:
    @pytest.mark.parametrize("value", [True, False, 0, 1])
    def test_takes_bools_and_their_numbers(self, value: int) -> None:
        stored = takes(co.BooleanField(), value, bool(value))
        assert type(stored) is int

    @pytest.mark.parametrize("value", ["false", "", 1.0, 2, -1, "1", b"1", [], Size.LARGE])
    def test_refuses_what_is_merely_true_or_false(self, value: Any) -> None:
        refuses(co.BooleanField(), value, "expected True, False, 1 or 0, got ")

    @pytest.mark.parametrize(("stored", "value"), [(1, True), (0, False), (True, True), (False, False)])
    def test_reads_numbers_and_bools(self, stored: Any, value: bool) -> None:
        assert co.BooleanField().python_value(stored) is value

    @pytest.mark.parametrize("stored", [2, 1.0, "1", "true", []])
    def test_reads_nothing_else(self, stored: Any) -> None:
        refuses(co.BooleanField(), stored, "expected 0 or 1, got ", reading=True)


class TestFloatField:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (1.5, 1.5),
            (3, 3.0),
            ("7.89", 7.89),
            (" 1e3 ", 1000.0),
            (Decimal("0.5"), 0.5),
            (Fraction(1, 4), 0.25),
            (Indexed(), 7.0),
            (-0.0, -0.0),
        ],
    )
    def test_takes_numbers_and_their_text(self, value: Any, expected: float) -> None:
        assert math.copysign(1, takes(co.FloatField(), value, expected)) == math.copysign(1, expected)

    @pytest.mark.parametrize("value", [True, "tall", "", "1_0", "٣", b"1", [], 1j, 10**400, Decimal("sNaN")])
    def test_refuses_everything_else(self, value: Any) -> None:
        refuses(co.FloatField(), value, "expected a number, got ")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "1e999", Decimal("Infinity")])
    def test_refuses_what_is_not_finite_unless_told(self, value: Any) -> None:
        refuses(co.FloatField(), value, "expected a finite number, got ")
        refuses(co.FloatField(), math.nan, "expected a finite number, got ", reading=True)
        stored = co.FloatField(allow_nan=True).cache_value(value)
        assert type(stored) is float
        assert not math.isfinite(stored)
        assert not math.isfinite(co.FloatField(allow_nan=True).python_value(stored))

    def test_reads_integers_as_floats(self) -> None:
        value = co.FloatField().python_value(180)
        assert value == 180.0
        assert type(value) is float

    @pytest.mark.parametrize("stored", ["1.5", True, [], 10**400, b"1"])
    def test_reads_nothing_else(self, stored: Any) -> None:
        refuses(co.FloatField(), stored, "expected a number, got ", reading=True)


class TestDecimalField:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Decimal("1.10"), "1.10"),
            (0.1, "0.1"),
            (3, "3"),
            (10**40 + 1, str(10**40 + 1)),
            ("-3.14", "-3.14"),
            (" 2.50 ", "2.50"),
            (Decimal("1E+5"), "1E+5"),
            (Decimal("-0"), "-0"),
            (Indexed(), "7"),
        ],
    )
    def test_stores_the_exact_text(self, value: Any, text: str) -> None:
        assert takes(co.DecimalField(), value, Decimal(text)) == text

    def test_keeps_forty_digits(self) -> None:
        long = Decimal("1234567890123456789012345678901234567890.123456789")
        assert takes(co.DecimalField(), long, long) == str(long)

    @pytest.mark.parametrize(
        ("options", "value", "text"),
        [
            ({}, Decimal("1.23456789"), "1.23457"),
            ({"decimal_places": 2}, 6.785, "6.78"),
            ({"decimal_places": 2}, 2.675, "2.68"),
            ({"decimal_places": 2, "rounding": decimal.ROUND_UP}, "1.231", "1.24"),
            ({"decimal_places": 0}, "2.5", "2"),
            ({"decimal_places": 2}, 10**40, "1" + "0" * 40 + ".00"),
            ({"decimal_places": 2}, "9.999", "10.00"),
            ({"decimal_places": 100}, 1, "1." + "0" * 100),
            ({"decimal_places": 2}, Decimal("1E-999999"), "0.00"),
        ],
    )
    def test_rounds_when_told(self, options: dict[str, Any], value: Any, text: str) -> None:
        assert takes(co.DecimalField(auto_round=True, **options), value, Decimal(text)) == text

    def test_rounding_does_not_depend_on_the_context_of_the_thread(self) -> None:
        with decimal.localcontext(prec=2, rounding=decimal.ROUND_UP):
            takes(co.DecimalField(2, True), "12345.678", Decimal("12345.68"))

    @pytest.mark.parametrize(
        "value", [math.nan, math.inf, Decimal("NaN"), "Infinity", "sNaN", True, "1_0", "", [], b"1", Fraction(1, 3)]
    )
    def test_refuses_what_is_no_finite_number(self, value: Any) -> None:
        refuses(co.DecimalField(), value, "expected a finite decimal number, got ")

    def test_refuses_to_write_out_a_million_digits(self) -> None:
        refuses(co.DecimalField(2, True), "1E+2000000", "expected a decimal number of at most 1000000 digits")

    @pytest.mark.parametrize(("stored", "text"), [(0.1, "0.1"), (3, "3"), ("1.50", "1.50")])
    def test_reads_the_numbers_of_older_rows(self, stored: Any, text: str) -> None:
        assert str(co.DecimalField().python_value(stored)) == text

    @pytest.mark.parametrize("stored", ["", "NaN", "Infinity", " 1", "1_0", "1,5", "٣", True, math.nan, [], b"1"])
    def test_reads_nothing_else(self, stored: Any) -> None:
        refuses(co.DecimalField(), stored, "expected the text of a finite decimal number, got ", reading=True)

    def test_bad_options_are_errors_at_the_declaration(self) -> None:
        with pytest.raises(ValueError, match="decimal_places is at least 0, got -1"):
            co.DecimalField(decimal_places=-1)
        with pytest.raises(TypeError, match="decimal_places is an integer, got str"):
            co.DecimalField(decimal_places="2")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="decimal_places is an integer, got bool"):
            co.DecimalField(decimal_places=True)
        with pytest.raises(ValueError, match="rounding is one of"):
            co.DecimalField(rounding="up")

    @pytest.mark.parametrize(
        ("given", "options", "words"),
        [
            ((), {"decimal_places": 2}, "decimal_places of"),
            ((2,), {}, "decimal_places of"),
            ((5,), {"auto_round": False, "null": True}, "decimal_places of"),
            ((), {"rounding": decimal.ROUND_UP}, "rounding of"),
            ((), {"decimal_places": 2, "rounding": decimal.ROUND_UP}, "decimal_places and rounding of"),
        ],
    )
    def test_options_that_do_nothing_warn_at_the_declaration(self, given: Any, options: Any, words: str) -> None:
        with pytest.warns(UserWarning, match=rf"^{words} DecimalField does nothing without auto_round=True") as caught:
            field = co.DecimalField(*given, **options)
        assert [warning.filename for warning in caught] == [__file__]
        takes(field, "1.23456789", Decimal("1.23456789"))
        field.clone()  # as in a model that inherits it: no second warning

    def test_options_that_do_something_do_not_warn(self) -> None:
        for options in ({}, {"auto_round": True}, {"decimal_places": 2, "auto_round": True}, {"null": True}):
            co.DecimalField(**options)
