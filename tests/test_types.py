"""Stored values, lifetimes, outcomes."""

from __future__ import annotations

import copy
import decimal
import enum
import fractions
import pickle
from datetime import timedelta
from typing import Any

import pytest

from cacheorm.types import KEEP_TTL, NEVER, Outcome, check_ttl, to_bytes


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


class Raw(bytes):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (b"\x00\xff", b"\x00\xff"),
        (Raw(b"x"), b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[1:], b"yz"),
        ("", b""),
        ("é\0", b"\xc3\xa9\x00"),
        (Text("x"), b"x"),
        (0, b"0"),
        (-5, b"-5"),
        (10**30, b"1" + b"0" * 30),
        (Number.ONE, b"1"),
        (1.5, b"1.5"),
        (1e300, b"1e+300"),
        (float("inf"), b"inf"),
    ],
)
def test_values_are_stored_as_bytes(value: Any, stored: bytes | None) -> None:
    found = to_bytes(value)
    assert found == stored
    assert type(found) in (bytes, type(None))


@pytest.mark.parametrize("value", [True, False, [], {}, object(), decimal.Decimal(1), 1j])
def test_other_values_are_type_errors_that_name_the_type(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        to_bytes(value)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (0, 0),
        (1, 1),
        (1.0, 1),
        (1.9, 1),
        (0.0, 0),
        (-0.0, 0),
        (10**12, 10**12),
        (Number.ONE, 1),
        (timedelta(minutes=2), 120),
        (timedelta(seconds=1.9), 1),
        (timedelta(0), 0),
        (NEVER, 0),
    ],
)
def test_a_lifetime_is_whole_seconds(ttl: Any, seconds: int) -> None:
    found = check_ttl(ttl)
    assert found == seconds
    assert type(found) is int or isinstance(found, Number)


@pytest.mark.parametrize(
    "ttl",
    [
        -1,
        -0.5,
        -1.5,
        0.5,
        0.001,
        1e-300,
        float("nan"),
        float("inf"),
        float("-inf"),
        -(10**30),
        timedelta(seconds=-1),
        timedelta(milliseconds=5),
    ],
)
def test_impossible_lifetimes_are_value_errors(ttl: Any) -> None:
    with pytest.raises(ValueError, match="ttl must"):
        check_ttl(ttl)


@pytest.mark.parametrize(
    "ttl",
    [
        None,
        "60",
        b"60",
        True,
        False,
        [],
        decimal.Decimal("0.5"),
        fractions.Fraction(1, 2),
        KEEP_TTL,
    ],
)
def test_a_lifetime_that_is_no_number_is_a_type_error(ttl: Any) -> None:
    with pytest.raises(TypeError, match="ttl must be a number of seconds, got"):
        check_ttl(ttl)


def test_keep_ttl_is_one_of_a_kind() -> None:
    assert repr(KEEP_TTL) == "KEEP_TTL"
    for again in (pickle.loads(pickle.dumps(KEEP_TTL)), copy.copy(KEEP_TTL), copy.deepcopy(KEEP_TTL)):
        assert again is KEEP_TTL


def test_an_outcome_is_a_dict_with_reasons() -> None:
    assert Outcome() == {}
    assert Outcome().reasons == {}
    outcome = Outcome({"a": True, "b": False}, {"b": "too large"})
    assert outcome == {"a": True, "b": False}
    for again in (pickle.loads(pickle.dumps(outcome)), copy.copy(outcome), copy.deepcopy(outcome)):
        assert again == outcome
        assert again.reasons == {"b": "too large"}
