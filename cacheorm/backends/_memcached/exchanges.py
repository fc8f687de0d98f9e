"""What a memcached server is asked, and how its replies are taken: meta commands, sent a few parts ahead.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Meta Commands". A refusal is a ``str`` in the
place of a status.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..._speedups import wire
from ...errors import BackendError
from .._net.batch import WRITE_BYTES, WRITE_CHUNK, Batch, ValueReads
from .._net.exchange import Exchange
from .._net.transport import Effect

__all__ = [
    "READ_CHUNK",
    "Commands",
    "Inspection",
    "Replies",
    "Reply",
    "Sets",
    "Statuses",
    "Swaps",
    "Values",
    "exptime",
    "number_of",
    "numbers_of",
]

Reply = tuple[bytes, list[bytes], bytes | None]
"""A word, such as ``b"HD"``, the flags, and the value where there is one."""

READ_CHUNK = 250
"""Keys of one request for values."""

# memcached has some hundred: they are kept until the last one has come.
_MOST_FIGURES = 10_000

_MONTH = 30 * 24 * 3600
_END_OF_TIME = (1 << 31) - 1


def exptime(seconds: int) -> int:
    """Return a lifetime as memcached's ``exptime``: seconds up to 30 days, a Unix time beyond, 0 for ever.

    Raises:
        ValueError: it ends after 19 January 2038, where memcached's clock does: memcached would drop the entry
            at once and report success.
    """
    if seconds <= _MONTH:
        return seconds
    moment = int(time.time()) + seconds
    if moment > _END_OF_TIME:
        raise ValueError(
            f"memcached keeps no lifetime beyond 19 January 2038, got {seconds} s; use 0 for entries that never expire"
        )
    return moment


class Values(ValueReads):
    """Reads values."""

    _chunk = READ_CHUNK
    _first_ahead = 4
    _ahead = 12

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self._place = 0
        self._part: list[Any] | None = None

    def restart(self) -> None:
        super().restart()
        self._place, self._part = 0, None

    def _pack(self, start: int, stop: int) -> bytes:
        packed: bytes = wire.pack_meta_get(self._keys, start, stop)
        return packed

    def _read_part(self, reader: Any, start: int, stop: int) -> bool:
        if self._part is None:
            self._part = [None] * (stop - start)
            self._asked = self._keys[start:stop]
        place = reader.read_values(self._asked, self._part, self._place, stop - start)
        if place >= 0:
            self._place = place
            return False
        self.values += self._part
        self._resize(self._part)
        self._place, self._part = 0, None
        return True


class Statuses(Batch):
    """Sends requests that are answered with one status each: ``True``, ``False``, or why the server refused."""

    effect = Effect.STEP
    _method = "read_statuses"


class Sets(Statuses):
    """Stores entries.

    Args:
        keys: of the whole batch.
        values: of the whole batch.
        exptime: memcached's.
        mode: ``b"S"`` (set), ``b"E"`` (add) or ``b"R"`` (replace).
        results: see :class:`~.._net.batch.Batch`.
        positions: likewise.
    """

    def __init__(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        exptime: int,
        mode: bytes,
        results: list[Any],
        positions: list[int] | None,
    ) -> None:
        super().__init__(results, positions)
        self.effect = Effect.STEP if mode == b"E" else Effect.SAME
        self._entries = _at(keys, positions), _at(values, positions), exptime, mode

    def _pack(self, start: int) -> tuple[bytes, int]:
        packed: tuple[bytes, int] = wire.pack_meta_set(*self._entries, start, start + WRITE_CHUNK, WRITE_BYTES)
        return packed


class Swaps(Statuses):
    """Stores entries whose version is still that which was read.

    Args:
        keys: of the whole batch.
        values: of the whole batch.
        versions: of the whole batch.
        exptimes: memcached's, of the whole batch.
        results: see :class:`~.._net.batch.Batch`.
        positions: likewise.
    """

    def __init__(
        self,
        keys: Sequence[str],
        values: Sequence[bytes],
        versions: Sequence[int],
        exptimes: Sequence[int],
        results: list[Any],
        positions: list[int] | None,
    ) -> None:
        super().__init__(results, positions)
        columns = [_at(column, positions) for column in (keys, values, exptimes, versions)]
        self._entries = [*zip(*columns, strict=True)]

    def _pack(self, start: int) -> tuple[bytes, int]:
        part = self._entries[start : start + WRITE_CHUNK]
        stop, size = start, 0
        for _, value, _, _ in part:
            stop += 1
            size += len(value)
            if size >= WRITE_BYTES:
                break
        buffers = [
            b"ms %b %d T%d C%d MR\r\n%b\r\n" % (key.encode("utf-8"), len(value), exptime, version, value)
            for key, value, exptime, version in part[: stop - start]
        ]
        return b"".join(buffers), stop


class Commands(Statuses):
    """Sends one meta command without a value for each key.

    Args:
        name: of the command, such as ``b"md"``.
        flags: what follows the key.
        keys: of the whole batch.
        results: see :class:`~.._net.batch.Batch`.
        positions: likewise.
        effect: of sending it again.
    """

    def __init__(
        self,
        name: bytes,
        flags: bytes,
        keys: Sequence[str],
        results: list[Any],
        positions: list[int] | None,
        effect: Effect,
    ) -> None:
        super().__init__(results, positions)
        self.effect = effect
        self._name, self._flags, self._keys = name, flags, _at(keys, positions)

    def _pack(self, start: int) -> tuple[bytes, int]:
        stop = min(start + WRITE_CHUNK, self._count)
        return wire.pack_meta(self._name, self._keys, self._flags, start, stop), stop


class Replies(Exchange):
    """Sends one request, and takes whole replies.

    Args:
        request: the bytes.
        count: how many replies it gets.
        words: the first words that replies may have; any if empty.
        effect: of sending it again.

    Attributes:
        replies: those that have come.
    """

    def __init__(self, request: bytes, count: int, words: Collection[bytes] = (), effect: Effect = Effect.READ) -> None:
        self.effect = effect
        self.replies: list[Reply] = []
        self._request = request
        self._count = count
        self._words = words

    def request(self) -> bytes | None:
        self.has_more = False
        return self._request

    def read(self, reader: Any) -> bool:
        replies, read = self.replies, reader.read_reply
        while len(replies) < self._count:
            reply: Reply | None = read()
            if reply is None:
                return False
            if self._words and reply[0] not in self._words:
                raise ValueError("it does not speak memcached's meta commands")
            replies.append(reply)
        return True

    def restart(self) -> None:
        self.has_more = True
        self.replies.clear()


class Inspection(Exchange):
    """Asks for the server's figures and, right after them, sends a meta get for each key.

    A lifetime is told in seconds from now and written back somewhat later: by and by, an entry that is written all the
    time would never expire. As a point in the server's own time it stays where it is.

    Args:
        keys: which entries; there may be none.
        flags: what is asked of each.
        positions: which of the keys; all if ``None``.

    Attributes:
        figures: the server's, by name.
        positions: as given.
        replies: to the meta gets.
    """

    def __init__(self, keys: Sequence[str] = (), flags: bytes = b"", positions: list[int] | None = None) -> None:
        self.positions = positions
        self.figures: dict[bytes, bytes] = {}
        keys = _at(keys, positions)
        self._gets = Replies(b"stats\r\n" + wire.pack_meta(b"mg", keys, flags, 0, len(keys)), len(keys))
        self._has_figures = False

    @property
    def replies(self) -> list[Reply]:
        return self._gets.replies

    @property
    def now(self) -> int:
        """The time of the server in seconds."""
        return int(self.figures[b"time"])

    def request(self) -> bytes | None:
        self.has_more = False
        return self._gets.request()

    def read(self, reader: Any) -> bool:
        while not self._has_figures:
            reply: Reply | None = reader.read_reply()
            if reply is None:
                return False
            word, words, _ = reply
            if word == b"END":
                self._has_figures = True
            elif word != b"STAT" or not words:
                raise ValueError(f"expected the server's figures, got {word[:80]!a}")
            else:
                self.figures[words[0]] = b" ".join(words[1:])
                if len(self.figures) > _MOST_FIGURES:
                    raise ValueError(f"it has more than {_MOST_FIGURES} figures")
        return self._gets.read(reader)

    def restart(self) -> None:
        self.has_more = True
        self.figures.clear()
        self._has_figures = False
        self._gets.restart()


def number_of(flags: list[bytes], name: bytes) -> int:
    """Return the number that the server returned under a flag."""
    return numbers_of([flags], name)[0]


def numbers_of(flags_of_each: Iterable[list[bytes]], name: bytes) -> list[int]:
    """Return the number under a flag of each of several replies."""
    numbers: list[int] = []
    for flags in flags_of_each:
        for flag in flags:
            if flag[:1] == name and flag[1:].lstrip(b"-").isdigit():
                numbers.append(int(flag[1:]))
                break
        else:
            raise BackendError(f"memcached answered without the flag {name.decode()} that it was asked for")
    return numbers


def _at(items: Sequence[Any], positions: list[int] | None) -> Sequence[Any]:
    return items if positions is None else [items[i] for i in positions]
