"""How values, rows and tables look on a terminal, and in JSON."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any
from unicodedata import combining, east_asian_width

from ..metadata import RowPlan

__all__ = ["masked", "plain", "write_json", "write_table", "write_values"]

MASK = "***"
_LONGEST = 60
"""How much of a value a table shows."""


def masked(plan: RowPlan, row: Any) -> dict[str, Any]:
    """Give the fields of an instance as what JSON has, without secrets."""
    values = {}
    for name, value in row.to_dict().items():
        field = plan.fields[name]
        if value is not None and getattr(field, "secret", False):
            values[name] = MASK
            continue
        try:
            values[name] = plain(value)
        except TypeError:
            # A type of the application's: what is stored of it.
            values[name] = plain(field.converter.dump(value))
    return values


def plain(value: Any) -> Any:
    """Give a value as what JSON has: numbers that it has no form for, dates, UUIDs as text, bytes as base64.

    Raises:
        TypeError: it is of another type.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else str(plain(name)): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__module__ in ("decimal", "uuid"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def write_json(value: Any) -> None:
    """Write a document, in ASCII, which every terminal and program takes."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def write_values(values: Mapping[str, Any]) -> None:
    """Write names and values, one to a line."""
    _write_lines([[name, _text(value)] for name, value in values.items()])


def write_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows under the names of their columns, long values cut off."""
    lines = [list(names), *([_cut(_text(value)) for value in row] for row in rows)]
    widths = _widths(lines)
    _write_lines([lines[0], ["-" * width for width in widths], *lines[1:]])


def _write_lines(lines: list[list[str]]) -> None:
    widths = _widths(lines)
    for line in lines:
        cells = [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _widths(lines: list[list[str]]) -> list[int]:
    columns = max(map(len, lines), default=0)
    return [max(_width(line[at]) for line in lines if at < len(line)) for at in range(columns)]


def _width(text: str) -> int:
    """Give how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text if not combining(each))


def _text(value: Any) -> str:
    """Give what a value looks like. Nothing in it can give a terminal orders."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_visible, text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
