"""Redis under sentinels: who is asked, who is believed, and what is repeated when another server takes over."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel
from children import fork_and_check
from clusters import wait_until
from faults import Proxy
from lifetimes import left_of
from sentinels import SentinelServer
from servers import HANG, HOST, RedisServer

from cacheorm.backends import backend_from_url
from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError
from cacheorm.testing._async_adapter import AsyncAdapter
from cacheorm.types import KEEP_TTL

SERVICE = "rows"
BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}


class Stage:
    """Two servers, the second a replica, and two sentinels that say what the test tells them to say."""

    def __init__(self, *options: str, lines: str = "") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cacheorm-")
        self._options = (*options, "--repl-diskless-sync-delay", "0")
        self._lines = lines
        self.password = options[1] if "--requirepass" in options else None

    def __enter__(self) -> Self:
        self.first, self.second = (RedisServer(*self._options).start() for _ in range(2))
        self.command(self.second, "REPLICAOF", HOST, self.first.port)
        self.sentinels = [
            SentinelServer(Path(self._folder.name), SERVICE, self.first.port, self._lines).start() for _ in range(2)
        ]
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in (*self.sentinels, self.first, self.second):
            process.stop()
        self._folder.cleanup()

    def command(self, server: Any, *words: Any) -> Any:
        with redis.Redis(host=HOST, port=server.port, password=self.password) as client:
            return client.execute_command(*words)

    def say(self, primary: RedisServer, sentinels: list[SentinelServer] | None = None) -> None:
        """Let sentinels name a server as the primary."""
        for sentinel in self.sentinels if sentinels is None else sentinels:
            self.command(sentinel, "SENTINEL", "REMOVE", SERVICE)
            self.command(sentinel, "SENTINEL", "MONITOR", SERVICE, HOST, primary.port, 2)

    def swap(self) -> None:
        """Let the second server take the place of the first, whose connections stay open."""
        self.command(self.second, "REPLICAOF", "NO", "ONE")
        self.command(self.first, "REPLICAOF", HOST, self.second.port)

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture(params=["called", "awaited"])
def use(request: pytest.FixtureRequest) -> Iterator[Callable[[RedisBackend], Any]]:
    """Gives what is called in a test: a backend itself, or one whose methods await its twins."""
    made: list[AsyncAdapter] = []

    def use(backend: RedisBackend) -> Any:
        if request.param == "called":
            return backend
        made.append(AsyncAdapter(backend))
        return made[-1]

    yield use
    for awaited in made:
        awaited.end()


Use = Callable[[RedisBackend], Any]


# -- how it is made --------------------------------------------------------------------------------------


def test_making_a_backend_connects_to_nothing() -> None:
    with Proxy(1) as proxy, backend_from_url(f"redis+sentinel://{HOST}:{proxy.port}/{SERVICE}") as backend:
        assert repr(backend) == "<RedisBackend Redis service rows db 0>"
        assert proxy.accepted == 0


def test_a_url_names_the_service_its_database_and_options(stage: Stage, use: Use) -> None:
    with backend_from_url(f"{stage.url}/3?default_ttl=700&socket_timeout=9") as backend:
        assert isinstance(backend, RedisBackend)
        store = use(backend)
        assert store.set("k", b"v")
        assert store.ttl("k") in left_of(700)
        assert stage.command(stage.first, "INFO", "keyspace")["db3"]["keys"] == 1
        assert repr(backend) == "<RedisBackend Redis service rows db 3>"
        assert backend.client.connection_pool.connection_kwargs["socket_timeout"] == 9


@pytest.mark.parametrize("module", [redis.sentinel, redis.asyncio.sentinel], ids=["blocking", "asyncio"])
def test_a_client_for_the_primary_is_enough(module: Any, stage: Stage, use: Use) -> None:
    sentinel = module.Sentinel([(HOST, process.port) for process in stage.sentinels])
    with RedisBackend(client=sentinel.master_for(SERVICE, db=2)) as backend:
        store = use(backend)
        assert store.set_many(BATCH) == dict.fromkeys(BATCH, True)
        assert store.get_many(*BATCH) == list(BATCH.values())
        assert stage.command(stage.first, "INFO", "keyspace")["db2"]["keys"] == len(BATCH)


@pytest.mark.parametrize("module", [redis.sentinel, redis.asyncio.sentinel], ids=["blocking", "asyncio"])
def test_what_is_no_client_for_a_primary_says_what_to_pass(module: Any) -> None:
    sentinel = module.Sentinel([(HOST, 1)])
    for client in (sentinel, sentinel.slave_for(SERVICE), module.Sentinel([]).master_for(SERVICE)):
        with pytest.raises(ValueError, match=r"sentinel\.master_for\(\.\.\.\)|without addresses of sentinels"):
            RedisBackend(client=client)


def test_passwords_of_servers_and_of_sentinels_are_used_and_never_shown(use: Use) -> None:
    lines = f"requirepass s3ntinel\nsentinel auth-pass {SERVICE} s3rver\n"
    with Stage("--requirepass", "s3rver", "--masterauth", "s3rver", lines=lines) as stage:
        place = f"{HOST}:{stage.sentinels[0].port}/{SERVICE}"
        with backend_from_url(f"redis+sentinel://:s3rver@{place}?sentinel_password=s3ntinel") as backend:
            assert use(backend).set("k", b"v")
        for url in (
            f"redis+sentinel://:wr0ng@{place}?sentinel_password=s3ntinel",
            f"redis+sentinel://:s3rver@{place}?sentinel_password=wr0ng",
            f"redis+sentinel://:s3rver@{place}",
        ):
            with backend_from_url(url) as backend, pytest.raises(BackendError) as caught:
                use(backend).set("k", b"v")
            shown = f"{caught.value!r} {caught.value.__cause__!r}"
            assert "wr0ng" not in shown
            assert "s3" not in shown
            assert caught.value.maybe_applied is False


@pytest.mark.parametrize(
    ("rest", "places", "expected"),
    [
        ("a/rows", [("a", 26379)], {"db": None}),
        ("a:1,b:2/rows/4", [("a", 1), ("b", 2)], {"db": 4}),
        ("[::1]:7,[fe80::1]/rows", [("::1", 7), ("fe80::1", 26379)], {}),
        ("u:p%40w@a/rows/", [("a", 26379)], {"username": "u", "password": "p@w"}),
        ("a/ro%2Fws?max_connections=3", [("a", 26379)], {"service": "ro/ws", "max_connections": 3}),
    ],
)
def test_the_parts_of_a_url(rest: str, places: list[tuple[str, int]], expected: dict[str, Any]) -> None:
    pool = RedisBackend.from_url(f"redis+sentinel://{rest}").client.connection_pool
    options = {**pool.connection_kwargs, "max_connections": pool.max_connections, "service": pool.service_name}
    assert {name: options.get(name) for name in expected} == expected
    found = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(place["host"], place["port"]) for place in found] == places
    assert all(place["socket_timeout"] == HANG for place in found)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "expected host or host:port"),
        ("h", "host:port,host:port/service"),
        ("h/", "expected the name of a service"),
        ("h:port/rows", "a port from 1 to 65535"),
        ("h:70000/rows", "a port from 1 to 65535"),
        ("::1/rows", "in brackets"),
        ("h,/rows", "expected host or host:port"),
        (":hunter2@h@i/rows", "percent-encoded"),
        (":hunter2@h/rows/x", "expected the number of one database"),
        (":hunter2@h/rows?socket_timeout=hunter2", "option socket_timeout .* must be a number of seconds"),
        (":hunter2@h/rows?min_other_sentinels=hunter2", "option min_other_sentinels .* must be a whole number"),
        (":hunter2@h/rows?sockettimeout=1", "unknown option 'sockettimeout'"),
        (":hunter2@h/rows?default_ttl=x", "default_ttl of the redis\\+sentinel:// URL must be a whole number"),
    ],
)
def test_a_bad_url_is_explained_and_not_shown(rest: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        backend_from_url(f"redis+sentinel://{rest}")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


# -- whom it believes ------------------------------------------------------------------------------------


def test_a_service_that_nobody_knows_is_an_error_that_says_so(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url.replace(SERVICE, "others")) as backend:
        with pytest.raises(BackendError, match=r"service others db 0: sentinel .*No such master with that") as caught:
            use(backend).incr("k")
        assert caught.value.maybe_applied is False


def test_sentinels_that_do_not_answer_are_named(use: Use) -> None:
    with RedisBackend.from_url(f"redis+sentinel://{HOST}:1,{HOST}:2/rows") as backend:
        with pytest.raises(BackendError, match=r"sentinel 127.0.0.1:1: .*; sentinel 127.0.0.1:2: ") as caught:
            use(backend).get("k")
        assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_of_sentinels_one_that_answers_is_enough(stage: Stage, use: Use) -> None:
    stage.sentinels[0].kill()
    with RedisBackend.from_url(stage.url) as backend:
        assert use(backend).set("k", b"v")


def test_a_sentinel_has_to_know_as_many_others_as_it_is_asked_for(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(f"{stage.url}?min_other_sentinels=2") as backend:
        store = use(backend)
        with pytest.raises(BackendError, match="sees fewer than 2 other sentinels"):
            store.get("k")


def test_a_sentinel_that_names_a_replica_is_not_believed(stage: Stage, use: Use) -> None:
    stage.swap()
    stage.say(stage.second, stage.sentinels[1:])
    with RedisBackend.from_url(stage.url) as backend:
        assert use(backend).set("k", b"v")
        assert stage.command(stage.second, "GET", "k") == b"v"
    stage.say(stage.first)
    with RedisBackend.from_url(stage.url) as backend:
        with pytest.raises(BackendError, match="is a replica, though a sentinel named it") as caught:
            use(backend).set("k", b"w")
        assert caught.value.maybe_applied is False


def test_a_user_that_may_not_ask_for_the_role_is_served(stage: Stage, use: Use) -> None:
    stage.command(stage.first, "ACL", "SETUSER", "clerk", "on", ">x", "~*", "+@all", "-role")
    with RedisBackend.from_url(stage.url.replace("//", "//clerk:x@")) as backend:
        assert use(backend).set("k", b"v")


# -- when another server takes over ----------------------------------------------------------------------


CALLS: dict[str, Callable[[Any], Any]] = {
    "set": lambda store: store.set("new", b"v"),
    "add": lambda store: store.add("new", b"v"),
    "replace": lambda store: store.replace("old", b"v", KEEP_TTL),
    "incr": lambda store: store.incr("count", 1),
    "delete": lambda store: store.delete("old"),
    "touch": lambda store: store.touch("old", 0),
    "set_many": lambda store: all(store.set_many(BATCH).values()),
    "add_many": lambda store: all(store.add_many(BATCH).values()),
    "delete_many": lambda store: store.delete_many("old", "older"),
    "touch_many": lambda store: store.touch_many(["old", "older"], 50) == {"old": True, "older": True},
    "compare_and_set_many": lambda store: store.compare_and_set_many({"old": (b"2", b"1")}) == {"old": True},
    "clear": lambda store: store.clear(everything=True) is None,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_write_that_a_replica_refuses_is_done_by_the_primary(name: str, stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        store = use(backend)
        store.set_many({"old": b"1", "older": b"1"})
        wait_until("the replica has both", lambda: stage.command(stage.second, "DBSIZE") == 2)
        stage.swap()
        stage.say(stage.second)
        assert CALLS[name](store)
        writes = ("cmdstat_set", "cmdstat_incrby", "cmdstat_del", "cmdstat_persist", "cmdstat_expire")
        done = stage.command(stage.second, "INFO", "commandstats")
        assert any(done.get(write, {"calls": 0})["calls"] for write in (*writes, "cmdstat_eval", "cmdstat_flushdb"))
        assert store.get_many("absent") == [None]


def test_connecting_asks_nothing_of_asyncio_that_is_deprecated(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As redis-py does for a ``redis_connect_func``; Python 3.14 warns of it."""

    def deprecated(function: Any) -> bool:
        raise DeprecationWarning("'asyncio.iscoroutinefunction' is deprecated")

    monkeypatch.setattr(asyncio, "iscoroutinefunction", deprecated)
    with RedisBackend.from_url(stage.url) as backend:
        store = AsyncAdapter(backend)
        try:
            assert store.set("k", b"v")
            assert store.get("k") == b"v"
        finally:
            store.end()


