"""The backend on one or several memcached servers, version 1.6 or later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .._speedups import wire
from ._memcached.addresses import DEFAULT_PORT, GivenServer, describe, read_servers
from ._memcached.commands import Engine, MemcachedCommands
from ._memcached.ketama import DISTRIBUTIONS
from ._memcached.rings import POLICIES, Rings
from ._net.backend import NetworkBackend

if TYPE_CHECKING:
    from ssl import SSLContext

    from ._memcached.access import Credentials
    from ._memcached.addresses import Server
    from ._net.transport import IO

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
    with that behavior wrote are found here, and the other way round, if both name the servers alike. A server that
    cannot be connected to or does not reply in time is left alone for ``retry_after`` seconds. After that, one caller
    tries it, for a tenth of ``operation_timeout`` (but for 0.25 s if that is at least as long). Until it replies,
    ``on_failure`` says how its keys are treated; the other servers serve theirs.

    Args:
        servers: each as ``(host, port)``, ``(host, port, weight)``, ``"host:port"``, ``"host:port:weight"`` or the path
            of a Unix socket. A server with weight 2 gets twice as many keys as one with weight 1.
        client: a ``pylibmc.Client`` to use instead of connections of our own, through its public interface; the caller
            has to close it. Its protocol does not report lifetimes: :meth:`ttl` and ``KEEP_TTL`` are errors, and
            :meth:`decr` sets the lifetime that it is called with. Servers, timeouts and access are the client's own.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        timeout: that of ``operation_timeout``, unless it is given.
        connect_timeout: seconds to wait for a new connection.
        max_connections: the most connections to each server, for threads and for each event loop.
        distribution: the behavior of pylibmc that assigns keys to servers: ``"ketama"`` or ``"ketama_weighted"``.
        on_server_failure: the former name of ``on_failure``.
        retry_after: seconds, with some jitter, for which a server that did not reply is not asked. 0 always asks.
        operation_timeout: seconds that one operation may take in all: waiting for a connection, connecting, each
            part of a batch.
        on_failure: how keys of a server that does not reply are treated. ``"raise"``, the default with one server:
            their reads are errors. Writes are errors row by row, and other servers store theirs. ``"miss"``, the
            default with several: as if they were not there and forgotten at once; see
            :class:`~cacheorm.backends.redis.RedisBackend`. ``"eject"``, with several servers only: they are on the
            other servers meanwhile, as with libmemcached's ``auto_eject``. When the server is back, so are its old
            entries.
        on_failure_keys: with ``"miss"``, how many keys are remembered at most whose write or delete was not confirmed.
        reply_limit: see :class:`~cacheorm.backends.redis.RedisBackend`.
        username: for servers that were started with ``-Y FILE``. Servers with ``-S`` (SASL) cannot be used: they speak
            the binary protocol only, which has no meta commands.
        password: that of the user; never shown.
        ssl: whether connections are encrypted with TLS, or an :class:`ssl.SSLContext` that says how.
        ssl_ca_certs: the file of the authorities that are trusted, those of the system if not given.
        ssl_certfile: the file of a certificate for servers that ask for one.
        ssl_keyfile: the file of its key, if that is another one.
        ssl_check_hostname: whether the certificate of a server has to be for its host; ``True`` unless given.

    Raises:
        ValueError: an invalid address, a server that is given twice, or a setting that does not exist.
        TypeError: options that contradict each other.
    """

    _policies = POLICIES

    def __init__(
        self,
        servers: Sequence[GivenServer] | str = (("localhost", DEFAULT_PORT),),
        client: Any = None,
        default_ttl: int = 600,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        max_connections: int = 64,
        distribution: str = "ketama",
        on_server_failure: str | None = None,
        retry_after: float = 5.0,
        operation_timeout: float | None = None,
        on_failure: str | None = None,
        on_failure_keys: int = 100_000,
        *,
        reply_limit: int = wire.REPLY_LIMIT,
        username: str | None = None,
        password: str | None = None,
        ssl: bool | SSLContext = False,
        ssl_ca_certs: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_check_hostname: bool | None = None,
    ) -> None:
        super().__init__(default_ttl)
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, got {max_connections}")
        if distribution not in DISTRIBUTIONS:
            raise ValueError(f"distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}")
        self.client = client
        self._servers = [] if client is not None else read_servers(servers)
        self._policy = _policy(on_failure, on_server_failure, len(self._servers) > 1)
        self._distribution = distribution
        self._access = _access(
            username, password, (ssl, ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_check_hostname), self._servers
        )
        self._limits = connect_timeout, max_connections
        timeout = timeout if operation_timeout is None else operation_timeout
        self._open(_name(self._servers, client), timeout, retry_after, self._policy, on_failure_keys, reply_limit)
        self._server_breakers = [self._breakers.of(describe(address)) for address, _ in self._servers]

    def _make_commands(self, io: IO, awaited: bool) -> MemcachedCommands:
        engine: Engine
        if self.client is not None:
            if awaited:
                raise NotImplementedError(
                    "a pylibmc.Client blocks, so nothing on it can be awaited: give servers= in place of client="
                )
            from ._memcached._pylibmc import PylibmcEngine

            engine = PylibmcEngine(self.client, self._server)
        else:
            from ._memcached.endpoint import MemcachedEndpoint
            from ._memcached.engine import MetaEngine
            from ._memcached.servers import Servers

            options = self.operation_timeout, *self._limits, *self._access
            endpoints = [MemcachedEndpoint(address, *options) for address, _ in self._servers]
            pools = [io.pool(*each) for each in zip(endpoints, self._server_breakers, strict=True)]
            engine = MetaEngine(Servers(self._server, io, pools, self._rings))
        return MemcachedCommands(engine, self.default_ttl, self.operation_timeout)

    @cached_property
    def _rings(self) -> Rings | None:
        """Return the ring of several servers."""
        if len(self._servers) == 1:
            return None
        missed = self._breakers.missed
        return Rings(self._servers, self._distribution, self._policy, self._server_breakers, missed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server}>"

    def check_key(self, key: str) -> None:
        wire.check_memcached_keys((key,))

    def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        """Return for each of ``keys`` its value and the version number of the entry in memcached."""
        return super().get_many_cas(*keys)

    def stats(self) -> dict[str, Any]:
        """Return the sums of ``entries``, ``hits``, ``misses``, ``evictions`` and ``memory_bytes`` of the servers.

        Servers that do not reply are left out. ``entries`` includes expired ones that were not removed yet.
        """
        return super().stats()

    def servers_of(self, *keys: str) -> list[str]:
        """Return the name of the server for each of ``keys``, in their order, without any request.

        With ``on_failure="eject"``, servers that are not used at the moment are left out.

        Raises:
            NotImplementedError: a client that was passed in assigns keys to servers.
        """
        if self.client is not None:
            raise NotImplementedError("the client that was passed in decides which server has a key")
        wire.check_memcached_keys(keys)
        names = [describe(address) for address, _ in self._servers]
        rings = self._rings
        return names * len(keys) if rings is None else [names[index] for index in rings.current().owners(keys)]

    def close(self) -> None:
        """Close the idle connections of the blocking methods; a client that was passed in stays open."""
        super().close()


