"""The topologies of Redis, given a client that somebody made: one server, a service, a cluster, or just that client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, Self

import redis

from .._net.breaker import Breakers
from .._net.transport import IO
from .endpoint import RedisEndpoint, keeps_its_connections
from .nodes import Nodes, cluster_name
from .sentinels import Sentinels
from .slots import Address, Remap
from .urls import RedisURL

if TYPE_CHECKING:
    from .topology import Topology

__all__ = ["ClusterClient", "RedisClient", "client_of"]


class RedisClient(Protocol):
    """A topology for which both kinds of I/O can be had.

    Attributes:
        server: its name for messages, without credentials.
        operation_timeout: seconds that an operation may take; ``None`` without a bound.
    """

    server: str
    operation_timeout: float | None

    def topology(self, io: IO, breakers: Breakers, awaited: bool) -> Topology:
        """Return the topology over connections of a kind of I/O.

        Raises:
            TypeError: the client has none of this kind.
        """


def client_of(client: Any, owned: bool, operation_timeout: float | None) -> RedisClient:
    """Return the topology of a client.

    Args:
        client: of redis-py, or a topology already.
        owned: whether the backend has made it.
        operation_timeout: seconds that an operation may take; that of the client's connections if not given.

    Raises:
        ValueError: a client that nothing can be done with.
    """
    if isinstance(client, ClusterClient):
        return client
    for ancestor in type(client).__mro__:
        name = ancestor.__name__
        if name == "RedisCluster":
            return ClusterClient.of_client(client, operation_timeout)
        if name == "Sentinel":
            raise ValueError("RedisBackend takes a client, not a Sentinel: pass sentinel.master_for(...)")
    pool = getattr(client, "connection_pool", None)
    if hasattr(pool, "sentinel_manager"):
        return _Service(Sentinels.of_pool(pool, operation_timeout))
    # A client with a cache of its own has to see every command, or its cache goes out of date.
    if keeps_its_connections(getattr(pool, "connection_class", None)) or getattr(pool, "cache", None) is not None:
        return _OtherClient(client, owned)
    return _OneServer(RedisEndpoint.of_pool(pool, operation_timeout))


class _OneServer:
    """A single server, over connections such as the client would make."""

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self._endpoint = endpoint
        self.server = endpoint.server
        self.operation_timeout = endpoint.operation_timeout

    def topology(self, io: IO, breakers: Breakers, awaited: bool) -> Topology:
        from .single import SingleServer

        return SingleServer(self._endpoint, io, breakers)


class _Service:
    """Whichever server sentinels name, over connections such as the client would make."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._sentinels = sentinels
        self.server = sentinels.server
        self.operation_timeout = sentinels.endpoint.operation_timeout

    def topology(self, io: IO, breakers: Breakers, awaited: bool) -> Topology:
        from .primary import Primary

        return Primary(self._sentinels, io, breakers)


class _OtherClient:
    """A client whose connections nobody else may use, through its public interface."""

    operation_timeout: float | None = None

    def __init__(self, client: Any, owned: bool) -> None:
        self._client = client
        self._close = client.close if owned else None
        self._is_awaited = any(ancestor.__module__.startswith("redis.asyncio") for ancestor in type(client).__mro__)
        pool = getattr(client, "connection_pool", None)
        self.server = RedisEndpoint(None, None, getattr(pool, "connection_kwargs", {}), 1).server

    def topology(self, io: IO, breakers: Breakers, awaited: bool) -> Topology:
        from .client import ClientTopology

        if awaited != self._is_awaited:
            raise TypeError(
                f"a {type(self._client).__name__} that keeps its connections to itself"
                f" {'cannot be awaited' if awaited else 'can only be awaited'}:"
                " give the backend a URL, or a redis.Redis without a cache"
            )
        return ClientTopology(self._client, self.server, self._close)


# They belong to the client: its READONLY, around the function that its user gave, and its cache.
_NOT_OURS = {"redis_connect_func", "cache", "cache_config"}


class ClusterClient:
    """A cluster, over connections such as the client would make.

    Args:
        nodes: where to ask first for the others.
        endpoint: how each is connected to.
        remap: maps the address that a node says to have to where it is reached.
    """

    def __init__(self, nodes: Sequence[Address], endpoint: RedisEndpoint, remap: Remap | None = None) -> None:
        self.server = cluster_name(nodes)
        self.operation_timeout = endpoint.operation_timeout
        self._nodes = nodes
        self._endpoint = endpoint
        self._remap = remap

    def topology(self, io: IO, breakers: Breakers, awaited: bool) -> Topology:
        from .cluster import Cluster

        return Cluster(Nodes(self._nodes, self._endpoint, io, breakers, self._remap), breakers.missed)

    @classmethod
    def of_client(cls, client: Any, operation_timeout: float | None) -> Self:
        """Return that of a ``RedisCluster``, of either kind. Its own connections stay its own."""
        manager = client.nodes_manager
        nodes = [*manager.startup_nodes.values(), *manager.nodes_cache.values()]
        if hasattr(client, "get_redis_connection"):
            pool = client.get_redis_connection(nodes[-1]).connection_pool
        else:
            options = dict(client.connection_kwargs)
            pool = SimpleNamespace(
                connection_class=options.pop("connection_class", None) or redis.asyncio.Connection,
                max_connections=options.pop("max_connections", None) or 1 << 31,
                connection_kwargs=options,
            )
        endpoint = RedisEndpoint.of_pool(pool, operation_timeout)
        greeting = getattr(client, "user_on_connect_func", None)
        options = {name: value for name, value in endpoint.options.items() if name not in _NOT_OURS}
        if greeting is not None:
            options["redis_connect_func"] = _greeting_after_ours(greeting)
        addresses = list(dict.fromkeys((str(node.host), int(node.port)) for node in nodes))
        return cls(addresses, endpoint.with_only(options), getattr(manager, "address_remap", None))

    @classmethod
    def of_url(cls, url: RedisURL, options: Mapping[str, Any], operation_timeout: float | None) -> Self:
        """Return that of a URL, with the options of the connections, and ``address_remap``."""
        kept = dict(options)
        remap = kept.pop("address_remap", None)
        pool = redis.ConnectionPool(**{"connection_class": url.connection_class, **kept})
        return cls(url.addresses, RedisEndpoint.of_pool(pool, operation_timeout), remap)


def _greeting_after_ours(theirs: Any) -> Any:
    """Return a connect function that greets as redis-py does, and then calls that of the user."""

    def greet(connection: Any) -> None:
        connection.on_connect()
        theirs(connection)

    return greet
