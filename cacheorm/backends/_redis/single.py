"""One Redis server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from ...types import PoolState
from .._net.breaker import Breakers
from .._net.exchange import run_exchange
from .._net.fanout import FanOut
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks, OnePart
from .._net.transport import IO, Effect
from .endpoint import RedisEndpoint
from .exchanges import READ_CHUNK, Command, Commands, Sets, Unit, Values
from .refusals import refuse
from .scanning import scan_server

__all__ = ["SingleServer", "as_transaction", "groups_of", "outcome_of_unit"]


class SingleServer:
    """A :class:`~.topology.Topology` of one server.

    Args:
        endpoint: the server.
        io: the kind of I/O.
        breakers: those of the backend.
    """

    def __init__(self, endpoint: RedisEndpoint, io: IO, breakers: Breakers) -> None:
        self.server = endpoint.server
        self.io = io
        self.pool = io.pool(endpoint, breakers.of(endpoint.server))

    async def run(
        self, key: str, commands: Sequence[Command], effect: Effect, end: float, transaction: bool = False
    ) -> list[Any]:
        """Send a few commands about one key; return their replies."""
        unit = Unit(as_transaction(commands) if transaction else commands, effect)
        await run_exchange(self.pool, unit, end)
        return outcome_of_unit(unit.replies) if transaction else unit.replies

    async def run_each(self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float) -> list[Any]:
        """Send commands; return their replies."""
        replies: list[Any] = [None] * len(commands)
        if commands:
            await run_exchange(self.pool, Commands(commands, effect, replies), end)
        return replies

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect, end: float) -> list[list[Any]]:
        """Send commands to the server; return their replies as those of one of one."""
        replies = await self.run("", commands, effect, end)
        for reply in replies:
            if isinstance(reply, str):
                refuse(self.server, reply)
        return [replies]

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes, end: float
    ) -> list[Any]:
        """Store entries; return one reply each."""
        results: list[Any] = [None] * len(keys)
        await run_exchange(self.pool, Sets(keys, values, seconds, condition, results, None), end)
        return results

    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists."""
        return OnePart(self.read, keys, end) if 0 < len(keys) <= READ_CHUNK else self._read_parts(keys, end)

    async def read(self, keys: Sequence[str], end: float) -> list[bytes | None]:
        """Return the values of a few keys."""
        exchange = Values(keys)
        await run_exchange(self.pool, exchange, end)
        if exchange.refusal is not None:
            refuse(self.server, exchange.refusal)
        return exchange.values

    async def _read_parts(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        if not keys:
            return
        exchange = Values(keys)
        async with aclosing(FanOut(self.io, [(self.pool, exchange)], end)) as rounds:
            async for _ in rounds:
                if exchange.values:
                    yield exchange.take()
        if exchange.error is not None:
            raise exchange.error
        if exchange.refusal is not None:
            refuse(self.server, exchange.refusal)

    def scan(self, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys that match a pattern."""
        return scan_server(
            self.server, lambda commands, end: self.run("", commands, Effect.READ, end), pattern, count, ends
        )

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into those that may go into one command, at most ``limit`` each; return their positions."""
        return groups_of(keys, limit)

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        """Return the server of each key: the same one."""
        return bytes(len(keys))

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections."""
        return [self.pool.state()]

    async def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()


def groups_of(keys: Sequence[str], limit: int) -> Iterator[list[int]]:
    """Divide the positions of keys into groups of at most ``limit``."""
    for start in range(0, len(keys), limit):
        yield list(range(start, min(start + limit, len(keys))))


def as_transaction(commands: Sequence[Command]) -> list[Command]:
    """Return commands as one transaction (https://redis.io/docs/latest/develop/interact/transactions/)."""
    return [("MULTI",), *commands, ("EXEC",)]


def outcome_of_unit(replies: list[Any]) -> list[Any]:
    """Return the replies to the commands of a transaction, or the refusals.

    Where a server, or a proxy, does not know transactions or does not allow them, the commands have been executed one
    after the other, and have given their replies themselves.
    """
    begun, *queued, executed = replies
    if isinstance(executed, list):
        return executed
    if isinstance(begun, str):
        return queued
    # A command that cannot be queued says why in its own reply; EXEC then only says that it gave up.
    return [reply for reply in replies if isinstance(reply, str)]
