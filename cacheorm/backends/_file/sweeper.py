"""Removing expired entries, a few with each write."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

__all__ = ["Sweeper"]

# After so many written entries, look for expired ones among twice as many, but not among more than that.
_SWEEP_AFTER = 64
_MOST_STEPS = 20_000

# The position at which a round begins, below all ids.
_LOWEST = -(2**63)


class Sweeper:
    """Removes expired entries. It goes through the table again and again, twice as fast as entries are written.

    An index on the deadline would find expired entries without a search, but would make every write 0.5 to 0.9 us
    slower, a third of its time; this takes 0.1.

    Attributes:
        position: the id at which the next step begins; ``None`` before the first.
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
        steps = min(2 * self._unswept, _MOST_STEPS)
        # The write is committed. If this fails, the next operation raises the error; if another process writes, later
        # steps are longer.
        with suppress(sqlite3.Error):
            start = self.position
            if start is None:
                # At random: otherwise a program that writes a little and exits would check the same rows each time.
                (start,) = connection.execute("SELECT abs(random() % ifnull(max(id), 1)) FROM entries").fetchone()
            following = "SELECT max(id) FROM (SELECT id FROM entries WHERE id > ? ORDER BY id LIMIT ?)"
            (end,) = connection.execute(following, (start, steps)).fetchone()
            if end is not None:
                delete = "DELETE FROM entries WHERE id > ? AND id <= ? AND expires <= ?"
                connection.execute(delete, (start, end, now))
                # Ids below 0 of removed entries are dropped from `moved` as well.
                forget = "DELETE FROM moved WHERE id > ? AND id <= ? AND id NOT IN (SELECT id FROM entries)"
                connection.execute(forget, (start, end))
            self.position = _LOWEST if end is None else end
            self._unswept = 0
