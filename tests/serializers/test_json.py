"""JSON: what is written is read back as it was, or refused."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co

serializer = co.JSONSerializer()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_values_come_back_as_they_were(value: Any) -> None:
    packed = serializer.dumps(value)
    assert repr(serializer.loads(packed)) == repr(value)
    assert repr(json.loads(packed)) == repr(value)


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, -(10**300), 10**4000])
def test_integers_of_any_size_keep_every_digit(number: int) -> None:
    assert serializer.loads(serializer.dumps([number])) == [number]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [[n]], lambda n: {"a": {"b": n}}, lambda n: ({"a": (n,)},)])
def test_numbers_that_json_has_not_are_refused_at_any_depth(number: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match="expected a finite number, got float"):
        serializer.dumps(wrap(number))


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"[NaN]", b'{"a": -Infinity}', b"1e999"])
def test_numbers_that_json_has_not_are_not_read(text: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        serializer.loads(text)


class Word(enum.StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), {1}, object(), 1j, {"a": [b"x"]}, {1: 2}, {None: 1}, {b"a": 1}, {(1,): 1}]
)
def test_types_that_json_has_not_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a (JSON value|dict with str keys), got"):
        serializer.dumps(value)


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], {"\ud800": 1}, {"a": {"b": "x\ud800"}}])
def test_lone_surrogates_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="lone surrogates"):
        serializer.dumps(value)


@pytest.mark.parametrize("key", ["", "\0", '"', "\\", "ä", "😀", "\u2028", "a" * 10_000, "__proto__", Word.YES])
def test_any_text_is_a_key(key: str) -> None:
    assert serializer.loads(serializer.dumps({key: 1})) == {str(key): 1}


def test_depth_is_limited_on_write_and_on_read() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="at most 200 levels"):
        serializer.dumps(nested)
    with pytest.raises(co.PayloadError, match="at most 200 levels"):
        serializer.loads(b"[" * 10_000 + b"]" * 10_000)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b'{"a": 1} x', b"{'a': 1}", b"\xff", b'"\xff"', b"\x81\xa1a\x01", b"01"]
)
def test_bytes_that_are_no_json_are_errors(payload: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        serializer.loads(payload)


class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    raw = co.BinaryField(ensure_str=False, null=True)
    any = co.Field(null=True)

    class Meta:
        backend = co.SimpleBackend()
        serializer = "json"
        name = "json_row"


def test_bytes_through_a_model_are_refused_with_model_and_field() -> None:
    with pytest.raises(TypeError, match=r"^Row\.raw: the json serializer cannot hold it: .*got bytes$"):
        Row.create(id=1, raw=b"x")
    with pytest.raises(
        ValueError, match=r"^Row\.any: the json serializer cannot hold it: .*a finite number, got float$"
    ):
        Row.create(id=1, any=[math.nan])
    assert Row.get_or_none(id=1) is None


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'{"any": 1', b'{"raw": "x"}', b"\xff", b"[" * 100_000])
def test_payloads_that_are_no_row_are_payload_errors(payload: bytes) -> None:
    Row._meta.backend.set(Row.key(id=2), payload)
    with pytest.raises(co.PayloadError, match=r"^Row.*\(key m:json_row:id:2, read as json\)$"):
        Row.get(id=2)
