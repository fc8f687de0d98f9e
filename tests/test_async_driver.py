"""The driver of operations in an event loop: what it awaits, what it hands to them, and how they end when cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from typing import Any

import pytest

import cacheorm as co
from cacheorm import async_driver, requests
from cacheorm.async_driver import arun
from cacheorm.requests import Call, CallFunction, Fetch, Sleep, WaitFor
from cacheorm.sync_driver import run

Steps = Generator[Any, Any, Any]


@pytest.fixture
def memory() -> co.SimpleBackend:
    return co.SimpleBackend()


class Chunked(co.SimpleBackend):
    """Gives chunks of two, and records what happens when."""

    in_process = False

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
        try:
            for start in range(0, len(keys), 2):
                self.log.append(f"read {start}")
                yield [key.encode() for key in keys[start : start + 2]]
        finally:
            self.log.append("closed")


def test_replies_are_sent_to_the_operation(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        stored = yield Call(memory, "set", ("a", b"1", 60))
        value = yield Call(memory, "get", ("a",))
        return stored, value, (yield Sleep(0))

    assert asyncio.run(arun(steps())) == (True, b"1", None)


def test_an_operation_without_requests_just_returns() -> None:
    def steps() -> Steps:
        return 5
        yield

    assert asyncio.run(arun(steps())) == 5


def test_parts_are_decoded_as_they_arrive_and_closed_after_an_error() -> None:
    log: list[str] = []

    def decode(values: list[bytes | None], start: int) -> list[Any]:
        log.append(f"decode {start} {values}")
        if start:
            raise co.PayloadError("bad")
        return [*reversed(values)]

    def steps(count: int) -> Steps:
        return (yield Fetch(Chunked(log), ["a", "b", "c"][:count], decode))

    assert asyncio.run(arun(steps(2))) == [b"b", b"a"]
    assert log == ["read 0", "decode 0 [b'a', b'b']", "closed"]
    log.clear()
    with pytest.raises(co.PayloadError):
        asyncio.run(arun(steps(3)))
    assert log == ["read 0", "decode 0 [b'a', b'b']", "read 2", "decode 2 [b'c']", "closed"]


@pytest.mark.parametrize(("given", "counted"), [(["a", "b"], 2), (["a", "b", "c", "d"], 4)])
def test_more_or_fewer_values_than_keys_are_an_error(given: list[str], counted: int) -> None:
    log: list[str] = []

    class Miscounting(Chunked):
        def aget_chunks(self, keys: Sequence[str]) -> AsyncIterator[list[bytes | None]]:
            return super().aget_chunks(given)

    def steps() -> Steps:
        yield Fetch(Miscounting(log), ["a", "b", "c"], lambda values, start: values)

    with pytest.raises(co.BackendError, match=f"Miscounting gave {counted} values for 3 keys"):
        asyncio.run(arun(steps()))
    assert log[-1] == "closed"


def test_what_is_in_this_process_is_asked_without_a_coroutine() -> None:
    class Asked(co.SimpleBackend):
        async def _await(self, method: str, *args: Any) -> Any:
            raise AssertionError("a coroutine was made for nothing")

    def steps() -> Steps:
        backend = Asked()
        yield Call(backend, "set", ("a", b"1", 60))
        return (yield Fetch(backend, ["b", "a"], lambda values, start: values))

    assert asyncio.run(arun(steps())) == [None, b"1"]


def test_what_behaves_like_a_backend_need_not_say_where_its_entries_are(memory: co.SimpleBackend) -> None:
    class Counting:
        chunk_size = 10
        get_many, get_chunks, set_many = memory.get_many, memory.get_chunks, memory.set_many

        def __init__(self) -> None:
            self.asked: list[str] = []

        async def aset_many(self, *args: Any) -> Any:
            self.asked.append("aset_many")
            return await memory.aset_many(*args)

        def aget_chunks(self, keys: Any) -> AsyncIterator[list[bytes | None]]:
            self.asked.append("aget_chunks")
            return memory.aget_chunks(keys)

    class Counted(co.Model):
        id = co.IntegerField(primary_key=True)

    async def main() -> list[Any]:
        await Counted.insert_many([{"id": 1}]).aexecute()
        return await Counted.query_many([{"id": 2}, {"id": 1}]).aexecute()

    backend: Any = Counting()
    with co.bind([Counted], backend=backend):
        missing, found = asyncio.run(main())
    assert (missing, found.id, backend.asked) == (None, 1, ["aset_many", "aget_chunks"])


def test_errors_are_raised_inside_the_operation(memory: co.SimpleBackend) -> None:
    def steps() -> Steps:
        try:
            yield Call(memory, "no_such_method", ())
        except AttributeError:
            return (yield Call(memory, "has", ("a",))), "went on"

    assert asyncio.run(arun(steps())) == (False, "went on")


def test_a_backend_that_raises_stop_iteration_does_not_end_the_operation_quietly() -> None:
    class Odd(co.SimpleBackend):
        def get(self, key: str) -> bytes | None:
            return next(iter(()))

    def steps() -> Steps:
        return (yield Call(Odd(), "get", ("a",)))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(arun(steps()))


def asked(function: Callable[..., Any]) -> Steps:
    return (yield CallFunction(function, (3,)))


async def awaited(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


async def bit_by_bit(number: int) -> AsyncIterator[int]:
    for each in range(number):
        yield each


def test_users_are_asked_and_awaited_where_that_is_needed() -> None:
    assert asyncio.run(arun(asked(str))) == "3"
    assert asyncio.run(arun(asked(awaited))) == 4
    assert asyncio.run(arun(asked(bit_by_bit))) == [0, 1, 2]


@pytest.mark.parametrize("function", [awaited, bit_by_bit])
def test_the_other_driver_refuses_what_can_only_be_awaited(function: Any) -> None:
    with pytest.raises(TypeError, match=r"can only be awaited: .* aexecute\(\)"):
        run(asked(function))


class Work:
    """Done by somebody in a thread."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.is_over = False

    def when_done(self, wake: Callable[[], object]) -> None:
        self.calls.append(wake)

    def end(self) -> None:
        self.is_over = True
        for wake in self.calls:
            wake()

    def result(self) -> str | None:
        return "theirs" if self.is_over else None


