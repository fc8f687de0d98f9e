"""The backend on a memcached server, version 1.6 or later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._speedups import wire
from ._memcached.addresses import DEFAULT_PORT, Address, one_address
from ._memcached.blocking import BlockingPool
from ._memcached.commands import Engine, MemcachedCommands
from ._memcached.meta import MetaEngine
from ._network import NetworkBackend

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

    Args:
        servers: one server, as ``(host, port)``, ``"host:port"`` or the path of a Unix socket.
        client: a ``pylibmc.Client`` to use in place of connections of our own, through its public interface;
            whoever made it closes it. Its protocol does not tell lifetimes: :meth:`ttl` and ``KEEP_TTL`` are
            errors, and a counter that goes down takes the lifetime that is given.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        timeout: seconds without any progress after which an operation gives up, and seconds that one waits for
            a free connection.
        connect_timeout: seconds to wait for a new connection.
        max_connections: how many connections there are at most.

    Raises:
        ValueError: several servers, which are not supported yet, or an address that is none.
    """

    def __init__(
        self,
        servers: Sequence[Address] | str = (("localhost", DEFAULT_PORT),),
        client: Any = None,
        default_ttl: int = 600,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        max_connections: int = 64,
    ) -> None:
        super().__init__(default_ttl)
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, got {max_connections}")
        self.client = client
        if client is not None:
            from ._memcached._pylibmc import PylibmcEngine

            self._engine: Engine = PylibmcEngine(client)
        else:
            self._limits = one_address(servers), timeout, connect_timeout, max_connections
            self._engine = MetaEngine(BlockingPool(*self._limits))
        self._blocking = MemcachedCommands(self._engine, self.default_ttl)

    def _make_awaited(self) -> MemcachedCommands:
        if self.client is not None:
            raise NotImplementedError(
                "a pylibmc.Client blocks, so nothing on it can be awaited: give servers= in place of client="
            )
        from ._memcached.awaited import AwaitedPool  # here, as it needs asyncio

        return MemcachedCommands(MetaEngine(AwaitedPool(*self._limits)), self.default_ttl)

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
        """Return ``entries``, ``hits``, ``misses``, ``evictions``, ``memory_bytes`` of the server.

        ``entries`` counts those that expired and were not cleaned away yet, too.
        """
        return super().stats()

    def close(self) -> None:
        """Close the idle connections that block; a client that was passed in stays open."""
        super().close()
