"""A bounded number of connections to one server.

*A place belongs to its connection*: a connection counts as long as it exists and is not closed. So there is no step
that gives a place back, and none that an exception could skip. *Read all or close*: a connection is given back for
further use only after exactly the expected replies were read. *First come, first served*: of those who wait for a
connection, as many may look for one as there are, and nobody takes one of theirs. None is handed over, so none is lost
with a caller that is interrupted or whose time is up.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import weakref
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from ...errors import BackendError
from ...types import PoolState
from .breaker import Breaker
from .exchange import converse
from .lock import Hold, Turns
from .transport import BusyError, Effect, Endpoint, UnreachableError, UnsuitableError

__all__ = ["Pool", "Turn"]

# Seconds after which a caller that waits for a connection looks for one, though nobody has told it to: nobody does of
# one that went with an interrupted operation.
_LOOK_AGAIN = 0.1


class Turn(Hold):
    """The right of one who waits to the next connection, in the order of those who wait."""

    def ring(self) -> None:
        """Have :meth:`wait` return, now or when it is called next."""
        raise NotImplementedError

    async def wait(self, seconds: float) -> None:
        """Wait for :meth:`ring`, so many seconds at most."""
        raise NotImplementedError


class Pool:
    """Connections to one server. Subclasses add how connections of a kind of I/O are made and waited for.

    Args:
        endpoint: the server.
        breaker: that of the server.
        reply_limit: the most bytes of a reply.

    Attributes:
        server: its name for messages.
        confirm: awaited for each new connection, with the time to give up; raises
            :exc:`~.transport.UnsuitableError` if the server is not the one to connect to.
    """

    confirm: Callable[[float], Awaitable[None]] | None = None

    def __init__(self, endpoint: Endpoint, breaker: Breaker, reply_limit: int) -> None:
        self.server = endpoint.server
        self.breaker = breaker
        self._endpoint = endpoint
        self._reply_limit = reply_limit
        self._idle_limit = endpoint.idle_limit or math.inf
        self._failures = breaker.failures
        self._retired = False
        self._members: list[weakref.ref[Any]] = []
        self._idle: list[Any] = []
        self._turns: Turns[Turn] = Turns()
        self._waiting = self._turns.asked  # the same list, as each operation looks at it
        self._heard = 0.0
        breaker.watch(self)
        _pools.add(self)

    # -- for a kind of I/O -----------------------------------------------------------------------

    def _make(self) -> Any:
        """Return a transport that is not connected."""
        raise NotImplementedError

    def _begin_connecting(self, transport: Any, timeout: float | None) -> Any:
        """Begin to connect a transport. Return what :meth:`_connected` takes."""
        raise NotImplementedError

    async def _connected(self, connecting: Any, end: float) -> None:
        """Wait until a transport is connected.

        Raises:
            TimeoutError: it is not connected by ``end``.
        """
        raise NotImplementedError

    def _make_turn(self, end: float) -> Turn:
        """Return a turn for the caller."""
        raise NotImplementedError

    def _look(self) -> None:
        """Have those look for a connection who may, now that one can be taken."""
        if self._waiting:
            for turn in islice(self._turns, max(self._available, 0)):
                turn.ring()

    @property
    def _waiting_count(self) -> int:
        return sum(1 for _ in self._turns)

    # -- for those who have something to send ----------------------------------------------------

    def check_time(self, end: float) -> None:
        """Raise :exc:`UnreachableError` if the time of an operation is over, so that nothing is sent in vain."""
        if time.monotonic() >= end:
            raise UnreachableError(f"{self.server}: no time was left to ask it") from TimeoutError()

    def take_idle(self, in_turn: bool = False) -> Any:
        """Return an idle connection that can be used; ``None`` if there is none, or others wait for it.

        Each is looked at: what has arrived meanwhile is no reply to what is asked next.

        Args:
            in_turn: whether nobody who waits comes before the caller.
        """
        if (self._waiting and not in_turn) or self.breaker.failures != self._failures:
            return None
        idle = self._idle
        while idle:
            try:
                transport = idle.pop()
            except IndexError:  # another thread was faster
                break
            if self._can_reuse(transport):
                return transport
        return None

    async def take(self, end: float) -> Any:
        """Return a connection: an idle one, or a new one.

        Raises:
            BusyError: all connections stayed in use until ``end``.
            UnreachableError: the server cannot be reached, or is left alone.
            BackendError: the server refused the connection.
        """
        transport, opening = await self.reserve(end)
        if opening is not None:
            await opening.finish()
        return transport

    async def reserve(self, end: float) -> tuple[Any, Opening | None]:
        """Return a connection as :meth:`take` does; a new one is being opened, which is to be awaited before use."""
        reserved = self.reserve_now(end)
        if reserved is not None:
            return reserved
        turn = self._make_turn(end)
        try:
            self._turns.ask(turn)
            while (reserved := self.reserve_now(end, turn)) is None:
                left = end - time.monotonic()
                if left <= 0:
                    raise self._busy()
                await turn.wait(min(left, _LOOK_AGAIN))
        finally:
            turn.release()
            self._look()  # if it goes without what there is for it
        return reserved

    def reserve_now(self, end: float, turn: Turn | None = None) -> tuple[Any, Opening | None] | None:
        """Return a connection as :meth:`reserve` does; ``None`` if all are in use, or others come before.

        Args:
            end: when to give up.
            turn: that of a caller who waits.
        """
        probe = self.breaker.admit()
        if self._failures != self.breaker.failures:
            # Connections from before the server failed are of no use any more, though that may not show.
            self._failures = self.breaker.failures
            self.drop_idle()
        if self._left_for(turn) <= 0:
            return None
        transport = self.take_idle(in_turn=True) if probe is None else None
        if transport is not None:
            return transport, None
        transport = self._make()
        if self._admitted(transport):
            return transport, Opening(self, transport, end, probe)
        transport.close()  # and is not counted any more
        return None

    def give_back(self, transport: Any, complete: bool) -> None:
        """Take a connection back, and close it unless every expected reply was read."""
        if complete and not (transport.sending or transport.reader.pending or self._retired or transport.closed):
            transport.used = time.monotonic()
            self._idle.append(transport)
            self._look()
        else:
            if transport.sent and not complete:
                transport.drop_unsent()
            self._discard(transport)

    def failure(self, error: Exception, transport: Any, effect: Effect) -> BackendError:
        """Return the error for a connection that failed during an exchange; open the breaker after a timeout."""
        maybe_applied = effect is not Effect.READ and transport.sent
        if not isinstance(error, TimeoutError):
            return BackendError(f"{self.server}: {error}", maybe_applied=maybe_applied)
        self.breaker.time_out(f"{self.server}: {error}", transport.waiting_since)
        return UnreachableError(f"{self.server}: {error}", maybe_applied=maybe_applied)

    def state(self) -> PoolState:
        """Return the current use of the connections."""
        self._prune()
        idle = sum(not transport.closed for transport in [*self._idle])
        in_use = len(self._members) - idle
        return PoolState(self.server, self._limit_shown(), in_use, idle, self._waiting_count)

    def close(self, retire: bool = False) -> None:
        """Close the idle connections.

        Args:
            retire: whether those in use are closed, too, as soon as they are given back.
        """
        self._retired = self._retired or retire
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close the connections that are idle now."""
        self._heard = self.heard
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()
        self._prune()

    @property
    def free(self) -> int:
        """How many more connections can be taken at the moment, besides those that others wait for."""
        return self._left_for(None)

    def _left_for(self, turn: Turn | None) -> int:
        available = self._available
        return available - self._turns.before(turn, available) if self._waiting else available

    @property
    def _available(self) -> int:
        in_use = len(self._members) - len(self._idle)
        if in_use >= self._endpoint.max_connections:
            self._prune()
            in_use = len(self._members) - len(self._idle)
        return self._endpoint.max_connections - in_use

    @property
    def heard(self) -> float:
        """When the server was heard last, as far as its connections show, in the time of :func:`time.monotonic`."""
        transports = [transport for member in [*self._members] if (transport := member()) is not None]
        latest: float = max([self._heard, *(each.waiting_since if each.answered else each.used for each in transports)])
        return latest

    @property
    def limit(self) -> int:
        """How many connections there are at most."""
        return self._endpoint.max_connections

    # -- how -------------------------------------------------------------------------------------

    def _can_reuse(self, transport: Any) -> bool:
        """Prepare a connection for another exchange, or close it if it cannot be used any more. Return which."""
        if transport.alive() and (self._idle_limit == math.inf or time.monotonic() - transport.used < self._idle_limit):
            transport.sent = transport.answered = False
            transport.reused = True
            return True
        transport.close()  # and is not counted any more, though the caller may keep it
        return False

    def _discard(self, transport: Any) -> None:
        """Close a connection, and let others use its place."""
        transport.close()
        self._prune()  # before others look for a place
        self._look()

    def _admitted(self, transport: Any) -> bool:
        """Count one more connection. Return whether it is within the limit, in the order of counting."""
        mine = weakref.ref(transport)
        self._members.append(mine)
        self._prune()
        return self._members.index(mine) < self._endpoint.max_connections

    def _prune(self) -> None:
        """Forget connections that are closed or gone."""
        for member in [*self._members]:
            transport = member()
            if transport is None or transport.closed:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self._members.remove(member)

    def leave_to_parent(self) -> None:
        """Start anew in a forked child. Connections in use are closed here, too: the parent goes on using them."""
        transports = [transport for member in self._members if (transport := member()) is not None]
        self._members, self._idle = [], []
        for transport in transports:
            transport.leave_to_parent()

    def _limit_shown(self) -> int | None:
        return None if self._endpoint.max_connections >= 1 << 20 else self._endpoint.max_connections

    def _busy(self) -> BusyError:
        return BusyError(
            f"{self.server}: all {self._endpoint.max_connections} connections stayed in use;"
            f" raise max_connections or {self._endpoint.option}"
        )


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for pool in [*_pools]:
        pool.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_all_to_parent)


