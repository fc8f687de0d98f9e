"""Putting the changed fields of a row into its packed form, pure Python: the Python version of ``_patches.pxi``.

Both a row and its changes are maps of names to values, in one format. The names of the changes are searched in the row.
Their values are replaced, and those that the row does not have are added at its end. All else is copied, and not looked
into further than it takes to find its end; a codec decodes the result, and finds what is broken. Fields that the row
has under an old name get their present one, if they are among the changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..convert import json_codec

__all__ = ["COUNTED", "SIZED", "SIZES", "patch_json", "patch_msgpack"]


class _Pair(NamedTuple):
    """A name and its value in a packed map.

    Attributes:
        name: the name as it is usually packed; ``None`` for a key that is no text.
        start: where the pair starts.
        value: where the value starts.
        end: where it ends.
    """

    name: bytes | None
    start: int
    value: int
    end: int


def _replaced(row: bytes, pairs: list[_Pair], changes: bytes, named: list[_Pair]) -> tuple[list[bytes], list[bytes]]:
    """Return the pieces of a row from its first pair on, and the pairs of the changes that it does not have."""
    if not pairs:
        return [], [changes[each.start : each.end] for each in named]
    values = {each.name: changes[each.value : each.end] for each in named}
    pieces: list[bytes] = []
    found, copied = set(), pairs[0].start
    for name, _, value, end in pairs:
        if name in values:
            pieces += row[copied:value], values[name]
            found.add(name)
            copied = end
    pieces.append(row[copied : pairs[-1].end])
    return pieces, [changes[each.start : each.end] for each in named if each.name not in found]


def _renamed(
    row: bytes, pairs: list[_Pair], changes: bytes, named: list[_Pair], names: Mapping[bytes, bytes]
) -> list[bytes] | None:
    """Return the packed pairs of a row without old names of the fields that are changed; ``None`` if it has none.

    ``names`` are the present names of fields by their old ones.
    """
    changed = {each.name: changes[each.start : each.end] for each in named}
    present: set[bytes | None] = {pair.name for pair in pairs}
    result, found = [], False
    for name, start, _, end in pairs:
        now = names.get(name) if name is not None else None
        if now not in changed:
            result.append(row[start:end])
            continue
        found = True
        if now not in present:
            present.add(now)
            result.append(changed[now])
    return result if found else None


def _packed(names: Mapping[str, str], pack: Callable[[str], bytes]) -> dict[bytes, bytes]:
    return {pack(old): pack(now) for old, now in names.items()}


# -- msgpack -----------------------------------------------------------------------------------------


def _sizes() -> list[int]:
    """Return the size of a value by its first byte, 0 where that does not tell."""
    sizes = [1] * 0x80 + [0] * 0x60 + [1] * 0x20
    sizes[0xA0:0xC0] = range(1, 33)
    sizes[0xC0] = sizes[0xC2] = sizes[0xC3] = 1
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]
    return sizes


SIZES = _sizes()

# By the first byte: the width of the length that follows, and what there is beside the header and that many bytes.
SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


class _NoMap(Exception):
    """These bytes are no map of this format."""


def _number(packed: bytes, at: int, width: int) -> int:
    if at + width > len(packed):
        raise _NoMap
    return int.from_bytes(packed[at : at + width], "big")


def _past(packed: bytes, at: int) -> int:
    """Return where the value at a position ends."""
    pending = 1
    while pending:
        if pending > len(packed) - at:
            raise _NoMap
        pending -= 1
        head = packed[at]
        size = SIZES[head]
        if size:
            at += size
        elif head in SIZED:
            width = SIZED[head]
            at += 1 + width + (0xC7 <= head <= 0xC9) + _number(packed, at + 1, width)
        elif head in COUNTED:
            width, each = COUNTED[head]
            pending += each * _number(packed, at + 1, width)
            at += 1 + width
        elif head < 0xA0:
            pending += (head & 0x0F) * (2 if head < 0x90 else 1)
            at += 1
        else:
            raise _NoMap
    if at > len(packed):
        raise _NoMap
    return at


def _msgpack_pairs(packed: bytes) -> tuple[int, list[_Pair]]:
    """Return the size of the header of a map, and its pairs."""
    head = packed[0] if packed else 0
    if head in (0xDE, 0xDF):
        at = 3 if head == 0xDE else 5
        count = _number(packed, 1, at - 1)
    elif head & 0xF0 == 0x80:
        at, count = 1, head & 0x0F
    else:
        raise _NoMap
    header, pairs = at, []
    for _ in range(count):
        start, at = at, _past(packed, at)
        first, size = packed[start], 0
        if 0xA0 <= first < 0xC0:
            size = 1
        elif 0xD9 <= first <= 0xDB:
            size = 1 + SIZED[first]
        value, at = at, _past(packed, at)
        pairs.append(_Pair(packed[start + size : value] if size else None, start, value, at))
    if at != len(packed):
        raise _NoMap
    return header, pairs


def _map_header(count: int) -> bytes:
    if count < 16:
        return bytes([0x80 | count])
    return b"\xde" + count.to_bytes(2, "big") if count <= 0xFFFF else b"\xdf" + count.to_bytes(4, "big")


def patch_msgpack(row: bytes, changes: bytes, old_names: Mapping[str, str] | None = None) -> bytes | None:
    """Put changes into a row; ``None`` if it is no map of msgpack.

    Args:
        row: a packed map.
        changes: a map as the codec packs it: with names that are text.
        old_names: present names of fields by old ones.
    """
    try:
        header, pairs = _msgpack_pairs(row)
    except _NoMap:
        return None
    named = _msgpack_pairs(changes)[1]
    if old_names:
        renamed = _renamed(row, pairs, changes, named, _packed(old_names, str.encode))
        if renamed is not None:
            return patch_msgpack(_map_header(len(renamed)) + b"".join(renamed), changes)
    pieces, added = _replaced(row, pairs, changes, named)
    if not added:
        return row[:header] + b"".join(pieces)
    return b"".join([_map_header(len(pairs) + len(added)), *pieces, *added])


# -- JSON --------------------------------------------------------------------------------------------

_SPACE = rb"[ \t\n\r]*"
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_NAME = re.compile(rb"%b(%b)%b:%b" % (_SPACE, _TEXT, _SPACE, _SPACE), re.DOTALL)
_SCALAR = re.compile(rb'%b|[^"\[\]{},: \t\n\r]+' % _TEXT, re.DOTALL)
_PART = re.compile(rb'%b|[\[{]|[\]}]|[^"\[\]{}]+' % _TEXT, re.DOTALL)
_OPEN = re.compile(rb"%b\{%b(\})?" % (_SPACE, _SPACE))
_NEXT = re.compile(rb"%b([,}])" % _SPACE)
_REST = re.compile(_SPACE)


def _json_past(packed: bytes, at: int) -> int:
    """Return where the value at a position ends."""
    if packed[at : at + 1] not in (b"[", b"{"):
        found = _SCALAR.match(packed, at)
        if found is None:
            raise _NoMap
        return found.end()
    depth = 0
    while True:
        found = _PART.match(packed, at)
        if found is None:
            raise _NoMap
        first = packed[at]
        at = found.end()
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
            if not depth:
                return at


def _plain_name(name: bytes) -> bytes:
    """Return a name as it is usually packed."""
    if b"\\" not in name:
        return name
    pack, unpack = json_codec()
    try:
        packed: bytes = pack(unpack(name))
    except ValueError:
        raise _NoMap from None
    return packed


def _json_pairs(packed: bytes) -> tuple[int, list[_Pair]]:
    """Return where the first pair of an object is, or would be, and its pairs."""
    begun = _OPEN.match(packed)
    if begun is None:
        raise _NoMap
    at, pairs = begun.end(), []
    if begun[1] is None:
        while True:
            name = _NAME.match(packed, at)
            if name is None:
                raise _NoMap
            end = _json_past(packed, name.end())
            pairs.append(_Pair(_plain_name(name[1]), name.start(1), name.end(), end))
            further = _NEXT.match(packed, end)
            if further is None:
                raise _NoMap
            at = further.end()
            if further[1] == b"}":
                break
    rest = _REST.match(packed, at)
    if rest is None or rest.end() != len(packed):
        raise _NoMap
    return pairs[0].start if pairs else begun.start(1), pairs


def patch_json(row: bytes, changes: bytes, old_names: Mapping[str, str] | None = None) -> bytes | None:
    """Put changes into a row; ``None`` if it is no object of JSON.

    Args:
        row: a packed object.
        changes: an object as the codec packs it: without spaces.
        old_names: present names of fields by old ones.
    """
    try:
        first, pairs = _json_pairs(row)
    except _NoMap:
        return None
    named = _json_pairs(changes)[1]
    if old_names:
        renamed = _renamed(row, pairs, changes, named, _packed(old_names, json_codec()[0]))
        if renamed is not None:
            return patch_json(b"{" + b",".join(renamed) + b"}", changes)
    pieces, added = _replaced(row, pairs, changes, named)
    body = b"".join(pieces)
    joined = b",".join([body, *added] if body else added)
    return row[:first] + joined + row[pairs[-1].end if pairs else first :]
