"""Signed pickles: nothing is unpickled that was not signed, with the secret, for the key it lies under."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm.payload import ABSENT, SIGNED, Header, parse

SECRET = "S3CRET-of-32-random-bytes"
MARK = "S3CRET"

WRONG = r"^Row: its signature is wrong: .* \(key m:row:id:\d, read as pickle\)$"


def a_model(backend: co.BaseBackend, serializer: Any = None, **options: Any) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        any = co.Field(null=True)
        Meta = type("Meta", (), {"backend": backend, "serializer": serializer or signed(SECRET), **options})

    return Row


def signed(*secrets: str | bytes) -> co.PickleSerializer:
    return co.PickleSerializer(secret=[*secrets])


@pytest.fixture
def backend() -> co.SimpleBackend:
    return co.SimpleBackend()


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was unpickled since the test has begun."""
    found: list[bytes] = []
    loads = pickle.loads

    def watched(payload: bytes) -> Any:
        found.append(payload)
        return loads(payload)

    monkeypatch.setattr(pickle, "loads", watched)
    return found


def reads(model: Any, number: int = 1) -> Iterator[Any]:
    yield lambda: model.get(id=number)
    yield model.query(id=number).execute
    yield model.query_many({"id": number}).execute
    yield model.query_many([{"id": number}] * 9).execute
    yield model.update(id=number, any=1).execute
    yield lambda: model.get_or_create(id=number, any=1)


def test_signed_rows_are_stored_and_read_on_every_backend(
    redis_backend: Any, memcached_backend: Any, tmp_path: Path
) -> None:
    with co.FileSystemBackend(tmp_path / "cache") as file:
        for backend in (redis_backend, memcached_backend, file, co.SimpleBackend()):
            row = a_model(backend)
            row.create(id=1, any={1: [2, None]})
            row.insert_many([{"id": number, "any": {number}} for number in range(2, 30)]).execute()
            assert row.get(id=1).any == {1: [2, None]}
            found = row.query_many([{"id": number} for number in range(2, 31)]).execute()
            assert [one and one.any for one in found] == [*({number} for number in range(2, 30)), None]
            row.update(id=1, any={"new": {1, 2}}).execute()
            row.update_many([{"id": number, "any": None} for number in range(2, 30)]).execute()
            assert row.get(id=1).any == {"new": {1, 2}}
            assert row.get(id=29).any is None
            assert row.get_or_create(id=50, any=b"new")[1]
            assert row.get_or_create(id=50, any=b"other")[0].any == b"new"
            (header, _) = parse(backend.get(row.key(id=50)))
            assert header == Header("pickle", None, SIGNED)


def test_a_composite_key_and_a_namespace_are_signed(backend: co.SimpleBackend) -> None:
    class Row(co.Model):
        a = co.StringField()
        b = co.StringField()
        any = co.Field()

        class Meta:
            primary_key = co.CompositeKey("a", "b")
            namespace = "app"
            serializer = signed(SECRET)

    co.bind([Row], backend=backend)
    Row.insert_many({"a": "x", "b": "yz", "any": 1}, {"a": "xy", "b": "ü", "any": 2}).execute()
    assert [row.any for row in Row.query_many({"a": "x", "b": "yz"}, {"a": "xy", "b": "ü"}).execute()] == [1, 2]


