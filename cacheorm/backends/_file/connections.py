"""Connections to files, those that are idle, and what happens to them when the process forks.

There are no locks. What is taken and given back goes through operations that are atomic by themselves, and what is in
use belongs to its user alone: a handle that nobody refers to any more closes its connection, which rolls a transaction
back. So an exception may end an operation at any point, and signal handlers and destructors may begin another one.

A forked child must not use or close a connection of its parent, and while SQLite has one open, it would take the
parent's locks for the child's own (https://www.sqlite.org/howtocorrupt.html, 2.6). So all connections are closed before
a fork. Operations of other threads are interrupted, and repeated after it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from ...types import PoolState
from .folder import Identity, identify, locked_error

__all__ = ["Connection", "Connections", "Handle", "wait_for_fork", "writing_in_this_thread"]

# The most idle connections to keep. As many are made as threads use the file at the same time.
_MOST_IDLE = 16

# Seconds for which a fork waits for interrupted operations: those that signal handlers and debuggers keep from ending.
_FORK_TIMEOUT = 1.0


class Connection(sqlite3.Connection):
    """A connection to one file.

    Attributes:
        file: the path that it was opened by.
        identity: which file that was.
        thread: that of its present user, 0 while it has none.
        process: the one that opened it.
        pool: identifies its pool.
        generation: how often that had been closed when it was taken.
        is_opened: whether there is anything to close.
        inherited: all connections of parent processes.
        is_preempted: whether its transaction was rolled back for another operation of the same thread.
    """

    file = ""
    identity: Identity = (0, 0)
    process = -1
    thread = 0
    pool = 0
    generation = 0
    is_opened = False
    inherited: ClassVar[list[Connection]] = []
    is_preempted = False

    def __new__(cls, file: str, *args: Any, **options: Any) -> Connection:
        self = super().__new__(cls)
        self.file = file
        self.thread = get_ident()
        self.process = os.getpid()
        # From before it is open, so that a fork meanwhile knows of it: either the thread that forks sees it here, or
        # this one sees that it forks.
        self.is_opened = True
        _all[id(self)] = self
        if _is_forking():
            self.is_opened = False
            raise locked_error()
        return self

    def close(
        self,
        getpid: Callable[[], int] = os.getpid,
        close: Callable[[Any], None] = sqlite3.Connection.close,
        error: type[Exception] = sqlite3.ProgrammingError,
    ) -> None:
        """Close it, which rolls a transaction back; one of a parent process is left alone."""
        # What it uses is kept here, as the names of this module may be gone when the interpreter ends.
        if self.process != getpid():
            self.inherited.append(self)
        elif self.is_opened:
            try:  # noqa: SIM105 - likewise
                close(self)
            except error:  # an exception came before it was open
                pass
            self.is_opened = False

    __del__ = close

    def preempt(self) -> None:
        """Roll the transaction back for another operation of this thread; its own operation is going to repeat it."""
        self.is_preempted = True
        # What is left of the operation must not write row by row, outside of a transaction.
        self.execute("PRAGMA query_only = 1")
        self.execute("ROLLBACK")


class Handle:
    """Holds a connection for its user, and closes it when it goes before it was given back.

    A connection by itself would stay open until the garbage collector finds it: it and its statements form a cycle.
    """

    connection: Connection

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __del__(self) -> None:
        # It has none if opening it failed.
        if "connection" in self.__dict__:
            self.connection.close()


_all: WeakValueDictionary[int, Connection] = WeakValueDictionary()
_unsafe_files: set[str] = set()


def _open_connections() -> list[Connection]:
    """Return the connections that are open or are just being opened."""
    alive = [connection for place in _all.valuerefs() if (connection := place()) is not None]
    return [connection for connection in alive if connection.is_opened]


def writing_in_this_thread(file: str) -> list[Connection]:
    """Return the connections to a file in whose transactions this thread is: below a signal handler or destructor."""
    here = get_ident()
    return [
        connection
        for connection in _open_connections()
        if connection.thread == here and connection.file == file and connection.in_transaction
    ]


class Connections:
    """The connections to one file; each is used by one thread at a time.

    Args:
        file: its path.
        opener: puts a new connection into a handle.
    """

    def __init__(self, file: str, opener: Callable[[str, Handle], None]) -> None:
        self._file = file
        self._opener = opener
        self._idle: list[Handle] = []
        self._generation = 0
        _pools[id(self)] = self

    def take(self) -> Handle:
        """Return the handle of a connection that nobody else uses, to be returned with ``give`` or closed."""
        while True:
            wait_for_fork()
            if self._file in _unsafe_files:
                raise sqlite3.OperationalError(
                    "this process was forked while another thread of its parent was in the middle of an operation on "
                    "the file, so that SQLite cannot use it here: fork while no operation runs, or start processes "
                    "with the method 'spawn' or 'forkserver'"
                )
            try:
                handle = self._idle.pop()
            except IndexError:
                handle = Handle()
                self._opener(self._file, handle)
            connection = handle.connection
            # Somebody may have removed or replaced the file.
            if connection.identity == identify(self._file) and not _is_forking():
                connection.thread = get_ident()
                connection.pool, connection.generation = id(self), self._generation
                return handle
            handle.close()

    def give(self, handle: Handle) -> None:
        """Return a connection that is between transactions."""
        # A thread that takes it may be on its way when this one forks.
        handle.connection.thread = 0
        # Those in use when `close` is called are closed on their return.
        is_current = handle.connection.generation == self._generation
        if is_current and len(self._idle) < _MOST_IDLE and not _is_forking():
            self._idle.append(handle)
        else:
            handle.close()

    def state(self, waiting: int) -> PoolState:
        """Return the current use of the connections.

        Args:
            waiting: how many operations wait to write.
        """
        idle = len(self._idle)
        in_use = sum(connection.pool == id(self) for connection in _open_connections()) - idle
        return PoolState(self._file, None, max(0, in_use), idle, waiting)

    def close(self) -> None:
        """Close all connections; those in use are closed when they are returned."""
        self._generation += 1
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                self._idle.pop().close()

    def forget_idle(self) -> None:
        """Forget the connections of a parent process."""
        self._idle.clear()


_pools: WeakValueDictionary[int, Connections] = WeakValueDictionary()


class _Fork:
    """The fork that another thread is about to do.

    Attributes:
        end: the time until which operations wait for it, so that they go on even if nobody says that it is done.
        thread: the one that forks.
    """

    end = 0.0
    thread = 0


def _is_forking() -> bool:
    return bool(_Fork.end) and time.monotonic() < _Fork.end and _Fork.thread != get_ident()


def wait_for_fork() -> None:
    """Wait until no other thread is about to fork. No connection may be in use in this thread."""
    while _is_forking():
        time.sleep(0.0005)


def _all_pools() -> list[Connections]:
    return [pool for place in _pools.valuerefs() if (pool := place()) is not None]


def _before_fork() -> None:
    """Close all connections. Those that do not come back in time make their files unusable in the child."""
    end = time.monotonic() + _FORK_TIMEOUT
    _Fork.thread = get_ident()
    _Fork.end = end + _FORK_TIMEOUT
    while True:
        for pool in _all_pools():
            pool.close_idle()
        # An operation of this thread, which forks in a signal handler, cannot end before.
        in_use = [connection for connection in _open_connections() if connection.thread != _Fork.thread]
        if not in_use or time.monotonic() > end:
            return
        for connection in in_use:
            with suppress(sqlite3.Error):  # it has been closed, or is not open yet
                connection.interrupt()
        del in_use[:], connection
        time.sleep(0.0005)


def _after_fork() -> None:
    _Fork.end = 0.0


def _after_fork_in_child() -> None:
    """Keep what is still open from being used or closed here."""
    for connection in _open_connections():
        Connection.inherited.append(connection)
        _unsafe_files.add(connection.file)
        if connection.thread == _Fork.thread:
            # The rest of an operation of this thread must not use it either.
            connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    for pool in _all_pools():
        pool.forget_idle()
    _all.clear()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
