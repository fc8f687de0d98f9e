# cython: language_level=3, annotation_typing=False
"""What reading a payload may cost. One source, also compiled under a second name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import _shim as cython
from .._limits import LEAST_MEMORY, MAX_DEPTH, WORST_FACTOR, allowed_memory

if cython.compiled:
    import cython

__all__ = ["Budget", "TooCostly", "checked"]

Measure = Callable[[bytes, int, int], tuple[int, bytes]]


class TooCostly(Exception):
    """A payload would cost more than it may.

    Attributes:
        reason: the limit, for a :exc:`PayloadError`.
        field: the stored name of the field with which it does; ``None`` if it is not known.
    """

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason, field)
        self.reason = reason
        self.field = field


class Budget:
    """What each payload of a model may cost: levels of lists and dicts, and the memory that its row takes.

    Args:
        memory_limit: bytes of memory; see :func:`~.._limits.allowed_memory`.

    Attributes:
        unmeasured: the most bytes of a payload that cannot take too much memory.
    """

    def __init__(self, memory_limit: int | None) -> None:
        self._memory_limit = memory_limit
        self.unmeasured = (LEAST_MEMORY if memory_limit is None else memory_limit) // WORST_FACTOR

    def check(self, body: bytes, measure: Measure | None) -> int:
        """Make sure that unpacking a payload costs no more than it may.

        Args:
            body: the packed row.
            measure: tells what unpacking it costs; see :func:`~._measure_py.measure_msgpack`. ``None`` if nothing does.

        Returns:
            What the values of the row may take besides; see :meth:`Converter.weigh`.

        Raises:
            TooCostly: it costs more.
        """
        allowed = 3 * allowed_memory(len(body), self._memory_limit)
        if measure is None or len(body) <= MAX_DEPTH:
            return allowed
        # The row itself is a level.
        cost, rest = measure(body, allowed, MAX_DEPTH + 1)
        if cost < 0:
            raise TooCostly(f"expected at most {MAX_DEPTH} levels of lists and dicts, got more", _name(rest))
        if cost > allowed:
            raise self._too_large(len(body), _name(rest))
        return allowed - cost

    def is_small(self, body: bytes, measure: Measure | None) -> bool:
        """Return whether a payload need not be weighed, and costs no more than it may."""
        if len(body) > self.unmeasured:
            return False
        return measure is None or len(body) <= MAX_DEPTH or measure(body, 1 << 62, MAX_DEPTH + 1)[0] >= 0

    def weigh(self, size: int, row: Mapping[str, Any], steps: Iterable[Any], left: int) -> None:
        """Make sure that the values of a row that was unpacked cost no more than is left.

        Args:
            size: bytes of the packed row.
            row: the stored forms by field.
            steps: fields, their converters, and whether they are in payloads.
            left: as :meth:`check` returned it.

        Raises:
            TooCostly: they cost more.
        """
        if size <= self.unmeasured:
            return
        for field, converter, in_payload in steps:
            stored = row.get(field.name) if in_payload else None
            if stored is not None:
                left -= converter.weigh(stored, left)
                if left < 0:
                    raise self._too_large(size, field.name)

    def _too_large(self, size: int, field: str | None) -> TooCostly:
        allowed = allowed_memory(size, self._memory_limit)
        return TooCostly(
            f"takes more than {allowed} bytes of memory; if that is right, set Meta.memory_limit to more", field
        )


def checked(rows: Any, check: Callable[..., Any], key: str, serializer: str, *arguments: Any) -> Any:
    """Return what a method of a budget returns; raise :exc:`PayloadError` for a row of a :class:`MappingRows`."""
    try:
        return check(*arguments)
    except TooCostly as error:
        field = rows.old_names.get(error.field, error.field)
        known = field if any(field == column.name for column in rows.columns) else None
        raise rows.invalid(error.reason, key, serializer, known) from None


def _name(rest: bytes) -> str | None:
    """Return the text that begins msgpack, which may go on; ``None`` if there is none."""
    size = rest[0] & 0x1F if rest and 0xA0 <= rest[0] < 0xC0 else 0
    start = 1
    if rest[:1] == b"\xd9":
        size, start = rest[1], 2
    return rest[start : start + size].decode("utf-8", "replace") if size else None
