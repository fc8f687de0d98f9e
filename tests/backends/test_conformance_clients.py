"""The suite for authors of backends, through clients of other libraries that a program passes in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pylibmc
import pytest
import redis
import redis.asyncio
import redis.cluster
from lifetimes import MemcachedConformance
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import BaseBackend, MemcachedBackend, RedisBackend
from cacheorm.testing import BackendConformance

if TYPE_CHECKING:
    from clusters import RedisCluster


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


@pytest.mark.no_cover
class TestRedisBackendOverAClientOfAsyncio(BackendConformance):
    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with RedisBackend(client=redis.asyncio.Redis(host=HOST, port=redis_server.port)) as backend:
            yield backend


@pytest.mark.no_cover
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


# From Python 3.13 on, making a client says on stderr what pylibmc used to ignore in silence.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in PyMapping_HasKeyString:pytest.PytestUnraisableExceptionWarning"
)
class TestMemcachedBackendOverPylibmc(MemcachedConformance):
    can_scan = False
    ways = ("called",)
    tells_lifetimes = False

    @pytest.fixture(params=["text", "binary"])
    def backend(self, request: pytest.FixtureRequest, memcached_server: MemcachedServer) -> Iterator[BaseBackend]:
        client = pylibmc.Client([f"{HOST}:{memcached_server.port}"], binary=request.param == "binary")
        with MemcachedBackend(client=client) as backend:
            yield backend
        client.disconnect_all()
