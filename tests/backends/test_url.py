from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from faults import ScriptedServer

from cacheorm.backends import (
    FileSystemBackend,
    MemcachedBackend,
    RedisBackend,
    SimpleBackend,
    backend_from_url,
)
from cacheorm.errors import BackendError
from cacheorm.types import PoolState


def test_memory_is_the_simple_backend() -> None:
    backend = backend_from_url("memory://?default_ttl=60&threshold=1000")
    assert isinstance(backend, SimpleBackend)
    assert (backend.default_ttl, backend.threshold) == (60, 1000)
    assert backend_from_url("MEMORY:///", default_ttl=7).default_ttl == 7


def test_file_is_a_folder_with_its_name_percent_decoded(tmp_path: Path) -> None:
    backend = backend_from_url(f"file://{tmp_path}/my%20cache%23%3F%2525?busy_timeout=1.5&default_ttl=0")
    assert isinstance(backend, FileSystemBackend)
    assert backend.path == str(tmp_path / "my cache#?%25")
    assert backend.default_ttl == 0
    assert backend_from_url(f"file://localhost{tmp_path}").path == str(tmp_path)  # type: ignore[attr-defined]
    assert backend_from_url("file:///%ff").path == "/\udcff"  # type: ignore[attr-defined]


def test_memcached_takes_several_hosts_and_their_weights() -> None:
    backend = backend_from_url("memcached://h1:1,[::1]:2,h3?weights=1,2,3&on_server_failure=eject&retry_after=0.5")
    assert repr(backend) == "<MemcachedBackend memcached at h1:1, [::1]:2, h3:11211>"
    assert isinstance(backend, MemcachedBackend)
    same = MemcachedBackend([("h1", 1, 1), ("::1", 2, 2), ("h3", 11211, 3)])
    other = MemcachedBackend([("h1", 1), ("::1", 2), ("h3", 11211)])
    keys = [str(i) for i in range(1000)]
    assert backend.servers_of(*keys) == same.servers_of(*keys) != other.servers_of(*keys)


@pytest.mark.parametrize("url", ["file://relative", "file://", "file://relative/path", "file://%2Fabsolute"])
def test_a_relative_file_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ValueError, match="three slashes: file:///var/cache/app"):
        backend_from_url(url)


def test_a_path_on_windows_loses_the_slash_before_its_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        backends: list[Any] = [backend_from_url(url) for url in ("file:///C:/cache", "file:///cache")]
    assert [backend.path for backend in backends] == [os.path.abspath("C:/cache"), os.path.abspath("/cache")]


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_redis_takes_host_port_and_database(scheme: str) -> None:
    backend = backend_from_url(f"{scheme}://:pw@example.org:7000/3?socket_timeout=9&default_ttl=60")
    assert isinstance(backend, RedisBackend)
    assert backend.default_ttl == 60
    options = backend.client.connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("example.org", 7000, 3)
    assert (options["password"], options["socket_timeout"]) == ("pw", 9)
    assert "default_ttl" not in options


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster"])
def test_a_cluster_takes_several_nodes_and_connects_to_none(scheme: str) -> None:
    backend = backend_from_url(
        f"{scheme}://app:p%40ss@h1,[fe80::1]:7001,h%33:7002/?socket_timeout=9&default_ttl=60", max_connections=7
    )
    assert isinstance(backend, RedisBackend)
    assert backend.default_ttl == 60
    assert backend.client is None
    assert repr(backend) == "<RedisBackend Redis Cluster at h1:6379, [fe80::1]:7001, h3:7002>"


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster"])
def test_the_nodes_of_a_cluster_are_spoken_to_as_the_url_says(scheme: str) -> None:
    said: list[bytes] = []
    with ScriptedServer(lambda connection: said.append(connection.recv(1 << 16))) as server:
        url = f"{scheme}://app:p%40ss@127.0.0.1:{server.port}?socket_timeout=9"
        with backend_from_url(url, max_connections=7) as backend:
            with pytest.raises(BackendError, match="no node can be reached"):
                backend.get("k")
            (state,) = backend.pools()
            assert state == PoolState(f"Redis at 127.0.0.1:{server.port} db 0", 7, 0, 0, 0)
    if scheme == "redis+cluster":
        assert re.search(rb"AUTH\r\n\$3\r\napp\r\n\$4\r\np@ss\r\n", said[0])
    else:
        assert said[0].startswith(b"\x16\x03"), "it begins a TLS connection"


def test_redis_takes_a_unix_socket() -> None:
    backend = backend_from_url("unix:///run/redis.sock?db=2", default_ttl=5)
    assert isinstance(backend, RedisBackend)
    assert backend.default_ttl == 5
    assert backend.client.connection_pool.connection_kwargs["path"] == "/run/redis.sock"


