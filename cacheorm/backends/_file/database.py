"""The file under :class:`~cacheorm.backends.filesystem.FileSystemBackend`, and connections to it.

It is a module of its own so that ``sqlite3`` is imported with the first file, not with the package.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable

from ...types import PoolState

__all__ = ["Connections", "open_database"]

# The most idle connections to keep. As many are made as threads use the file at the same time.
_MOST_IDLE = 16

# Seconds for which a fork waits until other threads have finished their operations.
_FORK_TIMEOUT = 5.0

# `id` is computed from the key (see `_speedups.records`). An index over the keys would take twice as long: two trees to
# search for an entry, and texts to compare. `expires` (milliseconds since the epoch) comes before the record, so that
# looking for expired rows reads no overflow pages. `moved` has the few keys whose id another key had already.
_SCHEMA = (
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, expires INTEGER NOT NULL, record BLOB NOT NULL)",
    "CREATE TABLE moved (key TEXT PRIMARY KEY, id INTEGER NOT NULL UNIQUE)",
)
_SCHEMA_VERSION = 2


def open_database(path: str, busy_timeout: float) -> sqlite3.Connection:
    """Open the file; create it and its folder if they are missing.

    Args:
        path: the file, absolute.
        busy_timeout: how long a statement waits for another writer, in seconds.

    Raises:
        OSError, sqlite3.Error: it cannot be opened, or is no database of this kind.
    """
    if sqlite3.sqlite_version_info < (3, 24):
        raise sqlite3.NotSupportedError(f"SQLite 3.24 or later is needed, this is {sqlite3.sqlite_version}")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    _create(path)
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, time.monotonic() + busy_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: str) -> None:
    """Create an empty file if there is none, with mode 0600; SQLite creates -wal and -shm with the same mode."""
    # Only a new file is opened, and under a lock: closing an existing one would drop the locks that connections of this
    # process hold on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
    with _creation_lock, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


_creation_lock = threading.Lock()


def _prepare(connection: sqlite3.Connection, deadline: float) -> None:
    # NORMAL syncs at checkpoints only: commits survive the death of the process. A power cut may cost the last commits,
    # but does not damage the file. https://www.sqlite.org/pragma.html#pragma_synchronous
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -8000")  # KiB; most a connection takes
    connection.execute("PRAGMA wal_autocheckpoint = 2000")  # pages: half the syncs of the default
    while True:
        try:
            _ensure_schema(connection)
        except sqlite3.OperationalError as error:
            # Changing the journal mode does not wait for other processes that open the new file; this loop does.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _ensure_schema(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
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


class Connections:
    """The pool of connections to one file; each is used by one thread at a time.

    None of them is open when the process forks: a child that inherits one shares SQLite's record of locks with the
    parent, and even closing it there can corrupt the file (https://www.sqlite.org/howtocorrupt.html, 2.6). Parent and
    child open new ones.

    Args:
        opener: makes a connection.
    """

    def __init__(self, opener: Callable[[], sqlite3.Connection]) -> None:
        self._opener = opener
        self._changed = threading.Condition(threading.RLock())
        self._idle: list[sqlite3.Connection] = []
        # The connections that may become idle again. Those in use when `close` is called are closed on their return.
        self._current: set[sqlite3.Connection] = set()
        self._in_use = 0
        # The thread that is about to fork. Others borrow no connections meanwhile: otherwise a busy thread could delay
        # the fork without end.
        self._forking: int | None = None
        self.write_lock = threading.Lock()
        """Makes the writers of one process queue. Without it, SQLite would poll with pauses of up to 0.1 s."""
        with _fork_lock:
            _pools.add(self)

    def take(self) -> sqlite3.Connection:
        """Borrow a connection; it has to be returned with ``give`` or ``discard``."""
        with self._changed:
            while self._forking not in (None, threading.get_ident()):
                self._changed.wait()
            self._in_use += 1
            if self._idle:
                return self._idle.pop()
        try:
            connection = self._opener()
        except BaseException:
            self._returned()
            raise
        with self._changed:
            self._current.add(connection)
        return connection

    def give(self, connection: sqlite3.Connection) -> None:
        """Return a connection that is between transactions."""
        with self._changed:
            keep = connection in self._current and len(self._idle) < _MOST_IDLE
            if keep:
                self._idle.append(connection)
                self._returned()
        if not keep:
            self.discard(connection)

    def discard(self, connection: sqlite3.Connection) -> None:
        """Close a borrowed connection, which rolls its transaction back."""
        with self._changed:
            self._current.discard(connection)
        try:
            connection.close()
        finally:
            self._returned()

    def state(self, server: str) -> PoolState:
        """Return the current use of the connections.

        Args:
            server: the name of the file in the state.
        """
        with self._changed:
            return PoolState(server, None, self._in_use, len(self._idle), 0)

    def close(self) -> None:
        """Close all connections; those in use are closed when they are returned."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._current.clear()
        for connection in idle:
            connection.close()

    def _returned(self) -> None:
        with self._changed:
            self._in_use -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait for a limited time until all connections are returned, and close them."""
        self._changed.acquire()
        self._forking = threading.get_ident()
        self._changed.wait_for(lambda: not self._in_use, _FORK_TIMEOUT)
        self.close()

    def after_fork(self) -> None:
        """Let threads borrow connections again."""
        self._forking = None
        self._changed.notify_all()
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Forget the connections of the threads of the parent, and let this thread borrow new ones."""
        # Threads that were still at work do not exist here. Their connections must not be closed.
        self._in_use = 0
        self.write_lock = threading.Lock()
        self.after_fork()


_pools: weakref.WeakSet[Connections] = weakref.WeakSet()
_forking: list[Connections] = []
_fork_lock = threading.RLock()


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_pools)
    for pool in _forking:
        pool.before_fork()


def _after_fork() -> None:
    while _forking:
        _forking.pop().after_fork()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
