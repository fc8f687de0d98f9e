"""A Redis server as redis-py connects to it: redis-py connects, greets and logs in, then its connection is adopted.

Only here are private names of redis-py touched. What a user has put into a client (a class of connections, a connect
function, a provider of credentials) is used for both kinds of I/O, or refused.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn, Self, TypeVar

import redis
import redis.asyncio.connection
import redis.connection
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..._speedups import wire
from ...errors import BackendError
from .._net.threads import quiet
from .._net.transport import Effect, UnreachableError
from .exchanges import Unit

__all__ = ["RedisEndpoint", "keeps_its_connections", "option_names", "quick_retry"]

E = TypeVar("E", bound="RedisEndpoint")

_KINDS = ("SSLConnection", "UnixDomainSocketConnection", "Connection")

# Objects that belong to one kind of connection, or to one pool. The parser is redis-py's choice anyway.
_NOT_SHARED = {"parser_class", "retry", "event_dispatcher", "himport_registry", "maint_notifications_pool_handler"}

# How often a server is greeted that has sent more by then, such as a push: redis-py may have read a part of it.
_GREETINGS = 20

# What redis-py's connections are asked for; one that does it in its own way has to be asked itself.
_WAYS = (
    "send_command",
    "send_packed_command",
    "pack_command",
    "pack_commands",
    "read_response",
    "can_read",
    "can_read_destructive",
)


class RedisEndpoint:
    """A server, and how connections to it are made: an :class:`~.._net.transport.Endpoint`.

    Args:
        blocking: the class of connections for threads; ``None`` if there is none.
        awaited: that for event loops; ``None`` if there is none.
        options: keyword arguments of both.
        max_connections: how many there are at most.
        operation_timeout: seconds that an operation may take; that of ``socket_timeout`` if not given.
    """

    option = "socket_timeout"

    def __init__(
        self,
        blocking: type | None,
        awaited: type | None,
        options: Mapping[str, Any],
        max_connections: int,
        operation_timeout: float | None = None,
    ) -> None:
        self._kinds = blocking, awaited
        self.options = options
        self.max_connections = max_connections
        self.connect_timeout: float | None = options.get("socket_connect_timeout")
        # A check would tell that an idle connection has gone; a new one is as good.
        self.idle_limit: float | None = options.get("health_check_interval")
        self._given_timeout = operation_timeout
        self.operation_timeout = operation_timeout or options.get("socket_timeout")
        where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self.server = f"Redis at {where} db {options.get('db') or 0}"

    @classmethod
    def of_pool(cls, pool: Any, operation_timeout: float | None = None) -> Self:
        """Return that of a connection pool of redis-py, of either kind."""
        kinds = _kinds_of(pool.connection_class)
        return cls(*kinds, dict(pool.connection_kwargs), pool.max_connections, operation_timeout)

    def at(self, host: str, port: int) -> Self:
        """Return that of another server that is connected to in the same way."""
        return self.with_options(host=host, port=port)

    def with_options(self, **options: Any) -> Self:
        """Return that of the same server, connected to with other options."""
        return type(self)(*self._kinds, {**self.options, **options}, self.max_connections, self._given_timeout)

    def with_only(self, options: Mapping[str, Any]) -> Self:
        """Return that of the same server, connected to with these options only."""
        return type(self)(*self._kinds, options, self.max_connections, self._given_timeout)

    def as_kind(self, kind: type[E]) -> E:
        """Return the same as another kind of endpoint."""
        return kind(*self._kinds, self.options, self.max_connections, self._given_timeout)

    # -- what the network core asks for ----------------------------------------------------------

    def make_reader(self, reply_limit: int) -> wire.RespReader:
        return wire.RespReader(reply_limit)

    def greeting(self, probes: bool) -> Unit | None:
        return Unit([("PING",)], Effect.READ) if probes else None

    def connect(self, timeout: float | None) -> Any:
        made = self._kinds[0]
        greet = self.options.get("redis_connect_func")
        if made is None or inspect.iscoroutinefunction(greet):
            self._lack("cannot block", "redis.Redis")
        from redis.retry import Retry

        connection = made(**self._options(made, Retry, timeout))
        try:
            for _ in range(_GREETINGS):
                connection.connect()
                if not connection.can_read(timeout=0):
                    break
                connection.disconnect()
            else:
                raise UnreachableError(f"{self.server}: it sent more than was asked for")
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, (RedisError, OSError)):
                self._fail(error)
            raise
        # From here on the socket is not the connection's, which would close it in the end.
        opened, connection._sock = connection._sock, None
        return opened

    async def aconnect(self, transport: Any, timeout: float | None) -> None:
        made = self._kinds[1]
        greet = self.options.get("redis_connect_func")
        if made is None or (greet is not None and not inspect.iscoroutinefunction(greet)):
            await self._connect_blocking(transport, timeout)
            return
        from redis.asyncio.retry import Retry

        from .._net.apart import wait_in_task

        def close(_: object = None) -> None:
            writer, connection._writer, connection._reader = connection._writer, None, None
            if writer is not None:
                writer.transport.abort()

        connection = made(**self._options(made, Retry, timeout))
        try:
            for _ in range(_GREETINGS):
                # Without a time limit: its own ones tell more.
                await wait_in_task(connection.connect(), lambda _: None, close, None)
                try:
                    if not await connection.can_read():
                        break
                    await connection.disconnect(nowait=True)
                except BaseException:
                    close()
                    raise
            else:
                raise UnreachableError(f"{self.server}: it sent more than was asked for")
        except (RedisError, OSError) as error:
            self._fail(error)
        writer, connection._writer, connection._reader = connection._writer, None, None
        transport.take_over(writer.transport, writer)

    async def _connect_blocking(self, transport: Any, timeout: float | None) -> None:
        """Connect as threads do, where redis-py's connections of asyncio cannot do what the user has asked for."""
        if self._kinds[0] is None:
            self._lack("cannot be awaited", "redis.asyncio.Redis")
        from .._net.apart import wait_in_thread

        opened = await wait_in_thread(lambda: quiet(self.connect(timeout)))
        if hasattr(opened, "pending"):
            opened.close()
            raise TypeError(
                f"{self.server}: a connection class or connect function of your own cannot be awaited with TLS;"
                " pass a redis.asyncio.Redis with an asynchronous one"
            )
        opened.setblocking(False)
        made, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=opened)
        transport.take_over(made)

    # -- how -------------------------------------------------------------------------------------

    def _options(self, made: type, retrying: type, timeout: float | None) -> dict[str, Any]:
        known = option_names(made)
        options = {
            name: value
            for name, value in self.options.items()
            if name in known and (name not in _NOT_SHARED or isinstance(value, type))
        }
        if timeout is not None:
            for name in ("socket_timeout", "socket_connect_timeout"):
                options[name] = min(options.get(name) or timeout, timeout)
        retry = self.options.get("retry")
        # The policy is the same, the class may be another. After a timeout, nobody waits for another try.
        backoff, retries = getattr(retry, "_backoff", None), getattr(retry, "_retries", None)
        if backoff is not None and retries is not None:
            options["retry"] = retrying(backoff, retries, (RedisConnectionError,))
        return options

    def _fail(self, error: Exception) -> NoReturn:
        """Raise the error for a connection that could not be made."""
        if isinstance(error, BackendError):
            raise error
        # A server that refuses the password, or any step of the greeting, is there.
        refused = isinstance(error, (AuthenticationError, ResponseError))
        timed_out = isinstance(error, (RedisTimeoutError, TimeoutError))
        kind = BackendError if refused else UnreachableError
        raise kind(f"{self.server}: {error}") from (TimeoutError(str(error)) if timed_out else error)

    def _lack(self, what: str, other: str) -> NoReturn:
        raise TypeError(
            f"{self.server}: this client's connection class or connect function {what};"
            f" give the backend a URL, or a client of the other kind: {other}"
        )


