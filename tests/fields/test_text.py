"""Fields of text, bytes, UUIDs and enumerations."""

from __future__ import annotations

import enum
import math
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import shortuuid
from converted import refuses, takes
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co

ID = uuid.UUID("3b1f8b40-222c-4a6e-b77e-779d5a94e21c")


class Name(str):
    def __str__(self) -> str:
        return "not this"


class Color(enum.Enum):
    RED = "red"


class TestStringField:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("foo", "foo"),
            ("", ""),
            ("Zoë 🎈", "Zoë 🎈"),
            (b"bar", "bar"),
            (bytearray("ä", "utf-8"), "ä"),
            (memoryview(b"view"), "view"),
            (5, "5"),
            (1.5, "1.5"),
            (Decimal("1.50"), "1.50"),
            (Fraction(1, 3), "1/3"),
            (ID, str(ID)),
            (Name("x"), "x"),
        ],
    )
    def test_takes_what_has_a_plain_text(self, value: Any, text: str) -> None:
        takes(co.StringField(), value, text)

    @pytest.mark.parametrize(
        "value", [["a"], ("a",), {"a": 1}, {"a"}, True, object(), Color.RED, pytest.param(10**5000, id="long")]
    )
    def test_refuses_containers_and_objects(self, value: Any) -> None:
        refuses(co.StringField(), value, "expected text, got ")

    def test_refuses_what_has_no_form_in_utf8(self) -> None:
        refuses(co.StringField(), "abc\ud800", "expected text without lone surrogates, got str")
        refuses(co.StringField(), "abc\ud800", "expected text without lone surrogates, got str", reading=True)
        refuses(co.StringField(), b"\xff\xfe", "expected UTF-8, got bytes")

    def test_counts_characters_on_write(self) -> None:
        field = co.StringField(max_length=3)
        takes(field, "äöü", "äöü")
        refuses(field, "abcd", "expected at most 3 characters, got 4")
        refuses(field, 1234, "expected at most 3 characters, got 4")
        assert field.python_value("abcd") == "abcd"

    @pytest.mark.parametrize("stored", [b"a", 1, True, [], {}])
    def test_reads_only_text(self, stored: Any) -> None:
        refuses(co.StringField(), stored, "expected text, got ", reading=True)

    def test_bad_options_are_errors_at_the_declaration(self) -> None:
        with pytest.raises(ValueError, match="max_length is at least 1, got 0"):
            co.StringField(max_length=0)
        for wrong in ("5", True, 5.0):
            with pytest.raises(TypeError, match="max_length is a number of characters"):
                co.StringField(max_length=wrong)  # type: ignore[call-overload]

    def test_may_be_secret(self) -> None:
        assert co.StringField(secret=True).secret
        assert not co.StringField().secret


class TestBinaryField:
    @pytest.mark.parametrize("ensure_str", [True, False])
    @pytest.mark.parametrize(
        "value", [b"", b"\x00\xff", bytearray(b"ab"), memoryview(b"abc"), memoryview(b"abcd")[::2]]
    )
    def test_takes_bytes_and_buffers(self, value: Any, ensure_str: bool) -> None:
        stored = takes(co.BinaryField(ensure_str=ensure_str), value, bytes(value))
        assert type(stored) is (str if ensure_str else bytes)

    @pytest.mark.parametrize("value", ["text", 5, [1], None.__class__])
    def test_refuses_everything_else(self, value: Any) -> None:
        refuses(co.BinaryField(), value, "expected bytes, got ")

    @pytest.mark.parametrize("stored", ["a", "YQ", "YR==", "YQ==\n", " YQ==", "YQ=a", "Y-Q_", "ä", b"YQ==", 1, []])
    def test_reads_only_strict_base64(self, stored: Any) -> None:
        refuses(co.BinaryField(), stored, "expected base64 text, got ", reading=True)

    def test_reads_only_raw_bytes_where_raw_bytes_are_stored(self) -> None:
        refuses(co.BinaryField(ensure_str=False), "YQ==", "expected bytes, got str", reading=True)


class TestUUIDFields:
    @pytest.mark.parametrize("value", [ID, str(ID), ID.hex, ID.hex.upper(), ID.urn, f"{{{ID}}}"])
    def test_take_uuids_and_their_texts(self, value: Any) -> None:
        assert takes(co.UUIDField(), value, ID) == ID.hex
        assert takes(co.ShortUUIDField(), value, ID) == "CXc85b4rqinB7s5J52TRYb"

    @pytest.mark.parametrize("value", ["tall-tale", "", 5, b"\x00" * 16, ID.hex[:-1], "g" * 32, []])
    def test_refuse_everything_else(self, value: Any) -> None:
        refuses(co.UUIDField(), value, "expected a UUID, got ")
        refuses(co.ShortUUIDField(), value, "expected a UUID, got ")

    @pytest.mark.parametrize(
        "stored",
        [str(ID), ID.hex.upper(), ID.hex[:-1], ID.hex + "0", "+" + ID.hex[1:], ID.hex[:-2] + "  ", 5, ID.bytes],
    )
    def test_read_only_hexadecimal_digits(self, stored: Any) -> None:
        refuses(co.UUIDField(), stored, "expected the 32 hexadecimal digits of a UUID, got ", reading=True)

    @pytest.mark.parametrize(
        "stored", ["z" * 22, "2" * 21, "2" * 23, "2" * 21 + "0", "2" * 21 + "ä", ID.hex, 5, b"2" * 22]
    )
    def test_read_only_short_forms(self, stored: Any) -> None:
        refuses(co.ShortUUIDField(), stored, "expected the 22 base-57 digits of a UUID, got ", reading=True)

    def test_a_short_form_is_a_value_too(self) -> None:
        takes(co.ShortUUIDField(), "CXc85b4rqinB7s5J52TRYb", ID)
        refuses(co.UUIDField(), "CXc85b4rqinB7s5J52TRYb", "expected a UUID, got str")

    @pytest.mark.parametrize("number", [0, 1, 56, 57, 2**64, 2**128 - 1])
    def test_the_ends_of_the_range_round_trip(self, number: int) -> None:
        takes(co.UUIDField(), uuid.UUID(int=number), uuid.UUID(int=number))
        takes(co.ShortUUIDField(), uuid.UUID(int=number), uuid.UUID(int=number))

    @given(st.uuids())
    def test_the_short_form_is_that_of_the_shortuuid_library(self, value: uuid.UUID) -> None:
        stored = co.ShortUUIDField().cache_value(value)
        assert stored == shortuuid.encode(value)
        assert shortuuid.decode(stored) == value


