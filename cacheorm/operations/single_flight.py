"""Single flight: of the callers of this process that miss the same rows at the same time, one loads them.

(The name is that of Go's ``singleflight`` package.) A caller claims all its keys at once: it loads to the end the keys
that no other caller is loading, and only then waits for the loads of the others. So two batches never wait for each
other, whatever the order of their keys. Only a loader that itself asks for rows can close a circle: :func:`claim`
detects it before anything waits in it.

A caller may share a load if the rows cannot be older than those of a load of its own. That holds if the loader was
called after the caller had begun, or if the lease of the load, which a deletion removes, was still there when the
caller read. A lease that may have expired, or was never taken, proves nothing, and the load is shared all the same.

Signal handlers and finalizers may read through at any point of this code, and may raise there. So no lock is held:
shared state changes by single operations of dicts and lists, which are atomic, and each state in between is valid. A
load belongs to a :class:`Lead`, which only its own caller refers to. Once that is gone, the load is over, even if an
exception has kept it from being finished.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple

from ..payload import LEASE, is_lease
from .copied_error import copy_of
from .waiting import Awaited

__all__ = ["Lead", "Moment", "SharedLoad", "claim", "is_held", "load_of", "loads_held_up", "now", "release"]

_PROCESS_BYTES = 12
_NUMBER_BYTES = 8
_EXPIRY_MARGIN = 1
"""How many seconds too early an entry may expire: memcached counts whole ones."""

_Place = tuple[int, str]
"""A key of one backend: the id of the backend, and the key."""

Moment = tuple[int, object]
"""A logical time of this process, greater than all earlier ones; and what identifies the last end of a load."""

# The running loads. One that is over may be left in here, and counts as none.
_running: dict[_Place, SharedLoad] = {}
_clock = itertools.count(1)
# Another object after the end of each load.
_last_end = object()
# What all leases of this process begin with, and the loads that have taken them.
_own_leases = LEASE + os.urandom(_PROCESS_BYTES)
_lease_holders: dict[bytes, SharedLoad] = {}
# The loads whose loaders the present context runs inside of, the outermost first.
_inside: ContextVar[tuple[SharedLoad, ...]] = ContextVar("inside", default=())
# The loads of the operation that the present context runs: an operation on several models has one for each.
_claimed: ContextVar[tuple[SharedLoad, ...]] = ContextVar("claimed", default=())


class SharedLoad(Awaited):
    """One load of some keys of a backend, which other callers may wait for.

    Args:
        backend: the backend of the keys.
        claimed: the keys that it is to load, unless another one loads them.
        lease: for how many seconds other callers leave the keys to this load; ``None``: it takes no leases.

    Attributes:
        lease: as given.
        keys: the keys that it loads, as a set in the order given.
        leased: the keys whose leases it has taken.
        marked: the keys that it has marked in place of leases, as their rows stay there; see :mod:`.marks`.
        beside: the keys of rows that stay there while they are loaded anew, with their payloads.
        lease_payload: what it stores as its leases; ``None`` without leases.
        reads_again: whether another load has ended since the keys were read, and may have stored them.
        is_awaited_by_loader: whether another load, whose loader is running, waits for this one.
    """

    def __init__(self, backend: Any, claimed: Iterable[str], lease: int | None) -> None:
        super().__init__()
        self.backend = backend
        self.lease = lease
        self.keys: dict[str, None] = {}
        self.leased: set[str] = set()
        self.marked: set[str] = set()
        self.beside: dict[str, bytes] = {}
        self.lease_payload = None if lease is None else _own_leases + next(_clock).to_bytes(_NUMBER_BYTES, "big")
        self.reads_again = False
        self.is_awaited_by_loader = False
        self._places: list[_Place] = [*zip(itertools.repeat(id(backend)), claimed)]
        # Of several callers that replace this load under a key, the one that is first in here.
        self._successors: dict[_Place, SharedLoad] = {}
        self._lead: Callable[[], Lead | None] = lambda: None
        self._called_at: int | None = None
        self._leased_until = 0.0
        self._waits_for: list[Any] = []
        self._thread = threading.get_ident()
        self._outcome: _Outcome | None = None

    # -- for the caller that loads ---------------------------------------------------------------

    def start_lease(self) -> None:
        """Record that leases are about to be taken, and when."""
        if self.lease_payload is not None:
            _lease_holders[self.lease_payload] = self
        self._leased_until = time.monotonic() + (self.lease or 0) - _EXPIRY_MARGIN

    @property
    def lease_holds(self) -> bool:
        """Whether the leases cannot have expired yet."""
        return time.monotonic() < self._leased_until

    @property
    def lease_left(self) -> float:
        """The seconds until the leases have expired, which may have been taken long after the load began."""
        return max(0.0, self._leased_until + _EXPIRY_MARGIN - time.monotonic())

    def enter_loader(self) -> tuple[tuple[SharedLoad, ...], tuple[SharedLoad, ...]]:
        """Record that the loader is called now; return the argument for :meth:`leave_loader`."""
        if self._called_at is None:
            self._called_at = next(_clock)
        outer = _loads_around(), _claimed.get()
        # No load of the operation goes on before the loader has returned.
        _inside.set((*outer[0], *[load for load in outer[1] if load is not self and not load.is_over], self))
        _claimed.set(())
        return outer

    def leave_loader(self, outer: tuple[tuple[SharedLoad, ...], tuple[SharedLoad, ...]]) -> None:
        """Record that the loader has returned."""
        _inside.set(outer[0])
        _claimed.set(outer[1])

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        """Pass the outcome to the callers that wait. Only the first outcome counts; what was interrupted is done again.

        Args:
            result: what they get; ``None``: the load was interrupted.
            error: what ended the load. An interruption belongs to its own caller: the others try again.
        """
        global _last_end  # noqa: PLW0603 - a time of the process, as are the running loads
        if self._outcome is None:
            if isinstance(error, Exception):
                self._outcome = _Outcome(None, error, error.__traceback__)
            else:
                self._outcome = _Outcome(result)
        if self.keys:
            _last_end = object()
        if self.lease_payload is not None:
            _lease_holders.pop(self.lease_payload, None)
        for place in self._places:
            if _running.get(place) is self and (other := _running.pop(place, self)) is not self:
                _running.setdefault(place, other)  # it has replaced this one just now
        self._places = []  # not before: an exception that strikes above has all of this done again
        self.wake()

    # -- for the callers that wait ---------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or whoever was loading is gone."""
        return self._outcome is not None or self._lead() is None

    def wait(self, seconds: float | None = None) -> Any:
        """Wait for the load, at most for some seconds, and return :meth:`result`.

        Returns ``None`` at once where waiting would never end: in the thread that loads, which a signal handler, a
        finalizer or a task of its event loop has interrupted.
        """
        return self.result() if self.is_own_thread else super().wait(seconds)

    @property
    def is_own_thread(self) -> bool:
        """Whether it is the present thread that loads, or whose event loop does."""
        return self._thread == threading.get_ident()

    def result(self) -> Any:
        """Return the result; ``None`` if there is none yet, or the load was interrupted.

        Raises:
            Exception: what ended the load, as an object of its own for each caller; its cause is the original. An
                error that cannot be copied is raised itself, with the traceback that it had at the end of the load.
        """
        if self._outcome is None:
            return None
        result, error, traceback = self._outcome
        if error is None:
            return result
        if (own := copy_of(error)) is None:
            raise error.with_traceback(traceback)
        raise own from error

    # -- for claim() -----------------------------------------------------------------------------

    def _is_fresh_enough(self, key: str, seen: bytes | None, began: Moment) -> bool:
        """Whether its row is as new as that of a load that began at ``began``, when ``seen`` was stored."""
        if self._called_at is None or self._called_at > began[0]:
            return True
        if key in self.beside:
            return seen == self.beside[key]
        return key not in self.leased or not self.lease_holds or is_lease(seen)

    @property
    def waits_for(self) -> list[Any]:
        """The loads that its loader waits for, and the turns."""
        return self._waits_for

    def also_waits_for(self, other: Any) -> None:
        """Record that it does not go on before another load, or a turn, is over."""
        self._waits_for.append(other)

    def no_longer_waits_for(self, other: Any) -> None:
        """Record that such a wait has ended."""
        with suppress(ValueError):
            self._waits_for.remove(other)

    @property
    def may_be_waited_for(self) -> bool:
        """Whether a loader that is running may wait for it, or it for a loader."""
        return self.is_awaited_by_loader or self._called_at is not None

    def waits_for_any(self, loads: Container[SharedLoad]) -> bool:
        """Whether its loader waits for one of ``loads``, or for a load that does."""
        found: set[Any] = {self}
        rest: list[Any] = [self]
        while rest:
            load = rest.pop()
            if load in loads:
                return True
            new = {other for other in load.waits_for if not other.is_over} - found
            found |= new
            rest += new
        return False


