"""How long operations on a file may take: one deadline bounds all that one of them waits for."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from injecting import on_alarm
from lifetimes import Clock
from servers import HANG

import cacheorm as co
from cacheorm import deadlines
from cacheorm.backends._file import database, writers
from cacheorm.testing._suite import in_threads


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A writer that has the lock, as another process has it."""
    with co.FileSystemBackend(tmp_path) as backend:
        backend.set("a", 1)
    other = sqlite3.connect(tmp_path / "cache.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


class Waits:
    """Stands for the waiting of writers: time passes in it, and only in it.

    Attributes:
        clock: the time.
        together: if given, threads begin to wait together.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.together: threading.Barrier | None = None
        self._begun: set[int] = set()
        monkeypatch.setattr(deadlines, "monotonic", self.clock)
        monkeypatch.setattr(database, "monotonic", self.clock)
        waits = self

        class Event:
            """In place of the lock by which a writer is woken; nobody wakes it."""

            def acquire(self, timeout: float = 0) -> None:
                if waits.together is not None and threading.get_ident() not in waits._begun:
                    waits._begun.add(threading.get_ident())
                    waits.together.wait(HANG)
                waits.clock.now += timeout

            def release(self) -> None:
                pass

        monkeypatch.setattr(writers, "Lock", Event)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


WRITES: dict[str, Callable[[co.BaseBackend], object]] = {
    "set": lambda backend: backend.set("a", 2),
    "incr": lambda backend: backend.incr("a"),
    "set_many": lambda backend: backend.set_many({"a": 2}),
    "delete_many": lambda backend: backend.delete_many("a"),
    "clear": lambda backend: backend.clear(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_waits_for_exactly_its_timeout(
    tmp_path: Path, locked: sqlite3.Connection, waits: Waits, write: Callable[[co.BaseBackend], object]
) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=3) as backend:
        begin = waits.clock.now
        with pytest.raises(co.BackendError, match="database is locked, for all of the 3 s") as caught:
            write(backend)
        assert waits.clock.now == pytest.approx(begin + 3)
        assert caught.value.maybe_applied is False


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 30),
        ({"busy_timeout": 2}, 2),
        ({"busy_timeout": 2, "operation_timeout": 5}, 2),
        ({"busy_timeout": 5, "operation_timeout": 2}, 2),
    ],
)
def test_the_tighter_of_both_timeouts_counts(
    tmp_path: Path, locked: sqlite3.Connection, waits: Waits, options: dict[str, float], limit: float
) -> None:
    with co.FileSystemBackend(tmp_path, **options) as backend:
        begin = waits.clock.now
        with pytest.raises(co.BackendError, match="locked"):
            backend.set("a", 2)
        assert waits.clock.now == pytest.approx(begin + limit)
        assert backend.operation_timeout == options.get("operation_timeout", options.get("busy_timeout", 30))


def test_a_deadline_around_several_operations_bounds_them_together(
    tmp_path: Path, locked: sqlite3.Connection, waits: Waits
) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=3) as backend:
        begin = waits.clock.now
        with co.deadline(4):
            for _ in range(2):
                with pytest.raises(co.BackendError, match="locked"):
                    backend.set("a", 2)
            assert waits.clock.now == pytest.approx(begin + 4)
            with pytest.raises(co.BackendError, match="the deadline has passed"):
                backend.get("a")
        assert backend.get("a") == b"1"


def test_without_a_timeout_a_write_tries_once(tmp_path: Path, locked: sqlite3.Connection) -> None:
    with co.FileSystemBackend(tmp_path, busy_timeout=0) as backend:
        with pytest.raises(co.BackendError, match="locked"):
            backend.set("a", 2)
        locked.execute("ROLLBACK")
        assert backend.set("a", 2) is True


def test_the_threads_of_a_process_wait_at_the_same_time(
    tmp_path: Path, locked: sqlite3.Connection, waits: Waits
) -> None:
    """They used to wait one after another: each for the lock of the process, and then for SQLite's."""
    waits.together = threading.Barrier(8)

    def write(number: int) -> None:
        with pytest.raises(co.BackendError, match="locked"):
            backend.set("a", number)

    with co.FileSystemBackend(tmp_path, operation_timeout=1) as backend:
        begin = waits.clock.now
        in_threads(8, write)
        # Each may have gone on for one pause after the others.
        assert waits.clock.now <= begin + 1 + 8 * 0.05
        assert backend.pools()[0].waiting == 0


def test_writers_that_wait_all_get_their_turn(tmp_path: Path, locked: sqlite3.Connection) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        counts: list[int] = []
        threads = [threading.Thread(target=lambda: counts.append(backend.incr("count"))) for _ in range(5)]
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while backend.pools()[0].waiting < number:
                time.sleep(0.001)
        locked.execute("ROLLBACK")
        for thread in threads:
            thread.join()
        assert backend.pools()[0].waiting == 0
        assert sorted(counts) == [1, 2, 3, 4, 5]


def test_who_came_first_is_woken_first_and_who_is_gone_not_at_all() -> None:
    queue = writers.Writers()
    first, second, third = (queue.join() for _ in range(3))
    queue.wake()
    queue.wake()
    assert [ticket.woken.locked() for ticket in (first, second, third)] == [False, True, True]
    queue.leave(first)
    assert [ticket.woken.locked() for ticket in (second, third)] == [False, True]
    del second
    queue.wake()
    assert not third.woken.locked()
    assert len(queue) == 1
    queue.leave(third)
    queue.leave(third)
    queue.wake()
    assert not queue


def test_signals_that_arrive_all_the_time_do_not_prolong_a_wait(tmp_path: Path, locked: sqlite3.Connection) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=0.2) as backend, on_alarm(lambda *_: None):
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with pytest.raises(co.BackendError, match="locked"):
            backend.set("a", 2)


