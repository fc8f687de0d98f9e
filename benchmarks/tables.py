"""Markdown tables, aligned so that they read well in a terminal too."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["mark", "table"]

_FIGURE = re.compile(r"-|[\d.,]+( bytes)?")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Format a table; columns whose cells are all figures are aligned to the right."""
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(head)
    widths = [max(3, len(name), *(len(cell) for cell in cells)) for name, cells in zip(head, columns, strict=True)]
    right = [at > 0 and all(_is_figure(cell) for cell in cells) for at, cells in enumerate(columns)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if figure else cell.ljust(width)
            for cell, width, figure in zip(cells, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (width - 1) + (":" if figure else "-") for width, figure in zip(widths, right, strict=True))
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, lines)])


def _is_figure(cell: str) -> bool:
    return _FIGURE.fullmatch(cell) is not None


def mark(value: float, bar: float | None) -> str:
    """Say whether a value reaches its bar."""
    if bar is None:
        return "-"
    return "pass" if value <= bar else "falls short"
