"""Fields of values with parts."""

from __future__ import annotations

import enum
import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import pytest
from converted import refuses, takes
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co


class Point(NamedTuple):
    x: int
    y: int

    def pack(self) -> tuple[int, int]:
        return (self.x, self.y)

    @staticmethod
    def unpack(stored: Any) -> Point:
        return Point(*stored)


class Word(enum.StrEnum):
    HELLO = "hello"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Address:
    city: str


def fail(value: Any) -> Any:
    raise LookupError("hunter2")


class TestStructField:
    def test_calls_the_pair(self) -> None:
        takes(co.StructField(Point.pack, Point.unpack), Point(1, 2), Point(1, 2))

    def test_holds_what_a_read_gives_even_where_the_serializer_gives_tuples(self) -> None:
        takes(co.StructField(lambda value: (value, (Word.HELLO,)), lambda stored: stored), 5, [5, ["hello"]])

    def test_what_the_instance_holds_is_not_what_is_being_packed(self) -> None:
        converter = co.StructField(lambda value: value, lambda stored: stored).converter
        given_value = {"a": [1], 5: bytearray(b"x")}
        stored = converter.dump(given_value)
        held = converter.canonical(given_value, stored)
        held["a"].append(2)
        given_value["a"].append(3)
        assert stored == {"a": [1], 5: b"x"}

    def test_a_pair_may_store_null(self) -> None:
        converter = co.StructField(lambda value: None, fail, null=True).converter
        assert converter.canonical("", converter.dump("")) is None

    def test_reports_errors_of_the_pair_by_their_type_alone(self) -> None:
        refuses(co.StructField(fail, fail), "hunter2", "the serializer raised LookupError")
        refuses(co.StructField(fail, fail), "hunter2", "the deserializer raised LookupError", reading=True)

    def test_what_cannot_be_called_is_an_error_at_the_declaration(self) -> None:
        with pytest.raises(TypeError, match="serializer is a function of one argument, got int"):
            co.StructField(5, int)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="deserializer is a function of one argument, got str"):
            co.StructField(int, "int")  # type: ignore[call-overload]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: value is not None)


class TestJSONField:
    @given(json_values)
    def test_takes_every_json_value(self, value: Any) -> None:
        assert type(takes(co.JSONField(), value, value)) is str

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ((1, (2,)), [1, [2]]),
            (Point(1, 2), [1, 2]),
            (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (Word.HELLO, "hello"),
            ({Word.HELLO: Level.HIGH}, {"hello": 3}),
            (-0.0, -0.0),
            (1e300, 1e300),
            (10**4000, 10**4000),
            ("\x00\u2028", "\x00\u2028"),
        ],
        ids=repr,
    )
    def test_holds_what_a_read_gives(self, value: Any, expected: Any) -> None:
        takes(co.JSONField(), value, expected)

    def test_floats_stay_floats_and_integers_integers(self) -> None:
        converter = co.JSONField().converter
        held = converter.canonical([], converter.dump([1.0, 1, True, 1e16]))
        assert [type(item) for item in held] == [float, int, bool, float]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({1, 2}, "$: expected a JSON value, got set"),
            (b"hunter2", "$: expected a JSON value, got bytes"),
            ({"hunter2": [0, b"hunter2"]}, "$.*[1]: expected a JSON value, got bytes"),
            (datetime(2020, 1, 2), "$: expected a JSON value, got datetime"),
            ([date(2020, 1, 2)], "$[0]: expected a JSON value, got date"),
            (uuid.UUID(int=1), "$: expected a JSON value, got UUID"),
            (Address("hunter2"), "$: expected a JSON value, got Address"),
            ({1: 2}, "$: expected a dict with str keys, got one with int"),
            ({None: 2}, "$: expected a dict with str keys, got one with NoneType"),
            (math.nan, "$: expected a finite number, got float"),
            ([math.inf], "$[0]: expected a finite number, got float"),
            ("hunter2\ud800", "$: expected text without lone surrogates, got str"),
            ({"hunter2\ud800": 1}, "$: expected keys without lone surrogates, got str"),
        ],
    )
    def test_refuses_what_would_read_back_as_something_else(self, value: Any, message: str) -> None:
        refuses(co.JSONField(), value, message)

    def test_refuses_what_is_nested_deeper_than_a_read_takes(self) -> None:
        deep: Any = []
        for _ in range(300):
            deep = [deep]
        refuses(co.JSONField(), deep, "expected at most 200 levels of lists and dicts, got more")
        shallow: Any = 1
        for _ in range(200):
            shallow = {"a": shallow}
        takes(co.JSONField(), shallow, shallow)

    def test_says_so_when_python_cannot_write_an_integer_out(self) -> None:
        refuses(co.JSONField(), 10**5000, "expected a JSON value with less depth or fewer digits, got int")

    @pytest.mark.parametrize(
        "stored",
        ["", "{", "NaN", "[Infinity]", "1 2", "nul", "'a'", '"\\ud800"', "1e999", 5, b"1", {}, "[" * 200, "\ud800"],
    )
    def test_reads_only_json_text(self, stored: Any) -> None:
        refuses(co.JSONField(), stored, "expected JSON text, got ", reading=True)

    def test_reads_as_many_levels_as_it_writes(self) -> None:
        field, quoted = co.JSONField(), '["[[[[", "\\\\", "\\"["]'
        assert field.python_value("[" * 200 + "]" * 200)
        assert len(field.python_value(f"[{','.join([quoted] * 100)}]")) == 100
        for stored in ("[" * 201 + "]" * 201, "[" * 10_000, '{"a":' * 201 + "1" + "}" * 201):
            refuses(field, stored, "expected at most 200 levels of lists and dicts, got more", reading=True)