class _Outcome(NamedTuple):
    """How a load has ended: with a result, with an error and the traceback that it had then, or with neither."""

    result: Any
    error: Exception | None = None
    traceback: TracebackType | None = None


class Lead:
    """Held by the caller that loads, and by nobody else: its end is the end of the load.

    Args:
        load: the load, which no other caller knows yet.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, load: SharedLoad) -> None:
        load._lead = weakref.ref(self)


def now() -> Moment:
    """Return the present moment, for :func:`claim`: to be taken before anything is read."""
    return next(_clock), _last_end


def is_held(payload: bytes, backend: Any) -> bool:
    """Return whether a payload is a lease that a caller who has claimed the key of a backend has to respect.

    A lease of this process may be left by a load that was interrupted. One of the same backend is that of a load which
    :func:`claim` has told the caller not to wait for.
    """
    if not is_lease(payload):
        return False
    if not payload.startswith(_own_leases):
        return True
    holder = _lease_holders.get(payload)
    return holder is not None and not holder.is_over and holder.backend is not backend


def claim(
    load: SharedLoad, seen: Mapping[str, bytes | None], began: Moment, excluded: Container[SharedLoad] = ()
) -> dict[SharedLoad, list[str]]:
    """Divide keys into those to load and those that other callers are loading.

    Args:
        load: the load that is to have the keys to load, which may be none; it has a lead.
        seen: the keys that the load was made for, and what was stored under them.
        began: the moment at which reading them began.
        excluded: loads not to wait for.

    Returns:
        The loads to wait for, with their keys. They have to be passed to :func:`release` after the wait.

    Raises:
        RuntimeError: a loader asks for a row that it is loading, and so does the loader that it asks.
    """
    joined: dict[SharedLoad, list[str]] = {}
    places = load._places
    others = [*map(_running.setdefault, places, itertools.repeat(load))]
    if others.count(load) == len(others):
        load.keys.update(dict.fromkeys(seen))
    else:
        for place, other in zip(places, others, strict=True):
            key = place[1]
            chosen = load if other is load else _join_or_replace(load, place, other, seen[key], began, excluded)
            if chosen is load:
                load.keys[key] = None
            else:
                joined.setdefault(chosen, []).append(key)
    load.reads_again = _last_end is not began[1]
    if load.keys:
        _claimed.set((*[other for other in _claimed.get() if not other.is_over], load))
    return joined


def load_of(backend: Any, seen: Mapping[str, bytes | None], began: Moment) -> SharedLoad | None:
    """Return the one load that other callers run for all of some keys; ``None`` if there is none to wait for.

    Args:
        backend: the backend of the keys.
        seen: the keys, and what was stored under them.
        began: the moment at which reading them began.
    """
    loads = {_running.get((id(backend), key)) for key in seen}
    load = loads.pop()
    if loads or load is None or load.is_over:
        return None
    return load if all(load._is_fresh_enough(key, seen[key], began) for key in seen) else None


def _join_or_replace(
    load: SharedLoad,
    place: _Place,
    other: SharedLoad,
    seen: bytes | None,
    began: Moment,
    excluded: Container[SharedLoad],
) -> SharedLoad:
    """Return the load to wait for under a key that ``other`` was loading; ``load`` itself where there is none."""
    key = place[1]
    inside = _loads_around()
    nested = [outer for outer in inside if outer.backend is load.backend and key in outer.keys]
    if nested:
        # A loader that asks for its own row, or a signal handler that has interrupted it: nothing tells which.
        if len(nested) > 1:
            raise RuntimeError(f"the loader of {key} asks for that row again")
        return load
    while other.is_over or other in excluded or not other._is_fresh_enough(key, seen, began):
        # Of several callers that are here at the same time, one replaces it.
        other = other._successors.setdefault(place, load)
        if other is load:
            _running[place] = load
            return load
    # Recorded before it is looked for: of two callers that would wait for each other, one sees it at least.
    for outer in inside:
        other.is_awaited_by_loader = True
        outer.also_waits_for(other)
    if other.waits_for_any(inside):
        # It waits for this caller, or cannot go on before it. Better to load the row a second time.
        _stop_waiting([other])
        return load
    return other


def release(load: SharedLoad, joined: Iterable[SharedLoad]) -> None:
    """Record that the present context has done with a load, and no longer waits for ``joined``."""
    load.finish()
    _claimed.set(tuple([other for other in _claimed.get() if other is not load]))
    _stop_waiting(joined)


def loads_held_up(load: SharedLoad) -> set[SharedLoad]:
    """Return the loads that cannot go on while the present context, which runs ``load``, waits."""
    return {load, *_loads_around(), *[other for other in _claimed.get() if not other.is_over]}


def _stop_waiting(joined: Iterable[SharedLoad]) -> None:
    for outer in _loads_around():
        for other in joined:
            outer.no_longer_waits_for(other)


def _loads_around() -> tuple[SharedLoad, ...]:
    """Return the loads whose loaders the present context runs inside of, the outermost first."""
    inside = _inside.get()
    # One that is over has been left by an exception that kept it from leaving.
    return tuple([load for load in inside if not load.is_over]) if inside else inside


def _forget() -> None:
    """Forget all loads in a forked child, which has no other threads to finish them."""
    global _own_leases  # noqa: PLW0603 - the leases of the parent are those of another process
    _own_leases = LEASE + os.urandom(_PROCESS_BYTES)
    _lease_holders.clear()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
