"""The backend on a memcached server, version 1.6 or later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from .._speedups import wire
from ..errors import BackendError
from ..types import KEEP_TTL, TTL, KeepTTL, Outcome, Value
from ._memcached_meta import READ_CHUNK, MetaEngine
from ._memcached_pool import Address, Pool
from .base import BaseBackend, next_count, split_swaps

__all__ = ["MemcachedBackend"]

DEFAULT_PORT = 11211


class _Engine(Protocol):
    """A way to one memcached. Keys were checked, values are bytes, lifetimes are whole seconds, 0 for ever."""

    server: str

    def get(self, key: str) -> bytes | None: ...
    def has(self, key: str) -> bool: ...
    def touch(self, key: str, seconds: int) -> bool: ...
    def ttl(self, key: str) -> int | None: ...
    def count(self, key: str, delta: int, seconds: int) -> int: ...
    def read_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]: ...
    def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes
    ) -> list[bool | str]: ...
    def delete(self, keys: Sequence[str]) -> int: ...
    def touch_many(self, keys: Sequence[str], seconds: int) -> list[bool | str]: ...
    def read_cas(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]: ...
    def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL
    ) -> list[bool | str]: ...
    def clear(self) -> None: ...
    def ping(self) -> bool: ...
    def stats(self) -> dict[bytes, bytes]: ...
    def close(self) -> None: ...


class MemcachedBackend(BaseBackend):
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

    It connects with the first operation. Threads share the connections; a forked child makes its own.

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
        self.client = client
        self._engine: _Engine
        if client is not None:
            from ._memcached_pylibmc import PylibmcEngine

            self._engine = PylibmcEngine(client)
        else:
            address = _one_address(servers)
            self._engine = MetaEngine(Pool(address, timeout, connect_timeout, max_connections))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._engine.server}>"

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        self.check_key(key)
        return self._engine.get(key)

    def has(self, key: str) -> bool:
        self.check_key(key)
        return self._engine.has(key)

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._write_one(key, value, self._seconds(ttl), b"S")

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return self._write_one(key, value, self._seconds_or_keep(ttl), b"R")

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._write_one(key, value, self._seconds(ttl), b"E")

    def delete(self, key: str) -> bool:
        self.check_key(key)
        return self._engine.delete([key]) == 1

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        self.check_key(key)
        next_count(key, None, delta)
        return self._engine.count(key, delta, self._seconds(ttl))

    def touch(self, key: str, ttl: TTL = None) -> bool:
        self.check_key(key)
        return self._engine.touch(key, self._seconds(ttl))

    def ttl(self, key: str) -> int | None:
        self.check_key(key)
        return self._engine.ttl(key)

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        wire.check_memcached_keys(keys)
        values: list[bytes | None] = []
        for chunk in self._engine.read_chunks(keys):
            values += chunk
        return values

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        if len(keys) <= READ_CHUNK:
            yield self.get_many(*keys)
        else:
            wire.check_memcached_keys(keys)
            yield from self._engine.read_chunks(keys)

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write(mapping, self._seconds(ttl), b"S")

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return self._write(mapping, self._seconds_or_keep(ttl), b"R")

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write(mapping, self._seconds(ttl), b"E")

    def delete_many(self, *keys: str) -> bool:
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        return not unique or self._engine.delete(unique) == len(unique)

    def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        """Return for each of ``keys`` its value and the number that memcached gave this version of the entry."""
        wire.check_memcached_keys(keys)
        return [*self._engine.read_cas(keys)]

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        seconds = self._seconds_or_keep(ttl)
        keys = list(mapping)
        wire.check_memcached_keys(keys)
        values, tokens = split_swaps(mapping)
        encoded = wire.encode_values(keys, list(values.values()))
        for key, token in tokens.items():
            if type(token) is not int:
                raise TypeError(f"{key}: not a token of get_many_cas: expected int, got {type(token).__name__}")
        return _outcome(keys, self._engine.swap(keys, encoded, list(tokens.values()), seconds))

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        seconds = self._seconds(ttl)
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        existed = {}
        for key, status in zip(unique, self._engine.touch_many(unique, seconds), strict=True):
            if isinstance(status, str):
                raise BackendError(f"{self._engine.server}, key {key}: {status}")
            existed[key] = status
        return existed

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        wire.check_memcached_keys((key,))

    def clear(self) -> None:
        """Drop every entry (``flush_all``), other programs' entries included."""
        self._engine.clear()

    def ping(self) -> bool:
        return self._engine.ping()

    def stats(self) -> dict[str, Any]:
        """Return ``entries``, ``hits``, ``misses``, ``evictions``, ``memory_bytes`` of the server.

        ``entries`` counts those that expired and were not cleaned away yet, too.
        """
        figures = self._engine.stats()
        return {
            "entries": int(figures[b"curr_items"]),
            "hits": int(figures[b"get_hits"]),
            "misses": int(figures[b"get_misses"]),
            "evictions": int(figures[b"evictions"]),
            "memory_bytes": int(figures[b"bytes"]),
        }

    def close(self) -> None:
        """Close the idle connections; a client that was passed in stays open."""
        self._engine.close()

    # -- how -------------------------------------------------------------------------------------

    def _seconds_or_keep(self, ttl: TTL | KeepTTL) -> int | KeepTTL:
        return KEEP_TTL if isinstance(ttl, KeepTTL) else self._seconds(ttl)

    def _write_one(self, key: str, value: Value, seconds: int | KeepTTL, mode: bytes) -> bool:
        self.check_key(key)
        (status,) = self._engine.write([key], wire.encode_values([key], [value]), seconds, mode)
        if isinstance(status, str):
            raise BackendError(f"{self._engine.server}, key {key}: {status}")
        return status

    def _write(self, mapping: Mapping[str, Value], seconds: int | KeepTTL, mode: bytes) -> Outcome:
        keys = list(mapping)
        wire.check_memcached_keys(keys)
        values = wire.encode_values(keys, list(mapping.values()))
        if not keys:
            return Outcome()
        return _outcome(keys, self._engine.write(keys, values, seconds, mode))


def _outcome(keys: Sequence[str], statuses: Sequence[bool | str]) -> Outcome:
    if statuses.count(True) == len(keys):
        return Outcome(dict.fromkeys(keys, True))
    outcome = Outcome()
    for key, status in zip(keys, statuses, strict=True):
        outcome[key] = status is True
        if isinstance(status, str):
            outcome.reasons[key] = status
    return outcome


def _one_address(servers: Sequence[Address] | str) -> Address:
    given: Sequence[Any] = [servers] if isinstance(servers, str) else list(servers)
    if len(given) != 1:
        raise ValueError(f"MemcachedBackend takes one server, got {len(given)}: several servers are not supported yet")
    return _parse_address(given[0])


def _parse_address(server: Any) -> Address:
    """Read ``(host, port)``, ``"host:port"``, ``"host"``, ``"[ipv6]:port"`` or ``"/path"``."""
    if isinstance(server, (tuple, list)) and len(server) == 2:
        host, port = server
    elif isinstance(server, str):
        if server.startswith("/"):
            return server
        if server.startswith("["):
            host, _, rest = server[1:].partition("]")
            port = rest.removeprefix(":") or DEFAULT_PORT
        else:
            host, colon, port = server.rpartition(":")
            if not colon:
                host, port = server, DEFAULT_PORT
    else:
        raise ValueError(f"expected a server as (host, port), 'host:port' or the path of a Unix socket, got {server!r}")
    if not isinstance(host, str) or not host or not str(port).isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"expected a host and a port from 1 to 65535, got {server!r}")
    return host, int(port)
