"""The driver of operations: replies in, errors in, chunks as they come."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest

import cacheorm as co
from cacheorm.requests import Call, CallFunction, Fetch, Sleep, WaitFor
from cacheorm.sync_driver import run


class Chunked(co.SimpleBackend):
    """Gives chunks of two, and records what happens when."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        try:
            for start in range(0, len(keys), 2):
                self.log.append(f"read {start}")
                yield [key.encode() for key in keys[start : start + 2]]
        finally:
            self.log.append("closed")


Steps = Generator[Any, Any, Any]


def test_an_operation_without_requests_just_returns() -> None:
    def steps() -> Steps:
        return 5
        yield

    assert run(steps()) == 5


def test_replies_are_sent_to_the_operation(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        stored = yield Call(memory, "set", ("a", b"1", 60))
        value = yield Call(memory, "get", ("a",))
        return stored, value

    assert run(steps()) == (True, b"1")


def test_parts_are_decoded_as_they_arrive_and_the_reply_is_all_that_was_decoded() -> None:
    log: list[str] = []

    def decode(values: list[bytes | None], start: int) -> list[Any]:
        log.append(f"decode {start}")
        return [(start, value) for value in values]

    def steps() -> Steps:
        return (yield Fetch(Chunked(log), ["a", "b", "c", "d", "e"], decode))

    assert run(steps()) == [(0, b"a"), (0, b"b"), (2, b"c"), (2, b"d"), (4, b"e")]
    assert log == ["read 0", "decode 0", "read 2", "decode 2", "read 4", "decode 4", "closed"]


def test_reading_no_keys_gives_an_empty_list(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        return (yield Fetch(memory, [], lambda values, start: values))

    assert run(steps()) == []


@pytest.mark.parametrize(("given", "counted"), [(["a", "b"], 2), (["a", "b", "c", "d"], 4)])
def test_more_or_fewer_values_than_keys_are_an_error(given: list[str], counted: int) -> None:
    class Miscounting(Chunked):
        def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
            return super().get_chunks(given)

    def steps() -> Steps:
        yield Fetch(Miscounting([]), ["a", "b", "c"], lambda values, start: values)

    with pytest.raises(co.BackendError, match=f"Miscounting gave {counted} values for 3 keys"):
        run(steps())


def test_an_error_of_decoding_ends_the_reading() -> None:
    log: list[str] = []

    def decode(values: list[bytes | None], start: int) -> list[Any]:
        raise co.PayloadError("bad")

    def steps() -> Steps:
        yield Fetch(Chunked(log), ["a", "b", "c"], decode)

    with pytest.raises(co.PayloadError):
        run(steps())
    gc.collect()
    assert log == ["read 0", "closed"]


def test_errors_of_a_backend_are_raised_inside_the_operation(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        try:
            yield Call(memory, "no_such_method", ())
        except AttributeError:
            return (yield Call(memory, "has", ("a",))), "went on"

    assert run(steps()) == (False, "went on")


def test_errors_that_an_operation_does_not_catch_reach_the_caller(memory: co.SimpleBackend) -> None:
    cleaned = []

    def steps() -> Steps:
        try:
            yield Call(memory, "incr", ("a", "x"))
        finally:
            cleaned.append(True)

    with pytest.raises(TypeError, match="step of a counter"):
        run(steps())
    assert cleaned == [True]


def test_an_operation_may_raise_by_itself(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        yield Call(memory, "has", ("a",))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(steps())


def test_a_backend_that_raises_stop_iteration_does_not_end_the_operation_quietly() -> None:
    class Odd(co.SimpleBackend):
        def get(self, key: str) -> bytes | None:
            return next(iter(()))

    def steps() -> Steps:
        return (yield Call(Odd(), "get", ("a",)))

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(steps())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interruptions_pass_through_and_the_operation_is_closed(interruption: type[BaseException]) -> None:
    closed = []

    class Interrupted(co.SimpleBackend):
        def get(self, key: str) -> bytes | None:
            raise interruption

    def steps() -> Steps:
        try:
            yield Call(Interrupted(), "get", ("a",))
        except Exception:  # noqa: BLE001 - it must not get here
            closed.append("caught")
        finally:
            closed.append("closed")

    with pytest.raises(interruption):
        run(steps())
    gc.collect()
    assert closed == ["closed"]


def test_an_interrupted_operation_may_still_give_something_back(memory: co.SimpleBackend) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def steps() -> Steps:
        try:
            yield CallFunction(interrupted, ())
        except KeyboardInterrupt:
            yield Call(memory, "set", ("given back", b"1", 60))
            raise

    with pytest.raises(KeyboardInterrupt):
        run(steps())
    assert memory.has("given back")


def test_loaders_are_called_and_shared_work_is_waited_for() -> None:
    class Work:
        def wait(self, seconds: float | None) -> tuple[str, float | None]:
            return "theirs", seconds

    def steps() -> Steps:
        return (yield CallFunction(divmod, (7, 2))), (yield WaitFor(Work(), 5)), (yield Sleep(0))

    assert run(steps()) == ((3, 1), ("theirs", 5), None)


@pytest.fixture
def memory() -> co.SimpleBackend:
    return co.SimpleBackend()
