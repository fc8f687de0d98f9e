"""One backend, many threads and forked children: how many connections there are, and whose they are."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from children import fork_and_check
from clusters import wait_until
from faults import Proxy
from servers import HANG, HOST, MemcachedServer, RedisServer

from cacheorm.backends import MemcachedBackend, RedisBackend
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads
from cacheorm.types import PoolState

BATCH = {f"key:{i}": b"%d" % i for i in range(5000)}


@pytest.fixture(params=["redis", "memcached"])
def proxy(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached_server: MemcachedServer
) -> Iterator[Any]:
    """A proxy before either server, with ``make(**options)`` for backends that go through it."""
    server = redis_server if request.param == "redis" else memcached_server

    def make(**options: Any) -> Any:
        # By default far longer than anybody waits for a connection on a busy machine.
        options = {"socket_timeout": HANG, **options}
        if request.param == "redis":
            return RedisBackend(host=HOST, port=proxy.port, **options)
        options = {{"socket_timeout": "timeout"}.get(name, name): value for name, value in options.items()}
        return MemcachedBackend([(HOST, proxy.port)], **options)

    with Proxy(server.port) as proxy:
        proxy.make = make  # type: ignore[attr-defined]
        with make() as backend:
            backend.clear()
        proxy.accepted = 0
        yield proxy


def test_thirty_two_threads_share_four_connections(proxy: Any) -> None:
    with proxy.make(max_connections=4) as backend:
        backend.set_many(BATCH)

        def work(number: int) -> None:
            for step in range(12):
                keys = list(BATCH)[number * 100 + step :][:40]
                assert backend.get_many(*keys, "absent") == [*map(BATCH.__getitem__, keys), None]
                assert backend.get(keys[0]) == BATCH[keys[0]]
                assert backend.set_many({f"{number}:{step}:{key}": b"x" for key in keys}) == {
                    f"{number}:{step}:{key}": True for key in keys
                }
                backend.incr("count")

        in_threads(32, work)
        assert int(backend.get("count")) == 32 * 12
        assert proxy.accepted <= 4


def test_a_full_pool_says_which_option_to_raise(proxy: Any) -> None:
    with proxy.make(max_connections=1, socket_timeout=2) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        with pytest.raises(BackendError, match=r"all 1 connections stayed in use; raise max_conn") as caught:
            backend.set("k", b"v")
        assert caught.value.maybe_applied is False
        chunks.close()


def test_a_connection_that_is_given_back_goes_to_who_waits_for_it(proxy: Any) -> None:
    with proxy.make(max_connections=1) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(backend.get("key:7")))
        thread.start()
        wait_until("the thread waits", lambda: backend.pools()[0].waiting == 1)
        assert found == []
        chunks.close()
        thread.join()
        assert found == [b"7"]


@pytest.mark.parametrize("way", ["called", "awaited"])
def test_how_connections_are_used_is_told(way: str, proxy: Any) -> None:
    async def main() -> None:
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        (state,) = await backend.apools()
        assert state[1:] == PoolState(state.server, 2, in_use=1, idle=0, waiting=0)[1:]
        others: Any = backend.aget_chunks(list(BATCH))
        await anext(others)
        waiting = [asyncio.ensure_future(backend.aget("key:1")) for _ in range(3)]
        while (await backend.apools())[0] != state._replace(in_use=2, waiting=3):
            await asyncio.sleep(0)
        await chunks.aclose()
        await others.aclose()
        assert await asyncio.gather(*waiting) == [b"1"] * 3
        (after,) = await backend.apools()
        assert after in [state._replace(in_use=0, idle=idle) for idle in (1, 2)]
        await backend.aclose()

    with proxy.make(max_connections=2) as backend:
        assert f"127.0.0.1:{proxy.port}" in backend.pools()[0].server
        if way == "awaited":
            backend.set_many(BATCH)
            asyncio.run(main())
            return
        (state,) = backend.pools()
        assert state == PoolState(state.server, limit=2, in_use=0, idle=0, waiting=0)
        backend.set_many(BATCH)
        assert backend.pools() == [state._replace(idle=1)]
        chunks, others = backend.get_chunks(list(BATCH)), backend.get_chunks(list(BATCH))
        next(chunks)
        assert backend.pools() == [state._replace(in_use=1)]
        next(others)
        threads = [threading.Thread(target=lambda: backend.get("key:1")) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until("all wait", lambda: backend.pools() == [state._replace(in_use=2, waiting=3)])
        chunks.close()
        others.close()
        for thread in threads:
            thread.join()
        assert backend.pools()[0] in [state._replace(idle=idle) for idle in (1, 2)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_leaves_a_connection_alone_that_its_parent_was_reading_from(proxy: Any) -> None:
    with proxy.make() as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        values = list(next(chunks))

        def child() -> bool:
            good: bool = backend.get_many(*BATCH) == list(BATCH.values())
            # As the end of the child would: this is the parent's, half read.
            chunks.close()
            backend.close()
            return good and backend.get("key:1") == b"1"

        fork_and_check(child)()
        for chunk in chunks:
            values += chunk
        assert values == list(BATCH.values())
        before = proxy.accepted
        assert backend.get_many("key:1", "key:2") == [b"1", b"2"]
        assert proxy.accepted == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_of_a_busy_parent_works_and_disturbs_nobody(proxy: Any) -> None:
    with proxy.make(max_connections=2) as backend:
        backend.set_many(BATCH)
        stopped = threading.Event()

        def read(number: int) -> None:
            while not stopped.is_set():
                assert backend.get_many(*BATCH) == list(BATCH.values())

        def fork(number: int) -> None:
            try:
                for _ in range(5):
                    # Both places may be taken at that moment, by threads that the child does not have.
                    fork_and_check(lambda: backend.get_many(*BATCH) == list(BATCH.values()))()
            finally:
                stopped.set()

        in_threads(4, lambda number: fork(number) if number == 0 else read(number))
