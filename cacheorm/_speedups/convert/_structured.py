# cython: language_level=3, annotation_typing=False, auto_pickle=False, nonecheck=True
"""Lists of values of one kind, and JSON values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from .. import _shim as cython
from .._limits import MAX_DEPTH

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, encodable, expected, normal, plain

    from ._enumerations_c import Enumeration
else:
    from ._converter import Converter, encodable, expected, normal, plain
    from ._enumerations import Enumeration

__all__ = ["Json", "ListOf", "check_json", "json_codec", "measure_json"]


@cython.cclass
class ListOf(Converter):
    """A list, as the list of its elements' stored forms.

    Attributes:
        element: converter of the elements.
        null: whether elements may be ``None``.
    """

    mixed = varies = True
    element: Converter = cython.declare(Converter, visibility="public")
    null: bool = cython.declare(object, visibility="public")

    def __init__(self, element: Converter, null: bool = False) -> None:
        if not isinstance(element, Converter):
            raise TypeError(f"expected the element's converter, got {type(element).__name__}")
        self.element = element
        self.null = null
        self.put_at(0)

    def put_at(self, level: int) -> None:
        self.level = level
        self.element.put_at(level + 1)

    def weigh(self, stored: Any, most: int) -> int:
        if type(stored) is not list:
            return 0
        cost = 2 * (56 + 8 * len(stored))
        return cost + self.element.weigh_all(stored, most - cost)

    @property
    def packable(self) -> bool:
        """Whether those of the elements are packable."""
        return self.element.packable

    @property
    def own_code(self) -> bool:
        """Whether reading the elements runs no code of the application."""
        return self.element.own_code

    @cython.ccall
    def dump(self, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise expected("a list or a tuple", value)
        stored: list[Any] = []
        for item in value:
            converted = None
            if item is not None:
                try:
                    converted = self.element.dump(item)
                except ValueError as error:
                    raise _at(len(stored), error) from error.__cause__
            if converted is None and not self.null:
                raise ValueError(f"item {len(stored)}: expected a value, got NoneType")
            stored.append(converted)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not list:
            raise expected("a list", stored)
        # As long as it is to be: a list that grows takes more.
        value: list[Any] = [None] * len(stored)
        # Equal combinations of flags are one object, where their class does not make them so.
        combinations: dict[int, Any] | None = {} if type(self.element) is Enumeration and self.element.flag else None
        for place, item in enumerate(stored):
            if item is None:
                if not self.null:
                    raise ValueError(f"item {place}: expected a value, got NoneType")
                continue
            loaded = None
            if combinations is not None and type(item) is int:
                loaded = combinations.get(item)
            if loaded is None:
                try:
                    loaded = self.element.load(item)
                except ValueError as error:
                    raise _at(place, error) from error.__cause__
                if combinations is not None:
                    combinations[item] = loaded
            value[place] = loaded
        return value

    @cython.ccall
    def canonical(self, value: Any, stored: Any) -> Any:
        found: list[Any] = []
        for item, form in zip(value, stored, strict=True):
            if form is None:
                found.append(None)
                continue
            try:
                found.append(self.element.canonical(item, form))
            except ValueError as error:
                raise _at(len(found), error) from error.__cause__
        return found

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return [
            None if form is None else self.element.key_form(item, form)
            for item, form in zip(value, stored, strict=True)
        ]


@cython.cfunc
def _at(place: Any, error: ValueError) -> ValueError:
    """Name the item."""
    return ValueError(f"item {place}: {error}")


_json_codec: list[Callable[[Any], Any]] = []


def json_codec() -> list[Callable[[Any], Any]]:
    """Return the functions that encode and decode JSON: msgspec's, loaded when they are first needed."""
    if not _json_codec:
        import msgspec.json

        _json_codec.extend((msgspec.json.Encoder().encode, msgspec.json.Decoder().decode))
    return _json_codec


def check_json(value: Any, path: str = "$", outside: int = 0) -> None:
    """Make sure that a value is read back from JSON as it is written, tuples as lists apart.

    JSON libraries write much that they do not read back: NaN as null, bytes as base64, the key 1 as "1".

    Args:
        value: str, int, finite float, bool, None, and lists, tuples and str-keyed dicts of them.
        path: name of the value in messages. They locate a wrong part as ``$.*[3]``: the keys of dicts are data,
            and not shown.
        outside: how many of its levels are none of a stored value: 1 for a row.

    Raises:
        TypeError: some part is of another type.
        ValueError: NaN or an infinity, text with lone surrogates, or more than
            :data:`MAX_DEPTH` levels.
    """
    problem = _json_problem(value, -outside)
    if problem is not None:
        way, error, message = problem
        raise error(f"{path}{way}: {message}")


