"""The backend on a Redis server, version 6 or later, through redis-py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .._speedups import wire
from ..errors import BackendError
from ..types import TTL, KeepTTL, Outcome, Value
from . import _redis_swap
from .base import BaseBackend, later_part, next_count, split_swaps

if TYPE_CHECKING:
    from ._redis_client import ClientTransport
    from ._redis_pool import PoolTransport

__all__ = ["RedisBackend"]

_CHUNK = 1000

# Up to so many keys make one request, with nothing to be had before the whole reply.
_SMALL_READ = 250


class RedisBackend(BaseBackend):
    """Stores rows in Redis (https://redis.io/docs/latest/commands/).

    * *Atomicity*: each entry by itself; ``add``, ``replace``, ``incr`` and ``decr`` are atomic on the server.
      A batch is no transaction.
    * *Durability and eviction*: the server's (``appendonly``, ``save``, ``maxmemory-policy``). With
      ``noeviction`` a full server refuses writes, and the error says so.
    * *Limits*: keys and values up to 512 MB.
    * *Lifetimes* are kept to the millisecond.
    * Only reads are ever repeated, once, on a connection that broke before the first byte of the reply.

    The driver is imported here and connects with the first operation; a forked child gets connections of its
    own.

    Args:
        host: the server's name or address.
        port: its TCP port.
        password: sent with ``AUTH``; never shown.
        db: number of the database.
        client: a ``redis.Redis`` to use in place of one made from the other arguments; whoever made it closes
            it.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        kwargs: passed on to ``redis.Redis``: ``unix_socket_path``, ``ssl``, ``username``,
            ``max_connections``, ``socket_timeout`` and ``socket_connect_timeout`` (seconds, 5 each unless
            given), ``retry`` (of connecting; two quick ones unless given) ...

    Raises:
        ImportError: redis-py is not installed.
        ValueError: ``client`` is a ``RedisCluster``, a ``Sentinel`` or an asyncio client: not supported.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        password: str | None = None,
        db: int = 0,
        client: Any = None,
        default_ttl: int = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(default_ttl)
        if client is None:
            client = _driver().Redis(host=host, port=port, password=password, db=db, **_options(kwargs))
            self._owned = True
        else:
            if kwargs:
                raise TypeError(f"a client takes no further options, got {', '.join(sorted(kwargs))}")
            _check_client(client)
            self._owned = False
        self.client = client
        self._server = _describe(client)
        self._transport = _choose_transport(client, self._server)

    @classmethod
    def from_url(cls, url: str, default_ttl: int = 600, **kwargs: Any) -> Self:
        """Make a backend from ``redis://``, ``rediss://`` (TLS) or ``unix://``.

        Args:
            url: ``redis://[[user]:[password]@]host[:port][/db][?option=value...]`` or
                ``unix://[[user]:[password]@]/path[?db=0...]``; special characters percent-encoded.
            default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
            kwargs: as for the class.

        Raises:
            ValueError: not such a URL. The message leaves the URL out: it may hold a password.
        """
        try:
            client = _driver().Redis.from_url(url, **_options(kwargs))
        except ValueError:
            raise ValueError(
                "not a Redis URL: expected redis://, rediss:// or unix://, a numeric port, and special characters"
                " of user and password percent-encoded"
            ) from None
        backend = cls(client=client, default_ttl=default_ttl)
        backend._owned = True
        return backend

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server}>"

    # -- one entry -------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        reply: bytes | None = self._run(key, ("GET", key))
        return reply

    def has(self, key: str) -> bool:
        return bool(self._run(key, ("EXISTS", key)))

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._set(key, value, self._seconds(ttl), b"")

    def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return self._set(key, value, self._seconds_or_keep(ttl), b"XX")

    def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return self._set(key, value, self._seconds(ttl), b"NX")

    def delete(self, key: str) -> bool:
        return bool(self._run(key, ("DEL", key), write=True))

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        next_count(key, None, delta)  # a step beyond the range would leave a counter of 0 behind
        seconds = self._seconds(ttl)
        create = ("SET", key, 0, "EX", seconds, "NX") if seconds else ("SET", key, 0, "NX")
        count: int = self._run(key, create, ("INCRBY", key, delta), write=True, transaction=True)
        return count

    def touch(self, key: str, ttl: TTL = None) -> bool:
        seconds = self._seconds(ttl)
        if seconds:
            return bool(self._run(key, ("EXPIRE", key, seconds), write=True))
        # PERSIST answers 0 for an entry that never expires, as for one that is not there.
        return bool(self._run(key, ("PERSIST", key), ("EXISTS", key), write=True))

    def ttl(self, key: str) -> int | None:
        milliseconds: int = self._run(key, ("PTTL", key))
        if milliseconds < 0:
            return 0 if milliseconds == -1 else None
        return max(1, -(-milliseconds // 1000))

    # -- batches ---------------------------------------------------------------------------------

    def get_many(self, *keys: str) -> list[bytes | None]:
        """Return the values of ``keys`` in their order, ``None`` for each that does not exist.

        One ``MGET`` for each few hundred keys. Redis answers ``MGET`` of an entry that is no string (a list, a
        hash) as if it did not exist; ``get`` of such an entry is a :exc:`~cacheorm.errors.BackendError`.
        """
        wire.check_keys(keys)
        values: list[bytes | None] = []
        for chunk in self._transport.read_chunks(keys):
            values += chunk
        return values

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        if len(keys) <= _SMALL_READ:
            yield self.get_many(*keys)
        else:
            wire.check_keys(keys)
            yield from self._transport.read_chunks(keys)

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write(mapping, self._seconds(ttl), b"")

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return self._write(mapping, self._seconds_or_keep(ttl), b"XX")

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return self._write(mapping, self._seconds(ttl), b"NX")

    def delete_many(self, *keys: str) -> bool:
        wire.check_keys(keys)
        unique = list(dict.fromkeys(keys))
        existed = 0
        for start in range(0, len(unique), _CHUNK):
            part = unique[start : start + _CHUNK]
            with later_part(start > 0):
                existed += self._run(part[0], ("DEL", *part), write=True)
        return existed == len(unique)

    def compare_and_set_many(self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None) -> Outcome:
        """Store each entry only if its value is still the one that was read: a script compares and sets."""
        seconds = self._seconds_or_keep(ttl)
        keys = list(mapping)
        wire.check_keys(keys)
        values, tokens = split_swaps(mapping)
        new = wire.encode_values(keys, list(values.values()))
        old = wire.encode_values(keys, list(tokens.values()))
        outcome = Outcome()
        for part in _redis_swap.parts(old, new):
            with later_part(bool(outcome)):
                replies = self._swap(keys[part], old[part], new[part], seconds)
            for key, reply in zip(keys[part], replies, strict=True):
                outcome[key] = reply == 1
                if not isinstance(reply, int):
                    outcome.reasons[key] = reply.decode("utf-8", "replace")
        return outcome

    def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        seconds = self._seconds(ttl)
        wire.check_keys(keys)
        existed: dict[str, bool] = dict.fromkeys(keys, False)
        unique = list(existed)
        for start in range(0, len(unique), _CHUNK):
            part = unique[start : start + _CHUNK]
            if seconds:
                commands: list[tuple[Any, ...]] = [("EXPIRE", key, seconds) for key in part]
            else:
                # PERSIST answers 0 for an entry that never expires, as for one that is not there.
                commands = [("PERSIST", key) for key in part] + [("EXISTS", key) for key in part]
            with later_part(start > 0):
                replies = self._replies(None, commands, write=True)[-len(part) :]
            existed.update(zip(part, map(bool, replies), strict=True))
        return existed

    # -- the backend as a whole ------------------------------------------------------------------

    def check_key(self, key: str) -> None:
        wire.check_keys((key,))

    def clear(self) -> None:
        """Remove every entry of the database (``FLUSHDB``), other programs' entries included."""
        self._replies(None, [("FLUSHDB",)], write=True)

    def ping(self) -> bool:
        return self._replies(None, [("PING",)], write=False)[0] in (b"PONG", True)

    def stats(self) -> dict[str, Any]:
        """Return ``entries`` of this database, ``hits``, ``misses``, ``evictions``, ``memory_bytes`` of the server."""
        entries, info = self._replies(None, [("DBSIZE",), ("INFO",)], write=False)
        figures = info if isinstance(info, dict) else _parse_info(info)
        return {
            "entries": entries,
            "hits": int(figures["keyspace_hits"]),
            "misses": int(figures["keyspace_misses"]),
            "evictions": int(figures["evicted_keys"]),
            "memory_bytes": int(figures["used_memory"]),
        }

    def close(self) -> None:
        """Close the connections, unless the client was passed in: whoever made it closes it."""
        if self._owned:
            self.client.close()

    # -- how -------------------------------------------------------------------------------------

    def _seconds_or_keep(self, ttl: TTL | KeepTTL) -> int:
        return -1 if isinstance(ttl, KeepTTL) else self._seconds(ttl)

    def _run(self, key: str, *commands: tuple[Any, ...], write: bool = False, transaction: bool = False) -> Any:
        """Run commands about ``key`` and return the reply to the last one."""
        wire.check_keys((key,))
        return self._replies(key, commands, write, transaction)[-1]

    def _replies(
        self, key: str | None, commands: Sequence[tuple[Any, ...]], write: bool, transaction: bool = False
    ) -> list[Any]:
        replies = self._transport.run(commands, write=write, transaction=transaction)
        for reply in replies:
            if isinstance(reply, Exception):
                self._refuse(key, reply)
        return replies

    def _swap(self, keys: Sequence[str], old: Sequence[bytes], new: Sequence[bytes], seconds: int) -> list[Any]:
        (replies,) = self._transport.run([_redis_swap.by_digest(keys, old, new, seconds)], write=True)
        if isinstance(replies, _driver().exceptions.NoScriptError):
            (replies,) = self._replies(None, [_redis_swap.by_text(keys, old, new, seconds)], write=True)
        elif isinstance(replies, Exception):
            self._refuse(None, replies)
        return replies  # type: ignore[no-any-return]

    def _set(self, key: str, value: Value, seconds: int, condition: bytes) -> bool:
        wire.check_keys((key,))
        (encoded,) = wire.encode_values([key], [value])
        return self._run(key, ("SET", key, encoded, *set_options(seconds, condition)), write=True) is not None

    def _write(self, mapping: Mapping[str, Value], seconds: int, condition: bytes) -> Outcome:
        keys = list(mapping)
        wire.check_keys(keys)
        values = wire.encode_values(keys, list(mapping.values()))
        if not keys:
            return Outcome()
        replies = self._transport.write(keys, values, seconds, condition)
        if replies.count(b"OK") == len(keys):
            return Outcome(dict.fromkeys(keys, True))
        outcome = Outcome()
        for key, reply in zip(keys, replies, strict=True):
            outcome[key] = reply == b"OK"
            if isinstance(reply, Exception):
                outcome.reasons[key] = _reason(reply)
        return outcome

    def _refuse(self, key: str | None, error: Exception) -> NoReturn:
        subject = self._server if key is None else f"{self._server}, key {key}"
        raise BackendError(f"{subject}: {_reason(error)}") from error


def set_options(seconds: int, condition: bytes) -> tuple[bytes | str | int, ...]:
    """Give what follows key and value in a ``SET``: 0 seconds never expires, -1 keeps the entry's lifetime."""
    lifetime = ("EX", seconds) if seconds > 0 else ("KEEPTTL",) if seconds < 0 else ()
    return (*lifetime, condition) if condition else lifetime


def _driver() -> Any:
    try:
        import redis
    except ImportError as error:
        raise ImportError("RedisBackend needs redis-py: pip install cacheorm[redis]") from error
    return redis


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in what redis-py leaves to chance, or to patience.

    Before version 8 it waits for ever. From then on it tries ten times to connect, for ten seconds and more, and a
    wrong password as well; a cache that is not there should be known sooner than that.
    """
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    return {
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "retry": Retry(ExponentialBackoff(cap=0.1, base=0.01), 2),
    } | given


def _check_client(client: Any) -> None:
    for ancestor in type(client).__mro__:
        module, name = ancestor.__module__, ancestor.__name__
        if module.startswith("redis.cluster") or name == "RedisCluster":
            raise ValueError("RedisBackend does not support RedisCluster clients yet: pass a redis.Redis")
        if module.startswith("redis.asyncio"):
            raise ValueError("RedisBackend does not support asyncio clients: pass a redis.Redis")
        if name == "Sentinel":
            raise ValueError("RedisBackend takes a client, not a Sentinel: pass sentinel.master_for(...)")


def _describe(client: Any) -> str:
    """Name the server for messages, without credentials."""
    options = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"Redis at {where} db {options.get('db') or 0}"


def _choose_transport(client: Any, server: str) -> PoolTransport | ClientTransport:
    pool = getattr(client, "connection_pool", None)
    connection = getattr(pool, "connection_class", None)
    direct = (
        hasattr(pool, "get_connection")
        and hasattr(connection, "send_packed_command")
        and hasattr(connection, "read_response")
        # A client with a cache of its own has to see every command, or its cache goes stale.
        and getattr(pool, "cache", None) is None
    )
    if direct:
        from ._redis_pool import PoolTransport

        return PoolTransport(pool, server)
    from ._redis_client import ClientTransport

    return ClientTransport(client, server)


def _reason(error: Exception) -> str:
    """Give the server's words, without the arguments that it repeats after some of them."""
    return str(error).partition(", with args beginning with")[0]


def _parse_info(text: bytes) -> dict[str, str]:
    """Parse the reply to ``INFO``: lines of ``name:value``."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
