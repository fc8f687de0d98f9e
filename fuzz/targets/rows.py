"""Rows: any bytes as the payload of models of every kind, read, patched, and what was read written again."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from collections.abc import Callable
from typing import Any

import msgpack

from ..builds import compiled_build
from ..models import WHOLE_ROW, models_of_rows
from ..seen import Seen, exact, rows
from ..source import Source

__all__ = ["SEEDS", "TOKENS", "prepare"]

_NAMES = (b"msgpack", b"json", b"pickle", b"protobuf", b"", b"m\xff", b"x" * 255)
_ABSENT, _LEASE = b"\xc1\x01\x01\x00", b"\xc1\x01\x11\x00token"
_KEY = "m:row:id:1"
# What rows are changed to, as far as a model has such a field.
_CHANGES: dict[str, Any] = {
    "text": "changed",
    "number": None,
    "any": [1],
    "list0": ["x"],
    "int_0": 5,
    "text_1": None,
    "json_0": [{}],
}


def prepare(co: Any) -> Callable[[bytes], Seen]:
    models = models_of_rows(co)
    codecs = [model._meta.resolved().codec for model in models]
    changes = []
    for model, codec in zip(models, codecs, strict=True):
        changed = {name: value for name, value in _CHANGES.items() if name in model._meta.fields}
        (packed,) = codec.pack_changes(model._meta.adopt([{"id": 1, **changed}], True), False)
        changes.append(packed)
    signed = models[[model.__name__ for model in models].index("Signed")]._meta.resolved().codec

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        at = source.byte() % len(models)
        wrapping, size = source.byte(), source.pick((1, 1, 1, 2, 5))
        payload = _WRAPPINGS[wrapping % len(_WRAPPINGS)](source)
        payloads: list[bytes | None] = [payload] * size
        if size > 1:
            payloads[1] = (None, _ABSENT, b"\x80", b"{}", _LEASE)[wrapping // 32 % 5]
        pks, keys = [*range(size)], [f"m:row:id:{at}" for at in range(1, size + 1)]
        codec = codecs[at]
        unreadable = None if wrapping & 16 else (lambda error: None)
        found = seen.call(codec.load_many, payloads, pks, keys, unreadable, show=rows)
        if size == 1:
            seen.call(codec.load, payload, 1, _KEY, show=lambda row: rows([row]))
        patched = seen.call(codec.patch_many, payloads, [changes[at]] * size, keys, unreadable, show=_patched)
        if patched and codec is not signed:
            seen.call(codec.load_many, patched, pks, keys, unreadable, show=rows)
        instances = [row for row in found or () if row is not None]
        if instances:
            written = seen.call(codec.dump_many, instances, show=_patched)
            seen.append(rows(instances))
            if written and codec is not signed:
                seen.call(codec.load_many, written, pks[: len(written)], keys[: len(written)], show=rows)
        return seen

    return run


def _patched(payloads: list[Any]) -> Any:
    return [exact(payload) for payload in payloads]


# -- what is around the packed row -------------------------------------------------------------------


def _bare(source: Source) -> bytes:
    return source.rest()


def _headed(source: Source) -> bytes:
    return _header(source) + source.rest()


def _compressed(source: Source) -> bytes:
    header = _header(source, 2)
    return header + _zstd(source.rest())


def _in_frames(source: Source) -> bytes:
    """Compress a body of many times the size, cut it off, or put something behind it."""
    header, times, cut, more = _header(source, 2), 1 << source.byte() % 10, source.byte(), source.piece()
    body = _zstd(source.rest()[:64] * times)
    return header + (body[:-cut] if cut < 128 and cut else body) + more


def _signed(source: Source) -> bytes:
    """Sign a pickle of plain values; other bytes are signed by nobody, and so never unpickled."""
    header, edit, at, value = _header(source, 8, b"pickle"), source.byte(), source.byte(), source.value()
    try:
        body = pickle.dumps(value if edit & 2 else {"text": "x", "number": 1, "more": value}, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - some values have no pickle
        body = pickle.dumps(None)
    if header[2] & 2:
        body = _zstd(body)
    signed = bytearray(_signature(header + body))
    if edit & 1:
        signed[at % len(signed)] ^= edit
    return bytes(signed)


def _header(source: Source, flags: int = 0, name: bytes = b"") -> bytes:
    """Make a header that mostly is right: with the bits of a byte, what it says is taken from the input."""
    odd = source.byte()
    name = source.pick(_NAMES) if odd & 1 or not name else name
    flags |= source.byte() if odd & 2 else source.pick((0, 4))
    form = source.byte() if odd & 4 else 1
    size = source.byte() if odd & 8 else len(name)
    version = (source.take(4) if odd & 16 else bytes((0, 0, 0, source.byte() % 5))) if flags & 4 else b""
    return bytes((0xC1, form, flags, size)) + name + version


def _zstd(body: bytes) -> bytes:
    compress: Callable[[bytes], bytes] = compiled_build().Zstd(level=1).compressor()
    return compress(body)


def _signature(payload: bytes) -> bytes:
    key = _KEY.encode()
    signed = b"cacheorm signed row\0" + len(key).to_bytes(8, "big") + key + payload
    return payload + hmac.new(b"a secret of the tests", signed, hashlib.sha256).digest()


_WRAPPINGS = (_bare, _bare, _bare, _headed, _compressed, _in_frames, _signed, _bare)


# -- where it begins ---------------------------------------------------------------------------------


def _stored() -> dict[str, Any]:
    every = models_of_rows(compiled_build())[1]
    instance = every(id=1, **WHOLE_ROW)
    return json.loads(every._meta.resolved().codec.dump_many([instance])[0])  # type: ignore[no-any-return]


def _make_seeds() -> list[bytes]:
    every, plain = _stored(), {"text": "Zoë", "number": 5, "real": 0.5, "flag": 1}
    listed = {"list0": ["a", "b"], "list1": [1, None], "list2": [1, "blue"], "deep": [[[1.0]], []]}
    any_of = {"any": [{}, [], [[None, 1.5, "x", {"a": 1}]], -1, 2**40]}
    bodies = [every, every, plain, plain, plain | {"old": "x"}, plain, plain, any_of, any_of, listed]
    seeds = []
    for at, row in enumerate(bodies):
        for wrapping in range(8):
            for packed in (msgpack.packb(row), json.dumps(row).encode()):
                name = b"\x00" if packed[:1] != b"{" else b"\x01"
                head = b"" if wrapping < 3 or wrapping == 7 else b"\x00" + name + b"\x01\x03"
                more = b"\x00\x00\x00" if wrapping == 5 else b""
                seeds += [bytes((at, wrapping, many)) + head + more + packed for many in (0, 4)]
    return seeds


SEEDS = _make_seeds()
TOKENS = [
    *(msgpack.packb(value) for value in (None, True, 0, -1, 2**16, 2**32, 2**63, -(2**63), 0.5, "", "x" * 40, [], {})),
    *(json.dumps(value).encode() for value in (None, True, 1.5, 10**20, "x", "\ud800", [], {}, [[[]]], 1e300)),
    *(f'"{kind}_0":'.encode() for kind in ("int", "enum", "aware", "decimal", "uuid", "json", "lists", "stamp")),
    *(b"\xa4text", b"\xa6number", b"\xa3old", b'"text":', b'"number":', b'"any":', b"NaN", b"Infinity", b"-0", b"1E5"),
    *(
        b"2020-01-02T03:04:05.000006+00:00",
        b"2020-01-02",
        b"03:04:05",
        b"24:00",
        b"\\u0000",
        b"\\ud800",
        b"\xed\xa0\x80",
    ),
    *(
        b"\xc1\x01",
        b"\xc4",
        b"\xc7",
        b"\xd6\xff\0\0\0\0",
        b"\xca\x7f\xc0\0\0",
        b"\xdc\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ),
    *(b"\xdb\0\0\0\1a", b"\xd9\x01a", b"\xde\0\1", b"\x91" * 50, b"\x81\xa1a" * 50, b"[" * 50, b'{"a":' * 50),
]
