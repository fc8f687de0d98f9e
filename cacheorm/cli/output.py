"""Writing values, rows and tables as text for a terminal, and as JSON."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any
from unicodedata import combining, east_asian_width

from ..instances import Instance
from ..metadata import RowPlan

__all__ = ["masked", "plain", "write_json", "write_table", "write_values"]

MASK = "***"
_LONGEST = 60
"""The most characters of a value in a table."""


def masked(plan: RowPlan, row: Any) -> dict[str, Any]:
    """Return the fields of an instance as JSON values, with secrets masked."""
    values = {}
    for name, value in Instance.to_dict(row).items():  # a field may hide the method
        field = plan.fields[name]
        if value is not None and getattr(field, "secret", False):
            values[name] = MASK
            continue
        try:
            values[name] = plain(value)
        except TypeError:
            # A type of the application: its stored form.
            values[name] = plain(field.converter.dump(value))
    return values


def plain(value: Any) -> Any:
    """Convert a value to a JSON value: dates, UUIDs, Decimals, NaN and infinities to text, bytes to base64.

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
        return {name if isinstance(name, str) else str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__module__ in ("decimal", "uuid"):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def write_json(value: Any) -> None:
    """Write a JSON document, in ASCII, which every terminal and program can read."""
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
    return [max(_width(line[column]) for line in lines if column < len(line)) for column in range(columns)]


def _width(text: str) -> int:
    """Return the width of a text in cells of a terminal."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text if not combining(character))


def _text(value: Any) -> str:
    """Return a value as text, without control characters that a terminal would obey."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_escaped, text))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
