"""Signal handlers and destructors that use a file while their own thread is in the middle of an operation on it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import enough
from servers import HANG

import cacheorm as co

ROWS = {f"row {i}": b"outer" for i in range(40)}


class Between:
    """Runs something between two statements of an operation, as a signal handler or a destructor may.

    Attributes:
        at: before which statement, counted from 1; 0 for none.
        act: what to run.
        seen: how many statements there have been.
        acted: whether it has been run.
    """

    def __init__(self) -> None:
        self.at = 0
        self.act: Callable[[], object] = lambda: None
        self.seen = 0
        self.acted = self.busy = False

    def look(self) -> None:
        if self.busy:
            return
        self.seen += 1
        if self.seen == self.at:
            self.busy = self.acted = True
            self.act()
            self.busy = False


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    between = Between()
    real: Any = sqlite3.connect

    def connect(*args: Any, factory: Any = sqlite3.Connection, **options: Any) -> sqlite3.Connection:
        class Connection(factory):  # type: ignore[misc]
            def execute(self, *args: Any) -> Any:
                between.look()
                return super().execute(*args)

            def executemany(self, sql: str, rows: Any) -> Any:
                # Between two rows as well.
                return super().executemany(sql, (row for row in rows if between.look() is None))

        connection: sqlite3.Connection = real(*args, factory=Connection, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    return between


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[co.FileSystemBackend]:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        yield backend


def at_every_statement(
    between: Between, backend: co.FileSystemBackend, operate: Callable[[], Any], act: Callable[[], object]
) -> Iterator[Any]:
    """Run an operation again and again, with another one before each of its statements in turn."""
    at = 0
    between.act = act
    while True:
        between.at = 0
        backend.clear()
        backend.set_many({"a": b"1", "count": b"5"})
        at += 1
        between.at, between.seen, between.acted = at, 0, False
        result = operate()
        between.at = 0
        yield result
        if not between.acted:
            break
    assert at > 1


def test_a_write_in_the_middle_of_a_batch_is_kept_and_so_is_the_batch(
    between: Between, backend: co.FileSystemBackend
) -> None:
    def act() -> None:
        assert backend.set("nested", b"1") is True
        assert backend.set_many({"row 3": b"nested", "nested too": b"2"}) == {"row 3": True, "nested too": True}
        assert backend.get_many("nested", "row 3") == [b"1", b"nested"]

    for outcome in at_every_statement(between, backend, lambda: backend.set_many(ROWS), act):
        assert outcome == dict.fromkeys(ROWS, True)
        found = backend.get_many(*ROWS)
        assert set(found) <= {b"outer", b"nested"}
        assert found.count(b"nested") <= 1
        if between.acted:
            assert backend.get_many("nested", "nested too") == [b"1", b"2"]


def test_no_count_is_lost_to_one_that_interrupts_it(between: Between, backend: co.FileSystemBackend) -> None:
    nested: list[int] = []
    for count in at_every_statement(
        between, backend, lambda: backend.incr("count"), lambda: nested.append(backend.incr("count"))
    ):
        expected = [6, 7] if nested else [6]
        assert sorted([count, *nested]) == expected
        assert backend.get("count") == b"%d" % expected[-1]
        nested.clear()


def test_of_two_adders_in_one_thread_one_wins(between: Between, backend: co.FileSystemBackend) -> None:
    nested: list[bool] = []
    for outcome in at_every_statement(
        between, backend, lambda: backend.add_many({"new": 1, "a": 2}), lambda: nested.append(backend.add("new", 3))
    ):
        assert sum([*outcome.values(), *nested]) == 1
        nested.clear()


def test_an_interrupted_swap_sees_what_interrupted_it(between: Between, backend: co.FileSystemBackend) -> None:
    nested: list[bool] = []

    def act() -> None:
        nested.extend(backend.compare_and_set_many({"a": (b"nested", b"1")}).values())

    for outcome in at_every_statement(
        between, backend, lambda: backend.compare_and_set_many({"a": (b"outer", b"1")}), act
    ):
        assert [*outcome.values()].count(True) + nested.count(True) == 1
        assert backend.get("a") == (b"outer" if outcome["a"] else b"nested")
        nested.clear()


def test_deletes_and_reads_may_be_interrupted_by_writes(between: Between, backend: co.FileSystemBackend) -> None:
    def act() -> None:
        backend.set("nested", 1)

    for deleted in at_every_statement(between, backend, lambda: backend.delete_many("a", "count"), act):
        assert deleted is True
        assert backend.get_many("a", "count") == [None, None]
    for values in at_every_statement(between, backend, lambda: backend.get_many("a", "count", "b"), act):
        assert values == [b"1", b"5", None]
    for value in at_every_statement(between, backend, lambda: backend.get("a"), act):
        assert value == b"1"


def test_another_backend_on_the_same_file_may_interrupt_as_well(
    between: Between, backend: co.FileSystemBackend, tmp_path: Path
) -> None:
    link = tmp_path.parent / f"{tmp_path.name} link"
    link.symlink_to(tmp_path)
    with co.FileSystemBackend(link, operation_timeout=HANG) as other:
        for outcome in at_every_statement(
            between, backend, lambda: backend.set_many(ROWS), lambda: other.set("nested", 1)
        ):
            assert all(outcome.values())
            assert backend.get_many(*ROWS) == [*ROWS.values()]


def test_a_large_batch_gets_done_although_it_is_interrupted_all_the_time(
    between: Between, backend: co.FileSystemBackend
) -> None:
    def act() -> None:
        backend.incr("count")
        between.at = between.seen + 9

    between.act, between.at = act, 5
    assert all(backend.set_many(dict.fromkeys(map(str, range(300)), b"1")).values())
    between.at = 0
    assert backend.get_many(*map(str, range(300))) == [b"1"] * 300
    assert int(backend.get("count") or 0) > 3


def test_a_handler_that_interrupts_a_writer_that_waits_is_served(
    between: Between, backend: co.FileSystemBackend, tmp_path: Path
) -> None:
    """The writer waits for another process, and the handler reads; when that one has ended, both have written."""
    backend.set("a", 1)
    other = sqlite3.connect(tmp_path / "cache.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    read: list[object] = []
    begun: list[object] = []

    def handle(*_: object) -> None:
        if not begun:  # a second signal may come while the first one is handled
            begun.append(True)
            read.append(backend.get("a"))
            # The lock is free from here on, and the handler writes before the writer does.
            other.execute("ROLLBACK")
            read.append(backend.incr("count"))

    before = signal.signal(signal.SIGUSR1, handle)
    try:

        def send() -> None:
            while not read:
                if backend.pools()[0].waiting:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        thread = threading.Thread(target=send)
        thread.start()
        assert backend.incr("count") == 2
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        other.close()
    assert read == [b"1", 1]


DESTRUCTORS = """
import gc, sys
import cacheorm as co

