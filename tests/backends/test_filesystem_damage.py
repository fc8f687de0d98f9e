"""Files that are damaged, removed or replaced, and those that have grown: the cache goes on."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import HANG

import cacheorm as co
from cacheorm.backends._file import folder
from cacheorm.testing._suite import in_threads

FILE = "cache.sqlite3"
ROWS = {str(i): b"x" * 100 for i in range(5000)}


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[co.FileSystemBackend]:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        yield backend


def names(path: Path) -> set[str]:
    return {each.name for each in path.iterdir()}


def damage(path: Path) -> None:
    """Overwrite all but the first page of the file, where SQLite looks whether it is one of its own."""
    file = path / FILE
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(file.stat().st_size - 4096))


CALLS: dict[str, Callable[[co.BaseBackend], object]] = {
    "get_many": lambda backend: backend.get_many(*ROWS) == [None] * len(ROWS),
    "set_many": lambda backend: all(backend.set_many(ROWS).values()),
    "incr": lambda backend: backend.incr("count") == 1,
    "delete_many": lambda backend: backend.delete_many(*ROWS) is False,
    "stats": lambda backend: backend.stats()["entries"] == 0,
    "clear": lambda backend: backend.clear() is None,  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", ["no database", "damaged"])
def test_a_damaged_file_is_put_aside_and_made_anew(
    backend: co.FileSystemBackend,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    call: Callable[[co.BaseBackend], object],
) -> None:
    backend.set_many(ROWS)
    backend.close()
    if kind == "damaged":
        damage(tmp_path)
    else:
        (tmp_path / FILE).write_bytes(b"no database" * 1000)
    before = (tmp_path / FILE).read_bytes()
    assert call(backend)
    assert backend.set("a", 1) is True
    assert backend.get("a") == b"1"
    if call is CALLS["clear"] and kind == "damaged":
        return  # it did not read what is damaged
    assert (tmp_path / f"{FILE}.damaged-1").read_bytes() == before
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("cacheorm", logging.WARNING)
    assert f"{FILE}.damaged-1 now, and the cache begins anew" in record.getMessage()


def test_a_file_that_is_damaged_while_it_is_open_is_put_aside(backend: co.FileSystemBackend, tmp_path: Path) -> None:
    backend.set_many(ROWS)
    backend.close()
    backend.ping()
    damage(tmp_path)
    assert backend.get_many(*ROWS) == [None] * len(ROWS)
    assert all(backend.set_many(ROWS).values())
    assert backend.get_many(*ROWS) == [*ROWS.values()]


def test_damaged_files_are_numbered(backend: co.FileSystemBackend, tmp_path: Path) -> None:
    for number in range(1, 4):
        (tmp_path / FILE).write_bytes(b"number %d" % number * 1000)
        backend.ping()
        backend.close()
        assert (tmp_path / f"{FILE}.damaged-{number}").read_bytes().startswith(b"number %d" % number)


def test_a_file_that_stays_damaged_is_an_error(
    backend: co.FileSystemBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cacheorm.backends._file import database

    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    monkeypatch.setattr(database, "put_aside", lambda *_: None)
    with pytest.raises(co.BackendError, match="not a database"):
        backend.get("a")


def test_threads_that_find_a_damaged_file_put_it_aside_once(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    backends = [co.FileSystemBackend(tmp_path, operation_timeout=HANG) for _ in range(3)]
    in_threads(12, lambda i: [backends[i % 3].incr("count", ttl=0) for _ in range(20)])
    assert backends[0].get("count") == b"240"
    for each in backends:
        each.close()
    assert names(tmp_path) == {FILE, f"{FILE}.damaged-1"}


COUNT = """
import sys
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for i in range(100):
    backend.incr("count", ttl=0)
