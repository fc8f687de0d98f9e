"""What all parts of the suite share: how a backend is made, what it can do, and names for keys."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from ..backends import BaseBackend
from ._awaited import Awaited

__all__ = ["Name", "Suite", "about", "in_threads", "in_time"]

T = TypeVar("T")
Name = Callable[[str], str]


class Suite:
    """The part of :class:`~cacheorm.testing.BackendConformance` that a subclass overrides."""

    tells_lifetimes = True
    can_clear = True
    default_ttl: int | None = None
    ways: tuple[str, ...] = ("called", "awaited")
    """How its methods are used. Without ``"awaited"``, those whose names begin with ``a`` are left out."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test in every way."""
        if "store" in metafunc.fixturenames:
            metafunc.parametrize("store", self.ways, indirect=True)

    def make_backend(self) -> BaseBackend:
        """Return a backend. What its store holds from earlier tests does no harm: keys are new in each."""
        raise NotImplementedError("override make_backend(), or the fixture `backend`")

    @pytest.fixture
    def backend(self) -> Iterator[BaseBackend]:
        """Give the backend under test. Override it where making one needs other fixtures."""
        with self.make_backend() as backend:
            yield backend

    @pytest.fixture
    def store(self, request: pytest.FixtureRequest, backend: BaseBackend) -> Iterator[Any]:
        """Give what the tests call: the backend, and one whose methods await its twins of them."""
        if request.param == "called":
            yield backend
            return
        awaited = Awaited(backend)
        yield awaited
        awaited.end()

    def expire(self) -> None:
        """Let entries that live for 1 second expire. Override it where a clock can be set."""
        time.sleep(1.1)

    @pytest.fixture
    def name(self) -> Name:
        """Make keys that no other test has, and that every backend takes."""
        prefix = uuid.uuid4().hex
        return lambda suffix: f"{prefix}:{suffix.replace(' ', '-')}"


# Seconds that no test takes, on a busy machine either. Lifetimes that have to be told apart differ by more.
_LONGEST_TEST = 250
# How often something is tried that has to be done within a second.
_TRIES = 20


def about(found: int | None, expected: int) -> bool:
    """Return whether a lifetime can be what is left of the expected one by now."""
    return found is not None and expected - _LONGEST_TEST <= found <= expected and (found > 0 or expected == 0)


def in_time(begin: Callable[[], object], finish: Callable[[], T]) -> T:
    """Return the result of ``finish`` as soon as it is true: it has to follow ``begin`` within a second.

    On a busy machine that may take several tries. Should it never succeed, the last result is returned.
    """
    for _ in range(_TRIES):
        begin()
        result = finish()
        if result:
            break
    return result


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """Run ``work(0)`` to ``work(count - 1)`` at once; give their results, or raise the first error."""
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