@pytest.mark.parametrize(
    ("place", "server"),
    [
        ("cache.example.org", "cache.example.org:11211"),
        ("10.0.0.1:11300", "10.0.0.1:11300"),
        ("localhost:11300/", "localhost:11300"),
        ("[::1]", "::1.*11211"),
        ("[fe80::1%25eth0]:11300", "fe80::1.*11300"),
    ],
)
def test_memcached_takes_one_host(place: str, server: str) -> None:
    backend = backend_from_url(f"memcached://{place}?default_ttl=30&timeout=0.5&connect_timeout=1&max_connections=3")
    assert isinstance(backend, MemcachedBackend)
    assert backend.default_ttl == 30
    assert re.search(server, repr(backend))


def test_backends_from_urls_reach_their_servers(redis_server: Any, memcached_server: Any) -> None:
    host, port = memcached_server.address
    for url in (f"redis://127.0.0.1:{redis_server.port}/1", f"memcached://{host}:{port}"):
        with backend_from_url(url) as backend:
            backend.set("from-url", b"1")
            assert backend.get("from-url") == b"1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memcached://", "takes host:port"),
        ("memcached://:11211", "takes host:port"),
        ("memcached://::1", "takes host:port"),
        ("memcached://host:port", "takes host:port"),
        ("memcached://host:0", "port from 1 to 65535"),
        ("memcached://host:70000", "port from 1 to 65535"),
        ("memcached://host/path", "takes host:port"),
        ("memcached://user:hunter2@host", "takes user and password as options"),
        ("redis+cluster://", r"not a redis\+cluster:// URL: expected host or host:port"),
        ("redis+cluster://u:hunter2@h1:7000,h2:port", "a port from 1 to 65535"),
        ("redis+cluster://:hunter2@h1:70000", "a port from 1 to 65535"),
        ("redis+cluster://:hunter2@::1", "IPv6 addresses in brackets"),
        ("redis+cluster://:hunter2@h1/3", "no databases but 0"),
        ("rediss+cluster://:hunter2@h1?socket_timeout=soon", "socket_timeout .* must be a number of seconds"),
        ("redis+cluster://:hunter2@h?default_ttl=", r"default_ttl of the redis\+cluster:// URL must be a whole number"),
        ("memcached://h1:11211,", "takes host:port"),
        ("memcached://h1,h1", "memcached at h1:11211 is given twice"),
        ("memcached://h1,h2?weights=1", "as many weights as servers: 2, got 1"),
        ("memcached://h1,h2?weights=1,x", "weights of the memcached:// URL must be a list of whole numbers"),
        (
            "memcached://h1,h2?on_server_failure=pray",
            "on_server_failure of the memcached:// URL must be one of miss, raise, eject",
        ),
        (
            "memcached://h1,h2?distribution=modula",
            "distribution of the memcached:// URL must be one of ketama, ketama_weighted",
        ),
        ("memory://host", "takes no host"),
        ("memory://?treshold=5", r"unknown option 'treshold' of a memory:// URL \(did you mean 'threshold'\?\)"),
        ("memory://?default_ttl=soon", "default_ttl of the memory:// URL must be a whole number"),
        ("file:///x?busy_timeout=soon", "busy_timeout of the file:// URL must be a number"),
        ("memory://?threshold=1&threshold=2", "threshold of the memory:// URL is given twice"),
        ("redis://:hunter2@h?default_ttl=", "default_ttl of the redis:// URL must be a whole number"),
        ("redis://:hunter2@h:port", "not a redis:// URL"),
        ("file:///x#y", "%23"),
        ("file:///x%00y", "NUL"),
        (
            "rdis://:hunter2@host",
            r"unknown scheme 'rdis' of a backend URL \(did you mean 'redis'\?\); known are file://",
        ),
        (
            "mysql://root:hunter2@host",
            "unknown scheme 'mysql' of a backend URL; known are file://, memcached://, memory://",
        ),
        ("root:hunter2@host://", "not a backend URL: it has no scheme"),
        ("hunter2", "not a backend URL: it has no scheme"),
        ("redis:hunter2", "not a backend URL: it has no scheme"),
        ("", "not a backend URL: it has no scheme"),
    ],
)
def test_a_bad_url_is_explained_and_not_shown(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        backend_from_url(url)
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, BackendError)


def test_options_go_by_the_same_names_as_in_the_url() -> None:
    expected = "unknown option 'size' of a memory:// URL; known are default_ttl, max_bytes, threshold"
    with pytest.raises(ValueError, match=expected):
        backend_from_url("memory://", size=5)


def test_an_option_given_to_the_call_wins() -> None:
    assert backend_from_url("memory://?default_ttl=1", default_ttl=2).default_ttl == 2
    assert backend_from_url("redis://h?default_ttl=1", default_ttl=2).default_ttl == 2


def test_a_url_is_a_str() -> None:
    with pytest.raises(TypeError, match="got bytes"):
        backend_from_url(b"memory://")  # type: ignore[arg-type]
