"""The methods that are awaited: where they run, what of them may be overridden, and how they are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cacheorm.backends import BaseBackend, SimpleBackend

from .test_base import SmallestBackend


def test_memory_answers_on_the_spot_and_others_in_threads() -> None:
    def thread_of(kind: type[BaseBackend]) -> int:
        class Watched(kind):  # type: ignore[misc, valid-type]
            def get(self, key: str) -> bytes | None:
                seen.append(threading.get_ident())
                return None

        seen: list[int] = []
        assert asyncio.run(Watched().aget("a")) is None
        return seen[0]

    assert thread_of(SimpleBackend) == threading.get_ident()
    assert thread_of(SmallestBackend) != threading.get_ident()


def test_a_backend_may_override_a_twin_alone() -> None:
    class Sync(SmallestBackend):
        async def aget(self, key: str) -> bytes | None:
            return b"mine"

        async def aget_chunks(self, keys: Any) -> AsyncIterator[list[bytes | None]]:
            for _ in keys:
                yield [b"mine"]

    async def main() -> None:
        async with Sync() as backend:
            assert isinstance(backend, Sync)
            assert await backend.aset_many({"a": b"1"}) == {"a": True}
            assert await backend.aget("a") == b"mine"
            assert await backend.aget_many("a") == [b"1"]
            assert [part async for part in backend.aget_chunks(["a", "b"])] == [[b"mine"], [b"mine"]]

    asyncio.run(main())


def test_a_wrapped_method_is_what_its_twin_calls() -> None:
    backend = SimpleBackend()
    seen: list[str] = []
    backend.get = seen.append  # type: ignore[method-assign, assignment]
    asyncio.run(backend.aget("wrapped"))
    assert seen == ["wrapped"]


@pytest.mark.parametrize("cancellations", [1, 3])
def test_a_cancelled_call_in_a_thread_comes_to_its_end_first(cancellations: int) -> None:
    class Slow(SmallestBackend):
        def set(self, key: str, *args: Any) -> bool:
            entered.set()
            assert opened.wait(60)
            return super().set(key, *args)

    entered, opened = threading.Event(), threading.Event()
    backend = Slow()

    async def main() -> None:
        task = asyncio.create_task(backend.aset("a", b"1"))
        await asyncio.to_thread(entered.wait)
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert backend.get("a") == b"1"

    asyncio.run(main())


def test_the_error_of_a_cancelled_call_is_the_cause_of_its_cancellation() -> None:
    class Failing(SmallestBackend):
        def get(self, key: str) -> bytes | None:
            entered.set()
            assert opened.wait(60)
            raise ValueError("broken")

    entered, opened = threading.Event(), threading.Event()

    async def main() -> None:
        task = asyncio.create_task(Failing().aget("a"))
        await asyncio.to_thread(entered.wait)
        task.cancel()
        await asyncio.sleep(0)
        opened.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__cause__, ValueError)

    asyncio.run(main())
