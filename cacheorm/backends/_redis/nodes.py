"""The nodes of a Redis Cluster: connections to each, and the map of slots, learnt from any node that replies."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ...errors import BackendError
from ...types import PoolState
from .._net.breaker import Breakers
from .._net.exchange import half_of, run_exchange
from .._net.pool import Pool
from .._net.transport import IO, Effect, UnreachableError
from .endpoint import RedisEndpoint
from .exchanges import Unit
from .refusals import refuse
from .slots import Address, Remap, SlotMap, parse_slots

__all__ = ["Nodes", "cluster_name"]

# How many nodes are named in messages.
_NAMED = 3

# Seconds after which a map is learnt anew while nodes of it are left alone.
_LEARN_AGAIN = 0.25


class Nodes:
    """What is known of a cluster.

    Args:
        addresses: of the nodes to ask first.
        endpoint: how all nodes are connected to.
        io: the kind of I/O.
        breakers: those of the backend.
        remap: maps the address that a node says to have to where it is reached.

    Attributes:
        server: the cluster's name for messages.
    """

    def __init__(
        self, addresses: Sequence[Address], endpoint: RedisEndpoint, io: IO, breakers: Breakers, remap: Remap | None
    ) -> None:
        self.server = cluster_name(addresses)
        self.io = io
        self._endpoint = endpoint
        self._breakers = breakers
        self._remap = remap
        self._given = list(addresses)
        self._known: list[Address] = []
        self._slots: SlotMap | None = None
        self._lock = io.lock(self.server)
        self._failures = 0
        self._learnt = 0.0
        self._pools: dict[Address, Pool] = {}

    def pool(self, address: Address) -> Pool:
        """Return the connections to a node."""
        pool = self._pools.get(address)
        if pool is None:
            endpoint = self._endpoint.at(*address)
            # Of two that are made at once, one stays; the other has connected to nothing.
            pool = self._pools.setdefault(address, self.io.pool(endpoint, self._breakers.of(endpoint.server)))
        return pool

    async def slots(self, end: float) -> SlotMap:
        """Return the map, learnt if nothing is known yet.

        Raises:
            BackendError: no node can be reached, or it is not one of a cluster.
        """
        return self._slots or await self.relearn(None, (), end)

    async def relearn(
        self, seen: SlotMap | None, suspects: Iterable[Address], end: float, only: bool = False
    ) -> SlotMap:
        """Learn the map anew, unless somebody has done so since ``seen`` was returned.

        Of those who find it out of date at once, one asks; the others wait for what that one learns, or fails to learn.

        Args:
            seen: what turned out to be wrong.
            suspects: nodes that are asked last.
            end: when to give up.
            only: whether all there is to it is that nodes are left alone, as all operations find meanwhile; then the
                map is learnt anew only every :data:`_LEARN_AGAIN` seconds.

        Raises:
            BackendError: as :meth:`slots`.
        """
        if only and self._slots is not None and time.monotonic() - self._learnt < _LEARN_AGAIN:
            return self._slots
        failures = self._failures
        with await self._lock.take(end):
            if self._slots is not None and self._slots is not seen:
                return self._slots
            if self._failures != failures:
                raise UnreachableError(f"{self.server}: no node can be reached, as others have found in the meantime")
            self._learnt = time.monotonic()
            first: BackendError | None = None
            for address in self._in_order(set(suspects)):
                try:
                    # One that does not answer leaves time for the others, and for what the map is needed for.
                    ranges = await self._ask(address, half_of(end))
                except UnreachableError as error:
                    first = first or error
                    continue
                slots, known = parse_slots(ranges, address, self._remap)
                if slots.addresses:
                    self._slots, self._known = slots, known
                    self._retire()
                    return slots
            self._failures += 1
            reason = f"no node can be reached: {first}" if first else "no node serves any slot"
            raise UnreachableError(f"{self.server}: {reason}") from (first and first.__cause__)

    def owners(self, keys: Sequence[str]) -> Sequence[Address | None]:
        """Return the node that serves each key, as far as it is known."""
        return [None] * len(keys) if self._slots is None else self._slots.owners_of(keys)

    def move(self, moves: Mapping[int, Address]) -> None:
        """Note that slots are served by other nodes, as one has said."""
        if self._slots is not None:
            self._slots = self._slots.moved(moves)

    def reached_at(self, host: str, port: int, asked: Address | None) -> Address:
        """Return where a node is reached that was named in a redirection.

        Args:
            host: empty for a node that is reached as the one that named it is.
            port: its port.
            asked: the node that named it.
        """
        known = host and host not in ("?", "unknown-endpoint")
        address = (host.strip("[]") if known else (asked or self._given[0])[0], port)
        return address if self._remap is None else self._remap(address)

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to each node, in the order of addresses."""
        return [pool.state() for _, pool in sorted(self._pools.items())]

    async def close(self) -> None:
        """Close the idle connections."""
        for pool in [*self._pools.values()]:
            pool.close()

    def _in_order(self, suspects: set[Address]) -> list[Address]:
        primaries = self._slots.addresses if self._slots is not None else ()
        return sorted(dict.fromkeys((*primaries, *self._known, *self._given)), key=suspects.__contains__)

    async def _ask(self, address: Address, end: float) -> list[Any]:
        pool = self.pool(address)
        unit = Unit([("CLUSTER", "SLOTS")], Effect.READ)
        try:
            await run_exchange(pool, unit, end)
        except BackendError as error:
            if _is_unreachable(error) and not isinstance(error, UnreachableError):
                raise UnreachableError(str(error)) from error.__cause__
            raise
        (reply,) = unit.replies
        if isinstance(reply, str):
            hint = ""
            if "cluster support disabled" in reply:
                hint = "; it is a single server: redis:// in place of redis+cluster://, or a redis.Redis client"
            refuse(pool.server, reply + hint)
        ranges: list[Any] = reply
        return ranges

    def _retire(self) -> None:
        """Close the connections to nodes that have left."""
        staying = {*self._known, *self._given}
        for address in [address for address in self._pools if address not in staying]:
            pool = self._pools.pop(address, None)
            if pool is not None:
                pool.close(retire=True)


def _is_unreachable(error: BackendError) -> bool:
    """Return whether another node may stand in for one that failed: not after a full pool or a wrong password."""
    cause = error.__cause__
    return isinstance(cause, (RedisError, OSError)) and not isinstance(cause, (AuthenticationError, ResponseError))


def cluster_name(nodes: Sequence[Address]) -> str:
    """Return the name of a cluster for messages."""
    return f"Redis Cluster at {', '.join(_shown(nodes))}"


def _shown(nodes: Sequence[Address]) -> Iterator[str]:
    for host, port in nodes[:_NAMED]:
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if len(nodes) > _NAMED:
        yield "..."
