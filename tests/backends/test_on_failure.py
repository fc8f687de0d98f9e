"""``on_failure="miss"`` on real servers that die, hang, refuse and come back: nothing raises, nothing old is read."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest
import redis
from clusters import RedisCluster, wait_until
from faults import Proxy, ScriptedServer
from injecting import on_alarm
from loops import RUNNERS
from sentinels import SentinelGroup
from servers import HANG, HOST, MemcachedServer, RedisServer, free_port

import cacheorm as co
from cacheorm.backends._net.backend import NetworkBackend
from cacheorm.errors import BackendError, InvalidKeyError

if TYPE_CHECKING:
    from skipping import SkippingClock

Server = RedisServer | MemcachedServer

# Seconds to wait for a server that hangs.
_HANGS = 0.2

# A server that failed is left alone until a test says otherwise.
_LONG = 1e6


@pytest.fixture(params=["redis", "memcached"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own."""
    with RedisServer() if request.param == "redis" else MemcachedServer("-m", "64") as server:
        yield server


@pytest.fixture
def redis_alone() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Blocking:
    """Calls methods of backends."""

    def __call__(self, backend: NetworkBackend, name: str, *args: Any) -> Any:
        return getattr(backend, name)(*args)

    def chunks(self, backend: NetworkBackend, keys: list[str]) -> list[bytes | None]:
        return [value for part in backend.get_chunks(keys) for value in part]


