"""The operations of the memcached backend as meta commands: the usual way to memcached servers.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Meta Commands". Keys were checked and values are
bytes when they come here; ``end`` is when to give up, in the time of :func:`time.monotonic`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, NoReturn

from ..._speedups import wire
from ...errors import BackendError
from ...types import KeepTTL, PoolState
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks, OnePart
from .._net.transport import Effect
from ..base import later_part, next_count
from .exchanges import (
    READ_CHUNK,
    Commands,
    Inspection,
    Replies,
    Reply,
    Sets,
    Statuses,
    Swaps,
    number_of,
    numbers_of,
)
from .servers import Servers, Unwritten

__all__ = ["MetaEngine", "exptime"]

_MONTH = 30 * 24 * 3600
_END_OF_TIME = (1 << 31) - 1
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


class MetaEngine:
    """The operations of a backend on memcached 1.6 or later.

    Args:
        servers: one or several.
    """

    def __init__(self, servers: Servers) -> None:
        self.server = servers.server
        self._servers = servers

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str, end: float) -> bytes | None:
        """Return the entry's value, or ``None``."""
        reply = await self._ask_or_miss(key, b"v", end)
        return None if reply is None else reply[2]

    async def has(self, key: str, end: float) -> bool:
        """Return whether there is such an entry."""
        reply = await self._ask_or_miss(key, b"", end)
        return reply is not None and reply[0] == b"HD"

    async def ttl(self, key: str, end: float) -> int | None:
        """Return the seconds that the entry has left, 0 for ever, ``None`` without an entry."""
        reply = await self._ask_or_miss(key, b"t", end)
        return None if reply is None or reply[0] == b"EN" else max(0, number_of(reply[1], b"t"))

    async def touch(self, key: str, seconds: int, end: float) -> bool:
        """Give the entry a new lifetime. Return whether there is one."""
        return (await self._ask(key, b"T%d" % exptime(seconds), end, Effect.SAME))[0] == b"HD"

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

    # -- batches ---------------------------------------------------------------------------------

    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order, in lists, while the servers make the next."""
        if 0 < len(keys) <= READ_CHUNK:
            return OnePart(self._servers.read, keys, end)
        return self._servers.read_parts(keys, end)

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes, end: float
    ) -> list[Any]:
        """Store entries. Return for each ``True``, ``False`` (condition not met) or why it was not stored.

        Args:
            keys: at least one.
            values: as many.
            seconds: the lifetime; :data:`~cacheorm.types.KEEP_TTL` only with mode ``b"R"``.
            mode: ``b"S"`` (set), ``b"E"`` (add) or ``b"R"`` (replace).
            end: see above.
        """
        if isinstance(seconds, KeepTTL):
            return await self._replace_keeping(keys, values, end)
        moment = exptime(seconds)
        results: list[Any] = [None] * len(keys)
        await self._servers.each(keys, results, lambda part: Sets(keys, values, moment, mode, results, part), end)
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

    async def touch_many(self, keys: Sequence[str], seconds: int, end: float) -> list[Any]:
        """Give entries a new lifetime. Return for each whether there is one, or why that is not known."""
        return await self._statuses(b"mg", b"T%d" % exptime(seconds), keys, Effect.SAME, end)

    async def delete(self, keys: Sequence[str], end: float) -> int:
        """Delete entries. Return how many there were.

        Raises:
            BackendError: a server failed; what the others have is deleted.
        """
        statuses = await self._statuses(b"md", b"", keys, Effect.STEP, end)
        if set(map(type, statuses)) <= {bool}:
            return statuses.count(True)
        failed = [status for status in statuses if isinstance(status, Unwritten)]
        if failed:
            error = failed[0].error
            error.maybe_applied = len(failed) < len(statuses) or any(status.maybe_applied for status in failed)
            raise error
        for key, status in zip(keys, statuses, strict=True):
            if isinstance(status, str):
                self._refuse(key, status.encode("utf-8"))
        return statuses.count(True)

    # -- the servers -----------------------------------------------------------------------------

    def scan(self, prefix: str, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys of all servers that begin with a prefix."""
        return self._servers.scan(prefix, ends)

    async def clear(self, end: float) -> None:
        """Drop every entry of all servers.

        Raises:
            BackendError: a server failed; the others are empty.
        """
        done, errors = await self._servers.all(lambda: Replies(b"flush_all\r\n", 1, effect=Effect.SAME), end)
        for exchange in done:
            if exchange.replies[0][0] != b"OK":
                self._refuse(None, exchange.replies[0][0])
        _raise_all(errors)

    async def ping(self, end: float) -> bool:
        """Return whether all servers answer; the error names one that does not."""
        done, errors = await self._servers.all(lambda: Replies(b"mn\r\n", 1), end)
        _raise_all(errors)
        for exchange in done:
            if exchange.replies[0][0] != b"MN":
                self._refuse(None, exchange.replies[0][0])
        return True

    async def stats(self, end: float) -> dict[bytes, bytes]:
        """Return the sums of the figures of all servers that answer."""
        done, errors = await self._servers.all(Inspection, end)
        if not done or not self._servers.figures_may_lack():
            _raise_all(errors)
        sums: dict[bytes, int] = {}
        for exchange in done:
            for name, figure in exchange.figures.items():
                if figure.isdigit():
                    sums[name] = sums.get(name, 0) + int(figure)
        return {name: b"%d" % figure for name, figure in sums.items()}

    def owners(self, keys: Sequence[str]) -> bytes:
        """Return the number of the server of each key, a byte each."""
        return self._servers.owners(keys)

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to each server."""
        return self._servers.pools()

    async def close(self) -> None:
        """Close the idle connections to all servers."""
        self._servers.close()

    # -- how -------------------------------------------------------------------------------------

    async def _ask(self, key: str, flags: bytes, end: float, effect: Effect = Effect.READ) -> Reply:
        """Send one meta get and return its reply."""
        request = wire.pack_meta(b"mg", [key], flags, 0, 1)
        (reply,) = (await self._servers.one(key, Replies(request, 1, effect=effect), end)).replies
        if reply[0] not in (b"HD", b"EN", b"VA"):
            self._refuse(key, reply[0])
        return reply

    async def _ask_or_miss(self, key: str, flags: bytes, end: float) -> Reply | None:
        try:
            return await self._ask(key, flags, end)
        except BackendError as error:
            if not self._servers.missed(error):
                raise
            return None

    async def _statuses(self, name: bytes, flags: bytes, keys: Sequence[str], effect: Effect, end: float) -> list[Any]:
        """Send a meta command without a value for each key."""
        results: list[Any] = [None] * len(keys)
        if keys:
            await self._servers.each(
                keys, results, lambda part: Commands(name, flags, keys, results, part, effect), end
            )
        return results

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


def _raise_all(errors: Sequence[BackendError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        text = "; ".join(str(error.args[0]) for error in errors)
        raise BackendError(text, maybe_applied=any(error.maybe_applied for error in errors)) from errors[0]
