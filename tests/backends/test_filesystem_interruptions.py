"""Exceptions at any point of an operation: no lock stays held, no transaction open, and no entry is half written."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amounts import enough
from servers import HANG
from striking import strike_after, strike_at, struck_destructors_ignored

import cacheorm as co

pytestmark = pytest.mark.no_cover

KEYS = [f"key {i}" for i in range(12)]
OLD = dict.fromkeys(KEYS, b"old")
NEW = dict.fromkeys(KEYS, b"new")
COUNTS = {b"5", b"6", b"7", b"8"}

OPERATIONS: dict[str, Callable[[co.FileSystemBackend], object]] = {
    "get": lambda backend: backend.get(KEYS[0]),
    "get_many": lambda backend: backend.get_many(*KEYS),
    "set": lambda backend: backend.set(KEYS[0], b"new"),
    "add": lambda backend: backend.add("added", b"new"),
    "replace": lambda backend: backend.replace(KEYS[0], b"new"),
    "touch": lambda backend: backend.touch(KEYS[0], 60),
    "incr": lambda backend: backend.incr("count"),
    "set_many": lambda backend: backend.set_many(NEW),
    "add_many": lambda backend: backend.add_many({"added": b"new", KEYS[3]: b"new"}),
    "compare_and_set_many": lambda backend: backend.compare_and_set_many(dict.fromkeys(KEYS, (b"new", b"old"))),
    "delete_many": lambda backend: backend.delete_many(*KEYS[:6]),
    "stats": lambda backend: backend.stats(),
    "clear": lambda backend: backend.clear(everything=True),
    "open": lambda backend: (backend.close(), backend.get(KEYS[0])),
}

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
for line in sys.stdin:
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        print("written", flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
"""


class Checker:
    """Writes and reads as others do: another thread, and another process."""

    def __init__(self, folder: Path) -> None:
        self.backend = co.FileSystemBackend(folder, operation_timeout=HANG)
        self.others = co.FileSystemBackend(folder, busy_timeout=0)
        self.backend.set_many(OLD)
        self._asked: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._replied: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, folder / "cache.sqlite3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _work(self) -> None:
        while (call := self._asked.get()) is not None:
            try:
                self._replied.put(call())
            except BaseException as error:  # noqa: BLE001 - the test fails with it
                self._replied.put(error)

    def elsewhere(self, call: Callable[[], object]) -> object:
        """Call something in the other thread; return what it returned or raised."""
        self._asked.put(call)
        return self._replied.get(timeout=HANG)

    def begin(self) -> None:
        """Store what is there before each operation."""
        self.backend.set_many(OLD)
        self.backend.set("count", 5)
        self.backend.delete("added")

    def check(self, name: str) -> None:
        """Check what an operation has left behind."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "written\n"
        # At once, and through the same connections.
        assert self.elsewhere(lambda: self.others.set("probe", 1)) is True
        assert self.elsewhere(lambda: self.backend.set("probe", 2)) is True
        assert [state.in_use for state in self.backend.pools()] == [0]
        found = self.backend.get_many(*KEYS, "added", "count", "probe")
        assert self.others.get_many(*KEYS, "added", "count", "probe") == found
        *rows, added, count, probe = found
        allowed: set[Any] = {b"old", b"new"} | ({None} if name in ("clear", "delete_many") else set())
        assert set(rows) <= allowed
        if name in ("set_many", "compare_and_set_many", "clear"):
            assert len(set(rows)) == 1  # all of the batch, or none
        assert added in (None, b"new")
        assert count in (COUNTS if name != "clear" else {*COUNTS, None})
        assert probe == b"2"

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()
        self._process.communicate()
        self.backend.close()
        self.others.close()


@pytest.fixture
def checker(tmp_path: Path) -> Iterator[Checker]:
    checker = Checker(tmp_path)
    try:
        with struck_destructors_ignored():
            yield checker
    finally:
        checker.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exception_at_any_bytecode_leaves_nothing_behind(checker: Checker, name: str) -> None:
    def operate() -> None:
        OPERATIONS[name](checker.backend)

    chance = random.Random(name)
    checker.begin()
    bytecodes = 1
    while strike_at(operate, bytecodes):
        bytecodes *= 2
    # A long run begins with each of them in turn.
    wanted = enough(6000, 60, "interruptions of operations on a file at a bytecode")
    for number in range(1, wanted + 1):
        checker.begin()
        if strike_at(operate, number if bytecodes < wanted else chance.randrange(1, bytecodes)):
            checker.check(name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exception_of_a_signal_handler_leaves_nothing_behind(checker: Checker, name: str) -> None:
    def operate() -> None:
        for _ in range(3):
            OPERATIONS[name](checker.backend)

    chance = random.Random(name)
    wanted = enough(1200, 12, "interruptions of operations on a file by signals")
    struck = 0
    longest = 0.001
    while struck < wanted:
        checker.begin()
        if strike_after(operate, chance.random() * longest + 1e-6):
            struck += 1
            longest = max(longest * 0.95, 0.0001)
            checker.check(name)
        else:
            longest = longest * 0.9 if longest > 0.0002 else 0.001
