"""The methods of the memcached backend as coroutines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..._speedups import wire
from ...errors import BackendError
from ...types import KEEP_TTL, TTL, KeepTTL, Outcome, PoolState, Value, check_ttl
from .._driving import Chunks
from ..base import next_count, split_swaps
from .unwritten import Unwritten

__all__ = ["Engine", "MemcachedCommands"]


class Engine(Protocol):
    """A way to memcached. Keys were checked, values are bytes, lifetimes are whole seconds, 0 for ever."""

    server: str

    async def get(self, key: str) -> bytes | None: ...
    async def has(self, key: str) -> bool: ...
    async def touch(self, key: str, seconds: int) -> bool: ...
    async def ttl(self, key: str) -> int | None: ...
    async def count(self, key: str, delta: int, seconds: int) -> int: ...
    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]: ...
    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int | KeepTTL, mode: bytes
    ) -> list[bool | str]: ...
    async def delete(self, keys: Sequence[str]) -> int: ...
    async def touch_many(self, keys: Sequence[str], seconds: int) -> list[bool | str]: ...
    async def read_cas(self, keys: Sequence[str]) -> list[tuple[bytes, int] | None]: ...
    async def swap(
        self, keys: Sequence[str], values: Sequence[bytes], tokens: Sequence[int], seconds: int | KeepTTL
    ) -> list[bool | str]: ...
    async def clear(self) -> None: ...
    async def ping(self) -> bool: ...
    async def stats(self) -> dict[bytes, bytes]: ...
    def pools(self) -> list[PoolState]: ...
    async def close(self) -> None: ...


class MemcachedCommands:
    """What is asked of a backend, over an engine; whether it suspends is the engine's affair.

    Args:
        engine: the way to memcached.
        default_ttl: see :class:`~cacheorm.backends.base.BaseBackend`.
    """

    def __init__(self, engine: Engine, default_ttl: int) -> None:
        self._engine = engine
        self._default_ttl = default_ttl

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        wire.check_memcached_keys((key,))
        return await self._engine.get(key)

    async def has(self, key: str) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.has(key)

    async def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._write_one(key, value, self._seconds(ttl), b"S")

    async def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return await self._write_one(key, value, self._seconds_or_keep(ttl), b"R")

    async def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._write_one(key, value, self._seconds(ttl), b"E")

    async def delete(self, key: str) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.delete([key]) == 1

    async def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        wire.check_memcached_keys((key,))
        next_count(key, None, delta)
        return await self._engine.count(key, delta, self._seconds(ttl))

    async def touch(self, key: str, ttl: TTL = None) -> bool:
        wire.check_memcached_keys((key,))
        return await self._engine.touch(key, self._seconds(ttl))

    async def ttl(self, key: str) -> int | None:
        wire.check_memcached_keys((key,))
        return await self._engine.ttl(key)

    # -- batches ---------------------------------------------------------------------------------

    async def get_many(self, *keys: str) -> list[bytes | None]:
        wire.check_memcached_keys(keys)
        values: list[bytes | None] = []
        async for chunk in self._engine.read_chunks(keys):
            values += chunk
        return values

    def get_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        wire.check_memcached_keys(keys)
        return self._engine.read_chunks(keys)

    async def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"S")

    async def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return await self._write(mapping, self._seconds_or_keep(ttl), b"R")

    async def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"E")

    async def delete_many(self, *keys: str) -> bool:
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        return not unique or await self._engine.delete(unique) == len(unique)

    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        wire.check_memcached_keys(keys)
        return [*await self._engine.read_cas(keys)]

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
        return _outcome(keys, await self._engine.swap(keys, encoded, list(tokens.values()), seconds))

    async def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        seconds = self._seconds(ttl)
        wire.check_memcached_keys(keys)
        unique = list(dict.fromkeys(keys))
        existed = {}
        for key, status in zip(unique, await self._engine.touch_many(unique, seconds), strict=True):
            if isinstance(status, str):
                raise self._refusal(key, status)
            existed[key] = status
        return existed

    # -- the backend as a whole ------------------------------------------------------------------

    async def clear(self) -> None:
        await self._engine.clear()

    async def ping(self) -> bool:
        return await self._engine.ping()

    async def stats(self) -> dict[str, Any]:
        figures = await self._engine.stats()
        return {
            "entries": int(figures[b"curr_items"]),
            "hits": int(figures[b"get_hits"]),
            "misses": int(figures[b"get_misses"]),
            "evictions": int(figures[b"evictions"]),
            "memory_bytes": int(figures[b"bytes"]),
        }

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
        (status,) = await self._engine.write([key], wire.encode_values([key], [value]), seconds, mode)
        if isinstance(status, str):
            raise self._refusal(key, status)
        return status

    def _refusal(self, key: str, reason: str) -> BackendError:
        if isinstance(reason, Unwritten):
            return reason.error
        return BackendError(f"{self._engine.server}, key {key}: {reason}")

    async def _write(self, mapping: Mapping[str, Value], seconds: int | KeepTTL, mode: bytes) -> Outcome:
        keys = list(mapping)
        wire.check_memcached_keys(keys)
        values = wire.encode_values(keys, list(mapping.values()))
        if not keys:
            return Outcome()
        return _outcome(keys, await self._engine.write(keys, values, seconds, mode))


def _outcome(keys: Sequence[str], statuses: Sequence[bool | str]) -> Outcome:
    if statuses.count(True) == len(keys):
        return Outcome(dict.fromkeys(keys, True))
    outcome = Outcome()
    for key, status in zip(keys, statuses, strict=True):
        outcome[key] = status is True
        if isinstance(status, str):
            outcome.reasons[key] = status
            if isinstance(status, Unwritten) and status.error.maybe_applied:
                outcome.unsure.add(key)
    return outcome
