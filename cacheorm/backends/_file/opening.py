"""Opening the file of :class:`~cacheorm.backends.filesystem.FileSystemBackend`, with its settings and tables."""

from __future__ import annotations

import os
import sqlite3

from .connections import Connection, Handle
from .folder import FolderLock, create, identify, locked_error

__all__ = ["open_database"]

# `id` is computed from the key (see `_speedups.records`). An index over the keys would take twice as long: two trees to
# search for an entry, and texts to compare. `expires` (milliseconds since the epoch) comes before the record, so that
# looking for expired rows reads no overflow pages. `moved` has the few keys whose id another key had already.
_SCHEMA = (
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL, record BLOB NOT NULL)",
    "CREATE TABLE moved (key TEXT PRIMARY KEY, id INTEGER NOT NULL UNIQUE)",
)
_SCHEMA_VERSION = 2

# NORMAL syncs at checkpoints only: commits survive the death of the process. A power cut may cost the last commits,
# but does not damage the file. https://www.sqlite.org/pragma.html#pragma_synchronous
_SETTINGS = """
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -8000;  -- KiB; most a connection takes
PRAGMA wal_autocheckpoint = 2000;  -- pages: half the syncs of the default
PRAGMA journal_size_limit = 16777216;  -- bytes that -wal keeps after a checkpoint: one write may be a gigabyte
"""


def open_database(path: str, handle: Handle) -> None:
    """Open the file; create it and its folder if they are missing.

    The connection waits for nobody: what others have locked is an error at once, and its user waits.

    Args:
        path: the file, absolute.
        handle: gets the connection.

    Raises:
        OSError, sqlite3.Error: it cannot be opened, or is no database of this kind. If it is damaged, the error has the
            file's identity as its attribute ``identity``.
    """
    if sqlite3.sqlite_version_info < (3, 24):
        raise sqlite3.NotSupportedError(f"SQLite 3.24 or later is needed, this is {sqlite3.sqlite_version}")
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    create(path)
    with FolderLock(folder, exclusive=False):
        identity = identify(path)
        if identity is None:
            raise locked_error()  # removed since; the next try creates it
        handle.connection = connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection
        )
        connection.identity = identity
        try:
            connection.executescript(_SETTINGS)
            _ensure_schema(connection)
        except BaseException as error:
            connection.close()
            if connection.is_preempted and isinstance(error, sqlite3.Error):
                raise locked_error() from error  # by an operation in a signal handler, which has ended
            if isinstance(error, sqlite3.DatabaseError):
                error.identity = identity  # type: ignore[attr-defined]  # of ours
            raise


def _ensure_schema(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # A script ends before a signal handler can run. The cursor of a statement would hold the lock meanwhile.
        connection.executescript("PRAGMA journal_mode = WAL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute("SELECT json_valid('[]')")  # can be left out of a build of SQLite before 3.38
    if version > _SCHEMA_VERSION:
        raise sqlite3.NotSupportedError(f"the file has layout {version}, this cacheorm reads {_SCHEMA_VERSION}")
    if version < _SCHEMA_VERSION:
        _make_tables(connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    """Create the tables. The entries of a file with an earlier layout are dropped: it is a cache."""
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been first.
    if connection.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA_VERSION:
        connection.execute("DROP TABLE IF EXISTS entries")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    connection.execute("COMMIT")
