"""Operations on memcached in several steps: what was read is changed only if nobody else has changed it meanwhile.

A step names the version that was read, memcached's *cas*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ..._speedups import wire
from ...errors import BackendError
from ...types import KeepTTL
from .._net.transport import Effect
from ..base import later_part, next_count
from .exchanges import Inspection, Replies, Reply, Sets, Statuses, Swaps, exptime, number_of, numbers_of
from .servers import Servers, Unwritten

__all__ = ["CompareAndSet"]

_COUNTER_LIMIT = 1 << 63

# How often a write that depends on what was read is repeated when somebody else was faster. Of all who try, one
# succeeds each time, so that this many failures in a row take a great many writers to one key.
_RACES = 1000

# What helps where a server says so.
_HINTS = {
    b"ERROR": " (memcached 1.6 or later is needed)",
    b"CLIENT_ERROR unauthenticated": " (the server was started with -Y: pass username= and password=)",
}

# Entries whose versions are read at once.
_CAS_CHUNK = 250


class CompareAndSet:
    """Counting, replacing under the same lifetime, and comparing and setting.

    Args:
        servers: one or several.
    """

    def __init__(self, servers: Servers) -> None:
        self.server = servers.server
        self._servers = servers

    # -- counters -----------------------------------------------------------------------------------

    async def count(self, key: str, delta: int, seconds: int, end: float) -> int:
        """Add to a counter; a new one starts from 0 and lives for ``seconds``.

        memcached itself counts upwards from 0, keeps the lifetime, and creates what is missing. What it cannot
        do (go below 0, and get shorter without leaving spaces behind) is read, computed and compared-and-set.
        """
        moment = exptime(seconds)
        if delta >= 0:
            request = wire.pack_meta(b"ma", [key], b"N%d J%d D%d v" % (moment, delta, delta), 0, 1)
            exchange = await self._servers.one(key, Replies(request, 1, effect=Effect.STEP), end)
            ((word, _, value),) = exchange.replies
            if value is not None:
                counted = int(value)
                if counted < _COUNTER_LIMIT:
                    return counted
                # It counts to twice our limit: the step is taken back, and refused as everywhere.
                await self._count_by_hand(key, -delta, moment, end, undo=True)
                return next_count(key, b"%d" % (counted - delta), delta)
            if b"non-numeric" not in word:
                self._refuse(key, word)
        return await self._count_by_hand(key, delta, moment, end)

    async def _count_by_hand(self, key: str, delta: int, moment: int, end: float, undo: bool = False) -> int:
        for _ in range(_RACES):
            # Asked twice. When memcached counts while it answers a read, it may answer with the old value and the
            # *new* cas (its do_add_delta sets the cas of the item it has just replaced), and the swap would undo
            # that count. By the time the new cas can be seen, a second read finds the new value beside it.
            seen = await self._servers.one(key, Inspection([key, key], b"v c t"), end)
            first, (word, flags, value) = seen.replies
            if word not in (b"VA", b"EN"):
                self._refuse(key, word)
            if (first[0], first[2]) != (word, value) or (value and number_of(first[1], b"c") != number_of(flags, b"c")):
                continue
            if undo:
                if value is None or not value.isdigit():
                    return 0  # gone, or no counter any more: nothing to take back
                counted = int(value) + delta
            else:
                counted = next_count(key, value, delta)
            status: list[Any] = [None]
            data = b"%d" % counted
            exchange: Statuses
            if value is None:
                exchange = Sets([key], [data], moment, b"E", status, None)
            else:
                (expires,) = _ends([flags], seen.now)
                exchange = Swaps([key], [data], [number_of(flags, b"c")], [expires], status, None)
            await self._servers.one(key, exchange, end)
            if isinstance(status[0], str):
                self._refuse(key, status[0].encode("utf-8"))
            if status[0]:
                return counted
        raise self._raced(key)

    # -- batches ------------------------------------------------------------------------------------

    async def read_cas(self, keys: Sequence[str], end: float) -> list[Any]:
        """Return the value and a token of each entry, ``None`` without one.

        Each server counts versions for itself, so that the token also says whose it is.
        """
        entries: list[Any] = []
        for start in range(0, len(keys), _CAS_CHUNK):
            part = keys[start : start + _CAS_CHUNK]
            replies: list[Any] = [None] * len(part)
            await self._read_versions(part, range(len(part)), replies, end)
            counters = [i for i, reply in enumerate(replies) if reply is not None and (reply[2] or b"").isdigit()]
            if counters:
                # Of a counter, the version may be newer than the value; see `_count_by_hand`. A second answer with
                # the first one's version has that version's value.
                again: list[Any] = [None] * len(part)
                await self._read_versions(part, counters, again, end)
                for i in counters:
                    second = again[i]
                    if second is not None and second[1:] != replies[i][1:]:
                        second = await self._settle(part[i], second, end)
                    replies[i] = second
            owners = self._servers.owners(part)
            versions = iter(numbers_of([r[1] for r in replies if r is not None and r[2] is not None], b"c"))
            entries += [
                None if reply is None or reply[2] is None else (reply[2], next(versions) * self._servers.count + owner)
                for reply, owner in zip(replies, owners, strict=True)
            ]
        return entries

    async def _read_versions(self, keys: Sequence[str], left: Sequence[int], replies: list[Any], end: float) -> None:
        """Read the value and the version of some entries; ``None`` for those that are on other servers from now on."""
        for seen in await self._servers.inspect(keys, left, lambda part: _Versions(keys, part), end):
            if seen.error is not None:
                if not self._servers.is_elsewhere(seen.error):
                    raise seen.error
                continue
            if len(seen.replies) == len(replies):
                replies[:] = seen.replies
            else:
                for i, reply in zip(seen.positions, seen.replies, strict=True):
                    replies[i] = reply
            if not {reply[0] for reply in seen.replies} <= {b"VA", b"EN"}:
                for i, reply in zip(seen.positions, seen.replies, strict=True):
                    if reply[0] not in (b"VA", b"EN"):
                        self._refuse(keys[i], reply[0])

    async def _settle(self, key: str, last: Reply, end: float) -> Reply:
        for _ in range(_RACES):
            reply = await self._ask(key, b"v c", end)
            if reply[1:] == last[1:]:
                return reply
            last = reply
        raise self._raced(key)

    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL, end: float
    ) -> list[Any]:
        """Store each entry if its version is still that of the token. Return as :meth:`write` does."""
        count = self._servers.count
        results: list[Any] = [False] * len(keys)
        # The version of another server says nothing of what this one has.
        owners = self._servers.owners(keys)
        left = [i for i, owner in enumerate(owners) if tokens[i] % count == owner]
        versions = {i: tokens[i] // count for i in left}
        if isinstance(seconds, KeepTTL):
            # What is not there any more has no lifetime to keep: its version cannot match either.
            left, _, ends = await self._versions(keys, left, b"c t", results, end)
        else:
            ends = [exptime(seconds)] * len(left)
        if left:
            names, data = [keys[i] for i in left], [values[i] for i in left]
            of_left, statuses = [versions[i] for i in left], [None] * len(left)
            await self._servers.each(
                names, statuses, lambda part: Swaps(names, data, of_left, ends, statuses, part), end
            )
            for i, status in zip(left, statuses, strict=True):
                results[i] = status
        return results

    async def _replace_keeping(self, keys: Sequence[str], values: Sequence[bytes], end: float) -> list[Any]:
        """Replace entries under the lifetimes they have: each is written only if nobody else wrote meanwhile."""
        results: list[Any] = [False] * len(keys)
        left = [*range(len(keys))]
        later = False
        for _ in range(_RACES):
            with later_part(later):
                changed = await self._replace_once(keys, values, results, left, end)
            if not changed:
                return results
            left, later = changed, True
        for i in left:
            results[i] = f"others changed it {_RACES} times in a row"
        return results

    async def _replace_once(
        self, keys: Sequence[str], values: Sequence[bytes], results: list[Any], left: list[int], end: float
    ) -> list[int]:
        """Try it once for the entries at some positions. Return those that others have changed, or deleted."""
        found, versions, ends = await self._versions(keys, left, b"c t", results, end)
        if not found:
            return []
        statuses: list[Any] = [None] * len(found)
        names, data = [keys[i] for i in found], [values[i] for i in found]
        await self._servers.each(names, statuses, lambda part: Swaps(names, data, versions, ends, statuses, part), end)
        for i, status in zip(found, statuses, strict=True):
            results[i] = status
        return [i for i, status in zip(found, statuses, strict=True) if status is False]

    # -- how ----------------------------------------------------------------------------------------

    async def _versions(
        self, keys: Sequence[str], left: Sequence[int], flags: bytes, results: list[Any], end: float
    ) -> tuple[list[int], list[int], list[int]]:
        """Return the positions of the entries that are there, their versions, and when they end."""
        found: list[int] = []
        versions: list[int] = []
        ends: list[int] = []
        for seen in await self._servers.inspect(keys, left, lambda part: Inspection(keys, flags, part), end):
            part = seen.positions or []
            if seen.error is not None:
                for i in part:
                    results[i] = Unwritten(seen.error, False)
                continue
            for i, (word, _, _) in zip(part, seen.replies, strict=True):
                if word == b"HD":
                    found.append(i)
                elif word != b"EN":
                    results[i] = word.decode("utf-8", "replace")
            present = [flags_of for word, flags_of, _ in seen.replies if word == b"HD"]
            versions += numbers_of(present, b"c")
            ends += _ends(present, seen.now)
        return found, versions, ends

    async def _ask(self, key: str, flags: bytes, end: float, effect: Effect = Effect.READ) -> Reply:
        """Send one meta get and return its reply."""
        request = wire.pack_meta(b"mg", [key], flags, 0, 1)
        (reply,) = (await self._servers.one(key, Replies(request, 1, effect=effect), end)).replies
        if reply[0] not in (b"HD", b"EN", b"VA"):
            self._refuse(key, reply[0])
        return reply

    def _raced(self, key: str) -> BackendError:
        return BackendError(f"{self._servers.server_of(key)}, key {key}: others changed it {_RACES} times in a row")

    def _refuse(self, key: str | None, words: bytes) -> NoReturn:
        subject = self.server if key is None else f"{self._servers.server_of(key)}, key {key}"
        raise BackendError(f"{subject}: {words.decode('utf-8', 'replace')}{_HINTS.get(words, '')}")


class _Versions(Replies):
    """Reads the value and the version of the entries at some positions.

    Attributes:
        positions: as given.
    """

    def __init__(self, keys: Sequence[str], positions: list[int]) -> None:
        self.positions = positions
        part = [keys[i] for i in positions]
        super().__init__(wire.pack_meta(b"mg", part, b"v c", 0, len(part)), len(part))


def _ends(flags_of_each: Iterable[list[bytes]], now: int) -> list[int]:
    """Return the ``exptime`` at which each of several entries ends that were read at ``now``."""
    return [0 if left < 0 else now + left for left in numbers_of(flags_of_each, b"t")]
