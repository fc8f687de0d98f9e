"""Several memcacheds: what is asked of them at once, and what happens when one is dead, hangs, and is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from amounts import enough
from cancelling import settled
from children import fork_and_check
from clusters import wait_until
from delays import DelayingProxy
from faults import Proxy, ScriptedServer
from loops import RUNNERS
from observing import ain_use, in_use, memcached_figure
from servers import HOST, MemcachedServer, free_port

import cacheorm as co
from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads
from cacheorm.types import KEEP_TTL

ROWS = {f"key:{i}": b"%d" % i for i in range(6000)}
KEYS = list(ROWS)
LARGE = b"x" * 1000
Servers = list[MemcachedServer]


@pytest.fixture(scope="module")
def shared() -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(3)]


@pytest.fixture
def servers(shared: Servers) -> Iterator[Servers]:
    """Three servers, empty; a test may pause and kill them."""
    for server in shared:
        if not server.is_running:
            server.start()
        with MemcachedBackend([server.address]) as backend:  # type: ignore[list-item]
            backend.clear(everything=True)
    yield shared
    for server in shared:
        if server.is_running:
            server.resume()


# Seconds to wait for a server that does not answer. Those that do are far quicker, on a busy machine as well.
SHORT = 2
# Seconds for which a server is left alone: longer than any test.
LONG = 3600


def on(servers: Servers, **options: Any) -> MemcachedBackend:
    return MemcachedBackend(
        [(HOST, server.port) for server in servers], **{"timeout": 60, "retry_after": LONG} | options
    )


def entries(servers: Servers) -> int:
    """Return how many entries servers say they have: flushed ones too, until they find time to take them out."""
    return sum(memcached_figure(server, "curr_items") for server in servers)


def keys_of(backend: MemcachedBackend, server: int) -> list[str]:
    name = backend.pools()[server].server
    return [key for key, owner in zip(KEYS, backend.servers_of(*KEYS), strict=True) if owner == name]


def call(backend: MemcachedBackend, way: str, method: str, *args: Any, **options: Any) -> Any:
    """Call a method, or await it."""
    if way == "called":
        return getattr(backend, method)(*args, **options)
    return asyncio.run(awaited(backend, method, *args, **options))


async def awaited(backend: MemcachedBackend, method: str, *args: Any, **options: Any) -> Any:
    return await getattr(backend, f"a{method}")(*args, **options)


ways = pytest.mark.parametrize("way", ["called", "awaited"])
runs = pytest.mark.parametrize("run", RUNNERS)


# -- all at once -----------------------------------------------------------------------------------------


class Silent:
    """Servers that take requests, and answer nothing until they are told."""

    def __init__(self, count: int) -> None:
        self.asked = [threading.Event() for _ in range(count)]
        self.answer = threading.Event()
        self._listeners = [socket.create_server((HOST, 0)) for _ in range(count)]
        self.addresses = [(HOST, listener.getsockname()[1]) for listener in self._listeners]
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def _serve(self, number: int) -> None:
        connection, _ = self._listeners[number].accept()
        with connection:
            request = connection.recv(1 << 16)
            self.asked[number].set()
            self.answer.wait(60)
            connection.sendall(b"HD\r\n" * request.count(b"ms ") + b"MN\r\n" * request.count(b"mn\r\n"))

    def close(self) -> None:
        self.answer.set()
        for thread in self._threads:
            thread.join(60)
        for listener in self._listeners:
            listener.close()


@ways
@pytest.mark.parametrize(("method", "expected"), [("get_many", [None] * 100), ("set_many", None)])
def test_all_servers_are_written_before_any_is_read(way: str, method: str, expected: Any) -> None:
    silent = Silent(4)
    keys = KEYS[:100]
    found: list[Any] = []
    with contextlib.closing(silent), MemcachedBackend(silent.addresses, timeout=60) as backend:
        args = keys if method == "get_many" else [dict.fromkeys(keys, b"")]
        thread = threading.Thread(target=lambda: found.append(call(backend, way, method, *args)))
        thread.start()
        assert all(asked.wait(60) for asked in silent.asked), "each has its request while none has answered"
        assert found == []
        silent.answer.set()
        thread.join()
        assert found == [dict.fromkeys(keys, True) if expected is None else expected]


@ways
def test_batches_keep_their_order_whatever_their_size(way: str, servers: Servers) -> None:
    with on(servers) as backend:
        assert call(backend, way, "set_many", ROWS) == dict.fromkeys(ROWS, True)
        for count in (0, 1, 2, 249, 1000, 6000):
            asked = [*KEYS[:count], "absent", *KEYS[:count]]
            assert call(backend, way, "get_many", *asked) == [ROWS.get(key) for key in asked]
        chunks = list(backend.get_chunks(KEYS))
        assert [value for chunk in chunks for value in chunk] == list(ROWS.values())
        assert len(chunks) > 1
        assert all(on([server]).stats()["entries"] > 1000 for server in servers)
        assert call(backend, way, "stats")["entries"] == entries(servers)
        assert call(backend, way, "ping") is True
        call(backend, way, "clear", everything=True)
        assert call(backend, way, "get_many", *KEYS[:50]) == [None] * 50


@ways
def test_full_buffers_of_one_server_hold_up_none(way: str, servers: Servers) -> None:
    with on(servers) as backend:
        rows = {f"{i}:" + "k" * 240: b"%d" % i * 100_000 for i in range(60)}
        assert all(call(backend, way, "set_many", rows).values())
        keys = [key for _ in range(10) for key in rows]
        assert call(backend, way, "get_many", *keys) == [rows[key] for key in keys]


# -- a server that is dead, or hangs -----------------------------------------------------------------------


lost_servers = pytest.mark.parametrize("how", ["kill", "pause"])


@ways
@lost_servers
def test_keys_of_a_lost_server_are_misses(way: str, how: str, servers: Servers) -> None:
    with on(servers, timeout=SHORT) as backend:
        backend.set_many(ROWS)
        lost = set(keys_of(backend, 1))
        getattr(servers[1], how)()
        expected = [None if key in lost else value for key, value in ROWS.items()]
        assert call(backend, way, "get_many", *KEYS) == expected
        key = next(iter(lost))
        assert call(backend, way, "get", key) is None
        assert call(backend, way, "has", key) is False
        assert call(backend, way, "ttl", key) is None
        assert call(backend, way, "stats")["entries"] == entries([servers[0], servers[2]])
        # What several callers agree by is no miss, and neither is what is about the servers themselves.
        for method, *args in (("add", key, b""), ("incr", key), ("get_many_cas", key), ("ping",), ("clear", "n")):
            with pytest.raises(BackendError, match=f"memcached at {HOST}:{servers[1].port}: "):
                call(backend, way, method, *args)
        with pytest.raises(BackendError, match=f"memcached at {HOST}:{servers[1].port}: "):
            call(backend, way, "clear", everything=True)
        assert call(backend, way, "get_many", *KEYS) == [None] * len(KEYS), "the others are empty"


@ways
@lost_servers
def test_writes_to_a_lost_server_are_errors_row_by_row(way: str, how: str, servers: Servers) -> None:
    with on(servers, timeout=SHORT, on_failure="raise") as backend:
        backend.set_many(ROWS)
        lost = set(keys_of(backend, 1))
        key = next(iter(lost))
        name = f"memcached at {HOST}:{servers[1].port}: "
        getattr(servers[1], how)()
        with pytest.raises(BackendError, match=name):
            call(backend, way, "get", key)
        outcome = call(backend, way, "set_many", ROWS, 50)
        assert [key for key, stored in outcome.items() if not stored] == [key for key in KEYS if key in lost]
        assert set(outcome.reasons) == lost
        assert all(reason.startswith(name) for reason in outcome.reasons.values())
        assert outcome.unsure == set(), "nothing was sent"
        for method, *args in (
            ("set", b""),
            ("add", b""),
            ("replace", b"", KEEP_TTL),
            ("delete",),
            ("touch",),
            ("incr",),
        ):
            with pytest.raises(BackendError, match=name) as caught:
                call(backend, way, method, key, *args)
            assert caught.value.maybe_applied is False
        swapped = call(backend, way, "compare_and_set_many", {key: (b"", 7)})
        assert (swapped, list(swapped.reasons)) == ({key: False}, [key])
        with pytest.raises(BackendError, match=name):
            call(backend, way, "touch_many", KEYS)
        with pytest.raises(BackendError, match=name) as caught:
            call(backend, way, "delete_many", *KEYS)
        assert caught.value.maybe_applied is True, "the others have deleted theirs"


@ways
def test_on_demand_reads_of_a_lost_server_are_errors(way: str, servers: Servers) -> None:
    with on(servers, on_failure="raise") as backend:
        backend.set_many(ROWS)
        servers[1].kill()
        key = keys_of(backend, 1)[0]
        for method, keys in (("get_many", KEYS), ("get", [key]), ("has", [key]), ("get_many_cas", KEYS), ("stats", [])):
            with pytest.raises(BackendError, match=f"{servers[1].port}: "):
                call(backend, way, method, *keys)
        other = keys_of(backend, 0)[0]
        assert call(backend, way, "get", other) == ROWS[other]


@ways
def test_on_demand_the_keys_of_a_lost_server_go_to_the_others(way: str, servers: Servers) -> None:
    with on(servers, on_failure="eject") as backend:
        backend.set_many(ROWS)
        lost = keys_of(backend, 1)
        token = backend.get_many_cas(lost[0])[0][1]  # type: ignore[index]
        servers[1].kill()
        assert call(backend, way, "get_many", *KEYS) == [None if key in set(lost) else ROWS[key] for key in KEYS]
        assert call(backend, way, "set_many", ROWS) == dict.fromkeys(ROWS, True)
        assert call(backend, way, "get_many", *KEYS) == list(ROWS.values())
        assert call(backend, way, "incr", "count") == 1
        with on([servers[0], servers[2]]) as others:
            assert others.get_many(*KEYS) == list(ROWS.values()), "where they are on the ring of the others"
        # A version is that of the server that counted it.
        assert call(backend, way, "compare_and_set_many", {lost[0]: (b"", token)}) == {lost[0]: False}
        servers[0].kill()
        servers[2].kill()
        assert set(call(backend, way, "get_many", *KEYS)) == {None}
        assert not any(call(backend, way, "set_many", ROWS).values())


@ways
def test_only_what_was_sent_to_a_hung_server_may_have_been_written(way: str, servers: Servers) -> None:
    # Requests are sent two parts ahead, of a thousand rows each.
    rows = {f"row:{i}": b"" for i in range(10_000)}
    with on(servers, timeout=SHORT, on_failure="raise") as backend:
        lost = [key for key in rows if backend.servers_of(key)[0] == backend.pools()[2].server]
        backend.ping()
        servers[2].pause()
        outcome = call(backend, way, "set_many", rows)
        assert [key for key, stored in outcome.items() if not stored] == lost == list(outcome.reasons)
        assert outcome.unsure == set(lost[:2000]) != set(lost)
        assert "may have been applied" in outcome.reasons[lost[0]]


def test_rows_of_a_lost_server_are_listed_and_the_others_are_stored(servers: Servers) -> None:
    with on(servers, on_failure="raise") as backend:
        servers[0].kill()

        class Row(co.Model):
            id = co.IntegerField(primary_key=True)

            class Meta:
                pass

        with co.bind([Row], backend=backend):
            with pytest.raises(co.WriteError, match="cannot connect") as caught:
                Row.insert_many({"id": i} for i in range(100)).execute()
            failed = {row.key for row in caught.value.failed}
            assert 0 < len(failed) < 100
            assert {row.model for row in caught.value.failed} == {"Row"}
            with on(servers, on_failure="miss") as missing, co.bind([Row], backend=missing):
                found = Row.query_many({"id": i} for i in range(100)).execute()
            assert [row is None for row in found] == [Row.key(id=i) in failed for i in range(100)]


# -- nobody waits twice --------------------------------------------------------------------------------------


def count_failures(backend: MemcachedBackend) -> int:
    return sum(breaker.failures for breaker in backend.breakers())


@ways
def test_the_timeout_is_waited_for_once(way: str, servers: Servers) -> None:
    with on(servers, timeout=SHORT) as backend:
        backend.set_many(ROWS)
        servers[1].pause()
        for _ in range(20):
            assert None in call(backend, way, "get_many", *KEYS)
        assert count_failures(backend) == 1


def test_of_thirty_two_threads_each_waits_for_a_hung_server_once_at_most(servers: Servers) -> None:
    with Proxy(servers[1].port) as proxy:
        addresses = [(HOST, servers[0].port), (HOST, proxy.port), (HOST, servers[2].port)]
        with MemcachedBackend(addresses, timeout=SHORT, retry_after=LONG) as backend:
            backend.set_many(ROWS)
            lost = set(keys_of(backend, 1))
            proxy.requests.clear()
            proxy.cut_after, proxy.hang = 0, True
            wrong: list[Any] = []

            def batch(number: int, i: int) -> list[str]:
                return KEYS[number * 50 + i :: 40]

            def work(number: int) -> None:
                for i in range(10):
                    mine = batch(number, i)
                    if backend.get_many(*mine) != [None if key in lost else ROWS[key] for key in mine]:
                        wrong.append(number)

            in_threads(32, work)
            assert wrong == []
            # Whoever has asked it once, or has been told that it is out, does not ask it again.
            asked = set(re.findall(rb"key:\d+", proxy.requests))
            assert asked <= {key.encode() for number in range(32) for key in batch(number, 0)}
            assert 1 <= count_failures(backend) <= 32


@ways
def test_waiting_for_a_connection_to_a_hung_server_costs_only_its_keys(way: str, servers: Servers) -> None:
    with Proxy(servers[1].port) as proxy:
        addresses = [(HOST, servers[0].port), (HOST, proxy.port), (HOST, servers[2].port)]
        with MemcachedBackend(addresses, timeout=60, max_connections=2, retry_after=LONG) as backend:
            backend.set_many(ROWS)
            lost = set(keys_of(backend, 1))
            expected = [None if key in lost else value for key, value in ROWS.items()]
            proxy.cut_after, proxy.hang = 0, True
            found: list[Any] = []
            waiting: list[int] = []

            async def main() -> None:
                tasks = [asyncio.ensure_future(backend.aget_many(*KEYS)) for _ in range(8)]
                while (await backend.apools())[1].waiting < 6:
                    await asyncio.sleep(0.01)
                # All are done with the others.
                waiting[:] = [state.in_use for state in await backend.apools()]
                proxy.refuse()
                found.extend(await asyncio.gather(*tasks))
                await backend.aclose()

            def threads() -> None:
                def work(number: int) -> None:
                    found.append(backend.get_many(*KEYS))

                callers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
                for thread in callers:
                    thread.start()
                wait_until("six wait", lambda: backend.pools()[1].waiting == 6)
                wait_until("all are done with the others", lambda: in_use(backend) == [0, 2, 0])
                waiting[:] = in_use(backend)
                proxy.refuse()
                for thread in callers:
                    thread.join()

            threads() if way == "called" else asyncio.run(main())
            assert waiting == [0, 2, 0]
            assert found == [expected] * 8
            assert 1 <= count_failures(backend) <= 8


READS: list[tuple[str, int, str]] = [
    ("get", 1, "miss"),
    ("get_many", 300, "eject"),
    ("get_many", 300, "raise"),
    ("get_many_cas", 300, "raise"),
    ("has", 1, "eject"),
]


def test_a_full_pool_is_no_failure_of_its_server(servers: Servers) -> None:
    def read(method: str, count: int, policy: str) -> None:
        with on(servers, max_connections=1, timeout=SHORT, on_failure=policy) as backend:
            keys = keys_of(backend, 1)
            chunks = backend.get_chunks(keys * 3)
            next(chunks)
            if policy == "miss":
                assert getattr(backend, method)(*keys[:count]) in (None, [None] * count)
            else:
                with pytest.raises(BackendError, match="all 1 connections stayed in use; raise max_connections"):
                    getattr(backend, method)(*keys[:count])
            chunks.close()
            getattr(backend, method)(*keys[:count])
            assert count_failures(backend) == 0

    with on(servers) as backend:
        backend.set_many(dict.fromkeys(KEYS, LARGE))
    # They all wait for the same time, so they do it together.
    in_threads(len(READS), lambda number: read(*READS[number]))


def test_a_full_pool_of_a_loop_is_no_failure_of_its_server(servers: Servers) -> None:
    async def read(method: str, count: int, policy: str) -> None:
        with on(servers, max_connections=1, timeout=SHORT, on_failure=policy) as backend:
            keys = keys_of(backend, 1)
            chunks: Any = backend.aget_chunks(keys * 3)
            await anext(chunks)
            if policy == "miss":
                assert await awaited(backend, method, *keys[:count]) in (None, [None] * count)
            else:
                with pytest.raises(BackendError, match="all 1 connections stayed in use; raise max_connections"):
                    await awaited(backend, method, *keys[:count])
            await chunks.aclose()
            await awaited(backend, method, *keys[:count])
            assert count_failures(backend) == 0
            await backend.aclose()

    async def main() -> None:
        await asyncio.gather(*[read(*each) for each in READS])

    with on(servers) as backend:
        backend.set_many(dict.fromkeys(KEYS, LARGE))
    asyncio.run(main())


@ways
def test_a_server_that_is_back_is_found_by_one_who_tries(way: str, servers: Servers) -> None:
    def is_found_again() -> bool:
        # One that was stopped may take longer to answer than who tries it waits.
        backend.retry_failed_servers()
        return bool(call(backend, way, "get", key) == ROWS[key])

    with on(servers, timeout=SHORT) as backend:
        backend.set_many(ROWS)
        key = keys_of(backend, 1)[0]
        servers[1].pause()
        assert call(backend, way, "get", key) is None
        servers[1].resume()
        assert call(backend, way, "get", key) is None, "it is left alone for a while"
        wait_until("the server is found again", is_found_again)
        servers[1].kill()
        assert call(backend, way, "get", key) is None
        backend.retry_failed_servers()
        assert call(backend, way, "get", key) is None, "tried, and still not there"
        servers[1].start()
        call(backend, way, "get", key)
        assert backend.breakers()[1].reason is not None, "not tried again before its time"
        with on([servers[1]]) as direct:
            direct.set(key, ROWS[key])
        wait_until("the server is found again", is_found_again)
        assert call(backend, way, "set", key, b"new") is True
        assert call(backend, way, "get", key) == b"new"
        assert backend.breakers()[1].reason is None


@ways
def test_a_server_is_tried_again_when_its_time_has_come(way: str, servers: Servers) -> None:
    with on(servers, retry_after=0.05) as backend:
        key = keys_of(backend, 1)[0]
        servers[1].kill()
        assert call(backend, way, "get", key) is None
        servers[1].start()
        with on([servers[1]]) as direct:
            direct.set(key, b"there")
        wait_until("the server is found again", lambda: call(backend, way, "get", key) == b"there")


@ways
def test_a_server_whose_answers_take_longer_than_a_tenth_of_the_timeout_comes_back(servers: Servers, way: str) -> None:
    with Proxy(servers[1].port) as proxy:
        addresses = [(HOST, servers[0].port), (HOST, proxy.port)]
        with MemcachedBackend(addresses, timeout=0.25, retry_after=LONG) as backend:
            key = keys_of(backend, 1)[0]
            with on([servers[1]]) as direct:
                direct.set(key, b"there")
            proxy.cut_after, proxy.hang = 0, True
            assert call(backend, way, "get", key) is None
            proxy.cut_after = None
            proxy.before_reply = lambda: time.sleep(0.06)

            def is_found_again() -> bool:
                # On a busy machine the answer may take too long; what counts is that it does not always.
                backend.retry_failed_servers()
                return bool(call(backend, way, "get", key) == b"there")

            wait_until("the server is found again", is_found_again)


def test_while_one_tries_the_others_do_not_wait(servers: Servers) -> None:
    dead = free_port()
    asked = threading.Event()

    def take_and_say_nothing(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            asked.set()

    addresses = [(HOST, servers[0].port), (HOST, dead)]
    with MemcachedBackend(addresses, timeout=60, retry_after=LONG) as backend:
        key = keys_of(backend, 1)[0]
        assert backend.get(key) is None, "nobody listens there"
        with ScriptedServer(take_and_say_nothing, dead) as server:
            backend.retry_failed_servers()
            trying = threading.Thread(target=lambda: backend.get(key))
            trying.start()
            assert asked.wait(60)
            # It waits for six seconds. Should it have given up on a busy machine, the server is out again.
            with pytest.raises(BackendError, match="was not asked"):
                backend.add(key, b"")
            server.drop()
            trying.join()
            assert server.accepted == 1
            backend.retry_failed_servers()
            next_one = threading.Thread(target=lambda: backend.get(key))
            next_one.start()
            wait_until("another one tries", lambda: server.accepted == 2)
        next_one.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_uses_all_servers_over_its_own_connections(servers: Servers) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)

        def use() -> bool:
            return all(backend.get_many(*KEYS[i : i + 50]) == [b"%d" % n for n in range(i, i + 50)] for i in range(99))

        wait = fork_and_check(use)
        for i in range(100):
            assert backend.get_many(*KEYS[i : i + 50]) == [b"%d" % n for n in range(i, i + 50)]
        wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_tries_a_server_although_its_parent_was_trying_it(servers: Servers) -> None:
    dead = free_port()
    asked = threading.Event()

    def take_and_say_nothing(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            asked.set()

    with MemcachedBackend([(HOST, servers[0].port), (HOST, dead)], timeout=60, retry_after=LONG) as backend:
        key = keys_of(backend, 1)[0]
        assert backend.get(key) is None
        with ScriptedServer(take_and_say_nothing, dead) as server:
            backend.retry_failed_servers()
            trying = threading.Thread(target=lambda: backend.get(key))
            trying.start()
            assert asked.wait(60)
            before = server.accepted
            wait = fork_and_check(lambda: backend.retry_failed_servers() is None and backend.get(key) is None)
            wait_until("the child tries it, too", lambda: server.accepted == before + 1)
            server.drop()
            trying.join()
            wait()


# -- under load ------------------------------------------------------------------------------------------------


def under_load(backend: MemcachedBackend, disturb: Callable[[list[int]], None]) -> None:
    """Read and write from threads while something happens to a server: every answer is right or missing.

    Args:
        backend: on these servers.
        disturb: what happens; is given a list that grows with each round of the work.
    """
    stop = threading.Event()
    rounds: list[int] = []
    wrong: list[Any] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            mine = chance.sample(KEYS, 200)
            if backend.set_many({key: ROWS[key] for key in mine}) != dict.fromkeys(mine, True):
                wrong.append(number)
            for key, value in zip(mine, backend.get_many(*mine), strict=True):
                if value not in (None, ROWS[key]):
                    wrong.append((key, value))
            rounds.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        disturb(rounds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def kill_and_pause(
    servers: Servers,
    backend: MemcachedBackend,
    rounds: list[int],
    times: int,
    has_ended: Callable[[], bool] = lambda: False,
) -> None:
    """Restart one server, and let another hang until somebody has given it up; each in the midst of the work."""

    def go_on() -> None:
        before = len(rounds)
        wait_until("the work goes on", lambda: len(rounds) > before + 6 or has_ended())

    for _ in range(times):
        servers[1].restart()
        go_on()
        before = backend.breakers()[2].failures
        servers[2].pause()
        wait_until(
            "somebody has waited in vain",
            lambda before=before: backend.breakers()[2].failures > before or has_ended(),
        )
        servers[2].resume()
        go_on()


def recovers(backend: MemcachedBackend) -> bool:
    """Whether every row is written and read; one that has just been resumed may have much to do."""
    backend.retry_failed_servers()
    return all(backend.set_many(ROWS).values()) and backend.get_many(*KEYS) == list(ROWS.values())


async def arecovers(backend: MemcachedBackend) -> bool:
    backend.retry_failed_servers()
    written = await backend.aset_many(ROWS)
    return all(written.values()) and await backend.aget_many(*KEYS) == list(ROWS.values())


def test_killing_pausing_and_restarting_under_load_gives_no_wrong_row(servers: Servers) -> None:
    with on(servers, timeout=0.3, retry_after=0.05, max_connections=8) as backend:
        under_load(backend, lambda rounds: kill_and_pause(servers, backend, rounds, 3))
        wait_until("all servers are asked again", lambda: recovers(backend))
        assert in_use(backend) == [0, 0, 0]
        assert all(state.idle <= 8 for state in backend.pools())


@runs
def test_killing_pausing_and_restarting_under_tasks_gives_no_wrong_row(servers: Servers, run: Any) -> None:
    stop = threading.Event()
    rounds: list[int] = []

    async def work(backend: MemcachedBackend, number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            mine = chance.sample(KEYS, 200)
            assert await backend.aset_many({key: ROWS[key] for key in mine}) == dict.fromkeys(mine, True)
            for key, value in zip(mine, await backend.aget_many(*mine), strict=True):
                assert value in (None, ROWS[key])
            rounds.append(number)

    async def main(backend: MemcachedBackend) -> None:
        await asyncio.gather(*[work(backend, number) for number in range(6)])
        assert await settled(lambda: arecovers(backend)), backend.breakers()
        pools = await backend.apools()
        assert [state.in_use for state in pools] == [0, 0, 0]
        assert all(state.idle <= 8 for state in pools)
        await backend.aclose()

    # The loop has a thread of its own: a server ends with the thread that has started it.
    with (
        on(servers, timeout=0.3, retry_after=0.05, max_connections=8) as backend,
        ThreadPoolExecutor(1) as executor,
    ):
        ended = executor.submit(lambda: run(main(backend)))
        try:
            kill_and_pause(servers, backend, rounds, 2, ended.done)
        finally:
            stop.set()
        ended.result()


# -- callers that are cancelled ----------------------------------------------------------------------------------


def test_cancelled_batches_over_several_servers_leave_no_reply_to_others(servers: Servers) -> None:
    chance = random.Random(3)
    goal = enough(1000, 100, "cancelled calls")
    cancelled = 0

    async def victim(backend: MemcachedBackend, number: int) -> None:
        nonlocal cancelled
        mine = chance.sample(KEYS, 20)
        rows = {key: ROWS[key] for key in mine}
        task = asyncio.ensure_future(backend.aset_many(rows) if number % 3 == 0 else backend.aget_many(*mine))
        await asyncio.sleep(chance.random() * 0.004)
        task.cancel()
        try:
            found = await task
        except asyncio.CancelledError:
            cancelled += 1
        else:
            assert found in ([ROWS[key] for key in mine], dict.fromkeys(mine, True))

    async def bystander(backend: MemcachedBackend) -> None:
        mine = [*chance.sample(KEYS, 20), "absent"]
        assert await backend.aget_many(*mine) == [ROWS.get(key) for key in mine]

    async def main(backend: MemcachedBackend, proxies: list[DelayingProxy]) -> None:
        await backend.aset_many(ROWS)
        start = 0
        while cancelled < goal:
            await asyncio.gather(*[victim(backend, start + i) for i in range(50)], bystander(backend))
            start += 50
        assert await ain_use(backend) == [0, 0, 0]
        await backend.aclose()
        assert await settled(lambda: not any(proxy.open for proxy in proxies))

    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(DelayingProxy(server.port, 0.002)) for server in servers]
        addresses = [(HOST, proxy.port) for proxy in proxies]
        # With "miss", keys of a write that was cancelled would be deleted.
        backend = stack.enter_context(MemcachedBackend(addresses, max_connections=16, timeout=60, on_failure="raise"))
        asyncio.run(main(backend, proxies))


def test_an_abandoned_read_leaves_nothing_for_the_next(servers: Servers) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)
        chunks = backend.get_chunks(KEYS)
        next(chunks)
        chunks.close()
        assert backend.get_many(*KEYS) == list(ROWS.values())
        assert in_use(backend) == [0, 0, 0]


@runs
def test_an_abandoned_awaited_read_leaves_nothing_for_the_next(servers: Servers, run: Any) -> None:
    async def main() -> None:
        with on(servers) as backend:
            await backend.aset_many(ROWS)
            chunks: Any = backend.aget_chunks(KEYS)
            await anext(chunks)
            await chunks.aclose()
            assert await backend.aget_many(*KEYS) == list(ROWS.values())
            assert await ain_use(backend) == [0, 0, 0]
            await backend.aclose()

    run(main())


@pytest.mark.parametrize("wait", [0, 0.002])
@runs
def test_an_awaited_read_gives_values_before_any_server_has_given_its_share(
    servers: Servers, run: Any, wait: float
) -> None:
    keys = KEYS * 5

    async def main() -> None:
        with on(servers) as backend:
            await backend.aset_many(ROWS)
            found: list[Any] = []
            sizes = []
            async for values in backend.aget_chunks(keys):
                found += values
                sizes.append(len(values))
                await asyncio.sleep(wait)  # replies arrive while nobody waits for them
            assert found == [ROWS[key] for key in keys]
            # No server is asked for more than 12 parts of 250 keys ahead of what it has answered.
            assert max(sizes) <= len(keys) // 2
            await backend.aclose()

    run(main())
