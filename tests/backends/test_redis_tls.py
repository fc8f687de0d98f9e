"""Redis over TLS: one server, a service under a sentinel, and a cluster, called and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.cluster
import redis.sentinel
from certificates import Certificates
from clusters import RedisCluster
from sentinels import SentinelServer
from servers import HOST, RedisServer, free_port

from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError

BATCH = {f"key:{i}": b"%d" % i * 50 for i in range(3000)}
SERVICE = "rows"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[tuple[RedisServer, int]]:
    """A server, and where it speaks TLS."""
    port = free_port()
    with RedisServer(*certificates.options(port)) as server:
        yield server, port


@pytest.fixture(scope="module")
def sentinel(
    certificates: Certificates, server: tuple[RedisServer, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Where a sentinel of that server speaks TLS."""
    port = free_port()
    options = certificates.options(port)
    lines = "".join(f"{name[2:]} {value}\n" for name, value in zip(options[::2], options[1::2], strict=True))
    with SentinelServer(tmp_path_factory.mktemp("sentinel"), SERVICE, server[1], lines):
        yield port


def check(backend: RedisBackend) -> None:
    """Write and read, over connections of both kinds."""
    with backend:
        assert all(backend.set_many(BATCH).values())
        assert backend.get_many(*BATCH, "absent") == [*BATCH.values(), None]
        assert backend.incr("count") == 1
        assert backend.delete("count")

        async def main() -> None:
            try:
                assert all((await backend.aset_many(BATCH)).values())
                many = [backend.aget_many(*BATCH, "absent") for _ in range(5)]
                assert await asyncio.gather(*many) == [[*BATCH.values(), None]] * 5
                assert await backend.aget("key:7") == BATCH["key:7"]
            finally:
                await backend.aclose()

        asyncio.run(main())


def test_a_server(server: tuple[RedisServer, int], certificates: Certificates) -> None:
    _, port = server
    check(RedisBackend.from_url(f"rediss://{HOST}:{port}/0?ssl_ca_certs={certificates.authority}"))
    check(RedisBackend(host=HOST, port=port, ssl=True, ssl_ca_certs=str(certificates.authority)))


def test_a_service_under_a_sentinel(sentinel: int, certificates: Certificates) -> None:
    check(RedisBackend.from_url(f"rediss+sentinel://{HOST}:{sentinel}/{SERVICE}?ssl_ca_certs={certificates.authority}"))
    trusted = {"ssl": True, "ssl_ca_certs": str(certificates.authority)}
    url = f"redis+sentinel://{HOST}:{sentinel}/{SERVICE}?ssl=true&ssl_ca_certs={certificates.authority}"
    check(RedisBackend.from_url(url, sentinel_kwargs=trusted))
    made = redis.sentinel.Sentinel([(HOST, sentinel)], sentinel_kwargs=trusted)
    check(RedisBackend(client=made.master_for(SERVICE, **trusted)))


def test_a_cluster(certificates: Certificates) -> None:
    with RedisCluster(replicas=False, certificates=certificates) as cluster:
        hosts = ",".join(f"{HOST}:{node.tls_port}" for node in cluster.nodes)
        check(RedisBackend.from_url(f"rediss+cluster://{hosts}?ssl_ca_certs={certificates.authority}"))
        first = cluster.nodes[0]
        trusted: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(certificates.authority)}
        with redis.cluster.RedisCluster(host=HOST, port=first.tls_port, **trusted) as client:
            check(RedisBackend(client=client))


def store(backend: RedisBackend, way: str) -> None:
    if way == "called":
        backend.set("secret", b"value")
    else:
        asyncio.run(backend.aset("secret", b"value"))


@pytest.mark.parametrize("way", ["called", "awaited"])
@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel", "rediss+cluster"])
def test_a_server_that_cannot_be_trusted_is_an_error_and_is_sent_nothing(
    scheme: str, way: str, server: tuple[RedisServer, int], sentinel: int
) -> None:
    port = sentinel if "sentinel" in scheme else server[1]
    path = f"/{SERVICE}" if "sentinel" in scheme else ""
    with redis.Redis(host=HOST, port=server[0].port) as client:
        client.delete("secret")
        with (
            RedisBackend.from_url(f"{scheme}://{HOST}:{port}{path}") as backend,
            pytest.raises(BackendError, match=r"(?i)certificate.verify.failed") as caught,
        ):
            store(backend, way)
        assert not caught.value.maybe_applied
        assert client.get("secret") is None


def test_a_url_may_say_that_there_is_no_tls() -> None:
    backend = RedisBackend.from_url(f"redis+sentinel://{HOST}:1/{SERVICE}?ssl=false", sentinel_kwargs={"ssl": False})
    assert backend.client.connection_pool.connection_class is redis.sentinel.SentinelManagedConnection


def test_a_function_that_blocks_cannot_greet_for_an_event_loop(
    certificates: Certificates, server: tuple[RedisServer, int]
) -> None:
    def greet(connection: Any) -> None:
        connection.on_connect()

    trusted = {"ssl_ca_certs": str(certificates.authority)}
    pool = redis.ConnectionPool(
        connection_class=redis.SSLConnection, host=HOST, port=server[1], redis_connect_func=greet, **trusted
    )
    with redis.Redis(connection_pool=pool) as client, RedisBackend(client=client) as backend:
        assert backend.set("k", b"v")
        with pytest.raises(TypeError, match="cannot be awaited with TLS"):
            asyncio.run(backend.aget("k"))
