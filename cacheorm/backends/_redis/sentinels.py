"""Redis Sentinel: where sentinels are, which service they watch, and how they say who its primary is.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

from redis.backoff import NoBackoff
from redis.connection import SSLConnection, parse_url, to_bool
from redis.retry import Retry
from redis.sentinel import Sentinel

from .endpoint import Endpoint, option_names, quick_retry

__all__ = ["Address", "Sentinels", "client_from_url"]

Address = tuple[str, int]

_PORT = 26379
_SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}
_OF_POOL = {"max_connections", "ssl", "check_connection"}
_EXPECTED = (
    "not a Sentinel URL: expected redis+sentinel://[user:password@]host:port,host:port/service[/db][?option=value...],"
    " rediss+sentinel:// with TLS, an IPv6 address in brackets, and special characters percent-encoded"
)


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
    endpoint: Endpoint
    watcher: Endpoint
    others: int
    host: str | None

    @classmethod
    def of_pool(cls, pool: Any) -> Self:
        """Take it from the pool of a client that ``Sentinel.master_for`` made, of either kind.

        Raises:
            ValueError: the client is for replicas, which take no writes.
        """
        if not pool.is_master:
            raise ValueError("RedisBackend writes, and replicas take no writes: pass sentinel.master_for(...)")
        manager = pool.sentinel_manager
        endpoint = Endpoint.of_pool(pool)
        if endpoint.options.get("retry") is None:
            endpoint = endpoint.with_options(retry=quick_retry())
        watchers = [Endpoint.of_pool(sentinel.connection_pool) for sentinel in manager.sentinels]
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
        if isinstance(reply, Exception):
            raise ValueError(str(reply).removeprefix("ERR "))
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        state = {_text(name): _text(value) for name, value in pairs}
        where = f"{state['ip']}:{state['port']}"
        flags = set(state["flags"].split(","))
        if flags & {"s_down", "o_down"} or "master" not in flags:
            raise ValueError(f"the primary, {where}, is down, and none has taken its place yet")
        if int(state["num-other-sentinels"]) < self.others:
            raise ValueError(f"it sees fewer than {self.others} other sentinels")
        return self.host or state["ip"], int(state["port"])


def client_from_url(url: str, options: Mapping[str, Any]) -> Any:
    """Make the client that a URL describes. It connects to nothing yet.

    Args:
        url: ``redis+sentinel://[user:password@]host:port,.../service[/db][?option=value...]``. ``rediss+sentinel``
            speaks TLS to servers and sentinels alike.
        options: of the connections to the service's servers, and ``sentinel_kwargs``, ``sentinel_username``,
            ``sentinel_password`` and ``min_other_sentinels``; the URL's come first.

    Raises:
        ValueError: not such a URL, or an option that there is not. The message does not show the URL.
    """
    scheme, _, rest = url.partition("://")
    tls = _SCHEMES[scheme.lower()]
    parts = re.fullmatch(r"(?:([^@/?#]*)@)?([^@/?#]+)/([^/?#]+)(?:/(\d+))?/?(?:\?([^#]*))?", rest)
    if parts is None:
        raise ValueError(_EXPECTED)
    login, hosts, service, db, query = parts.groups()
    places = [_place(host) for host in hosts.split(",")]
    try:
        given = parse_url(  # type: ignore[no-untyped-call]
            f"redis://{login + '@' if login else ''}host/{db or ''}?{query or ''}"
        )
        given = {**options, **given}
        others = int(given.pop("min_other_sentinels", 0))
        # By redis-py's own rule, that of the other options in URLs: every text but "false", "no" and the like is true.
        given["ssl"] = tls or bool(to_bool(given.pop("ssl", False)))  # type: ignore[no-untyped-call]
    except ValueError:
        raise ValueError(_EXPECTED) from None
    del given["host"]
    username, password, watcher = (given.pop(f"sentinel_{name}", None) for name in ("username", "password", "kwargs"))
    unknown = given.keys() - option_names(SSLConnection) - _OF_POOL
    if unknown:
        raise ValueError(f"unknown option {min(unknown)!r} of a {scheme.lower()}:// URL")
    # What is waited for a server is waited for a sentinel; and who is asked for the server is to be believed.
    alike = ("socket_", "ssl") if tls else ("socket_",)
    like = {name: value for name, value in given.items() if name.startswith(alike)}
    watcher = {**like, "username": username, "password": password, **(watcher or {})}
    sentinel: Any = Sentinel(places, others, sentinel_kwargs=watcher)  # type: ignore[no-untyped-call]
    return sentinel.master_for(unquote(service), **given)


def _place(text: str) -> Address:
    """Read ``host``, ``host:port``, ``[::1]`` or ``[::1]:port``."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?", text)
    if match is None or not 0 < int(match[3] or _PORT) < 1 << 16:
        raise ValueError(_EXPECTED)
    return unquote(match[1] or match[2]), int(match[3] or _PORT)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
