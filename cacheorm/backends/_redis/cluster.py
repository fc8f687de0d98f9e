"""Redis Cluster: a batch goes to the nodes that serve its keys, and follows them where they have gone.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/

===============================  ==================================================================================
a node replies                   then the request
===============================  ==================================================================================
``MOVED``                        goes to the node that is named; the map is corrected, and learnt anew when much moves
``ASK``                          goes to the node that is named, after ``ASKING``, this once
``TRYAGAIN``                     is repeated after a pause: its keys are half here, half there
``CLUSTERDOWN``, ``READONLY``    is repeated after a pause, by a map that is learnt anew
nothing: the connection is lost  likewise, unless it may have been executed and must not be executed twice
nothing in time                  fails: the time is used up
===============================  ==================================================================================

Only those requests are sent again. Each follows at most 5 redirections.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from ..._speedups import wire
from ...errors import BackendError
from ...types import PoolState
from .._net.batch import Batch
from .._net.exchange import may_repeat
from .._net.fanout import FanOut
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks, OnePart
from .._net.transport import Effect, LeftAloneError, UnreachableError
from .cluster_scan import scan_cluster
from .exchanges import DUE, READ_CHUNK, Command, Commands, Gets, Sets, Unit, set_options
from .jobs import Job, Part, Stray, Units, is_redirection, ready_until
from .nodes import Nodes
from .pauses import Pauses
from .refusals import Unanswered, error_of, refuse
from .single import as_transaction, outcome_of_unit
from .slots import Address, SlotMap

__all__ = ["Cluster"]

_REDIRECTS = 5
# So many are followed without a pause.
_QUICK_REDIRECTS = 2
# A node from which more slots than this have gone has probably lost others too.
_MANY_MOVES = 16
_NAMED = 5
# Values that are handed out at a time at least: each handing out has its price.
_WORTH = 100


class Cluster:
    """A :class:`~.topology.Topology` of a cluster.

    Args:
        nodes: what is known of it.
        missed: called with the reason where values of a node that failed count as missing. Then entries that it did
            not store are refusals of their own. ``None``: a node that fails is an error of the whole batch.
    """

    def __init__(self, nodes: Nodes, missed: Callable[[BackendError], None] | None = None) -> None:
        self.server = nodes.server
        self._nodes = nodes
        self._missed = missed

    async def run(
        self, key: str, commands: Sequence[Command], effect: Effect, end: float, transaction: bool = False
    ) -> list[Any]:
        """Send a few commands about one key; return their replies."""
        unit = as_transaction(commands) if transaction else commands
        results: list[Any] = [DUE]

        def make(positions: list[int]) -> Batch:
            return Units([unit], effect, results, positions, False, False)

        await self._finish(Job([key], effect, results, make, lambda _: unit, False), end)
        replies: list[Any] = results[0]
        return outcome_of_unit(replies) if transaction else replies

    async def run_each(self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float) -> list[Any]:
        """Send commands, each about one of as many keys; return their replies."""
        results: list[Any] = [DUE] * len(keys)

        def make(positions: list[int]) -> Batch:
            return Commands([commands[i] for i in positions], effect, results, positions)

        await self._finish(Job(keys, effect, results, make, lambda i: (commands[i],)), end)
        return results

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect, end: float) -> list[list[Any]]:
        """Send commands to each primary; return the replies of each."""
        start = time.monotonic()
        pauses = Pauses(self._nodes.io, end)
        while True:
            slots = await self._nodes.slots(end)
            parts = [(self._nodes.pool(address), Unit(commands, effect)) for address in slots.addresses]
            await FanOut(self._nodes.io, parts, end).run()
            failed = [(pool, exchange.error) for pool, exchange in parts if exchange.error is not None]
            if not failed:
                break
            for _, error in failed:
                left_alone = isinstance(error, LeftAloneError) and error.since < start
                if left_alone or not isinstance(error, UnreachableError) or not may_repeat(effect, error.maybe_applied):
                    raise error
            with suppress(BackendError):
                await self._nodes.relearn(slots, (), end)
            if not await pauses.next():
                raise failed[0][1]
        for _, unit in parts:
            for reply in unit.replies:
                if isinstance(reply, str):
                    refuse(self.server, reply)
        return [unit.replies for _, unit in parts]

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes, end: float
    ) -> list[Any]:
        """Store entries; return one reply each."""
        results: list[Any] = [DUE] * len(keys)
        effect = Effect.STEP if condition == b"NX" else Effect.SAME

        def make(positions: list[int]) -> Batch:
            return Sets(keys, values, seconds, condition, results, positions)

        def unit(i: int) -> Sequence[Command]:
            return (("SET", keys[i], values[i], *set_options(seconds, condition)),)

        apart = self._missed is not None and effect is not Effect.STEP
        await self._finish(Job(keys, effect, results, make, unit, apart=apart), end)
        return results

    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists."""
        return OnePart(self._read, keys, end) if 0 < len(keys) <= 2 * READ_CHUNK else self._read_parts(keys, end)

    def _reads(self, keys: Sequence[str]) -> Job:
        results: list[Any] = [DUE] * len(keys)

        def make(positions: list[int]) -> Batch:
            return Gets(keys, results, positions)

        unit = lambda i: (("GET", keys[i]),)  # noqa: E731
        return Job(keys, Effect.READ, results, make, unit, apart=self._missed is not None)

    async def _read(self, keys: Sequence[str], end: float) -> list[bytes | None]:
        job = self._reads(keys)
        await self._finish(job, end)
        return self._values(job, 0, len(keys))

    async def _read_parts(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        start = time.monotonic()
        job = self._reads(keys)
        results, done = job.results, 0
        parts = self._parts((await self._nodes.slots(end)).route(keys, 0, len(keys)), job.make)
        fan_out = FanOut(self._nodes.io, [(part.pool, part.exchange) for part in parts], end)
        async with aclosing(fan_out) as rounds:
            async for _ in rounds:
                stop = ready_until(results, done)
                if stop - done >= _WORTH:
                    first, done = done, stop
                    yield self._values(job, first, stop)
                    results[first:stop] = [None] * (stop - first)
        await self._settle(job, parts, start, end)
        if done < len(keys):
            yield self._values(job, done, len(keys))

    def _values(self, job: Job, start: int, stop: int) -> list[bytes | None]:
        """Return values; an entry that is no string counts as absent, as it does for ``MGET``."""
        values = job.results[start:stop]
        if not {str, Unanswered}.isdisjoint(map(type, values)):
            for i, value in enumerate(values):
                if isinstance(value, str):
                    if not isinstance(value, Unanswered) and not value.startswith("WRONGTYPE"):
                        refuse(f"{self.server}, key {job.keys[start + i]}", value)
                    values[i] = None
        return values

    def scan(self, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys of all primaries that match a pattern."""
        return scan_cluster(self._nodes, pattern, count, ends)

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys by slot, into parts of at most ``limit``; return their positions."""
        by_slot: dict[int, list[int]] = {}
        for position, slot in enumerate(wire.key_slots(keys)):
            by_slot.setdefault(slot, []).append(position)
        for group in by_slot.values():
            for start in range(0, len(group), limit):
                yield group[start : start + limit]

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        """Return the node of each key, as far as it is known."""
        return self._nodes.owners(keys)

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to each node."""
        return self._nodes.pools()

    async def close(self) -> None:
        """Close the idle connections."""
        await self._nodes.close()

    # -- how -------------------------------------------------------------------------------------

    async def _finish(self, job: Job, end: float) -> None:
        """Carry out a job to its end."""
        start = time.monotonic()
        slots = await self._nodes.slots(end)
        parts = self._parts(slots.route(job.keys, 0, len(job.keys)), job.make)
        await self._run(parts, end)
        await self._settle(job, parts, start, end)

    def _parts(
        self, routed: Iterable[tuple[Address | None, list[int]]], make: Callable[[list[int]], Batch]
    ) -> list[Part]:
        """Return the exchange with each node."""
        return [
            Part(address, part, self._nodes.pool(address), make(part))
            for address, part in routed
            if address is not None
        ]

    async def _run(self, parts: Sequence[Part], end: float) -> None:
        await FanOut(self._nodes.io, [(part.pool, part.exchange) for part in parts], end).run()

    async def _settle(self, job: Job, parts: list[Any], start: float, end: float) -> None:
        """Send requests again until all have their replies.

        Args:
            job: the requests.
            parts: how they were sent first.
            start: when the operation began: nodes that were found to be down before are not waited for.
            end: when to give up.

        Raises:
            BackendError: some must not be sent again, were redirected too often, or nobody has answered in time.
        """
        pauses = Pauses(self._nodes.io, end)
        redirects: Counter[int] = Counter()
        failed: set[Address | None] = set()
        reasons: dict[int, Stray] = {}
        while strays := self._strays(job, parts):
            self._refuse_to_repeat(job, strays)
            redirects.update(i for i, stray in strays.items() if stray.words.startswith(("ASK ", "MOVED ")))
            lost = {i: stray for i, stray in strays.items() if redirects[i] > _REDIRECTS}
            if lost:
                self._give_up(job, lost, self._failure(job, lost, f"redirected more than {_REDIRECTS} times"))
                strays = {i: stray for i, stray in strays.items() if i not in lost}
            failed.update(s.address for s in strays.values() if s.error is not None and not s.left_alone(start))
            # That the time was up at last says less than why it was needed.
            reasons |= {i: stray for i, stray in strays.items() if i not in reasons or not stray.timed_out}
            slots = await self._correct(job, strays, end)
            asked: dict[Address | None, list[int]] = {}
            again: dict[Address | None, list[int]] = {}
            stuck: dict[int, Stray] = {}
            for i, stray in strays.items():
                job.results[i] = DUE
                if stray.words.startswith("ASK "):
                    asked.setdefault(self._target(stray), []).append(i)
                    continue
                owner = slots.owner(job.keys[i])
                again.setdefault(owner, []).append(i)
                # Nodes that have heard different things may send a request to and fro.
                if owner in (stray.address, None) or redirects[i] > _QUICK_REDIRECTS:
                    stuck[i] = stray
            final = {i: stray for i, stray in stuck.items() if stray.left_alone(start) and stray.address not in failed}
            if stuck and (final or not await pauses.next()):
                lost = final or stuck
                error = self._failure(job, lost, "no answer in time", reasons[next(iter(lost))])
                self._give_up(job, lost, error)
                kept = {owner: [i for i in part if i not in lost] for owner, part in again.items()}
                again = {owner: part for owner, part in kept.items() if part}
            parts = [*self._parts(again.items(), job.make), *self._parts(asked.items(), job.asking)]
            await self._run(parts, end)

    def _strays(self, job: Job, parts: Sequence[Part]) -> dict[int, Stray]:
        """Return the requests that have no reply, or a redirection in place of one."""
        results = job.results
        strays: dict[int, Stray] = {}
        for address, _, _, exchange in parts:
            error = exchange.error
            if error is None:
                continue
            if not isinstance(error, UnreachableError) and not isinstance(error.__cause__, OSError):
                raise error  # all connections in use, a wrong password: no other node helps
            unsent = set(exchange.unsent())
            for i in exchange.unanswered():
                strays[i] = Stray("", error, address, error.maybe_applied and i not in unsent)
        if not {str, object}.isdisjoint(map(type, results)):
            addresses = {i: part.address for part in parts for i in part.positions}
            for i, reply in enumerate(results):
                if reply is DUE and i not in strays:
                    strays[i] = Stray("CLUSTERDOWN no node serves its slot", None, None, False)
                elif is_redirection(reply):
                    strays[i] = Stray(reply, None, addresses.get(i), False)
        return strays

    async def _correct(self, job: Job, strays: Mapping[int, Stray], end: float) -> SlotMap:
        """Bring the map up to date with what strays tell, and return it."""
        slots = await self._nodes.slots(end)
        moved = [(i, stray) for i, stray in strays.items() if stray.words.startswith("MOVED ")]
        targets = [self._target(stray) for _, stray in moved]
        places = wire.key_slots([job.keys[i] for i, _ in moved])
        moves = dict(zip(places, targets, strict=True))
        others = [stray for stray in strays.values() if not stray.words.startswith(("MOVED ", "ASK ", "TRYAGAIN"))]
        if moves:
            self._nodes.move(moves)
        if others or len(moves) > _MANY_MOVES or not {*targets} <= {*slots.addresses}:
            seen = slots if not moves else await self._nodes.slots(end)
            suspects = [stray.address for stray in others if stray.address is not None]
            # Nobody may be reachable now; there may be time to try again.
            with suppress(BackendError):
                await self._nodes.relearn(seen, suspects, end, only=all(stray.left_alone(math.inf) for stray in others))
        return await self._nodes.slots(end)

    def _target(self, stray: Stray) -> Address:
        error: Any = error_of(stray.words)
        return self._nodes.reached_at(error.host, error.port, stray.address)

    def _give_up(self, job: Job, strays: Mapping[int, Stray], error: BackendError) -> None:
        """Raise the error of requests without a reply, or note it in their places."""
        if not job.apart:
            raise error
        for i, stray in strays.items():
            job.results[i] = Unanswered(error, stray.sent)
        if job.effect is Effect.READ and self._missed is not None:
            self._missed(error)

    def _refuse_to_repeat(self, job: Job, strays: Mapping[int, Stray]) -> None:
        lost = {i: stray for i, stray in strays.items() if not may_repeat(job.effect, stray.sent)}
        if lost:
            raise self._failure(job, {**strays, **lost}, "no answer", next(iter(lost.values())))

    def _failure(self, job: Job, strays: Mapping[int, Stray], what: str, shown: Stray | None = None) -> BackendError:
        cause = (shown or next(iter(strays.values()))).cause
        maybe_applied = job.effect is not Effect.READ and (
            any(stray.sent for stray in strays.values())
            or any(result is not DUE and i not in strays for i, result in enumerate(job.results))
        )
        names = ", ".join(job.keys[i] for i in list(strays)[:_NAMED])
        if len(strays) > _NAMED:
            names += f" and {len(strays) - _NAMED} more"
        label = "key" if len(strays) == 1 else "keys"
        error = BackendError(f"{self.server}: {what}, {label} {names}: {cause}", maybe_applied=maybe_applied)
        error.__cause__ = cause
        return error