def test_a_batch_of_several_transactions_ends_between_two_of_them(tmp_path: Path, waits: Waits) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=5) as backend:
        backend.ping()
        real = backend._transact

        def transact(*args: Any, **options: Any) -> Any:
            waits.clock.now += 2
            return real(*args, **options)

        backend._transact = transact  # type: ignore[method-assign]
        with pytest.raises(co.BackendError, match="out of time after 30000 of 45000 keys") as caught:
            backend.set_many({str(i): b"x" for i in range(45_000)})
        assert caught.value.maybe_applied is True
        assert backend.get_many("0", "29999", "30000") == [b"x", b"x", None]


def test_a_statement_over_the_whole_file_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        backend.set_many({str(i): b"x" * 10 for i in range(50_000)})
        # Time is over as soon as SQLite asks.
        monkeypatch.setattr(database, "remaining", lambda end: 0.0)
        with pytest.raises(co.BackendError, match="interrupted, for all of the"):
            backend.stats()
        monkeypatch.undo()
        assert backend.stats()["entries"] == 50_000


def test_awaited_operations_are_bounded_as_well(tmp_path: Path, locked: sqlite3.Connection, waits: Waits) -> None:
    async def main() -> None:
        with co.deadline(2):
            with pytest.raises(co.BackendError, match="locked"):
                await backend.aset("a", 2)
            assert waits.clock.now == pytest.approx(begin + 2)

    with co.FileSystemBackend(tmp_path, operation_timeout=3) as backend:
        begin = waits.clock.now
        asyncio.run(main())


@pytest.mark.parametrize("option", ["busy_timeout", "operation_timeout"])
def test_timeouts_are_checked(tmp_path: Path, option: str) -> None:
    for seconds in (-1, inf):
        with pytest.raises(ValueError, match=f"{option} must be a finite number"):
            co.FileSystemBackend(tmp_path, **{option: seconds})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"{option} must be a number of seconds, got str"):
        co.FileSystemBackend(tmp_path, **{option: "1"})  # type: ignore[arg-type]


def test_the_timeout_is_an_option_of_the_url(tmp_path: Path) -> None:
    backend = co.backend_from_url(f"file://{tmp_path}?operation_timeout=1.5&busy_timeout=3")
    assert isinstance(backend, co.FileSystemBackend)
    assert backend.operation_timeout == 1.5
