"""Servers as users write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._addresses import decode, is_host, is_port, read_address

__all__ = [
    "DEFAULT_PORT",
    "MAX_WEIGHT",
    "Address",
    "GivenServer",
    "Server",
    "describe",
    "read_servers",
    "read_url_servers",
]

DEFAULT_PORT = 11211
MAX_WEIGHT = 0xFFFF
_MAX_SERVERS = 255

Address = tuple[str, int] | str
"""``(host, port)``, or the path of a Unix socket."""


class Server(NamedTuple):
    """Where a memcached is, and how many keys it gets in comparison with the others."""

    address: Address
    weight: int = 1


GivenServer = tuple[str, int] | tuple[str, int, int] | str | Server
"""``(host, port)``, ``(host, port, weight)``, ``"host"``, ``"host:port"``, ``"host:port:weight"``, or the path of a
Unix socket; IPv6 addresses in brackets where a port follows."""

_WITH_WEIGHT = re.compile(r"((?:\[.*\]|[^:]*)(?::[^:]*)?)(?::([^:]*))?")


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
    given = [servers] if isinstance(servers, str) else servers
    read = [_parse(server, place) for place, server in enumerate(given, 1)]
    if not 0 < len(read) <= _MAX_SERVERS:
        raise ValueError(f"MemcachedBackend takes 1 to {_MAX_SERVERS} servers, got {len(read)}")
    seen: set[Address] = set()
    for address, _ in read:
        if address in seen:
            raise ValueError(f"{describe(address)} is given twice")
        seen.add(address)
    return read


def _parse(server: Any, place: int) -> Server:
    address: Address | None
    weight: Any = 1
    if isinstance(server, str) and not server.startswith("/"):
        match = _WITH_WEIGHT.fullmatch(server)
        address = read_address(match[1], DEFAULT_PORT) if match else None
        weight = match[2] if match and match[2] is not None else 1
    elif isinstance(server, (Server, str)):
        address, weight = server if isinstance(server, Server) else Server(server)
    elif isinstance(server, (tuple, list)) and len(server) in (2, 3):
        host, port, *rest = server
        address = (host, int(port)) if is_host(host) and str(port).isdecimal() and is_port(int(port)) else None
        weight = rest[0] if rest else 1
    else:
        raise ValueError(f"expected a server {place} as (host, port), 'host:port' or the path of a Unix socket")
    if address is None:
        raise ValueError(f"expected a host and a port from 1 to 65535 as server {place}")
    if not str(weight).isdecimal() or not 0 < int(weight) <= MAX_WEIGHT:
        raise ValueError(f"expected a weight from 1 to {MAX_WEIGHT} for server {place}")
    return Server(address, int(weight))


def read_url_servers(location: str, weights: Sequence[int] | None) -> list[Server]:
    """Read the servers of a URL: hosts, each with a port or without, and paths of Unix sockets, separated by commas.

    Args:
        location: what is between ``memcached://`` and the options, percent-encoded.
        weights: one for each server; all the same if ``None``.

    Raises:
        ValueError: it is no list of servers, or has another length than the weights. The message does not show it.
    """
    if "@" in location:
        raise ValueError(
            "memcached:// takes user and password as options, percent-encoded: ?username=...&password=...;"
            " write %40 for an '@' in the path of a socket"
        )
    items = location.split(",")
    if not items[-1].startswith("/"):
        items[-1] = items[-1].removesuffix("/")
    addresses = [_read_url_address(item) for item in items]
    if weights is None:
        weights = [1] * len(addresses)
    if len(weights) != len(addresses):
        raise ValueError(f"memcached:// takes as many weights as servers: {len(addresses)}, got {len(weights)}")
    return [Server(address, weight) for address, weight in zip(addresses, weights, strict=True)]


def _read_url_address(text: str) -> Address:
    if not text.startswith("/"):
        address = read_address(text, DEFAULT_PORT, encoded=True)
        if address is None:
            raise ValueError(
                "memcached:// takes host:port or host, a port from 1 to 65535, an IPv6 address in brackets, or the"
                " absolute path of a Unix socket, separated by commas: memcached://h1:11211,[::1]:11211,/run/mc.sock"
            )
        return address
    path = decode(text)
    if not path or path.endswith("/") or "\0" in path:
        raise ValueError(
            "memcached:// takes the path of a Unix socket, percent-encoded UTF-8: memcached:///run/mc.sock"
        )
    return path
