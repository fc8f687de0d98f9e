"""Rows are compressed where that makes them smaller, and no payload decompresses to more than it may."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cacheorm as co
from cacheorm.payload import ABSENT, COMPRESSED, SIGNED, Header, identify

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import user_pb2


class Backwards(co.BaseSerializer):
    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.JSONSerializer().loads(s[::-1])


SERIALIZERS: dict[str, co.BaseSerializer] = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "pickle": co.PickleSerializer(),
    "signed pickle": co.PickleSerializer(secret="secret"),
    "protobuf": co.ProtobufSerializer(user_pb2.User),
    "Backwards": Backwards(),
}

LONG = "again and again " * 200
MIB = 1024 * 1024


def a_model(backend: co.BaseBackend, serializer: Any = "msgpack", **options: Any) -> Any:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        Meta = type("Meta", (), {"backend": backend, "serializer": serializer, **options})

    return Row


@pytest.fixture
def backend() -> co.SimpleBackend:
    return co.SimpleBackend()


def flags_of(model: Any, number: int) -> int:
    header, _ = identify(model._meta.backend.get(model.key(id=number)))
    return 0 if header is None else header.flags


@pytest.mark.parametrize("version", [None, 3])
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_long_rows_are_compressed_with_every_serializer(
    backend: co.SimpleBackend, chosen: str, version: int | None
) -> None:
    row = a_model(backend, SERIALIZERS[chosen], compress="zstd", version=version)
    plain = a_model(backend, SERIALIZERS[chosen], version=version, accepts=["zstd"])
    names = {number: LONG if number % 2 else "short" for number in range(20)}
    row.create(id=0, name=names[0])
    row.create(id=1, name=names[1])
    row.insert_many([{"id": number, "name": names[number]} for number in range(2, 20)]).execute()
    signed = SIGNED if chosen == "signed pickle" else 0
    assert [flags_of(row, number) for number in range(20)] == [signed, signed | COMPRESSED] * 10
    assert len(backend.get(row.key(id=1))) < 200
    for model in (row, plain):
        assert [model.get(id=number).name for number in (0, 1)] == [names[0], names[1]]
        found = model.query_many([{"id": number} for number in range(21)]).execute()
        assert [one and one.name for one in found] == [*names.values(), None]
    # What is short is stored as it would be without compression.
    short = backend.get(row.key(id=0))
    plain.create(id=0, name="short")
    assert backend.get(row.key(id=0)) == short
    # Each way to write decides anew.
    row.update_many({"id": 0, "name": LONG}, {"id": 1, "name": "short"}).execute()
    plain.update(id=3, name=LONG + "!").execute()
    row.update(id=5, name="short").execute()
    assert [flags_of(row, number) for number in (0, 1, 3, 5)] == [signed | COMPRESSED, signed, signed, signed]
    assert row.get(id=3).name == LONG + "!"


def test_compressed_rows_are_read_on_every_backend(redis_backend: Any, memcached_backend: Any, tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path / "cache") as file:
        for outside in (redis_backend, memcached_backend, file):
            row = a_model(outside, SERIALIZERS["signed pickle"], compress=co.Zstd(threshold=100))
            row.insert_many([{"id": number, "name": LONG} for number in range(50)]).execute()
            assert flags_of(row, 0) == SIGNED | COMPRESSED
            found = row.query_many([{"id": number} for number in range(50)]).execute()
            assert [one.name for one in found] == [LONG] * 50


def test_a_row_is_compressed_from_the_threshold_on(backend: co.SimpleBackend) -> None:
    row = a_model(backend, "json", compress=co.Zstd(threshold=111))
    row.create(id=1, name="x" * 99)
    row.create(id=2, name="x" * 100)
    assert len(backend.get(row.key(id=1))) == 110
    assert [flags_of(row, number) for number in (1, 2)] == [0, COMPRESSED]


def test_what_does_not_get_smaller_is_stored_as_it_is(backend: co.SimpleBackend) -> None:
    import secrets

    row = a_model(backend, compress=co.Zstd(threshold=0))
    row.create(id=1, name=secrets.token_hex(4))
    assert flags_of(row, 1) == 0


def test_the_level_is_that_of_the_options(backend: co.SimpleBackend) -> None:
    text = "".join(chr(97 + number * number % 17 + number % 5) for number in range(20_000))
    sizes = []
    for level in (-100, 1, 19):
        row = a_model(backend, compress=co.Zstd(level=level))
        row.create(id=1, name=text)
        assert row.get(id=1).name == text
        sizes.append(len(backend.get(row.key(id=1))))
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_bomb_stops_at_the_limit(backend: co.SimpleBackend) -> None:
    packed = co.JSONSerializer().dumps({"name": "x" * (256 * MIB)})
    bomb = Header("json", None, COMPRESSED).pack() + zstd.compress(packed)
    del packed
    assert len(bomb) < MIB
    unlimited = zstd.compress(b"x" * 100, options={zstd.CompressionParameter.content_size_flag: 0})
    assert zstd.get_frame_info(unlimited).decompressed_size is None
    for options, limit in (
        ({"accepts": ["zstd"]}, 16 * MIB),
        ({"accepts": [co.Zstd(limit=2 * MIB)]}, 2 * MIB),
        ({"compress": "zstd"}, 16 * MIB),
        ({"compress": co.Zstd(limit=MIB)}, MIB),
    ):
        row = a_model(backend, **options)
        backend.set(row.key(id=1), bomb)
        tracemalloc.start()
        try:
            with pytest.raises(
                co.PayloadError,
                match=rf"^Row: decompresses to more than {limit} bytes; .* \(key m:row:id:1, read as json\)$",
            ):
                row.get(id=1)
            assert tracemalloc.get_traced_memory()[1] < 3 * limit
        finally:
            tracemalloc.stop()
        assert a_model(backend, on_invalid="miss", **options).query_many({"id": 1}).execute() == [None]


@pytest.mark.parametrize("size_known", [0, 1])
def test_the_limit_is_the_last_size_that_is_read(backend: co.SimpleBackend, size_known: int) -> None:
    row = a_model(backend, "json", compress=co.Zstd(limit=5000))
    for size, read in ((5000, True), (5001, False)):
        packed = b'{"name":"' + b"x" * (size - 11) + b'"}'
        body = zstd.compress(packed, options={zstd.CompressionParameter.content_size_flag: size_known})
        backend.set(row.key(id=1), Header("json", None, COMPRESSED).pack() + body)
        if read:
            assert len(row.get(id=1).name) == size - 11
        else:
            with pytest.raises(co.PayloadError, match="decompresses to more than 5000 bytes"):
                row.get(id=1)


def test_rows_beyond_the_limit_are_stored_uncompressed_and_read(backend: co.SimpleBackend) -> None:
    row = a_model(backend, compress=co.Zstd(limit=2000))
    row.create(id=1, name=LONG)
    assert flags_of(row, 1) == 0
    assert row.get(id=1).name == LONG


def test_a_frame_that_would_take_a_large_window_is_refused(backend: co.SimpleBackend) -> None:
    row = a_model(backend, "json", compress=co.Zstd(limit=MIB))
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    made = zstd.ZstdCompressor(options=options)
    # In two parts, so that the frame cannot know how little it holds.
    body = made.compress(b'{"name":') + made.compress(b'"x"}') + made.flush()
    assert zstd.decompress(body) == b'{"name":"x"}'
    backend.set(row.key(id=1), Header("json", None, COMPRESSED).pack() + body)
    message = r"^Row: takes more than 1048576 bytes to be decompressed; .* raise the limit .* \(key"
    with pytest.raises(co.PayloadError, match=message):
        row.get(id=1)


@given(st.data())
def test_whatever_is_stored_as_compressed_is_a_row_or_a_payload_error(data: Any) -> None:
    backend = co.SimpleBackend()
    row = a_model(backend, "json", compress="zstd")
    row.create(id=1, name=LONG)
    payload = bytearray(backend.get(row.key(id=1)))
    for _ in range(data.draw(st.integers(0, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.integers(0, len(payload)))] + data.draw(st.binary(max_size=3))
    backend.set(row.key(id=1), bytes(payload))
    outcomes = []
    for read in (lambda: [row.get_or_none(id=1)], row.query_many({"id": 1}).execute):
        try:
            outcomes.append([one and one.to_dict() for one in read()])
        except co.PayloadError as error:
            outcomes.append([str(error)])
    assert outcomes[0] == outcomes[1]


def test_frames_after_the_first_are_not_read(backend: co.SimpleBackend) -> None:
    row = a_model(backend, "json", compress="zstd")
    row.create(id=1, name=LONG)
    payload = backend.get(row.key(id=1))
    for changed in (payload + payload[identify(payload)[1] :], payload + b"\0", payload[:-1], payload[:12]):
        backend.set(row.key(id=1), changed)
        with pytest.raises(co.PayloadError, match="cannot be decompressed, because it is cut off or something follows"):
            row.get(id=1)


def test_a_signature_is_checked_before_anything_is_decompressed(
    backend: co.SimpleBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = a_model(backend, SERIALIZERS["signed pickle"], compress="zstd")
    row.create(id=1, name=LONG)
    assert row.get(id=1).name == LONG
    backend.set(row.key(id=2), backend.get(row.key(id=1)))
    monkeypatch.setattr(zstd, "ZstdDecompressor", None)
    with pytest.raises(co.PayloadError, match="its signature is wrong"):
        row.get(id=2)


def test_a_remembered_miss_stays_one(backend: co.SimpleBackend) -> None:
    row = a_model(backend, compress=co.Zstd(threshold=0))
    backend.set(row.key(id=1), ABSENT)
    assert row.query_many([{"id": 1}] * 9).execute() == [None] * 9


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: co.Zstd(level=23), ValueError, "level is a number from -131072 to 22"),
        (lambda: co.Zstd(level=True), TypeError, "level is a whole number, got bool"),
        (lambda: co.Zstd(threshold=-1), ValueError, "threshold is a number of bytes from 0"),
        (lambda: co.Zstd(threshold=1.5), TypeError, "threshold is a whole number, got float"),  # type: ignore[arg-type]
        (lambda: co.Zstd(limit=0), ValueError, "threshold is a number of bytes from 0, and limit one from 1"),
        (lambda: a_model(co.SimpleBackend(), compress="gzip"), ValueError, r"Row\.Meta\.compress: the only compressi"),
        (lambda: a_model(co.SimpleBackend(), compress=True), TypeError, r"Row\.Meta\.compress: expected 'zstd', or co"),
        (lambda: a_model(co.SimpleBackend(), compress=co.Zstd), TypeError, r"Row\.Meta\.compress: .*got type"),
    ],
)
def test_a_wrong_option_is_refused(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        make()


def test_the_options_are_inherited_and_shown(backend: co.SimpleBackend) -> None:
    base = a_model(backend, compress=co.Zstd(level=5, threshold=9, limit=70))

    class Child(base):  # type: ignore[misc]
        pass

    class Plain(base):  # type: ignore[misc]
        class Meta:
            compress = None

    assert repr(Child._meta.options.compress) == "Zstd(level=5, threshold=9, limit=70)"
    assert Plain._meta.options.compress is None


def test_without_the_library_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["backports.zstd"] = sys.modules["compression.zstd"] = None
import cacheorm as co
from cacheorm.payload import COMPRESSED, Header

class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    class Meta:
        backend = co.SimpleBackend()
        on_invalid = "miss"

Row._meta.backend.set(Row.key(id=2), Header("json", None, COMPRESSED).pack() + b"x")
assert Row.get_or_none(id=2) is None
for options in ({"compress": "zstd"}, {"accepts": ["zstd"]}, {"accepts": [co.Zstd]}):
    def use():
        if options == {"accepts": [co.Zstd]}:
            co.Zstd()
        type(co.Model)("R", (co.Model,), {"Meta": type("Meta", (), options)})
    try:
        use()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    hint = "this Python was built without it" if sys.version_info >= (3, 14) else "pip install cacheorm[zstd]"
    assert lines == [f"compressed rows need Zstandard: {hint}"] * 3


# -- which models read them -----------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_model_that_does_not_say_so_reads_no_compressed_rows(backend: co.SimpleBackend, chosen: str) -> None:
    a_model(backend, SERIALIZERS[chosen], compress="zstd").create(id=1, name=LONG)
    plain = a_model(backend, SERIALIZERS[chosen])
    hint = "is compressed, which this model does not read: name 'zstd' in Meta.accepts, or set Meta.compress"
    reads: list[Any] = [
        lambda: plain.get(id=1),
        plain.query_many({"id": 1}).execute,
        plain.update(id=1, name="x").execute,
    ]
    for read in reads:
        with pytest.raises(co.PayloadError, match=rf"^Row: {hint} \(key m:row:id:1, read as "):
            read()
    assert a_model(backend, SERIALIZERS[chosen], on_invalid="miss").get_or_none(id=1) is None


def test_a_refused_frame_is_not_decompressed(backend: co.SimpleBackend) -> None:
    row = a_model(backend)
    backend.set(row.key(id=1), Header("msgpack", None, COMPRESSED).pack() + zstd.compress(b"\x90" * (16 * MIB)))
    tracemalloc.start()
    try:
        with pytest.raises(co.PayloadError, match=r"name 'zstd' in Meta\.accepts"):
            row.get(id=1)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_the_larger_limit_holds(backend: co.SimpleBackend) -> None:
    a_model(backend, "json", compress=co.Zstd(limit=MIB)).create(id=1, name=LONG)
    both = a_model(backend, "json", compress=co.Zstd(limit=10), accepts=[co.Zstd(limit=MIB), "msgpack"])
    assert both.get(id=1).name == LONG
    with pytest.raises(co.PayloadError, match=r"raise the limit of Zstd in Meta\.compress or Meta\.accepts"):
        a_model(backend, "json", accepts=[co.Zstd(limit=10)]).get(id=1)


def test_a_serializer_that_is_registered_under_the_name_comes_first(backend: co.SimpleBackend) -> None:
    a_model(backend, "json", compress="zstd").create(id=1, name=LONG)
    co.registry.register("zstd", Backwards())
    try:
        with pytest.raises(co.PayloadError, match="is compressed"):
            a_model(backend, "json", accepts=["zstd"]).get(id=1)
    finally:
        co.registry.unregister("zstd")


@pytest.mark.parametrize("given", [co.Zstd, "zstd", b"zstd"])
def test_accepts_is_a_list(given: Any) -> None:
    with pytest.raises(TypeError, match=r"Row.Meta.accepts: expected a list"):
        a_model(co.SimpleBackend(), accepts=co.Zstd() if given is co.Zstd else given)
