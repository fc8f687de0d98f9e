"""The operations of the memcached backend as meta commands: the usual way to memcached servers.

https://github.com/memcached/memcached/blob/master/doc/protocol.txt, "Meta Commands". Keys were checked and values are
bytes when they come here; ``end`` is when to give up, in the time of :func:`time.monotonic`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ...errors import BackendError
from ...types import KeepTTL, PoolState
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks, OnePart
from .._net.transport import Effect
from .compare_and_set import CompareAndSet
from .exchanges import READ_CHUNK, Commands, Inspection, Replies, Reply, Sets, exptime, number_of
from .servers import Unwritten

__all__ = ["MetaEngine"]


class MetaEngine(CompareAndSet):
    """The operations of a backend on memcached 1.6 or later.

    Args:
        servers: one or several.
    """

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


def _raise_all(errors: Sequence[BackendError]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        text = "; ".join(str(error.args[0]) for error in errors)
        raise BackendError(text, maybe_applied=any(error.maybe_applied for error in errors)) from errors[0]
