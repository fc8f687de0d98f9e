"""What is asked of a Redis Cluster: a batch, its part for each node, and what becomes of requests without a reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..._speedups import wire
from ...errors import BackendError
from .._net.batch import Batch
from .._net.pool import Pool
from .._net.transport import Effect, LeftAloneError
from .exchanges import DUE, Command, Replies
from .refusals import error_of
from .slots import Address

__all__ = ["Job", "Part", "Stray", "Units", "is_redirection", "ready_until"]

_REDIRECTIONS = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY")

# Bytes of requests of several commands that are sent at once.
_UNIT_BYTES = 1 << 20


class Stray(NamedTuple):
    """Why a request has no reply.

    Attributes:
        words: the redirection; empty if the connection failed.
        error: how the connection failed.
        address: of the node that was asked; ``None`` if no node serves the key.
        sent: whether it may have been executed all the same.
    """

    words: str
    error: BackendError | None
    address: Address | None
    sent: bool

    def left_alone(self, start: float) -> bool:
        """Return whether the node was not asked, because it did not reply to operations that began before ``start``."""
        return isinstance(self.error, LeftAloneError) and self.error.since < start

    @property
    def timed_out(self) -> bool:
        """Whether nothing came in time."""
        return self.error is not None and isinstance(self.error.__cause__, TimeoutError)

    @property
    def cause(self) -> BaseException:
        """What to tell of it."""
        return (self.error.__cause__ or self.error) if self.error is not None else error_of(self.words)


class Part(NamedTuple):
    """The exchange with one node.

    Attributes:
        address: of the node.
        positions: the requests.
        pool: connections to the node.
        exchange: the exchange.
    """

    address: Address
    positions: list[int]
    pool: Pool
    exchange: Batch


class Job(NamedTuple):
    """A batch.

    Attributes:
        keys: one for each request.
        effect: of repeating a request.
        results: of the requests; :data:`.exchanges.DUE` until there is one.
        make: returns the exchange with one node, given the positions of its requests.
        unit: returns the commands of one request, given its position.
        alone: whether a request is one command, whose reply is the result.
        apart: whether a request without a reply is a failure by itself (:class:`~.refusals.Unanswered`), and not of
            the whole batch.
    """

    keys: Sequence[str]
    effect: Effect
    results: list[Any]
    make: Callable[[list[int]], Batch]
    unit: Callable[[int], Sequence[Command]]
    alone: bool = True
    apart: bool = False

    def asking(self, positions: list[int]) -> Batch:
        """Return the exchange with a node to which the slots are only on their way."""
        return Units([*map(self.unit, positions)], self.effect, self.results, positions, True, self.alone)


class Units(Replies):
    """Sends requests of a few commands each, about one key each.

    Args:
        units: the commands of each request.
        effect: of sending them again.
        results: of the whole batch: the replies to a request, or a redirection in place of all of them.
        positions: which of them this node is asked for.
        asking: whether the slots are only on their way to the node.
        alone: whether a request is one command, whose reply is the result.
    """

    def __init__(
        self,
        units: Sequence[Sequence[Command]],
        effect: Effect,
        results: list[Any],
        positions: list[int],
        asking: bool,
        alone: bool,
    ) -> None:
        prefix: list[Command] = [("ASKING",)] if asking else []
        self._commands = [command for unit in units for command in (*prefix, *unit)]
        self._sizes = [len(unit) for unit in units]
        self._skipped, self._alone, self._all = len(prefix), alone, results
        super().__init__([DUE] * len(self._commands), None)
        self.effect = effect
        self._of_batch = positions

    def _pack(self, start: int) -> tuple[bytes, int]:
        packed: tuple[bytes, int] = wire.pack_commands(self._commands, start, self._count, _UNIT_BYTES)
        return packed

    def read(self, reader: Any) -> bool:
        done = super().read(reader)
        if done:
            start = 0
            for position, size in zip(self._of_batch, self._sizes, strict=True):
                replies = self._results[start + self._skipped : start + self._skipped + size]
                start += self._skipped + size
                redirected = next((reply for reply in replies if is_redirection(reply)), None)
                self._all[position] = redirected or (replies[0] if self._alone else replies)
        return done

    def unanswered(self) -> Sequence[int]:
        return [position for position in self._of_batch if self._all[position] is DUE]

    def unsent(self) -> Sequence[int]:
        return [] if self._next else self._of_batch


def is_redirection(reply: Any) -> bool:
    return isinstance(reply, str) and reply.startswith(_REDIRECTIONS)


def ready_until(results: list[Any], start: int) -> int:
    """Return the end of the results that have come from ``start`` on, without a redirection among them."""
    try:
        stop = results.index(DUE, start)
    except ValueError:
        stop = len(results)
    if str in set(map(type, results[start:stop])):
        stop = next((i for i in range(start, stop) if is_redirection(results[i])), stop)
    return stop
