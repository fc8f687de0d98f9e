"""The suite for authors of backends, with ``on_failure="miss"`` and servers that do not fail: nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lifetimes import MemcachedConformance
from servers import HOST, MemcachedServer, RedisServer

from cacheorm.backends import BaseBackend, FileSystemBackend, MemcachedBackend, RedisBackend
from cacheorm.testing import BackendConformance


@pytest.mark.no_cover
class TestRedisBackend(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Iterator[BaseBackend]:
        with RedisBackend(host=HOST, port=redis_server.port, on_failure="miss") as backend:
            yield backend
            assert backend.pending_invalidations() == (0, 0)


@pytest.mark.no_cover
class TestMemcachedBackend(MemcachedConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, memcached_server: MemcachedServer) -> Iterator[BaseBackend]:
        with MemcachedBackend([memcached_server.address], on_failure="miss") as backend:
            yield backend


class TestFileSystemBackend(BackendConformance):
    default_ttl = 600

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[BaseBackend]:
        with FileSystemBackend(tmp_path / "cache", on_failure="miss") as backend:
            yield backend
            assert backend.pending_invalidations() == (0, 0)
