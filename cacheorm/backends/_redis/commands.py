"""The methods of a backend as Redis commands (https://redis.io/docs/latest/commands/), and what their replies mean."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

from ..._speedups import wire
from ...deadlines import until
from ...types import TTL, KeepTTL, Outcome, PoolState, Value
from .._net.scanning import delete_prefix, in_lists
from .._net.sync_bridge import Chunks, all_of
from .._net.transport import Effect
from ..base import later_part, next_count, split_swaps
from ..enumeration import check_clear
from .exchanges import Command, set_options
from .refusals import Unanswered, refuse, words_of
from .scanning import begins_with
from .swap import Swaps
from .topology import Topology

__all__ = ["RedisCommands"]

_CHUNK = 1000


class RedisCommands:
    """The commands of a :class:`~cacheorm.backends.redis.RedisBackend` over one topology.

    Args:
        topology: the servers.
        seconds: returns a lifetime as whole seconds, with the backend's default filled in.
        operation_timeout: seconds that an operation may take; ``None`` without a bound.
    """

    def __init__(self, topology: Topology, seconds: Callable[[TTL], int], operation_timeout: float | None) -> None:
        self._topology = topology
        self._filled = seconds
        self._timeout = operation_timeout
        self._server = topology.server

    # -- one entry -------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        reply: bytes | None = await self._run(key, ("GET", key))
        return reply

    async def has(self, key: str) -> bool:
        return bool(await self._run(key, ("EXISTS", key)))

    async def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._set(key, value, self._seconds(ttl), b"")

    async def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return await self._set(key, value, self._seconds(ttl), b"XX")

    async def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._set(key, value, self._seconds(ttl), b"NX")

    async def delete(self, key: str) -> bool:
        return bool(await self._run(key, ("DEL", key), effect=Effect.STEP))

    async def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        next_count(key, None, delta)  # a step beyond the range would leave a counter of 0 behind
        seconds = self._seconds(ttl)
        create = ("SET", key, 0, "EX", seconds, "NX") if seconds else ("SET", key, 0, "NX")
        count: int = await self._run(key, create, ("INCRBY", key, delta), effect=Effect.STEP, transaction=True)
        return count

    async def touch(self, key: str, ttl: TTL = None) -> bool:
        return bool(await self._run(key, *_touches([key], self._seconds(ttl)), effect=Effect.SAME))

    async def ttl(self, key: str) -> int | None:
        milliseconds: int = await self._run(key, ("PTTL", key))
        if milliseconds < 0:
            return 0 if milliseconds == -1 else None
        return max(1, -(-milliseconds // 1000))

    # -- batches ---------------------------------------------------------------------------------

    async def get_many(self, *keys: str) -> list[bytes | None]:
        wire.check_keys(keys)
        return await all_of(self._topology.read_chunks(keys, until(self._timeout)))

    def get_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        wire.check_keys(keys)
        return self._topology.read_chunks(keys, until(self._timeout))

    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        return [None if value is None else (value, value) for value in await self.get_many(*keys)]

    async def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"")

    async def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"XX")

    async def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write(mapping, self._seconds(ttl), b"NX")

    async def delete_many(self, *keys: str) -> bool:
        wire.check_keys(keys)
        unique = list(dict.fromkeys(keys))
        groups = [[unique[i] for i in group] for group in self._topology.groups(unique, _CHUNK)]
        firsts, commands = [group[0] for group in groups], [("DEL", *group) for group in groups]
        existed: int = sum(await self._replies(firsts, commands, Effect.STEP))
        return existed == len(unique)

    async def compare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> Outcome:
        seconds = self._seconds(ttl)
        keys = list(mapping)
        wire.check_keys(keys)
        values, tokens = split_swaps(mapping)
        old = wire.encode_values(keys, list(tokens.values()))
        new = wire.encode_values(keys, list(values.values()))
        batch = Swaps(keys, old, new, seconds)
        groups = [[0]]
        if len(keys) != 1:
            groups = [part for group in self._topology.groups(keys, _CHUNK) for part in batch.parts(group)]
        replies = await self._swap(batch, groups)
        if [*chain.from_iterable(replies)].count(1) == len(keys):
            return Outcome(dict.fromkeys(keys, True))
        outcome = Outcome(dict.fromkeys(keys, False))
        for group, done in zip(groups, replies, strict=True):
            for position, reply in zip(group, done, strict=True):
                outcome[keys[position]] = reply == 1
                if not isinstance(reply, int):
                    outcome.reasons[keys[position]] = reply.decode("utf-8", "replace")
        return outcome

    async def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        seconds = self._seconds(ttl)
        wire.check_keys(keys)
        unique = list(dict.fromkeys(keys))
        commands = _touches(unique, seconds)
        # The last one of each key tells.
        step = len(commands) // len(unique) if unique else 1
        keys = unique if step == 1 else [key for key in unique for _ in range(step)]
        replies = await self._replies(keys, commands, Effect.SAME)
        return dict(zip(unique, map(bool, replies[step - 1 :: step]), strict=True))

    # -- the backend as a whole ------------------------------------------------------------------

    def scan_chunks(self, prefix: str, batch_size: int) -> AsyncGenerator[list[str], None]:
        wire.check_keys((prefix,))
        found = self._topology.scan(begins_with(prefix), min(batch_size, _CHUNK), lambda: until(self._timeout))
        return in_lists(found, batch_size)

    async def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        check_clear(prefix, everything, is_own=False)
        if prefix is None:
            await self._topology.run_everywhere([("FLUSHDB",)], Effect.SAME, until(self._timeout))
        else:
            await delete_prefix(self, prefix)

    async def ping(self) -> bool:
        replies = await self._topology.run_everywhere([("PING",)], Effect.READ, until(self._timeout))
        return all(pong in (b"PONG", True) for (pong,) in replies)

    async def stats(self) -> dict[str, Any]:
        total = dict.fromkeys(("entries", "hits", "misses", "evictions", "memory_bytes"), 0)
        commands = [("DBSIZE",), ("INFO",)]
        for entries, info in await self._topology.run_everywhere(commands, Effect.READ, until(self._timeout)):
            figures = info if isinstance(info, dict) else _parse_info(info)
            total["entries"] += entries
            total["hits"] += int(figures["keyspace_hits"])
            total["misses"] += int(figures["keyspace_misses"])
            total["evictions"] += int(figures["evicted_keys"])
            total["memory_bytes"] += int(figures["used_memory"])
        return total

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        return self._topology.owners(keys)

    def pools(self) -> list[PoolState]:
        return self._topology.pools()

    async def close(self) -> None:
        await self._topology.close()

    # -- how -------------------------------------------------------------------------------------

    def _seconds(self, ttl: TTL | KeepTTL) -> int:
        """Give a lifetime in seconds, 0 for ever, -1 for the one that the entry has."""
        if isinstance(ttl, KeepTTL):
            return -1
        return self._filled(ttl)

    async def _run(self, key: str, *commands: Command, effect: Effect = Effect.READ, transaction: bool = False) -> Any:
        """Send commands about ``key``; return the reply to the last one."""
        wire.check_keys((key,))
        replies = await self._topology.run(key, commands, effect, until(self._timeout), transaction)
        for reply in replies:
            if isinstance(reply, str):
                refuse(f"{self._server}, key {key}", reply)
        return replies[-1]

    async def _replies(
        self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float | None = None
    ) -> list[Any]:
        """Send commands, each about one of as many keys; return their replies."""
        replies = await self._topology.run_each(keys, commands, effect, until(self._timeout) if end is None else end)
        if str in set(map(type, replies)):
            refused = next(reply for reply in replies if isinstance(reply, str))
            refuse(self._server, refused, effect is not Effect.READ and not all(isinstance(r, str) for r in replies))
        return replies

    async def _swap(self, batch: Swaps, groups: Sequence[list[int]]) -> list[Any]:
        """Run the script for each group; servers that do not know it by its digest are sent its text."""
        end = until(self._timeout)
        keys = [batch.keys[group[0]] for group in groups]
        replies = await self._topology.run_each(keys, [*map(batch.by_digest, groups)], Effect.STEP, end)
        if set(map(type, replies)) == {list}:
            return replies
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, str) and reply.startswith("NOSCRIPT")]
        if unknown:
            again = [batch.by_text(groups[i]) for i in unknown]
            with later_part(len(unknown) < len(groups)):
                texts = await self._topology.run_each([keys[i] for i in unknown], again, Effect.STEP, end)
            for i, reply in zip(unknown, texts, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, str):
                refuse(self._server, reply, any(not isinstance(reply, str) for reply in replies))
        return replies

    async def _set(self, key: str, value: Value, seconds: int, condition: bytes) -> bool:
        wire.check_keys((key,))
        (encoded,) = wire.encode_values([key], [value])
        effect = Effect.STEP if condition == b"NX" else Effect.SAME
        return await self._run(key, ("SET", key, encoded, *set_options(seconds, condition)), effect=effect) is not None

    async def _write(self, mapping: Mapping[str, Value], seconds: int, condition: bytes) -> Outcome:
        keys = list(mapping)
        wire.check_keys(keys)
        values = wire.encode_values(keys, list(mapping.values()))
        if not keys:
            return Outcome()
        replies = await self._topology.write(keys, values, seconds, condition, until(self._timeout))
        if replies.count(b"OK") == len(keys):
            return Outcome(dict.fromkeys(keys, True))
        outcome = Outcome()
        for key, reply in zip(keys, replies, strict=True):
            outcome[key] = reply == b"OK"
            if isinstance(reply, str):
                outcome.reasons[key] = words_of(reply)
                if isinstance(reply, Unanswered) and reply.maybe_applied:
                    outcome.unsure.add(key)
        return outcome


def _touches(keys: Sequence[str], seconds: int) -> list[Command]:
    """Return the commands for a new lifetime; the reply to the last one of a key tells whether the entry exists."""
    if seconds:
        return [("EXPIRE", key, seconds) for key in keys]
    # PERSIST answers 0 for an entry that never expires, as for one that is not there.
    return [command for key in keys for command in (("PERSIST", key), ("EXISTS", key))]


def _parse_info(text: bytes) -> dict[str, str]:
    """Parse the reply to ``INFO``: lines of ``name:value``."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