"""


def test_processes_that_find_a_damaged_file_put_it_aside_once(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    for program in programs:
        program.communicate()
    assert [program.returncode for program in programs] == [0] * 4
    with co.FileSystemBackend(tmp_path) as backend:
        assert backend.get("count") == b"400"
    assert names(tmp_path) == {FILE, f"{FILE}.damaged-1"}


def test_processes_whose_file_is_damaged_while_they_use_it_go_on(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        backend.set_many(ROWS)
        programs = [subprocess.Popen([sys.executable, "-c", WORK, tmp_path], stdout=subprocess.PIPE) for _ in range(2)]
        for program in programs:
            assert program.stdout is not None
            program.stdout.readline()
        damage(tmp_path)
        for program in programs:
            program.communicate()
        assert [program.returncode for program in programs] == [0] * 2
        assert all(backend.set_many(ROWS).values())
        assert backend.get_many(*ROWS) == [*ROWS.values()]


WORK = """
import sys
from cacheorm.backends import FileSystemBackend
backend = FileSystemBackend(sys.argv[1])
rows = {str(i): b"x" * 100 for i in range(5000)}
for i in range(40):
    assert all(backend.set_many(rows).values())
    assert set(backend.get_many(*rows)) <= {None, b"x" * 100}
    print(i, flush=True)
"""


# -- removed and replaced -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal"], ["", "-wal", "-shm"], None], ids=str)
def test_a_file_that_was_removed_is_made_anew(
    backend: co.FileSystemBackend, tmp_path: Path, suffixes: list[str] | None
) -> None:
    other = co.FileSystemBackend(tmp_path, operation_timeout=HANG)
    backend.set_many(ROWS)
    assert other.get("1") == ROWS["1"]
    for path in [*tmp_path.iterdir()]:
        if suffixes is None or path.name.removeprefix(FILE) in suffixes:
            path.unlink()
    if suffixes is None:
        tmp_path.rmdir()
    assert backend.get_many("1", "2") == [None, None]
    assert backend.set("a", 1, 0) is True
    # The other connection is to a file that has no name any more.
    assert other.get_many("a", "1") == [b"1", None]
    assert other.incr("a") == 2
    assert backend.get("a") == b"2"
    other.close()
    backend.close()
    assert names(tmp_path) == {FILE}
    assert backend.get("a") == b"2"


def test_a_file_that_was_replaced_is_opened(backend: co.FileSystemBackend, tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path / "another") as another:
        another.set("a", "another", 0)
    backend.set("a", "old", 0)
    backend.close()
    backend.ping()
    os.replace(tmp_path / "another" / FILE, tmp_path / FILE)
    assert backend.get("a") == b"another"
    assert backend.set("a", "new") is True
    with co.FileSystemBackend(tmp_path) as fresh:
        assert fresh.get("a") == b"new"


def test_a_file_can_be_made_where_nodes_cannot(
    backend: co.FileSystemBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS only root can make one, and Windows has none."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "mknod", refuse)
    assert backend.set("a", 1) is True
    backend.close()
    assert names(tmp_path) == {FILE}
    folder._create_empty(str(tmp_path / FILE))
    assert names(tmp_path) == {FILE}
    assert backend.get("a") == b"1"


def test_the_folder_is_locked_by_one_alone_or_by_several(tmp_path: Path) -> None:
    shared = [folder.FolderLock(str(tmp_path), exclusive=False) for _ in range(2)]
    errors: list[BaseException] = []

    def lock() -> None:
        try:
            folder.FolderLock(str(tmp_path), exclusive=True).release()
        except sqlite3.OperationalError as error:
            errors.append(error)

    def lock_elsewhere() -> None:
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()

    lock_elsewhere()
    assert [str(error) for error in errors] == ["database is locked"]
    lock()
    assert "that this one interrupted" in str(errors[1])
    shared.pop().release()
    del shared  # one that goes is released as well
    lock_elsewhere()
    assert len(errors) == 2


# -- size -----------------------------------------------------------------------------------------------


def test_the_log_shrinks_after_a_large_write(backend: co.FileSystemBackend, tmp_path: Path) -> None:
    log = tmp_path / f"{FILE}-wal"
    backend.set_many({str(i): b"x" * 50_000 for i in range(1000)})
    assert log.stat().st_size > 40_000_000
    backend.set("a", 1)
    backend.set("a", 2)
    assert log.stat().st_size <= 16 * 2**20
