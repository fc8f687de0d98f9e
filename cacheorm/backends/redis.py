"""The backend on a Redis server, version 6 or later, through redis-py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from .._speedups import wire
from ._net.backend import NetworkBackend

if TYPE_CHECKING:
    from ._net.commands import Commands
    from ._net.transport import IO

__all__ = ["RedisBackend"]

# Seconds to wait for a server, unless given.
_TIMEOUT = 5.0

# As many as memcached's: enough for a program with many threads, few enough for a server with many programs.
_MAX_CONNECTIONS = 64


class RedisBackend(NetworkBackend):
    """Stores rows in Redis (https://redis.io/docs/latest/commands/).

    * *Atomicity*: each entry by itself; ``add``, ``replace``, ``incr`` and ``decr`` are atomic on the server.
      A batch is no transaction.
    * *Durability and eviction*: as the server is configured (``appendonly``, ``save``, ``maxmemory-policy``). With
      ``noeviction`` a full server refuses writes, and the error says so.
    * *Limits*: keys and values up to 512 MB. For an entry that is no string (a list, a hash) ``get`` raises an error,
      and a batch read returns ``None``, as ``MGET`` does.
    * *Lifetimes* are kept to the millisecond.
    * Only reads are ever repeated, once, on a connection that broke before the first byte of the reply. For clusters
      there is more: see :mod:`._redis.cluster`.

    The driver is imported when a backend is made, and connects with the first operation. Threads share connections, and
    each event loop has its own; a forked child makes new ones. There are at most ``max_connections`` of each kind.
    While all are in use, an operation waits up to ``socket_timeout`` seconds for one.

    Args:
        host: the server's name or address.
        port: its TCP port.
        password: sent with ``AUTH``; never shown.
        db: number of the database.
        client: a ``redis.Redis`` to use instead of one made from the other arguments; the caller has to close it. Of a
            ``redis.asyncio.Redis`` only the options are used, as its connections belong to one event loop. The same
            holds for results of ``Sentinel.master_for`` of either kind. Of a ``RedisCluster`` of either kind, the nodes
            and options are used.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        operation_timeout: seconds that one operation may take in all: waiting for a connection, connecting, each
            attempt, each part of a batch. That of ``socket_timeout`` unless given.
        retry_after: seconds, with some jitter, for which a server is not asked that could not be connected to or did
        not
            reply in time; then one caller tries it for all. 0 always asks.
        on_failure: ``"raise"``, or ``"miss"``: as if the cache were empty and forgot at once. Reads miss, writes of
        rows
            do not raise, updates find no row, deletes find nothing. Keys whose write or delete was not confirmed are
            misses until they have been deleted. What exists for agreement (``add``, ``incr``, compare-and-set) still
            raises.
        on_failure_keys: how many such keys are remembered at most.
        reply_limit: bytes. A longer value is refused as soon as the server says how long it is, and so is a list of
            replies that holds more; the connection is closed then.
        kwargs: passed on to ``redis.Redis``: ``unix_socket_path``, ``ssl``, ``username``,
            ``max_connections`` (64 unless given), ``socket_timeout`` and ``socket_connect_timeout`` (seconds, 5
            each unless given), ``retry`` (of connecting; two quick ones unless given) ...

    Raises:
        ImportError: redis-py is not installed.
        ValueError: ``client`` is a ``Sentinel`` itself.
    """

    _option = "socket_timeout"

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        password: str | None = None,
        db: int = 0,
        client: Any = None,
        default_ttl: int = 600,
        operation_timeout: float | None = None,
        retry_after: float = 5.0,
        on_failure: str = "raise",
        on_failure_keys: int = 100_000,
        reply_limit: int = wire.REPLY_LIMIT,
        **kwargs: Any,
    ) -> None:
        super().__init__(default_ttl)
        driver = _driver()
        if client is None:
            client = _Owned(driver.Redis(host=host, port=port, password=password, db=db, **_options(kwargs)))
        elif kwargs:
            raise TypeError(f"a client takes no further options, got {', '.join(sorted(kwargs))}")
        from ._redis.clients import client_of

        owned = isinstance(client, _Owned)
        self.client = client.client if owned else client
        self._servers = client_of(self.client, owned, operation_timeout)
        if self._servers is client:
            self.client = None
        timeout = operation_timeout or self._servers.operation_timeout
        self._open(self._servers.server, timeout, retry_after, on_failure, on_failure_keys, reply_limit)

    def _make_commands(self, io: IO, awaited: bool) -> Commands:
        from ._redis.commands import RedisCommands

        topology = self._servers.topology(io, self._breakers, awaited)
        return RedisCommands(topology, self._seconds, self.operation_timeout)

    @classmethod
    def from_url(cls, url: str, default_ttl: int | None = None, **kwargs: Any) -> Self:
        """Return a new backend for the URL of a server, of a service under sentinels, or of a cluster.

        Args:
            url: ``redis://[[user]:[password]@]host[:port][/db][?option=value...]`` (``rediss`` with TLS),
                ``unix://[[user]:[password]@]/path[?db=0...]``,
                ``redis+sentinel://[[user]:[password]@]host[:port],.../service[/db][?option=value...]`` or
                ``redis+cluster://[[user]:[password]@]host[:port][,host[:port]...][?option=value...]``
                (``rediss+sentinel`` and ``rediss+cluster`` with TLS to all of them, ``ssl_ca_certs`` and the like as
                options); special characters percent-encoded. Sentinels that ask for a password take
                ``sentinel_username`` and ``sentinel_password`` as options.
            default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`; 600 unless this or the URL says otherwise.
            kwargs: as for the class; for a cluster also ``address_remap``, as ``redis.RedisCluster`` takes it. They
                take precedence over the URL's, except those that are ``None``.

        Raises:
            ValueError: not such a URL, or one that may mean something else than it says. The message does not show
                the URL, since it may contain a password.
        """
        driver = _driver()
        from ._redis.urls import read_url

        read = read_url(url, {**kwargs, "default_ttl": default_ttl})
        options = _options(read.options)
        client: Any
        if read.topology == "sentinel":
            from ._redis.sentinels import client_from_url

            client = client_from_url(read, options)
        elif read.topology == "cluster":
            from ._redis.clients import ClusterClient

            client = ClusterClient.of_url(read, options, read.settings.get("operation_timeout"))
        else:
            # With a URL that says nothing, redis-py makes the pool of the options, and closes it with the client.
            options = {"connection_class": read.connection_class, **options, **read.place()}
            client = _Owned(driver.Redis.from_url("redis://", **options))
        backend = cls(client=client, **read.settings)
        # It pickles as the URL, not as a client.
        backend._made_with = cls.from_url, (url,), {**kwargs, "default_ttl": default_ttl}
        return backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._servers.server}>"

    def check_key(self, key: str) -> None:
        wire.check_keys((key,))


class _Owned(NamedTuple):
    """A client that the backend itself made, and closes."""

    client: Any


def _driver() -> Any:
    try:
        import redis
    except ImportError as error:
        raise ImportError("RedisBackend needs redis-py: pip install cacheorm[redis]") from error
    return redis


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return options for redis-py with our defaults for timeouts, connections and retries filled in.

    Before version 8, redis-py waits without end. Later versions try ten times to connect, even with a wrong password,
    which takes ten seconds and more. For a cache that is too long.
    """
    from ._redis.endpoint import quick_retry

    return {
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        "max_connections": _MAX_CONNECTIONS,
        "retry": quick_retry(),
    } | given
