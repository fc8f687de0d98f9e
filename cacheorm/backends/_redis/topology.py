"""The nodes of a Redis Cluster: connections to each, and the map of slots, learnt from whoever answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState
from .endpoint import Endpoint
from .reach import Reach
from .slots import Address, Remap, SlotMap, parse_slots
from .transport import Links

__all__ = ["Topology", "cluster_name", "is_unreachable"]

# So many nodes are named in messages.
_NAMED = 3


class Topology:
    """What is known of a cluster.

    Args:
        nodes: where to ask first.
        endpoint: how all nodes are spoken to.
        reach: how to connect and to wait.
        remap: where nodes are reached that say to be somewhere.

    Attributes:
        server: the cluster's name for messages.
        patience: seconds for which operations wait until the nodes agree.
    """

    def __init__(self, nodes: Sequence[Address], endpoint: Endpoint, reach: Reach, remap: Remap | None) -> None:
        self.server = cluster_name(nodes)
        self.patience = endpoint.patience
        self.sleep = reach.sleep
        self._endpoint = endpoint
        self._reach = reach
        self._remap = remap
        self._nodes = list(nodes)
        self._known: list[Address] = []
        self._slots: SlotMap | None = None
        self._lock = reach.lock()
        self._failures = 0
        self._links: dict[Address, Links] = {}

    def links(self, address: Address) -> Links:
        """Give the connections to a node."""
        links = self._links.get(address)
        if links is None:
            # Of two that are made at once, one stays; the other has connected to nothing.
            links = self._links.setdefault(address, self._reach.links(self._endpoint.at(*address)))
        return links

    async def slots(self) -> SlotMap:
        """Give the map, learnt if nothing is known yet.

        Raises:
            BackendError: no node can be reached, or it is not one of a cluster.
        """
        return self._slots or await self.relearn(None, ())

    async def relearn(self, seen: SlotMap | None, suspects: Iterable[Address]) -> SlotMap:
        """Learn the map anew, unless somebody has done so since ``seen`` was given.

        Of those who find it stale at once, one asks, and the others wait for what he learns, or fails to learn.

        Args:
            seen: what turned out to be wrong.
            suspects: nodes that are asked last.

        Raises:
            BackendError: as :meth:`slots`.
        """
        failures = self._failures
        async with self._lock:
            if self._slots is not None and self._slots is not seen:
                return self._slots
            if self._failures != failures:
                raise BackendError(f"{self.server}: no node can be reached, as others have found in the meantime")
            first: BackendError | None = None
            for address in self._to_be_asked(set(suspects)):
                try:
                    ranges = await self._ask(address)
                except BackendError as error:
                    if not is_unreachable(error):
                        raise
                    first = first or error
                    continue
                slots, known = parse_slots(ranges, address, self._remap)
                if slots.addresses:
                    self._slots, self._known = slots, known
                    await self._retire()
                    return slots
            self._failures += 1
            reason = f"no node can be reached: {first}" if first else "no node serves any slot"
            raise BackendError(f"{self.server}: {reason}") from (first and first.__cause__)

    def move(self, moves: Mapping[int, Address]) -> None:
        """Note who has said that somebody else serves slots."""
        if self._slots is not None:
            self._slots = self._slots.moved(moves)

    def reached_at(self, host: str, port: int, asked: Address | None) -> Address:
        """Give where a node is reached that was named in a redirection.

        Args:
            host: empty for a node that is reached as the one that named it is.
            port: its port.
            asked: who named it.
        """
        address = (host.strip("[]") if host and host != "?" else (asked or self._nodes[0])[0], port)
        return address if self._remap is None else self._remap(address)

    def pools(self) -> list[PoolState]:
        """Return how the connections to each node are used that there have been any to, in the order of addresses."""
        return [links.state() for _, links in sorted(self._links.items())]

    async def close(self) -> None:
        """Close all connections."""
        while self._links:
            _, links = self._links.popitem()
            await links.close()

    def _to_be_asked(self, suspects: set[Address]) -> list[Address]:
        primaries = self._slots.addresses if self._slots is not None else ()
        return sorted(dict.fromkeys((*primaries, *self._known, *self._nodes)), key=suspects.__contains__)

    async def _ask(self, address: Address) -> list[Any]:
        links = self.links(address)
        link = await links.take()
        complete = False
        try:
            await link.send(wire.pack_command(("CLUSTER", "SLOTS")), True)
            reply: list[Any] = await link.parse()
            complete = True
            return reply
        except ResponseError as error:
            complete = True
            hint = ""
            if "cluster support disabled" in str(error):
                hint = "; it is a single server: redis:// in place of redis+cluster://, or a redis.Redis client"
            raise BackendError(f"{links.server}: {error}{hint}") from error
        except (RedisError, OSError) as error:
            raise BackendError(f"{links.server}: {error}") from error
        finally:
            await links.give_back(link, complete)

    async def _retire(self) -> None:
        """Close the connections to nodes that have left."""
        staying = {*self._known, *self._nodes}
        for address in [address for address in self._links if address not in staying]:
            links = self._links.pop(address, None)
            if links is not None:
                await links.close()


def is_unreachable(error: BackendError) -> bool:
    """Tell whether a node is to blame that others may stand in for: not a full pool, and not a wrong password."""
    cause = error.__cause__
    return isinstance(cause, (RedisError, OSError)) and not isinstance(cause, (AuthenticationError, ResponseError))


def cluster_name(nodes: Sequence[Address]) -> str:
    """Give the name of a cluster for messages."""
    return f"Redis Cluster at {', '.join(_shown(nodes))}"


def _shown(nodes: Sequence[Address]) -> Iterator[str]:
    for host, port in nodes[:_NAMED]:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if len(nodes) > _NAMED:
        yield "..."
