"""Servers as users write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["DEFAULT_PORT", "Address", "GivenServer", "Server", "describe", "read_servers"]

DEFAULT_PORT = 11211
_MAX_SERVERS = 255
_MAX_WEIGHT = 0xFFFF

Address = tuple[str, int] | str
"""``(host, port)``, or the path of a Unix socket."""

GivenServer = tuple[str, int] | tuple[str, int, int] | str
"""``(host, port)``, ``(host, port, weight)``, ``"host"``, ``"host:port"``, ``"host:port:weight"``, or the path of a
Unix socket; IPv6 addresses in brackets where a port follows."""


class Server(NamedTuple):
    """Where a memcached is, and how many keys it gets in comparison with the others."""

    address: Address
    weight: int = 1


def describe(address: Address) -> str:
    """Name a server for messages."""
    if isinstance(address, str):
        return f"memcached at {address}"
    host, port = address
    return f"memcached at [{host}]:{port}" if ":" in host else f"memcached at {host}:{port}"


def read_servers(servers: Sequence[GivenServer] | str) -> list[Server]:
    """Read servers.

    Raises:
        ValueError: there are none or too many, one is no address, or one is given twice.
    """
    read = [_parse(server) for server in ([servers] if isinstance(servers, str) else servers)]
    if not 0 < len(read) <= _MAX_SERVERS:
        raise ValueError(f"MemcachedBackend takes 1 to {_MAX_SERVERS} servers, got {len(read)}")
    seen: set[Address] = set()
    for address, _ in read:
        if address in seen:
            raise ValueError(f"{describe(address)} is given twice")
        seen.add(address)
    return read


def _parse(server: Any) -> Server:
    host: Any
    port: Any = DEFAULT_PORT
    weight: Any = 1
    if isinstance(server, (tuple, list)) and len(server) in (2, 3):
        host, port, *rest = server
        weight = rest[0] if rest else 1
    elif isinstance(server, str):
        if server.startswith("/"):
            return Server(server)
        if server.startswith("["):
            host, _, tail = server[1:].partition("]")
            tail = tail.removeprefix(":")
        else:
            host, _, tail = server.partition(":")
        if tail:
            port, colon, weight = tail.partition(":")
            weight = weight if colon else 1
    else:
        raise ValueError(f"expected a server as (host, port), 'host:port' or the path of a Unix socket, got {server!r}")
    if not isinstance(host, str) or not host or not str(port).isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"expected a host and a port from 1 to 65535, got {server!r}")
    if not str(weight).isdecimal() or not 0 < int(weight) <= _MAX_WEIGHT:
        raise ValueError(f"expected a weight from 1 to {_MAX_WEIGHT}, got {server!r}")
    return Server((host, int(port)), int(weight))
