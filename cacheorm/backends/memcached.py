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
    * *Durability and eviction*: none; a full server drops entries that were not used for long, without a word.
    * *Limits*: keys of 250 bytes without spaces and control characters (others are an
      :exc:`~cacheorm.errors.InvalidKeyError` before anything is sent), values of 1 MB unless the server was
      started with another ``-I`` (larger ones are refused one by one, and an older value under such a key is gone).
    * *Lifetimes* are kept to the second: an entry may end up to one second early. None ends after 19 January 2038.
    * Only reads are ever repeated, once, on a connection from the pool that broke before anything was answered.

    It connects with the first operation. Threads share the connections; a forked child makes its own, and so does each
    event loop that awaits methods with an ``a``.

    With several servers, each key has one of them, by libmemcached's ketama ring: what a ``pylibmc.Client`` with that
    behavior wrote is found here and the other way round, if both name the servers alike. A server that does not answer
    is left alone for ``retry_after`` seconds; then one caller tries it for all, for a tenth of ``timeout`` (for 0.25 s
    at least, if ``timeout`` is so long). Its keys are misses, and writes to it are errors, row by row, while all others
    are stored; see ``on_server_failure``.

    Args:
        servers: each as ``(host, port)``, ``(host, port, weight)``, ``"host:port"``, ``"host:port:weight"`` or the path
            of a Unix socket. A server with weight 2 gets twice as many keys as one with weight 1.
        client: a ``pylibmc.Client`` to use in place of connections of our own, through its public interface;
            whoever made it closes it. Its protocol does not tell lifetimes: :meth:`ttl` and ``KEEP_TTL`` are
            errors, and a counter that goes down takes the lifetime that is given.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        timeout: seconds without any progress after which an operation gives up, and seconds that one waits for
            a free connection.
        connect_timeout: seconds to wait for a new connection.
        max_connections: how many connections there are at most, to each server.
        distribution: which of pylibmc's behaviors decides where keys are: ``"ketama"`` or ``"ketama_weighted"``.
        on_server_failure: with several servers, what becomes of the keys of one that does not answer. ``"miss"``:
            reads miss them. ``"raise"``: reads are errors, too. ``"eject"``: they go to the other servers meanwhile,
            as with libmemcached's ``auto_eject``; what the server had is back when it is, however old.
        retry_after: seconds for which a server that did not answer is left alone.

    Raises:
        ValueError: an address that is none, a server that is given twice, or a setting that does not exist.
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
        """Return for each of ``keys`` its value and the number that memcached gave this version of the entry."""
        return super().get_many_cas(*keys)

    def clear(self) -> None:
        """Drop every entry (``flush_all``), other programs' entries included."""
        super().clear()

    def stats(self) -> dict[str, Any]:
        """Return ``entries``, ``hits``, ``misses``, ``evictions``, ``memory_bytes`` of the servers that answer, in sum.

        ``entries`` counts those that expired and were not cleaned away yet, too.
        """
        return super().stats()

    def servers_of(self, *keys: str) -> list[str]:
        """Return the name of the server that each of ``keys`` is on, in their order, without asking any.

        With ``on_server_failure="eject"``, these are servers that are not left alone at the moment.

        Raises:
            NotImplementedError: a client that was passed in decides.
        """
        if self.client is not None:
            raise NotImplementedError("the client that was passed in decides which server has a key")
        wire.check_memcached_keys(keys)
        names = [describe(address) for address, _ in self._servers]
        if self._rings is None:
            return names * len(keys)
        return [names[place] for place in self._rings.current().owners(keys)]

    def breakers(self) -> list[BreakerState]:
        """Return for each of several servers whether it is left alone because it did not answer."""
        if self._rings is None:
            return []
        return [
            BreakerState(describe(address), health.reason, health.failures)
            for (address, _), health in zip(self._servers, self._rings.health, strict=True)
        ]

    def retry_failed_servers(self) -> None:
        """Have the next operation try the servers that are left alone, without waiting for ``retry_after``."""
        for health in [] if self._rings is None else self._rings.health:
            health.expire()

    def close(self) -> None:
        """Close the idle connections that block; a client that was passed in stays open."""
        super().close()
