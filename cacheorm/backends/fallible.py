"""Backends whose engine may fail: circuit breakers, and what becomes of operations then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..types import BreakerState
from .base import BaseBackend

if TYPE_CHECKING:
    from ._net.breaker import Breakers
    from ._net.invalidations import Invalidations

__all__ = ["FallibleBackend"]


class FallibleBackend(BaseBackend):
    """A backend with the option ``on_failure``. Subclasses call :meth:`_open` when they know their servers."""

    _policies: tuple[str, ...] = ("raise", "miss")
    _server: str
    _breakers: Breakers
    _invalidations: Invalidations | None = None

    def _open(
        self, server: str, operation_timeout: float | None, retry_after: float, on_failure: str, on_failure_keys: int
    ) -> None:
        """Take the options that all such backends have.

        Args:
            server: the name of the servers for messages.
            operation_timeout: seconds that an operation may take; ``None`` without a bound.
            retry_after: seconds for which a server that did not reply is left alone.
            on_failure: one of ``_policies``.
            on_failure_keys: how many keys are remembered that could not be deleted.

        Raises:
            ValueError: one of them is out of its range.
        """
        # Here, as they need what takes long to import.
        from ._net.breaker import Breakers
        from ._net.invalidations import Invalidations

        if on_failure not in self._policies:
            raise ValueError(f"on_failure must be one of {', '.join(self._policies)}, got {on_failure!r}")
        if not retry_after >= 0:
            raise ValueError("retry_after must be a number of seconds, at least 0")
        if on_failure_keys < 0:
            raise ValueError("on_failure_keys must be a whole number, at least 0")
        self.operation_timeout = operation_timeout
        self.on_failure = on_failure
        self._server = server
        self._invalidations = pending = Invalidations(server, on_failure_keys) if on_failure == "miss" else None
        missed = None if pending is None else pending.count_failed_read
        self._breakers = Breakers(retry_after, operation_timeout, missed)

    def breakers(self) -> list[BreakerState]:
        """Return the state of the circuit breaker of each server that is known by now, without any request."""
        return self._breakers.states()

    @property
    def failed_reads(self) -> int:
        return 0 if self._invalidations is None else self._invalidations.failed_reads

    def pending_invalidations(self) -> tuple[int, int]:
        """Return how many keys are still to be deleted after failures, and how many did not fit into memory.

        Only with ``on_failure="miss"`` there are any.
        """
        pending = self._invalidations
        return (0, 0) if pending is None else (len(pending), pending.lost)

    def _without_pending(self, keys: list[str]) -> list[str]:
        """Return keys without those that are still to be deleted, which do not exist for this process."""
        pending = self._invalidations
        hidden = pending.among(keys) if pending else ()
        return [key for key in keys if key not in hidden] if hidden else keys

    def retry_failed_servers(self) -> None:
        """Let the next operation try the servers that are left alone, without waiting for ``retry_after``."""
        self._breakers.expire()
