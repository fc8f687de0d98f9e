"""The LRU table of the in-memory backend: any calls of its methods, in any order."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import inf
from typing import Any

from ..seen import Seen, exact
from ..source import Source, Text

__all__ = ["SEEDS", "TOKENS", "prepare"]

_NAMES = (*"abcdefghij", "", "é", "ключ", "\U0001f600", "\ud800", "a" * 300)
_DEADLINES = (None, inf, 1.0, 2.0, 3.5, 0.0, -1.0, -inf)
_NOWS = (0.0, 1.0, 2.5, 3.5, inf, -inf)
_ODD = (None, 1, b"a", ("a",), [], ...)


def prepare(co: Any) -> Callable[[bytes], Seen]:
    module = import_module(f"{co.__name__}._speedups.memory._lru_table_{'c' if co.speedups_enabled else 'py'}")

    def run(data: bytes) -> Seen:
        source = Source(data)
        seen = Seen()
        table = module.LruTable(bool(source.byte() & 1))
        while source:
            name, arguments = _step(source)
            if name == "is_exact":
                seen.call(module.is_exact, *arguments)
            else:
                seen.call(getattr(table, name), *arguments, show=exact)
            deadlines = [table.deadline(key) for key in table]
            least = [deadline for deadline in deadlines if deadline is not None and deadline == deadline]
            seen.append((table.items(), [*table], len(table), table.timed, deadlines, table.size))
            seen.append((table.next_deadline <= min(least, default=inf), table.timers <= len(table) + len(data) + 1024))
        return seen

    return run


def _step(source: Source) -> tuple[str, tuple[Any, ...]]:
    name = source.pick(_STEPS)
    if name == "put":
        return name, (_key(source), _value(source), source.pick(_DEADLINES))
    if name == "put_many" or name == "is_exact":
        batch: Any = {_hashable(source): _value(source) for _ in range(source.byte() % 40)}
        return name, ((batch, source.pick(_DEADLINES)) if name == "put_many" else (batch,))
    if name in ("use_many", "set_deadlines"):
        keys = source.pick((list, tuple))(_key(source) for _ in range(source.byte() % 20))
        return name, ((keys, source.pick(_DEADLINES[1:])) if name == "set_deadlines" else (keys,))
    if name == "expire":
        return name, (source.pick(_NOWS),)
    return name, () if name in ("remove_first", "items", "clear") else (_key(source),)


def _key(source: Source) -> Any:
    kind = source.byte()
    name = _NAMES[kind % len(_NAMES)]
    if kind < 160:
        return name
    if kind < 200:
        return source.text()
    return Text(name) if kind < 240 else source.pick(_ODD)


def _hashable(source: Source) -> Any:
    key = _key(source)
    return None if isinstance(key, list) else key


def _value(source: Source) -> Any:
    kind = source.byte()
    return source.take(kind % 5) if kind < 240 else source.value()


_STEPS = (
    "put", "put", "put_many", "use_many", "get", "use", "remove", "deadline", "__contains__", "set_deadlines", "expire",
    "remove_first", "items", "clear", "is_exact", "put_many",
)  # fmt: skip

SEEDS = [
    bytes((measured, *steps))
    for measured in (0, 1)
    for steps in (
        (0, 0, 1, 65, 2, 0, 1, 1, 66, 0, 10, 2, 11),
        (
            2,
            8,
            0,
            1,
            65,
            1,
            1,
            66,
            2,
            1,
            67,
            3,
            1,
            68,
            4,
            1,
            69,
            5,
            1,
            70,
            6,
            1,
            71,
            7,
            1,
            72,
            3,
            9,
            0,
            3,
            0,
            1,
            2,
            2,
            10,
            4,
        ),
        (2, 3, 200, 1, 65, 245, 0, 210, 1, 66, 1, 14, 2, 0, 1, 65, 250, 250, 3, 0, 0, 1, 2, 12, 13),
        (0, 12, 0, 2, 0, 210, 3, 65, 66, 67, 3, 5, 0, 5, 12, 6, 210, 11, 11, 13),
    )
]
TOKENS: list[bytes] = []
