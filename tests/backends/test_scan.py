"""Enumerating keys on real servers: whatever moves, restarts, fails over or is busy meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co
from cacheorm._speedups import wire
from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError, InvalidKeyError

if TYPE_CHECKING:
    from clusters import ClusterNode, RedisCluster

KEYS = [f"m:user:id:{number}" for number in range(3000)]
ROWS = dict.fromkeys(KEYS, b"1")


def call(backend: Any, *args: Any) -> Iterator[list[str]]:
    found: Iterator[list[str]] = backend.scan_chunks(*args)
    return found


def wait(backend: Any, *args: Any) -> Iterator[list[str]]:
    """Yield what an asynchronous iterator gives, with an event loop that stands still in between."""
    with asyncio.Runner() as runner:
        chunks = backend.ascan_chunks(*args)
        try:
            while (keys := runner.run(next_of(chunks))) is not None:
                yield keys
        finally:
            runner.run(chunks.aclose())
            runner.run(backend.aclose())


async def next_of(chunks: Any) -> Any:
    return await anext(chunks, None)


@pytest.fixture(params=[call, wait], ids=["called", "awaited"])
def scan(request: pytest.FixtureRequest) -> Callable[..., Iterator[list[str]]]:
    """Enumerate keys in lists, by a call or awaited."""
    scan: Callable[..., Iterator[list[str]]] = request.param
    return scan


def all_of(chunks: Iterator[list[str]]) -> list[str]:
    return [key for keys in chunks for key in keys]


# -- what is asked -----------------------------------------------------------------------------------


def test_a_prefix_and_a_size_are_checked(backend: co.BaseBackend) -> None:
    given: Any
    for given in (1, None, b"m:"):
        with pytest.raises(TypeError, match="prefix must be a str"):
            [*backend.scan(given)]
    for given in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="batch_size must be a whole number"):
            [*backend.scan("m:", given)]
    if not isinstance(backend, co.SimpleBackend):
        with pytest.raises(InvalidKeyError):
            [*backend.scan("m:\ud800")]


def test_clear_of_what_others_may_use_asks_for_more(
    redis_backend: RedisBackend, memcached_backend: MemcachedBackend, tmp_path: Path
) -> None:
    for backend in (redis_backend, memcached_backend):
        backend.set("a", b"1")
        with pytest.raises(TypeError, match=r"pass prefix=\.\.\., or everything=True"):
            backend.clear()
        with pytest.raises(TypeError, match="not both"):
            backend.clear("a", everything=True)
        with pytest.raises(ValueError, match="the prefix is empty"):
            backend.clear("")

        async def main(backend: Any = backend) -> None:
            with pytest.raises(TypeError, match=r"pass prefix=\.\.\., or everything=True"):
                await backend.aclear()
            await backend.aclear("b")
            await backend.aclose()

        asyncio.run(main())
        assert backend.get("a") == b"1"
        backend.clear(everything=True)
        assert backend.get("a") is None
    for own in (co.SimpleBackend(), co.FileSystemBackend(tmp_path)):
        own.set("a", b"1")
        own.clear()
        assert own.get("a") is None


@pytest.mark.parametrize("on_failure", ["raise", "miss"])
def test_a_server_that_fails_is_an_error(scan: Any, on_failure: str, request: pytest.FixtureRequest) -> None:
    backends: list[Any] = [
        co.RedisBackend(HOST, 1, on_failure=on_failure, retry_after=0),
        co.MemcachedBackend([(HOST, 1)], on_failure=on_failure, retry_after=0),
        co.MemcachedBackend([(HOST, 1), (HOST, 2)], on_failure=on_failure, retry_after=0),
    ]
    for backend in backends:
        with pytest.raises(BackendError, match=r"127\.0\.0\.1:1"):
            all_of(scan(backend, "m:"))
        with pytest.raises(BackendError):
            backend.clear("m:")
        assert backend.pending_invalidations() == (0, 0)


def test_keys_that_are_still_to_be_deleted_are_left_out(tmp_path: Path) -> None:
    taken = tmp_path / "cache"
    backend = co.FileSystemBackend(taken, on_failure="miss", retry_after=0)
    backend.set_many({"a": b"1", "b": b"1"})
    backend.close()
    with co.deadline(0):
        assert backend.delete("a") is False
    assert [*backend.scan()] in (["b"], ["a", "b"])
    assert backend.get("a") is None
    assert [*backend.scan()] == ["b"]


def test_a_time_limit_bounds_each_request_and_not_the_whole(redis_backend: RedisBackend) -> None:
    redis_backend.set_many(ROWS)
    limited = co.RedisBackend.from_url(
        f"redis://{HOST}:{redis_backend.client.connection_pool.connection_kwargs['port']}"
    )
    limited.operation_timeout = 60
    chunks = call(limited, "m:", 100)
    next(chunks)
    with co.deadline(0), pytest.raises(BackendError, match="no time"):
        all_of(chunks)


def test_keys_of_others_that_are_no_text_are_left_out(redis_backend: RedisBackend, scan: Any) -> None:
    redis_backend.client.set(b"m:\xff", b"1")
    redis_backend.client.lpush("m:list", b"1")
    redis_backend.set("m:a", b"1")
    assert sorted(all_of(scan(redis_backend, "m:"))) == ["m:a", "m:list"]
    redis_backend.clear("m:")
    assert redis_backend.client.keys("*") == [b"m:\xff"]


def test_few_of_many_keys_come_in_full_lists(redis_backend: RedisBackend, scan: Any) -> None:
    redis_backend.set_many({**ROWS, **{f"other:{number}": b"1" for number in range(20_000)}})
    chunks = [*scan(redis_backend, "m:user:", 500)]
    assert [len(keys) for keys in chunks[:5]] == [500] * 5
    assert {*all_of(iter(chunks))} == {*KEYS}


# -- Redis: restarts, failovers, slots that move -----------------------------------------------------


def test_a_server_that_is_restarted_is_enumerated_anew(tmp_path: Path) -> None:
    options = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    with RedisServer(*options) as server, co.RedisBackend(HOST, server.port) as backend:
        backend.set_many(ROWS, 0)
        chunks = backend.scan_chunks("m:", 100)
        found = {*next(chunks)}
        server.kill()
        server.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(BackendError):
                backend.get("m:")
                break
            time.sleep(0.05)
        found.update(all_of(chunks))
        assert found == {*KEYS}


def nodes_of(cluster: RedisCluster) -> tuple[ClusterNode, ClusterNode, int]:
    """Return two primaries, and a slot of the first one that holds a key."""
    slot = wire.key_slots([KEYS[0]])[0]
    source = cluster.owner(slot)
    target = next(node for node in cluster.primaries() if node is not source)
    return source, target, slot


@pytest.fixture
def cluster_backend(redis_cluster: RedisCluster) -> Iterator[RedisBackend]:
    with RedisBackend.from_url(redis_cluster.url) as backend:
        backend.clear(everything=True)
        backend.set_many(ROWS, 0)
        yield backend
        backend.clear(everything=True)


def test_every_primary_of_a_cluster_is_enumerated(cluster_backend: RedisBackend, scan: Any) -> None:
    found = all_of(scan(cluster_backend, "m:user:", 100))
    assert sorted(found) == sorted(KEYS)
    cluster_backend.clear("m:user:id:1")
    left = all_of(scan(cluster_backend))
    assert sorted(left) == sorted(key for key in KEYS if not key.startswith("m:user:id:1"))


@pytest.mark.parametrize("when", range(0, 30, 7))
def test_slots_that_move_are_enumerated_where_they_are(
    redis_cluster: RedisCluster, cluster_backend: RedisBackend, scan: Any, when: int
) -> None:
    """All slots of the keys that are read last move to the node that is read first, and the other way round."""
    slots = sorted({*wire.key_slots(KEYS)})
    nodes = redis_cluster.primaries()
    homes = {slot: redis_cluster.owner(slot) for slot in slots[:: len(slots) // 12]}
    found: set[str] = set()
    try:
        for step, keys in enumerate(scan(cluster_backend, "m:", 100)):
            found.update(keys)
            if step == when:
                for slot, home in homes.items():
                    redis_cluster.move_slot(slot, nodes[(nodes.index(home) + 1 + step % 2) % len(nodes)], home)
        assert found == {*KEYS}
    finally:
        for slot, home in homes.items():
            redis_cluster.move_slot(slot, home)
        redis_cluster.wait_until_agreed()


@pytest.mark.parametrize("when", [0, 12, 25])
def test_a_slot_that_is_half_moved_is_enumerated_on_both_sides(
    redis_cluster: RedisCluster, cluster_backend: RedisBackend, scan: Any, when: int
) -> None:
    source, target, slot = nodes_of(redis_cluster)
    tagged = [f"m:{{{KEYS[0]}}}:{number}" for number in range(200)]
    cluster_backend.set_many(dict.fromkeys(tagged, b"1"), 0)
    redis_cluster.begin_move(slot, target, source)
    redis_cluster.migrate_keys(slot, source, target, 70)
    found: set[str] = set()
    try:
        for step, keys in enumerate(scan(cluster_backend, "m:", 100)):
            found.update(keys)
            if step == when:
                redis_cluster.migrate_keys(slot, source, target, 80)
        assert found == {*KEYS, *tagged}
    finally:
        while redis_cluster.migrate_keys(slot, source, target, 100):
            pass
        redis_cluster.finish_move(slot, source, target)
        redis_cluster.move_slot(slot, source)
        redis_cluster.wait_until_agreed()


@pytest.mark.parametrize("when", [0, 20])
def test_a_primary_that_fails_is_enumerated_where_it_is_replaced(scan: Any, when: int) -> None:
    from clusters import RedisCluster

    with RedisCluster() as cluster, RedisBackend.from_url(cluster.url, operation_timeout=120) as backend:
        backend.set_many(ROWS, 0)
        found: set[str] = set()
        for step, keys in enumerate(scan(backend, "m:", 100)):
            found.update(keys)
            if step == when:
                cluster.wait_for_failover(cluster.kill(cluster.primaries()[-1]))
        assert found == {*KEYS}


def test_the_next_primary_of_a_service_is_enumerated_anew(scan: Any) -> None:
    from sentinels import SentinelGroup

    with SentinelGroup() as group, RedisBackend.from_url(group.url, operation_timeout=120) as backend:
        backend.set_many(ROWS, 0)
        with redis.Redis(HOST, group.primary().port) as client:
            client.set("last", 1)
            assert client.wait(1, 0) == 1
        chunks = scan(backend, "m:", 100)
        found = {*next(chunks)}
        group.failover()
        found.update(all_of(chunks))
        assert found == {*KEYS}


# -- memcached ---------------------------------------------------------------------------------------


def test_keys_come_from_all_servers_and_from_where_they_are_found(scan: Any) -> None:
    with MemcachedServer() as first, MemcachedServer() as second:
        servers = [first.address, second.address]
        with MemcachedBackend(servers) as backend, MemcachedBackend([servers[0]]) as alone:
            backend.set_many(ROWS)
            # Those that belong to the second server are found by nobody on the first one.
            alone.set_many(dict.fromkeys(KEYS[:100], b"old"))
            assert sorted(all_of(scan(backend, "m:", 100))) == sorted(KEYS)
            backend.clear("m:")
            assert all_of(scan(backend, "m:")) == []


def test_a_server_without_a_crawler_says_so(scan: Any) -> None:
    with MemcachedServer("-o", "no_lru_crawler") as server, MemcachedBackend([server.address]) as backend:
        with pytest.raises(BackendError, match=r"no keys: CLIENT_ERROR lru crawler disabled .*no_lru_crawler"):
            all_of(scan(backend, "m:"))
        assert backend.set("a", b"1") is True


class _Answers(socketserver.StreamRequestHandler):
    """Gives the next answer of its server for each line."""

    def handle(self) -> None:
        for line in self.rfile:
            asked: list[bytes] = self.server.asked  # type: ignore[attr-defined]
            answers: list[bytes] = self.server.answers  # type: ignore[attr-defined]
            if line == b"mn\r\n":
                self.wfile.write(b"MN\r\n")
            else:
                asked.append(line.strip())
                self.wfile.write(answers.pop(0) if len(answers) > 1 else answers[0])


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[tuple[MemcachedBackend, list[bytes]]]:
    """Yield a backend on a server that gives these answers, the last one again and again, and what it is asked."""
    with socketserver.ThreadingTCPServer((HOST, 0), _Answers) as server:
        server.daemon_threads = True
        server.answers, server.asked = [*answers], []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with MemcachedBackend([server.server_address[:2]]) as backend:  # type: ignore[list-item]
                yield backend, server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()


BUSY = b"BUSY currently processing crawler request\r\n"
DUMP = b"key=m%3Aa exp=-1 la=1 cas=1 fetch=no cls=1 size=9\nkey=m%3A%FF exp=-1 la=1\nkey=n%3Ab exp=5 la=1\nEND\r\n"


def test_a_server_that_gives_its_keys_to_another_is_waited_for(scan: Any) -> None:
    with answering(BUSY, BUSY, DUMP) as (backend, asked):
        assert all_of(scan(backend, "m:")) == ["m:a"]
        assert asked == [b"lru_crawler metadump hash"] * 3
    refused = pytest.raises(BackendError, match=r"BUSY .*one at a time; try again later")
    with answering(BUSY) as (backend, _), co.deadline(0.3), refused:
        all_of(call(backend, "m:"))


def test_a_server_that_does_not_go_through_its_table_goes_through_its_lists(scan: Any) -> None:
    with answering(b"BADCLASS invalid class id\r\n", DUMP) as (backend, asked):
        assert all_of(scan(backend, "")) == ["m:a", "n:b"]
        assert asked == [b"lru_crawler metadump hash", b"lru_crawler metadump all"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"ERROR\r\n", "no keys: ERROR .*memcached 1.6 or later is needed"),
        (b"BADCLASS invalid class id\r\n", "no keys: BADCLASS invalid class id$"),
        (b"VA 3 k\r\nabc\r\n", "expected the keys of the server"),
        (b"k" * 5000 + b"\r\n", "a line is longer than 4096 bytes|expected|no keys"),
    ],
    ids=["unknown", "no class", "another protocol", "long line"],
)
def test_what_is_no_dump_is_an_error(scan: Any, answer: bytes, words: str) -> None:
    with answering(answer) as (backend, _), pytest.raises(BackendError, match=words):
        all_of(scan(backend, "m:"))


def test_a_dump_is_read_before_its_keys_are_given(memcached_backend: MemcachedBackend, scan: Any) -> None:
    """A server that waits for its reader would hold up others."""
    rows = {"m:" + f"{number:x}".rjust(200, "0"): b"1" for number in range(60_000)}
    memcached_backend.set_many(rows)
    chunks = [scan(memcached_backend, "m:", 1000) for _ in range(3)]
    firsts = [next(each) for each in chunks]
    for first, each in zip(firsts, chunks, strict=True):
        assert {*first, *all_of(each)} == {*rows}


def test_a_client_that_was_passed_in_is_refused(memcached_server: MemcachedServer) -> None:
    pylibmc = pytest.importorskip("pylibmc")
    backend = co.MemcachedBackend(client=pylibmc.Client([f"{HOST}:{memcached_server.port}"]))
    for ask in (lambda: [*backend.scan("m:")], lambda: backend.clear("m:")):
        with pytest.raises(NotImplementedError, match="pylibmc does not enumerate keys: leave out client="):
            ask()


def test_a_scan_takes_no_connection_from_others(memcached_server: MemcachedServer, scan: Any) -> None:
    with MemcachedBackend([memcached_server.address], max_connections=1) as backend:
        backend.set_many(ROWS)
        found: set[str] = set()
        for keys in scan(backend, "m:", 100):
            assert backend.get_many(*keys) == [b"1"] * len(keys)
            found.update(keys)
        assert found == {*KEYS}


# -- files and memory --------------------------------------------------------------------------------


def test_steps_along_a_file_do_not_depend_on_how_many_match(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path) as backend:
        backend.set_many({**dict.fromkeys(KEYS[::100], b"1"), **{f"other:{i}": b"x" for i in range(20_000)}}, 0)
        assert {*backend.scan("m:user:")} == {*KEYS[::100]}
        backend.clear("other:")
        assert {*backend.scan()} == {*KEYS[::100]}


def test_memory_that_is_cleared_meanwhile_ends_the_scan() -> None:
    backend = co.SimpleBackend()
    backend.set_many(ROWS)
    chunks = backend.scan_chunks("", 10)
    next(chunks)
    backend.clear()
    backend.set("m:new", b"1")
    assert len([key for keys in chunks for key in keys]) <= 1
