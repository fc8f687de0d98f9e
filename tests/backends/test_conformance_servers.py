"""The suite for authors of backends, on servers of every topology."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from lifetimes import MemcachedConformance
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import BaseBackend, MemcachedBackend, RedisBackend
from cacheorm.testing import BackendConformance

if TYPE_CHECKING:
    from clusters import RedisCluster
    from sentinels import SentinelGroup


@pytest.mark.no_cover
class TestRedisBackend(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with RedisBackend(host=HOST, port=redis_server.port) as backend:
            yield backend


@pytest.mark.no_cover
class TestRedisBackendOnAServiceUnderSentinels(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, sentinel_group: SentinelGroup) -> Iterator[BaseBackend]:
        with RedisBackend.from_url(sentinel_group.url) as backend:
            yield backend


@pytest.mark.no_cover
class TestRedisBackendOnACluster(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, redis_cluster: RedisCluster) -> Iterator[BaseBackend]:
        with RedisBackend.from_url(redis_cluster.url) as backend:
            yield backend


@pytest.mark.no_cover
class TestMemcachedBackend(MemcachedConformance):
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
class TestMemcachedBackendOnThreeServers(MemcachedConformance):
    default_ttl = 600

    @pytest.fixture
    def clocks(self, three_memcacheds: list[MemcachedServer]) -> list[MemcachedServer]:
        return three_memcacheds

    @pytest.fixture
    def backend(self, three_memcacheds: list[MemcachedServer], weights: tuple[int, ...]) -> Iterator[BaseBackend]:
        servers = [(HOST, server.port, weight) for server, weight in zip(three_memcacheds, weights, strict=True)]
        with MemcachedBackend(servers) as backend:
            yield backend
