"""MessagePack on its own; rows go through tests/speedups/test_rows.py."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

import cacheorm as co

serializer = co.MessagePackSerializer()


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**64 - 1,
        -(2**63),
        1.5,
        "",
        "ä😀",
        b"",
        b"\xff",
        [],
        [1, [2]],
        {},
        {"a": {"b": None}},
        {1: 2},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    packed = serializer.dumps(value)
    assert packed == msgpack.packb(value)
    assert repr(serializer.loads(packed)) == repr(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [(object(), TypeError), ({1}, TypeError), (1j, TypeError), (2**64, OverflowError), (-(2**63) - 1, OverflowError)],
)
def test_what_msgpack_has_not_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        serializer.dumps([value])


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01\x02", b"\x91", b"\xa1\xff", b"\xdf\xff\xff\xff\xff"])
def test_bytes_that_are_no_msgpack_are_errors(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        serializer.loads(payload)


class Loud(co.MessagePackSerializer):
    """A format of its own, on top of msgpack."""

    def dumps(self, obj: Any) -> bytes:
        return b"loud" + super().dumps(obj)

    def loads(self, s: bytes) -> Any:
        return super().loads(s[4:])


class Named(co.MessagePackSerializer):
    name = "named"


@pytest.mark.parametrize(("made", "start"), [(Loud(), b"\xc1\x01\x00\x04Loudloud\x81"), (Named(), b"\x81")])
def test_a_subclass_may_change_the_format(made: Any, start: bytes) -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = co.SimpleBackend()
            serializer = made

    Row.create(id=1, name="Sam")
    assert Row._meta.backend.get(Row.key(id=1)).startswith(start)
    assert Row.get(id=1).name == "Sam"