backend = co.FileSystemBackend(sys.argv[1])

class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    class Meta:
        backend = backend

made = 0

class Thing:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        global made
        made += 1
        Row.create(id=-made, name="destroyed")

gc.set_threshold(20)
for batch in range(int(sys.argv[2])):
    Thing()
    Row.insert_many({"id": batch * 50 + i, "name": "x"} for i in range(50)).execute()
gc.collect()
gc.set_threshold(700)
total = int(sys.argv[2])
rows = Row.query_many({"id": i} for i in range(-total, 50 * total)).execute()
assert made == total, made
assert None not in rows
"""


@pytest.mark.no_cover
def test_destructors_may_write_rows_while_others_are_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DESTRUCTORS, str(tmp_path), str(enough(2000, 100))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, "")


HANDLERS = """
import signal, sys
import cacheorm as co

backend = co.FileSystemBackend(sys.argv[1])
handled = 0

def handle(*_):
    global handled
    handled += 1
    assert backend.set(f"handled {handled}", handled, 0)
    assert backend.get(f"handled {handled}") == b"%d" % handled
    backend.incr("count", ttl=0)
    signal.setitimer(signal.ITIMER_REAL, 0.002)

signal.signal(signal.SIGALRM, handle)
rows = {str(i): b"x" * 100 for i in range(200)}
signal.setitimer(signal.ITIMER_REAL, 0.002)
counted = 0
while handled < int(sys.argv[2]):
    backend.set_many(rows)
    assert backend.get_many(*rows) == [*rows.values()]
    backend.incr("count", ttl=0)
    counted += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
assert backend.get("count") == b"%d" % (counted + handled)
assert backend.get_many(*(f"handled {i}" for i in range(1, handled + 1))) == [b"%d" % i for i in range(1, handled + 1)]
"""


@pytest.mark.no_cover
def test_a_signal_handler_may_read_and_write_the_file_that_it_interrupts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANDLERS, str(tmp_path), str(enough(20_000, 500))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stderr) == (0, "")


LAST_WORDS = """
import sys
import cacheorm as co

backend = co.backend_from_url(sys.argv[1])

class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    class Meta:
        backend = backend

class Thing:
    def __init__(self):
        self.cycle = self
    def __del__(self):
        Row.create(id=2)
        Row.insert_many({"id": 3}, {"id": 4}).execute()
        assert Row.get(id=2).id == 2

Row.create(id=1)
thing = Thing()
"""


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_destructor_may_write_when_the_interpreter_ends(tmp_path: Path, kind: str) -> None:
    url = f"file://{tmp_path}" if kind == "file" else "memory://"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", LAST_WORDS, url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if kind == "file":
        with co.FileSystemBackend(tmp_path) as backend:
            assert None not in backend.get_many("m:row:id:1", "m:row:id:2", "m:row:id:3", "m:row:id:4")
