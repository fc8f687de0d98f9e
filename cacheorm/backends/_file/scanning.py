"""Enumerating the keys of the file, in steps along the ids of entries.

Each step is a short read. One long read would keep SQLite from reusing the pages of its write-ahead log
(https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["START", "keys_from"]

START = -(2**63)
"""The position below all ids."""

_END = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
_KEYS = """
SELECT substr(record, 1, instr(record, x'00') - 1) FROM entries
WHERE id > ? AND id <= ? AND expires > ? AND substr(record, 1, ?) = ?
"""


def keys_from(
    connection: sqlite3.Connection, position: int, prefix: bytes, count: int, now: int
) -> tuple[list[str], int | None]:
    """Return the keys with a prefix among the next entries.

    Args:
        connection: reads, and holds nothing afterwards.
        position: an id, after which to look.
        prefix: what the keys begin with.
        count: how many entries to look at.
        now: milliseconds since the epoch: expired entries are left out.

    Returns:
        The keys, and the position of the next step; ``None`` if there are no more entries.
    """
    (end,) = connection.execute(_END, (position, count)).fetchone()
    if end is None:
        return [], None
    # An entry keeps its id as long as it exists.
    rows = connection.execute(_KEYS, (position, end, now, len(prefix), prefix)).fetchall()
    return [key.decode() for (key,) in rows], end
