"""An engine over several servers: each key has one of them, which the ring tells.

All servers of a batch are written before any is read, as lanes (:mod:`.together`), and a server that does not answer
holds up nobody but those who ask it: those once, as it is out for a while then (:mod:`.health`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

from ..._speedups import hash_ring
from ...errors import BackendError
from ...types import KeepTTL, PoolState
from .._driving import Chunks, OnePart
from .exchange import UnreachableError
from .meta import READ_CHUNK, MetaEngine
from .node import Node
from .rings import Rings
from .together import Lane, Rounds
from .unwritten import Unwritten

__all__ = ["RingEngine"]

T = TypeVar("T")

# Values that are handed out at a time at least: each handing out has its price.
_WORTH = 100


class _Reading:
    """A batch that is being read.

    Args:
        owners: the server of each key, a byte each.
        keys: as many.
        servers: how many there are.

    Attributes:
        parts: the keys that each server is asked for.
        found: the values that it has given.
        errors: why it gives no more.
    """

    __slots__ = ("_collected", "_owners", "_position", "_taken", "errors", "found", "parts")

    def __init__(self, owners: bytes, keys: Sequence[str], servers: int) -> None:
        self.parts: list[list[str]] = hash_ring.partition(owners, keys, servers)
        self.found: list[list[bytes | None]] = [[] for _ in self.parts]
        self.errors: dict[int, BackendError] = {}
        self._owners = owners
        self._position = 0
        self._taken = [0] * servers
        self._collected: list[bytes | None] = []

    def collect(self) -> int:
        """Put values in the order of the batch, up to the first that is missing. Return how many are to be taken."""
        self._position = hash_ring.reassemble(self._owners, self._position, self.found, self._taken, self._collected)
        return len(self._collected)

    def take(self) -> list[bytes | None]:
        """Give the values that have come and were not given yet."""
        self.collect()
        collected, self._collected = self._collected, []
        return collected


class RingEngine:
    """The operations of a backend on several servers.

    Args:
        rings: shared among the engines of a backend.
        pools: connections to each of the servers.
        rounds: run lanes over those connections.
        timeout: of the connections, in seconds.
    """

    def __init__(self, rings: Rings, pools: Sequence[Any], rounds: type[Rounds], timeout: float) -> None:
        self._rings = rings
        self._pools = pools
        self._rounds = rounds
        self._nodes = [Node(pool, health, timeout) for pool, health in zip(pools, rings.health, strict=True)]
        self.server = "memcached at " + ", ".join(pool.server.removeprefix("memcached at ") for pool in pools)

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        """Return the entry's value, or ``None``."""
        return await self._read_one(key, lambda engine: engine.get(key), None)

    async def has(self, key: str) -> bool:
        """Return whether there is such an entry."""
        return await self._read_one(key, lambda engine: engine.has(key), False)

    async def ttl(self, key: str) -> int | None:
        """Return the seconds that the entry has left, 0 for ever, ``None`` without an entry."""
        return await self._read_one(key, lambda engine: engine.ttl(key), None)

    async def touch(self, key: str, seconds: int) -> bool:
        """Give the entry a new lifetime. Return whether there is one."""
        return await self._one(key, lambda engine: engine.touch(key, seconds), write=True)

    async def count(self, key: str, delta: int, seconds: int) -> int:
        """Add to a counter; a new one starts from 0 and lives for ``seconds``."""
        return await self._one(key, lambda engine: engine.count(key, delta, seconds), write=True)

    # -- batches ---------------------------------------------------------------------------------

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, as the servers give them."""
        return OnePart(self._read, keys) if 0 < len(keys) <= READ_CHUNK else self._read_parts(keys)

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read keys that each server is asked for at once."""
        reading = _Reading(self._rings.current().owners(keys), keys, len(self._nodes))
        await self._run(self._lanes_of(reading))
        await self._complete(reading)
        return reading.take()

    async def _read_parts(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        reading = _Reading(self._rings.current().owners(keys), keys, len(self._nodes))
        async with aclosing(self._rounds(self._lanes_of(reading))) as rounds:
            async for _ in rounds:
                if reading.collect() >= _WORTH:
                    yield reading.take()
        await self._complete(reading)
        if reading.collect():
            yield reading.take()

    def _lanes_of(self, reading: _Reading) -> list[Lane]:
        return [self._read_lane(reading, server) for server, part in enumerate(reading.parts) if part]

    async def _read_lane(self, reading: _Reading, server: int) -> None:
        part, found = reading.parts[server], reading.found[server]
        try:
            await self._nodes[server].run(MetaEngine.read_into, part, found)
        except BackendError as error:
            reading.errors[server] = error
            if self._rings.policy == "miss" and self._rings.passes_over(error):
                found += [None] * (len(part) - len(found))

    async def _complete(self, reading: _Reading) -> None:
        """Find what servers that have failed did not give."""
        for server, error in reading.errors.items():
            left = reading.parts[server][len(reading.found[server]) :]
            if left:
                reading.found[server] += await self._elsewhere(left, error)

    async def _elsewhere(self, keys: Sequence[str], error: BackendError) -> list[bytes | None]:
        """Read what a server that has failed does not give: from the rest of the ring, if it is ejected."""
        if not self._rings.passes_over(error):
            raise error

        async def read(engine: MetaEngine, part: list[int]) -> list[bytes | None]:
            values: list[bytes | None] = []
            await engine.read_into([keys[i] for i in part], values)
            return values

        return self._misses(await self._each(keys, read, False))

    async def read_cas(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]:
        """Return the value and the version of each entry, ``None`` without one.

        Each server counts versions for itself, so that ours say whose they are.
        """
        servers = len(self._nodes)

        async def read(engine: MetaEngine, part: list[int]) -> list[Any]:
            of = next(place for place, node in enumerate(self._nodes) if node.engine is engine)
            entries = await engine.read_cas([keys[i] for i in part])
            return [entry and (entry[0], entry[1] * servers + of) for entry in entries]

        return self._misses(await self._each(keys, read, False))

    def _misses(self, results: list[Any]) -> list[Any]:
        """Give the results of a read, with misses where a server has failed."""
        for i, result in enumerate(results):
            if isinstance(result, Unwritten):
                if not self._rings.passes_over(result.error):
                    raise result.error
                results[i] = None
        return results

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes
    ) -> list[bool | str]:
        """Store entries. Return for each ``True``, ``False`` (condition not met) or why it was not stored."""

        def work(engine: MetaEngine, part: list[int]) -> Awaitable[list[bool | str]]:
            return engine.write([keys[i] for i in part], [values[i] for i in part], seconds, mode)

        return await self._each(keys, work, True)

    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL
    ) -> list[bool | str]:
        """Store each entry if its version is still that of the token. Return as :meth:`write` does."""
        servers = len(self._nodes)

        async def work(engine: MetaEngine, part: list[int]) -> list[bool | str]:
            statuses: list[bool | str] = [False] * len(part)
            # The version of another server says nothing of what this one has.
            own = [n for n, i in enumerate(part) if self._nodes[tokens[i] % servers].engine is engine]
            if own:
                at = [part[n] for n in own]
                swapped = await engine.swap(
                    [keys[i] for i in at], [values[i] for i in at], [tokens[i] // servers for i in at], seconds
                )
                for n, status in zip(own, swapped, strict=True):
                    statuses[n] = status
            return statuses

        return await self._each(keys, work, True)

    async def touch_many(self, keys: Sequence[str], seconds: int) -> list[bool | str]:
        """Give entries a new lifetime. Return for each whether there is one, or why that is not known."""

        def work(engine: MetaEngine, part: list[int]) -> Awaitable[list[bool | str]]:
            return engine.touch_many([keys[i] for i in part], seconds)

        return await self._each(keys, work, True)

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete entries. Return how many there were.

        Raises:
            BackendError: a server failed; what the others have is deleted.
        """

        async def work(engine: MetaEngine, part: list[int]) -> list[int]:
            # One sum for all that are asked together.
            return [await engine.delete([keys[i] for i in part])] + [0] * (len(part) - 1)

        counts: list[Any] = await self._each(keys, work, True)
        failed = [count for count in counts if isinstance(count, Unwritten)]
        if failed:
            error = failed[0].error
            error.maybe_applied = error.maybe_applied or len(failed) < len(counts)
            raise error
        return sum(counts)

    # -- the servers -----------------------------------------------------------------------------

    async def clear(self) -> None:
        """Drop every entry of all servers.

        Raises:
            BackendError: a server failed; the others are empty.
        """
        self._raise_all((await self._all(lambda engine: engine.clear()))[1])

    async def ping(self) -> bool:
        """Return whether all servers answer; the error names one that does not."""
        self._raise_all((await self._all(lambda engine: engine.ping()))[1])
        return True

    async def stats(self) -> dict[bytes, bytes]:
        """Return the sums of the figures of all servers that answer."""
        found, errors = await self._all(lambda engine: engine.stats())
        if self._rings.policy == "raise" or not found:
            self._raise_all(errors)
        sums: dict[bytes, int] = {}
        for figures in found:
            for name, figure in figures.items():
                if figure.isdigit():
                    sums[name] = sums.get(name, 0) + int(figure)
        return {name: b"%d" % figure for name, figure in sums.items()}

    def pools(self) -> list[PoolState]:
        """Return how the connections to each server are used."""
        return [pool.state() for pool in self._pools]

    async def close(self) -> None:
        """Close the idle connections to all servers."""
        for pool in self._pools:
            await pool.close()

    # -- how -------------------------------------------------------------------------------------

    async def _read_one(self, key: str, work: Callable[[MetaEngine], Awaitable[T]], miss: T) -> T:
        try:
            return await self._one(key, work, write=False)
        except BackendError as error:
            if not self._rings.passes_over(error):
                raise
            return miss

    async def _one(self, key: str, work: Callable[[MetaEngine], Awaitable[T]], write: bool) -> T:
        async def alone(engine: MetaEngine, part: list[int]) -> list[T]:
            return [await work(engine)]

        (result,) = await self._each([key], alone, write)
        if isinstance(result, Unwritten):
            raise result.error
        return cast("T", result)

    async def _each(
        self, keys: Sequence[str], work: Callable[[MetaEngine, list[int]], Awaitable[list[Any]]], write: bool
    ) -> list[Any]:
        """Have each server do its part of a batch.

        Args:
            keys: of the whole batch.
            work: does a part, given as places in ``keys``, and gives a result for each.
            write: whether doing it twice makes a difference.

        Returns:
            The results in the order of the keys; :class:`Unwritten` for those whose server failed.
        """
        results: list[Any] = [None] * len(keys)
        left = list(range(len(keys)))
        for _ in self._nodes:
            owners = self._rings.current().owners([keys[i] for i in left])
            parts = hash_ring.partition(owners, left, len(self._nodes))
            failed: list[int] = []

            async def lane(server: int, part: list[int], failed: list[int] = failed) -> None:
                try:
                    done = await self._nodes[server].run(work, part)
                except BackendError as error:
                    # A failure is told of each key; a refusal of one key is no failure of its server.
                    reason = Unwritten(error)
                    for i in part:
                        results[i] = reason
                    if isinstance(error, UnreachableError) and not (write and error.maybe_applied):
                        failed += part
                else:
                    for i, result in zip(part, done, strict=True):
                        results[i] = result

            await self._run([lane(server, part) for server, part in enumerate(parts) if part])
            if self._rings.policy != "eject" or not failed or all(health.out for health in self._rings.health):
                break
            left = failed
        return results

    async def _all(self, work: Callable[[MetaEngine], Awaitable[T]]) -> tuple[list[T], list[BackendError]]:
        """Do something on all servers; give what came of it, and the errors."""
        found: list[T] = []
        errors: list[BackendError] = []

        async def lane(node: Node) -> None:
            try:
                found.append(await node.run(work))
            except BackendError as error:
                errors.append(error)

        await self._run([lane(node) for node in self._nodes])
        return found, errors

    async def _run(self, lanes: Sequence[Lane]) -> None:
        async with aclosing(self._rounds(lanes)) as rounds:
            async for _ in rounds:
                pass

    @staticmethod
    def _raise_all(errors: Sequence[BackendError]) -> None:
        if len(errors) == 1:
            raise errors[0]
        if errors:
            text = "; ".join(str(error.args[0]) for error in errors)
            raise BackendError(text, maybe_applied=any(error.maybe_applied for error in errors)) from errors[0]
