from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from math import inf, nan
from typing import Any

import pytest
from injecting import Injected, doing_at, fail
from lifetimes import Clock

import cacheorm as co
from cacheorm import deadlines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadlines, "monotonic", clock)
    return clock


def test_without_a_deadline_the_timeout_alone_counts(clock: Clock) -> None:
    assert deadlines.until(None) == inf
    assert deadlines.until(3) == clock.now + 3
    assert deadlines.until(0) == clock.now


def test_the_tighter_of_deadline_and_timeout_counts(clock: Clock) -> None:
    with co.deadline(5):
        assert deadlines.until(None) == clock.now + 5
        assert deadlines.until(9) == clock.now + 5
        clock.now += 2
        assert deadlines.until(2) == clock.now + 2
        assert deadlines.until(9) == clock.now + 3
    assert deadlines.until(None) == inf


@pytest.mark.parametrize("inner", [1, 8])
def test_the_tighter_of_nested_deadlines_counts(clock: Clock, inner: int) -> None:
    with co.deadline(4):
        with co.deadline(inner):
            assert deadlines.until(None) == clock.now + min(inner, 4)
        assert deadlines.until(None) == clock.now + 4
    assert deadlines.until(None) == inf


def test_a_deadline_counts_from_the_beginning_of_its_block(clock: Clock) -> None:
    bound = co.deadline(5)
    clock.now += 100
    with bound:
        assert deadlines.until(None) == clock.now + 5


def test_what_remains_is_never_negative(clock: Clock) -> None:
    end = deadlines.until(2)
    assert deadlines.remaining(end) == 2
    clock.now += 1.5
    assert deadlines.remaining(end) == 0.5
    clock.now += 100
    assert deadlines.remaining(end) == 0
    assert deadlines.remaining(inf) == inf


@pytest.mark.parametrize("seconds", [-1, -0.5, inf, -inf, nan, 10**400])
def test_a_number_that_is_no_time_span_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="deadline must be a finite number of seconds, at least 0"):
        co.deadline(seconds)


@pytest.mark.parametrize("seconds", [None, "1", True, [1]])
def test_what_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match=f"deadline must be a number of seconds, got {type(seconds).__name__}"):
        co.deadline(seconds)


def test_an_exception_ends_the_deadline_with_its_block(clock: Clock) -> None:
    with pytest.raises(KeyError), co.deadline(1):
        raise KeyError
    assert deadlines.until(None) == inf


def test_a_deadline_is_for_one_block() -> None:
    bound = co.deadline(1)
    with bound:
        pass
    with pytest.raises(RuntimeError, match="call deadline\\(\\) for each block"), bound:
        pass
    assert deadlines.until(None) == inf


def test_an_exit_without_an_entry_changes_nothing(clock: Clock) -> None:
    with co.deadline(1):
        co.deadline(2).__exit__(None, None, None)
        assert deadlines.until(None) == clock.now + 1


def test_other_threads_are_not_bounded() -> None:
    found: list[float] = []
    with co.deadline(1):
        thread = threading.Thread(target=lambda: found.append(deadlines.until(None)))
        thread.start()
        thread.join()
    assert found == [inf]


def test_tasks_and_their_threads_are_bounded_also_after_the_block(clock: Clock) -> None:
    async def look(ended: asyncio.Event) -> list[float]:
        await ended.wait()
        return [deadlines.until(None), await asyncio.to_thread(deadlines.until, None)]

    async def main() -> list[float]:
        ended = asyncio.Event()
        bound = co.deadline(7)
        with bound:
            task = asyncio.create_task(look(ended))
            await asyncio.sleep(0)
        assert deadlines.until(None) == inf
        del bound
        ended.set()
        return await task

    assert asyncio.run(main()) == [clock.now + 7] * 2


def test_a_block_that_ends_in_another_context_leaves_that_one_alone(clock: Clock) -> None:
    async def numbers() -> AsyncIterator[int]:
        with co.deadline(1):
            yield 1

    async def main() -> None:
        source = numbers()
        with co.deadline(5):
            await asyncio.create_task(source.__anext__())  # type: ignore[arg-type]
            # Closed here, begun in a task with another context.
            await source.aclose()  # type: ignore[attr-defined]
            assert deadlines.until(None) == clock.now + 5
        assert deadlines.until(None) == inf

    asyncio.run(main())


def test_an_exception_at_any_bytecode_leaves_no_deadline_in_force() -> None:
    """As signal handlers raise them."""

    def block() -> None:
        with co.deadline(100), co.deadline(50):
            deadlines.until(3)

    def strike(at: int) -> bool:
        """Run the block, and raise an exception at one bytecode; return whether there were so many."""
        with doing_at(at, fail, __file__) as was_raised, suppress(Injected):
            block()
        return was_raised()

    at = 1
    while strike(at):
        assert deadlines.until(None) == inf, at
        at += 1
    assert at > 100
