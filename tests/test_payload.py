"""The header of payloads, and the remembered miss."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm.payload import (
    ABSENT,
    AGES_SIZE,
    COMPRESSED,
    LARGEST_VERSION,
    LEASE,
    MAGIC,
    SIGNED,
    Ages,
    Header,
    ages_of,
    is_absence,
    is_lease,
    parse,
)

sys.path.insert(0, str(Path(__file__).parent / "protos"))

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: len(name.encode()) < 256)
times = st.integers(0, 2**48 - 1)
headers = st.builds(
    Header,
    names,
    st.none() | st.integers(0, LARGEST_VERSION),
    st.sampled_from([0, COMPRESSED, SIGNED, COMPRESSED | SIGNED]),
    st.none() | st.builds(Ages, times, times, st.integers(0, 2**16 - 1)),
)


@given(headers, st.binary())
def test_a_header_is_read_as_it_was_packed(header: Header, body: bytes) -> None:
    payload = header.pack() + body
    assert payload[0] == MAGIC
    found, start = parse(payload)
    assert found == header
    assert payload[start:] == body
    assert not is_absence(payload)
    assert ages_of(payload) == header.ages


@given(st.integers(), st.integers())
def test_times_out_of_range_are_the_nearest_ones(written: int, ends: int) -> None:
    packed = Ages(written, ends, 7).pack()
    assert len(packed) == AGES_SIZE
    assert Ages.unpack(packed) == Ages(max(0, min(written, 2**48 - 1)), max(0, min(ends, 2**48 - 1)), 7)


@given(st.binary(max_size=40))
def test_any_bytes_may_be_asked_for_ages(payload: bytes) -> None:
    for asked in (payload, bytes([MAGIC]) + payload):
        found = ages_of(asked)
        assert found is None or found.pack() in asked


@given(headers, st.data())
def test_a_header_that_is_cut_off_is_an_error(header: Header, data: Any) -> None:
    packed = header.pack()
    with pytest.raises(ValueError, match=r"^its header is cut off$"):
        parse(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=40))
def test_any_bytes_are_a_header_or_a_value_error(rest: bytes) -> None:
    payload = bytes([MAGIC]) + rest
    try:
        header, start = parse(payload)
    except ValueError:
        return
    assert header.pack() == payload[:start]


@pytest.mark.parametrize(
    ("payload", "absence", "lease"),
    [
        (ABSENT, True, False),
        (LEASE, True, False),
        (LEASE + b"whose", True, True),
        (ABSENT + b"x", False, False),
        (LEASE[:3], False, False),
        (b"", False, False),
        (b"\x80", False, False),
        (b"{}", False, False),
    ],
)
def test_only_a_lease_with_a_holder_is_held(payload: bytes, absence: bool, lease: bool) -> None:
    assert is_absence(payload) is absence
    assert is_lease(payload) is lease
    assert not is_lease(None)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xc1\x02\x00\x01j", "of a later version of cacheorm"),
        (b"\xc1\x01\x80\x01j", "of a later version of cacheorm"),
        (ABSENT + b"x", "a remembered miss, with something more"),
        (b"\xc1\x01\x00\x01\xff", "no text"),
        (b"\xc1\x01\x00\x00", "cut off"),
        (b"\xc1\x01\x00\xffjson", "cut off"),
        (b"{}", "cut off"),
    ],
)
def test_what_is_no_header_is_said(payload: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(payload)


@pytest.mark.parametrize("header", [Header(""), Header("n" * 256), Header("x", -1), Header("x", LARGEST_VERSION + 1)])
def test_what_a_header_cannot_hold_is_refused(header: Header) -> None:
    with pytest.raises(ValueError, match=r"^(the name of a serializer|a schema version)"):
        header.pack()


class Anything(co.BaseSerializer):
    """Reads every payload as a row."""

    def dumps(self, obj: Any) -> bytes:
        return b"anything"

    def loads(self, s: bytes) -> Any:
        return {"name": "read", "height": 1.0}


def a_model(chosen: str, backend: co.BaseBackend) -> Any:
    from user_pb2 import User as UserMessage

    serializer: Any = {"protobuf": lambda: co.ProtobufSerializer(UserMessage), "custom": Anything}.get(
        chosen, lambda: chosen
    )()
    Meta = type("Meta", (), {"backend": backend, "serializer": serializer})
    members = {"id": co.IntegerField(primary_key=True), "name": co.StringField(), "Meta": Meta, "__module__": __name__}
    return type(co.Model)("Row", (co.Model,), {**members, "__qualname__": "a_model.<locals>.Row"})


@pytest.mark.parametrize("serializer", ["json", "msgpack", "pickle", "protobuf", "custom"])
def test_a_remembered_miss_is_a_miss_for_every_read(serializer: str) -> None:
    backend = co.SimpleBackend()
    row = a_model(serializer, backend)
    backend.set_many({row.key(id=number): ABSENT for number in range(0, 8, 2)})
    row.insert_many([{"id": number, "name": "Sam"} for number in range(1, 8, 2)]).execute()
    assert row.get_or_none(id=0) is None
    assert row.query(id=0).execute() is None
    with pytest.raises(row.DoesNotExist):
        row.get(id=0)
    assert not row.exists(id=0)
    assert row.exists(id=1)
    for count in (1, 2, 9):
        found = row.query_many([{"id": number} for number in range(count)]).execute()
        assert [one is not None for one in found] == [number % 2 == 1 and number < 8 for number in range(count)]
    assert set(row.get_many(range(9))) == {1, 3, 5, 7}
    assert row.update(id=0, name="new").execute() is None
    assert row.update_many({"id": 0, "name": "new"}, {"id": 1, "name": "new"}).execute()[0] is None
    assert is_absence(backend.get(row.key(id=0)))
    assert not row(id=0, name="new").save()
    _, created = row.get_or_create(id=0, name="new")
    assert created
    assert row.exists(id=0)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "protobuf", "custom"])
def test_a_remembered_miss_is_one_on_every_backend(
    serializer: str, redis_backend: Any, memcached_backend: Any, tmp_path: Path
) -> None:
    with co.FileSystemBackend(tmp_path / "cache") as file:
        for backend in (redis_backend, memcached_backend, file):
            row = a_model(serializer, backend)
            backend.set(row.key(id=1), ABSENT)
            row.create(id=2, name="Sam")
            one, two, three = row.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()
            assert (one, three) == (None, None)
            assert two is not None
            assert not row.exists(id=1)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, type("Raw", (bytes,), {})])
def test_ages_are_read_in_any_buffer(kind: Any) -> None:
    payload = Header("json", None, 0, Ages(5, 6, 7)).pack() + b"{}"
    assert ages_of(kind(payload)) == Ages(5, 6, 7)
    for size in range(len(payload) - len(b"{}")):
        assert ages_of(kind(payload[:size])) is None