class Reversed(co.Field[str]):
    """A custom field, the way users write them."""

    def cache_value(self, value: Any) -> Any:
        return value[::-1]

    def python_value(self, value: Any) -> Any:
        return value[::-1]


class Even(co.IntegerField[int]):
    """A custom field on top of a built-in one."""

    def cache_value(self, value: Any) -> Any:
        stored = super().cache_value(value)
        if stored % 2:
            raise co.ValidationError(None, [(self.name, "expected an even number")])
        return stored


class TestListField:
    def test_converts_every_element(self) -> None:
        assert takes(co.ListField(co.IntegerField()), ["1", 2.0], [1, 2]) == [1, 2]
        assert takes(co.ListField(co.DateField()), (date(2020, 1, 2),), [date(2020, 1, 2)]) == ["2020-01-02"]
        takes(co.ListField(co.StructField(Point.pack, Point.unpack)), [Point(1, 2)], [Point(1, 2)])
        takes(co.ListField(co.EnumField(Word)), ["hello", Word.HELLO], [Word.HELLO] * 2)
        takes(co.ListField(co.StringField()), [], [])

    def test_lists_may_nest(self) -> None:
        takes(co.ListField(co.ListField(co.BooleanField())), [[True], [], [0]], [[True], [], [False]])

    def test_elements_may_be_of_a_custom_field(self) -> None:
        assert takes(co.ListField(Reversed()), ["abc"], ["abc"]) == ["cba"]
        takes(co.ListField(Even()), ["2"], [2])
        refuses(co.ListField(Even()), [2, 3], "item 1: expected an even number")
        refuses(co.ListField(Even()), [2, "x"], "item 1: expected an integer, got str")

    def test_elements_have_to_pass_their_validators(self) -> None:
        def refuse_odd(value: int) -> None:
            if value % 2:
                raise ValueError("expected an even number")

        field = co.ListField(co.IntegerField(validators=[refuse_odd]))
        takes(field, ["2", 4], [2, 4])
        refuses(field, [2, 3], "item 1: expected an even number")

    def test_elements_may_be_null_where_their_field_says_so(self) -> None:
        takes(co.ListField(co.IntegerField(null=True)), [1, None], [1, None])
        refuses(co.ListField(co.IntegerField()), [1, None], "item 1: expected a value, got NoneType")
        refuses(co.ListField(co.IntegerField()), [1, None], "item 1: expected a value, got NoneType", reading=True)

    @pytest.mark.parametrize("value", ["abc", b"abc", {1: 2}, {1}, 5, iter([1]), range(3)])
    def test_refuses_all_but_lists_and_tuples(self, value: Any) -> None:
        refuses(co.ListField(co.IntegerField()), value, "expected a list or a tuple, got ")

    @pytest.mark.parametrize("stored", ["[]", (1,), {}, 5])
    def test_reads_only_lists(self, stored: Any) -> None:
        refuses(co.ListField(co.IntegerField()), stored, "expected a list, got ", reading=True)

    def test_errors_name_the_item(self) -> None:
        field = co.ListField(co.ListField(co.IntegerField()))
        refuses(field, [[], [1, "tall"]], "item 1: item 1: expected an integer, got str")
        refuses(field, [[], [1, "tall"]], "item 1: item 1: expected an integer, got str", reading=True)

    def test_the_list_held_is_not_the_list_given(self) -> None:
        converter = co.ListField(co.IntegerField()).converter
        given_list = [1]
        assert converter.canonical(given_list, converter.dump(given_list)) is not given_list

    def test_what_is_no_field_is_an_error_at_the_declaration(self) -> None:
        with pytest.raises(TypeError, match=r"write ListField\(IntegerField\(\)\)"):
            co.ListField(co.IntegerField)  # type: ignore[call-overload]
        for wrong in (int, 5, "IntegerField", None):
            with pytest.raises(TypeError, match="ListField takes the field of its elements, got "):
                co.ListField(wrong)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="cannot be a primary key"):
            co.ListField(co.IntegerField(primary_key=True))


def test_an_unknown_option_is_an_error() -> None:
    for make in (co.IntegerField, co.StringField, co.TimestampField, co.JSONField):
        with pytest.raises(TypeError, match="nul"):
            make(nul=True)  # type: ignore[call-overload]


def test_a_custom_field_that_fails_is_reported_by_the_type_of_its_error() -> None:
    with pytest.raises(ValueError, match=r"^cache_value raised TypeError$"):
        Reversed().converter.dump(5)