async def until(true: Callable[[], bool]) -> None:
    """Let the event loop go round until something holds."""
    while not true():
        await asyncio.sleep(0)


def joined(work: Work, seconds: float | None = None) -> Steps:
    return (yield WaitFor(work, seconds))


def test_others_are_waited_for_without_blocking_the_loop() -> None:
    async def main() -> None:
        work = Work()
        task = asyncio.create_task(arun(joined(work)))
        await until(lambda: bool(work.calls))
        assert not task.done()
        threading.Thread(target=work.end).start()
        assert await task == "theirs"
        assert await arun(joined(work)) == "theirs"  # also once it is over

    asyncio.run(main())


def test_others_are_waited_for_no_longer_than_the_request_says() -> None:
    work = Work()
    assert asyncio.run(arun(joined(work, 0.01))) is None
    assert asyncio.run(arun(joined(work, 0))) is None


def test_the_end_of_work_is_seen_even_if_nothing_wakes_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_RECHECK_SECONDS", 0.01)

    async def main() -> Any:
        work = Work()
        task = asyncio.create_task(arun(joined(work)))
        await until(lambda: bool(work.calls))
        work.is_over = True
        return await task

    assert asyncio.run(main()) == "theirs"


def test_who_no_longer_waits_disturbs_nobody() -> None:
    work = Work()

    async def main() -> None:
        task = asyncio.create_task(arun(joined(work)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        work.end()
        await asyncio.sleep(0)

    asyncio.run(main())
    work.end()  # after the end of the loop


def gives_back(backend: co.BaseBackend, last: Sleep | WaitFor) -> Steps:
    try:
        yield Sleep(60)
    except BaseException:
        yield last
        yield Call(backend, "set", ("given back", b"1", 60))
        raise


async def started(steps: Steps) -> asyncio.Task[Any]:
    task = asyncio.create_task(arun(steps))
    await asyncio.sleep(0)
    return task


async def cancelled(steps: Steps) -> None:
    """Cancel an operation that has begun, and wait for the end of its task."""
    task = await started(steps)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


def test_a_cancelled_task_ends_before_its_operation_has_given_back(memory: co.SimpleBackend) -> None:
    async def main() -> None:
        work = Work()
        await cancelled(gives_back(memory, WaitFor(work)))
        gc.collect()  # nobody but the loop refers to the task
        await until(lambda: bool(work.calls))
        assert not memory.has("given back")
        work.end()
        await until(lambda: memory.has("given back"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await arun(gives_back(memory, WaitFor(Work())))

    asyncio.run(main())


def test_giving_back_is_given_up_in_time(memory: co.SimpleBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_driver, "_CLEANUP_SECONDS", 0.01)

    async def main() -> None:
        await cancelled(gives_back(memory, Sleep(3600)))
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())
    assert not memory.has("given back")


def test_an_error_while_giving_back_is_logged_and_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(co.SimpleBackend):
        def set(self, *args: Any) -> bool:
            raise co.BackendError("the server is gone")

    async def main() -> None:
        await cancelled(gives_back(Broken(), Sleep(0)))
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(main())
    gc.collect()
    assert [(record.name, record.levelname) for record in caplog.records] == [("cacheorm", "WARNING")]
    assert "the server is gone" in caplog.text


@pytest.mark.parametrize("in_order", [True, False])
def test_the_end_of_the_loop_ends_what_is_being_given_back_and_nothing_warns(
    memory: co.SimpleBackend, in_order: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        await cancelled(gives_back(memory, Sleep(60)))
        await asyncio.sleep(0)

    if in_order:
        asyncio.run(main())
    else:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()  # its tasks are still there
    gc.collect()
    assert not memory.has("given back")
    assert caplog.records == []


def test_a_coroutine_that_is_closed_closes_its_operation(memory: co.SimpleBackend) -> None:
    log: list[str] = []

    def steps() -> Steps:
        try:
            yield Sleep(60)
        finally:
            log.append("closed")

    work = arun(steps())

    async def main() -> None:
        work.send(None)
        work.close()
        assert log == ["closed"]

    asyncio.run(main())
