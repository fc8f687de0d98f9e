"""Changes are put into packed rows alike by both builds, and as packing the whole row would, where that is the same."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import msgspec
import pytest
from amounts import enough
from hypothesis import given, settings
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.rows import _patches_py

TWINS: list[Any] = [_patches_py]
if co.speedups_enabled:
    from cacheorm._speedups.rows import _rows_c

    TWINS.append(_rows_c)

NAMES = st.sampled_from(["a", "b", "name", "caf\u00e9", "x" * 40, 'quo"te', "back\\slash", "new\nline", ""])
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(allow_nan=False, width=32)
)
values = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), -float("inf"))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(NAMES, values, max_size=6)
PACK_JSON = msgspec.json.encode


def both(method: str, row: bytes, changes: bytes) -> bytes | None:
    """Return what both builds return."""
    found = [getattr(twin, method)(row, changes) for twin in TWINS]
    assert found[0] == found[-1]
    return found[0]  # type: ignore[no-any-return]


@settings(max_examples=enough(1000), deadline=None)
@given(documents, documents)
def test_a_plain_row_becomes_what_packing_the_whole_of_it_gives(row: Any, changes: Any) -> None:
    whole = {**row, **changes}
    assert both("patch_msgpack", msgpack.packb(row), msgpack.packb(changes)) == msgpack.packb(whole)
    assert both("patch_json", PACK_JSON(row), PACK_JSON(changes)) == PACK_JSON(whole)


@settings(max_examples=enough(500), deadline=None)
@given(documents, documents, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from(["", " ", "\r\n\t"]))
def test_spaces_and_escapes_of_others_stay(row: Any, changes: Any, indent: Any, escape: bool, space: str) -> None:
    written = (space + json.dumps(row, indent=indent, ensure_ascii=escape) + space).encode("utf-8", "replace")
    patched = both("patch_json", written, PACK_JSON(changes))
    assert patched is not None
    assert json.loads(patched) == json.loads(written) | json.loads(PACK_JSON(changes))
    assert both("patch_json", written, b"{}") == written


@settings(max_examples=enough(1500), deadline=None)
@given(st.data())
def test_broken_rows_are_taken_alike(data: Any) -> None:
    row, changes = data.draw(documents), data.draw(documents)
    for method, pack in (("patch_msgpack", msgpack.packb), ("patch_json", PACK_JSON)):
        packed = bytearray(pack(row))
        for _ in range(data.draw(st.integers(0, 3))):
            packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(
                st.integers(0, 255) | st.sampled_from(b'"\\{}[],: \x80\xc1\xdc\xdf\xd9\xc6')
            )
        if data.draw(st.booleans()):
            del packed[data.draw(st.integers(0, len(packed))) :]
        both(method, bytes(packed), pack(changes))


@given(st.binary(max_size=60), documents)
def test_any_bytes_are_taken_alike(row: bytes, changes: Any) -> None:
    for start in (b"", b"\x81\xa1a", b"\xde\x00\x01\xa1a", b'{"a":', b'{"'):
        both("patch_msgpack", start + row, msgpack.packb(changes))
        both("patch_json", start + row, PACK_JSON(changes))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b"\xde\x00\x01\xa1a\x01", b"\xde\x00\x01\xa1a\x05"),  # a header that is longer than it has to be
        (b"\xdf\x00\x00\x00\x01\xd9\x01a\xd0\x01", b"\xdf\x00\x00\x00\x01\xd9\x01a\x05"),
        (b"\xde\x00\x01\xa1b\x01", b"\x82\xa1b\x01\xa1a\x05"),
        (b"\x82\xa1a\x01\xa1a\x02", b"\x82\xa1a\x05\xa1a\x05"),  # a name twice
        (b"\x82\xc4\x01a\x01\x01\x02", b"\x83\xc4\x01a\x01\x01\x02\xa1a\x05"),  # keys that are no text
        (b"\x81\xa1a\xc7\x01\x05x", b"\x81\xa1a\x05"),
        (b"\x80", b"\x81\xa1a\x05"),
        (b"\x80\x80", None),
        (b"\x81\xa1a", None),
        (b"\x81\xa1a\xc1", None),
        (b"\x81\xa1a\xdd\xff\xff\xff\xff", None),
        (b"\x91\x01", None),
        (b"\xc1\x01\x01\x00", None),
        (b"", None),
    ],
)
def test_rows_of_msgpack_as_other_programs_may_write_them(row: bytes, expected: bytes | None) -> None:
    assert both("patch_msgpack", row, b"\x81\xa1a\x05") == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b'{"a":1,"a":2}', b'{"a":5,"a":5}'),
        (b'{"\\u0061":1}', b'{"\\u0061":5}'),
        (b'{"a":"\\""}', b'{"a":5}'),
        (b'{"b":{"a":1},"a":[{"a":"}"}]}', b'{"b":{"a":1},"a":5}'),
        (b"{}", b'{"a":5}'),
        (b"{ }", b'{ "a":5}'),
        (b'{"a":1,}', None),
        (b'{"a":1', None),
        (b'{"a":"\\', None),
        (b'{"a":[1,"}', None),
        (b'{"a"}', None),
        (b'{"\\x":1}', None),
        (b"[]", None),
        (b"{", None),
        (b"", None),
    ],
)
def test_rows_of_json_as_other_programs_may_write_them(row: bytes, expected: bytes | None) -> None:
    assert both("patch_json", row, b'{"a":5}') == expected


@pytest.mark.parametrize("count", [15, 16, 17, 65_535, 65_536])
def test_headers_grow_with_the_rows(count: int) -> None:
    row = {str(number): number for number in range(count - 1)}
    assert both("patch_msgpack", msgpack.packb(row), msgpack.packb({"a": 1})) == msgpack.packb({**row, "a": 1})
