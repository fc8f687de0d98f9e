"""The ways to Redis: what a client that somebody made asks for, over connections of both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .blocking import BlockingLinks
from .client import ClientTransport
from .clusters import ClusterWay
from .endpoint import Endpoint
from .reach import AwaitedReach, BlockingReach
from .sentinels import Sentinels
from .server import Server
from .transport import Transport
from .watched import Watched

if TYPE_CHECKING:
    from .._turns import Entrance

__all__ = ["Way", "find_way"]


class Way(Protocol):
    """A topology, and how it is reached.

    Attributes:
        server: its name for messages, without credentials.
    """

    server: str

    def blocking(self) -> Transport:
        """Make the transport for threads."""

    def awaited(self, entrance: Entrance) -> Transport:
        """Make the transport for the running event loop.

        Args:
            entrance: where operations wait while all its connections are in use.
        """


def find_way(client: Any, owned: bool) -> Way:
    """Find the way that a client goes.

    Args:
        client: of redis-py, or a way already.
        owned: whether it is ours to close.

    Raises:
        ValueError: a client that nothing can be done with.
    """
    if isinstance(client, ClusterWay):
        return client
    for ancestor in type(client).__mro__:
        name = ancestor.__name__
        if name == "RedisCluster":
            return ClusterWay.of_client(client)
        if name == "Sentinel":
            raise ValueError("RedisBackend takes a client, not a Sentinel: pass sentinel.master_for(...)")
    pool = getattr(client, "connection_pool", None)
    if hasattr(pool, "sentinel_manager"):
        return Service(Sentinels.of_pool(pool))
    made = getattr(pool, "connection_class", None)
    direct = (
        hasattr(pool, "get_connection")
        and hasattr(made, "send_packed_command")
        and hasattr(made, "read_response")
        # A client with a cache of its own has to see every command, or its cache goes stale.
        and getattr(pool, "cache", None) is None
    )
    return OneServer(client, pool, owned) if direct else AnyClient(client, owned)


class OneServer:
    """A single server, over the connections of a client's pool, or over such as it would make."""

    def __init__(self, client: Any, pool: Any, owned: bool) -> None:
        self._endpoint = Endpoint.of_pool(pool)
        self.server = self._endpoint.server
        self._pool = pool
        self._close = client.close if owned else None
        if any(ancestor.__module__.startswith("redis.asyncio") for ancestor in type(client).__mro__):
            # Its connections belong to an event loop; threads get some of their own.
            self._pool = self._endpoint.pool()
            self._close = self._pool.disconnect

    def blocking(self) -> Transport:
        return Server(BlockingLinks(self._pool, self.server, self._close))

    def awaited(self, entrance: Entrance) -> Transport:
        from .awaited import AwaitedLinks

        return Server(AwaitedLinks(self._endpoint, entrance))


class Service:
    """Whichever server sentinels name, over connections such as the client would make."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._sentinels = sentinels
        self.server = sentinels.server

    def blocking(self) -> Transport:
        return Watched(self._sentinels, BlockingReach())

    def awaited(self, entrance: Entrance) -> Transport:
        return Watched(self._sentinels, AwaitedReach(entrance))


class AnyClient:
    """A client whose connections nobody else may use, through its public interface."""

    def __init__(self, client: Any, owned: bool) -> None:
        self._client = client
        self._close = client.close if owned else None
        self.server = Endpoint(
            "Connection", getattr(getattr(client, "connection_pool", None), "connection_kwargs", {}), 1
        ).server

    def blocking(self) -> Transport:
        return ClientTransport(self._client, self.server, self._close)

    def awaited(self, entrance: Entrance) -> Transport:
        raise TypeError(
            f"a {type(self._client).__name__} that keeps its connections to itself has no asyncio side:"
            " give the backend a URL, or a redis.Redis without a cache"
        )