class Awaited:
    """Awaits their twins, in an event loop that stays the same."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(self, backend: NetworkBackend, name: str, *args: Any) -> Any:
        # In the context of the test, where there may be a deadline.
        return self._runner.run(getattr(backend, f"a{name}")(*args), context=copy_context())

    def chunks(self, backend: NetworkBackend, keys: list[str]) -> list[bytes | None]:
        async def read() -> list[bytes | None]:
            return [value async for part in backend.aget_chunks(keys) for value in part]

        return self._runner.run(read())


Call = Blocking | Awaited


@pytest.fixture(params=["blocking", "awaited"])
def call(request: pytest.FixtureRequest, clock: SkippingClock) -> Iterator[Call]:
    if request.param == "blocking":
        yield Blocking()
        return
    with clock.runner() as runner:
        yield Awaited(runner)


def backend_on(server: Server, **options: Any) -> NetworkBackend:
    given = {"on_failure": "miss", "operation_timeout": 60, "retry_after": _LONG, **options}
    if isinstance(server, RedisServer):
        return co.RedisBackend(HOST, server.port, **given)
    return co.MemcachedBackend([(HOST, server.port)], **given)


def directly(server: Server) -> NetworkBackend:
    """Return a backend that sees what the server has."""
    return backend_on(server, on_failure="raise")


def recover(backend: NetworkBackend) -> None:
    """Wait until the backend uses its servers again."""

    def replies() -> bool:
        backend.retry_failed_servers()
        try:
            return backend.ping()
        except BackendError:
            return False

    wait_until("the server is used again", replies)


# -- what a server that is gone looks like -------------------------------------------------------


def test_reads_miss_and_writes_are_dropped(server: Server, call: Call) -> None:
    backend = backend_on(server)
    call(backend, "set_many", {"a": b"1", "b": b"2"})
    server.kill()
    assert call(backend, "get", "a") is None
    assert call(backend, "get_many", "a", "b") == [None, None]
    assert call(backend, "get_dict", "a") == {"a": None}
    assert call(backend, "has", "a") is False
    assert call(backend, "ttl", "a") is None
    assert call(backend, "touch", "a", 60) is False
    assert call(backend, "touch_many", ["a", "b"], 60) == {"a": False, "b": False}
    assert backend.pending_invalidations() == (0, 0)
    before = backend.failed_reads
    assert call(backend, "get_many", "a") == [None]
    assert backend.failed_reads != before
    assert call(backend, "set", "a", b"3") is True
    assert call(backend, "set_many", {"b": b"3", "c": b"3"}) == {"b": True, "c": True}
    assert call(backend, "replace", "d", b"3") is False
    assert call(backend, "replace_many", {"e": b"3"}) == {"e": False}
    assert call(backend, "delete", "f") is False
    assert call(backend, "delete_many", "f", "g") is False
    assert backend.pending_invalidations() == (7, 0)


def test_what_is_for_agreement_raises(server: Server, call: Call) -> None:
    backend = backend_on(server)
    call(backend, "set", "a", b"1")
    ((_, token),) = call(backend, "get_many_cas", "a")
    server.kill()
    for name, args in {
        "add": ("a", b"1"),
        "add_many": ({"a": b"1"},),
        "incr": ("n",),
        "decr": ("n",),
        "get_many_cas": ("a",),
        "compare_and_set_many": ({"a": (b"2", token)},),
        "clear": ("a",),
        "ping": (),
        "stats": (),
    }.items():
        with pytest.raises(BackendError):
            call(backend, name, *args)
    assert backend.pending_invalidations() == (0, 0)


def test_a_batch_keeps_what_came_before_the_failure(redis_alone: RedisServer, call: Call) -> None:
    rows = {f"k{i}": b"x" * 100 for i in range(5000)}
    directly(redis_alone).set_many(rows)
    with Proxy(redis_alone.port) as proxy:
        backend = co.RedisBackend(HOST, proxy.port, on_failure="miss", retry_after=_LONG)
        assert call(backend, "get", "k0") == b"x" * 100
        proxy.cut_after, proxy.once = 300_000, True

        values = call.chunks(backend, list(rows))
    assert len(values) == len(rows)
    found = values.index(None)
    assert 0 < found < len(rows)
    assert set(values[:found]) == {b"x" * 100}
    assert set(values[found:]) == {None}


# -- keys whose delete or write was not confirmed ------------------------------------------------

OLD = {"deleted": b"old", "deleted:2": b"old", "set": b"old", "set:2": b"old", "replaced": b"old"}


def change_all(call: Call, backend: NetworkBackend) -> None:
    """Change all of :data:`OLD` while that cannot be confirmed."""
    call(backend, "delete", "deleted")
    call(backend, "delete_many", "deleted:2")
    call(backend, "set", "set", b"new")
    call(backend, "set_many", {"set:2": b"new"})
    call(backend, "replace", "replaced", b"new")
    assert backend.pending_invalidations() == (len(OLD), 0)


def check_nothing_old(call: Call, backend: NetworkBackend, server: Server) -> None:
    """Check that the first read after the server is back has deleted what was changed meanwhile."""
    assert call(backend, "get", "untouched") == b"kept"
    assert set(directly(server).get_many(*OLD)) == {None}
    assert call(backend, "get_many", *OLD) == [None] * len(OLD)

    def settled() -> bool:
        call(backend, "get", "untouched")
        return backend.pending_invalidations() == (0, 0)

    wait_until("no write that hung can follow", settled)
    assert call(backend, "set_many", dict.fromkeys(OLD, b"newer")) == dict.fromkeys(OLD, True)
    assert call(backend, "get_many", *OLD) == [b"newer"] * len(OLD)


def test_after_a_restart_nothing_old_is_read(server: Server, call: Call) -> None:
    backend = backend_on(server)
    server.kill()
    change_all(call, backend)
    server.start()
    # As from its disk.
    directly(server).set_many({**OLD, "untouched": b"kept"})
    assert call(backend, "get_many", *OLD) == [None] * len(OLD)  # it is left alone
    backend.retry_failed_servers()
    recover_by_reading(call, backend)
    check_nothing_old(call, backend, server)


def recover_by_reading(call: Call, backend: NetworkBackend) -> None:
    """Read until the server replies; whatever is read meanwhile is not old."""

    def reads() -> bool:
        backend.retry_failed_servers()
        assert call(backend, "get_many", *OLD) == [None] * len(OLD)
        return bool(call(backend, "get", "untouched") == b"kept")

    wait_until("the server is used again", reads)


def test_after_a_pause_nothing_old_is_read(server: Server, call: Call, clock: SkippingClock) -> None:
    backend = backend_on(server)
    directly(server).set_many({**OLD, "untouched": b"kept"})
    call(backend, "get", "untouched")
    server.pause()
    try:
        with clock.skipping():
            change_all(call, backend)
        assert call(backend, "get_many", *OLD) == [None] * len(OLD)
    finally:
        server.resume()
    recover_by_reading(call, backend)
    check_nothing_old(call, backend, server)


def test_a_write_that_hung_is_not_executed_after_the_key_was_deleted(
    server: Server, call: Call, clock: SkippingClock
) -> None:
    """The server has received it, and executes it when it goes on."""
    backend = backend_on(server)
    directly(server).set_many({**OLD, "untouched": b"kept"})
    call(backend, "get", "untouched")
    server.pause()
    try:
        with clock.skipping():
            call(backend, "set", "set", b"hung")
        change_all(call, backend)
    finally:
        server.resume()
    recover_by_reading(call, backend)
    check_nothing_old(call, backend, server)


def test_what_a_replica_refuses_is_deleted_once_it_is_the_primary(redis_alone: RedisServer, call: Call) -> None:
    backend = backend_on(redis_alone)
    directly(redis_alone).set_many({**OLD, "untouched": b"kept"})
    client = redis.Redis(HOST, redis_alone.port)
    client.replicaof(HOST, free_port())
    change_all(call, backend)
    assert call(backend, "get", "untouched") == b"kept"
    assert call(backend, "get_many", *OLD, "untouched") == [None] * len(OLD) + [b"kept"]
    assert call(backend, "has", "deleted") is False
    assert call(backend, "ttl", "deleted") is None
    assert call(backend, "touch", "deleted", 60) is False
    assert call(backend, "touch_many", ["deleted", "untouched"], 60) == {"deleted": False, "untouched": False}
    for name, args in {"add": ("deleted", b"1"), "get_many_cas": ("set",), "incr": ("deleted",)}.items():
        with pytest.raises(BackendError, match="replica"):
            call(backend, name, *args)
    client.replicaof("NO", "ONE")
    check_nothing_old(call, backend, redis_alone)
    client.close()


def test_what_a_full_server_refuses_is_deleted(redis_alone: RedisServer, call: Call) -> None:
    backend = backend_on(redis_alone)
    directly(redis_alone).set_many({**OLD, "untouched": b"kept"})
    client = redis.Redis(HOST, redis_alone.port)
    client.config_set("maxmemory", 1)
    assert call(backend, "set", "set", b"new") is True
    assert call(backend, "set_many", {"set:2": b"new", "new": b"new"}) == {"set:2": True, "new": True}
    assert call(backend, "replace", "replaced", b"new") is False
    assert call(backend, "delete", "deleted") is True  # that needs no memory
    assert call(backend, "get_many", "untouched", *OLD) == [b"kept", None, b"old", None, None, None]
    assert client.mget(["set", "set:2", "replaced"]) == [None, None, None]
    assert backend.pending_invalidations() == (0, 0)
    with pytest.raises(BackendError, match="maxmemory"):
        call(backend, "add", "new", b"new")
    client.close()


def test_a_user_without_rights_gets_nothing_old(redis_alone: RedisServer, call: Call) -> None:
    directly(redis_alone).set_many({**OLD, "untouched": b"kept"})
    client = redis.Redis(HOST, redis_alone.port)
    client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read")
    backend = backend_on(redis_alone, username="reader", password="secret")
    change_all(call, backend)
    assert call(backend, "get_many", "untouched", *OLD) == [b"kept", *[None] * len(OLD)]
    client.execute_command("ACL", "SETUSER", "reader", "+@all")
    check_nothing_old(call, backend, redis_alone)
    client.execute_command("ACL", "SETUSER", "reader", "-@all")
    assert call(backend, "get", "untouched") is None
    assert call(backend, "get_many", "untouched") == [None]
    client.close()


def test_a_key_that_cannot_be_stored_is_an_error_and_is_not_remembered(server: Server, call: Call) -> None:
    backend = backend_on(server)
    server.kill()
    invalid = b"no text"
    for name, args in {"set": (invalid, b"1"), "set_many": ({invalid: b"1"},), "delete": (invalid,)}.items():
        with pytest.raises((InvalidKeyError, TypeError)):
            call(backend, name, *args)
    with pytest.raises(TypeError):
        call(backend, "set", "a", True)
    with pytest.raises(ValueError, match="ttl"):
        call(backend, "set", "a", b"1", -1)
    assert backend.pending_invalidations() == (0, 0)


def test_what_does_not_fit_is_counted_and_logged(server: Server, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    backend = backend_on(server, on_failure_keys=3)
    server.kill()
    call(backend, "delete_many", "a", "b")
    call(backend, "delete_many", "b", "c", "d", "e")
    assert backend.pending_invalidations() == (3, 2)
    assert [record.levelname for record in caplog.records if "on_failure_keys=3" in record.getMessage()] == ["ERROR"]
    server.start()
    directly(server).set_many(dict.fromkeys("abcde", b"old"))
    recover(backend)
    assert call(backend, "get_many", *"abcde") == [None, None, None, b"old", b"old"]
    assert backend.pending_invalidations() == (0, 2)


def test_that_a_server_is_left_alone_and_used_again_is_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheorm")
    backend = backend_on(server)
    server.kill()
    backend.get("a")
    server.start()
    recover(backend)
    levels = {
        word: [record.levelname for record in caplog.records if word in record.getMessage()]
        for word in ("left alone for a while: ", "replies again")
    }
    assert levels == {"left alone for a while: ": ["WARNING"], "replies again": ["INFO"]}


# -- interrupted, cancelled, shared --------------------------------------------------------------


class _InterruptedError(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize(("name", "args"), [("delete", ("a",)), ("set", ("a", b"2")), ("set_many", ({"a": b"2"},))])
def test_an_interrupted_write_is_remembered(server: Server, name: str, args: tuple[Any, ...]) -> None:
    backend = backend_on(server)
    backend.set("a", b"1")
    server.pause()

    def interrupt(*_: object) -> None:
        if backend.pools()[0].in_use:
            raise _InterruptedError
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    try:
        with on_alarm(interrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(_InterruptedError):
                getattr(backend, name)(*args)
    finally:
        server.resume()
    assert backend.pending_invalidations() == (1, 0)
    assert backend.get("a") is None
    while directly(server).get("a") is not None:  # as below
        assert backend.get("a") is None


@pytest.mark.parametrize(("name", "args"), [("delete", ("a",)), ("set", ("a", b"2")), ("set_many", ({"a": b"2"},))])
def test_a_cancelled_write_is_remembered(server: Server, name: str, args: tuple[Any, ...]) -> None:
    async def main() -> None:
        backend = backend_on(server)
        await backend.aset("a", b"1")
        server.pause()
        try:
            writing = asyncio.ensure_future(getattr(backend, f"a{name}")(*args))
            while not (await backend.apools())[0].in_use:
                await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        finally:
            server.resume()
        assert backend.pending_invalidations() == (1, 0)
        assert await backend.aget("a") is None
        # A server that was stopped may execute what it had received after the first deletion; there is a second one.
        while directly(server).get("a") is not None:
            assert await backend.aget("a") is None
        await backend.aclose()

    asyncio.run(main())


def test_threads_and_event_loops_share_what_is_remembered(redis_alone: RedisServer) -> None:
    backend = backend_on(redis_alone)
    directly(redis_alone).set_many({"a": b"old", "b": b"kept"})
    client = redis.Redis(HOST, redis_alone.port)
    client.replicaof(HOST, free_port())
    thread = threading.Thread(target=backend.delete, args=("a",))
    thread.start()
    thread.join()
    assert backend.get_many("a", "b") == [None, b"kept"]
    assert asyncio.run(backend.aget_many("a", "b")) == [None, b"kept"]
    client.replicaof("NO", "ONE")
    assert asyncio.run(backend.aget("b")) == b"kept"
    assert client.get("a") is None
    assert backend.pending_invalidations() == (0, 0)
    client.close()


# -- one of several ------------------------------------------------------------------------------


def test_one_dead_memcached_costs_its_own_keys(call: Call) -> None:
    with MemcachedServer("-m", "64") as first, MemcachedServer("-m", "64") as second:
        backend = co.MemcachedBackend(
            [(HOST, first.port), (HOST, second.port)], operation_timeout=60, retry_after=_LONG
        )
        keys = [f"k{i}" for i in range(200)]
        call(backend, "set_many", dict.fromkeys(keys, b"1"))
        dead = {key for key, name in zip(keys, backend.servers_of(*keys), strict=True) if str(first.port) in name}
        assert 0 < len(dead) < len(keys)
        first.kill()
        check_partial(call, backend, keys, dead)
        first.start()
        directly(first).set_many(dict.fromkeys(keys, b"old"))
        recover(backend)
        assert call(backend, "get_many", *keys) == [None if key in dead else b"3" for key in keys]
        assert set(directly(first).get_many(*dead)) == {None}


def check_partial(call: Call, backend: NetworkBackend, keys: list[str], dead: set[str]) -> None:
    """Check that only the keys of a dead server are missing, and that a batch writes all others."""
    assert call(backend, "get_many", *keys) == [None if key in dead else b"1" for key in keys]
    assert call.chunks(backend, keys) == [None if key in dead else b"1" for key in keys]
    assert call(backend, "set_many", dict.fromkeys(keys, b"2")) == dict.fromkeys(keys, True)
    assert backend.pending_invalidations() == (len(dead), 0)
    assert call(backend, "get_many", *keys) == [None if key in dead else b"2" for key in keys]
    assert call(backend, "replace_many", dict.fromkeys(keys, b"3")) == {key: key not in dead for key in keys}
    assert call(backend, "get_many", *keys) == [None if key in dead else b"3" for key in keys]
    (alive, *_), (lost, *_) = [key for key in keys if key not in dead], [*dead]
    assert call(backend, "get", alive) == b"3"
    assert call(backend, "get", lost) is None
    # A batch that fails in part is remembered as a whole, until the next operation.
    assert call(backend, "delete_many", alive, lost) is False
    assert call(backend, "get", alive) is None
    assert call(backend, "set", alive, b"3") is True
    assert call(backend, "get", alive) == b"3"
    assert backend.pending_invalidations() == (len(dead), 0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(primaries=3, replicas=False) as cluster:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        yield cluster


def test_one_dead_node_of_a_cluster_costs_its_own_keys(cluster: RedisCluster, call: Call, clock: SkippingClock) -> None:
    addresses = ",".join(f"{HOST}:{node.port}" for node in cluster.nodes)
    options = {"on_failure": "miss", "operation_timeout": 60, "retry_after": _LONG}
    backend: Any = co.backend_from_url(f"redis+cluster://{addresses}", **options)
    keys = [f"k{i}" for i in range(3000)]
    call(backend, "set_many", dict.fromkeys(keys, b"1"))
    lost = cluster.nodes[0]
    dead = {key for key in keys if lost.ask("CLUSTER", "KEYSLOT", key) < 16384 // 3}
    assert 0 < len(dead) < len(keys)
    lost.pause()
    try:
        with clock.skipping():
            assert call(backend, "get", next(iter(dead))) is None
        check_partial(call, backend, keys, dead)
    finally:
        lost.resume()
    recover(backend)
    assert call(backend, "get_many", *keys) == [None if key in dead else b"3" for key in keys]


def test_a_service_whose_primary_is_lost_misses_until_there_is_another(call: Call) -> None:
    with SentinelGroup() as group:
        backend: Any = co.backend_from_url(group.url, on_failure="miss", operation_timeout=1, retry_after=_LONG)
        call(backend, "set_many", {"a": b"1", "b": b"2"})
        with redis.Redis(HOST, group.primary().port) as client:
            assert client.wait(1, 0) == 1
        lost = group.kill_primary()
        assert call(backend, "delete", "a") is False
        assert call(backend, "get", "b") is None
        primary = group.wait_until_primary_is_not(lost)

        def recovered() -> bool:
            recover(backend)
            deleted, kept = call(backend, "get_many", "a", "b")
            assert deleted is None
            return kept == b"2"

        wait_until("the new primary is read", recovered)
        assert directly(primary).get("a") is None


# -- what was given up does not arrive later -----------------------------------------------------


@pytest.mark.parametrize("run", [pytest.param(None, id="blocking"), *RUNNERS])
def test_what_has_not_arrived_when_a_write_is_given_up_never_arrives(run: Any) -> None:
    """Otherwise it would be executed after later writes, when the server reads again."""
    given_up = threading.Event()
    ended: list[BaseException | None] = []

    def read_late(connection: socket.socket) -> None:
        given_up.wait(HANG)
        try:
            while connection.recv(1 << 20):
                pass
        except ConnectionResetError as error:
            ended.append(error)
        else:
            ended.append(None)

    with ScriptedServer(read_late) as server:
        backend = co.MemcachedBackend([(HOST, server.port)], max_connections=1, retry_after=0)
        rows = {f"k{i}": b"x" * 500_000 for i in range(60)}

        async def write() -> None:
            await backend.aset_many(rows)

        with co.deadline(_HANGS), pytest.raises(BackendError):
            backend.set_many(rows) if run is None else run(write())
        given_up.set()
        wait_until("the server has read what there is", lambda: bool(ended))
    assert isinstance(ended[0], ConnectionResetError)
