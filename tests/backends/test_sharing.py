"""One backend, many threads and forked children: how many connections there are, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from amounts import LONG
from children import fork_and_check
from clusters import wait_until
from faults import Proxy
from injecting import Injected, doing_at, fail, on_alarm
from servers import HANG, HOST, MemcachedServer, RedisServer

import cacheorm as co
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
            backend.clear(everything=True)
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


# -- callers that wait for a connection: the server's count says in which order they were served --------------


class Waiting:
    """A backend that has :data:`BATCH` and one connection, which is in use, and threads that wait for it.

    Attributes:
        served: the place of each caller in the order in which they were served.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._threads: list[threading.Thread] = []
        self.served: dict[str, int] = {}
        self.chunks = backend.get_chunks(list(BATCH))
        next(self.chunks)

    def ask(self, name: str) -> None:
        """Make a call."""
        self.served[name] = self._backend.incr("served")

    def wait_in_thread(self, name: str) -> None:
        """Make a call in a thread, and return when it waits."""
        before = self._backend.pools()[0].waiting
        self._threads.append(threading.Thread(target=self.ask, args=[name]))
        self._threads[-1].start()
        self.wait_for(before + 1)

    def wait_for(self, count: int) -> None:
        """Return when so many wait."""
        while self._backend.pools()[0].waiting != count:
            time.sleep(0.001)

    def join(self) -> None:
        """Wait until all threads have been served; nobody waits and nothing is in use then."""
        for thread in self._threads:
            thread.join()
        assert self._backend.pools()[0][2:] == (0, self._backend.pools()[0].idle, 0)


@pytest.fixture
def waiting(proxy: Any) -> Iterator[Waiting]:
    with proxy.make(max_connections=1) as backend:
        backend.set_many(BATCH)
        yield Waiting(backend)


@pytest.mark.parametrize("end", ["given back", "closed"])
def test_a_connection_goes_to_who_has_waited_longest(end: str, waiting: Waiting) -> None:
    for number in range(4):
        waiting.wait_in_thread(f"thread {number}")
    if end == "given back":
        assert len([*waiting.chunks]) > 1
    else:
        waiting.chunks.close()
    waiting.ask("comes by")
    waiting.join()
    assert sorted(waiting.served, key=waiting.served.__getitem__) == [*[f"thread {i}" for i in range(4)], "comes by"]


def test_who_has_waited_in_vain_keeps_nothing_from_the_next(waiting: Waiting) -> None:
    with co.deadline(0.01), pytest.raises(BackendError, match="stayed in use") as kept:
        waiting.ask("first")
    waiting.wait_in_thread("second")
    waiting.chunks.close()
    waiting.join()
    waiting.ask("third")
    assert waiting.served == {"second": 1, "third": 2}
    assert kept.value.maybe_applied is False


@pytest.mark.no_cover
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning", "ignore::ResourceWarning"
)
def test_who_is_interrupted_as_it_waits_keeps_nothing_from_the_next(proxy: Any) -> None:
    def let_go_on() -> None:
        while not (backend.pools()[0].waiting or "first" in ended):
            time.sleep(0.001)
        if "first" not in ended:
            waiting.wait_in_thread("second")
        waiting.chunks.close()

    with proxy.make(max_connections=1) as backend:
        backend.set_many(BATCH)
        step, was_struck = 1, True
        while was_struck:
            step += 1 if LONG else 37
            ended: list[str] = []
            backend.delete("served")
            waiting = Waiting(backend)
            thread = threading.Thread(target=let_go_on)
            thread.start()
            with doing_at(step, fail, within="backends/_net") as was_raised, contextlib.suppress(Injected):
                waiting.ask("first")
            ended.append("first")
            was_struck = was_raised()
            thread.join()
            waiting.join()
            waiting.ask("third")
            assert waiting.served["third"] == max(waiting.served.values())
        assert step > 500


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals cannot be sent to a thread")
def test_a_signal_handler_comes_before_its_thread_that_waits(waiting: Waiting) -> None:
    def let_go_on() -> None:
        waiting.wait_for(1)
        waiting.wait_in_thread("behind")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
        waiting.wait_for(3)
        waiting.chunks.close()

    thread = threading.Thread(target=let_go_on)
    with on_alarm(lambda number, frame: waiting.ask("handler")):
        thread.start()
        waiting.ask("main")
    thread.join()
    waiting.join()
    assert waiting.served == {"handler": 1, "main": 2, "behind": 3}


@pytest.mark.parametrize("places", [1, 2])
def test_no_thread_starves(places: int, proxy: Any) -> None:
    with proxy.make(max_connections=places) as backend:
        calls = [0] * 16

        def work(number: int) -> None:
            while min(calls) < 20:  # the others go on until the last one has had as many
                backend.incr("count")
                calls[number] += 1

        in_threads(len(calls), work)
        assert backend.get("count") == str(sum(calls)).encode()
        assert backend.pools()[0].waiting == 0


# -- what is told of them --------------------------------------------------------------------------------


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
