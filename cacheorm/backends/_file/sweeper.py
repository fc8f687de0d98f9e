"""Removing what has expired, a little with each write."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

__all__ = ["Sweeper"]

# After so many written entries, look for expired ones among twice as many.
_SWEEP_AFTER = 64

# Where a round begins, below all ids.
_LOWEST = -(2**63)


class Sweeper:
    """Goes round the table, twice as fast as it is written to.

    An index on the deadline would find expired entries without looking, but costs every write 0.5 to 0.9 us, a third
    of its time; this costs 0.1.

    Attributes:
        position: where the next step begins; ``None`` before the first.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._unswept = 0

    def sweep(self, connection: sqlite3.Connection, rows: int, now: int) -> None:
        """Remove some expired entries.

        Args:
            connection: between transactions.
            rows: how many were written.
            now: milliseconds since the epoch.
        """
        self._unswept += rows
        if self._unswept < _SWEEP_AFTER:
            return
        steps, self._unswept = 2 * self._unswept, 0
        # The write is committed. Should this fail, the next operation will say so.
        with suppress(sqlite3.Error):
            start = self.position
            if start is None:
                # Anywhere: a program that writes a little and exits would look at the same rows each time.
                (start,) = connection.execute("SELECT abs(random() % ifnull(max(id), 1)) FROM entries").fetchone()
            following = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
            (end,) = connection.execute(following, (start, steps)).fetchone()
            if end is not None:
                delete = "DELETE FROM entries WHERE id > ? AND id <= ? AND expires <= ?"
                connection.execute(delete, (start, end, now))
                # Among the places below 0; the entries of others may come back to their own.
                forget = "DELETE FROM moved WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM entries)"
                connection.execute(forget, (start, end))
            self.position = _LOWEST if end is None else end
