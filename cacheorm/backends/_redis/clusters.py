"""How a Redis Cluster is reached: what a client of redis-py, or a URL, says of its nodes. Nothing connects here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import redis

from .endpoint import Endpoint
from .reach import AwaitedReach, BlockingReach, Reach
from .slots import Address, Remap
from .topology import Topology, cluster_name
from .transport import Transport
from .urls import RedisURL

if TYPE_CHECKING:
    from .._turns import Entrance

__all__ = ["ClusterWay"]

# They belong to the client: its READONLY, around the function that its user gave, and its cache.
_NOT_OURS = {"redis_connect_func", "cache", "cache_config"}


class ClusterWay:
    """A cluster, over connections of our own.

    Args:
        nodes: where to ask first for the others.
        endpoint: how each is spoken to.
        remap: where nodes are reached that say to be somewhere.
        greeting: is given each connection that blocks, once redis-py has greeted the server.
    """

    def __init__(
        self,
        nodes: Sequence[Address],
        endpoint: Endpoint,
        remap: Remap | None = None,
        greeting: Callable[[Any], object] | None = None,
    ) -> None:
        self.server = cluster_name(nodes)
        self._nodes = nodes
        self._endpoint = endpoint
        self._remap = remap
        self._greeting = greeting

    def blocking(self) -> Transport:
        greeting = self._greeting
        if greeting is None:
            return self._transport(BlockingReach(), self._endpoint)

        def greet(connection: Any) -> None:
            connection.on_connect()
            greeting(connection)

        return self._transport(BlockingReach(), self._endpoint.with_options(redis_connect_func=greet))

    def awaited(self, entrance: Entrance) -> Transport:
        if self._greeting is not None:
            raise TypeError(
                "a RedisCluster with a redis_connect_func, which is for connections that block, has no asyncio side:"
                " give the backend a URL, or a client of redis.asyncio"
            )
        return self._transport(AwaitedReach(entrance), self._endpoint)

    def _transport(self, reach: Reach, endpoint: Endpoint) -> Transport:
        from .cluster import Cluster

        return Cluster(Topology(self._nodes, endpoint, reach, self._remap))

    @classmethod
    def of_client(cls, client: Any) -> Self:
        """Take it from a ``RedisCluster``, of either kind. Its own connections stay its own."""
        manager = client.nodes_manager
        nodes = [*manager.startup_nodes.values(), *manager.nodes_cache.values()]
        if hasattr(client, "get_redis_connection"):
            pool = client.get_redis_connection(nodes[-1]).connection_pool
        else:
            options = dict(client.connection_kwargs)
            pool = SimpleNamespace(
                connection_class=options.pop("connection_class", None) or redis.Connection,
                max_connections=options.pop("max_connections", None) or 1 << 31,
                connection_kwargs=options,
            )
        endpoint = Endpoint.of_pool(pool)
        endpoint = endpoint._replace(
            options={name: value for name, value in endpoint.options.items() if name not in _NOT_OURS}
        )
        addresses = list(dict.fromkeys((str(node.host), int(node.port)) for node in nodes))
        # The client of asyncio takes none.
        greeting = getattr(client, "user_on_connect_func", None)
        return cls(addresses, endpoint, getattr(manager, "address_remap", None), greeting)

    @classmethod
    def of_url(cls, url: RedisURL, options: Mapping[str, Any]) -> Self:
        """Take it from a URL, with the options of the connections, and ``address_remap``."""
        kept = dict(options)
        remap = kept.pop("address_remap", None)
        pool = redis.ConnectionPool(**{"connection_class": url.connection_class, **kept})
        return cls(url.addresses, Endpoint.of_pool(pool), remap)
