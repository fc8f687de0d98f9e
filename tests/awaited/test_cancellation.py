"""Tasks that are cancelled at any moment: no reply reaches another caller, and no connection is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import enough
from cancelling import ROWS, cancel_many, settled
from delays import DelayingProxy
from observing import ain_use
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co
from cacheorm import _speedups

Run = Callable[[Any], Any]
Make = Callable[..., Any]

CONNECTIONS = 24
# Of each kind of batch 10,000 in all, in the event loops of both kinds, in a long run.
GOALS = {"redis": 1250, "redis, read by its driver": 1250, "memcached": 2500}


@pytest.fixture(params=GOALS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of server, and of Redis who reads what arrives: whether it is the driver depends on the build."""
    monkeypatch.setattr(_speedups, "enabled", request.param == "redis")
    found: str = request.param
    return found


@pytest.fixture
def proxy(kind: str, request: pytest.FixtureRequest) -> Iterator[DelayingProxy]:
    server: RedisServer | MemcachedServer
    server = request.getfixturevalue("memcached_server" if kind == "memcached" else "redis_server")
    with make(kind, server.port) as backend:
        backend.clear(everything=True)
        backend.set_many(ROWS)
    with DelayingProxy(server.port) as proxy:
        yield proxy


def make(kind: str, port: int) -> Any:
    if kind == "memcached":
        return co.MemcachedBackend(servers=[(HOST, port)], max_connections=CONNECTIONS)
    return co.RedisBackend(host=HOST, port=port, max_connections=CONNECTIONS)


@pytest.mark.no_cover
@pytest.mark.parametrize("sizes", [[1], [2, 2, 60, 60, 60, 300, 1500]], ids=["single", "pipelined"])
def test_replies_that_cancelled_tasks_did_not_wait_for_reach_nobody(
    sizes: list[int], kind: str, run: Run, proxy: DelayingProxy
) -> None:
    async def main() -> None:
        proxy.delay = 0.004
        with make(kind, proxy.port) as backend:
            chance = random.Random(sizes[0])
            for _ in range(2):
                await cancel_many(backend, sizes, enough(GOALS[kind], 100, "cancelled calls") // 2, 0.02, chance)
                assert await ain_use(backend) == [0]
                assert await settled(lambda: proxy.open <= CONNECTIONS)
            await backend.aclose()
        assert await settled(lambda: proxy.open == 0)

    run(main())


class Confused:
    """Stands for a backend that keeps half-read connections: what a task was cancelled for, the next caller gets."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.unread: list[asyncio.Future[Any]] = []
        self.confused = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.backend, name)

        async def call(*args: Any) -> Any:
            if self.unread:
                self.confused += 1
                return await self.unread.pop()
            reply = asyncio.ensure_future(method(*args))
            try:
                return await asyncio.shield(reply)
            except asyncio.CancelledError:
                self.unread.append(reply)
                raise

        return method if name == "aget_chunks" else call


@pytest.mark.parametrize("kind", ["redis", "memcached"], indirect=True)
def test_the_test_above_notices_replies_that_reach_others(kind: str, proxy: DelayingProxy) -> None:
    async def main() -> None:
        proxy.delay = 0.004
        with make(kind, proxy.port) as backend:
            confused = Confused(backend)
            try:
                # What it is that fails depends on whose reply it gets.
                with pytest.raises((AssertionError, TypeError, ExceptionGroup)):
                    # Long enough for some to end before they are cancelled, on a busy machine too.
                    await cancel_many(confused, [2, 60], 1_000_000, 0.5, random.Random(1))
                assert confused.confused
            finally:
                # Of those that go on, what they get does not matter any more.
                others = asyncio.all_tasks() - {asyncio.current_task()}
                await asyncio.gather(*others, return_exceptions=True)
                await backend.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "options", [{}, {"protocol": 3, "health_check_interval": 1, "db": 2}], ids=["plain", "greeted"]
)
def test_a_call_that_is_cancelled_while_it_connects_ends_as_cancelled(
    kind: str, options: dict[str, Any], run: Run, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("memcached_server" if kind == "memcached" else "redis_server")

    async def cancel_after(steps: int) -> None:
        if kind == "memcached":
            backend: co.BaseBackend = co.MemcachedBackend(servers=[server.address])
        else:
            backend = co.RedisBackend(host=HOST, port=server.port, **options)
        call = asyncio.ensure_future(backend.aget("key"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if not call.done():
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert await backend.aget("key") is None
        await backend.aclose()

    async def main() -> None:
        for steps in range(40):
            await cancel_after(steps)

    run(main())
