"""A Redis Cluster in event loops: whose replies are whose when tasks are cancelled, and what becomes of connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from amounts import enough
from cancelling import ROWS, cancel_many, settled
from delays import DelayingProxy
from loops import RUNNERS
from servers import HOST

from cacheorm.backends.redis import RedisBackend

if TYPE_CHECKING:
    from clusters import RedisCluster

BATCH = ROWS


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    runner: Callable[[Coroutine[Any, Any, Any]], Any] = request.param
    return runner


class Delays:
    """A proxy before every node of a cluster."""

    def __init__(self, cluster: RedisCluster, proxies: list[DelayingProxy]) -> None:
        self.proxies = proxies
        self._ports = dict(zip([node.port for node in cluster.nodes], [proxy.port for proxy in proxies], strict=True))

    def backend(self, **options: Any) -> RedisBackend:
        url = f"redis+cluster://{HOST}:{self.proxies[0].port}"
        return RedisBackend.from_url(url, address_remap=self.remap, **options)

    def remap(self, address: tuple[str, int]) -> tuple[str, int]:
        return HOST, self._ports.get(address[1], address[1])

    def delay(self, seconds: float) -> None:
        for proxy in self.proxies:
            proxy.delay = seconds

    @property
    def open(self) -> list[int]:
        return [proxy.open for proxy in self.proxies]


@pytest.fixture
def delays(redis_cluster: RedisCluster) -> Iterator[Delays]:
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(DelayingProxy(node.port)) for node in redis_cluster.nodes]
        yield Delays(redis_cluster, proxies)


async def check_cancellation(delays: Delays, least: int) -> None:
    """Cancel so many batches, and see that no connection is left over."""
    delays.delay(0.004)
    with delays.backend(max_connections=24) as backend:
        await backend.aset_many(BATCH)
        await cancel_many(backend, [1, 2, 60, 700], least, 0.006, random.Random(least))
        # Nothing leaks: as many connections are open as can be used again.
        assert await settled(lambda: all(count <= 24 for count in delays.open))
        await backend.aclose()
    assert await settled(lambda: not any(delays.open))


@pytest.mark.no_cover
def test_replies_that_cancelled_tasks_did_not_wait_for_reach_nobody(run: Callable[..., Any], delays: Delays) -> None:
    run(check_cancellation(delays, enough(5000, 200, "cancelled calls")))


def test_a_write_that_is_cancelled_costs_its_connections_and_no_other(run: Callable[..., Any], delays: Delays) -> None:
    large = {f"large:{i}": bytes([i]) * 300_000 for i in range(30)}

    async def main() -> None:
        with delays.backend(socket_timeout=60) as backend:
            await backend.aset_many(BATCH)
            for wait in (0, 0.001, 0.004, 0.02):
                for proxy in delays.proxies:
                    proxy.hung = True
                task = asyncio.create_task(backend.aset_many(large))
                await asyncio.sleep(wait)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                for proxy in delays.proxies:
                    proxy.hung = False
                assert await backend.aget_many(*BATCH, "absent") == [*BATCH.values(), None]
                assert await settled(lambda: all(count <= 1 for count in delays.open))
            await backend.adelete_many(*large)
            await backend.aclose()

    run(main())


def test_an_abandoned_read_gives_its_connections_up(run: Callable[..., Any], delays: Delays) -> None:
    async def main() -> None:
        with delays.backend(max_connections=1) as backend:
            await backend.aset_many(BATCH)
            for count in range(1, 3):
                chunks: Any = backend.aget_chunks(list(BATCH) * 4)
                for _ in range(count):
                    await anext(chunks)
                await chunks.aclose()
                assert await backend.aget_many("key:5", "key:6", "key:7") == [b"5", b"6", b"7"]
            await backend.aclose()

    run(main())


def test_many_tasks_share_a_bounded_number_of_connections_to_each_node(run: Callable[..., Any], delays: Delays) -> None:
    async def main() -> None:
        with delays.backend(max_connections=5, socket_timeout=60) as backend:
            await backend.aset_many(BATCH)
            keys = list(BATCH)[:100]
            replies = await asyncio.gather(*[backend.aget_many(*keys[i % 90 :]) for i in range(500)])
            assert [len(reply) for reply in replies] == [100 - i % 90 for i in range(500)]
            assert all(proxy.accepted <= 5 for proxy in delays.proxies)
            await backend.aclose()

    run(main())


def test_event_loops_in_turn_have_connections_of_their_own(run: Callable[..., Any], delays: Delays) -> None:
    with delays.backend() as backend:

        async def use(number: int) -> None:
            assert await backend.aset_many(dict.fromkeys(BATCH, b"%d" % number)) == dict.fromkeys(BATCH, True)
            assert await backend.aget_many("key:1", "key:2") == [b"%d" % number] * 2

        for number in range(4):
            [asyncio.run, run][number % 2](use(number))
        # Each loop's were closed when it ended, though nobody asked for that.
        assert asyncio.run(settled(lambda: not any(delays.open)))
