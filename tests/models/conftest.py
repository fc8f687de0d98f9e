"""Models on every backend, against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import cacheorm as co
from tests.servers import MemcachedServer, RedisServer


@pytest.fixture(params=["simple", "file", "redis", "memcached"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[co.BaseBackend]:
    """Each backend in turn, empty."""
    made: co.BaseBackend
    if request.param == "simple":
        made = co.SimpleBackend()
    elif request.param == "file":
        made = co.FileSystemBackend(tmp_path / "cache")
    elif request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        made = co.RedisBackend(host="127.0.0.1", port=redis.port)
    else:
        memcached: MemcachedServer = request.getfixturevalue("memcached_server")
        made = co.MemcachedBackend(servers=[("127.0.0.1", memcached.port)])
    made.clear()
    yield made
    made.close()


@pytest.fixture
def memory() -> co.SimpleBackend:
    """An in-memory backend, for what does not depend on the backend."""
    return co.SimpleBackend()
