"""The threads in which event loops call backends that block."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from children import fork_and_check
from servers import HANG

import cacheorm as co


class Gate(co.BaseBackend):
    """A backend whose reads wait until they are let through.

    Attributes:
        entered: how many reads have begun.
        opened: whether they go on.
    """

    def __init__(self, operation_timeout: float | None = None) -> None:
        super().__init__()
        self.operation_timeout = operation_timeout
        self.entered = 0
        self.opened = threading.Event()
        self.read: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.entered += 1
        assert self.opened.wait(HANG)
        self.read.append(key)
        return key.encode()

    async def wait_for(self, count: int) -> None:
        while self.entered < count:
            await asyncio.sleep(0.001)


def test_the_executor_of_the_event_loop_is_left_alone() -> None:
    backend = Gate()

    async def read() -> None:
        reads = [asyncio.create_task(backend.aget(f"key {i}")) for i in range(50)]
        await backend.wait_for(8)
        # Name look-ups wait there as well.
        assert await asyncio.to_thread(lambda: "free") == "free"
        assert backend.entered == 8
        backend.opened.set()
        assert await asyncio.gather(*reads) == [b"key %d" % i for i in range(50)]

    asyncio.run(read())
    assert backend.entered == 50


def test_backends_do_not_wait_for_each_other() -> None:
    slow, quick = Gate(), Gate()
    quick.opened.set()

    async def main() -> None:
        reads = [asyncio.create_task(slow.aget("a")) for _ in range(20)]
        await slow.wait_for(8)
        assert await quick.aget("b") == b"b"
        slow.opened.set()
        await asyncio.gather(*reads)

    asyncio.run(main())


def test_a_call_that_has_not_begun_is_given_up_with_its_task() -> None:
    backend = Gate()

    async def main() -> None:
        reads = [asyncio.create_task(backend.aget("begun")) for _ in range(8)]
        await backend.wait_for(8)
        late = asyncio.create_task(backend.aget("late"))
        await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        backend.opened.set()
        await asyncio.gather(*reads)
        assert await backend.aget("next") == b"next"

    asyncio.run(main())
    assert "late" not in backend.read


def test_a_call_that_has_not_begun_in_time_fails() -> None:
    backend = Gate()

    async def main() -> None:
        reads = [asyncio.create_task(backend.aget("begun")) for _ in range(8)]
        await backend.wait_for(8)
        with co.deadline(0.01), pytest.raises(co.BackendError, match="not begun: all 8 threads of the backend"):
            await backend.aget("late")
        backend.operation_timeout = 0.01
        with pytest.raises(co.BackendError, match="not begun"):
            await backend.aget("late")
        backend.opened.set()
        await asyncio.gather(*reads)

    asyncio.run(main())
    assert "late" not in backend.read


def test_threads_end_when_there_is_nothing_to_do() -> None:
    backend = Gate()
    backend.opened.set()
    threads: set[threading.Thread] = set()

    def get(key: str) -> bytes:
        threads.add(threading.current_thread())
        return key.encode()

    backend.get = get  # type: ignore[method-assign]

    async def main() -> None:
        assert await backend.aget("a") == b"a"
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.01)
        assert await asyncio.gather(*(backend.aget("a") for _ in range(100))) == [b"a"] * 100

    asyncio.run(main())
    assert 2 <= len(threads) <= 9


def test_threads_do_not_keep_their_backend_alive() -> None:
    backend = Gate()
    backend.opened.set()
    asyncio.run(backend.aget("a"))
    alive = weakref.ref(backend)
    del backend
    while alive() is not None:  # the thread may have to finish what follows its reply
        gc.collect()


def test_a_forked_child_has_threads_of_its_own() -> None:
    backend = Gate()
    backend.opened.set()
    assert asyncio.run(backend.aget("a")) == b"a"
    fork_and_check(lambda: asyncio.run(backend.aget("b")) == b"b")()
    assert asyncio.run(backend.aget("c")) == b"c"


def test_an_exception_that_no_future_takes_is_an_error_all_the_same() -> None:
    class Odd(Gate):
        def get(self, key: str) -> Any:
            raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(Odd().aget("a"))


def test_a_thread_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    backend = Gate()
    backend.opened.set()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            asyncio.run(backend.aget("a"))
    assert asyncio.run(backend.aget("b")) == b"b"
    assert backend.read == ["b"]


ENDS = """
import asyncio, sys, threading
import cacheorm as co

class Stuck(co.BaseBackend):
    def get(self, key):
        entered.set()
        threading.Event().wait()

entered = threading.Event()

async def main():
    task = asyncio.create_task(Stuck().aget("a"))
    await asyncio.to_thread(entered.wait)
    print("ends", flush=True)
    asyncio.get_running_loop().stop()

loop = asyncio.new_event_loop()
loop.create_task(main())
loop.run_forever()
"""


def test_a_call_that_never_ends_does_not_keep_the_interpreter_from_ending() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout) == (0, "ends\n")


def test_awaited_writes_that_wait_for_another_process_leave_the_executor_free(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path, operation_timeout=HANG) as backend:
        backend.set("count", 0)
        other = sqlite3.connect(tmp_path / "cache.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        async def main() -> None:
            writes = [asyncio.create_task(backend.aincr("count")) for _ in range(12)]
            while backend.pools()[0].waiting < 8:
                await asyncio.sleep(0.001)
            assert await asyncio.to_thread(lambda: "free") == "free"
            other.execute("ROLLBACK")
            assert sorted(await asyncio.gather(*writes)) == [*range(1, 13)]

        asyncio.run(main())
        other.close()
