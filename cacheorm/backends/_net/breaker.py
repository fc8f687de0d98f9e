"""A circuit breaker for each server: one that did not reply is left alone for a while, then tried by one caller.

https://martinfowler.com/bliki/CircuitBreaker.html. Threads and event loops share it; a forked child has its own copy.
"""

from __future__ import annotations

import logging
import math
import random
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...errors import BackendError
from ...logs import log
from ...types import BreakerState
from .lock import Hold, Turns
from .transport import LeftAloneError

if TYPE_CHECKING:
    from .pool import Pool

__all__ = ["Breaker", "Breakers"]

# How much of an operation's time the caller that tries a server waits for it, and for how many seconds at least if an
# operation may take longer: one that is merely far away, or busy, would otherwise never be used again.
_PROBE_SHARE = 0.1
_PROBE_SECONDS = 0.25

# Part of an operation's time for which a server has to be silent to be left alone. Not all of it: the operation may
# have waited for a place, a connection or another server before.
_SILENT = 0.5

# Seconds that count as an operation's time where that is not bounded.
_UNBOUNDED = 5.0

# Part of `retry_after` by which it is made longer or shorter, so that not all processes try at the same time.
_JITTER = 0.1


class Breaker:
    """The breaker of one server.

    Args:
        server: its name for messages.
        retry_after: seconds for which a server is left alone after it did not reply; 0 switches the breaker off.
        operation_timeout: seconds that an operation may take; ``None`` without a bound.

    Attributes:
        reason: why the server is left alone; ``None`` while it replies.
        failures: how often it did not reply until now.
        probe_seconds: how long the caller that tries the server waits for it.
    """

    def __init__(self, server: str, retry_after: float, operation_timeout: float | None) -> None:
        self._server = server
        self.reason: str | None = None
        self.failures = 0
        timeout = _UNBOUNDED if operation_timeout is None else operation_timeout
        self.probe_seconds = max(timeout * _PROBE_SHARE, min(timeout, _PROBE_SECONDS))
        self._operation_timeout = timeout
        self._retry_after = retry_after
        self._pools: list[weakref.ref[Pool]] = []
        # Seconds of waiting in vain since the server was heard, and when the last wait of them ended.
        self._silence = self._silent_until = 0.0
        self._since = self._until = 0.0
        self._probes: Turns[Hold] = Turns()

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone, and it is not time to try it."""
        return self.reason is not None and (time.monotonic() < self._until or self._probes.are_taken)

    def admit(self) -> Hold | None:
        """Return ``None`` if the server replies, or the right to try for all others whether it does again.

        Raises:
            LeftAloneError: the server is left alone; nothing was sent.
        """
        reason = self.reason
        if reason is None:
            return None
        now = time.monotonic()
        if now >= self._until:
            probe = Hold(None, now + self.probe_seconds)
            self._probes.ask(probe)
            if self._probes.has(probe):
                return probe
            probe.release()
        error = LeftAloneError(f"{reason} (it is left alone for a while, and was not asked)")
        error.since = self._since
        raise error

    def fail(self, reason: str) -> None:
        """Open the breaker: the server did not reply."""
        self.failures += 1
        if self._retry_after:
            now = time.monotonic()
            self._until = now + self._retry_after * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
            if self.reason is None:
                self._since = now
                log(
                    logging.WARNING,
                    "breaker opened",
                    "%s does not reply, and is left alone for a while: %s",
                    self._server,
                    reason,
                )
            self.reason = reason

    def watch(self, pool: Pool) -> None:
        """Take the connections of one more pool into account."""
        self._pools = [known for known in self._pools if known() is not None] + [weakref.ref(pool)]

    def time_out(self, reason: str, since: float, seconds: float = math.inf) -> None:
        """Open the breaker if the server is dead, now that a wait for it has ended.

        By itself the wait shows nothing: a caller may have less time than the server needs. It is dead if all waits
        since it was heard last, those at the same time counted once, are as long as half of what it may take.

        Args:
            reason: what has timed out.
            since: when the wait began.
            seconds: what it may take at most, if that is less than an operation may.
        """
        now = time.monotonic()
        pools = [pool for known in self._pools if (pool := known()) is not None]
        heard = max((pool.heard for pool in pools), default=0.0)
        if heard > self._silent_until:
            self._silence = 0.0
        self._silence += now - max(since, heard, self._silent_until)
        self._silent_until = now
        if self._silence >= _SILENT * min(seconds, self._operation_timeout):
            self._silence = 0.0
            self.fail(reason)

    def succeed(self) -> None:
        """Close the breaker: the server replies again."""
        if self.reason is not None:
            log(logging.INFO, "breaker closed", "%s replies again", self._server)
        self.reason = None

    def expire(self) -> None:
        """Let the next caller try the server."""
        self._until = 0.0


class Breakers:
    """The breakers of the servers of one backend.

    Args:
        retry_after: see :class:`Breaker`.
        operation_timeout: see :class:`Breaker`.
        missed: called with the reason when values of a server that failed count as missing; ``None`` if they never do.

    Attributes:
        missed: as given.
    """

    def __init__(
        self,
        retry_after: float,
        operation_timeout: float | None,
        missed: Callable[[BackendError], None] | None = None,
    ) -> None:
        self._options = retry_after, operation_timeout
        self.missed = missed
        self._by_server: dict[str, Breaker] = {}

    def of(self, server: str) -> Breaker:
        """Return the breaker of a server, given its name for messages."""
        return self._by_server.setdefault(server, Breaker(server, *self._options))

    def states(self) -> list[BreakerState]:
        """Return the state of each breaker."""
        return [BreakerState(server, each.reason, each.failures) for server, each in [*self._by_server.items()]]

    def expire(self) -> None:
        """Let the next operation try the servers that are left alone."""
        for breaker in [*self._by_server.values()]:
            breaker.expire()
