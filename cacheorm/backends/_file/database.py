"""One file: runs operations on it, and waits, repeats or makes it anew if need be.

It is a module of its own so that ``sqlite3`` is imported with the first file, not with the package.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

from ...deadlines import remaining
from ...types import PoolState
from .connections import Connection, Connections, Handle, wait_for_fork, writing_in_this_thread
from .folder import identify, put_aside
from .opening import open_database
from .writers import Ticket, Writers

__all__ = ["Database", "PreemptedError", "divide", "interrupted_at"]

T = TypeVar("T")

# How often an operation puts a damaged file aside before it gives up, and is begun again by others of its thread before
# it asks for a smaller one.
_MOST_DAMAGES = 3
_MOST_PREEMPTIONS = 3


class PreemptedError(Exception):
    """An operation was begun again too often by others of the same thread; nothing of it was written."""


class Database:
    """One file.

    Args:
        file: its path.
        busy_timeout: seconds that an operation waits for others that have the file locked.
    """

    def __init__(self, file: str, busy_timeout: float) -> None:
        self._file = file
        self._busy_timeout = busy_timeout
        self._connections = Connections(file, open_database)
        self._writers = Writers()

    def run(self, work: Callable[[Connection], T], end: float, *, writes: bool, divisible: bool = False) -> T:
        """Run an operation on a connection; repeat it until it could be done.

        Args:
            work: the operation. It is one statement, or one transaction, and may be called again if that fails.
            end: the time on the monotonic clock by which it has to end.
            writes: whether it writes.
            divisible: whether to raise :exc:`PreemptedError` rather than try again for ever.

        Raises:
            sqlite3.Error, OSError: it failed, or what it needs was locked until ``end``.
        """
        tries = _Tries(self._file, self._writers, min(end, monotonic() + self._busy_timeout), divisible)
        try:
            if writes and self._writers:
                # Others wait for their turn.
                tries.wait()
            while True:
                handle = None
                try:
                    handle = self._connections.take()
                    result = work(handle.connection)
                except sqlite3.Error as error:
                    self._return(handle, error)
                    tries.prepare_next(error, handle)
                except BaseException:
                    # Also on Ctrl-C: the next user must not get an open transaction or a half-read result.
                    if handle is not None:
                        handle.close()
                    raise
                else:
                    self._connections.give(handle)
                    break
        finally:
            tries.end()
        if writes and self._writers:
            self._writers.wake()
        return result

    def _return(self, handle: Handle | None, error: sqlite3.Error) -> None:
        if handle is None:
            return
        if _code(error) == sqlite3.SQLITE_BUSY and not handle.connection.in_transaction:
            self._connections.give(handle)
        else:
            handle.close()

    def state(self) -> PoolState:
        """Return the current use of the connections."""
        return self._connections.state(len(self._writers))

    def close(self) -> None:
        """Close all connections; those in use are closed when they are returned."""
        self._connections.close()


class _Tries:
    """The tries of one operation: decides after each whether and when there is another one."""

    def __init__(self, file: str, writers: Writers, end: float, divisible: bool) -> None:
        self._file = file
        self._writers = writers
        self._end = end
        self._divisible = divisible
        self._began = monotonic()
        self._ticket: Ticket | None = None
        self._damages = 0
        self._preemptions = 0

    def prepare_next(self, error: sqlite3.Error, handle: Handle | None) -> None:
        """Make possible what failed, or wait until it may be; raise the error if that is of no use.

        Args:
            error: why it failed.
            handle: that of the connection on which it failed; ``None`` if that could not be opened.
        """
        connection = None if handle is None else handle.connection
        code = _code(error)
        if connection is not None and connection.is_preempted:
            self._preemptions += 1
            if self._divisible and self._preemptions >= _MOST_PREEMPTIONS:
                raise PreemptedError from None
            self._check_time(error)
        elif code == sqlite3.SQLITE_BUSY:
            self._check_time(error)
            outer = writing_in_this_thread(self._file)
            for each in outer:
                # The lock is that of an operation which goes on only when this one has ended.
                each.preempt()
            if not outer:
                self.wait()
        elif code == sqlite3.SQLITE_INTERRUPT:
            self._check_time(error)
            wait_for_fork()
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) and self._damages < _MOST_DAMAGES:
            self._make_anew(error, connection)
        elif connection is not None and (code == sqlite3.SQLITE_AUTH or connection.identity != identify(self._file)):
            # It belongs to a parent process, or the file has been removed or replaced.
            self._check_time(error)
        else:
            raise error

    def wait(self) -> None:
        """Wait for the turn of this operation among those that write."""
        if self._ticket is None:
            self._ticket = self._writers.join()
        self._writers.wait(self._ticket, self._end)

    def end(self) -> None:
        """Let others take the place of this operation."""
        if self._ticket is not None:
            self._writers.leave(self._ticket)

    def _check_time(self, error: sqlite3.Error) -> None:
        if not remaining(self._end):
            waited = monotonic() - self._began
            raise sqlite3.OperationalError(f"{error}, for all of the {waited:.3g} s that the operation had") from error

    def _make_anew(self, error: sqlite3.Error, connection: Connection | None) -> None:
        identity = error.identity if connection is None else connection.identity  # type: ignore[attr-defined]
        try:
            aside = put_aside(self._file, identity)
        except sqlite3.OperationalError as busy:
            # Others are just opening it, or putting it aside.
            if _code(busy) != sqlite3.SQLITE_BUSY:
                raise
            self._check_time(error)
            self.wait()
            return
        self._damages += 1
        if aside is not None:
            import logging

            logging.getLogger("cacheorm").warning(
                "%s: %s; the damaged file is %s now, and the cache begins anew", self._file, error, aside
            )


def divide(keys: Sequence[str], size: int, run: Callable[[Sequence[str], int], object]) -> None:
    """Run an operation on parts of keys.

    Args:
        keys: all of them.
        size: of the parts.
        run: is called with each part and the number of keys before it. If it raises :exc:`PreemptedError`, it is called
            with smaller parts: signal handlers or destructors keep writing, and what is smaller may end in between.
    """
    start = 0
    while start < len(keys):
        part = keys[start : start + size]
        try:
            run(part, start)
        except PreemptedError:
            size = len(part) // 2
        else:
            start += len(part)


def interrupted_at(end: float, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """Return the same work, with statements that end with an error when their time is over.

    Args:
        end: a time on the monotonic clock.
        work: statements that may read or write the whole file.
    """

    def run(connection: Connection) -> T:
        # Called by SQLite after so many steps of its virtual machine, about a millisecond.
        connection.set_progress_handler(lambda: not remaining(end), 100_000)
        result = work(connection)
        connection.set_progress_handler(None, 0)
        return result

    return run


def _code(error: sqlite3.Error) -> int:
    """Return the primary error code of SQLite, 0 for an error of another origin."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
