"""Where a Redis server is and how it is spoken to, for connections that block and for those of asyncio alike."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple, Self

import redis
from redis.backoff import ExponentialBackoff

__all__ = ["Endpoint", "option_names", "quick_retry"]

_KINDS = ("SSLConnection", "UnixDomainSocketConnection", "Connection")

# Objects that belong to one kind of connection, or to one pool. The parser is redis-py's choice anyway.
_NOT_SHARED = {"parser_class", "retry", "event_dispatcher", "himport_registry"}


class Endpoint(NamedTuple):
    """What redis-py needs to connect to a server.

    Attributes:
        kind: the name of the class of connections, in ``redis.connection`` and in ``redis.asyncio.connection``.
        options: its keyword arguments.
        max_connections: how many there are at most.
    """

    kind: str
    options: Mapping[str, Any]
    max_connections: int

    @classmethod
    def of_pool(cls, pool: Any) -> Self:
        """Take it from a connection pool of redis-py, of either kind."""
        names = [ancestor.__name__ for ancestor in pool.connection_class.__mro__]
        kind = next((known for known in _KINDS if known in names), "Connection")
        return cls(kind, dict(pool.connection_kwargs), pool.max_connections)

    def at(self, host: str, port: int) -> Self:
        """Give that of another server that is spoken to in the same way."""
        return self.with_options(host=host, port=port)

    def with_options(self, **options: Any) -> Self:
        """Give that of the same server, spoken to in another way."""
        return self._replace(options={**self.options, **options})

    @property
    def server(self) -> str:
        """The server's name for messages, without credentials."""
        where = self.options.get("path") or f"{self.options.get('host', 'localhost')}:{self.options.get('port', 6379)}"
        return f"Redis at {where} db {self.options.get('db') or 0}"

    @property
    def patience(self) -> float:
        """How many seconds to wait for a reply, or for a free connection."""
        return self.options.get("socket_timeout") or 5.0

    def pool(self) -> Any:
        """Make a pool of connections that block."""
        from redis.retry import Retry

        made = getattr(redis.connection, self.kind)
        options = self._shared_with(made, Retry)
        return redis.ConnectionPool(connection_class=made, max_connections=self.max_connections, **options)

    def awaited_connection(self) -> Any:
        """Make one connection of asyncio; it connects when it is told to."""
        import redis.asyncio.connection as awaited
        from redis.asyncio.retry import Retry

        made = getattr(awaited, self.kind)
        return made(**self._shared_with(made, Retry))

    def _shared_with(self, made: type, retrying: type) -> dict[str, Any]:
        known = option_names(made)
        options = {name: value for name, value in self.options.items() if name in known and name not in _NOT_SHARED}
        retry = self.options.get("retry")
        # The policy is the same, the class may be another.
        backoff, retries = getattr(retry, "_backoff", None), getattr(retry, "_retries", None)
        if backoff is not None and retries is not None:
            options["retry"] = retrying(backoff, retries)
        return options


def quick_retry() -> Any:
    """Give how often to try to connect: a cache that is not there should be known sooner than redis-py gives up."""
    from redis.retry import Retry

    return Retry(ExponentialBackoff(cap=0.1, base=0.01), 2)


@cache
def option_names(made: type) -> frozenset[str]:
    """Give the names of the arguments that a class of connections and its ancestors take."""
    names: set[str] = set()
    for ancestor in made.__mro__:
        names.update(inspect.signature(ancestor.__init__).parameters)  # type: ignore[misc]
    return frozenset(names)
