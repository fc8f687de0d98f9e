"""A Redis service under sentinels: whichever server they name as the primary, and the next one after a failover.

The rules are those of https://redis.io/docs/latest/develop/reference/sentinel-clients/:

* *Ask before connecting.* Each connection is made to the server that a sentinel names at that time, and is used only if
  the server says that it is a primary.
* *Ask again.* Connections that work do not show that another server has taken over: for seconds, the one before goes on
  taking writes that it will lose. While there is traffic, a sentinel is asked once a second.
* *Leave a server that is none.* When a connection breaks, stays silent or is refused, or the server says that it takes
  no writes (``READONLY``), all connections to it are dropped, and the sentinels are asked again.
* *Repeat once* what changes nothing if it is run twice, and what certainly was not run. Everything else is an error
  that says ``maybe_applied``.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 -- the driver's own, unrelated to the built-in
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 -- likewise
)

from ...errors import BackendError
from ...types import PoolState
from .._driving import Chunks, OnePart
from ..base import later_part
from .reach import Reach
from .sentinels import Address, Sentinels
from .server import Server, is_one_read
from .transport import Command, Effect, Links

__all__ = ["Watched"]

T = TypeVar("T")


# Seconds after which a sentinel is asked whether the primary still is the primary.
_TRUSTED = 1.0


class _Primary(Server):
    """A server that sentinels named, at ``address``."""

    def __init__(self, links: Links, address: Address) -> None:
        super().__init__(links)
        self.address = address


class _NotPrimaryError(RedisError):
    """A connection leads to a server that is not the primary, or not any more."""


class Watched:
    """A :class:`~.transport.Transport` to the primary of a service.

    Args:
        sentinels: who name it.
        reach: how it, and they, are reached.
    """

    def __init__(self, sentinels: Sentinels, reach: Reach) -> None:
        self.server = sentinels.server
        self._sentinels = sentinels
        self._reach = reach
        self._places = list(sentinels.places)
        self._current: _Primary | None = None
        self._trusted_until = 0.0
        self._searches = 0
        self._failure: BackendError | None = None
        self._lock = reach.lock()

    # -- what a transport does -------------------------------------------------------------------

    async def run(self, key: str, commands: Sequence[Command], effect: Effect, transaction: bool = False) -> list[Any]:
        """Send a few commands at once and give their replies."""
        return await self._attempt(
            effect, lambda server: server.run(key, commands, effect, transaction), lambda replies: bool(_due(replies))
        )

    async def run_each(self, requests: Sequence[tuple[str, Command]], effect: Effect) -> list[Any]:
        """Send commands, and give their replies; those that a server refused, being no primary, are sent again."""
        return await self._each(len(requests), effect, lambda server, due: server.run_each(_at(requests, due), effect))

    async def run_everywhere(self, commands: Sequence[Command], effect: Effect) -> list[list[Any]]:
        """Send commands to the primary; give their replies, as those of one of one."""
        return await self._attempt(effect, lambda server: server.run_everywhere(commands, effect))

    def groups(self, keys: Sequence[str], limit: int) -> Iterator[list[int]]:
        """Divide keys into parts of at most ``limit``."""
        for start in range(0, len(keys), limit):
            yield list(range(start, min(start + limit, len(keys))))

    async def write(
        self, keys: Sequence[str], values: Sequence[bytes], seconds: int, condition: bytes
    ) -> list[bytes | Exception | None]:
        """Store entries and give one reply each."""
        # Who adds an entry again finds his own.
        effect = Effect.STEP if condition == b"NX" else Effect.SAME
        return await self._each(
            len(keys),
            effect,
            lambda server, due: server.write(_at(keys, due), _at(values, due), seconds, condition),
        )

    def read_chunks(self, keys: Sequence[str]) -> Chunks[list[bytes | None]]:
        """Yield the values of ``keys`` in their order; where one server leaves off, the next one goes on."""
        return OnePart(self._read, keys) if is_one_read(keys) else self._read_parts(keys)

    async def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._attempt(Effect.READ, lambda server: server.read(keys))

    async def _read_parts(self, keys: Sequence[str]) -> AsyncGenerator[list[bytes | None], None]:
        done = 0
        for attempt in (1, 2):
            server = await self._primary()
            try:
                async with aclosing(server.read_chunks(keys[done:] if done else keys)) as chunks:
                    async for values in chunks:
                        done += len(values)
                        yield values
                return
            except BackendError as error:
                if not _is_lost(error):
                    raise
                await self._leave(server)
                if attempt == 2:
                    raise

    def pools(self) -> list[PoolState]:
        """Return how the connections to the primary are used, if it is known."""
        return [] if self._current is None else self._current.pools()

    async def close(self) -> None:
        """Close the connections; the next operation makes new ones."""
        if self._current is not None:
            await self._leave(self._current)

    # -- trying, and trying again ----------------------------------------------------------------

    async def _attempt(
        self,
        effect: Effect,
        work: Callable[[_Primary], Awaitable[T]],
        is_refused: Callable[[T], bool] = lambda result: False,
    ) -> T:
        """Do something with the primary, and once more with the one after it."""
        maybe_applied = False
        attempts = 2
        while True:
            attempts -= 1
            with later_part(maybe_applied):
                server = await self._primary()
                try:
                    result = await work(server)
                except BackendError as error:
                    if not _is_lost(error):
                        raise
                    await self._leave(server)
                    maybe_applied = error.maybe_applied
                    if not attempts or (maybe_applied and effect is Effect.STEP):
                        raise
                    continue
            if not is_refused(result):
                return result
            await self._leave(server)
            if not attempts:
                return result

    async def _each(
        self, count: int, effect: Effect, send: Callable[[_Primary, Sequence[int]], Awaitable[list[Any]]]
    ) -> list[Any]:
        """Send what stands at some positions: all at first, and then what was refused."""
        replies: list[Any] = []
        due: Sequence[int] = range(count)

        async def work(server: _Primary) -> Sequence[int]:
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

        await self._attempt(effect, work, bool)
        return replies

    # -- who is the primary ----------------------------------------------------------------------

    async def _primary(self) -> _Primary:
        """Give the primary; where it is not known, one looks for it, and all others wait for what he finds."""
        current = self._current
        if current is not None and time.monotonic() >= self._trusted_until:
            # Before it is known, so that others do not ask at the same time.
            self._trusted_until = time.monotonic() + _TRUSTED
            if await self._is_replaced(current):
                await self._leave(current)
            current = self._current
        if current is not None:
            return current
        searches = self._searches
        async with self._lock:
            current = self._current
            if current is not None:
                return current
            if self._failure is not None and self._searches != searches:
                raise BackendError(*self._failure.args) from self._failure.__cause__
            self._failure = None
            try:
                current = self._current = await self._find()
            except BackendError as error:
                self._failure = error
                self._searches += 1
                raise
            self._trusted_until = time.monotonic() + _TRUSTED
            return current

    async def _is_replaced(self, server: _Primary) -> bool:
        try:
            return await self._named() != server.address
        except BackendError:  # nobody can tell: it goes on while its connections do
            return False

    async def _leave(self, server: _Primary) -> None:
        """Drop all connections to a server, unless another has taken its place already."""
        if self._current is server:
            self._current = None
            await server.close()

    async def _find(self) -> _Primary:
        """Connect to the primary. A sentinel may be behind the times: then the next one is asked."""
        failures: dict[Address, BackendError] = {}
        while True:
            try:
                address = await self._named(failures)
            except BackendError:
                if not failures:
                    raise
                break
            links = self._reach.links(self._sentinels.endpoint.at(*address), _IsPrimary(address, self._named))
            try:
                await links.give_back(await links.take(), True)
                return _Primary(links, address)
            except BackendError as error:
                if not _is_lost(error):
                    raise
                failures[address] = error
        # What these servers said is more to the point than that no sentinel names another.
        raise next(iter(failures.values()))

    async def _named(self, known: Collection[Address] = ()) -> Address:
        """Ask one sentinel after the other for the primary, until one names a server that is not ``known``."""
        problems = []
        places, failed = [*self._places], []
        cause: BaseException | None = None
        while places:
            host, port = place = places.pop(0)
            try:
                address = await self._ask(place)
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
        raise BackendError(f"{self.server}: {'; '.join(problems) or 'no sentinel names another primary'}") from cause

    async def _ask(self, place: Address) -> Address:
        sentinel = Server(self._reach.links(self._sentinels.watcher.at(*place), None))
        command = ("SENTINEL", "MASTER", self._sentinels.service)
        try:
            (reply,) = await sentinel.run("", [command], Effect.READ)
        finally:
            await sentinel.close()
        return self._sentinels.read_answer(reply)


class _IsPrimary:
    """An :class:`~.reach.Admission`: a sentinel still names the server, and the server says that it is a primary.

    Args:
        address: that of the server, which a sentinel has just named.
        named: asks the sentinels for the primary's address.
    """

    def __init__(self, address: Address, named: Callable[[], Awaitable[Address]]) -> None:
        self._address = address
        self._named = named
        self._asked = True

    async def before(self) -> None:
        try:
            if not self._asked and (named := await self._named()) != self._address:
                raise _NotPrimaryError(f"by now the sentinels name {named[0]}:{named[1]} as the primary")
        except BackendError as error:
            raise _NotPrimaryError(str(error)) from error
        self._asked = False

    async def after(self, connection: Any) -> None:
        await _settled(connection.send_command("ROLE"))
        try:
            role = await _settled(connection.read_response(disable_decoding=True))
        except ResponseError:  # the user may not ask: writes will tell
            return
        if role[0] != b"master":
            raise _NotPrimaryError(f"{connection.host}:{connection.port} is a replica, though a sentinel named it")


async def _settled(value: Any) -> Any:
    """Give what a method of redis-py gives, or in its kind for asyncio promises to give."""
    return await value if inspect.isawaitable(value) else value


def _is_lost(error: BackendError) -> bool:
    """Tell whether an error says that the server is not the one to speak to, or not any more."""
    cause = error.__cause__
    if isinstance(cause, AuthenticationError):  # a connection error to redis-py
        return False
    return isinstance(cause, (ConnectionError, TimeoutError, OSError, ReadOnlyError, MasterDownError, _NotPrimaryError))


_SETTLED = {bytes, int, type(None)}


def _due(replies: Sequence[Any]) -> list[int]:
    """Give the positions of replies that a server refused because it is no primary: nothing was done."""
    if set(map(type, replies)) <= _SETTLED:
        return []
    return [position for position, reply in enumerate(replies) if _is_refusal(reply)]


def _is_refusal(reply: Any) -> bool:
    if isinstance(reply, list):  # of a script, which gives the server's words for each entry
        return any(isinstance(item, bytes) and item.startswith(b"READONLY") for item in reply)
    return isinstance(reply, (ReadOnlyError, MasterDownError))


def _at(items: Sequence[T], positions: Sequence[int]) -> Sequence[T]:
    return items if len(positions) == len(items) else [items[position] for position in positions]
