"""``on_failure="miss"``: a cache that fails behaves as if it were empty and forgot at once.

Reads miss, writes of rows do not raise, updates find no row, deletes find nothing. What exists for agreement among
several callers (``add``, ``incr``, compare-and-set) still raises.

*Invalidations are not lost.* A key whose write or delete was not confirmed may still have its old value. Such keys are
remembered, and are misses in this process until they have been deleted; that is tried before each operation.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from typing import Any

from ...deadlines import deadline
from ...errors import BackendError
from ...logs import log
from ...types import TTL, KeepTTL, Outcome, PoolState, Value
from .commands import Commands
from .invalidations import Invalidations
from .sync_bridge import Chunks, OnePart

__all__ = ["MissOnFailure"]

_UNBOUNDED = nullcontext()
_NONE: AbstractSet[str] = frozenset()

# Raised before anything is sent.
_REFUSED = (TypeError, ValueError, NotImplementedError)


class MissOnFailure:
    """The :class:`~.commands.Commands` of a backend whose failures count as misses.

    Args:
        commands: the commands that may fail.
        invalidations: the keys that are to be deleted.
        server: the name of the servers for messages.
        operation_timeout: seconds that an operation may take; ``None`` without a bound.
    """

    def __init__(
        self, commands: Commands, invalidations: Invalidations, server: str, operation_timeout: float | None
    ) -> None:
        self._commands = commands
        self._pending = invalidations
        self._server = server
        self._timeout = operation_timeout

    # -- reads -----------------------------------------------------------------------------------

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._read(key, None, self._commands.get, key)
        return value

    async def has(self, key: str) -> bool:
        found: bool = await self._read(key, False, self._commands.has, key)
        return found

    async def ttl(self, key: str) -> int | None:
        left: int | None = await self._read(key, None, self._commands.ttl, key)
        return left

    async def touch(self, key: str, ttl: TTL = None) -> bool:
        existed: bool = await self._read(key, False, self._commands.touch, key, ttl)
        return existed

    async def get_many(self, *keys: str) -> list[bytes | None]:
        return await self._read_part(keys, self._commands.get_many, *keys)

    def get_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        chunks = self._commands.get_chunks(keys)
        if isinstance(chunks, OnePart):
            return OnePart(self._read_part, keys, chunks.__anext__)
        return self._read_parts(keys, chunks)

    async def touch_many(self, keys: Sequence[str], ttl: TTL = None) -> dict[str, bool]:
        with self._bounded():
            hidden = await self._hidden(keys) if self._pending else _NONE
            try:
                existed: dict[str, bool] = await self._commands.touch_many(keys, ttl)
            except BackendError as error:
                self._pending.count_failed_read(error)
                return dict.fromkeys(keys, False)
        return {key: found and key not in hidden for key, found in existed.items()} if hidden else existed

    # -- writes ----------------------------------------------------------------------------------

    async def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return await self._write((key,), True, self._commands.set, key, value, ttl)

    async def replace(self, key: str, value: Value, ttl: TTL | KeepTTL = None) -> bool:
        return await self._write((key,), False, self._commands.replace, key, value, ttl)

    async def delete(self, key: str) -> bool:
        return await self._delete((key,), self._commands.delete)

    async def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return await self._write_many(mapping, True, self._commands.set_many, ttl)

    async def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        return await self._write_many(mapping, False, self._commands.replace_many, ttl)

    async def delete_many(self, *keys: str) -> bool:
        return await self._delete(keys, self._commands.delete_many)

    # -- what exists for agreement, and the backend as a whole -----------------------------------

    async def add(self, key: str, value: Value, ttl: TTL = None) -> bool:
        added: bool = await self._agree((key,), self._commands.add, key, value, ttl)
        return added

    async def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        outcome: Outcome = await self._agree([*mapping], self._commands.add_many, mapping, ttl)
        return outcome

    async def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        counted: int = await self._agree((key,), self._commands.incr, key, delta, ttl)
        return counted

    async def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
        entries: list[tuple[bytes, Any] | None] = await self._agree(keys, self._commands.get_many_cas, *keys)
        return entries

    async def compare_and_set_many(
        self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
    ) -> Outcome:
        outcome: Outcome = await self._agree([*mapping], self._commands.compare_and_set_many, mapping, ttl)
        return outcome

    async def scan_chunks(self, prefix: str, batch_size: int) -> AsyncGenerator[list[str], None]:
        if self._pending:
            with self._bounded():
                await self._invalidate()
        async with aclosing(self._commands.scan_chunks(prefix, batch_size)) as chunks:
            async for keys in chunks:
                hidden = self._pending.among(keys) if self._pending else _NONE
                if found := [key for key in keys if key not in hidden] if hidden else keys:
                    yield found

    async def clear(self, prefix: str | None = None, *, everything: bool = False) -> None:
        await self._commands.clear(prefix, everything=everything)

    async def ping(self) -> bool:
        reply: bool = await self._commands.ping()
        return reply

    async def stats(self) -> dict[str, Any]:
        reply: dict[str, Any] = await self._commands.stats()
        return reply

    def pools(self) -> list[PoolState]:
        states: list[PoolState] = self._commands.pools()
        return states

    async def close(self) -> None:
        await self._commands.close()

    # -- deleting what was not deleted -----------------------------------------------------------

    def _bounded(self) -> AbstractContextManager[None]:
        """Bound an operation in all, if it has keys to delete before it begins."""
        return deadline(self._timeout) if self._pending and self._timeout is not None else _UNBOUNDED

    async def _hidden(self, keys: Sequence[str]) -> AbstractSet[str]:
        """Delete remembered keys as long as that works. Return which of ``keys`` are still to be deleted."""
        await self._invalidate()
        hidden = self._pending.among(keys)
        if hidden:
            self._pending.count_failed_read(None)
        return hidden

    async def _invalidate(self) -> BackendError | None:
        """Delete remembered keys, server by server; return why some could not be deleted."""
        pending = self._pending
        if due := pending.take_due():
            self._remember(due, False)
            pending.drop_due(due)
        failure: BackendError | None = None
        for owner in pending.groups():
            for part in pending.parts(owner):
                try:
                    with suppress(*_REFUSED):  # a key that cannot be stored has no old value
                        await self._commands.delete_many(*part)
                except BackendError as error:
                    failure = error
                    break
                pending.done(owner, part)
        return failure

    def _remember(self, keys: Collection[str], late: bool) -> None:
        self._pending.add(keys, self._commands.owners([*keys]), late)

    # -- how -------------------------------------------------------------------------------------

    async def _read(self, key: str, missed: Any, command: Callable[..., Any], *args: Any) -> Any:
        pending = self._pending
        with self._bounded():
            # Looked at before as well: a read that was sent before the key was deleted may end after that.
            if pending and await self._hidden((key,)):
                return missed
            try:
                found = await command(*args)
            except BackendError as error:
                pending.count_failed_read(error)
                return missed
        return missed if pending and key in pending else found

    async def _read_part(self, keys: Sequence[str], command: Callable[..., Any], *args: Any) -> list[bytes | None]:
        pending = self._pending
        with self._bounded():
            hidden = await self._hidden(keys) if self._pending else _NONE
            try:
                values: list[bytes | None] = await command(*args)
            except BackendError as error:
                pending.count_failed_read(error)
                return [None] * len(keys)
        return pending.without(keys, values, hidden)

    async def _read_parts(self, keys: Sequence[str], chunks: Any) -> AsyncGenerator[list[bytes | None], None]:
        with self._bounded():  # not around a yield: the caller would be bounded as well
            hidden = await self._hidden(keys) if self._pending else _NONE
        done = 0
        try:
            async with aclosing(chunks):
                async for values in chunks:
                    yield self._pending.without(keys, values, hidden, done)
                    done += len(values)
        except BackendError as error:
            self._pending.count_failed_read(error)
        if done < len(keys):
            yield [None] * (len(keys) - done)

    async def _write(self, keys: Sequence[str], failed: bool, command: Callable[..., Any], *args: Any) -> bool:
        """Write an entry; return ``failed`` if that is not confirmed."""
        with self._bounded():
            hidden = await self._hidden(keys) if self._pending else _NONE
            if hidden and not failed:
                self._remember(hidden, False)  # anew: it was to be changed now
                return failed
            mark = self._pending.mark()
            try:
                done: bool = await command(*args)
            except BackendError as error:
                self._drop(keys, error.maybe_applied, error)
                return failed
            except _REFUSED:
                raise
            except BaseException:
                self._remember(keys, True)
                raise
        self._forget(keys, mark)
        return done

    async def _write_many(
        self, mapping: Mapping[str, Value], failed: bool, command: Callable[..., Any], ttl: TTL | KeepTTL
    ) -> Outcome:
        """Write entries; those that are not confirmed are ``failed`` in the outcome."""
        keys = [*mapping]
        with self._bounded():
            hidden = await self._hidden(keys) if self._pending else _NONE
            if hidden and not failed:
                self._remember(hidden, False)
                mapping = {key: value for key, value in mapping.items() if key not in hidden}
            mark = self._pending.mark()
            try:
                outcome: Outcome = await command(mapping, ttl)
            except BackendError as error:
                self._drop(keys, error.maybe_applied, error)
                return Outcome(dict.fromkeys(keys, failed))
            except _REFUSED:
                raise
            except BaseException:
                self._remember(keys, True)
                raise
        reasons = outcome.reasons
        self._forget([key for key in outcome if key not in reasons] if reasons else outcome, mark)
        if not reasons and len(outcome) == len(keys):
            return outcome
        for late in (True, False):
            if dropped := [key for key in reasons if (key in outcome.unsure) is late]:
                self._drop(dropped, late, reasons[dropped[0]])
        return Outcome({key: failed if key in reasons else outcome.get(key, failed) for key in keys})

    async def _delete(self, keys: Sequence[str], command: Callable[..., Any]) -> bool:
        """Delete entries; return whether all existed, ``False`` if that is not confirmed."""
        with self._bounded():
            hidden = await self._hidden(keys) if self._pending else _NONE
            mark = self._pending.mark()
            try:
                existed: bool = await command(*keys)
            except BackendError as error:
                self._drop(keys, False, error)
                return False
            except _REFUSED:
                raise
            except BaseException:
                self._remember(keys, False)
                raise
        self._forget(keys, mark)
        return existed and not hidden

    async def _agree(self, keys: Sequence[str], command: Callable[..., Any], *args: Any) -> Any:
        """Run a command that raises if it fails, and if what it finds may be old."""
        pending = self._pending
        with self._bounded():
            if pending:
                failure = await self._invalidate()
                if hidden := pending.among(keys):
                    raise failure or BackendError(
                        f"{self._server}, key {min(hidden)}: a write whose reply was lost may still be executed;"
                        " try again in a second"
                    )
            return await command(*args)

    def _forget(self, keys: Collection[str], mark: int) -> None:
        if self._pending:
            self._pending.forget(keys, mark)

    def _drop(self, keys: Collection[str], late: bool, reason: object) -> None:
        """Remember keys whose write or delete was not confirmed."""
        self._remember(keys, late)
        what = "writes are dropped"
        log(logging.WARNING, what, '%s fails, and with on_failure="miss" %s: %s', self._server, what, reason)
