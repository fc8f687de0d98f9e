"""The methods of the memcached backend as coroutines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from ..._speedups import wire
from ...deadlines import until
from ...errors import BackendError
from ...types import KEEP_TTL, TTL, KeepTTL, Outcome, PoolState, Value, check_ttl
from .._net.scanning import Ends, delete_prefix, in_lists
from .._net.sync_bridge import Chunks, all_of
from ..base import next_count, split_swaps
from ..enumeration import check_clear
from .servers import Unwritten

__all__ = ["Engine", "MemcachedCommands"]


class Engine(Protocol):
    """Operations on memcached servers.

    Keys were checked, values are bytes, lifetimes are whole seconds, 0 for ever. ``end`` is when to give up, in the
    time of :func:`time.monotonic`.
    """

    server: str

    async def get(self, key: str, end: float) -> bytes | None: ...
    async def has(self, key: str, end: float) -> bool: ...
    async def touch(self, key: str, seconds: int, end: float) -> bool: ...
    async def ttl(self, key: str, end: float) -> int | None: ...
    async def count(self, key: str, delta: int, seconds: int, end: float) -> int: ...
    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]: ...
    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes, end: float
    ) -> list[Any]: ...
    async def delete(self, keys: Sequence[str], end: float) -> int: ...
    async def touch_many(self, keys: Sequence[str], seconds: int, end: float) -> list[Any]: ...
    async def read_cas(self, keys: Sequence[str], end: float) -> list[Any]: ...
    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL, end: float
    ) -> list[Any]: ...
    def scan(self, prefix: str, ends: Ends) -> AsyncGenerator[list[str], None]: ...
    async def clear(self, end: float) -> None: ...
    async def ping(self, end: float) -> bool: ...
    async def stats(self, end: float) -> dict[bytes, bytes]: ...
    def pools(self) -> list[PoolState]: ...
    async def close(self) -> None: ...
    def owners(self, keys: Sequence[str]) -> bytes: ...


class MemcachedCommands:
    """What is asked of a backend, over an engine; whether it suspends is the engine's affair.

    Args:
        engine: the way to memcached.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
        operation_timeout: seconds that an operation may take; ``None`` without a bound.
    """

    def __init__(self, engine: Engine, default_ttl: int, operation_timeout: float | None) -> None:
        self._engine = engine
        self._timeout = operation_timeout
        self._default_ttl = default_ttl

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        wire.check_memcached_keys((key,))
        return await self._engine.get(key, until(self._timeout))

    async def has(self, key: str) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.has(key, until(self._timeout))

    async def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._write_one(key, value, self._seconds(ttl), b"S")

    async def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return await self._write_one(key, value, self._seconds_or_keep(ttl), b"R")

    async def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._write_one(key, value, self._seconds(ttl), b"E")

    async def delete(self, key: str) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.delete([key], until(self._timeout)) == 1

    async def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        wire.check_memcached_keys((key,))
        next_count(key, None, delta)
        return await self._engine.count(key, delta, self._seconds(ttl), until(self._timeout))

    async def touch(self, key: str, ttl: TTL = None) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.touch(key, self._seconds(ttl), until(self._timeout))

    async def ttl(self, key: str) -> int | None:
        wire.check_memcached_keys((key,))
        return await self._engine.ttl(key, until(self._timeout))

    # -- batches ---------------------------------------------------------------------------------

    async def get_many(self, *keys: str) -> list[bytes | None]:
        wire.check_memcached_keys(keys)
        return await all_of(self._engine.read_chunks(keys, until(self._timeout)))

    def get_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        wire.check_memcached_keys(keys)
        return self._engine.read_chunks(keys, until(self._timeout))

    async def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"S")

    async def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return await self._write(mapping, self._seconds_or_keep(ttl), b"R")

    async def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"E")

    async def delete_many(self, *keys: str) -> bool:
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        return not unique or await self._engine.delete(unique, until(self._timeout)) == len(unique)

    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        wire.check_memcached_keys(keys)
        return [*await self._engine.read_cas(keys, until(self._timeout))]

    async def compare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> Outcome:
        seconds = self._seconds_or_keep(ttl)
        keys = list(mapping)
        wire.check_memcached_keys(keys)
        values, tokens = split_swaps(mapping)
        encoded = wire.encode_values(keys, list(values.values()))
        for key, token in tokens.items():
            if type(token) is not int:
                raise TypeError(f"{key}: not a token of get_many_cas: expected int, got {type(token).__name__}")
        return _outcome(
            keys, await self._engine.swap(keys, encoded, list(tokens.values()), seconds, until(self._timeout))
        )

    async def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        seconds = self._seconds(ttl)
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        existed = {}
        for key, status in zip(
            unique, await self._engine.touch_many(unique, seconds, until(self._timeout)), strict=True
        ):
            if isinstance(status, str):
                raise self._refusal(key, status)
            existed[key] = status
        return existed

    # -- the backend as a whole ------------------------------------------------------------------

    def scan_chunks(self, prefix: str, batch_size: int) -> AsyncGenerator[list[str], None]:
        if prefix:
            wire.check_memcached_keys((prefix,))
        return in_lists(self._engine.scan(prefix, lambda: until(self._timeout)), batch_size)

    async def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        check_clear(prefix, everything, is_own=False)
        if prefix is None:
            await self._engine.clear(until(self._timeout))
        else:
            await delete_prefix(self, prefix)

    async def ping(self) -> bool:
        return await self._engine.ping(until(self._timeout))

    async def stats(self) -> dict[str, Any]:
        figures = await self._engine.stats(until(self._timeout))
        return {
            "entries": int(figures[b"curr_items"]),
            "hits": int(figures[b"get_hits"]),
            "misses": int(figures[b"get_misses"]),
            "evictions": int(figures[b"evictions"]),
            "memory_bytes": int(figures[b"bytes"]),
        }

    def owners(self, keys: Sequence[str]) -> bytes:
        return self._engine.owners(keys)

    def pools(self) -> list[PoolState]:
        return self._engine.pools()

    async def close(self) -> None:
        await self._engine.close()

    # -- how -------------------------------------------------------------------------------------

    def _seconds(self, ttl: TTL) -> int:
        return self._default_ttl if ttl is None else check_ttl(ttl)

    def _seconds_or_keep(self, ttl: TTL | KeepTTL) -> int | KeepTTL:
        return KEEP_TTL if isinstance(ttl, KeepTTL) else self._seconds(ttl)

    async def _write_one(self, key: str, value: Value, seconds: int | KeepTTL, mode: bytes) -> bool:
        wire.check_memcached_keys((key,))
        (status,) = await self._engine.write(
            [key], wire.encode_values([key], [value]), seconds, mode, until(self._timeout)
        )
        if isinstance(status, str):
            raise self._refusal(key, status)
        return status is True

    def _refusal(self, key: str, reason: str) -> BackendError:
        if isinstance(reason, Unwritten):
            reason.error.maybe_applied = reason.maybe_applied
            return reason.error
        return BackendError(f"{self._engine.server}, key {key}: {reason}")

    async def _write(self, mapping: Mapping[str, Value], seconds: int | KeepTTL, mode: bytes) -> Outcome:
        keys = list(mapping)
        wire.check_memcached_keys(keys)
        values = wire.encode_values(keys, list(mapping.values()))
        if not keys:
            return Outcome()
        return _outcome(keys, await self._engine.write(keys, values, seconds, mode, until(self._timeout)))


def _outcome(keys: Sequence[str], statuses: Sequence[bool | str]) -> Outcome:
    if statuses.count(True) == len(keys):
        return Outcome(dict.fromkeys(keys, True))
    outcome = Outcome()
    for key, status in zip(keys, statuses, strict=True):
        outcome[key] = status is True
        if isinstance(status, str):
            outcome.reasons[key] = status
            if isinstance(status, Unwritten) and status.maybe_applied:
                outcome.unsure.add(key)
    return outcome
