"""A memcached server, and how connections to it are made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..._speedups import wire
from .._net.exchange import Exchange
from .._net.threads import connect_to
from .addresses import Address, describe
from .exchanges import Replies

if TYPE_CHECKING:
    import ssl

    from .access import Credentials

__all__ = ["MemcachedEndpoint"]


class MemcachedEndpoint:
    """A server: an :class:`~.._net.transport.Endpoint`.

    Args:
        address: of the server.
        operation_timeout: seconds that an operation may take.
        connect_timeout: seconds for a new connection.
        max_connections: the most connections, of each kind of I/O.
        credentials: what a connection begins with; ``None`` if the server asks for none.
        tls: what connections are encrypted with; ``None`` if they are not.
    """

    option = "timeout"

    def __init__(
        self,
        address: Address,
        operation_timeout: float | None,
        connect_timeout: float | None,
        max_connections: int,
        credentials: Credentials | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.server = describe(address)
        self.operation_timeout = operation_timeout
        self.connect_timeout = connect_timeout
        self.max_connections = max_connections
        self.idle_limit: float | None = None
        self._address = address
        self._credentials = credentials
        self._tls = tls

    def make_reader(self, reply_limit: int) -> wire.MetaReader:
        return wire.MetaReader(reply_limit)

    def greeting(self, probes: bool) -> Exchange | None:
        # A server that has let somebody in replies.
        if self._credentials is not None:
            return self._credentials.login(self.server)
        return Replies(b"mn\r\n", 1, (b"MN",)) if probes else None

    def connect(self, timeout: float | None) -> Any:
        opened = connect_to(self._address, timeout)
        if self._tls is None:
            return opened
        try:
            return self._tls.wrap_socket(opened, server_hostname=self._address[0])
        except BaseException:
            opened.close()
            raise

    async def aconnect(self, transport: Any, timeout: float | None) -> None:
        from .._net.apart import wait_in_task

        loop, address = asyncio.get_running_loop(), self._address
        if isinstance(address, str):
            opening: Any = loop.create_unix_connection(asyncio.Protocol, address)
        else:
            opening = loop.create_connection(asyncio.Protocol, *address, ssl=self._tls)
        await wait_in_task(
            opening, lambda made: transport.take_over(made[0]), lambda made: made and made[0].abort(), timeout
        )
