"""Redis Cluster: a batch goes to the nodes that serve its keys, and follows them where they have gone.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

===============================  ==================================================================================
a node answers                   then the request
===============================  ==================================================================================
``MOVED``                        goes to the node that is named; the map is corrected, and learnt anew when much moves
``ASK``                          goes to the node that is named after ``ASKING``, this once
``TRYAGAIN``                     is repeated after a pause: its keys are half here, half there
``CLUSTERDOWN``, ``READONLY``    is repeated after a pause, by a map that is learnt anew
nothing: the connection is lost  likewise, unless it is a write that may have been run and must not be run twice
===============================  ==================================================================================

Only those requests are sent again. Each follows at most 5 redirections, and an operation waits at most
``socket_timeout`` seconds for nodes to agree.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from redis.exceptions import (
    AskError,
    MovedError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState
from .._driving import Chunks, OnePart
from .flight import Flight
from .jobs import DUE, READ_CHUNK, Asked, Job, Reads, Stray, Units, Writes
from .server import as_replies
from .slots import Address, SlotMap
from .topology import Topology
from .transport import Command, Effect

__all__ = ["Cluster"]

_REDIRECTS = 5
# So many are followed without a pause.
_QUICK_REDIRECTS = 2
# Chunks under way at a time: a first one tells how large values are, or where the map is wrong.
_FIRST_AHEAD = 2
_AHEAD = 3
# A node from which more slots than this have gone has probably lost others too.
_MANY_MOVES = 16
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
_NAMED = 5


class Cluster:
    """A :class:`~.transport.Transport` to a cluster.

    Args:
        topology: what is known of it.
    """

    def __init__(self, topology: Topology) -> None:
        self.server = topology.server
        self._topology = topology
        self._readers: list[wire.RespReader] = []

    async def run(self, key: str, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and give their replies."""
        job = Units([key], [commands], effect, transaction and len(commands) > 1)
        await self._finish(job)
        return list(job.results[0])

    async def run_each(self, requests: Sequence[tuple[str, Command]], effect: Effect) -> list[Any]:
        """Send commands, never far ahead of their replies, and give those."""
        job = Units([key for key, _ in requests], [(command,) for _, command in requests], effect)
        await self._finish(job)
        return [replies[0] for replies in job.results]

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect) -> list[list[Any]]:
        """Send commands to each primary; give the replies of each."""
        waiting = _Waiting(self._topology)
        while True:
            slots = await self._topology.slots()
            names = [f"of {host}:{port}" for host, port in slots.addresses]
            job = Units(names, [commands] * len(names), effect)
            await self._send(job, job, {address: [i] for i, address in enumerate(slots.addresses)})
            if not job.strays:
                return [as_replies(self.server, replies) for replies in job.results]
            self._refuse_to_repeat(job, job.strays)
            await self._learn(slots, job.strays.values())
            if not await waiting.pause():
                raise self._failure(job, job.strays, f"no answer for {self._topology.patience:g} s")

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys by slot, into parts of at most ``limit``."""
        by_slot: dict[int, list[int]] = {}
        for position, slot in enumerate(wire.key_slots(keys)):
            by_slot.setdefault(slot, []).append(position)
        for group in by_slot.values():
            for start in range(0, len(group), limit):
                yield group[start : start + limit]

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes
    ) -> list[bytes | Exception | None]:
        """Store entries and give one reply each."""
        job = Writes(keys, values, seconds, condition)
        await self._finish(job)
        return job.results

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the servers make the next."""
        return OnePart(self._read, keys) if 0 < len(keys) <= READ_CHUNK else self._read_parts(keys)

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        job = Reads(keys)
        await self._finish(job)
        return job.results

    async def _read_parts(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        job = Reads(keys)
        async with aclosing(self._run(job)) as chunks:
            async for start, stop in chunks:
                yield job.take(start, stop)

    def pools(self) -> list[PoolState]:
        """Return how the connections to each node are used."""
        return self._topology.pools()

    async def close(self) -> None:
        """Close the connections."""
        await self._topology.close()

    # -- how -------------------------------------------------------------------------------------

    async def _finish(self, job: Job) -> None:
        """Run a job whose results are wanted once all are there; otherwise as :meth:`_run`."""
        count = len(job.keys)
        position = 0
        sent: deque[tuple[int, int]] = deque()
        while position < count:
            async with Flight(self._topology, self._readers) as flight:
                position = await self._fill(flight, job, sent, position, _FIRST_AHEAD)
                while flight.ahead:
                    await flight.receive(job)
                    position = await self._fill(flight, job, sent, position, _AHEAD)
            await self._settle(job)

    async def _run(self, job: Job) -> AsyncGenerator[tuple[int, int], None]:
        """Run a job in the order of its keys, chunk after chunk; yield where each begins and ends when it is done.

        A redirection ends the flight: the replies that are due are read, the strays are settled over connections that
        are taken for that, and the next flight goes by the map that has been corrected.
        """
        count = len(job.keys)
        position = 0
        sent: deque[tuple[int, int]] = deque()
        while position < count:
            async with Flight(self._topology, self._readers) as flight:
                position = await self._fill(flight, job, sent, position, _FIRST_AHEAD)
                while sent and not job.strays:
                    await flight.receive(job)
                    if job.strays:
                        break
                    done = sent.popleft()
                    # Before it is handed out: the servers work while the caller does.
                    position = await self._fill(flight, job, sent, position, _AHEAD)
                    if not sent:
                        await flight.close()
                    yield done
                while flight.ahead:
                    await flight.receive(job)
            await self._settle(job)
            while sent:
                yield sent.popleft()

    async def _fill(self, flight: Flight, job: Job, sent: deque[tuple[int, int]], position: int, ahead: int) -> int:
        """Send chunks until so many are under way; give where the next one begins."""
        count = len(job.keys)
        while position < count and flight.ahead < ahead and not job.strays:
            stop = position + job.portion(range(position, count))
            parts = (await self._topology.slots()).route(job.keys, position, stop)
            if not await flight.open(address for address, _ in parts):
                break
            await flight.send(job, parts)
            sent.append((position, stop))
            position = stop
        return position

    async def _settle(self, job: Job) -> None:
        """Send requests again until all have their replies.

        Raises:
            BackendError: some must not be sent again, were redirected too often, or nobody has answered for too long.
        """
        waiting = _Waiting(self._topology)
        redirects: Counter[int] = Counter()
        while job.strays:
            strays, job.strays = job.strays, {}
            self._refuse_to_repeat(job, strays)
            redirected = {i: stray for i, stray in strays.items() if isinstance(stray.error, AskError)}
            redirects.update(redirected.keys())
            lost = {i: redirected[i] for i in redirected if redirects[i] > _REDIRECTS}
            if lost:
                raise self._failure(job, lost, f"redirected more than {_REDIRECTS} times")
            slots = await self._correct(job, strays)
            asked: dict[Address | None, list[int]] = {}
            again: dict[Address | None, list[int]] = {}
            stuck: dict[int, Stray] = {}
            for i, stray in strays.items():
                if isinstance(stray.error, AskError) and not isinstance(stray.error, MovedError):
                    asked.setdefault(self._target(stray), []).append(i)
                    continue
                owner = slots.owner(job.keys[i])
                again.setdefault(owner, []).append(i)
                # Nodes that have heard different things may send a request to and fro.
                if owner in (stray.address, None) or redirects[i] > _QUICK_REDIRECTS:
                    stuck[i] = stray
            await self._wait(job, stuck, waiting)
            await self._send(job, job, again)
            await self._send(job, Asked(job), asked)

    async def _send(self, job: Job, sender: Job | Asked, parts: Mapping[Address | None, list[int]]) -> None:
        """Send requests to nodes that have been chosen, and read the replies."""
        left = {address: positions for address, positions in parts.items() if positions}
        if not left:
            return
        async with Flight(self._topology, self._readers) as flight:
            await flight.open(left)
            while left or flight.ahead:
                if not left or flight.ahead == _FIRST_AHEAD:
                    await flight.receive(sender)
                    continue
                chunk: list[tuple[Address | None, list[int]]] = []
                for address, positions in [*left.items()]:
                    size = sender.portion(positions)
                    chunk.append((address, positions[:size]))
                    left[address] = positions[size:]
                    if not left[address]:
                        del left[address]
                await flight.send(sender, chunk)

    async def _correct(self, job: Job, strays: Mapping[int, Stray]) -> SlotMap:
        """Bring the map up to date with what strays tell, and give it."""
        slots = await self._topology.slots()
        moved = [(i, stray) for i, stray in strays.items() if isinstance(stray.error, MovedError)]
        targets = [self._target(stray) for _, stray in moved]
        places = wire.key_slots([job.keys[i] for i, _ in moved])
        moves = dict(zip(places, targets, strict=True))
        others = [stray for stray in strays.values() if not isinstance(stray.error, (AskError, TryAgainError))]
        if moves:
            self._topology.move(moves)
        if others or len(moves) > _MANY_MOVES or not {*targets} <= {*slots.addresses}:
            await self._learn(slots if not moves else await self._topology.slots(), others)
        return await self._topology.slots()

    async def _learn(self, seen: SlotMap, strays: Any) -> None:
        # Nobody may be reachable now; there is time until the patience is at its end.
        with suppress(BackendError):
            await self._topology.relearn(seen, [stray.address for stray in strays if stray.address is not None])

    async def _wait(self, job: Job, stuck: Mapping[int, Stray], waiting: _Waiting) -> None:
        """Pause before those are asked once more who have just failed."""
        silent = {i: stray for i, stray in stuck.items() if isinstance(stray.error, RedisTimeoutError)}
        if silent:
            raise self._failure(job, silent, "no answer in time")
        if stuck and not await waiting.pause():
            raise self._failure(job, stuck, f"no answer for {self._topology.patience:g} s")

    def _target(self, stray: Stray) -> Address:
        error: Any = stray.error
        return self._topology.reached_at(error.host, error.port, stray.address)

    def _refuse_to_repeat(self, job: Job, strays: Mapping[int, Stray]) -> None:
        if job.effect is Effect.STEP:
            lost = {i: stray for i, stray in strays.items() if stray.sent}
            if lost:
                raise self._failure(job, {**strays, **lost}, "no answer", next(iter(lost.values())))

    def _failure(self, job: Job, strays: Mapping[int, Stray], what: str, shown: Stray | None = None) -> BackendError:
        error = (shown or next(iter(strays.values()))).error
        maybe_applied = job.effect is not Effect.READ and (
            any(stray.sent for stray in strays.values()) or any(result is not DUE for result in job.results)
        )
        names = ", ".join(job.keys[i] for i in list(strays)[:_NAMED])
        if len(strays) > _NAMED:
            names += f" and {len(strays) - _NAMED} more"
        label = "key" if len(strays) == 1 else "keys"
        message = BackendError(f"{self.server}: {what}, {label} {names}: {error}", maybe_applied=maybe_applied)
        message.__cause__ = error
        return message


class _Waiting:
    """The pauses of one operation: longer and longer ones, until its patience is at an end."""

    def __init__(self, topology: Topology) -> None:
        self._sleep = topology.sleep
        self._end = time.monotonic() + topology.patience
        self._next = 0.0

    async def pause(self) -> bool:
        """Wait for a while; tell whether there was time for that. The first pause is none."""
        left = self._end - time.monotonic()
        if left <= 0:
            return False
        pause, self._next = self._next, min(max(2 * self._next, _FIRST_PAUSE), _LONGEST_PAUSE)
        if pause:
            await self._sleep(min(pause, left))
        return True
