"""The suite for authors of backends, on every way that we have to a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pylibmc
import pytest
import redis
import redis.asyncio
import redis.cluster
from clusters import wait_until
from observing import memcached_figure
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import BaseBackend, MemcachedBackend, RedisBackend
from cacheorm.testing import BackendConformance

if TYPE_CHECKING:
    from clusters import RedisCluster
    from sentinels import SentinelGroup


class TestRedisBackend(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with RedisBackend(host=HOST, port=redis_server.port) as backend:
            yield backend


class TestRedisBackendOverAClientThatDecodes(BackendConformance):
    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with redis.Redis(host=HOST, port=redis_server.port, decode_responses=True, protocol=2) as client:
            yield RedisBackend(client=client)


class TestRedisBackendOverThePublicInterface(BackendConformance):
    ways = ("called",)

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        class Wrapped:
            def __init__(self, client: redis.Redis) -> None:
                self.pipeline = client.pipeline

        with redis.Redis(host=HOST, port=redis_server.port) as client:
            yield RedisBackend(client=Wrapped(client))


class TestRedisBackendOverAClientOfAsyncio(BackendConformance):
    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with RedisBackend(client=redis.asyncio.Redis(host=HOST, port=redis_server.port)) as backend:
            yield backend


class TestRedisBackendOnAServiceUnderSentinels(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, sentinel_group: SentinelGroup) -> Iterator[BaseBackend]:
        with RedisBackend.from_url(sentinel_group.url) as backend:
            yield backend


class TestRedisBackendOnACluster(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, redis_cluster: RedisCluster) -> Iterator[BaseBackend]:
        with RedisBackend.from_url(redis_cluster.url) as backend:
            yield backend


class TestRedisBackendAwaitedOverAClientOfACluster(BackendConformance):
    ways = ("awaited",)  # called, it differs from a URL in nothing but where the nodes come from

    @pytest.fixture
    def backend(self, redis_cluster: RedisCluster) -> Iterator[BaseBackend]:
        host, port = redis_cluster.nodes[0].address
        with redis.cluster.RedisCluster(host=host, port=port) as client, RedisBackend(client=client) as backend:
            yield backend


class TestRedisBackendCalledOverAClientOfAsyncioOfACluster(BackendConformance):
    ways = ("called",)

    @pytest.fixture
    def backend(self, redis_cluster: RedisCluster) -> Iterator[BaseBackend]:
        host, port = redis_cluster.nodes[0].address
        with RedisBackend(client=redis.asyncio.RedisCluster(host=host, port=port)) as backend:
            yield backend


class OnMemcached(BackendConformance):
    @pytest.fixture
    def clocks(self, memcached_server: MemcachedServer) -> list[MemcachedServer]:
        return [memcached_server]

    @pytest.fixture(autouse=True)
    def watch(self, clocks: list[MemcachedServer]) -> None:
        self.watched = clocks

    def expire(self) -> None:
        """Wait until the clocks of all servers, which count whole seconds, have moved."""
        times = {server: memcached_figure(server, "time") for server in self.watched}
        for server, then in times.items():
            wait_until("time has passed", lambda server=server, then=then: memcached_figure(server, "time") > then)


class TestMemcachedBackend(OnMemcached):
    default_ttl = 600

    @pytest.fixture
    def backend(self, memcached_server: MemcachedServer) -> Iterator[BaseBackend]:
        with MemcachedBackend([memcached_server.address]) as backend:
            yield backend


@pytest.fixture(scope="module")
def three_memcacheds() -> Iterator[list[MemcachedServer]]:
    """Three servers, started at once."""
    servers = [MemcachedServer("-m", "64", "-t", "1") for _ in range(3)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        for server in servers:
            stack.callback(server.stop)
        list(pool.map(lambda server: server.start(), servers))
        yield servers


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3)], ids=["equal", "weights"], scope="class")
class TestMemcachedBackendOnThreeServers(OnMemcached):
    default_ttl = 600

    @pytest.fixture
    def clocks(self, three_memcacheds: list[MemcachedServer]) -> list[MemcachedServer]:
        return three_memcacheds

    @pytest.fixture
    def backend(self, three_memcacheds: list[MemcachedServer], weights: tuple[int, ...]) -> Iterator[BaseBackend]:
        servers = [(HOST, server.port, weight) for server, weight in zip(three_memcacheds, weights, strict=True)]
        with MemcachedBackend(servers) as backend:
            yield backend


# From Python 3.13 on, making a client says on stderr what pylibmc used to ignore in silence.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in PyMapping_HasKeyString:pytest.PytestUnraisableExceptionWarning"
)
class TestMemcachedBackendOverPylibmc(OnMemcached):
    ways = ("called",)
    tells_lifetimes = False

    @pytest.fixture(params=["text", "binary"])
    def backend(self, request: pytest.FixtureRequest, memcached_server: MemcachedServer) -> Iterator[BaseBackend]:
        client = pylibmc.Client([f"{HOST}:{memcached_server.port}"], binary=request.param == "binary")
        with MemcachedBackend(client=client) as backend:
            yield backend
        client.disconnect_all()
