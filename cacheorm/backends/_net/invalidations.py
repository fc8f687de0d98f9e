"""Keys that have to be deleted, because a write or a delete of them was not confirmed."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import count, islice, takewhile
from typing import Any, NamedTuple, TypeVar

from ...logs import log

__all__ = ["Invalidations"]

V = TypeVar("V")

# Keys that are deleted at a time.
_CHUNK = 500

# Seconds after which a write whose reply was lost has been executed, or never will be: a server that goes on after it
# hung executes what it had received, in no order that is known.
_LATE = 1.0


class _Entry(NamedTuple):
    """A key that has to be deleted.

    Attributes:
        number: grows from entry to entry; tells whether a key was added again while it was being deleted.
        late: whether a write of the key may still be executed: then it is deleted twice.
        due: the time on the clock before which it is not deleted.
    """

    number: int
    late: bool
    due: float = 0.0


_Entries = OrderedDict[str, _Entry]


class Invalidations:
    """Keys that have to be deleted, and how often reads failed: shared by the threads and event loops of a backend.

    There is no lock, which a signal handler might find taken, and a forked child for ever: each step is one call of a
    dictionary's method.

    Args:
        server: the name of the servers for messages.
        limit: how many keys are remembered at most.
        clock: returns the time in seconds.

    Attributes:
        lost: how many keys did not fit.
        failed_reads: changes with each read that missed because a server fails, or failed to delete what was asked for.
    """

    def __init__(self, server: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = self.failed_reads = 0
        self._server = server
        self._limit = limit
        self._clock = clock
        # By server, so that those that have failed keep no others waiting.
        self._groups: dict[Hashable, _Entries] = {}
        # Deleted once; a write may still be executed.
        self._late: _Entries = OrderedDict()
        self._numbers = count(1)
        self._failed_reads = count(1)

    def __bool__(self) -> bool:
        return bool(self._groups) and any(self._all())

    def __len__(self) -> int:
        return sum(map(len, self._all()))

    def __contains__(self, key: str) -> bool:
        return any(key in entries for entries in self._all())

    def mark(self) -> int:
        """Return a number above those of all keys until now, and below those of all later ones."""
        return next(self._numbers)

    def count_failed_read(self, reason: object) -> None:
        """Note that values could not be read, and count as missed; ``None`` where they would be old."""
        self.failed_reads = next(self._failed_reads)
        if reason is not None:
            message = '%s fails, and with on_failure="miss" reads miss: %s'
            log(logging.WARNING, "reads miss", message, self._server, reason)

    def add(self, keys: Iterable[str], owners: Iterable[Hashable], late: bool) -> None:
        """Remember keys.

        Args:
            keys: the keys.
            owners: the server of each.
            late: whether writes of them may still be executed.
        """
        for key, owner in zip(keys, owners, strict=True):
            group = self._groups.setdefault(owner, OrderedDict())
            known = group.get(key)
            if known is None and key not in self._late and len(self) >= self._limit:
                self.lost += 1
                log(
                    logging.ERROR,
                    "invalidations lost",
                    "%s: more than on_failure_keys=%d keys could not be deleted; others may have old values",
                    self._server,
                    self._limit,
                )
                continue
            group[key] = _Entry(next(self._numbers), late or (known is not None and known.late))
            with suppress(KeyError):  # another thread has deleted it by now
                group.move_to_end(key)

    def forget(self, keys: Iterable[str], mark: int) -> None:
        """Forget keys that have been written, unless they were added after ``mark``, or may be overwritten."""
        for group in [*self._groups.values()]:
            if group:
                for key in keys:
                    entry = group.get(key)
                    if entry is not None and entry.number < mark and not entry.late:
                        _remove(group, key, entry)

    def among(self, keys: Sequence[str]) -> AbstractSet[str]:
        """Return which of some keys are to be deleted."""
        found: set[str] = set()
        for entries in self._all():
            if entries and not entries.keys().isdisjoint(keys):
                found.update([key for key in keys if key in entries])
        return found

    def without(
        self, keys: Sequence[str], values: list[V | None], hidden: AbstractSet[str], start: int = 0
    ) -> list[V | None]:
        """Return values without those of keys that are to be deleted.

        Args:
            keys: of the whole batch.
            values: of the keys from ``start`` on.
            hidden: keys that were to be deleted before they were read.
            start: the position of the first.
        """
        if self:
            hidden = hidden | self.among(keys)
        if not hidden:
            return values
        return [None if keys[start + i] in hidden else value for i, value in enumerate(values)]

    # -- for the one who deletes them ------------------------------------------------------------

    def take_due(self) -> list[str]:
        """Return the keys that are to be deleted a second time by now; the caller adds them again."""
        now = self._clock()
        first = _first(self._late, 1)
        if not first or next(iter(first.values())).due > now:
            return []
        return [key for key, entry in takewhile(lambda item: item[1].due <= now, _first(self._late, None).items())]

    def drop_due(self, keys: Iterable[str]) -> None:
        """Forget that keys are to be deleted a second time."""
        for key in keys:
            self._late.pop(key, None)

    def groups(self) -> list[Hashable]:
        """Return the servers that have keys to delete."""
        return [owner for owner, group in [*self._groups.items()] if group]

    def parts(self, owner: Hashable) -> Iterator[Mapping[str, _Entry]]:
        """Yield the keys of a server that have been added until now, in parts.

        The first is one key, so that it costs little to find out that the server still fails. Each part has to be
        :meth:`done` before the next is taken.
        """
        mark = self.mark()
        group = self._groups[owner]
        size = 1
        while True:
            part = {key: entry for key, entry in _first(group, size).items() if entry.number < mark}
            if not part:
                return
            yield part
            size = _CHUNK

    def done(self, owner: Hashable, part: Mapping[str, _Entry]) -> None:
        """Forget keys that have been deleted, unless they were added again meanwhile."""
        group = self._groups[owner]
        due = self._clock() + _LATE
        for key, entry in part.items():
            if entry.late:
                self._late[key] = _Entry(entry.number, False, due)
            if group.get(key) is entry:
                _remove(group, key, entry)

    def _all(self) -> list[_Entries]:
        return [*self._groups.values(), self._late]


def _first(entries: _Entries, size: int | None) -> dict[str, _Entry]:
    while True:
        with suppress(RuntimeError):  # without a GIL: another thread has changed it meanwhile
            return dict(islice(entries.items(), size))


def _remove(entries: _Entries, key: str, entry: _Entry) -> None:
    """Remove a key, unless another thread has put another entry in its place."""
    found: Any = entries.pop(key, None)
    if found is not None and found is not entry:
        entries.setdefault(key, found)
