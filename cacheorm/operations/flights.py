"""Loads under way in this process, so that callers who miss the same rows at the same time load them once.

A flight is one load of a set of keys (the name is that of Go's ``singleflight``). Keys are claimed all at once: a
caller loads what nobody is loading, to its end, and only then waits for the others. So two batches never wait for
each other, whatever the order of their keys. Only a loader that itself asks for rows can make a circle: it is seen
before anybody waits in it.

A flight may be joined by a caller whose rows could not be older than had it loaded them itself. That is so if the
flight asked its loader after the caller had begun; or if its lease, which a deletion removes, was still there when the
caller read. A lease that may have run out, or was never taken, tells nothing: then there is one flight all the same.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from ..payload import LEASE, is_lease

__all__ = ["Flight", "begin", "claim", "leave"]

_TOKEN_BYTES = 12
_GRAIN = 1
"""How much sooner than told an entry may expire, in seconds: memcached counts whole ones."""

_lock = threading.Lock()
_flying: dict[int, dict[str, Flight]] = {}
_clock = itertools.count(1)
_last_landing = 0
_loading: ContextVar[tuple[Flight, ...]] = ContextVar("loading", default=())


class Flight:
    """One load of some keys of a backend.

    Args:
        backend: where the keys are.
        lease: for how many seconds others leave the keys to this load; ``None`` if nothing tells them to.

    Attributes:
        keys: what it loads.
        marker: the payload of its leases, ``None`` without them.
        follows: whether another flight has ended since the keys were read, which may have stored them.
        hurries: whether it also loads what another flight of this process does, whose leases would stay meanwhile.
    """

    def __init__(self, backend: Any, lease: int | None) -> None:
        self.backend = backend
        self.lease = lease
        self.keys: list[str] = []
        self.marker = None if lease is None else LEASE + os.urandom(_TOKEN_BYTES)
        self.follows = False
        self.hurries = False
        self._asked_at: int | None = None
        self._leased_until = 0.0
        self._waits_for: list[Flight] = []
        self._thread = threading.get_ident()
        self._done = threading.Event()
        self._calls: list[Callable[[], None]] = []
        self._error: Exception | None = None
        self._payloads: Mapping[str, bytes | None] | None = None

    def start_lease(self) -> None:
        """Say that leases are about to be taken."""
        self._leased_until = time.monotonic() + (self.lease or 0) - _GRAIN

    @property
    def lease_holds(self) -> bool:
        """Whether the leases cannot have run out by themselves yet."""
        return time.monotonic() < self._leased_until

    def enter(self) -> tuple[Flight, ...]:
        """Say that the loader is about to be asked; gives what :meth:`leave` takes."""
        if self._asked_at is None:
            self._asked_at = next(_clock)
        outer = _loading.get()
        _loading.set((*outer, self))
        return outer

    def leave(self, outer: tuple[Flight, ...]) -> None:
        """Say that the loader has answered."""
        _loading.set(outer)

    def finish(self, payloads: Mapping[str, bytes | None] | None = None, error: BaseException | None = None) -> None:
        """Hand the outcome to those who wait.

        Args:
            payloads: what is stored under the keys, or would be, ``None`` where there is no row.
            error: what stopped the flight. An interruption is its own caller's alone: the others try again.
        """
        global _last_landing  # noqa: PLW0603 - a moment of the process, like the flights themselves
        self._payloads = payloads
        self._error = error if isinstance(error, Exception) else None
        with _lock:
            _last_landing = next(_clock)
            of_backend = _flying.get(id(self.backend), {})
            for key in self.keys:
                if of_backend.get(key) is self:
                    del of_backend[key]
            if not of_backend:
                _flying.pop(id(self.backend), None)
            self._done.set()
        for call in self._calls:
            call()

    def when_done(self, call: Callable[[], None]) -> None:
        """Have a function called, in the thread of the flight, when there is an outcome; at once if there is."""
        with _lock:
            if not self._done.is_set():
                self._calls.append(call)
                return
        call()

    def wait(self) -> Mapping[str, bytes | None] | None:
        """Wait for the outcome: payloads by key, or ``None`` if the flight was interrupted.

        It is also ``None`` where waiting would never end: for a task of the event loop that runs in this thread.

        Raises:
            Exception: what stopped the flight.
        """
        if self._thread == threading.get_ident() and not self._done.is_set():
            return None
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._payloads

    def _gives_news(self, seen: bytes | None, began: int) -> bool:
        """Whether its rows will be as new as those of a load that ``began`` then, where the key held ``seen``."""
        return self._asked_at is None or self._asked_at > began or not self.lease_holds or is_lease(seen)

    def _leads_to(self, flights: tuple[Flight, ...]) -> bool:
        """Whether its loader waits, at some remove, for one of ``flights``."""
        return self in flights or any(other._leads_to(flights) for other in self._waits_for)


def begin() -> int:
    """Give the present moment, for :func:`claim`: to be taken before anything is read."""
    return next(_clock)


def claim(
    backend: Any,
    seen: Mapping[str, bytes | None],
    began: int,
    lease: int | None,
    passed: Container[Flight] = (),
) -> tuple[Flight, dict[Flight, list[str]]]:
    """Divide keys into those to load and those that others are loading.

    Args:
        backend: where the keys are.
        seen: the keys, with what was stored under them.
        began: when reading them began.
        lease: of the new flight.
        passed: flights that are not to be waited for.

    Returns:
        A new flight with the keys to load, which may be none; and the flights to wait for, with their keys. It
        has to be given to :func:`leave` once the wait is over.

    Raises:
        RuntimeError: a loader asks for a row that it is itself loading.
    """
    flight = Flight(backend, lease)
    joined: dict[Flight, list[str]] = {}
    loading = _loading.get()
    with _lock:
        flying = _flying.setdefault(id(backend), {})
        try:
            if seen.keys().isdisjoint(flying):
                flight.keys.extend(seen)
                flying.update(dict.fromkeys(seen, flight))
                seen = {}
            for key, payload in seen.items():
                other = flying.get(key)
                if other is None or not other._gives_news(payload, began):
                    flight.keys.append(key)
                elif other in loading:
                    raise RuntimeError(f"the loader of {key} asks for that row again")
                elif other in passed or (other not in joined and other._leads_to(loading)):
                    # It waits for us, or we block it. To load the row a second time is better than to wait for ever.
                    flight.keys.append(key)
                    flight.hurries = True
                    continue
                else:
                    joined.setdefault(other, []).append(key)
                    continue
                flying[key] = flight
        except BaseException:
            for key in flight.keys:
                if flying.get(key) is flight:
                    del flying[key]
            raise
        finally:
            if not flying:
                del _flying[id(backend)]
        flight.follows = _last_landing > began
        for outer in loading:
            outer._waits_for.extend(joined)
    return flight, joined


def leave(joined: Iterable[Flight]) -> None:
    """Say that nobody waits for ``joined`` any more here."""
    loading = _loading.get()
    if loading:
        with _lock:
            for outer in loading:
                for other in joined:
                    outer._waits_for.remove(other)


def _forget() -> None:
    """In a forked child, no other thread goes on with what it was loading."""
    global _lock  # noqa: PLW0603 - another thread may have held it, and is not here to release it
    _lock = threading.Lock()
    _flying.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
