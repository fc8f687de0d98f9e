"""The fixtures that all parts of the suite share: a backend, and names for keys."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from ..backends import BaseBackend
from ._async_adapter import AsyncAdapter

__all__ = ["Name", "Suite", "about", "in_threads", "in_time"]

T = TypeVar("T")
Name = Callable[[str], str]


class Suite:
    """The part of :class:`~cacheorm.testing.BackendConformance` that a subclass overrides."""

    tells_lifetimes = True
    can_clear = True
    can_scan = True
    default_ttl: int | None = None
    ways: tuple[str, ...] = ("called", "awaited")
    """The kinds of methods to test. Without ``"awaited"``, those whose names begin with ``a`` are not tested."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test with every kind of methods."""
        if "store" in metafunc.fixturenames:
            metafunc.parametrize("store", self.ways, indirect=True)

    def make_backend(self) -> BaseBackend:
        """Return a backend. It may hold entries of earlier tests, since each test uses new keys."""
        raise NotImplementedError("override make_backend(), or the fixture `backend`")

    @pytest.fixture
    def backend(self) -> Iterator[BaseBackend]:
        """Yield the backend under test. Override it if making one needs other fixtures."""
        with self.make_backend() as backend:
            yield backend

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest, backend: BaseBackend) -> Iterator[Any]:
        """Yield the object that tests call: the backend, or an adapter that awaits its methods."""
        if request.param == "called":
            yield backend
            return
        awaited = AsyncAdapter(backend)
        yield awaited
        awaited.end()

    def expire(self) -> None:
        """Wait until entries with a lifetime of 1 second have expired. Override it if a clock can be set."""
        time.sleep(1.1)

    @pytest.fixture
    def name(self) -> Name:
        """Return a function that makes keys: valid for every backend, and different in each test."""
        prefix = uuid.uuid4().hex
        return lambda suffix: f"{prefix}:{suffix.replace(' ', '-')}"


# Seconds that no test takes, not even on a busy machine. Lifetimes that have to be distinguished differ by more.
_LONGEST_TEST = 250
# How often something is tried that has to be done within a second.
_TRIES = 20


def about(found: int | None, expected: int) -> bool:
    """Return whether a lifetime in seconds can be the rest of the expected one by now."""
    return found is not None and expected - _LONGEST_TEST <= found <= expected and (found > 0 or expected == 0)


def in_time(begin: Callable[[], object], finish: Callable[[], T]) -> T:
    """Call ``begin`` and ``finish`` until the result of ``finish`` is true; it has to follow within a second.

    On a busy machine that may take several tries. After the last one, its result is returned in any case.
    """
    for _ in range(_TRIES):
        begin()
        result = finish()
        if result:
            break
    return result


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(0)`` to ``work(count - 1)`` in threads; return their results in order, or raise the first error."""
    start = threading.Barrier(count)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(i: int) -> None:
        start.wait()
        try:
            results[i] = work(i)
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that tests
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[i] for i in range(count)]