@cython.cfunc
def _json_problem(value: Any, depth: Any) -> Any:
    """Return the path of a wrong part, the class of the error and its text; ``None`` if nothing is wrong."""
    kind = type(value)
    if kind is str:
        if not encodable(value):
            return "", ValueError, "expected text without lone surrogates, got str"
        return None
    if kind is int or value is None or kind is bool:
        return None
    if kind is float:
        return None if math.isfinite(value) else ("", ValueError, "expected a finite number, got float")
    if depth >= MAX_DEPTH:
        return "", ValueError, f"expected at most {MAX_DEPTH} levels of lists and dicts, got more"
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return "", TypeError, f"expected a dict with str keys, got one with {type(key).__name__}"
            if not encodable(key):
                return "", ValueError, "expected keys without lone surrogates, got str"
            problem = _json_problem(item, depth + 1)
            if problem is not None:
                return f".*{problem[0]}", problem[1], problem[2]
        return None
    if isinstance(value, (list, tuple)):
        index = 0
        for item in value:
            problem = _json_problem(item, depth + 1)
            if problem is not None:
                return f"[{index}]{problem[0]}", problem[1], problem[2]
            index += 1
        return None
    return "", TypeError, f"expected a JSON value, got {kind.__name__}"


_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Some thousand texts and what is between them: a replacement takes memory for each.
_PART = re.compile(rb'(?:[^"]{1,64}+|"[^"\\]*+(?:\\.[^"\\]*+)*+"){1,4096}+', re.DOTALL)
_NUMBER = re.compile(rb"-[0-9.]+|[0-9.]{3,}")
_NO_BRACKETS = bytes(sorted({*range(256)}.difference(b"[]{}")))
_STEP = {0x5B: 1, 0x7B: 1, 0x5D: -1, 0x7D: -1}


def measure_json(text: bytes, allowed: int, levels: int) -> tuple[int, bytes]:
    """Return about how much memory the objects take that JSON is read as.

    It is what :func:`~..rows.measure_msgpack` returns of msgpack. Keys count nothing: the library shares them.

    Args:
        text: any bytes.
        allowed: what may be returned if there are more levels.
        levels: of lists and dicts that there may be.

    Returns:
        The sum, -1 if it is not above ``allowed`` and there are more levels; and nothing, as it is not known where.
    """
    cost = 0
    found: list[bytes] = []
    part = _PART.match(text)
    while part is not None and cost <= allowed:
        bare = _TEXT.sub(b'"', part[0])
        lists, maps, pairs = bare.count(b"["), bare.count(b"{"), bare.count(b":")
        containers = 64 * lists + 32 * (lists - bare.count(b"[]")) + 72 * maps + 120 * (maps - bare.count(b"{}"))
        containers += 9 * bare.count(b",") + 40 * max(pairs - 5 * maps, 0)
        others = 60 * max(bare.count(b'"') - pairs, 0) + 32 * len(_NUMBER.findall(bare))
        cost += 2 * containers + 3 * others
        found.append(bare.translate(None, _NO_BRACKETS))
        part = _PART.match(text, part.end())
    brackets = b"".join(found)
    if cost > allowed or len(brackets) <= levels:
        return cost, b""
    return (-1 if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > levels else cost), b""


@cython.cclass
class Json(Converter):
    """Any JSON value, as JSON text (RFC 8259)."""

    own_code = True
    packable = varies = True

    @cython.ccall
    def dump(self, value: Any) -> Any:
        problem = _json_problem(value, 0)
        if problem is not None:
            # Subclasses of str, int and float, such as members of a StrEnum, are what they derive from.
            value = plain(value, 0)
            problem = _json_problem(value, 0)
            if problem is not None:
                raise ValueError(f"${problem[0]}: {problem[2]}")
        raw = None
        try:
            raw = json_codec()[0](value)
        except (RecursionError, ValueError):
            pass
        if raw is None:
            raise expected("a JSON value with less depth or fewer digits", value)
        return raw.decode("utf-8")

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is str:
            if stored.count("[") + stored.count("{") > MAX_DEPTH:
                self.check_levels(stored)
            try:
                return json_codec()[1](stored)
            except (RecursionError, ValueError):  # its own DecodeError is a ValueError
                pass
        raise expected("JSON text", stored)

    @cython.cfunc
    def check_levels(self, stored: str) -> None:
        """Raise :exc:`ValueError` if a text has more levels than may be written."""
        text = stored.encode("utf-8", "replace")
        if measure_json(text, 1 << 62, MAX_DEPTH)[0] < 0:
            raise ValueError(f"expected at most {MAX_DEPTH} levels of lists and dicts, got more")

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return json_codec()[0](normal(value, 0, False)).decode("utf-8")

    def weigh(self, stored: Any, most: int) -> int:
        if type(stored) is not str:
            return 0
        return 3 * 64 + measure_json(stored.encode("utf-8", "replace"), most, len(stored))[0]
