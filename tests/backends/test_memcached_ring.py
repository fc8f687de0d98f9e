"""Several memcacheds: what is asked of them at once, and what happens when one is dead, hangs, and is back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from amounts import enough
from children import fork_and_check
from clusters import wait_until
from delays import DelayingProxy
from loops import RUNNERS
from servers import HOST, MemcachedServer

import cacheorm as co
from cacheorm.backends._memcached import blocking
from cacheorm.backends._memcached.exchange import UnreachableError
from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError
from cacheorm.types import KEEP_TTL

ROWS = {f"key:{i}": b"%d" % i for i in range(6000)}
KEYS = list(ROWS)
Servers = list[MemcachedServer]


@pytest.fixture(scope="module")
def shared() -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(3)]


@pytest.fixture
def servers(shared: Servers) -> Iterator[Servers]:
    """Three servers, empty; a test may pause and kill them."""
    for server in shared:
        if server._process is None:
            server.start()
        with MemcachedBackend([server.address]) as backend:  # type: ignore[list-item]
            backend.clear()
    yield shared
    for server in shared:
        if server._process is not None:
            server.resume()


def on(servers: Servers, **options: Any) -> MemcachedBackend:
    return MemcachedBackend(
        [(HOST, server.port) for server in servers], **{"timeout": 0.3, "retry_after": 60} | options
    )


def keys_of(backend: MemcachedBackend, server: int) -> list[str]:
    return [key for key, owner in zip(KEYS, backend._rings.whole.owners(KEYS), strict=True) if owner == server]


def call(backend: MemcachedBackend, way: str, method: str, *args: Any) -> Any:
    """Call a method, or await it."""
    if way == "called":
        return getattr(backend, method)(*args)
    return asyncio.run(backend._await(method, *args))


ways = pytest.mark.parametrize("way", ["called", "awaited"])
runs = pytest.mark.parametrize("run", RUNNERS)


def back_again(backend: MemcachedBackend) -> None:
    """Make the time pass after which a server that was out is tried."""
    for health in backend._rings.health:
        health._until = 0.0


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
            self.answer.wait(30)
            connection.sendall(b"HD\r\n" * request.count(b"ms ") + b"MN\r\n" * request.count(b"mn\r\n"))

    def close(self) -> None:
        self.answer.set()
        for thread in self._threads:
            thread.join(30)
        for listener in self._listeners:
            listener.close()


@ways
@pytest.mark.parametrize(("method", "expected"), [("get_many", [None] * 100), ("set_many", None)])
def test_all_servers_are_written_before_any_is_read(way: str, method: str, expected: Any) -> None:
    silent = Silent(4)
    keys = KEYS[:100]
    found: list[Any] = []
    with contextlib.closing(silent), MemcachedBackend(silent.addresses, timeout=30) as backend:
        args = keys if method == "get_many" else [dict.fromkeys(keys, b"")]
        thread = threading.Thread(target=lambda: found.append(call(backend, way, method, *args)))
        thread.start()
        assert all(asked.wait(30) for asked in silent.asked), "each has its request while none has answered"
        assert found == []
        silent.answer.set()
        thread.join(30)
        assert found == [dict.fromkeys(keys, True) if expected is None else expected]


@ways
def test_batches_keep_their_order_whatever_their_size(way: str, servers: Servers) -> None:
    with on(servers, timeout=30) as backend:
        assert call(backend, way, "set_many", ROWS) == dict.fromkeys(ROWS, True)
        for count in (0, 1, 2, 249, 1000, 6000):
            asked = [*KEYS[:count], "absent", *KEYS[:count]]
            assert call(backend, way, "get_many", *asked) == [ROWS.get(key) for key in asked]
        chunks = list(backend.get_chunks(KEYS))
        assert [value for chunk in chunks for value in chunk] == list(ROWS.values())
        assert len(chunks) > 1
        assert all(on([server]).stats()["entries"] > 1000 for server in servers)
        assert call(backend, way, "stats")["entries"] == len(ROWS)
        assert call(backend, way, "ping") is True
        call(backend, way, "clear")
        assert call(backend, way, "get_many", *KEYS[:50]) == [None] * 50


@ways
def test_full_buffers_of_one_server_hold_up_none(way: str, servers: Servers) -> None:
    with on(servers, timeout=30) as backend:
        rows = {f"{i}:" + "k" * 240: b"%d" % i * 100_000 for i in range(60)}
        assert all(call(backend, way, "set_many", rows).values())
        keys = [key for _ in range(10) for key in rows]
        assert call(backend, way, "get_many", *keys) == [rows[key] for key in keys]


# -- a server that is dead, or hangs -----------------------------------------------------------------------


@ways
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_keys_of_a_lost_server_are_misses_and_errors_of_writes(way: str, how: str, servers: Servers) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)
        lost = set(keys_of(backend, 1))
        name = f"memcached at {HOST}:{servers[1].port}: "
        getattr(servers[1], how)()
        expected = [None if key in lost else value for key, value in ROWS.items()]
        assert call(backend, way, "get_many", *KEYS) == expected
        outcome = call(backend, way, "set_many", ROWS, 50)
        assert [key for key, stored in outcome.items() if not stored] == [key for key in KEYS if key in lost]
        assert set(outcome.reasons) == lost
        assert all(reason.startswith(name) for reason in outcome.reasons.values())
        assert outcome.unsure == set(), "nothing was sent"

        key = next(iter(lost))
        assert call(backend, way, "get", key) is None
        assert call(backend, way, "has", key) is False
        assert call(backend, way, "ttl", key) is None
        assert call(backend, way, "get_many_cas", key) == [None]
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
            call(backend, way, "ping")
        assert call(backend, way, "stats")["entries"] == len(ROWS) - len(lost)
        with pytest.raises(BackendError, match=name) as caught:
            call(backend, way, "delete_many", *KEYS)
        assert caught.value.maybe_applied is True, "the others have deleted theirs"
        with pytest.raises(BackendError, match=name):
            call(backend, way, "clear")
        assert call(backend, way, "get_many", *KEYS) == [None] * len(KEYS)


@ways
def test_on_demand_reads_of_a_lost_server_are_errors(way: str, servers: Servers) -> None:
    with on(servers, on_server_failure="raise") as backend:
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
    with on(servers, on_server_failure="eject") as backend:
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
def test_a_hung_server_that_may_have_written_is_told_of(way: str, servers: Servers) -> None:
    with on(servers) as backend:
        lost = set(keys_of(backend, 2))
        backend.ping()
        servers[2].pause()
        outcome = call(backend, way, "set_many", ROWS)
        assert outcome.unsure == lost
        assert "may have been applied" in next(iter(outcome.reasons.values()))


def test_rows_of_a_lost_server_are_listed_and_the_others_are_stored(servers: Servers) -> None:
    with on(servers) as backend:
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
            found = Row.query_many({"id": i} for i in range(100)).execute()
            assert [row is None for row in found] == [Row.key(id=i) in failed for i in range(100)]


# -- nobody waits twice --------------------------------------------------------------------------------------


def count_failures(backend: MemcachedBackend) -> int:
    return sum(health.failures for health in backend._rings.health)


@ways
def test_the_timeout_is_waited_for_once(way: str, servers: Servers) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)
        servers[1].pause()
        for _ in range(20):
            assert None in call(backend, way, "get_many", *KEYS)
        assert count_failures(backend) == 1


def test_thirty_two_threads_wait_once_each_at_most(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)
        servers[1].pause()
        waited: dict[int, int] = {}
        real = blocking.Connection.pump

        async def counted(self: Any) -> None:
            try:
                await real(self)
            except TimeoutError:
                waited[threading.get_ident()] = waited.get(threading.get_ident(), 0) + 1
                raise

        monkeypatch.setattr(blocking.Connection, "pump", counted)
        wrong: list[Any] = []
        lost = set(keys_of(backend, 1))

        def work(number: int) -> None:
            for i in range(10):
                mine = KEYS[number * 50 + i :: 40]
                if backend.get_many(*mine) != [None if key in lost else ROWS[key] for key in mine]:
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert 1 <= len(waited) <= 32
        assert set(waited.values()) == {1}


def test_whoever_waits_for_a_place_does_not_wait_for_the_server_as_well(servers: Servers) -> None:
    with on(servers, max_connections=2, timeout=0.5) as backend:
        backend.set_many(ROWS)
        servers[1].pause()
        # Few, so that those ahead are done with the other servers long before anybody's patience ends.
        keys = KEYS[:200]
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(backend.get_many(*keys))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lost = set(keys_of(backend, 1))
        assert found == [[None if key in lost else ROWS[key] for key in keys]] * 8
        assert count_failures(backend) <= 2


@ways
@pytest.mark.parametrize(
    ("method", "count", "policy"),
    [
        ("get", 1, "miss"),
        ("get_many", 300, "eject"),
        ("get_many", 300, "raise"),
        ("get_many_cas", 300, "miss"),
        ("has", 1, "eject"),
    ],
)
def test_a_full_pool_is_no_failure_of_its_server(
    way: str, method: str, count: int, policy: str, servers: Servers
) -> None:
    async def read(backend: MemcachedBackend, keys: list[str]) -> None:
        if way == "called":
            getattr(backend, method)(*keys)
        else:
            await backend._await(method, *keys)

    async def main(backend: MemcachedBackend) -> None:
        keys = keys_of(backend, 1)[:count]
        await read(backend, keys)  # a connection that is idle is taken without waiting
        commands: Any = backend._blocking if way == "called" else backend._awaited()
        pool = commands._engine._pools[1]
        held = await pool.take()
        with pytest.raises(BackendError, match=r"all 1 connections stayed in use for 1 s"):
            await read(backend, keys)
        pool.give_back(held, True)
        await read(backend, keys)
        await backend.aclose()

    # On a busy machine an answer may take a while, and a server that has none within the timeout has failed.
    with on(servers, max_connections=1, timeout=0.5, on_server_failure=policy) as backend:
        backend.set_many(ROWS)
        asyncio.run(main(backend))
        assert count_failures(backend) == 0


@ways
def test_a_server_that_is_back_is_found_by_one_who_tries(way: str, servers: Servers) -> None:
    with on(servers) as backend:
        backend.set_many(ROWS)
        key = keys_of(backend, 1)[0]
        servers[1].pause()
        assert call(backend, way, "get", key) is None
        servers[1].resume()
        assert call(backend, way, "get", key) is None, "it is left alone for a while"
        back_again(backend)
        assert call(backend, way, "get", key) == ROWS[key]
        servers[1].kill()
        assert call(backend, way, "get", key) is None
        back_again(backend)
        assert call(backend, way, "get", key) is None, "tried, and still not there"
        servers[1].start()
        back_again(backend)
        assert call(backend, way, "set", key, b"new") is True
        assert call(backend, way, "get", key) == b"new"


@ways
def test_a_server_whose_answers_take_longer_than_a_tenth_of_the_timeout_comes_back(servers: Servers, way: str) -> None:
    with DelayingProxy(servers[1].port) as proxy:
        addresses = [(HOST, servers[0].port), (HOST, proxy.port)]
        with MemcachedBackend(addresses, timeout=0.25, retry_after=60) as backend:
            key = keys_of(backend, 1)[0]
            backend.set(key, b"there")
            backend._rings.health[1].fail("as if it had not answered")
            back_again(backend)
            proxy.hung = True
            timer = threading.Timer(0.06, setattr, (proxy, "hung", False))
            timer.start()
            try:
                assert call(backend, way, "get", key) == b"there"
            finally:
                timer.join()


def test_while_one_tries_the_others_do_not_wait(servers: Servers) -> None:
    with on(servers) as backend:
        servers[1].pause()
        key = keys_of(backend, 1)[0]
        assert backend.get(key) is None
        back_again(backend)
        health = backend._rings.health[1]
        assert health.claim()
        try:
            with pytest.raises(BackendError, match="was not asked"):
                backend.set(key, b"")
            assert not health.claim()
        finally:
            health.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_uses_all_servers_over_its_own_connections(servers: Servers) -> None:
    with on(servers, timeout=30) as backend:
        backend.set_many(ROWS)
        assert backend._rings.health[0]._lock.acquire()

        def use() -> bool:
            backend._rings.health[0].fail("as in the parent")
            back_again(backend)
            return all(backend.get_many(*KEYS[i : i + 50]) == [b"%d" % n for n in range(i, i + 50)] for i in range(99))

        wait = fork_and_check(use)
        backend._rings.health[0]._lock.release()
        for i in range(100):
            assert backend.get_many(*KEYS[i : i + 50]) == [b"%d" % n for n in range(i, i + 50)]
        wait()


# -- under load ------------------------------------------------------------------------------------------------


def under_load(backend: MemcachedBackend, disturb: Callable[[], None]) -> None:
    """Read and write from threads while something happens to a server: every answer is right or missing."""
    stop = threading.Event()
    wrong: list[Any] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            mine = chance.sample(KEYS, 200)
            outcome: Any = backend.set_many({key: ROWS[key] for key in mine})
            if any(stored is not (key not in outcome.reasons) for key, stored in outcome.items()):
                wrong.append(outcome)
            for key, value in zip(mine, backend.get_many(*mine), strict=True):
                if value not in (None, ROWS[key]):
                    wrong.append((key, value))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    try:
        disturb()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def kill_and_pause(servers: Servers, times: int) -> None:
    """Restart one server, and let another hang for longer than anybody waits."""
    for _ in range(times):
        servers[1].restart()
        time.sleep(0.1)
        servers[2].pause()
        time.sleep(0.5)
        servers[2].resume()
        time.sleep(0.1)


def recovers(backend: MemcachedBackend) -> bool:
    """Whether every row is written and read; one that has just been resumed may have much to do."""
    back_again(backend)
    return all(backend.set_many(ROWS).values()) and backend.get_many(*KEYS) == list(ROWS.values())


async def arecovers(backend: MemcachedBackend) -> bool:
    back_again(backend)
    written = await backend.aset_many(ROWS)
    return all(written.values()) and await backend.aget_many(*KEYS) == list(ROWS.values())


def test_killing_pausing_and_restarting_under_load_gives_no_wrong_row(servers: Servers) -> None:
    with on(servers, retry_after=0.05, max_connections=8) as backend:
        under_load(backend, lambda: kill_and_pause(servers, 3))
        wait_until("all servers are asked again", lambda: recovers(backend))
        pools: Any = backend._engine._pools  # type: ignore[attr-defined]
        assert [pool._members.taken for pool in pools] == [0, 0, 0]
        assert all(len(pool._members.idle) <= 8 for pool in pools)


@runs
def test_killing_pausing_and_restarting_under_tasks_gives_no_wrong_row(servers: Servers, run: Any) -> None:
    stop = threading.Event()
    deadline = time.monotonic() + 60

    async def work(backend: MemcachedBackend, number: int) -> None:
        chance = random.Random(number)
        while not stop.is_set():
            mine = chance.sample(KEYS, 200)
            outcome: Any = await backend.aset_many({key: ROWS[key] for key in mine})
            assert all(stored is (key not in outcome.reasons) for key, stored in outcome.items())
            for key, value in zip(mine, await backend.aget_many(*mine), strict=True):
                assert value in (None, ROWS[key])

    async def main() -> None:
        with on(servers, retry_after=0.05, max_connections=8) as backend:
            await asyncio.gather(*[work(backend, number) for number in range(6)])
            while not await arecovers(backend):
                assert time.monotonic() < deadline, [health.reason for health in backend._rings.health]
            commands: Any = backend._awaited()
            pools = commands._engine._pools
            assert [pool.turns.free for pool in pools] == [8, 8, 8]
            assert all(len(pool._idle) <= 8 for pool in pools)
            await backend.aclose()

    # The loop has a thread of its own: a server ends with the thread that has started it.
    with ThreadPoolExecutor(1) as executor:
        ended = executor.submit(lambda: run(main()))
        try:
            kill_and_pause(servers, 2)
        finally:
            stop.set()
        ended.result()


# -- callers that are cancelled ----------------------------------------------------------------------------------


def test_cancelled_batches_over_several_servers_leave_no_reply_to_others(servers: Servers) -> None:
    chance = random.Random(3)
    rounds = enough(3000, 300, "cancelled calls")
    cancelled = 0

    async def victim(backend: MemcachedBackend, number: int) -> None:
        nonlocal cancelled
        mine = chance.sample(KEYS, 20)
        rows = {key: ROWS[key] for key in mine}
        task = asyncio.ensure_future(
            backend._await("set_many", rows) if number % 3 == 0 else backend._await("get_many", *mine)
        )
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
        assert await backend._await("get_many", *mine) == [ROWS.get(key) for key in mine]

    async def main(backend: MemcachedBackend, proxies: list[DelayingProxy]) -> None:
        await backend._await("set_many", ROWS)
        for start in range(0, rounds, 50):
            await asyncio.gather(*[victim(backend, start + i) for i in range(50)], bystander(backend))
        assert cancelled > rounds // 3
        commands: Any = backend._awaited()
        pools = commands._engine._pools
        assert [pool.turns.free for pool in pools] == [16, 16, 16]
        await backend.aclose()
        while any(proxy.open for proxy in proxies):
            await asyncio.sleep(0.01)

    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(DelayingProxy(server.port, 0.002)) for server in servers]
        addresses = [(HOST, proxy.port) for proxy in proxies]
        backend = stack.enter_context(MemcachedBackend(addresses, max_connections=16, timeout=60))
        asyncio.run(main(backend, proxies))


def test_an_abandoned_read_leaves_nothing_for_the_next(servers: Servers) -> None:
    with on(servers, timeout=30) as backend:
        backend.set_many(ROWS)
        chunks = backend.get_chunks(KEYS)
        next(chunks)
        chunks.close()
        assert backend.get_many(*KEYS) == list(ROWS.values())
        pools: Any = backend._engine._pools  # type: ignore[attr-defined]
        assert [pool._members.taken for pool in pools] == [0, 0, 0]


@runs
def test_an_abandoned_awaited_read_leaves_nothing_for_the_next(servers: Servers, run: Any) -> None:
    async def main() -> None:
        with on(servers, timeout=30) as backend:
            await backend.aset_many(ROWS)
            chunks: Any = backend.aget_chunks(KEYS)
            await anext(chunks)
            await chunks.aclose()
            assert await backend.aget_many(*KEYS) == list(ROWS.values())
            commands: Any = backend._awaited()
            pools = commands._engine._pools
            assert [pool.turns.free for pool in pools] == [64, 64, 64]
            await backend.aclose()

    run(main())


@pytest.mark.parametrize("wait", [0, 0.002])
@runs
def test_an_awaited_read_gives_values_before_any_server_has_given_its_share(
    servers: Servers, run: Any, wait: float
) -> None:
    keys = KEYS * 5

    async def main() -> None:
        with on(servers, timeout=30) as backend:
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


def test_an_unreachable_server_is_a_backend_error() -> None:
    assert issubclass(UnreachableError, BackendError)
