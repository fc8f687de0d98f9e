"""The files of a database in their folder: which one it is, creating it, and putting a damaged one aside.

A database is three files, which SQLite finds by name: itself, ``-wal`` and ``-shm``. They must not be mixed with those
of another database of that name. So whoever creates or renames them holds the folder's lock alone, and whoever opens
them shares it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import suppress
from threading import get_ident
from typing import Any
from weakref import WeakValueDictionary

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, where a file that is open can be neither renamed nor removed
    fcntl = None

__all__ = ["FolderLock", "Identity", "create", "identify", "locked_error", "put_aside"]

Identity = tuple[int, int]
"""Device and inode: the file, whatever name it has by now."""

_FILES = ("", "-wal", "-shm")


def identify(path: str) -> Identity | None:
    """Return which file has that path, ``None`` if there is none. No descriptor is opened."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def locked_error() -> sqlite3.OperationalError:
    """Return the error of SQLite that says that others use the database."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


class FolderLock:
    """A lock on a folder among processes and threads, from its creation until it is left, or until it is gone.

    Args:
        folder: its path.
        exclusive: whether to hold it alone.

    Raises:
        sqlite3.OperationalError: others hold it.
        OSError: the folder cannot be opened.
    """

    _descriptor: int | None = None

    def __init__(self, folder: str, *, exclusive: bool) -> None:
        if fcntl is None:
            return
        self._thread = get_ident()
        self._descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if any(lock is not None and lock.is_of(self._thread) for lock in [place() for place in _locks.valuerefs()]):
                raise sqlite3.OperationalError(
                    "the operation that this one interrupted is just opening or replacing the database"
                ) from None
            raise locked_error() from None
        _locks[id(self)] = self

    def is_of(self, thread: int) -> bool:
        """Return whether a thread holds it."""
        return self._thread == thread and self._descriptor is not None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def release(self, close: Any = os.close, unlock: Any = fcntl and fcntl.flock) -> None:
        """Release it."""
        descriptor = self._descriptor
        if descriptor is not None:
            # By itself, closing would leave it locked by a child that was forked meanwhile. And if an exception comes
            # between these steps, a descriptor is lost, but no lock.
            unlock(descriptor, 8)  # LOCK_UN
            self._descriptor = None
            close(descriptor)

    # An exception of a signal handler may come between two steps of a `with` statement.
    __del__ = release


_locks: WeakValueDictionary[int, FolderLock] = WeakValueDictionary()


def create(path: str) -> None:
    """Create an empty file if there is none, with mode 0600; SQLite creates -wal and -shm with the same mode."""
    if os.path.exists(path):
        return
    if not any(os.path.exists(path + suffix) for suffix in _FILES[1:]):
        _create_empty(path)
        return
    # They belong to a file that has been removed. Whoever has that open does not need their names.
    with FolderLock(os.path.dirname(path), exclusive=True):
        if not os.path.exists(path):
            for suffix in _FILES[1:]:
                with suppress(FileNotFoundError):
                    os.unlink(path + suffix)
            _create_empty(path)


def _create_empty(path: str) -> None:
    """Create a file, unless it exists, without a descriptor of it.

    Closing one would drop the locks that connections of this process hold on the file by then
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        try:
            os.mknod(path, stat.S_IFREG | 0o600)
        except (AttributeError, PermissionError):  # Windows; macOS, where only root may do it
            draft = f"{path}.new-{os.getpid()}-{get_ident()}"
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT, 0o600))
            try:
                os.link(draft, path)
            finally:
                os.unlink(draft)


def put_aside(path: str, damaged: Identity) -> str | None:
    """Rename a damaged database.

    Args:
        path: its path.
        damaged: which file it is.

    Returns:
        Its new path; ``None`` if the path belongs to another file by now, as others have put it aside.
    """
    with FolderLock(os.path.dirname(path), exclusive=True):
        if identify(path) != damaged:
            return None
        number = 1
        while os.path.exists(aside := f"{path}.damaged-{number}"):
            number += 1
        # The database first: connections that close delete -wal only where they still find their database.
        for suffix in _FILES:
            with suppress(FileNotFoundError):
                os.rename(path + suffix, aside + suffix)
        return aside
