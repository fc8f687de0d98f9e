"""What Redis adds to the contract of a backend: its errors, its connections, and what happens when they break."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel
from amounts import enough
from children import fork_and_check
from faults import Proxy
from interrupting import ctrl_c_after
from lifetimes import left_of
from observing import in_use
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HANG, HOST, RedisServer

from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.types import KEEP_TTL, Outcome

NEVER_RETRY = Retry(NoBackoff(), 0)
BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}

# Seconds to wait for what does not come. Whatever does come is there far sooner, on a busy machine as well.
SHORT = 2


@pytest.fixture
def backend(redis_backend: RedisBackend) -> RedisBackend:
    return redis_backend


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy, backend: RedisBackend) -> Iterator[RedisBackend]:
    """A backend that reaches the server through the proxy."""
    with RedisBackend(host=HOST, port=proxy.port, retry=NEVER_RETRY, socket_timeout=60, retry_after=0) as shaky:
        yield shaky


def commands_run(backend: RedisBackend, name: str) -> int:
    return int(backend.client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])


# -- how it is made --------------------------------------------------------------------------------------


def test_making_a_backend_connects_to_nothing() -> None:
    with Proxy(1) as proxy, RedisBackend(host=HOST, port=proxy.port):
        assert proxy.accepted == 0


def test_without_the_driver_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install cacheorm\[redis\]"):
        RedisBackend()


def test_a_url_names_server_and_database(redis_server: RedisServer) -> None:
    with RedisBackend.from_url(f"redis://{HOST}:{redis_server.port}/3", default_ttl=700) as backend:
        backend.clear(everything=True)
        backend.set("k", b"v")
        assert backend.ttl("k") in left_of(700)
        assert backend.client.connection_pool.connection_kwargs["socket_timeout"] == HANG
        assert repr(backend) == f"<RedisBackend Redis at {HOST}:{redis_server.port} db 3>"


def test_a_unix_socket_works() -> None:
    with RedisServer(unix=True) as server:
        with RedisBackend.from_url(server.url) as backend:
            assert backend.set_many(BATCH) == dict.fromkeys(BATCH, True)
            assert backend.get("key:7") == b"7"
            assert str(server.path) in repr(backend)
        with RedisBackend(unix_socket_path=server.path) as backend:
            assert backend.has("key:8")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:p4ss/word@host:1/0", "not a redis:// URL: there is an '@'"),
        ("http://u:p4ss@host", "not a Redis URL: expected redis://, rediss://"),
        ("redis://u:p4ss@host?db=x", "option db of the redis:// URL must be a whole number"),
    ],
)
def test_a_url_that_is_none_is_an_error_that_keeps_the_password(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RedisBackend.from_url(url)
    assert "p4ss" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_sentinel_is_no_client() -> None:
    with pytest.raises(ValueError, match=r"sentinel\.master_for"):
        RedisBackend(client=redis.sentinel.Sentinel.__new__(redis.sentinel.Sentinel))


def test_a_client_takes_no_options_of_its_own() -> None:
    with pytest.raises(TypeError, match="socket_timeout"):
        RedisBackend(client=redis.Redis(), socket_timeout=3)


def test_a_client_that_was_passed_in_stays_open(redis_server: RedisServer) -> None:
    with redis.Redis(host=HOST, port=redis_server.port) as client:
        with RedisBackend(client=client) as backend:
            backend.set("k", b"v")
            number = client.client_id()
        assert client.client_id() == number, "it speaks over the same connection as before"


def test_a_closed_backend_opens_again(backend: RedisBackend) -> None:
    backend.set("k", b"v")
    backend.close()
    assert backend.get("k") == b"v"


def test_values_are_bytes_although_the_client_decodes(redis_server: RedisServer) -> None:
    with redis.Redis(host=HOST, port=redis_server.port, decode_responses=True) as client:
        backend = RedisBackend(client=client)
        backend.set_many({"k": b"\xff\xfe", "l": "é"})
        assert backend.get_many("k", "l", "m") == [b"\xff\xfe", "é".encode(), None]
        assert backend.get("k") == b"\xff\xfe"
        assert backend.stats()["entries"] >= 2
        assert backend.ping()


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocol_versions_work(redis_server: RedisServer, protocol: int) -> None:
    with RedisBackend(host=HOST, port=redis_server.port, protocol=protocol) as backend:
        assert all(backend.set_many(BATCH).values())
        assert backend.get_many(*BATCH, "absent") == [*BATCH.values(), None]
        assert backend.add("key:1", b"") is False
        assert backend.stats()["entries"] >= len(BATCH)


def test_connections_that_may_not_be_idle_are_used_once(redis_server: RedisServer) -> None:
    with RedisBackend(host=HOST, port=redis_server.port, health_check_interval=1e-9) as backend:
        assert all(backend.set_many(BATCH).values())
        assert [value for chunk in backend.get_chunks(list(BATCH)) for value in chunk] == list(BATCH.values())


# -- batches ---------------------------------------------------------------------------------------------


def test_a_batch_that_fits_is_one_mget(backend: RedisBackend) -> None:
    before = commands_run(backend, "mget")
    backend.get_many(*[f"k{i}" for i in range(500)])
    assert commands_run(backend, "mget") == before + 1


def test_a_large_batch_is_read_in_parts_that_arrive_one_by_one(backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    before = commands_run(backend, "mget")
    chunks = list(backend.get_chunks([*BATCH, "absent"]))
    assert [value for chunk in chunks for value in chunk] == [*BATCH.values(), None]
    # Two requests are on their way at first; the next is sent when something has come.
    assert len(chunks) > 1
    assert commands_run(backend, "mget") == before + 6


def test_a_batch_of_large_values_is_read_in_smaller_parts(backend: RedisBackend) -> None:
    backend.set("large", b"x" * 1_000_000)
    keys = ["large"] * 40 + ["absent"] * 1169 + ["large"] * 3
    before = commands_run(backend, "mget")
    values = [value for chunk in backend.get_chunks(keys) for value in chunk]
    assert [value is None for value in values] == [key == "absent" for key in keys]
    # Three would do for as many small ones. The first two are sent before anything is known; the next two ask for a
    # few keys each, as only large values have come by then.
    assert commands_run(backend, "mget") > before + 4


@pytest.mark.no_cover
def test_a_great_many_rows_pass(backend: RedisBackend) -> None:
    rows = {f"row:{i}": b"%d" % i for i in range(enough(100_000))}
    assert all(backend.set_many(rows).values())
    assert backend.get_many(*rows) == list(rows.values())
    assert backend.delete_many(*rows) is True


def test_values_of_a_megabyte_pass(backend: RedisBackend) -> None:
    rows = {f"row:{i}": os.urandom(1_000_000) for i in range(30)}
    assert all(backend.set_many(rows).values())
    assert backend.get_many(*rows) == list(rows.values())


def test_an_abandoned_read_leaves_nothing_for_the_next(backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    chunks = backend.get_chunks(list(BATCH))
    next(chunks)
    assert in_use(backend) == [1]
    chunks.close()
    assert backend.get("key:5") == b"5"
    assert in_use(backend) == [0]


def test_a_read_to_the_end_keeps_its_connection(backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    before = backend.client.info("stats")["total_connections_received"]
    for chunk in backend.get_chunks(list(BATCH)):
        assert chunk
    backend.get("key:1")
    assert backend.client.info("stats")["total_connections_received"] == before


def test_the_clients_own_connections_do_not_count(redis_server: RedisServer) -> None:
    with (
        redis.Redis(host=HOST, port=redis_server.port, max_connections=1) as client,
        RedisBackend(client=client) as backend,
    ):
        assert backend.set("k", b"v")
        chunks = backend.get_chunks(["k"] * 2500)
        next(chunks)
        assert backend.pools()[0][1:3] == (1, 1)
        assert client.get("k") == b"v"
        chunks.close()


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_asked() -> None:
    with RedisServer() as server, RedisBackend(host=HOST, port=server.port, socket_timeout=SHORT) as backend:
        backend.set("k", b"v")
        server.pause()
        with pytest.raises(BackendError, match="no answer in time") as caught:
            backend.set("k", b"w")
        assert caught.value.maybe_applied
        assert isinstance(caught.value.__cause__, TimeoutError)
        server.resume()
        backend.retry_failed_servers()
        assert backend.get("k") in (b"v", b"w")


# -- what the server refuses -----------------------------------------------------------------------------


def test_an_entry_of_another_type_is_an_error_and_no_miss(backend: RedisBackend) -> None:
    backend.client.rpush("list", "item")
    for call in (lambda: backend.get("list"), lambda: backend.incr("list")):
        with pytest.raises(BackendError, match="key list: WRONGTYPE") as caught:
            call()
        assert isinstance(caught.value.__cause__, redis.ResponseError)
        assert caught.value.maybe_applied is False


def test_a_refused_counter_leaves_no_trace(backend: RedisBackend) -> None:
    backend.set("text", b"many")
    with pytest.raises(BackendError, match=r"key text: .*not an integer"):
        backend.incr("text")
    with pytest.raises(BackendError, match="64-bit"):
        backend.incr("new", 1 << 63)
    assert not backend.has("new")
    assert backend.incr("new", (1 << 63) - 1) == (1 << 63) - 1
    with pytest.raises(BackendError, match="overflow"):
        backend.incr("new")


def test_a_full_server_refuses_rows_one_by_one() -> None:
    with (
        RedisServer("--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as server,
        RedisBackend(host=HOST, port=server.port) as backend,
    ):
        rows = {f"k{i}": b"x" * 10_000 for i in range(500)}
        outcome = backend.set_many(rows)
        assert isinstance(outcome, Outcome)
        refused = [key for key, stored in outcome.items() if not stored]
        assert refused
        assert list(outcome.reasons) == refused
        assert "memory" in outcome.reasons[refused[-1]]
        stored = [key for key, stored in outcome.items() if stored]
        assert backend.get_many(*stored) == [rows[key] for key in stored]
        with pytest.raises(BackendError, match=r"key last: .*memory") as caught:
            backend.set("last", b"x")
        assert caught.value.maybe_applied is False
        with pytest.raises(BackendError, match=r"key count: .*memory"):
            backend.incr("count")


def test_a_replica_refuses_writes_and_serves_reads() -> None:
    with (
        RedisServer("--replicaof", HOST, "1") as server,
        RedisBackend(host=HOST, port=server.port) as backend,
    ):
        outcome = backend.set_many({"a": b"1", "b": b"2"})
        assert outcome == {"a": False, "b": False}
        assert "read only" in outcome.reasons["b"]
        with pytest.raises(BackendError, match="read only"):
            backend.delete("a")
        assert backend.get_many("a") == [None]


def test_a_missing_or_wrong_password_is_an_error_that_does_not_show_it() -> None:
    with RedisServer("--requirepass", "p4ss") as server:
        with RedisBackend(host=HOST, port=server.port, password="p4ss") as backend:
            assert backend.set("k", b"v")
            assert "p4ss" not in repr(backend)
        for password in (None, "wr0ng"):
            with RedisBackend(host=HOST, port=server.port, password=password) as backend:
                for call in (
                    lambda backend=backend: backend.get("k"),
                    lambda backend=backend: backend.set("k", b""),
                    lambda backend=backend: backend.set_many({"k": b""}),
                ):
                    with pytest.raises(BackendError) as caught:
                        call()
                    assert caught.value.maybe_applied is False
                    assert "wr0ng" not in str(caught.value)


def test_what_a_user_may_not_do_is_said_row_by_row(redis_server: RedisServer, backend: RedisBackend) -> None:
    backend.client.acl_setuser(
        "clerk", enabled=True, passwords=["+x"], keys=["open:*"], commands=["+set", "+get", "+mget", "+hello"]
    )
    with RedisBackend(host=HOST, port=redis_server.port, username="clerk", password="x") as clerk:
        outcome = clerk.set_many({"open:1": b"1", "closed:1": b"2", "open:2": b"3"})
        assert outcome == {"open:1": True, "closed:1": False, "open:2": True}
        assert list(outcome.reasons) == ["closed:1"]
        with pytest.raises(BackendError, match="permission"):
            clerk.delete("open:1")
        with pytest.raises(BackendError, match="permission"):
            clerk.get_many("open:1", "closed:1")
        assert clerk.get_many("open:1", "open:2") == [b"1", b"3"]


def test_arguments_that_the_server_repeats_are_not_shown() -> None:
    with (
        RedisServer("--rename-command", "SET", "renamed") as server,
        RedisBackend(host=HOST, port=server.port) as backend,
        pytest.raises(BackendError, match="unknown command") as caught,
    ):
        backend.set("k", b"a secret value")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", [b"bytes", 3, "\ud800"])
def test_bad_keys_are_refused_before_anything_is_sent(key: Any) -> None:
    # Nobody listens there: any attempt to send would be another error.
    with RedisBackend(host=HOST, port=1, retry=NEVER_RETRY) as backend:
        calls = [
            lambda: backend.get(key),
            lambda: backend.set(key, b""),
            lambda: backend.delete(key),
            lambda: backend.incr(key),
            lambda: backend.touch(key),
            lambda: backend.ttl(key),
            lambda: backend.has(key),
            lambda: backend.get_many("good", key),
            lambda: list(backend.get_chunks([*BATCH, key])),
            lambda: backend.set_many({**BATCH, key: b""}),
            lambda: backend.delete_many(*BATCH, key),
            lambda: backend.check_key(key),
        ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()


def test_a_bad_value_anywhere_in_a_batch_stores_nothing(backend: RedisBackend) -> None:
    with pytest.raises(TypeError, match="last"):
        backend.set_many({**BATCH, "last": None})
    assert backend.stats()["entries"] == 0


def test_keeping_the_lifetime_is_the_servers_work(backend: RedisBackend) -> None:
    backend.set_many({"a": b"1", "b": b"1"}, ttl=5000)
    assert backend.replace_many({"a": b"2", "b": b"2", "c": b"2"}, KEEP_TTL) == {"a": True, "b": True, "c": False}
    assert backend.ttl("a") in left_of(5000)
    assert commands_run(backend, "pttl") >= 1


# -- connections that break ------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_an_error_and_nothing_was_written() -> None:
    with RedisBackend(host=HOST, port=1, retry=NEVER_RETRY, retry_after=0) as backend:
        for call in (lambda: backend.get("k"), lambda: backend.set_many({"k": b""}), lambda: backend.incr("k")):
            with pytest.raises(BackendError, match=f"^Redis at {HOST}:1 db 0: ") as caught:
                call()
            assert caught.value.maybe_applied is False
            assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_a_restarted_server_is_found_again() -> None:
    with RedisServer() as server, RedisBackend(host=HOST, port=server.port) as backend:
        backend.set("k", b"v")
        server.restart()
        assert backend.get("k") is None
        server.restart()
        assert backend.set("k", b"w")
        assert backend.get("k") == b"w"


def write_until_it_breaks(backend: RedisBackend, rows: dict[str, bytes]) -> None:
    for _ in range(1000):
        backend.set_many(rows)


def test_a_server_killed_in_mid_batch_leaves_typed_errors_and_recovers() -> None:
    rows = {f"k{i}": b"x" * 1000 for i in range(50_000)}
    with (
        RedisServer() as server,
        RedisBackend(host=HOST, port=server.port, retry=NEVER_RETRY, retry_after=0) as backend,
    ):
        backend.ping()
        killer = threading.Timer(0.03, server.kill)
        killer.start()
        with pytest.raises(BackendError) as caught:
            write_until_it_breaks(backend, rows)
        killer.join()
        # Cut off within a batch, or refused at the next connection.
        assert caught.value.maybe_applied or "connect" in str(caught.value)
        server.start()
        assert all(backend.set_many(rows).values())
        assert backend.get_many(*rows) == list(rows.values())


def test_a_read_on_a_stale_connection_is_repeated_once(proxy: Proxy, shaky: RedisBackend) -> None:
    shaky.set_many(BATCH)
    proxy.once = True
    for call, expected in (
        (lambda: shaky.get("key:3"), b"3"),
        (lambda: shaky.get_many("key:1", "key:2"), [b"1", b"2"]),
        (lambda: sum(map(len, shaky.get_chunks(list(BATCH)))), len(BATCH)),
    ):
        proxy.cut_after = 0
        before = proxy.accepted
        assert call() == expected
        assert proxy.accepted == before + 1
    proxy.once = False
    for call in (lambda: shaky.get("key:3"), lambda: list(shaky.get_chunks(list(BATCH)))):
        proxy.cut_after = 0
        before = proxy.accepted
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is False
        assert proxy.accepted - before <= 2


def test_a_write_is_never_sent_twice(proxy: Proxy, shaky: RedisBackend) -> None:
    for call in (
        lambda: shaky.set("once", b"v"),
        lambda: shaky.set_many({"once": b"v", "x": b""}),
        lambda: shaky.incr("once"),
    ):
        proxy.cut_after = None
        shaky.ping()
        proxy.requests.clear()
        proxy.cut_after = 0
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is True
        assert "may have been applied" in str(caught.value)
        assert proxy.requests.count(b"once") <= 2  # INCR names the key in SET and in INCRBY
        assert proxy.requests.count(b"SET\r\n$4\r\nonce") == 1


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 7, 4999, 5000, 5001, 12_000])
def test_replies_cut_off_anywhere_never_reach_the_next_caller(cut: int, proxy: Proxy, shaky: RedisBackend) -> None:
    shaky.ping()
    proxy.cut_after = cut
    with pytest.raises(BackendError):
        shaky.set_many(BATCH)
    proxy.cut_after = None
    shaky.set_many(BATCH)
    proxy.cut_after = cut
    with pytest.raises(BackendError) as caught:
        shaky.get_many(*BATCH)
    assert caught.value.maybe_applied is False
    proxy.cut_after = None
    assert shaky.get("key:9") == b"9"
    assert shaky.get_many("key:1", "key:2") == [b"1", b"2"]


def test_a_silent_server_is_given_up_after_the_timeout(proxy: Proxy, redis_server: RedisServer) -> None:
    with RedisBackend(host=HOST, port=proxy.port, retry=NEVER_RETRY, socket_timeout=SHORT, retry_after=0) as backend:
        backend.set_many(BATCH)
        proxy.hang = True
        proxy.cut_after = 0
        with pytest.raises(BackendError, match="no answer in time") as caught:
            backend.set("k", b"v")
        assert caught.value.maybe_applied is True
        proxy.cut_after = None
        backend.ping()
        proxy.cut_after = 0
        before = proxy.accepted
        with pytest.raises(BackendError, match="no answer in time") as caught:
            backend.get("k")
        assert caught.value.maybe_applied is False
        assert proxy.accepted == before, "a timeout is no stale connection: the read is not repeated"
        proxy.cut_after = None
        assert backend.get("key:4") == b"4"


@pytest.mark.parametrize("owner", ["the backend", "somebody else"])
@pytest.mark.parametrize(
    ("call", "after"),
    [
        (lambda backend: backend.set_many(BATCH), 0),
        (lambda backend: backend.set_many(BATCH), 1),
        (lambda backend: backend.set_many(BATCH), 9001),
        (lambda backend: backend.get("key:1"), 0),
        (lambda backend: backend.get("key:1"), 5),
        (lambda backend: backend.incr("count"), 6),
        (lambda backend: backend.get_many(*BATCH), 0),
        (lambda backend: backend.get_many(*BATCH), 1),
        (lambda backend: backend.get_many(*BATCH), 9001),
    ],
)
def test_ctrl_c_while_replies_are_due_costs_the_connection(
    call: Callable[[RedisBackend], Any], after: int, owner: str, proxy: Proxy, backend: RedisBackend
) -> None:
    with redis.Redis(host=HOST, port=proxy.port, socket_timeout=60) as client:
        shaky = RedisBackend(client=client)
        if owner == "the backend":
            shaky = RedisBackend(host=HOST, port=proxy.port, socket_timeout=60)
        with shaky:
            shaky.set_many(BATCH)
            proxy.cut_after, proxy.hang = after, True
            with pytest.raises(KeyboardInterrupt), ctrl_c_after(proxy.silent):
                call(shaky)
            proxy.cut_after = None
            assert in_use(shaky) == [0]
            assert shaky.get("key:8") == b"8"
            assert shaky.get_many("key:1", "absent", "key:3") == [b"1", None, b"3"]
            assert proxy.accepted == 2


def test_threads_share_a_backend_without_mixing_replies(backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    wrong: list[Any] = []

    def work(number: int) -> None:
        for i in range(50):
            key = f"key:{(number * 50 + i) % 2500}"
            if backend.get_many(key, "absent") != [BATCH[key], None] or backend.get(key) != BATCH[key]:
                wrong.append(key)
            backend.incr("count")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert backend.get("count") == b"800"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_makes_its_own_connections(backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    wait = fork_and_check(lambda: all(backend.get(f"key:{i}") == b"%d" % i for i in range(200)))
    assert all(backend.get(f"key:{i}") == b"%d" % i for i in range(200, 400))
    wait()
    assert backend.get("key:1") == b"1"


# -- clients whose connections are out of reach ----------------------------------------------------------


class Wrapped:
    """A client of which only the public interface is there."""

    def __init__(self, client: redis.Redis) -> None:
        self.pipeline = client.pipeline
        self.close = client.close


def test_the_public_interface_is_enough(redis_server: RedisServer, backend: RedisBackend) -> None:
    with redis.Redis(host=HOST, port=redis_server.port, decode_responses=True) as client:
        wrapped = RedisBackend(client=Wrapped(client))
        assert wrapped.set_many(BATCH, ttl=5000) == dict.fromkeys(BATCH, True)
        assert wrapped.get_many(*BATCH, "absent") == [*BATCH.values(), None]
        assert wrapped.replace_many({"key:1": b"one", "absent": b""}, KEEP_TTL) == {"key:1": True, "absent": False}
        assert wrapped.ttl("key:1") in left_of(5000)
        assert wrapped.incr("count", -4, ttl=9000) == -4
        assert wrapped.add("key:2", b"") is False
        assert wrapped.touch("count", 0)
        assert wrapped.ttl("count") == 0
        assert wrapped.stats()["entries"] == len(BATCH) + 1
        assert wrapped.ping()
        assert wrapped.delete_many(*BATCH) is True
        client.rpush("list", "item")
        with pytest.raises(BackendError, match="key list: WRONGTYPE"):
            wrapped.get("list")
        with pytest.raises(BackendError, match="key list: WRONGTYPE"):
            wrapped.incr("list")
        wrapped.clear(everything=True)
        assert backend.stats()["entries"] == 0


def test_the_public_interface_reports_what_broke() -> None:
    with (
        RedisServer("--maxmemory", "1", "--maxmemory-policy", "noeviction") as server,
        redis.Redis(host=HOST, port=server.port, retry=NEVER_RETRY) as client,
    ):
        wrapped = RedisBackend(client=Wrapped(client))
        with pytest.raises(BackendError, match="memory"):
            wrapped.incr("count")
        assert "memory" in wrapped.set_many({"a": b""}).reasons["a"]
        client.acl_setuser("default", commands=["-mget"])
        with pytest.raises(BackendError, match="permission"):
            wrapped.get_many("a")
        server.kill()
        with pytest.raises(BackendError) as caught:
            wrapped.set("a", b"")
        assert caught.value.maybe_applied is True
        with pytest.raises(BackendError) as caught:
            wrapped.get("a")
        assert caught.value.maybe_applied is False


def test_a_client_with_a_cache_of_its_own_is_used_through_its_public_interface(redis_server: RedisServer) -> None:
    # The server that is at hand may be too old for redis-py's own cache, so only the sign of one is here.
    with redis.Redis(host=HOST, port=redis_server.port) as client:
        caching = Wrapped(client)
        caching.connection_pool = SimpleNamespace(
            cache=object(), connection_class=redis.Connection, connection_kwargs={"host": "there"}
        )
        caching.connection_pool.get_connection = pytest.fail
        backend = RedisBackend(client=caching)
        assert repr(backend) == "<RedisBackend Redis at there:6379 db 0>"
        assert backend.set("k", b"v")
        assert backend.get("k") == b"v"
