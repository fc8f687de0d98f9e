"""A model on each backend, and a source of rows that counts what it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from clusters import wait_until
from flights import in_flight
from lifetimes import Clock

import cacheorm as co
from cacheorm import behind
from cacheorm.aging import Aging
from cacheorm.operations import read_through, single_flight


class Source:
    """Stands for a database: rows by primary key, and every batch that was asked for."""

    def __init__(self) -> None:
        self.rows: dict[Any, dict[str, Any]] = {number: {"name": f"user {number}"} for number in range(100)}
        self.asked: list[list[Any]] = []
        self._lock = threading.Lock()

    def __call__(self, pks: list[Any]) -> dict[Any, dict[str, Any]]:
        with self._lock:
            self.asked.append(list(pks))
        return {pk: self.rows[pk] for pk in pks if pk in self.rows}

    def one(self, pk: Any) -> dict[str, Any] | None:
        return self([pk]).get(pk)

    @property
    def asked_for(self) -> list[Any]:
        return [pk for batch in self.asked for pk in batch]


class Full(co.SimpleBackend):
    """Stores nothing, as a server without memory."""

    def add_many(self, mapping: Any, ttl: Any = None) -> Any:
        return co.types.Outcome(dict.fromkeys(mapping, False), dict.fromkeys(mapping, "out of memory"))

    def add(self, key: str, value: Any, ttl: Any = None) -> bool:
        raise co.BackendError("out of memory")


@pytest.fixture
def settled() -> Callable[[], None]:
    """Gives what waits until nothing goes on behind an answer, and no thread is left behind."""

    def wait() -> None:
        wait_until("nothing goes on behind an answer", behind.is_idle)
        wait_until(
            "no thread is left behind", lambda: all(one.name != "cacheorm-behind" for one in threading.enumerate())
        )

    return wait


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which rows grow old, in seconds, which stands still until a test sets it."""
    clock = Clock()
    monkeypatch.setattr(Aging, "now", lambda aging: int(1000 * clock()))
    return clock


@pytest.fixture(autouse=True)
def nothing_stays_in_flight() -> Iterator[None]:
    yield
    wait_until("nothing goes on behind an answer", behind.is_idle)
    assert in_flight() == 0
    assert single_flight._running == {}


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which an operation waits for the lease of another process."""

    def wait(seconds: float) -> Any:
        raise AssertionError("it waits for a lease")

    monkeypatch.setattr(read_through, "Sleep", wait)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def memory() -> co.SimpleBackend:
    """An in-memory backend, for what does not depend on the backend."""
    return co.SimpleBackend()


@pytest.fixture
def full() -> Full:
    return Full()


@pytest.fixture
def user(backend: co.BaseBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        class Meta:
            ttl = 1000

    co.bind([User], backend=backend)
    return User


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """Gives what runs ``work`` in threads that start at the same moment, and gives their results or errors."""

    def run(work: Callable[[int], Any], threads: int = 8) -> list[Any]:
        start = threading.Barrier(threads)
        results: list[Any] = [None] * threads

        def one(number: int) -> None:
            start.wait()
            try:
                results[number] = work(number)
            except BaseException as error:  # noqa: BLE001 - part of the result
                results[number] = error

        running = [threading.Thread(target=one, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return results

    return run


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one with each caller, thread or task, that begins to wait for the load of another."""
    waiting: list[Any] = []

    def note(method: Any) -> Any:
        def noted(load: Any, *args: Any) -> Any:
            waiting.append(threading.get_ident())
            return method(load, *args)

        return noted

    monkeypatch.setattr(single_flight.SharedLoad, "wait", note(single_flight.SharedLoad.wait))
    return waiting


@pytest.fixture
def ids() -> Callable[[Iterable[int]], list[dict[str, int]]]:
    return lambda numbers: [{"id": number} for number in numbers]
