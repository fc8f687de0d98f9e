"""Exceptions at any point of an operation in memory: the lock is free, and no entry is half written."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterator

import pytest
from amounts import enough
from servers import HANG
from striking import strike_after, strike_at, struck_destructors_ignored

import cacheorm as co

pytestmark = pytest.mark.no_cover

KEYS = [f"key {i}" for i in range(12)]
OLD = dict.fromkeys(KEYS, b"old")
NEW = dict.fromkeys(KEYS, b"new")

# How often an operation is carried out before a signal has to have struck. It may strike after the last time, too.
TIMES = 10

OPERATIONS: dict[str, Callable[[co.SimpleBackend], object]] = {
    "get": lambda backend: backend.get(KEYS[0]),
    "get_many": lambda backend: backend.get_many(*KEYS),
    "set": lambda backend: backend.set(KEYS[0], b"new", 60),
    "add": lambda backend: backend.add("added", b"new"),
    "replace": lambda backend: backend.replace(KEYS[0], "new"),
    "touch": lambda backend: backend.touch(KEYS[0], 60),
    "incr": lambda backend: backend.incr("count"),
    "set_many": lambda backend: backend.set_many(NEW),
    "add_many": lambda backend: backend.add_many({"added": b"new", KEYS[3]: b"new"}),
    "compare_and_set_many": lambda backend: backend.compare_and_set_many(dict.fromkeys(KEYS, (b"new", b"old"))),
    "delete_many": lambda backend: backend.delete_many(*KEYS[:6]),
    "stats": lambda backend: backend.stats(),
    "clear": lambda backend: backend.clear(),
}


class Checker:
    """Reads and writes as other threads do."""

    def __init__(self) -> None:
        self.backend = co.SimpleBackend(threshold=100, max_bytes=1000)
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._replied: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while self._asked.get():
            try:
                self._replied.put(self.backend.set("probe", 1))
            except BaseException as error:  # noqa: BLE001 - the test fails with it
                self._replied.put(error)

    def begin(self) -> None:
        """Store what is there before each operation."""
        self.backend.set_many(OLD)
        self.backend.set("count", 5)
        self.backend.delete("added")

    def check(self, name: str) -> None:
        """Check what an operation has left behind."""
        self._asked.put(True)
        assert self._replied.get(timeout=HANG) is True
        *rows, added, count = self.backend.get_many(*KEYS, "added", "count")
        gone = {None} if name in ("clear", "delete_many") else set()
        assert set(rows) <= {b"old", b"new", *gone}
        assert added in (None, b"new")
        assert count in {*(b"%d" % i for i in range(5, 5 + TIMES + 1)), *gone}
        # It knows at least the size of what it holds, and goes on evicting.
        names = [*KEYS, "added", "count", "probe", *(f"filler {number}" for number in range(120))]
        held = self.backend.get_dict(*names)
        size = sum(len(key) + len(value) for key, value in held.items() if value is not None)
        assert self.backend.stats()["bytes"] >= size
        for number in range(120):
            assert self.backend.set(f"filler {number}", b"x" * 20) is True
        assert self.backend.stats()["bytes"] <= 1000

    def close(self) -> None:
        self._asked.put(False)
        self._thread.join()


@pytest.fixture
def checker() -> Iterator[Checker]:
    checker = Checker()
    try:
        with struck_destructors_ignored():
            yield checker
    finally:
        checker.close()


@pytest.mark.skipif(
    not co.speedups_enabled,
    reason="between two bytecodes of `with lock:` tracing can raise an exception, but no signal handler can",
)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exception_at_any_bytecode_leaves_nothing_behind(checker: Checker, name: str) -> None:
    bytecode = 1
    checker.begin()
    while strike_at(lambda: OPERATIONS[name](checker.backend), bytecode):
        checker.check(name)
        checker.begin()
        bytecode += 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_exception_of_a_signal_handler_leaves_nothing_behind(checker: Checker, name: str) -> None:
    def operate() -> None:
        for _ in range(TIMES):
            OPERATIONS[name](checker.backend)

    chance = random.Random(name)
    wanted = enough(1000, 20, "interruptions of operations in memory by signals")
    struck, longest = 0, 0.0002
    while struck < wanted:
        checker.begin()
        if strike_after(operate, chance.random() * longest + 1e-6):
            struck += 1
            checker.check(name)
        else:
            longest = longest * 0.9 if longest > 0.00002 else 0.0002
