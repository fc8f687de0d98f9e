"""Servers as users write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["DEFAULT_PORT", "Address", "describe", "one_address"]

DEFAULT_PORT = 11211

Address = tuple[str, int] | str
"""``(host, port)``, or the path of a Unix socket."""


def describe(address: Address) -> str:
    """Name a server for messages."""
    if isinstance(address, str):
        return f"memcached at {address}"
    host, port = address
    return f"memcached at [{host}]:{port}" if ":" in host else f"memcached at {host}:{port}"


def one_address(servers: Sequence[Address] | str) -> Address:
    """Read the one server of ``servers``.

    Raises:
        ValueError: there are several or none, or it is no address.
    """
    given: Sequence[Any] = [servers] if isinstance(servers, str) else list(servers)
    if len(given) != 1:
        raise ValueError(f"MemcachedBackend takes one server, got {len(given)}: several servers are not supported yet")
    return _parse(given[0])


def _parse(server: Any) -> Address:
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
