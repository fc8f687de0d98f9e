"""The backend on one or several memcached servers, version 1.6 or later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._speedups import wire
from ..types import BreakerState
from ._memcached.addresses import DEFAULT_PORT, GivenServer, describe, read_servers
from ._memcached.blocking import BlockingPool
from ._memcached.commands import Engine, MemcachedCommands
from ._memcached.ketama import DISTRIBUTIONS
from ._memcached.meta import MetaEngine
from ._memcached.ring import RingEngine
from ._memcached.rings import POLICIES, Rings
from ._network import NetworkBackend

if TYPE_CHECKING:
    from ._turns import Entrance

__all__ = ["MemcachedBackend"]


class MemcachedBackend(NetworkBackend):
    """Stores rows in memcached, over its meta commands.

    https://github.com/memcached/memcached/blob/master/doc/protocol.txt

    * *Atomicity*: each entry by itself; ``add``, ``replace``, ``incr`` and ``decr`` are atomic. A batch is no
      transaction.
    * *Durability*: none. *Eviction*: a full server drops entries that were not used for long, without an error.
    * *Limits*: keys of 250 bytes without spaces and control characters (others are an
      :exc:`~cacheorm.errors.InvalidKeyError` before anything is sent), values of 1 MB unless the server was
      started with another ``-I`` (larger ones are refused one by one, and an older value under such a key is removed).
    * *Lifetimes* are kept to the second: an entry may expire up to one second early. None ends after 19 January 2038.
    * Only reads are ever repeated, once, on a connection from the pool that broke before anything was answered.

    It connects with the first operation. Threads share the connections; a forked child and each event loop make their
    own.

    With several servers, libmemcached's ketama ring assigns each key to one of them. Entries that a ``pylibmc.Client``
    with that behavior wrote are found here, and the other way round, if both name the servers alike. A server that does
    not reply is not used for ``retry_after`` seconds. After that, one caller tries it, for a tenth of ``timeout`` (but
    for 0.25 s if ``timeout`` is at least that long). Until it replies, its keys are misses, and writes to it are errors
    row by row, while all others are stored; see ``on_server_failure``.

    Args:
        servers: each as ``(host, port)``, ``(host, port, weight)``, ``"host:port"``, ``"host:port:weight"`` or the path
            of a Unix socket. A server with weight 2 gets twice as many keys as one with weight 1.
        client: a ``pylibmc.Client`` to use instead of connections of our own, through its public interface; the caller
            has to close it. Its protocol does not report lifetimes: :meth:`ttl` and ``KEEP_TTL`` are errors, and
            :meth:`decr` sets the lifetime that it is called with.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        timeout: seconds without any progress after which an operation fails, and seconds to wait for a free
            connection.
        connect_timeout: seconds to wait for a new connection.
        max_connections: the most connections to each server.
        distribution: the behavior of pylibmc that assigns keys to servers: ``"ketama"`` or ``"ketama_weighted"``.
        on_server_failure: with several servers, how keys of a server that does not reply are treated. ``"miss"``: reads
            miss them. ``"raise"``: reads are errors, too. ``"eject"``: they are on the other servers meanwhile, as with
            libmemcached's ``auto_eject``; when the server is back, so are its old entries.
        retry_after: seconds for which a server that did not reply is not used.

    Raises:
        ValueError: an invalid address, a server that is given twice, or a setting that does not exist.
    """

    def __init__(
        self,
        servers: Sequence[GivenServer] | str = (("localhost", DEFAULT_PORT),),
        client: Any = None,
        default_ttl: int = 600,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        max_connections: int = 64,
        distribution: str = "ketama",
        on_server_failure: str = "miss",
        retry_after: float = 5.0,
    ) -> None:
        super().__init__(default_ttl)
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, got {max_connections}")
        if distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}")
        if on_server_failure not in POLICIES:
            raise ValueError(f"on_server_failure must be one of {', '.join(POLICIES)}, got {on_server_failure!r}")
        self.client = client
        self._rings: Rings | None = None
        if client is not None:
            from ._memcached._pylibmc import PylibmcEngine

            self._engine: Engine = PylibmcEngine(client)
        else:
            self._servers = read_servers(servers)
            self._limits = timeout, connect_timeout, max_connections
            if len(self._servers) == 1:
                self._engine = MetaEngine(BlockingPool(self._servers[0].address, *self._limits))
            else:
                from ._memcached.together import BlockingRounds, LanePool

                self._rings = Rings(self._servers, distribution, on_server_failure, retry_after)
                pools = [LanePool(address, *self._limits) for address, _ in self._servers]
                self._engine = RingEngine(self._rings, pools, BlockingRounds, timeout)
        self._blocking = MemcachedCommands(self._engine, self.default_ttl)

    def _make_awaited(self, entrance: Entrance) -> MemcachedCommands:
        if self.client is not None:
            raise NotImplementedError(
                "a pylibmc.Client blocks, so nothing on it can be awaited: give servers= in place of client="
            )
        if self._rings is None:
            from ._memcached.awaited import AwaitedPool  # here, as it needs asyncio

            pool = AwaitedPool(self._servers[0].address, *self._limits, entrance)
            return MemcachedCommands(MetaEngine(pool), self.default_ttl)
        from ._memcached.awaited_lanes import AwaitedLanePool, AwaitedRounds

        pools = [AwaitedLanePool(address, *self._limits, entrance) for address, _ in self._servers]
        return MemcachedCommands(RingEngine(self._rings, pools, AwaitedRounds, self._limits[0]), self.default_ttl)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine.server}>"

    def check_key(self, key: str) -> None:
        wire.check_memcached_keys((key,))

    def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        """Return for each of ``keys`` its value and the version number of the entry in memcached."""
        return super().get_many_cas(*keys)

    def clear(self) -> None:
        """Remove all entries (``flush_all``), including those of other programs."""
        super().clear()

    def stats(self) -> dict[str, Any]:
        """Return the sums of ``entries``, ``hits``, ``misses``, ``evictions`` and ``memory_bytes`` of the servers.

        Servers that do not reply are left out. ``entries`` includes expired ones that were not removed yet.
        """
        return super().stats()

    def servers_of(self, *keys: str) -> list[str]:
        """Return the name of the server for each of ``keys``, in their order, without any request.

        With ``on_server_failure="eject"``, servers that are not used at the moment are left out.

        Raises:
            NotImplementedError: a client that was passed in assigns keys to servers.
        """
        if self.client is not None:
            raise NotImplementedError("the client that was passed in decides which server has a key")
        wire.check_memcached_keys(keys)
        names = [describe(address) for address, _ in self._servers]
        if self._rings is None:
            return names * len(keys)
        return [names[index] for index in self._rings.current().owners(keys)]

    def breakers(self) -> list[BreakerState]:
        """Return the state of the circuit breaker of each of several servers; an empty list for one server."""
        if self._rings is None:
            return []
        return [
            BreakerState(describe(address), health.reason, health.failures)
            for (address, _), health in zip(self._servers, self._rings.health, strict=True)
        ]

    def retry_failed_servers(self) -> None:
        """Let the next operation try the servers that are not used, without waiting for ``retry_after``."""
        for health in [] if self._rings is None else self._rings.health:
            health.expire()

    def close(self) -> None:
        """Close the idle connections of the blocking methods; a client that was passed in stays open."""
        super().close()