class Mixed(enum.Enum):
    A = 1
    B = "b"
    C = 2.3
    ALSO_A = 1  # noqa: PIE796


class Truth(enum.Enum):
    YES = True
    NO = False


class Rank(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HELLO = "hello"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Bits(enum.IntFlag):
    ONE = 1


class Lenient(enum.Enum):
    SMALL = "s"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if value == "fail":
            raise RuntimeError("hunter2")
        return cls.SMALL if value == "small" else None


class Partial(enum.IntFlag):
    ONE = 1
    TWO = 2

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.ONE | cls.TWO if value == "all" else super()._missing_(value)


class Dropping(enum.Flag, boundary=enum.CONFORM):
    ONE = 1


class TestEnumField:
    @pytest.mark.parametrize(
        ("members", "value", "member", "form"),
        [
            (Mixed, Mixed.A, Mixed.A, 1),
            (Mixed, 1, Mixed.A, 1),
            (Mixed, "b", Mixed.B, "b"),
            (Mixed, Mixed.C, Mixed.C, 2.3),
            (Mixed, Mixed.ALSO_A, Mixed.A, 1),
            (Truth, False, Truth.NO, False),
            (Rank, Rank.LOW, Rank.LOW, 1),
            (Word, "hello", Word.HELLO, "hello"),
            (Access, Access.READ | Access.WRITE, Access.READ | Access.WRITE, 3),
            (Access, 0, Access(0), 0),
            (Bits, Bits(9), Bits(9), 9),
            (Lenient, "small", Lenient.SMALL, "s"),
        ],
    )
    def test_takes_members_and_their_values(self, members: Any, value: Any, member: Any, form: Any) -> None:
        stored = takes(co.EnumField(members), value, member)
        assert stored == form
        assert type(stored) is type(form)

    @pytest.mark.parametrize(
        ("members", "value"),
        [
            (Mixed, "tall"),
            (Mixed, 5),
            (Mixed, "A"),
            (Mixed, True),
            (Mixed, Color.RED),
            (Mixed, []),
            (Access, 4),
            (Word, Mixed.B),
            (Lenient, "fail"),
        ],
    )
    def test_refuses_everything_else(self, members: Any, value: Any) -> None:
        refuses(co.EnumField(members), value, f"expected a member of {members.__name__} or the value of one, got ")

    @pytest.mark.parametrize(
        ("members", "stored"),
        [
            (Mixed, True),
            (Mixed, 1.0),
            (Mixed, "A"),
            (Mixed, []),
            (Truth, 1),
            (Truth, 0.0),
            (Access, 4),
            (Access, True),
            (Rank, "1"),
            (Bits, 2**70),
            (Word, b"hello"),
            (Bits, -1),
            (Lenient, "fail"),
        ],
    )
    def test_reads_only_the_values_of_members_with_their_types(self, members: Any, stored: Any) -> None:
        if (members, stored) == (Bits, -1):
            # All bits of an IntFlag: a value like any other.
            assert co.EnumField(members).python_value(Bits(-1).value) is Bits(-1)
            return
        refuses(co.EnumField(members), stored, f"expected the value of a member of {members.__name__}", reading=True)

    def test_asks_the_hook_of_the_enumeration_when_it_reads_too(self) -> None:
        assert co.EnumField(Lenient).python_value("small") is Lenient.SMALL
        assert co.EnumField(Partial).python_value("all") == Partial.ONE | Partial.TWO
        assert co.EnumField(Dropping).cache_value(5) == 1
        refuses(co.EnumField(Dropping), 5, "expected the value of a member of Dropping, got int", reading=True)
        refuses(co.EnumField(Partial), 2**70, "expected the value of a member of Partial, got int", reading=True)

    def test_refuses_a_flag_beyond_64_bits(self) -> None:
        refuses(co.EnumField(Bits), Bits(2**70), "expected a combination of Bits within 64 bits, got Bits")

    @pytest.mark.parametrize("wrong", [int, "Color", Color.RED, None, enum.Enum])
    def test_what_is_no_enumeration_is_an_error_at_the_declaration(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"expected a subclass of enum\.Enum|has no members"):
            co.EnumField(wrong)

    @pytest.mark.parametrize("value", [(1, 2), [1], {"a": 1}, None, math.nan, 2**64, "\ud800", 1j, Decimal(1)])
    def test_values_that_do_not_come_back_are_an_error_at_the_declaration(self, value: Any) -> None:
        members = enum.Enum("members", {"ONE": value})
        with pytest.raises(TypeError, match=r"^members\.ONE cannot be stored by its value, of type "):
            co.EnumField(members)
