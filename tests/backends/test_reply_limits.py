"""Replies that are larger than a backend takes are refused as they are announced, and the connection is closed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults import ScriptedServer
from loops import call
from servers import HOST

import cacheorm as co
from cacheorm.errors import BackendError

LIMIT = 1000

# What a server says, and how long what it announces is.
REDIS = [
    pytest.param(b"$999999999999\r\n", "has 999999999999 bytes", id="value"),
    pytest.param(b"=1001\r\ntxt:", "has 1001 bytes", id="verbatim string"),
    pytest.param(b"!1001\r\nERR ", "has 1001 bytes", id="refusal"),
    pytest.param(b"$1001\r\n" + b"x" * 1001 + b"\r\n", "has 1001 bytes", id="value that has arrived"),
]
OTHERS = [
    pytest.param(b"*999999999\r\n", "has 63999999936 bytes", id="list"),
    pytest.param(b"%99999999\r\n", "has 12799999872 bytes", id="map"),
    pytest.param(b"*1\r\n" * 9, "nested more than 8 levels deep", id="deep lists"),
    pytest.param(b"|16\r\n", "has 2048 bytes", id="attribute"),
    pytest.param(b"+" + b"x" * 5000, "a line is longer than 4096 bytes", id="line without an end"),
]
MEMCACHED = [
    pytest.param(b"VA 999999999 kk\r\n", "has 999999999 bytes", id="value"),
    pytest.param(b"VA 1001 kk\r\n" + b"x" * 1001 + b"\r\n", "has 1001 bytes", id="value that has arrived"),
    pytest.param(b"x" * 5000, "a line is longer than 4096 bytes", id="line without an end"),
]


class Announcing(ScriptedServer):
    """Answers each request with ``reply``."""

    def __init__(self) -> None:
        self.reply = b""
        super().__init__(self._answer)

    def _answer(self, connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(self.reply)


@pytest.fixture
def server() -> Iterator[Announcing]:
    with Announcing() as server:
        yield server


@pytest.fixture
def redis(server: Announcing) -> Iterator[co.RedisBackend]:
    import redis as driver

    def greet(connection: Any) -> None:
        connection._parser.on_connect(connection)

    pool = driver.ConnectionPool(host=HOST, port=server.port, redis_connect_func=greet)
    with co.RedisBackend(client=driver.Redis(connection_pool=pool), reply_limit=LIMIT) as backend:
        yield backend


@pytest.fixture
def memcached(server: Announcing) -> Iterator[co.MemcachedBackend]:
    with co.MemcachedBackend([(HOST, server.port)], reply_limit=LIMIT) as backend:
        yield backend


def check_refused(ask: Callable[[], Any], backend: Any, reason: str) -> None:
    with pytest.raises(BackendError, match=reason) as caught:
        ask()
    if "bytes or more" in str(caught.value):
        assert f"the option reply_limit of the backend takes {LIMIT}" in str(caught.value)
    assert len(str(caught.value)) < 250
    assert backend.pools()[0].idle == backend.pools()[0].in_use == 0


@pytest.mark.parametrize(("reply", "reason"), REDIS + OTHERS)
@pytest.mark.parametrize("way", ["called", "awaited"])
def test_redis_replies(server: Announcing, redis: co.RedisBackend, way: str, reply: bytes, reason: str) -> None:
    server.reply = reply
    check_refused(lambda: call(way, redis, "get", "k"), redis, reason)


@pytest.mark.parametrize(("reply", "reason"), REDIS)
def test_redis_values_of_a_batch(server: Announcing, redis: co.RedisBackend, reply: bytes, reason: str) -> None:
    server.reply = b"*2\r\n$1\r\na\r\n" + reply
    check_refused(lambda: redis.get_many("k", "l"), redis, reason if reply[:1] in b"$!" else "expected a reply")


@pytest.mark.parametrize(("reply", "reason"), MEMCACHED)
@pytest.mark.parametrize("way", ["called", "awaited"])
@pytest.mark.parametrize("method", ["get", "get_many"])
def test_memcached_replies(
    server: Announcing, memcached: co.MemcachedBackend, way: str, method: str, reply: bytes, reason: str
) -> None:
    server.reply = reply
    check_refused(lambda: call(way, memcached, method, "k"), memcached, reason)


def test_memcached_figures_without_end(server: Announcing, memcached: co.MemcachedBackend) -> None:
    server.reply = b"".join([b"STAT x%d 1\r\n" % i for i in range(11_000)])
    with pytest.raises(BackendError, match="more than 10000 figures"):
        memcached.stats()


def test_the_limit_itself_is_taken(server: Announcing, redis: co.RedisBackend) -> None:
    server.reply = b"$1000\r\n" + b"x" * 1000 + b"\r\n"
    assert redis.get("k") == b"x" * 1000


@pytest.mark.parametrize("url", ["redis://h/0?reply_limit=1000", "memcached://h?reply_limit=1000"])
def test_it_is_an_option_of_urls(url: str) -> None:
    co.backend_from_url(url).close()
    with pytest.raises(ValueError, match="reply_limit"):
        co.backend_from_url(url.replace("1000", "0"))


@pytest.mark.parametrize("limit", [0, -1, "1"])
def test_wrong_limits(limit: Any) -> None:
    with pytest.raises(ValueError, match="reply_limit must be a whole number of bytes"):
        co.MemcachedBackend(reply_limit=limit)
    with pytest.raises(ValueError, match="reply_limit must be a whole number of bytes"):
        co.RedisBackend(reply_limit=limit)
