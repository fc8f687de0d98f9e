"""One backend, many threads and forked children: how many connections there are, and whose they are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from children import fork_and_check
from faults import Proxy
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import MemcachedBackend, RedisBackend
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads

BATCH = {f"key:{i}": b"%d" % i for i in range(5000)}


@pytest.fixture(params=["redis", "memcached"])
def proxy(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached_server: MemcachedServer
) -> Iterator[Any]:
    """A proxy before either server, with ``make(**options)`` for backends that go through it."""
    server = redis_server if request.param == "redis" else memcached_server

    def make(**options: Any) -> Any:
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
    # Far longer than anybody waits for a turn on a busy machine.
    with proxy.make(max_connections=4, socket_timeout=120) as backend:
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


def test_a_full_pool_waits_and_then_says_which_option_to_raise(proxy: Any) -> None:
    with proxy.make(max_connections=1, socket_timeout=1) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        with pytest.raises(BackendError, match=r"all 1 connections stayed in use for 1 s; raise max_conn") as caught:
            backend.set("k", b"v")
        assert caught.value.maybe_applied is False
        threading.Timer(0.2, chunks.close).start()
        assert backend.get("k") is None


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