def quick_retry() -> Any:
    """Return how often to try to connect: a cache that is not there should be known sooner than redis-py gives up."""
    from redis.retry import Retry

    return Retry(ExponentialBackoff(cap=0.1, base=0.01), 2)


@cache
def option_names(made: type) -> frozenset[str]:
    """Return the names of the arguments that a class of connections and its ancestors take."""
    names: set[str] = set()
    for ancestor in made.__mro__:
        names.update(inspect.signature(ancestor.__init__).parameters)  # type: ignore[misc]
    return frozenset(names)


def keeps_its_connections(made: Any) -> bool:
    """Return whether connections of a class send and read in a way of their own, so that nobody may read past them."""
    if not isinstance(made, type):
        return True
    known = next(
        (
            base
            for base in (redis.connection.AbstractConnection, redis.asyncio.connection.AbstractConnection)
            if issubclass(made, base)
        ),
        None,
    )
    return known is None or any(getattr(made, name, None) is not getattr(known, name, None) for name in _WAYS)


def _kinds_of(made: type) -> tuple[type | None, type | None]:
    """Return the classes of connections for threads and for event loops, given one of them.

    A class of the user's own has no counterpart.
    """
    if made.__module__.partition(".")[0] == "redis":
        name = next(ancestor.__name__ for ancestor in made.__mro__ if ancestor.__name__ in _KINDS)
        return getattr(redis.connection, name), getattr(redis.asyncio.connection, name)
    return (None, made) if issubclass(made, redis.asyncio.connection.AbstractConnection) else (made, None)
