"""What a Redis server is asked, and how its replies are taken: packed requests, sent a few parts ahead of the replies.

https://redis.io/docs/latest/develop/reference/protocol-spec/. A refusal is a reply like any other, and a ``str``;
values and statuses are ``bytes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._speedups import wire
from .._net.batch import DUE, WRITE_BYTES, WRITE_CHUNK, Batch, ValueReads, portion
from .._net.exchange import Exchange
from .._net.transport import Effect

__all__ = ["DUE", "READ_CHUNK", "Command", "Commands", "Gets", "Replies", "Sets", "Unit", "Values", "set_options"]

Command = tuple[Any, ...]
"""One Redis command, its name first."""

READ_CHUNK = 500
"""Keys of one ``MGET``, and keys that a node of a cluster is asked for at once."""

# Bytes of the values that one part should ask for: more keeps a server that serves others busy.
_READ_BYTES = 2 << 20


class Values(ValueReads):
    """Reads values with ``MGET``, for which an entry that is no string (a list, a hash) does not exist.

    Attributes:
        refusal: why the server refused to give values.
    """

    _chunk = READ_CHUNK
    _bytes = _READ_BYTES
    refusal: str | None = None

    def _pack(self, start: int, stop: int) -> bytes:
        packed: bytes = wire.pack_keys(b"MGET", self._keys, start, stop)
        return packed

    def _read_part(self, reader: Any, start: int, stop: int) -> bool:
        values = self.values
        if not reader.read_values(values, stop - start):
            return False
        if type(values[-1]) is str:
            self.refusal = values.pop()
            self.has_more = False
        return True


class Replies(Batch):
    """Sends requests that get one reply each."""

    _method = "read_replies"


class Gets(Replies):
    """Reads values with a ``GET`` for each key, as ``MGET`` takes keys of one hash slot only."""

    # The kinds of replies that there may be, besides refusals.
    _arguments = (b"$_",)

    def __init__(self, keys: Sequence[str], results: list[Any], positions: list[int]) -> None:
        super().__init__(results, positions)
        self._keys = keys
        self._size = READ_CHUNK

    def read(self, reader: Any) -> bool:
        before, done = self._place, super().read(reader)
        if not done and self._place > before and self.positions is not None:
            values = [self._results[i] for i in self.positions[before : self._place]]
            self._size = portion([value for value in values if type(value) is bytes], READ_CHUNK, _READ_BYTES)
            self._ahead = 4
        return done

    def _pack(self, start: int) -> tuple[bytes, int]:
        stop = min(start + self._size, self._count)
        return wire.pack_gets(self._keys, self.positions, start, stop), stop


class Sets(Replies):
    """Stores entries with a ``SET`` for each.

    Args:
        keys: of the whole batch.
        values: of the whole batch.
        seconds: the lifetime; 0 never expires, -1 keeps the entry's own.
        condition: ``b"NX"`` (only if absent), ``b"XX"`` (only if present) or ``b""``.
        results: see :class:`~.._net.batch.Batch`; ``b"OK"``, ``None`` (condition not met) or the refusal.
        positions: see :class:`~.._net.batch.Batch`.
    """

    _arguments = (b"+$_",)

    def __init__(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        seconds: int,
        condition: bytes,
        results: list[Any],
        positions: list[int] | None,
    ) -> None:
        super().__init__(results, positions)
        # What a request without a reply has added would keep the second one from adding it.
        self.effect = Effect.STEP if condition == b"NX" else Effect.SAME
        self._entries = keys, values, seconds, condition, positions

    def _pack(self, start: int) -> tuple[bytes, int]:
        packed: tuple[bytes, int] = wire.pack_set(
            *self._entries, start, min(start + WRITE_CHUNK, self._count), WRITE_BYTES
        )
        return packed


class Unit(Exchange):
    """Sends a few commands at once.

    Args:
        commands: the commands; at least one.
        effect: of sending them again.

    Attributes:
        replies: one for each command; any reply.
    """

    def __init__(self, commands: Sequence[Command], effect: Effect) -> None:
        count = len(commands)
        self.effect = effect
        self.replies: list[Any] = [None] * count
        self._place = 0
        self._packed: bytes = (
            wire.pack_command(commands[0]) if count == 1 else wire.pack_commands(commands, 0, count, 1 << 62)[0]
        )

    def request(self) -> bytes | None:
        self.has_more = False
        return self._packed

    def read(self, reader: Any) -> bool:
        replies = self.replies
        self._place = reader.read_replies(replies, None, self._place, len(replies))
        return self._place == len(replies)

    def restart(self) -> None:
        self.has_more, self._place = True, 0


class Commands(Replies):
    """Sends any commands.

    Args:
        commands: one for each result, or for each position.
        effect: of sending them again.
        results: see :class:`~.._net.batch.Batch`; any reply.
        positions: see :class:`~.._net.batch.Batch`.
    """

    def __init__(
        self, commands: Sequence[Command], effect: Effect, results: list[Any], positions: list[int] | None = None
    ) -> None:
        super().__init__(results, positions)
        self.effect = effect
        self._commands = commands

    def _pack(self, start: int) -> tuple[bytes, int]:
        packed: tuple[bytes, int] = wire.pack_commands(
            self._commands, start, min(start + WRITE_CHUNK, self._count), WRITE_BYTES
        )
        return packed


def set_options(seconds: int, condition: bytes) -> tuple[bytes | str | int, ...]:
    """Return what follows key and value in a ``SET``: 0 seconds never expires, -1 keeps the entry's lifetime."""
    lifetime = ("EX", seconds) if seconds > 0 else ("KEEPTTL",) if seconds < 0 else ()
    return (*lifetime, condition) if condition else lifetime
