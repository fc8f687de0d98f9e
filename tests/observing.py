"""What servers and backends say of connections: what tests look at in place of the inside of a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servers import MemcachedServer

__all__ = ["ain_use", "in_use", "memcached_figure", "open_connections"]


def in_use(backend: Any) -> list[int]:
    """Return how many connections that block are in use, to each server."""
    return [state.in_use for state in backend.pools()]


async def ain_use(backend: Any) -> list[int]:
    """Return how many connections of the running event loop are in use, to each server."""
    return [state.in_use for state in await backend.apools()]


def memcached_figure(server: MemcachedServer, name: str) -> int:
    """Return one of a server's own figures."""
    with server.connect(60) as connection:
        connection.sendall(b"stats\r\n")
        reply = b""
        while not reply.endswith(b"END\r\n"):
            reply += connection.recv(1 << 16)
    return int(reply.partition(b"STAT %b " % name.encode())[2].split()[0])


def open_connections(server: MemcachedServer) -> int:
    """Return how many connections the server has, the one that asks not counted."""
    return memcached_figure(server, "curr_connections") - 1
