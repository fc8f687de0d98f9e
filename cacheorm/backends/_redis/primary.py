"""A Redis service under sentinels: whichever server they name as the primary, and the next one after a failover.

The rules are those of https://redis.io/docs/latest/develop/reference/sentinel-clients/:

* *Ask before connecting.* Connections are made to the server that a sentinel names at that time, and used only if the
  server says that it is a primary.
* *Ask again.* Connections that work do not show that another server has taken over: for seconds, the one before goes on
  taking writes that it will lose. While there is traffic, a sentinel is asked once a second.
* *Leave a server that is none.* When a connection breaks, stays silent or is refused, or the server says that it takes
  no writes (``READONLY``), all connections to it are dropped, and the sentinels are asked again.
* *Repeat once* what changes nothing if it is executed twice, and what certainly was not executed. Everything else is an
  error that says ``maybe_applied``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import MasterDownError, ReadOnlyError

from ...errors import BackendError
from ...types import PoolState
from .._net.breaker import Breakers
from .._net.exchange import half_of, may_repeat, run_exchange
from .._net.scanning import Ends
from .._net.sync_bridge import Chunks, OnePart
from .._net.transport import IO, Effect, UnreachableError, UnsuitableError
from ..base import later_part
from .endpoint import RedisEndpoint
from .exchanges import READ_CHUNK, Command, Unit
from .refusals import is_read_only
from .scanning import scan_server
from .sentinels import Address, Sentinels
from .single import SingleServer, groups_of

__all__ = ["Primary"]

T = TypeVar("T")

# Seconds after which a sentinel is asked whether the primary still is the primary.
_TRUSTED = 1.0


class _Server(SingleServer):
    """A server that sentinels named, at ``address``."""

    def __init__(
        self,
        endpoint: RedisEndpoint,
        io: IO,
        breakers: Breakers,
        address: Address,
        named: Callable[[float], Awaitable[Address]],
    ) -> None:
        super().__init__(endpoint, io, breakers)
        self.address = address
        self._named = named
        self._is_just_named = True
        self.pool.confirm = self._confirm

    async def _confirm(self, end: float) -> None:
        """Ask the sentinels before each connection: a server that was restarted takes itself for a primary."""
        if self._is_just_named:
            self._is_just_named = False
        elif await self._named(end) != self.address:
            raise UnsuitableError(f"{self.server}: the sentinels name another primary")


class _PrimaryEndpoint(RedisEndpoint):
    """A server whose connections are used only if it says that it is a primary."""

    def greeting(self, probes: bool) -> Unit | None:
        return _RoleCheck(self.options)


class _RoleCheck(Unit):
    """Asks a server for its role.

    Args:
        options: how it is connected to.
    """

    def __init__(self, options: Any) -> None:
        super().__init__([("ROLE",)], Effect.READ)
        self._where = f"{options.get('host')}:{options.get('port')}"

    def read(self, reader: Any) -> bool:
        done = super().read(reader)
        (reply,) = self.replies
        # A user without the right to ask is let through: writes will tell.
        if done and isinstance(reply, list) and reply[0] != b"master":
            raise UnsuitableError(f"{self._where} is a replica, though a sentinel named it")
        return done


class _ReplacedError(Exception):
    """Another server has taken over."""


class Primary:
    """A :class:`~.topology.Topology` of the primary of a service.

    Args:
        sentinels: the service and those who name its primary.
        io: the kind of I/O.
        breakers: those of the backend.
    """

    def __init__(self, sentinels: Sentinels, io: IO, breakers: Breakers) -> None:
        self.server = sentinels.server
        self._sentinels = sentinels
        self._io = io
        self._breakers = breakers
        self._places = list(sentinels.places)
        self._current: _Server | None = None
        self._trusted_until = 0.0
        self._searches = 0
        self._failure: BackendError | None = None
        self._lock = io.lock(self.server)

    # -- what a topology does --------------------------------------------------------------------

    async def run(
        self, key: str, commands: Sequence[Command], effect: Effect, end: float, transaction: bool = False
    ) -> list[Any]:
        """Send a few commands about one key; return their replies."""
        return await self._attempt(
            effect,
            end,
            lambda server: server.run(key, commands, effect, end, transaction),
            lambda replies: any(map(is_read_only, replies)),
        )

    async def run_each(self, keys: Sequence[str], commands: Sequence[Command], effect: Effect, end: float) -> list[Any]:
        """Send commands; return their replies. Those that a server refused, being no primary, are sent again."""

        def send(server: _Server, due: Sequence[int]) -> Awaitable[list[Any]]:
            return server.run_each(_at(keys, due), _at(commands, due), effect, end)

        return await self._each(len(commands), effect, end, send)

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect, end: float) -> list[list[Any]]:
        """Send commands to the primary; return their replies, as those of one of one."""
        return await self._attempt(effect, end, lambda server: server.run_everywhere(commands, effect, end))

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes, end: float
    ) -> list[Any]:
        """Store entries; return one reply each."""

        def send(server: _Server, due: Sequence[int]) -> Awaitable[list[Any]]:
            return server.write(_at(keys, due), _at(values, due), seconds, condition, end)

        # An entry that is added again finds itself.
        return await self._each(len(keys), Effect.STEP if condition == b"NX" else Effect.SAME, end, send)

    def read_chunks(self, keys: Sequence[str], end: float) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order; where one server leaves off, the next one goes on."""
        return OnePart(self._read, keys, end) if 0 < len(keys) <= READ_CHUNK else self._read_parts(keys, end)

    async def _read(self, keys: Sequence[str], end: float) -> list[bytes | None]:
        return await self._attempt(Effect.READ, end, lambda server: server.read(keys, end))

    async def _read_parts(self, keys: Sequence[str], end: float) -> AsyncGenerator[list[bytes | None], None]:
        done = 0
        for attempt in (1, 2):
            server = await self._primary(end)
            try:
                async with aclosing(server.read_chunks(keys[done:] if done else keys, end)) as chunks:
                    async for values in chunks:
                        done += len(values)
                        yield values
                return
            except BackendError as error:
                if not _is_lost(error):
                    raise
                self._leave(server)
                if attempt == 2:
                    raise

    async def scan(self, pattern: bytes, count: int, ends: Ends) -> AsyncGenerator[list[str], None]:
        """Yield the keys that match a pattern; from the beginning again where another server takes over."""
        while True:
            address = (await self._primary(ends())).address
            found = scan_server(self.server, partial(self._ask_at, address), pattern, count, ends)
            with suppress(_ReplacedError):
                async with aclosing(found) as chunks:
                    async for keys in chunks:
                        yield keys
                return

    async def _ask_at(self, address: Address, commands: Sequence[Command], end: float) -> list[Any]:
        """Send commands that read to the primary, if that still is the server at an address."""

        async def ask(server: _Server) -> list[Any]:
            if server.address != address:
                raise _ReplacedError
            return await server.run("", commands, Effect.READ, end)

        return await self._attempt(Effect.READ, end, ask, lambda replies: any(map(is_read_only, replies)))

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into those that may go into one command, at most ``limit`` each; return their positions."""
        return groups_of(keys, limit)

    def owners(self, keys: Sequence[str]) -> Sequence[Hashable]:
        """Return the server of each key: the same one."""
        return bytes(len(keys))

    def pools(self) -> list[PoolState]:
        """Return the current use of the connections to the primary, if it is known."""
        return [] if self._current is None else self._current.pools()

    async def close(self) -> None:
        """Close the idle connections; the next operation looks for the primary anew."""
        if self._current is not None:
            self._leave(self._current)

    # -- trying, and trying again ----------------------------------------------------------------

    async def _attempt(
        self,
        effect: Effect,
        end: float,
        work: Callable[[_Server], Awaitable[T]],
        is_refused: Callable[[T], bool] = lambda result: False,
    ) -> T:
        """Do something with the primary, and once more with the one after it."""
        maybe_applied = False
        attempts = 2
        while True:
            attempts -= 1
            with later_part(maybe_applied):
                server = await self._primary(end)
                try:
                    result = await work(server)
                except BackendError as error:
                    if not _is_lost(error):
                        raise
                    self._leave(server)
                    maybe_applied = error.maybe_applied
                    if not attempts or not may_repeat(effect, maybe_applied) or time.monotonic() >= end:
                        raise
                    continue
            if not is_refused(result):
                return result
            self._leave(server)
            if not attempts:
                return result

    async def _each(
        self, count: int, effect: Effect, end: float, send: Callable[[_Server, Sequence[int]], Awaitable[list[Any]]]
    ) -> list[Any]:
        """Send the requests at all positions, then those again that were refused."""
        replies: list[Any] = []
        due: Sequence[int] = range(count)

        async def work(server: _Server) -> Sequence[int]:
            nonlocal replies, due
            with later_part(len(due) < count):
                again = await send(server, due)
            if replies:
                for position, reply in zip(due, again, strict=True):
                    replies[position] = reply
            else:
                replies = again
            due = _due(replies)
            return due

        await self._attempt(effect, end, work, bool)
        return replies

    # -- which server is the primary -------------------------------------------------------------

    async def _primary(self, end: float) -> _Server:
        """Return the primary. If it is not known, one looks for it, and all others wait for what that one finds."""
        current = self._current
        if current is not None and time.monotonic() >= self._trusted_until:
            # Before it is known, so that others do not ask at the same time.
            self._trusted_until = time.monotonic() + _TRUSTED
            if await self._is_replaced(current, end):
                self._leave(current)
            current = self._current
        if current is not None:
            return current
        searches = self._searches
        with await self._lock.take(end):
            current = self._current
            if current is not None:
                return current
            if self._failure is not None and self._searches != searches:
                raise type(self._failure)(*self._failure.args) from self._failure.__cause__
            self._failure = None
            try:
                current = self._current = await self._find(end)
            except BackendError as error:
                self._failure = error
                self._searches += 1
                raise
            self._trusted_until = time.monotonic() + _TRUSTED
            return current

    async def _is_replaced(self, server: _Server, end: float) -> bool:
        try:
            # Half of the time: if no sentinel answers, the operation goes on.
            return await self._named(half_of(end)) != server.address
        except BackendError:  # nobody can tell: it goes on while its connections do
            return False

    def _leave(self, server: _Server) -> None:
        """Drop all connections to a server, unless another has taken its place already."""
        if self._current is server:
            self._current = None
            server.pool.close(retire=True)

    async def _find(self, end: float) -> _Server:
        """Connect to the primary. A sentinel may be out of date: then the next one is asked."""
        failures: dict[Address, BackendError] = {}
        while True:
            try:
                address = await self._named(end, failures)
            except BackendError:
                if not failures:
                    raise
                break
            server = _Server(self._endpoint(address), self._io, self._breakers, address, self._named)
            try:
                server.pool.give_back(await server.pool.take(end), True)
                return server
            except BackendError as error:
                server.pool.close(retire=True)
                if not _is_lost(error):
                    raise
                failures[address] = error
        # What these servers said is more to the point than that no sentinel names another.
        raise next(iter(failures.values()))

    def _endpoint(self, address: Address) -> RedisEndpoint:
        return self._sentinels.endpoint.at(*address).as_kind(_PrimaryEndpoint)

    async def _named(self, end: float, known: Collection[Address] = ()) -> Address:
        """Ask one sentinel after the other for the primary, until one names a server that is not ``known``."""
        problems = []
        places, failed = [*self._places], []
        cause: BaseException | None = None
        while places:
            host, port = place = places.pop(0)
            try:
                # One that does not answer leaves time for the others, and for the primary.
                address = await self._ask(place, half_of(end))
            except (BackendError, ValueError) as error:
                cause = error.__cause__ or error
                problems.append(f"sentinel {host}:{port}: {cause}")
                failed.append(place)
                continue
            if address not in known:
                # The next search begins with it, and ends with those that do not answer.
                self._places = [place, *places, *failed]
                return address
            failed.append(place)
        raise UnreachableError(
            f"{self.server}: {'; '.join(problems) or 'no sentinel names another primary'}"
        ) from cause

    async def _ask(self, place: Address, end: float) -> Address:
        endpoint = self._sentinels.watcher.at(*place)
        pool = self._io.pool(endpoint, self._breakers.of(f"sentinel {place[0]}:{place[1]}"))
        unit = Unit([("SENTINEL", "MASTER", self._sentinels.service)], Effect.READ)
        try:
            await run_exchange(pool, unit, end)
        finally:
            pool.close(retire=True)
        return self._sentinels.read_answer(unit.replies[0])


def _is_lost(error: BackendError) -> bool:
    """Return whether an error says that the server is not the one to speak to, or not any more."""
    if isinstance(error, UnreachableError):
        return True
    return isinstance(error.__cause__, (OSError, ReadOnlyError, MasterDownError))


_SETTLED = {bytes, int, type(None)}


def _due(replies: Sequence[Any]) -> list[int]:
    """Return the positions of replies that a server refused because it is no primary: nothing was done."""
    if set(map(type, replies)) <= _SETTLED:
        return []
    return [position for position, reply in enumerate(replies) if is_read_only(reply)]


def _at(items: Sequence[T], positions: Sequence[int]) -> Sequence[T]:
    return items if len(positions) == len(items) else [items[position] for position in positions]
