"""Requests under way to several nodes at once: every node is written to before any is read.

*Taking turns*: the connections are taken in the order of the nodes' addresses, all before the first is used. Of any
number of threads that wait for the last connections, one gets all that it needs. *Read all or close*: each connection
goes back only after exactly the replies that are due on it were read. One that is lost costs the requests that were
sent over it, and no others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

from redis.exceptions import BusyLoadingError, ClusterDownError, RedisError

from ..._speedups import wire
from ...errors import BackendError
from .jobs import Asked, Job
from .replies import Replies
from .slots import Address
from .topology import Topology, is_unreachable
from .transport import Link, Links

__all__ = ["Flight", "Parts"]

Parts = Sequence[tuple[Address | None, list[int]]]
"""Positions of requests by the node that they go to; ``None`` where there is none."""


class _Line:
    """A connection to one node, and the requests whose replies are due on it, in portions."""

    __slots__ = ("address", "due", "link", "links", "server", "source", "unused")

    def __init__(self, address: Address, links: Links, link: Link, readers: list[wire.RespReader]) -> None:
        self.address = address
        self.server = links.server
        self.links = links
        self.link = link
        self.source = Replies(link, readers)
        self.due: deque[list[int]] = deque()
        self.unused = True


class Flight:
    """An exchange with some nodes; use it as a context manager.

    Args:
        topology: the cluster.
        readers: see :class:`~.replies.Replies`.

    Attributes:
        ahead: how many chunks have been sent and not been read.
    """

    def __init__(self, topology: Topology, readers: list[wire.RespReader]) -> None:
        self._topology = topology
        self._readers = readers
        self._lines: dict[Address, _Line] = {}
        self._lost: dict[Address, BaseException] = {}
        self._opened = False
        self._chunks: deque[list[Address]] = deque()

    @property
    def ahead(self) -> int:
        return len(self._chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def open(self, addresses: Iterable[Address | None]) -> bool:
        """Take connections to nodes if none have been taken yet.

        Returns:
            Whether there is one to each; where there is not, another flight has to be begun.
        """
        wanted = [address for address in addresses if address is not None]
        if self._opened:
            return all(address in self._lines or address in self._lost for address in wanted)
        self._opened = True
        for address in sorted(wanted):
            links = self._topology.links(address)
            try:
                link = await links.take()
            except BackendError as error:
                if not is_unreachable(error):
                    raise
                self._lost[address] = error.__cause__ or error
            else:
                self._lines[address] = _Line(address, links, link, self._readers)
        return True

    async def send(self, job: Job | Asked, parts: Parts) -> None:
        """Send a chunk: to every node its part."""
        self._chunks.append([address for address, _ in parts if address is not None])
        for address, positions in parts:
            if address is None:
                job.lose(positions, ClusterDownError("no node serves its slot"), None, False)
                continue
            line = self._lines.get(address)
            if line is None:
                job.lose(positions, self._lost[address], address, False)
                continue
            buffer = job.pack(positions)
            line.due.append(positions)
            check_health, line.unused = line.unused, False
            try:
                await line.link.send(buffer, check_health)
            except (RedisError, OSError) as error:
                await self._lose(job, line, error)

    async def receive(self, job: Job | Asked) -> None:
        """Read the replies to the chunk that was sent first."""
        for address in self._chunks.popleft():
            line = self._lines.get(address)
            if line is None:
                continue
            try:
                await job.read(line, line.due[0])
            except (RedisError, OSError) as error:
                await self._lose(job, line, error)
            except ValueError as error:
                raise BackendError(f"{line.server}: {error}") from error
            else:
                line.due.popleft()

    async def _lose(self, job: Job | Asked, line: _Line, error: BaseException) -> None:
        positions = [position for portion in line.due for position in portion]
        # A server that loads its data says so to each command, and redis-py raises that as it does a broken connection.
        job.lose(positions, error, line.address, not (isinstance(error, BusyLoadingError) and len(positions) == 1))
        self._lost[line.address] = error
        del self._lines[line.address]
        await line.links.give_back(line.link, False)

    async def close(self) -> None:
        """Give all connections back, and close those on which replies are due."""
        while self._lines:
            _, line = self._lines.popitem()
            complete = not line.due
            if complete:
                line.source.finish()
            await line.links.give_back(line.link, complete)
