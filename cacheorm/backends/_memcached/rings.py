"""Which of several servers has a key: by the whole ring, or without those that do not reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..._speedups import hash_ring
from ...errors import BackendError
from .._net.breaker import Breaker
from .._net.transport import BusyError
from .addresses import Server
from .ketama import make_ring

__all__ = ["POLICIES", "Rings"]

POLICIES = ("miss", "raise", "eject")

_KEPT_RINGS = 64


class Rings:
    """Several servers, and the rings of those that reply: shared by both kinds of I/O.

    Args:
        servers: more than one.
        distribution: one of :data:`~.ketama.DISTRIBUTIONS`.
        policy: one of :data:`POLICIES`.
        breakers: the breaker of each server.
        missed: called with the reason where values of a server that failed count as missing.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        distribution: str,
        policy: str,
        breakers: Sequence[Breaker],
        missed: Callable[[BackendError], None] | None,
    ) -> None:
        self.servers = servers
        self.policy = policy
        self._breakers = breakers
        self._missed = missed
        self._distribution = distribution
        self.whole = make_ring(servers, distribution)
        self._kept: dict[tuple[int, ...], hash_ring.HashRing] = {}

    def current(self) -> hash_ring.HashRing:
        """Return the ring to find keys on: without the servers that are left alone, if those are ejected."""
        if self.policy != "eject" or not any(breaker.is_open for breaker in self._breakers):
            return self.whole
        live = tuple(place for place, breaker in enumerate(self._breakers) if not breaker.is_open)
        if not live:
            return self.whole
        found = self._kept.get(live)
        if found is None:
            if len(self._kept) >= _KEPT_RINGS:
                self._kept.clear()
            found = self._kept[live] = make_ring(self.servers, self._distribution, live)
        return found

    def all_left_alone(self) -> bool:
        """Return whether no server is to be asked at the moment."""
        return all(breaker.is_open for breaker in self._breakers)

    def passes_over(self, error: BackendError) -> bool:
        """Return whether what could not be read because of an error counts as missed."""
        if self.policy == "raise" or isinstance(error, BusyError):
            return False
        if self._missed is not None:
            self._missed(error)
        return True
