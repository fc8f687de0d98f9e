"""Enumerating the keys of the file, in steps along the ids of entries.

Each step is a short read. One long read would keep SQLite from reusing the pages of its write-ahead log
(https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connections import Connection

_Step = tuple[list[str], int | None]

__all__ = ["scan"]

# The position below all ids.
_START = -(2**63)

_END = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
_KEYS = """
SELECT substr(record, 1, instr(record, x'00') - 1) FROM entries
WHERE id > ? AND id <= ? AND expires > ? AND substr(record, 1, ?) = ?
"""


def scan(
    run: Callable[[Callable[[Connection], _Step]], _Step], prefix: bytes, count: int, now: Callable[[], int]
) -> Iterator[list[str]]:
    """Yield the keys with a prefix, in lists.

    Args:
        run: reads with a function that takes a connection.
        prefix: what the keys begin with.
        count: how many entries to look at in each step.
        now: returns milliseconds since the epoch: expired entries are left out.
    """
    position: int | None = _START

    def step(connection: Connection) -> _Step:
        (end,) = connection.execute(_END, (position, count)).fetchone()
        if end is None:
            return [], None
        # An entry keeps its id as long as it exists.
        rows = connection.execute(_KEYS, (position, end, now(), len(prefix), prefix)).fetchall()
        return [key.decode() for (key,) in rows], end

    while position is not None:
        keys, position = run(step)
        yield keys
