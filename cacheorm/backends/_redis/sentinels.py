"""Redis Sentinel: where sentinels are, which service they watch, and how they say who its primary is.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from .endpoint import RedisEndpoint, quick_retry
from .urls import RedisURL

__all__ = ["Address", "Sentinels", "client_from_url"]

Address = tuple[str, int]


class Sentinels(NamedTuple):
    """A service, the sentinels that watch it, and how its servers are spoken to.

    Attributes:
        service: its name.
        places: where the sentinels are.
        endpoint: of its servers; at no address yet.
        watcher: of the sentinels; likewise.
        others: how many further sentinels one has to know, to be believed.
        host: of the primary, whatever they say; ``None`` believes them.
    """

    service: str
    places: list[Address]
    endpoint: RedisEndpoint
    watcher: RedisEndpoint
    others: int
    host: str | None

    @classmethod
    def of_pool(cls, pool: Any, operation_timeout: float | None) -> Self:
        """Take it from the pool of a client that ``Sentinel.master_for`` made, of either kind.

        Raises:
            ValueError: the client is for replicas, which take no writes.
        """
        if not pool.is_master:
            raise ValueError("RedisBackend writes, and replicas take no writes: pass sentinel.master_for(...)")
        manager = pool.sentinel_manager
        endpoint = RedisEndpoint.of_pool(pool, operation_timeout)
        if endpoint.options.get("retry") is None:
            endpoint = endpoint.with_options(retry=quick_retry())
        watchers = [RedisEndpoint.of_pool(sentinel.connection_pool) for sentinel in manager.sentinels]
        if not watchers:
            raise ValueError("RedisBackend got a client of a Sentinel without addresses of sentinels")
        return cls(
            str(pool.service_name),
            [(str(watcher.options["host"]), int(watcher.options["port"])) for watcher in watchers],
            endpoint,
            # One that does not answer is not asked again, but the next one is.
            watchers[0].with_options(retry=Retry(NoBackoff(), 0)),
            manager.min_other_sentinels,
            getattr(manager, "_force_master_ip", None),
        )

    @property
    def server(self) -> str:
        """The name of the service for messages."""
        return f"Redis service {self.service} db {self.endpoint.options.get('db') or 0}"

    def read_answer(self, reply: Any) -> Address:
        """Read the reply to ``SENTINEL MASTER``.

        Raises:
            ValueError: the sentinel knows no primary to go to, and why.
        """
        if isinstance(reply, str):
            raise ValueError(reply.removeprefix("ERR "))
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        state = {_text(name): _text(value) for name, value in pairs}
        where = f"{state['ip']}:{state['port']}"
        flags = set(state["flags"].split(","))
        if flags & {"s_down", "o_down"} or "master" not in flags:
            raise ValueError(f"the primary, {where}, is down, and none has taken its place yet")
        if int(state["num-other-sentinels"]) < self.others:
            raise ValueError(f"it sees fewer than {self.others} other sentinels")
        return self.host or state["ip"], int(state["port"])


def client_from_url(url: RedisURL, options: Mapping[str, Any]) -> Any:
    """Make the client that a URL describes. It connects to nothing yet.

    Args:
        url: of a service. ``rediss+sentinel`` speaks TLS to servers and sentinels alike.
        options: of the connections to the service's servers, and ``sentinel_kwargs``, ``sentinel_username``,
            ``sentinel_password`` and ``min_other_sentinels``.
    """
    given = dict(options)
    others = given.pop("min_other_sentinels", 0)
    username, password, watcher = (given.pop(f"sentinel_{name}", None) for name in ("username", "password", "kwargs"))
    given["ssl"] = url.tls
    # What is waited for a server is waited for a sentinel; and who is asked for the server is to be believed.
    alike = ("socket_", "ssl") if url.tls_everywhere else ("socket_",)
    like = {name: value for name, value in given.items() if name.startswith(alike)}
    watcher = {**like, "username": username, "password": password, **(watcher or {})}
    sentinel: Any = Sentinel(url.addresses, others, sentinel_kwargs=watcher)  # type: ignore[no-untyped-call]
    return sentinel.master_for(url.name, **given)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