@pytest.mark.parametrize("at", ["start", "middle", "end"])
def test_no_changed_byte_is_unpickled(backend: co.SimpleBackend, unpickled: list[bytes], at: str) -> None:
    row = a_model(backend, version=3)
    row.create(id=1, any="x" * 10)
    payload = backend.get(row.key(id=1))
    third = -(-len(payload) // 3)
    first = ["start", "middle", "end"].index(at) * third
    for place in range(first, min(first + third, len(payload))):
        for bit in range(8):
            changed = bytearray(payload)
            changed[place] ^= 1 << bit
            backend.set(row.key(id=1), bytes(changed))
            for read in (lambda: row.get(id=1), row.query_many([{"id": 1}] * 5).execute):
                with pytest.raises(co.PayloadError):
                    read()
    assert unpickled == []
    backend.set(row.key(id=1), payload)
    assert row.get(id=1).any == "x" * 10
    assert len(unpickled) == 1


def test_a_payload_that_is_cut_off_or_longer_is_not_unpickled(
    backend: co.SimpleBackend, unpickled: list[bytes]
) -> None:
    row = a_model(backend)
    row.create(id=1, any=1)
    payload = backend.get(row.key(id=1))
    for changed in [payload[:end] for end in range(len(payload))] + [payload + b"\0", payload * 2, payload[1:]]:
        backend.set(row.key(id=1), changed)
        with pytest.raises(co.PayloadError):
            row.get(id=1)
    assert unpickled == []


def test_a_payload_is_not_read_under_another_key(backend: co.SimpleBackend, unpickled: list[bytes]) -> None:
    row = a_model(backend)
    other = a_model(backend, name="other")
    row.create(id=1, any=1)
    backend.set(row.key(id=2), backend.get(row.key(id=1)))
    backend.set(other.key(id=1), backend.get(row.key(id=1)))
    for read in reads(row, 2):
        with pytest.raises(co.PayloadError, match=WRONG):
            read()
    with pytest.raises(co.PayloadError, match="its signature is wrong"):
        other.get(id=1)
    assert unpickled == []


@pytest.mark.parametrize(
    ("writer", "reason"),
    [
        (signed("another secret"), WRONG),
        (co.PickleSerializer(), r"^Row: is not signed \(key m:row:id:1, read as pickle\)$"),
        (co.PickleSerializer(unsafe=True), r"^Row: is not signed \(key m:row:id:1, read as pickle\)$"),
        ("json", r"^Row: was written by the serializer 'json', which this model does not read: name it in Meta\."),
        ("msgpack", r"^Row: was written by the serializer 'msgpack', which this model does not read: name it in"),
    ],
    ids=["secret", "unsigned", "unsafe", "json", "msgpack"],
)
def test_what_is_not_signed_with_the_secret_is_not_unpickled(
    backend: co.SimpleBackend, unpickled: list[bytes], writer: Any, reason: str
) -> None:
    a_model(backend, writer).create(id=1, any=1)
    row = a_model(backend)
    for read in reads(row):
        with pytest.raises(co.PayloadError, match=reason):
            read()
    assert a_model(backend, on_invalid="miss").query_many({"id": 1}).execute() == [None]
    assert unpickled == []


def test_no_pickle_without_a_signature_is_unpickled_in_any_wrapping(
    backend: co.SimpleBackend, unpickled: list[bytes]
) -> None:
    row = a_model(backend)
    packed = pickle.dumps({"any": 1})
    signed_object = signed(SECRET).dumps({"any": 1})
    for payload in (
        packed,
        pickle.dumps({"any": 1}, 0),
        *(Header("pickle", version, flags).pack() + packed for version in (None, 1) for flags in (0, SIGNED)),
        Header("pickle", None, SIGNED).pack() + packed + bytes(32),
        Header("pickle", None, SIGNED).pack() + signed_object,
        Header("PickleSerializer", None, SIGNED).pack() + signed_object,
        signed_object,
        Header("pickle", None, SIGNED).pack(),
        b"",
    ):
        backend.set(row.key(id=1), payload)
        for read in reads(row):
            with pytest.raises(co.PayloadError):
                read()
    assert unpickled == []


def test_what_is_signed_is_not_read_without_the_secret(backend: co.SimpleBackend, unpickled: list[bytes]) -> None:
    a_model(backend).create(id=1, any=1)
    for serializer in (co.PickleSerializer(), co.PickleSerializer(unsafe=True)):
        with pytest.raises(co.PayloadError, match=r"^Row: is signed, and there is no secret to check it with \(key"):
            a_model(backend, serializer).get(id=1)
    with pytest.raises(co.PayloadError, match=r"by the serializer 'pickle', .*Meta\.accepts"):
        a_model(backend, "json").get(id=1)
    assert unpickled == []
    assert a_model(backend, "json", accepts=[signed(SECRET)]).get(id=1).any == 1


def test_a_secret_is_changed_by_naming_the_new_one_first(backend: co.SimpleBackend) -> None:
    old, both, new = (a_model(backend, signed(*names)) for names in (["old"], ["new", "old"], [b"new"]))
    old.insert_many({"id": 1, "any": 1}, {"id": 2, "any": 2}).execute()
    assert [row.any for row in both.query_many({"id": 1}, {"id": 2}).execute()] == [1, 2]
    with pytest.raises(co.PayloadError, match=WRONG):
        new.get(id=1)
    both.update(id=1, any=3).execute()
    assert new.get(id=1).any == 3
    with pytest.raises(co.PayloadError, match=WRONG):
        old.get(id=1)
    with pytest.raises(co.PayloadError, match=WRONG):
        new.get(id=2)


def test_rows_of_other_serializers_are_read_where_they_are_accepted_and_are_signed_by_the_next_write(
    backend: co.SimpleBackend,
) -> None:
    a_model(backend, "msgpack").create(id=1, any=1)
    a_model(backend, "json").create(id=2, any=2)
    a_model(backend, co.PickleSerializer()).create(id=3, any=3)
    row = a_model(backend, accepts=["json", "msgpack", co.PickleSerializer(unsafe=True)])
    assert [one.any for one in row.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()] == [1, 2, 3]
    row.update_many({"id": 1, "any": 4}, {"id": 2, "any": 5}, {"id": 3, "any": 6}).execute()
    assert [one.any for one in a_model(backend).query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()] == [4, 5, 6]


def test_a_remembered_miss_needs_no_signature(backend: co.SimpleBackend) -> None:
    row = a_model(backend)
    backend.set(row.key(id=1), ABSENT)
    assert row.get_or_none(id=1) is None
    assert row.query_many([{"id": 1}] * 9).execute() == [None] * 9


@given(st.text(), st.text(), st.binary(), st.binary())
def test_key_and_payload_cannot_be_shifted_into_one_another(first: str, second: str, head: bytes, tail: bytes) -> None:
    signer = signed(SECRET).row_format().signer
    assert signer is not None
    whole = signer.sign(head + tail, first)
    assert signer.check(whole, first) == head + tail
    for key in {first + head.decode("latin-1"), first + second, second, None} - {first}:
        with pytest.raises(co.PayloadError):
            signer.check(whole, key)
    if head:
        with pytest.raises(co.PayloadError):
            signer.check(whole[len(head) :], first)


class Words(co.PickleSerializer):
    """Another pickler."""

    def dumps(self, obj: Any) -> bytes:
        return b"words" + pickle.dumps(obj)

    def loads(self, s: bytes) -> Any:
        assert s[:5] == b"words"
        return pickle.loads(s[5:])


def test_a_subclass_that_pickles_otherwise_is_signed_too(backend: co.SimpleBackend, unpickled: list[bytes]) -> None:
    row = a_model(backend, Words(secret=SECRET))
    row.insert_many([{"id": number, "any": number} for number in range(9)]).execute()
    payload = backend.get(row.key(id=1))
    assert b"Wordswords" in payload
    assert row.get(id=1).any == 1
    unpickled.clear()
    backend.set(row.key(id=2), payload)
    with pytest.raises(co.PayloadError, match="its signature is wrong"):
        row.get(id=2)
    assert unpickled == []


# -- on its own ----------------------------------------------------------------------------------------------


def test_bare_use_signs_too(unpickled: list[bytes]) -> None:
    serializer = signed(SECRET)
    payload = serializer.dumps({"a": {1}})
    assert signed("new", SECRET).loads(payload) == {"a": {1}}
    unpickled.clear()
    for forged in (pickle.dumps(1), payload[:-1], b"", payload + b"\0", signed("other").dumps(1)):
        with pytest.raises(co.PayloadError, match=r"^its signature is wrong: .*$"):
            serializer.loads(forged)
    assert unpickled == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"secret": ""}, ValueError, "a secret must not be empty"),
        ({"secret": b""}, ValueError, "a secret must not be empty"),
        ({"secret": ["S3CRET", ""]}, ValueError, "a secret must not be empty"),
        ({"secret": []}, ValueError, "signing takes at least one secret"),
        ({"secret": 5}, TypeError, "a secret is text or bytes, or a list of them, got int"),
        ({"secret": {"S3CRET": 1}}, TypeError, "a secret is text or bytes, or a list of them, got dict"),
        ({"secret": ["S3CRET", None]}, TypeError, "a secret is text or bytes, got NoneType"),
        ({"secret": "S3CRET", "unsafe": True}, ValueError, "a secret signs, and unsafe=True turns signing off"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_showing_it(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=f"^{text}") as caught:
        co.PickleSerializer(**arguments)
    assert MARK not in frames_of(caught.value)


def frames_of(error: BaseException) -> str:
    """Give the traceback as tools print it that show variables, without the frames of the tests themselves."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    told.stack = traceback.StackSummary.from_list([one for one in told.stack if "/tests/" not in one.filename])
    return "".join(told.format())


def test_the_secret_is_shown_nowhere(backend: co.SimpleBackend, caplog: pytest.LogCaptureFixture) -> None:
    serializer = signed(SECRET, "S3CRET-older")
    row = a_model(backend, serializer)
    caplog.set_level(logging.DEBUG)
    row.create(id=1, any=1)
    shown = [repr(serializer), str(serializer), repr(vars(serializer)), repr(row._meta.options), repr(row._meta)]
    backend.set(row.key(id=2), backend.get(row.key(id=1)))
    for fail in (lambda: row.get(id=2), lambda: row.create(id=3, any=lambda: 1), lambda: serializer.loads(b"x")):
        with pytest.raises(Exception, match=r".") as caught:
            fail()
        shown.append(frames_of(caught.value))
        logging.getLogger(__name__).error("failed", exc_info=caught.value)
    assert MARK not in "".join(shown) + caplog.text
    # Nothing that can be reached from it is a secret.
    seen: dict[int, Any] = {}
    waiting: list[Any] = [serializer.__dict__, serializer.row_format()]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type) or hasattr(one, "__code__") or type(one).__name__ == "module":
            continue
        seen[id(one)] = one
        assert not (isinstance(one, str) and MARK in one)
        assert not (isinstance(one, (bytes, bytearray)) and MARK.encode() in one)
        waiting += gc.get_referents(one)


def test_a_serializer_with_a_secret_is_not_pickled() -> None:
    serializer = signed(SECRET)
    for copied in (lambda: pickle.dumps(serializer), lambda: copy.deepcopy(serializer)):
        with pytest.raises(TypeError, match="cannot be pickled or copied, because its secrets would be"):
            copied()
    assert pickle.loads(pickle.dumps(co.PickleSerializer(unsafe=True))).dumps(1) == pickle.dumps(1, 5)


def test_unsafe_pickles_are_taken_on_every_backend(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path / "cache") as outside:
        row = a_model(outside, co.PickleSerializer(unsafe=True))
        row.create(id=1, any={1})
        assert row.get(id=1).any == {1}
        # As the first version stored them.
        outside.set(row.key(id=2), pickle.dumps({"any": {2}}))
        assert row.get(id=2).any == {2}