def _policy(on_failure: str | None, former: str | None, several: bool) -> str:
    """Return what is done about servers that fail; ``former`` is ``on_failure`` under its former name."""
    if None not in (on_failure, former) and on_failure != former:
        raise TypeError("on_failure and on_server_failure are the same option: pass on_failure only")
    name = "on_server_failure" if on_failure is None else "on_failure"
    given = former if on_failure is None else on_failure
    if given is None:
        return "miss" if several else "raise"
    if given not in POLICIES:
        raise ValueError(f"{name} must be one of {', '.join(POLICIES)}, got {given!r}")
    if given == "eject" and not several:
        raise ValueError(f"{name} 'eject' takes several servers: with one, there is none for its keys to go to")
    return given


def _access(
    username: str | None, password: str | None, options: tuple[Any, ...], servers: Sequence[Server]
) -> tuple[Credentials | None, SSLContext | None]:
    """Return what servers ask for before they serve anybody: a user, and TLS with options of :func:`make_tls`."""
    if username is None and password is None and options == (False, None, None, None, None):
        return None, None
    if not servers:
        raise TypeError("a client takes no username, password and ssl: pylibmc connects by itself")
    from ._memcached.access import Credentials, make_tls

    credentials = None if username is None and password is None else Credentials(username, password)
    tls = make_tls(*options)
    if tls is not None and any(isinstance(address, str) for address, _ in servers):
        raise ValueError("memcached speaks TLS over TCP only, and one of the servers is the path of a Unix socket")
    return credentials, tls


def _name(servers: Sequence[Server], client: Any) -> str:
    """Return the name of servers, or of those of a client, for messages."""
    if client is not None:
        return f"memcached at {', '.join(map(str, getattr(client, 'addresses', ['?'])))} (pylibmc)"
    return f"memcached at {', '.join(describe(address).removeprefix('memcached at ') for address, _ in servers)}"
