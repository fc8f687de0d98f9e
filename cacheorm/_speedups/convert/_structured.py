# cython: language_level=3, annotation_typing=False, auto_pickle=False, nonecheck=True
"""Lists of values of one kind, and JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import _shim as cython
from .._limits import MAX_DEPTH

if cython.compiled:
    import cython
if cython.compiled:
    from cython.cimports.cacheorm._speedups.convert._converter_c import Converter, encodable, expected, normal, plain
else:
    from ._converter import Converter, encodable, expected, normal, plain

__all__ = ["Json", "ListOf", "check_json", "json_codec"]


@cython.cclass
class ListOf(Converter):
    """A list, as the list of its elements' stored forms.

    Attributes:
        element: converter of the elements.
        null: whether elements may be ``None``.
    """

    mixed = True
    element: Converter = cython.declare(Converter, visibility="public")
    null: bool = cython.declare(object, visibility="public")

    def __init__(self, element: Converter, null: bool = False) -> None:
        if not isinstance(element, Converter):
            raise TypeError(f"expected the element's converter, got {type(element).__name__}")
        self.element = element
        self.null = null

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
                    raise _at(stored, error) from error.__cause__
            if converted is None and not self.null:
                raise ValueError(f"item {len(stored)}: expected a value, got NoneType")
            stored.append(converted)
        return stored

    @cython.ccall
    def load(self, stored: Any) -> Any:
        if type(stored) is not list:
            raise expected("a list", stored)
        value: list[Any] = []
        for item in stored:
            if item is None:
                if not self.null:
                    raise ValueError(f"item {len(value)}: expected a value, got NoneType")
                value.append(None)
                continue
            try:
                value.append(self.element.load(item))
            except ValueError as error:
                raise _at(value, error) from error.__cause__
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
                raise _at(found, error) from error.__cause__
        return found

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return [
            None if form is None else self.element.key_form(item, form)
            for item, form in zip(value, stored, strict=True)
        ]


@cython.cfunc
def _at(done: list[Any], error: ValueError) -> ValueError:
    """Name the item after those that are done."""
    return ValueError(f"item {len(done)}: {error}")


_json_codec: list[Callable[[Any], Any]] = []


def json_codec() -> list[Callable[[Any], Any]]:
    """Return the functions that encode and decode JSON: msgspec's, loaded when they are first needed."""
    if not _json_codec:
        import msgspec.json

        _json_codec.extend((msgspec.json.Encoder().encode, msgspec.json.Decoder().decode))
    return _json_codec


def check_json(value: Any, path: str = "$") -> None:
    """Make sure that a value is read back from JSON as it is written, tuples as lists apart.

    JSON libraries write much that they do not read back: NaN as null, bytes as base64, the key 1 as "1".

    Args:
        value: str, int, finite float, bool, None, and lists, tuples and str-keyed dicts of them.
        path: name of the value in messages. They locate a wrong part as ``$.*[3]``: the keys of dicts are data,
            and not shown.

    Raises:
        TypeError: some part is of another type.
        ValueError: NaN or an infinity, text with lone surrogates, or more than :data:`MAX_DEPTH` levels.
    """
    problem = _json_problem(value, 0)
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


@cython.cclass
class Json(Converter):
    """Any JSON value, as JSON text (RFC 8259)."""

    own_code = True
    packable = True

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
            try:
                return json_codec()[1](stored)
            except (RecursionError, ValueError):  # its own DecodeError is a ValueError
                pass
        raise expected("JSON text", stored)

    @cython.ccall
    def key_form(self, value: Any, stored: Any) -> Any:
        return json_codec()[0](normal(value, 0, False)).decode("utf-8")
