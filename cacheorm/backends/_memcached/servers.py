"""The memcached servers of a backend: which of them has a key, and exchanges with those that a batch needs.

A server that fails costs its own keys and no others. With ``"eject"`` they go to the other servers meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import compress
from typing import Any, TypeVar

from ..._speedups import hash_ring
from ...errors import BackendError
from ...types import PoolState
from .._net.batch import Batch
from .._net.exchange import Exchange, may_repeat, run_exchange
from .._net.fanout import FanOut
from .._net.pool import Pool
from .._net.scanning import Ends
from .._net.transport import IO, UnreachableError
from .dumps import dump_keys
from .exchanges import Values
from .rings import Rings

__all__ = ["Servers", "Unwritten"]

E = TypeVar("E", bound=Exchange)

# Values that are handed out at a time at least: each handing out has its price.
_WORTH = 100


class Unwritten(str):
    """Stands in the place of an entry's status if its server failed: why it was not written.

    Attributes:
        error: the failure.
        maybe_applied: whether it may have been written all the same.
    """

    error: BackendError
    maybe_applied: bool

    def __new__(cls, error: BackendError, maybe_applied: bool) -> Unwritten:
        made = super().__new__(cls, error)
        made.error = error
        made.maybe_applied = maybe_applied
        return made


class Servers:
    """One server, or several on a consistent-hash ring.

    Args:
        server: their name for messages.
        count: how many there are.
        io: the kind of I/O.
        pools: connections to each server.
        rings: which server has a key; ``None`` for one server.

    Attributes:
        server: as given.
    """

    def __init__(self, server: str, io: IO, pools: Sequence[Pool], rings: Rings | None) -> None:
        self.server = server
        self._io = io
        self._pools = pools
        self.count = len(pools)
        self._rings = rings
        self._dumping = io.lock(server)

    def owners(self, keys: Sequence[str]) -> bytes:
        """Return the number of the server of each key, a byte each."""
        return bytes(len(keys)) if self._rings is None else self._rings.current().owners(keys)

    def server_of(self, key: str) -> str:
        """Return the name of the server that has a key, for messages."""
        return self._pools[self.owners([key])[0]].server

    async def one(self, key: str, exchange: E, end: float) -> E:
        """Carry out an exchange about one key; return it.

        Raises:
            BackendError: the server failed.
        """
        for attempt in range(self.count):
            pool = self._pools[self.owners([key])[0]]
            try:
                await run_exchange(pool, exchange, end)
                return exchange
            except UnreachableError as error:
                if attempt + 1 == self.count or not self._goes_on(exchange, error):
                    raise
            exchange.restart()
        raise AssertionError("not reached")

    async def each(
        self, keys: Sequence[str], results: list[Any], make: Callable[[list[int] | None], Batch], end: float
    ) -> None:
        """Have each server do its part of a batch.

        Args:
            keys: of the whole batch, at least one.
            results: of the whole batch; takes an :class:`Unwritten` for each key whose server failed.
            make: returns the exchange about the keys at some positions, or all of them.
            end: when to give up.

        Raises:
            BackendError: the only server failed.
        """
        if self._rings is None:
            await run_exchange(self._pools[0], make(None), end)
            return
        left: list[int] = [*range(len(keys))]
        for _ in self._pools:
            exchanges = self._parts(keys, left, make)
            await FanOut(self._io, exchanges, end).run()
            again: list[int] = []
            for _, exchange in exchanges:
                error = exchange.error
                if error is None:
                    continue
                unsent = set(exchange.unsent())
                for i in exchange.unanswered():
                    results[i] = Unwritten(error, error.maybe_applied and i not in unsent)
                if isinstance(error, UnreachableError) and self._goes_on(exchange, error):
                    again += exchange.unanswered()
            if not again:
                return
            left = sorted(again)

    async def inspect(
        self, keys: Sequence[str], positions: Sequence[int], make: Callable[[list[int]], E], end: float
    ) -> list[E]:
        """Ask each server about its part of the keys at some positions. Return the exchanges; some may have an error.

        Raises:
            BackendError: the only server failed.
        """
        if self._rings is None:
            exchange = make([*positions])
            await run_exchange(self._pools[0], exchange, end)
            return [exchange]
        owners = self.owners([keys[i] for i in positions])
        parts = hash_ring.partition(owners, [*positions], self.count)
        exchanges = [(pool, make(part)) for pool, part in zip(self._pools, parts, strict=True) if part]
        await FanOut(self._io, exchanges, end).run()
        return [exchange for _, exchange in exchanges]

    async def all(self, make: Callable[[], E], end: float) -> tuple[list[E], list[BackendError]]:
        """Ask all servers the same. Return the exchanges that came to their ends, and the errors of the others."""
        exchanges = [(pool, make()) for pool in self._pools]
        await FanOut(self._io, exchanges, end).run()
        done = [exchange for _, exchange in exchanges if exchange.error is None]
        return done, [exchange.error for _, exchange in exchanges if exchange.error is not None]

    async def read(self, keys: Sequence[str], end: float) -> list[bytes | None]:
        """Return the values of a few keys."""
        if self._rings is None:
            exchange = Values(keys)
            await run_exchange(self._pools[0], exchange, end)
            return exchange.values
        reading = _Reading(self._rings.current().owners(keys), keys, self.count)
        await FanOut(self._io, reading.exchanges(self._pools), end).run()
        await self._complete(reading, end)
        return reading.take()

    async def read_parts(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        """Yield the values of ``keys`` in their order, in lists, as the servers give them."""
        if not keys:
            return
        if self._rings is None:
            exchange = Values(keys)
            async with aclosing(FanOut(self._io, [(self._pools[0], exchange)], end)) as rounds:
                async for _ in rounds:
                    if exchange.values:
                        yield exchange.take()
            if exchange.error is not None:
                raise exchange.error
            return
        reading = _Reading(self._rings.current().owners(keys), keys, self.count)
        async with aclosing(FanOut(self._io, reading.exchanges(self._pools), end)) as rounds:
            async for _ in rounds:
                if reading.collect() >= _WORTH:
                    yield reading.take()
        await self._complete(reading, end)
        if reading.collect():
            yield reading.take()

    async def scan(self, prefix: str, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys that begin with a prefix, server by server.

        Entries that are on another server than the ring says are left out, as nobody finds them there.
        """
        for place, pool in enumerate(self._pools):
            async with aclosing(dump_keys(self._io, pool, prefix, ends, self._dumping)) as chunks:
                async for keys in chunks:
                    yield keys if self._rings is None else [*compress(keys, map(place.__eq__, self.owners(keys)))]

    def missed(self, error: BackendError) -> bool:
        """Return whether what could not be read because of an error counts as missed."""
        return self._rings is not None and self._rings.passes_over(error)

    def is_elsewhere(self, error: BackendError) -> bool:
        """Return whether the keys of a server that failed are on others from now on."""
        return self.missed(error) and self._rings is not None and self._rings.policy == "eject"

    def figures_may_lack(self) -> bool:
        """Return whether the figures of servers that fail may be left out."""
        return self._rings is not None and self._rings.policy != "raise"

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to each server."""
        return [pool.state() for pool in self._pools]

    def close(self) -> None:
        """Close the idle connections to all servers."""
        for pool in self._pools:
            pool.close()

    # -- how -------------------------------------------------------------------------------------

    def _parts(
        self, keys: Sequence[str], left: list[int], make: Callable[[list[int] | None], Batch]
    ) -> list[tuple[Pool, Batch]]:
        parts = hash_ring.partition(self.owners([keys[i] for i in left]), left, self.count)
        return [(pool, make(part)) for pool, part in zip(self._pools, parts, strict=True) if part]

    def _goes_on(self, exchange: Exchange, error: BackendError) -> bool:
        """Return whether another server may be asked what one did not answer."""
        return (
            self._rings is not None
            and self._rings.policy == "eject"
            and may_repeat(exchange.effect, error.maybe_applied)
            and not self._rings.all_left_alone()
        )

    async def _complete(self, reading: _Reading, end: float) -> None:
        """Find what servers that have failed did not give: from the rest of the ring, if they are ejected."""
        for server, exchange in reading.asked.items():
            error = exchange.error
            left = reading.parts[server][len(exchange.values) :]
            if error is None or not left:
                continue
            if not self.missed(error):
                raise error
            if self._goes_on(exchange, error):
                exchange.values += await self.read(left, end)
            else:
                exchange.values += [None] * len(left)


class _Reading:
    """A batch that is being read from several servers.

    Args:
        owners: the server of each key, a byte each.
        keys: as many.
        servers: how many there are.

    Attributes:
        parts: the keys of each server.
        asked: the exchange with each server that has some.
    """

    __slots__ = ("_collected", "_owners", "_position", "_taken", "asked", "parts")

    def __init__(self, owners: bytes, keys: Sequence[str], servers: int) -> None:
        self.parts: list[list[str]] = hash_ring.partition(owners, keys, servers)
        self.asked = {server: Values(part) for server, part in enumerate(self.parts) if part}
        self._owners = owners
        self._position = 0
        self._taken = [0] * servers
        self._collected: list[bytes | None] = []

    def exchanges(self, pools: Sequence[Pool]) -> list[tuple[Pool, Values]]:
        """Return pairs of connections to a server and what to ask it."""
        return [(pools[server], exchange) for server, exchange in self.asked.items()]

    def collect(self) -> int:
        """Put values in the order of the batch, up to the first that is missing. Return how many can be taken."""
        found = [self.asked[server].values if server in self.asked else [] for server in range(len(self.parts))]
        self._position = hash_ring.reassemble(self._owners, self._position, found, self._taken, self._collected)
        return len(self._collected)

    def take(self) -> list[bytes | None]:
        """Return the values that have come and were not taken yet."""
        self.collect()
        collected, self._collected = self._collected, []
        return collected
