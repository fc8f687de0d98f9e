"""How connections to Redis begin: greetings that fail half way, what a user does with each, and what servers push."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import redis
import redis.asyncio
from delays import DelayingProxy
from loops import call
from servers import HOST, RedisServer

from cacheorm.backends.redis import RedisBackend
from cacheorm.testing._suite import in_threads

ROWS = {f"key:{i}": b"%d" % i for i in range(3)}
WAYS = ["called", "awaited"]


class StruckError(BaseException):
    """Strikes in the middle of a greeting."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [StruckError, RuntimeError, TimeoutError, OSError, redis.ConnectionError])
def test_a_connection_that_was_greeted_half_is_never_used(
    kind: type[BaseException], way: str, redis_backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_backend.set_many(ROWS)
    made = redis.Connection if way == "called" else redis.asyncio.Connection
    original = made._host_error
    struck = 0

    def strike(self: Any) -> Any:
        nonlocal struck
        struck += 1
        if struck == 1:
            raise kind("now")
        return original(self)

    port = redis_backend.client.connection_pool.connection_kwargs["port"]
    with DelayingProxy(port, 0.05) as proxy, RedisBackend(host=HOST, port=proxy.port, retry_after=0) as backend:
        monkeypatch.setattr(made, "_host_error", strike)

        async def read() -> list[Any]:
            found: list[Any] = []
            for key in ROWS:
                try:
                    found.append(await backend.aget(key) if way == "awaited" else backend.get(key))
                except BaseException as error:
                    if type(error) is not kind and not isinstance(error.__cause__, kind):
                        raise
            await backend.aclose()
            return found

        found = asyncio.run(read())
        assert struck
        assert found in (list(ROWS.values()), list(ROWS.values())[1:])


@pytest.mark.parametrize("way", WAYS)
def test_each_connection_is_greeted_by_the_users_function(way: str, redis_server: RedisServer) -> None:
    def greet(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("SELECT", 5)
        connection.read_response()

    pool = redis.ConnectionPool(host=HOST, port=redis_server.port, redis_connect_func=greet)
    with redis.Redis(connection_pool=pool) as client, RedisBackend(client=client) as backend:
        assert call(way, backend, "set", "k", b"v")
        with redis.Redis(host=HOST, port=redis_server.port, db=5) as fifth:
            assert fifth.get("k") == b"v"


@pytest.mark.parametrize("way", WAYS)
def test_each_connection_is_of_the_users_class(way: str, redis_server: RedisServer) -> None:
    made: list[Any] = []

    class Mine(redis.Connection):
        def _connect(self) -> Any:
            made.append(super()._connect())
            return made[-1]

    pool = redis.ConnectionPool(connection_class=Mine, host=HOST, port=redis_server.port)
    with redis.Redis(connection_pool=pool) as client, RedisBackend(client=client) as backend:
        assert call(way, backend, "set_many", ROWS) == dict.fromkeys(ROWS, True)
        assert len(made) == 1


WAYS_TO_SPEAK = ["send_command", "send_packed_command", "pack_command", "pack_commands", "read_response", "can_read"]


@pytest.mark.parametrize("name", WAYS_TO_SPEAK)
def test_a_connection_that_speaks_in_a_way_of_its_own_is_never_gone_past(name: str, redis_server: RedisServer) -> None:
    class Mine(redis.Connection):
        pass

    def own(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(redis.Connection, name)(self, *args, **kwargs)

    setattr(Mine, name, own)
    pool = redis.ConnectionPool(connection_class=Mine, host=HOST, port=redis_server.port)
    with redis.Redis(connection_pool=pool) as client, RedisBackend(client=client) as backend:
        assert backend.set("k", b"v")
        assert backend.pools() == [], "the client keeps its connections"
        with pytest.raises(TypeError, match="cannot be awaited"):
            call("awaited", backend, "get", "k")


@pytest.mark.parametrize("way", WAYS)
def test_what_a_server_pushes_at_any_time_is_nobodys_reply(way: str, redis_backend: RedisBackend) -> None:
    def greet(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST")
        connection.read_response()

    port = redis_backend.client.connection_pool.connection_kwargs["port"]
    pool = redis.ConnectionPool(host=HOST, port=port, protocol=3, redis_connect_func=greet)
    rows = {f"key:{i}": b"%d" % i for i in range(1200)}
    with redis.Redis(connection_pool=pool) as client, RedisBackend(client=client, retry_after=0) as backend:
        stopped = threading.Event()

        def write() -> None:  # each write is told to all that track
            while not stopped.wait(0.01):
                redis_backend.set("key:1", rows["key:1"])

        redis_backend.set_many(rows)
        thread = threading.Thread(target=write)
        thread.start()

        async def read() -> None:
            for number in range(30):
                key = f"key:{number}"
                if way == "awaited":
                    assert await backend.aget(key) == rows[key]
                    assert await backend.aget_many(*rows, "absent") == [*rows.values(), None]
                else:
                    assert backend.get(key) == rows[key]
                    assert backend.get_many(*rows, "absent") == [*rows.values(), None]
            await backend.aclose()

        try:
            asyncio.run(read())
        finally:
            stopped.set()
            thread.join()


@pytest.mark.parametrize("way", WAYS)
def test_closing_a_backend_costs_nobody_a_reply(way: str, redis_backend: RedisBackend) -> None:
    redis_backend.set_many(ROWS)
    keys = list(ROWS) * 300

    async def awaited() -> None:
        async def read() -> None:
            for _ in range(50):
                assert await redis_backend.aget_many(*keys) == [ROWS[key] for key in keys]

        readers = asyncio.gather(*[read() for _ in range(4)])
        while not readers.done():
            await redis_backend.aclose()
            await asyncio.sleep(0)
        await readers
        await redis_backend.aclose()

    if way == "awaited":
        asyncio.run(awaited())
        return
    left = [*range(3)]

    def work(number: int) -> None:
        if number == 3:
            while left:
                redis_backend.close()
            return
        try:
            for _ in range(50):
                assert redis_backend.get_many(*keys) == [ROWS[key] for key in keys]
                assert redis_backend.get("key:1") == b"1"
        finally:
            left.pop()

    in_threads(4, work)
