"""Compare-and-set and renewed lifetimes where servers refuse, forget and break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from faults import Proxy, ScriptedServer
from interrupting import ctrl_c_after
from observing import in_use
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import BaseBackend, MemcachedBackend, RedisBackend
from cacheorm.errors import BackendError
from cacheorm.types import KEEP_TTL

NEVER_RETRY = Retry(NoBackoff(), 0)
BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}


def connect(port: int, kind: str) -> BaseBackend:
    if kind == "redis":
        return RedisBackend(host=HOST, port=port, retry=NEVER_RETRY, socket_timeout=60, retry_after=0)
    return MemcachedBackend([(HOST, port)], timeout=60, retry_after=0)


@pytest.fixture(params=["redis", "memcached"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def direct(kind: str, request: pytest.FixtureRequest) -> BaseBackend:
    backend: BaseBackend = request.getfixturevalue(f"{kind}_backend")
    return backend


@pytest.fixture
def proxy(kind: str, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with Proxy(request.getfixturevalue(f"{kind}_server").port) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy, kind: str, direct: BaseBackend) -> Iterator[BaseBackend]:
    """A backend that reaches the server through the proxy."""
    direct.set_many(BATCH)
    with connect(proxy.port, kind) as backend:
        yield backend


def swaps(backend: BaseBackend, value: bytes = b"new", *keys: str) -> dict[str, tuple[bytes, Any]]:
    """Read entries that are all there, to be set to one value."""
    asked = keys or tuple(BATCH)
    return {key: (value, entry[1]) for key, entry in zip(asked, backend.get_many_cas(*asked), strict=True) if entry}


def swap_until_it_breaks(backend: BaseBackend, changes: dict[str, tuple[bytes, Any]]) -> None:
    while True:
        backend.compare_and_set_many(changes)
        backend.touch_many(list(changes), timedelta(hours=1))


def commands_run(backend: Any, name: str) -> int:
    return int(backend.client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


# -- what Redis is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("public", [False, True])
def test_a_server_that_forgot_the_script_is_sent_it_again(
    public: bool, redis_server: RedisServer, redis_backend: RedisBackend
) -> None:
    class Wrapped:
        def __init__(self, client: redis.Redis) -> None:
            self.pipeline = client.pipeline

    with redis.Redis(host=HOST, port=redis_server.port) as client:
        backend = RedisBackend(client=Wrapped(client)) if public else redis_backend
        for _ in range(2):
            redis_backend.client.script_flush()
            redis_backend.client.config_resetstat()
            for value in (b"1", b"2", b"3"):
                redis_backend.set("a", b"0")
                assert backend.compare_and_set_many(swaps(backend, value, "a")) == {"a": True}
                assert redis_backend.get("a") == value
            assert commands_run(redis_backend, "evalsha") == 3
            assert commands_run(redis_backend, "eval") == 1


def test_a_batch_is_one_script_for_a_thousand_rows_or_a_megabyte(redis_backend: RedisBackend) -> None:
    redis_backend.set_many(BATCH)
    redis_backend.compare_and_set_many(swaps(redis_backend))
    redis_backend.client.config_resetstat()
    assert all(redis_backend.compare_and_set_many(swaps(redis_backend)).values())
    assert commands_run(redis_backend, "evalsha") == 3
    large = {f"large:{i}": b"x" * 100_000 for i in range(20)} | {"huge": b"x" * (3 << 20), "small": b"x"}
    redis_backend.set_many(large)
    redis_backend.client.config_resetstat()
    outcome = redis_backend.compare_and_set_many(swaps(redis_backend, b"y" * 100_000, *large))
    assert list(outcome.items()) == [(key, True) for key in large]
    # Old and new values count: five large ones at a time, the huge one by itself.
    assert commands_run(redis_backend, "evalsha") == 6
    assert set(redis_backend.get_many(*large)) == {b"y" * 100_000}


def test_an_entry_of_another_type_is_refused_by_itself(redis_backend: RedisBackend) -> None:
    redis_backend.set_many({"a": b"1", "list": b"1", "b": b"1"})
    changes = swaps(redis_backend, b"2", "a", "list", "b")
    redis_backend.delete("list")
    redis_backend.client.rpush("list", "item")
    outcome: Any = redis_backend.compare_and_set_many(changes)
    assert outcome == {"a": True, "list": False, "b": True}
    assert list(outcome.reasons) == ["list"]
    assert "WRONGTYPE" in outcome.reasons["list"]


def test_a_full_server_refuses_swaps_one_by_one() -> None:
    with (
        RedisServer("--maxmemory-policy", "noeviction") as server,
        RedisBackend(host=HOST, port=server.port) as backend,
    ):
        backend.set_many({"a": b"1", "b": b"1"})
        changes = swaps(backend, b"2", "a", "b")
        backend.client.config_set("maxmemory", 1)
        outcome: Any = backend.compare_and_set_many(changes)
        assert outcome == {"a": False, "b": False}
        assert all("memory" in outcome.reasons[key] for key in "ab")
        assert backend.get_many("a", "b") == [b"1", b"1"]


def test_a_user_who_may_run_no_scripts_is_told(redis_server: RedisServer, redis_backend: RedisBackend) -> None:
    redis_backend.client.acl_setuser(
        "reader", enabled=True, passwords=["+x"], keys=["*"], commands=["+set", "+get", "+mget", "+hello"]
    )
    redis_backend.set("a", b"1")
    with RedisBackend(host=HOST, port=redis_server.port, username="reader", password="x") as reader:
        with pytest.raises(BackendError, match="permission") as caught:
            reader.compare_and_set_many(swaps(reader, b"2", "a"))
        assert caught.value.maybe_applied is False
        with pytest.raises(BackendError, match="permission"):
            reader.touch_many(["a"], 10)
    assert redis_backend.get("a") == b"1"


# -- what memcached answers ------------------------------------------------------------------------------


def test_an_old_counter_beside_a_new_version_is_read_again() -> None:
    """memcached answers so when it counts while it answers: a swap with that version would undo the count."""
    answers = iter([b"VA 2 c6\r\n10\r\n", b"VA 2 c6\r\n11\r\n", b"VA 2 c6\r\n11\r\n"])

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(next(answers))

    with ScriptedServer(script) as server, MemcachedBackend([(HOST, server.port)]) as backend:
        assert backend.get_many_cas("k") == [(b"11", 6)]
        assert not list(answers)


def test_what_is_too_large_is_refused_and_the_rest_is_set(memcached_backend: MemcachedBackend) -> None:
    memcached_backend.set_many({"a": b"1", "b": b"1", "c": b"1"})
    changes = swaps(memcached_backend, b"2", "a", "b", "c")
    changes["b"] = (b"x" * (3 << 20), changes["b"][1])
    outcome: Any = memcached_backend.compare_and_set_many(changes)
    assert outcome == {"a": True, "b": False, "c": True}
    assert "too large" in outcome.reasons["b"]


def test_tokens_of_other_backends_are_no_versions(memcached_backend: MemcachedBackend) -> None:
    memcached_backend.set("a", b"1")
    with pytest.raises(TypeError, match=r"a: not a token of get_many_cas: expected int, got bytes"):
        memcached_backend.compare_and_set_many({"a": (b"2", b"1")})


# -- connections that break ------------------------------------------------------------------------------


def test_nothing_that_was_sent_is_sent_again(proxy: Proxy, shaky: BaseBackend) -> None:
    changes = swaps(shaky, b"new", "key:1")
    calls: list[Callable[[], object]] = [
        lambda: shaky.compare_and_set_many(changes),
        lambda: shaky.touch_many(["key:1"], 10),
    ]
    for call in calls:
        proxy.cut_after = None
        shaky.ping()
        proxy.requests.clear()
        proxy.cut_after = 0
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is True
        assert proxy.requests.count(b"key:1") == 1


@pytest.mark.parametrize("cut", [0, 1, 5, 3999, 4001, 9_000])
def test_replies_cut_off_anywhere_never_reach_the_next_caller(cut: int, proxy: Proxy, shaky: BaseBackend) -> None:
    changes = swaps(shaky)
    calls: list[Callable[[], object]] = [
        lambda: shaky.compare_and_set_many(changes),
        lambda: shaky.touch_many(list(BATCH), 100),
        lambda: shaky.get_many_cas(*BATCH),
    ]
    for call in calls:
        proxy.cut_after = cut
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is (call is not calls[-1])
        proxy.cut_after = None
        assert shaky.get_many_cas("absent", "absent") == [None, None]
        assert shaky.get_many("absent", "key:9") in ([None, b"9"], [None, b"new"])


@pytest.mark.parametrize(
    "call",
    [
        lambda backend, changes: backend.compare_and_set_many(changes, KEEP_TTL),
        lambda backend, changes: backend.replace_many(BATCH, KEEP_TTL),
    ],
    ids=["swap", "replace"],
)
def test_an_error_while_lifetimes_are_read_says_that_nothing_was_applied(
    call: Callable[[BaseBackend, Any], object], memcached_backend: MemcachedBackend, memcached_server: Any
) -> None:
    """Before entries are written that keep their lifetimes, these are read, beside the server's time."""
    memcached_backend.set_many(BATCH, 100)

    def leave(request: bytes) -> None:
        if request.startswith(b"stats"):
            proxy.refuse()

    with Proxy(memcached_server.port) as proxy, MemcachedBackend([(HOST, proxy.port)]) as backend:
        changes = swaps(backend)
        proxy.before_request = leave
        with pytest.raises(BackendError, match="connect") as caught:
            call(backend, changes)
        assert caught.value.maybe_applied is False


