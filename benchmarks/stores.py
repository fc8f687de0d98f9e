"""The servers and stores of the benchmarks, started with their first use and stopped together."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import cacheorm as co
from tests.servers import HOST, MemcachedServer, RedisServer

from .rows import Shape

__all__ = ["BACKENDS", "Stores"]

BACKENDS = ("Simple", "FileSystem", "Redis", "memcached")


def _of_tests(name: str) -> Any:
    """Import a shared module of the tests, which import each other by their bare names."""
    tests = str(Path(__file__).parents[1] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    return importlib.import_module(name)


class Stores(contextlib.ExitStack):
    """All stores, for cacheorm with its default settings and for hand-written code."""

    @cached_property
    def redis_server(self) -> RedisServer:
        """A redis-server of its own, without persistence."""
        return self.enter_context(RedisServer())

    @cached_property
    def redis_cluster_servers(self) -> Any:
        """A Redis Cluster of its own, of three primaries."""
        return self.enter_context(_of_tests("clusters").RedisCluster(replicas=False))

    @cached_property
    def sentinel_group(self) -> Any:
        """A primary, a replica and three sentinels."""
        return self.enter_context(_of_tests("sentinels").SentinelGroup())

    @cached_property
    def memcached_server(self) -> MemcachedServer:
        """A memcached of its own, of 64 MB."""
        return self.enter_context(MemcachedServer())

    @cached_property
    def three_memcacheds(self) -> list[MemcachedServer]:
        """Three memcacheds beside that one."""
        return [self.enter_context(MemcachedServer()) for _ in range(3)]

    @cached_property
    def folder(self) -> Path:
        """A folder that is removed at the end."""
        return Path(self.enter_context(tempfile.TemporaryDirectory(prefix="cacheorm-bench-")))

    # -- for cacheorm ----------------------------------------------------------------------------

    @cached_property
    def _backends(self) -> dict[str, co.BaseBackend]:
        return {}

    def backend(self, name: str) -> co.BaseBackend:
        """Return the backend of that name; the same one each time."""
        if name not in self._backends:
            made: co.BaseBackend
            if name == "Simple":
                made = co.SimpleBackend()
            elif name == "large Simple":
                # By default it holds 100 000 entries, and a million would evict one another.
                made = co.SimpleBackend(threshold=2_000_000)
            elif name == "FileSystem":
                made = co.FileSystemBackend(self.folder / "cacheorm")
            elif name == "Redis":
                made = co.RedisBackend(host=HOST, port=self.redis_server.port)
            elif name == "Redis Cluster":
                made = co.backend_from_url(self.redis_cluster_servers.url)
            elif name == "Sentinel":
                made = co.backend_from_url(self.sentinel_group.url)
            elif name == "three memcacheds":
                made = co.MemcachedBackend(servers=[(HOST, server.port) for server in self.three_memcacheds])
            else:
                made = co.MemcachedBackend(servers=[(HOST, self.memcached_server.port)])
            self._backends[name] = made
            self.callback(made.close)
        return self._backends[name]

    @contextlib.contextmanager
    def bound(
        self, shape: Shape, backend: str, serializer: Any = "msgpack", clear: bool = True
    ) -> Iterator[type[co.Model]]:
        """Yield the model of a shape, bound to an empty backend; with ``clear=False`` the backend is not emptied."""
        store = self.backend(backend)
        if clear:
            store.clear(everything=True)
        with co.bind([shape.model], backend=store, serializer=serializer):
            yield shape.model
        if clear:
            store.clear(everything=True)

    # -- for hand-written code: clients with the drivers' defaults ---------------------------------

    @cached_property
    def redis(self) -> Any:
        """A redis-py client of the same server and database."""
        import redis

        client = redis.Redis(host=HOST, port=self.redis_server.port)
        self.callback(client.close)
        return client

    @cached_property
    def redis_cluster(self) -> Any:
        """redis-py's client of the same cluster."""
        from redis.cluster import RedisCluster

        client = RedisCluster(host=HOST, port=self.redis_cluster_servers.nodes[0].port)
        self.callback(client.close)
        return client

    @cached_property
    def pymemcache(self) -> Any:
        """A pymemcache client of the same server."""
        client = importlib.import_module("pymemcache").Client((HOST, self.memcached_server.port))
        self.callback(client.close)
        return client

    @cached_property
    def pylibmc(self) -> Any:
        """A pylibmc client of the same server, or ``None`` where pylibmc is not installed."""
        try:
            pylibmc = importlib.import_module("pylibmc")
        except ImportError:
            return None
        # The binary protocol, its default, is deprecated but here the faster of the two.
        return pylibmc.Client([f"{HOST}:{self.memcached_server.port}"], binary=True)

    @cached_property
    def pylibmc_ring(self) -> Any:
        """A pylibmc client of the three servers, or ``None`` where pylibmc is not installed."""
        try:
            pylibmc = importlib.import_module("pylibmc")
        except ImportError:
            return None
        addresses = [f"{HOST}:{server.port}" for server in self.three_memcacheds]
        return pylibmc.Client(addresses, binary=True, behaviors={"ketama": True})

    @cached_property
    def diskcache(self) -> Any:
        """A diskcache beside the file of cacheorm."""
        store = importlib.import_module("diskcache").Cache(str(self.folder / "diskcache"))
        self.callback(store.close)
        return store
