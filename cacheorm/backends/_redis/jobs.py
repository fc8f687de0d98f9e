"""What is asked of a Redis Cluster: one request for each key of a batch, and what becomes of the replies.

No I/O happens here but reading replies that are due.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from redis.exceptions import (
    AskError,
    ClusterDownError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from ..._speedups import wire
from ...errors import BackendError
from .replies import Replies
from .server import WRITE_BYTES, WRITE_CHUNK
from .slots import Address
from .transport import Command, Effect

__all__ = ["DUE", "READ_CHUNK", "Asked", "Job", "Line", "Reads", "Stray", "Units", "Writes"]

DUE: Any = object()
"""Stands where no reply has come."""

READ_CHUNK = 1000
"""Keys that are asked for at once."""

# Bytes that their values should have together.
_READ_BYTES = 2 << 20

# Refusals of nodes that have done nothing. MOVED is a kind of ASK in redis-py.
_ELSEWHERE = (AskError, TryAgainError, ClusterDownError, ReadOnlyError)

_ASKING = wire.pack_command(("ASKING",))


class Stray(NamedTuple):
    """Why a request has no reply.

    Attributes:
        error: the redirection, or how the connection was lost.
        address: of the node that was asked.
        sent: whether it may have been run all the same.
    """

    error: BaseException
    address: Address | None
    sent: bool


class Line(Protocol):
    """A connection to one node."""

    @property
    def address(self) -> Address:
        """Of the node."""

    @property
    def server(self) -> str:
        """Its name for messages."""

    @property
    def source(self) -> Replies:
        """The replies to this exchange."""


class Job:
    """A batch.

    Args:
        keys: one for each request.
        effect: of repeating a request.

    Attributes:
        results: of each request, :data:`DUE` until it is known.
        strays: requests without a result that have to be sent again, by position.
    """

    def __init__(self, keys: Sequence[str], effect: Effect) -> None:
        self.keys = keys
        self.effect = effect
        self.results: list[Any] = [DUE] * len(keys)
        self.strays: dict[int, Stray] = {}

    def portion(self, positions: Sequence[int]) -> int:
        """Tell how many of the first of these requests should be sent at once: one at least."""
        raise NotImplementedError

    def pack(self, positions: list[int]) -> bytes:
        """Pack requests."""
        raise NotImplementedError

    async def read(self, line: Line, positions: list[int]) -> None:
        """Read the replies to requests that were packed together."""
        raise NotImplementedError

    def count(self, position: int) -> int:
        """Tell how many replies a request gets."""
        return 1

    def place(self, position: int, replies: list[Any], line: Line) -> None:
        """Take the replies to one request, a ``ResponseError`` for each refusal."""
        for reply in replies:
            if isinstance(reply, _ELSEWHERE):
                self.results[position] = DUE
                self.strays[position] = Stray(reply, line.address, False)
                return
        self.results[position] = self.outcome(position, replies, line)

    def outcome(self, position: int, replies: list[Any], line: Line) -> Any:
        """Give the result that replies stand for."""
        return replies[0]

    def lose(self, positions: Sequence[int], error: BaseException, address: Address | None, sent: bool) -> None:
        """Note that the replies to requests will not come, where they have not."""
        for position in positions:
            if self.results[position] is DUE and position not in self.strays:
                self.strays[position] = Stray(error, address, sent)


class Reads(Job):
    """Reading values: a ``GET`` for each key, as ``MGET`` takes keys of one slot only.

    An entry that is no string counts as absent, as it does for ``MGET``.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys, Effect.READ)
        self._size = READ_CHUNK

    def portion(self, positions: Sequence[int]) -> int:
        return min(len(positions), self._size)

    def pack(self, positions: list[int]) -> bytes:
        return wire.pack_gets(self.keys, positions)

    async def read(self, line: Line, positions: list[int]) -> None:
        complete = False
        try:
            complete = await line.source.read_gets(self.results, positions)
        finally:
            if not complete:
                for position in positions:
                    if isinstance(self.results[position], ResponseError):
                        self.place(position, [self.results[position]], line)

    def outcome(self, position: int, replies: list[Any], line: Line) -> Any:
        (reply,) = replies
        if not isinstance(reply, ResponseError):
            return reply
        if str(reply).startswith("WRONGTYPE"):
            return None
        raise BackendError(f"{line.server}, key {self.keys[position]}: {reply}") from reply

    def take(self, start: int, stop: int) -> list[bytes | None]:
        """Give values that have come, and forget them."""
        values = self.results[start:stop]
        self.results[start:stop] = [DUE] * len(values)
        mean = wire.total_size(values) // len(values) + 1
        self._size = max(1, min(READ_CHUNK, _READ_BYTES // mean))
        return values


class Writes(Job):
    """Storing entries: a ``SET`` for each.

    Args:
        keys: of the entries.
        values: of the entries.
        seconds: the lifetime; 0 never expires, -1 keeps the entry's own.
        condition: ``b"NX"``, ``b"XX"`` or ``b""``.
    """

    def __init__(self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes) -> None:
        # What was stored by a request without a reply would keep the second one from storing.
        super().__init__(keys, Effect.STEP if condition == b"NX" else Effect.SAME)
        self._values = values
        self._seconds = seconds
        self._condition = condition

    def portion(self, positions: Sequence[int]) -> int:
        count = min(len(positions), WRITE_CHUNK)
        while count > 1 and wire.total_size([self._values[i] for i in positions[:count]]) > WRITE_BYTES:
            count //= 2
        return count

    def pack(self, positions: list[int]) -> bytes:
        return wire.pack_sets(self.keys, self._values, self._seconds, self._condition, positions)

    async def read(self, line: Line, positions: list[int]) -> None:
        statuses: list[Any] = []
        try:
            await line.source.read_statuses(statuses, len(positions))
        finally:
            results = self.results
            if statuses.count(b"OK") + statuses.count(None) == len(statuses):
                for position, status in zip(positions, statuses, strict=False):
                    results[position] = status
            else:
                for position, status in zip(positions, statuses, strict=False):
                    self.place(position, [status], line)


class Units(Job):
    """Any commands; the result of each request is the list of its replies.

    Args:
        keys: one that each request is about.
        units: the commands of each request.
        effect: of repeating a request.
        transaction: whether the commands of a request are run as one.
    """

    def __init__(
        self, keys: Sequence[str], units: Sequence[Sequence[Command]], effect: Effect, transaction: bool = False
    ) -> None:
        super().__init__(keys, effect)
        self._units = [[("MULTI",), *unit, ("EXEC",)] for unit in units] if transaction else units
        self._transaction = transaction
        self._packed: dict[int, bytes] = {}

    def portion(self, positions: Sequence[int]) -> int:
        size = count = 0
        for position in positions[:WRITE_CHUNK]:
            if count and size >= WRITE_BYTES:
                break
            self._packed[position] = packed = self._pack_unit(position)
            size += len(packed)
            count += 1
        return count

    def pack(self, positions: list[int]) -> bytes:
        packed = self._packed
        return b"".join([packed.pop(i) if i in packed else self._pack_unit(i) for i in positions])

    def _pack_unit(self, position: int) -> bytes:
        return b"".join([wire.pack_command(command) for command in self._units[position]])

    async def read(self, line: Line, positions: list[int]) -> None:
        replies: list[Any] = []
        try:
            await line.source.read_replies(replies, sum(map(self.count, positions)))
        finally:
            start = 0
            for position in positions:
                stop = start + self.count(position)
                if stop > len(replies):
                    break
                self.place(position, replies[start:stop], line)
                start = stop

    def count(self, position: int) -> int:
        return len(self._units[position])

    def outcome(self, position: int, replies: list[Any], line: Line) -> Any:
        if not self._transaction:
            return replies
        # A command that cannot be queued says why in its own reply; EXEC then only says that it gave up.
        refused = [reply for reply in replies if isinstance(reply, ResponseError)]
        return refused or list(replies[-1])


class Asked:
    """A job as a node is sent it whose slots are only on their way there: with ``ASKING`` before each request."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.portion = job.portion
        self.lose = job.lose

    def pack(self, positions: list[int]) -> bytes:
        """Pack requests."""
        return b"".join([_ASKING + self._job.pack([position]) for position in positions])

    async def read(self, line: Line, positions: list[int]) -> None:
        """Read the replies to requests that were packed together."""
        for position in positions:
            replies: list[Any] = []
            await line.source.read_replies(replies, 1 + self._job.count(position))
            self._job.place(position, replies[1:], line)
