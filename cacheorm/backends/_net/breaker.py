"""A circuit breaker for each server: one that did not reply is left alone for a while, then tried by one caller.

https://martinfowler.com/bliki/CircuitBreaker.html. Threads and event loops share it; a forked child has its own copy.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from ...errors import BackendError
from ...logs import log
from ...types import BreakerState
from .lock import Hold, Turns
from .transport import LeftAloneError

__all__ = ["Breaker", "Breakers"]

# How much of an operation's time the caller that tries a server waits for it, and for how many seconds at least if an
# operation may take longer: one that is merely far away, or busy, would otherwise never be used again.
_PROBE_SHARE = 0.1
_PROBE_SECONDS = 0.25

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
        timeout = 5.0 if operation_timeout is None else operation_timeout
        self.probe_seconds = max(timeout * _PROBE_SHARE, min(timeout, _PROBE_SECONDS))
        self._retry_after = retry_after
        self._since = self._until = 0.0
        self._probes = Turns()

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
