"""How a Redis Cluster is reached: what a client of redis-py, or a URL, says of its nodes. Nothing connects here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import redis

from .endpoint import Endpoint
from .reach import AwaitedReach, BlockingReach, Reach
from .slots import Address, Remap
from .topology import Topology, cluster_name
from .transport import Transport

if TYPE_CHECKING:
    from .._turns import Entrance

__all__ = ["ClusterWay"]

_PORT = 6379
_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
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
    def of_url(cls, url: str, options: Mapping[str, Any]) -> Self:
        """Read ``redis+cluster://[[user]:[password]@]host[:port][,host[:port]...][?option=value...]``.

        Args:
            url: an IPv6 address in brackets, special characters percent-encoded.
            options: of the connections, and ``address_remap``.

        Raises:
            ValueError: it is malformed. The message does not show it.
        """
        scheme, _, rest = url.partition("://")
        plain = _SCHEMES[scheme.lower()]
        place, mark, query = rest.partition("?")
        authority, slash, path = place.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        nodes = [_address(host, scheme.lower()) for host in hosts.split(",")]
        kept = {name: value for name, value in options.items() if name != "address_remap"}
        try:
            pool = redis.ConnectionPool.from_url(f"{plain}://{credentials}{at}node{slash}{path}{mark}{query}", **kept)
        except ValueError:
            raise ValueError(
                f"not a URL of a Redis Cluster: expected {scheme.lower()}://host:port,host:port, options as redis-py"
                " knows them, and special characters of user and password percent-encoded"
            ) from None
        if pool.connection_kwargs.get("db"):
            raise ValueError("a Redis Cluster has no databases but 0: leave the number out of the URL")
        return cls(nodes, Endpoint.of_pool(pool), options.get("address_remap"))


def _address(text: str, scheme: str) -> Address:
    match = re.fullmatch(r"(?:\[([^\[\]@/]+)\]|([^\[\]:@/]+))(?::([0-9]{1,5}))?", text)
    port = int(match[3] or _PORT) if match else 0
    if match is None or not 0 < port < 1 << 16:
        raise ValueError(
            f"{scheme}:// takes hosts with ports from 1 to 65535, separated by commas, and IPv6 addresses in brackets:"
            f" {scheme}://[::1]:7000,[::1]:7001"
        )
    return unquote(match[1] or match[2]), port
