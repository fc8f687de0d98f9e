"""Removing all entries of the file, and returning its space to the disk."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["remove_all", "shrink"]


def remove_all(connection: sqlite3.Connection) -> None:
    """Remove all entries."""
    connection.execute("DELETE FROM entries")
    connection.execute("DELETE FROM moved")


def shrink(connection: sqlite3.Connection) -> None:
    """Return free space to the disk, unless another process uses the file."""
    import sqlite3  # not with the package: it takes 6 ms

    with suppress(sqlite3.OperationalError):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
