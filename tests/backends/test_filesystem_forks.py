"""Forks while a file is in use: at once, and parent and child are both right."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import enough
from children import fork, fork_and_check
from servers import HANG

import cacheorm as co
from cacheorm.backends._file import connections

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[co.FileSystemBackend]:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        backend.set("a", 1, 0)
        yield backend


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits for other threads until they have ended: it must not have to."""
    monkeypatch.setattr(connections, "_FORK_TIMEOUT", HANG)


def test_a_thread_that_waits_for_another_process_holds_no_fork_up(
    backend: co.FileSystemBackend, tmp_path: Path, patient: None
) -> None:
    other = sqlite3.connect(tmp_path / "cache.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=lambda: backend.set("b", 2))
    writer.start()
    while not backend.pools()[0].waiting:
        time.sleep(0.001)
    wait = fork_and_check(lambda: backend.get("a") == b"1")
    wait()
    assert backend.pools()[0].waiting == 1
    other.execute("ROLLBACK")
    other.close()
    writer.join()
    assert backend.get_many("a", "b") == [b"1", b"2"]


def test_a_long_statement_of_another_thread_is_interrupted_and_repeated(
    backend: co.FileSystemBackend, patient: None
) -> None:
    """Its connection would be one that the child inherits."""
    began = threading.Event()

    def count_for_ever(connection: sqlite3.Connection) -> int:
        if began.is_set():
            return 7
        began.set()
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        connection.execute(endless).fetchone()
        raise AssertionError("it ended")

    results: list[int] = []
    reader = threading.Thread(target=lambda: results.append(backend._run(count_for_ever)))
    reader.start()
    assert began.wait(HANG)
    fork_and_check(lambda: backend.incr("count", ttl=0) == 1)()
    reader.join()
    assert results == [7]
    assert backend.get("count") == b"1"


def test_counts_of_parent_and_children_are_all_kept(backend: co.FileSystemBackend, patient: None) -> None:
    done = threading.Event()
    written = [0, 0]

    def work(number: int) -> None:
        while not done.is_set():
            backend.incr("count", ttl=0)
            assert all(backend.set_many({f"{number}:{i}": b"x" * 200 for i in range(300)}).values())
            assert None not in backend.get_many(*(f"{number}:{i}" for i in range(300)))
            written[number] += 1

    def count_often() -> bool:
        for _ in range(20):
            backend.incr("count", ttl=0)
        return backend.get("a") == b"1"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    forks = enough(200, 10, "forks while other threads write to a file")
    try:
        for _ in range(forks // 2):
            waits = [fork_and_check(count_often) for _ in range(2)]
            for wait in waits:
                wait()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert backend.get("count") == b"%d" % (sum(written) + 20 * (forks // 2) * 2)
    with sqlite3.connect(Path(backend.path, "cache.sqlite3")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_child_refuses_a_file_that_another_thread_was_using(
    backend: co.FileSystemBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would take the locks of the parent for those of the child. So it says so at once, and does not wait."""
    monkeypatch.setattr(connections, "_FORK_TIMEOUT", 0.05)
    entered, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM entries")
        entered.set()
        assert go_on.wait(HANG)
        connection.execute("ROLLBACK")

    def is_refused() -> bool:
        for call in (lambda: backend.get("a"), lambda: backend.set("a", 2), lambda: backend.incr("a")):
            with pytest.raises(co.BackendError, match="forked while another thread of its parent"):
                call()
        with co.FileSystemBackend(tmp_path / "another") as another:
            assert another.set("a", 1) is True
        return backend.pools()[0].in_use == 0

    writer = threading.Thread(target=lambda: backend._run(hold, writes=True))
    writer.start()
    assert entered.wait(HANG)
    try:
        fork_and_check(is_refused)()
    finally:
        go_on.set()
        writer.join()
    assert backend.incr("a") == 2


def test_a_child_forked_in_a_handler_amid_an_operation_refuses_the_rest_of_it(
    backend: co.FileSystemBackend, tmp_path: Path
) -> None:
    children: list[int] = []

    def handle(*_: object) -> None:
        children.append(fork())

    def interrupted(connection: sqlite3.Connection) -> int:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE entries SET expires = 0")
        if not children:
            signal.raise_signal(signal.SIGUSR1)
        connection.execute("ROLLBACK")
        return len(children)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        try:
            assert backend._run(interrupted, writes=True) == 1
        except co.BackendError as error:
            if children == [0]:
                os._exit(0 if "forked while" in str(error) else 1)
            raise
        if children == [0]:
            os._exit(2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert backend.incr("a") == 2


def test_operations_go_on_if_a_fork_never_ends(backend: co.FileSystemBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception may come before the thread that forks says so."""
    monkeypatch.setattr(connections._Fork, "end", time.monotonic() + 0.05)
    monkeypatch.setattr(connections._Fork, "thread", -1)
    assert backend.get("a") == b"1"


def test_an_operation_that_begins_while_another_thread_forks_waits_for_it(
    backend: co.FileSystemBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.ping()
    real = connections.identify
    interrupted: list[Any] = []

    def fork_amid(path: str) -> Any:
        if not interrupted:
            # Another thread begins to fork when a connection has been taken, and not been counted as in use.
            interrupted.append(None)
            thread = threading.Thread(target=lambda: interrupted.append(fork_and_check(lambda: True)))
            thread.start()
            while not connections._Fork.end and thread.is_alive():
                time.sleep(0.001)
        return real(path)

    monkeypatch.setattr(connections, "identify", fork_amid)
    assert backend.get("a") == b"1"
    while len(interrupted) < 2:
        time.sleep(0.001)
    check: Callable[[], None] = interrupted[1]
    check()
