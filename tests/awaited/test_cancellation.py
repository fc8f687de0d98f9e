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
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co
from cacheorm import _speedups
from cacheorm.backends._memcached.awaited import AwaitedPool
from cacheorm.backends._redis.awaited import AwaitedLinks
from cacheorm.errors import BackendError

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
        backend.clear()
        backend.set_many(ROWS)
    with DelayingProxy(server.port) as proxy:
        yield proxy


def make(kind: str, port: int) -> Any:
    if kind == "memcached":
        return co.MemcachedBackend(servers=[(HOST, port)], max_connections=CONNECTIONS)
    return co.RedisBackend(host=HOST, port=port, max_connections=CONNECTIONS)


def free_places(backend: Any) -> int:
    commands = backend._awaited()
    pool = commands._engine._pool if isinstance(backend, co.MemcachedBackend) else commands._transport._links
    found: int = pool.turns.free
    return found


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
                assert free_places(backend) == CONNECTIONS
                assert await settled(lambda: proxy.open <= CONNECTIONS)
            await backend.aclose()
        assert await settled(lambda: proxy.open == 0)

    run(main())


# redis-py closes a connection by itself when what reads a reply from it is cancelled.
@pytest.mark.parametrize("kind", ["redis", "memcached"], indirect=True)
def test_the_test_above_notices_a_pool_that_keeps_half_read_connections(
    kind: str, proxy: DelayingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool: Any = AwaitedPool if kind == "memcached" else AwaitedLinks
    give_back = pool.give_back
    monkeypatch.setattr(pool, "give_back", lambda self, connection, reusable: give_back(self, connection, True))

    async def main() -> None:
        proxy.delay = 0.03  # far longer than anything else takes
        with make(kind, proxy.port) as backend:
            try:
                # What it is that fails depends on whose reply it gets.
                with pytest.raises((AssertionError, BackendError, TypeError, ExceptionGroup)):
                    await cancel_many(backend, [2, 60], 500, 0.15, random.Random(1))
            finally:
                # Of those that go on, what they get does not matter any more.
                others = asyncio.all_tasks() - {asyncio.current_task()}
                await asyncio.gather(*others, return_exceptions=True)
                await backend.aclose()

    asyncio.run(main())
