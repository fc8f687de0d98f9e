"""memcacheds that hang, refuse, drop connections or stop reading: every operation ends, and says why."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from clusters import wait_until
from faults import Proxy, ScriptedServer
from observing import ain_use, in_use, open_connections
from servers import HANG, HOST, MemcachedServer, free_port

import cacheorm as co
from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.deadlines import deadline
from cacheorm.errors import BackendError
from cacheorm.types import KEEP_TTL

ROWS = {f"key:{i}": b"%d" % i for i in range(3000)}
KEYS = list(ROWS)

# Seconds of the bound that is to end an operation, and of the one that is not: nothing here lasts as long.
SHORT = 0.3
FAR = 2 * HANG

ways = pytest.mark.parametrize("way", ["called", "awaited"])
bounds = pytest.mark.parametrize("bound", ["operation_timeout", "timeout", "deadline"])

# Each method that sends something, with its arguments.
CALLS: list[tuple[Any, ...]] = [
    ("get", "key:1"),
    ("has", "key:1"),
    ("ttl", "key:1"),
    ("set", "key:1", b"v"),
    ("add", "key:1", b"v"),
    ("replace", "key:1", b"v", KEEP_TTL),
    ("delete", "key:1"),
    ("touch", "key:1"),
    ("incr", "key:1"),
    ("incr", "key:1", -1),
    ("get_many", *KEYS),
    ("get_chunks", KEYS),
    ("set_many", ROWS),
    ("replace_many", ROWS, KEEP_TTL),
    ("add_many", ROWS),
    ("delete_many", *KEYS),
    ("touch_many", KEYS),
    ("get_many_cas", *KEYS),
    ("compare_and_set_many", dict.fromkeys(KEYS, (b"v", 7))),
    ("clear", "key:"),
    ("scan_chunks", "key:"),
    ("ping",),
    ("stats",),
]

CHUNKS = ("get_chunks", "scan_chunks")


def call(backend: MemcachedBackend, way: str, method: str, *args: Any, seconds: float | None = None) -> Any:
    """Call a method, or await it; within a deadline if one is given."""
    bound = contextlib.nullcontext() if seconds is None else deadline(seconds)
    if way == "called":
        with bound:
            found = getattr(backend, method)(*args)
            return [value for chunk in found for value in chunk] if method in CHUNKS else found

    async def main() -> Any:
        try:
            with bound:
                if method in CHUNKS:
                    return [value async for chunk in getattr(backend, f"a{method}")(*args) for value in chunk]
                return await getattr(backend, f"a{method}")(*args)
        finally:
            assert set(await ain_use(backend)) == {0}
            await backend.aclose()

    return asyncio.run(main())


def fails(backend: MemcachedBackend, way: str, method: str, *args: Any, seconds: float | None) -> list[str]:
    """Return why a call failed, or its rows did."""
    try:
        found = call(backend, way, method, *args, seconds=seconds)
    except BackendError as error:
        return [str(error)]
    reasons = getattr(found, "reasons", {})
    assert reasons, f"{method} came to its end"
    return [*reasons.values()]


def is_late(reason: str) -> bool:
    """Tell whether the time was over: on a busy machine it may be so before the kernel says that it has connected."""
    return any(text in reason for text in ("no answer in time", "no time was left", "cannot connect: timed out"))


def connect(backend: MemcachedBackend, way: str) -> None:
    """Reach every server, however long the machine takes for what has to be done within a short time."""

    def answers() -> bool:
        with contextlib.suppress(BackendError):
            return bool(call(backend, way, "ping"))
        return False

    wait_until("the servers answer in time", answers)


@contextlib.contextmanager
def bounded(servers: list[Any], bound: str, **options: Any) -> Iterator[tuple[MemcachedBackend, float | None]]:
    """Yield a backend and the seconds of a deadline for its calls: one bound is short, and all others are far away."""
    timeouts = {"timeout": FAR, "operation_timeout": FAR, "connect_timeout": FAR}
    if bound == "timeout":
        del timeouts["operation_timeout"]
    if bound in timeouts:
        timeouts[bound] = SHORT
    with MemcachedBackend(servers, **timeouts, retry_after=0, on_failure="raise", **options) as backend:
        yield backend, SHORT if bound == "deadline" else None


# -- which bound ends it -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[list[MemcachedServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(2)]


@pytest.fixture
def servers(shared: list[MemcachedServer]) -> Iterator[list[MemcachedServer]]:
    """Two servers; a test may pause them."""
    yield shared
    for server in shared:
        server.resume()


@ways
@bounds
def test_a_hung_server_holds_up_no_operation_beyond_its_bound(
    way: str, bound: str, servers: list[MemcachedServer]
) -> None:
    with bounded([server.address for server in servers], bound) as (backend, seconds):
        connect(backend, way)
        for server in servers:
            server.pause()
        for method, *args in CALLS:
            reasons = fails(backend, way, method, *args, seconds=seconds)
            assert all(is_late(reason) for reason in reasons), (method, reasons[:1])
        assert in_use(backend) == [0, 0]


@ways
@bounds
def test_one_hung_server_of_two_holds_up_no_operation_beyond_its_bound(
    way: str, bound: str, servers: list[MemcachedServer]
) -> None:
    with bounded([server.address for server in servers], bound) as (backend, seconds):
        connect(backend, way)
        lost = backend.pools()[1].server
        servers[1].pause()
        for method, *args in CALLS:
            if len(args) and args[0] == "key:1":  # it may be on the other server
                continue
            reasons = fails(backend, way, method, *args, seconds=seconds)
            assert any(reason.startswith(f"{lost}: ") for reason in reasons), (method, reasons[:1])
            # What takes two steps has no time left for the second one, on any server.
            assert all(is_late(reason) for reason in reasons), (method, reasons[:1])
        assert in_use(backend) == [0, 0]


@ways
@pytest.mark.parametrize("bound", ["operation_timeout", "deadline", "connect_timeout"])
def test_a_host_that_does_not_accept_is_given_up(way: str, bound: str) -> None:
    # The system answers nobody whose connection does not fit into the queue.
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind((HOST, 0))
        full.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with bounded([full.getsockname()], bound) as (backend, seconds):
            for method, *args in CALLS[:4]:
                (reason,) = fails(backend, way, method, *args, seconds=seconds)
                assert "cannot connect: timed out" in reason


@ways
@bounds
def test_waiting_for_a_connection_is_part_of_the_operation(
    way: str, bound: str, memcached_server: MemcachedServer
) -> None:
    with bounded([memcached_server.address], bound, max_connections=1) as (backend, seconds):
        with MemcachedBackend([memcached_server.address]) as direct:
            direct.set_many(ROWS)

        async def main() -> str:
            chunks: Any = backend.aget_chunks(KEYS)
            await anext(chunks)
            with contextlib.nullcontext() if seconds is None else deadline(seconds):
                try:
                    await backend.aget("key:1")
                except BackendError as error:
                    return str(error)
                finally:
                    await chunks.aclose()
                    await backend.aclose()
            return ""

        if way == "awaited":
            assert "connections stayed in use" in asyncio.run(main())
            return
        chunks = backend.get_chunks(KEYS)
        next(chunks)
        (reason,) = fails(backend, way, "get", "key:1", seconds=seconds)
        assert "connections stayed in use" in reason
        chunks.close()  # type: ignore[attr-defined]


@ways
def test_of_two_bounds_the_tighter_one_counts(way: str, servers: list[MemcachedServer]) -> None:
    for timeout, seconds in ((SHORT, FAR), (FAR, SHORT), (None, SHORT)):
        options: Any = {"retry_after": 0, "operation_timeout": timeout, "timeout": FAR}
        with MemcachedBackend([servers[0].address], **options) as backend:
            servers[0].resume()
            connect(backend, way)
            servers[0].pause()
            (reason,) = fails(backend, way, "get", "k", seconds=seconds)
            assert is_late(reason)


@ways
def test_an_operation_whose_time_is_over_before_it_begins_sends_nothing(
    way: str, memcached_server: MemcachedServer
) -> None:
    with Proxy(memcached_server.port) as proxy, MemcachedBackend([(HOST, proxy.port)], timeout=FAR) as backend:
        for method, *args in (("set", "k", b"v"), ("set_many", ROWS)):
            with pytest.raises(BackendError) as caught:
                call(backend, way, method, *args, seconds=0)
            assert caught.value.maybe_applied is False
        assert b"ms " not in proxy.requests
        assert backend.breakers()[0].failures == 0, "the server has had no time to reply"


# -- servers that refuse and drop connections ------------------------------------------------------------------


@ways
@pytest.mark.parametrize("count", [1, 2])
def test_servers_that_refuse_end_every_operation_at_once(way: str, count: int) -> None:
    servers: list[Any] = [(HOST, free_port()) for _ in range(count)]
    with bounded(servers, "none") as (backend, _):
        for method, *args in CALLS:
            reasons = fails(backend, way, method, *args, seconds=None)
            assert all("cannot connect: " in reason for reason in reasons), (method, reasons[:1])
        assert in_use(backend) == [0] * count


@ways
@pytest.mark.parametrize("count", [1, 2])
def test_servers_that_drop_every_connection_end_every_operation_at_once(way: str, count: int) -> None:
    def drop(connection: socket.socket) -> None:
        connection.recv(1)

    with contextlib.ExitStack() as stack:
        dropping = [stack.enter_context(ScriptedServer(drop)) for _ in range(count)]
        servers: list[Any] = [(HOST, server.port) for server in dropping]
        with bounded(servers, "none") as (backend, _):
            for method, *args in CALLS:
                before = sum(server.accepted for server in dropping)
                assert fails(backend, way, method, *args, seconds=None)
                # No connection was in the pool that could have been stale: nothing is sent again.
                assert sum(server.accepted for server in dropping) - before <= count
            assert in_use(backend) == [0] * count


# -- servers that stop reading ----------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("count", [1, 2])
def test_a_server_that_stops_reading_costs_a_large_batch_its_time_and_no_more(
    way: str, count: int, memcached_server: MemcachedServer
) -> None:
    ended = threading.Event()

    def stop_reading(connection: socket.socket) -> None:
        connection.recv(1)
        ended.wait(HANG)

    rows = {f"{i}:" + "k" * 200: b"x" * 100_000 for i in range(400)}
    with ScriptedServer(stop_reading) as server:
        servers: list[Any] = [(HOST, server.port), memcached_server.address][:count]
        try:
            for method, *args in (("set_many", rows), ("get_many", *rows, *KEYS), ("delete_many", *rows, *KEYS)):
                with MemcachedBackend(
                    servers, operation_timeout=2, retry_after=0, on_failure="raise", max_connections=1
                ) as backend:
                    reasons = fails(backend, way, method, *args, seconds=None)
                    assert all(is_late(reason) for reason in reasons), (method, reasons[:1])
                    assert in_use(backend) == [0] * count
        finally:
            ended.set()


# -- servers that are left alone --------------------------------------------------------------------------------


@ways
def test_a_server_that_is_left_alone_is_neither_connected_to_nor_asked(
    way: str, memcached_server: MemcachedServer
) -> None:
    options: Any = {"timeout": SHORT, "retry_after": FAR}
    with Proxy(memcached_server.port) as proxy, MemcachedBackend([(HOST, proxy.port)], **options) as backend:
        call(backend, way, "ping")
        proxy.cut_after, proxy.hang = 0, True
        with pytest.raises(BackendError, match="no answer in time"):
            call(backend, way, "get", "k")
        (state,) = backend.breakers()
        assert (state.failures, state.reason) == (1, f"memcached at {HOST}:{proxy.port}: no answer in time")
        asked, accepted = len(proxy.requests), proxy.accepted
        for method, *args in CALLS:
            reasons = fails(backend, way, method, *args, seconds=None)
            assert all("left alone for a while, and was not asked" in reason for reason in reasons)
        assert (len(proxy.requests), proxy.accepted) == (asked, accepted)
        assert backend.breakers()[0].failures == 1
        proxy.cut_after = None

        def is_back() -> bool:
            # On a busy machine the reply may take too long.
            backend.retry_failed_servers()
            with contextlib.suppress(BackendError):
                return bool(call(backend, way, "ping"))
            return False

        wait_until("it is asked again", is_back)
        assert backend.breakers()[0].reason is None


@ways
def test_a_breaker_that_is_switched_off_asks_every_time(way: str) -> None:
    with MemcachedBackend([(HOST, free_port())], retry_after=0) as backend:
        for count in range(1, 4):
            with pytest.raises(BackendError, match="cannot connect"):
                call(backend, way, "get", "k")
            assert backend.breakers()[0][1:] == (None, count)


def test_a_connection_that_breaks_or_a_server_that_refuses_opens_no_breaker(memcached_server: MemcachedServer) -> None:
    with Proxy(memcached_server.port) as proxy, MemcachedBackend([(HOST, proxy.port)], timeout=60) as backend:
        backend.ping()
        proxy.cut_after, proxy.once = 0, True
        with pytest.raises(BackendError):
            backend.set("k", b"v")
        assert backend.set_many({"k": b"v", "large": b"x" * 1_500_000}) == {"k": True, "large": False}
        assert backend.breakers()[0][1:] == (None, 0)


# -- on_failure -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "options", "expected"),
    [
        (["a"], {}, "raise"),
        (["a", "b"], {}, "miss"),
        (["a"], {"on_failure": "miss"}, "miss"),
        (["a", "b"], {"on_failure": "raise"}, "raise"),
        (["a", "b"], {"on_failure": "eject"}, "miss"),
        (["a", "b"], {"on_server_failure": "eject"}, "miss"),
        (["a", "b"], {"on_server_failure": "raise", "on_failure": "raise"}, "raise"),
    ],
)
def test_on_failure_has_a_default_and_a_former_name(servers: Any, options: Any, expected: str) -> None:
    def reads() -> str:
        with MemcachedBackend([(HOST, free_port()) for _ in servers], **options) as backend:
            try:
                backend.get("k")
            except BackendError:
                return "raise"
            return "miss"

    assert reads() == expected


@pytest.mark.parametrize(
    ("options", "expected", "message"),
    [
        ({"on_failure": "eject"}, ValueError, "on_failure 'eject' takes several servers"),
        ({"on_server_failure": "eject"}, ValueError, "on_server_failure 'eject' takes several servers"),
        ({"on_failure": "pray"}, ValueError, "on_failure must be one of miss, raise, eject, got 'pray'"),
        ({"on_server_failure": "pray"}, ValueError, "on_server_failure must be one of miss, raise, eject"),
        ({"on_failure": "miss", "on_server_failure": "raise"}, TypeError, "the same option: pass on_failure only"),
    ],
)
def test_what_on_failure_cannot_be_is_refused(options: Any, expected: Any, message: str) -> None:
    with pytest.raises(expected, match=message):
        MemcachedBackend(["a"], **options)


@ways
def test_with_one_server_reads_miss_on_demand(way: str) -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            pass

    with MemcachedBackend([(HOST, free_port())], on_failure="miss") as backend:
        assert call(backend, way, "get", "k") is None
        assert call(backend, way, "has", "k") is False
        assert call(backend, way, "ttl", "k") is None
        assert call(backend, way, "get_many", *KEYS) == [None] * len(KEYS)
        assert call(backend, way, "get_chunks", KEYS) == [None] * len(KEYS)
        for method, *args in (("add", "k", b""), ("incr", "k"), ("get_many_cas", "k"), ("ping",)):
            with pytest.raises(BackendError, match="cannot connect"):
                call(backend, way, method, *args)
        with co.bind([Row], backend=backend):
            assert Row.query_many([{"id": 1}, {"id": 2}]).execute() == [None, None]


# -- what is left -----------------------------------------------------------------------------------------------


@ways
def test_connections_that_were_given_up_are_closed(way: str, servers: list[MemcachedServer]) -> None:
    server = servers[0]
    with bounded([server.address], "operation_timeout") as (backend, _):
        server.pause()
        for _ in range(5):
            fails(backend, way, "get", "k", seconds=None)
        server.resume()
        backend.close()
        wait_until("all are closed", lambda: open_connections(server) == 0)
