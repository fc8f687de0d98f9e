"""How operations on the file are run: as one statement, or as transactions, one for each part of a batch."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...deadlines import remaining, until
from ...errors import BackendError
from ..fallible import FallibleBackend

if TYPE_CHECKING:
    from .connections import Connection

__all__ = ["FileOperations"]

T = TypeVar("T")

# Entries per transaction. One takes some 20 ms, during which other writers wait.
_WRITE_SIZE = 10_000


class FileOperations(FallibleBackend):
    """A backend whose operations are statements and transactions of one SQLite file."""

    _file: str

    def _open_file(self, file: str, busy_timeout: float, clock: Callable[[], float] | None) -> None:
        """Take the options of the file; it is opened with the first operation.

        Args:
            file: its path.
            busy_timeout: seconds for which an operation waits while others write.
            clock: returns the time in seconds since the epoch; :func:`time.time` if ``None``.
        """
        self._file = file
        # Imported here, not with the package: it takes 6 ms, which programs with other backends need not spend.
        import json
        import sqlite3

        from .database import Database, divide, interrupted_at
        from .sweeper import Sweeper

        self._sqlite = sqlite3
        self._dumps = json.dumps
        self._divide, self._interrupted_at = divide, interrupted_at
        # By its real path, so that all backends of the process know each other's connections to it.
        self._database = Database(os.path.realpath(file), busy_timeout)
        # Without it, the connections of a backend that is dropped without close() would stay open until the pool goes.
        weakref.finalize(self, self._database.close)
        self._clock = clock or time.time
        self._sweeper = Sweeper()

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _end(self) -> float:
        """Return the time on the monotonic clock by which an operation that begins now has to end."""
        end = until(self.operation_timeout)
        if self.operation_timeout and not remaining(end):
            raise BackendError(f"{self._file}: not begun, the deadline has passed")
        return end

    def _run(
        self,
        work: Callable[[Connection], T],
        *,
        end: float | None = None,
        writes: bool = False,
        applied: bool = False,
        divisible: bool = False,
    ) -> T:
        """Run one statement or one transaction, and convert its errors to BackendError.

        Args:
            work: what to do; it is called again if that failed because of others.
            end: when it has to end, if it is a part of an operation.
            writes: whether it writes.
            applied: whether an earlier part of the same operation has been written already.
            divisible: whether it may be refused as too large; see :meth:`_in_parts`.
        """
        try:
            return self._database.run(work, self._end() if end is None else end, writes=writes, divisible=divisible)
        except (self._sqlite.Error, OSError) as error:
            # After an I/O error it is unknown whether a commit took place; after others it was rolled back.
            broken = getattr(error, "sqlite_errorcode", 0) & 0xFF == self._sqlite.SQLITE_IOERR
            raise BackendError(f"{self._file}: {error}", maybe_applied=applied or (writes and broken)) from error

    def _transact(
        self,
        work: Callable[[Connection], T],
        rows: int,
        end: float,
        *,
        applied: bool = False,
        divisible: bool = False,
    ) -> T:
        """Run several statements as one transaction that holds the write lock; roll back on any exception."""

        def transact(connection: Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
            self._sweeper.sweep(connection, rows, self._now())
            return result

        return self._run(transact, end=end, writes=True, applied=applied, divisible=divisible)

    def _execute(self, sql: str, parameters: tuple[Any, ...]) -> bool:
        """Run one writing statement, which is a transaction by itself; return whether it changed a row."""

        def execute(connection: Connection) -> bool:
            changed = connection.execute(sql, parameters).rowcount > 0
            self._sweeper.sweep(connection, 1, self._now())
            return changed

        return self._run(execute, writes=True)

    def _in_parts(
        self, keys: list[str], write: Callable[[Connection, Sequence[str]], T], report: Callable[[T], object]
    ) -> None:
        """Write many keys, each part of them in a transaction.

        Args:
            keys: all of them, each once.
            write: writes a part of them, and returns what came of it.
            report: is told that after each transaction.
        """
        end = self._end()

        def transact(part: Sequence[str], start: int) -> None:
            if start and not remaining(end):
                raise BackendError(f"{self._file}: out of time after {start} of {len(keys)} keys", maybe_applied=True)
            divisible = len(part) > 1
            report(
                self._transact(
                    lambda connection: write(connection, part), len(part), end, applied=start > 0, divisible=divisible
                )
            )

        self._divide(keys, _WRITE_SIZE, transact)