def test_a_server_killed_in_mid_swap_leaves_typed_errors_and_recovers(kind: str) -> None:
    server: Any = RedisServer() if kind == "redis" else MemcachedServer()
    with server, connect(server.port, kind) as backend:
        rows = {f"key:{i}": b"x" * 500 for i in range(20_000)}
        backend.set_many(rows)
        changes = swaps(backend, b"y" * 500, *rows)
        killer = threading.Timer(0.02, server.kill)
        killer.start()
        with pytest.raises(BackendError) as caught:
            swap_until_it_breaks(backend, changes)
        killer.join()
        assert caught.value.maybe_applied or "connect" in str(caught.value).lower()
        server.start()
        backend.retry_failed_servers()
        backend.set_many(BATCH)
        assert all(backend.compare_and_set_many(swaps(backend)).values())
        assert set(backend.get_many(*BATCH)) == {b"new"}


def test_ctrl_c_while_waiting_for_a_swap_costs_the_connection(proxy: Proxy, shaky: BaseBackend) -> None:
    changes = swaps(shaky, b"3", "key:1", "key:2")
    proxy.cut_after, proxy.hang = 0, True
    with pytest.raises(KeyboardInterrupt), ctrl_c_after(proxy.silent):
        shaky.compare_and_set_many(changes)
    proxy.cut_after = None
    assert in_use(shaky) == [0]
    assert shaky.get_many("absent", "key:3") == [None, b"3"]
    assert all(shaky.compare_and_set_many(swaps(shaky, b"4", "key:1", "key:2")).values())
    assert shaky.get_many("key:1", "key:2") == [b"4", b"4"]