class Opening:
    """A new connection that is being opened.

    Args:
        pool: its pool.
        transport: the connection.
        end: when to give up.
        probe: the right to try the server for all others, if it was left alone.
    """

    def __init__(self, pool: Pool, transport: Any, end: float, probe: Hold | None) -> None:
        self._pool = pool
        self._transport = transport
        self._probe = probe
        self._since = transport.waiting_since = time.monotonic()
        endpoint = pool._endpoint
        # The most that connecting may take, though the operation may have less time or more.
        seconds = pool.breaker.probe_seconds if probe is not None else endpoint.connect_timeout
        self._seconds = math.inf if seconds is None else seconds
        self._end = min(end, self._since + self._seconds)
        self._error: Exception | None = None
        self._connecting: Any = None
        try:
            left = self._end - self._since
            self._connecting = pool._begin_connecting(transport, None if left == math.inf else max(left, 0.001))
        except RuntimeError as error:  # no thread can be started as the interpreter ends
            self._error = error

    async def finish(self) -> None:
        """Wait until the connection can be used.

        Raises:
            UnreachableError: the server cannot be reached.
            BackendError: it refused the connection.
        """
        pool, transport, hint = self._pool, self._transport, ""
        connecting, self._connecting = self._connecting, None  # its error would keep this, which keeps it
        try:
            if self._error is not None:
                raise OSError(str(self._error)) from self._error
            if pool.confirm is not None:
                await pool.confirm(self._end)
            await pool._connected(connecting, self._end)
            greeting = pool._endpoint.greeting(self._probe is not None)
            if greeting is not None:
                hint = greeting.hint
                await converse(transport, greeting, self._end)
                transport.sent = transport.answered = False
            pool.breaker.succeed()
        except BaseException as error:
            pool._discard(transport)
            if not isinstance(error, (OSError, ValueError, UnreachableError)):
                if isinstance(error, BackendError):  # a server that refuses is there
                    pool.breaker.succeed()
                raise
            hint = hint if isinstance(error, ConnectionError) and not transport.answered else ""
            reason = f"{pool.server}: cannot connect: {error}{hint}"
            if isinstance(error, UnreachableError):
                reason = str(error)
            if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
                pool.breaker.time_out(reason, self._since, self._seconds)
            elif not isinstance(error, UnsuitableError):
                pool.breaker.fail(reason)
            if isinstance(error, UnreachableError):
                raise
            raise UnreachableError(reason) from error
        finally:
            if self._probe is not None:
                self._probe.release()  # a traceback may keep it
