"""The servers of a backend, and which of them each key has: by the whole ring, or without those that do not answer."""

from __future__ import annotations

from collections.abc import Sequence

from ..._speedups import hash_ring
from ...errors import BackendError
from .._busy import BusyError
from .addresses import Server
from .health import Health
from .ketama import make_ring

__all__ = ["POLICIES", "Rings"]

POLICIES = ("miss", "raise", "eject")

_KEPT_RINGS = 64


class Rings:
    """The servers, how they are, and the rings of those that answer: shared by the engines of one backend.

    Args:
        servers: more than one.
        distribution: one of :data:`~.ketama.DISTRIBUTIONS`.
        policy: one of :data:`POLICIES`.
        retry_after: see :class:`~.health.Health`.
    """

    def __init__(self, servers: Sequence[Server], distribution: str, policy: str, retry_after: float) -> None:
        self.servers = servers
        self.policy = policy
        self.health = [Health(retry_after) for _ in servers]
        self._distribution = distribution
        self.whole = make_ring(servers, distribution)
        self._kept: dict[tuple[int, ...], hash_ring.HashRing] = {}

    def current(self) -> hash_ring.HashRing:
        """Give the ring to find keys on: without the servers that are out, where those are ejected."""
        if self.policy != "eject" or not any(health.out for health in self.health):
            return self.whole
        live = tuple(place for place, health in enumerate(self.health) if not health.out)
        if not live:
            return self.whole
        found = self._kept.get(live)
        if found is None:
            if len(self._kept) >= _KEPT_RINGS:
                self._kept.clear()
            found = self._kept[live] = make_ring(self.servers, self._distribution, live)
        return found

    def passes_over(self, error: BackendError) -> bool:
        """Tell whether what could not be read for this reason counts as missed."""
        return self.policy != "raise" and not isinstance(error, BusyError)