def test_a_write_that_everybody_refuses_is_an_error_and_was_not_applied(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        store = use(backend)
        store.set("k", b"v")
        stage.swap()
        for call in (lambda: store.set("k", b"w"), lambda: store.incr("n"), lambda: store.set_many({"k": b"w"})):
            with pytest.raises(BackendError, match="is a replica") as caught:
                call()
            assert caught.value.maybe_applied is False
        stage.say(stage.second)
        assert store.incr("n") == 1


def test_connections_that_work_are_left_when_the_sentinels_name_another(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        store = use(backend)
        assert store.set("k", b"v")
        # Both are primaries now, as while a failover is on its way.
        stage.command(stage.second, "REPLICAOF", "NO", "ONE")
        stage.say(stage.second)
        tries = 0
        while stage.command(stage.second, "GET", "k") != b"w":
            assert store.set("k", b"w")
            tries += 1
            assert tries < 100_000


def test_an_old_primary_that_comes_back_is_not_written_to(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        store = use(backend)
        assert store.set("k", b"v")
        stage.command(stage.second, "REPLICAOF", "NO", "ONE")
        stage.say(stage.second)
        # It takes itself for the primary, until the sentinels tell it whom to follow.
        stage.first.restart()
        assert store.incr("n") == 1
        assert store.set_many(BATCH) == dict.fromkeys(BATCH, True)
        assert stage.command(stage.second, "GET", "n") == b"1"
        assert stage.command(stage.first, "DBSIZE") == 0


def test_a_read_goes_on_where_another_server_has_to_take_over(stage: Stage) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        backend.set_many(BATCH)
        while stage.command(stage.second, "DBSIZE") != len(BATCH):
            pass
        stage.command(stage.second, "REPLICAOF", "NO", "ONE")
        stage.say(stage.second)
        chunks = backend.get_chunks(list(BATCH) * 40)
        values = next(chunks)
        stage.first.kill()
        for chunk in chunks:
            values += chunk
        assert values == list(BATCH.values()) * 40


def when_its_reply_is_lost(store: Any, proxy: Proxy, call: Callable[[], Any]) -> BackendError:
    """Call something, the reply to which the proxy cuts off, and give the error."""
    # Now and then something else is lost: what a sentinel asked the server, or the greeting of a connection that was
    # made meanwhile, and is made anew. A call that is repeated in silence never gives an error.
    for _ in range(20):
        store.ping()
        proxy.cut_after, proxy.once = 0, True
        try:
            call()
        except BackendError as error:
            return error
    raise AssertionError("replies were lost, and nobody said so")


def test_a_count_whose_reply_was_lost_is_not_repeated_and_says_so(stage: Stage, use: Use) -> None:
    with Proxy(stage.first.port) as proxy:
        stage.say(proxy)  # type: ignore[arg-type]
        with RedisBackend.from_url(stage.url) as backend:
            store = use(backend)
            assert store.incr("n") == 1
            for call in (
                lambda: store.incr("n"),
                lambda: store.delete("n"),
                lambda: store.add_many({"x": b"1", "y": b"1"}),
                lambda: store.compare_and_set_many({"x": (b"2", b"1")}),
            ):
                assert when_its_reply_is_lost(store, proxy, call).maybe_applied is True
            for again in (lambda: store.set("k", b"v"), lambda: store.set_many(BATCH), lambda: store.get("k")):
                store.ping()
                proxy.cut_after, proxy.once = 0, True
                assert again()
            store.ping()
            proxy.cut_after, proxy.once = 0, False
            with pytest.raises(BackendError) as caught:
                store.set("k", b"v")
            # The second time it was not even sent; the first time it was.
            assert caught.value.maybe_applied is True


def test_a_closed_backend_opens_again(stage: Stage, use: Use) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        store = use(backend)
        store.set("k", b"v")
        store.close()
        assert store.get("k") == b"v"


def test_those_who_look_for_the_primary_at_the_same_time_share_what_one_finds(stage: Stage) -> None:
    with Proxy(stage.sentinels[0].port) as proxy:

        async def main() -> None:
            with RedisBackend.from_url(f"redis+sentinel://{HOST}:{proxy.port}/{SERVICE}?max_connections=1") as backend:
                assert await asyncio.gather(*[backend.aset(f"k{i}", b"v") for i in range(100)]) == [True] * 100
                assert proxy.accepted == 1
                await backend.aclose()
            with RedisBackend.from_url(f"redis+sentinel://{HOST}:{proxy.port}/others") as backend:
                failed = await asyncio.gather(*[backend.aget("k") for _ in range(100)], return_exceptions=True)
                assert all("No such master" in str(error) for error in failed)
                assert proxy.accepted == 2
                await backend.aclose()

        asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_looks_for_the_primary_itself(stage: Stage) -> None:
    with RedisBackend.from_url(stage.url) as backend:
        backend.set_many(BATCH)
        with redis.Redis(host=HOST, port=stage.first.port) as client:
            before = {one["id"] for one in client.client_list()}
            wait = fork_and_check(lambda: all(backend.get(key) == BATCH[key] for key in list(BATCH)[:100]))
            assert all(backend.get(key) == BATCH[key] for key in list(BATCH)[:100])
            wait()
            # The parent's connections are those that it had.
            assert before <= {one["id"] for one in client.client_list()}
