"""Whether a server answers: a circuit breaker that all callers share.

https://martinfowler.com/bliki/CircuitBreaker.html. Threads share it, and event loops; a forked child has its own.
"""

from __future__ import annotations

import os
import threading
import time

__all__ = ["Health"]


class Health:
    """What is known of one server.

    Args:
        retry_after: seconds for which a server is left alone after it did not answer. Then one caller at a time tries.

    Attributes:
        reason: why the server is out; ``None`` as long as it answers.
        failures: how often it did not answer.
    """

    def __init__(self, retry_after: float) -> None:
        self.reason: str | None = None
        self.failures = 0
        self._retry_after = retry_after
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._probing = False
        self._until = 0.0

    @property
    def out(self) -> bool:
        """Whether the server is to be left alone, and it is not time to try."""
        return self.reason is not None and (self._probing or time.monotonic() < self._until)

    def claim(self) -> bool:
        """Claim to be the one who tries; :meth:`release` gives it back. ``False`` if another does, or nobody should."""
        if self._pid != os.getpid():
            self._renew()  # the lock may be held by a thread that is not here
        with self._lock:
            if self.out or self.reason is None:
                return False
            self._probing = True
            return True

    def release(self) -> None:
        """Give the claim back, after :meth:`fail` or :meth:`succeed` or with nothing found."""
        self._probing = False

    def fail(self, reason: str) -> None:
        """Tell that the server did not answer."""
        self._until = time.monotonic() + self._retry_after
        self.failures += 1
        self.reason = reason

    def expire(self) -> None:
        """Let the time be over for which a server is left alone."""
        self._until = 0.0

    def succeed(self) -> None:
        """Tell that the server answers again."""
        self.reason = None
