"""Single flight: of the callers of this process that miss the same rows at the same time, one loads them.

(The name is that of Go's ``singleflight`` package.) A caller claims all its keys at once: it loads to the end the keys
that no other caller is loading, and only then waits for the loads of the others. So two batches never wait for each
other, whatever the order of their keys. Only a loader that itself asks for rows can close a circle: :func:`claim`
detects it before anything waits in it.

A caller may share a load if the rows cannot be older than those of a load of its own. That holds if the loader was
called after the caller had begun, or if the lease of the load, which a deletion removes, was still there when the
caller read. A lease that may have expired, or was never taken, proves nothing, and the load is shared all the same.
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

__all__ = ["SharedLoad", "claim", "now", "stop_waiting"]

_TOKEN_BYTES = 12
_EXPIRY_MARGIN = 1
"""How many seconds too early an entry may expire: memcached counts whole ones."""

_lock = threading.Lock()
# The running loads: by the id of the backend, and by key.
_running: dict[int, dict[str, SharedLoad]] = {}
_clock = itertools.count(1)
_last_end = 0
# The loads whose loaders the present context runs inside of, the outermost first.
_inside: ContextVar[tuple[SharedLoad, ...]] = ContextVar("inside", default=())


class SharedLoad:
    """One load of some keys of a backend, which other callers may wait for.

    Args:
        backend: the backend of the keys.
        lease: for how many seconds other processes leave the keys to this load; ``None``: it takes no leases.

    Attributes:
        keys: the keys that it loads.
        lease_payload: what it stores as its leases; ``None`` without leases.
        reads_again: whether another load has ended since the keys were read, and may have stored them.
        ignores_leases: whether it also loads keys of another load of this process, whose leases would stay meanwhile.
    """

    def __init__(self, backend: Any, lease: int | None) -> None:
        self.backend = backend
        self.lease = lease
        self.keys: list[str] = []
        self.lease_payload = None if lease is None else LEASE + os.urandom(_TOKEN_BYTES)
        self.reads_again = False
        self.ignores_leases = False
        self._called_at: int | None = None
        self._leased_until = 0.0
        self._waits_for: list[SharedLoad] = []
        self._thread = threading.get_ident()
        self._done = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._error: Exception | None = None
        self._payloads: Mapping[str, bytes | None] | None = None

    def start_lease(self) -> None:
        """Record the time just before leases are taken."""
        self._leased_until = time.monotonic() + (self.lease or 0) - _EXPIRY_MARGIN

    @property
    def lease_holds(self) -> bool:
        """Whether the leases cannot have expired yet."""
        return time.monotonic() < self._leased_until

    def enter_loader(self) -> tuple[SharedLoad, ...]:
        """Record that the loader is about to be called; return the argument for :meth:`leave_loader`."""
        if self._called_at is None:
            self._called_at = now()
        outer = _inside.get()
        _inside.set((*outer, self))
        return outer

    def leave_loader(self, outer: tuple[SharedLoad, ...]) -> None:
        """Record that the loader has returned."""
        _inside.set(outer)

    def finish(self, payloads: Mapping[str, bytes | None] | None = None, error: BaseException | None = None) -> None:
        """Pass the outcome to the callers that wait.

        Args:
            payloads: what is stored under the keys, or would be; ``None`` where there is no row.
            error: what ended the load. An interruption belongs to its own caller: the others try again.
        """
        global _last_end  # noqa: PLW0603 - a time of the process, as are the running loads
        self._payloads = payloads
        self._error = error if isinstance(error, Exception) else None
        with _lock:
            _last_end = now()
            of_backend = _running.get(id(self.backend), {})
            for key in self.keys:
                if of_backend.get(key) is self:
                    del of_backend[key]
            if not of_backend:
                _running.pop(id(self.backend), None)
            self._done.set()
        for call in self._callbacks:
            call()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call a function, in the thread of the load, once there is an outcome; at once if there is one."""
        with _lock:
            if not self._done.is_set():
                self._callbacks.append(call)
                return
        call()

    def wait(self) -> Mapping[str, bytes | None] | None:
        """Wait for the outcome: payloads by key, ``None`` if the load was interrupted.

        Returns ``None`` at once where waiting would never end: for a task of the event loop that runs in this thread.

        Raises:
            Exception: what ended the load.
        """
        if self._thread == threading.get_ident() and not self._done.is_set():
            return None
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._payloads

    def _is_fresh_enough(self, seen: bytes | None, began: int) -> bool:
        """Whether its rows are as new as those of a load that began at ``began``, when ``seen`` was stored."""
        return self._called_at is None or self._called_at > began or not self.lease_holds or is_lease(seen)

    def _waits_for_any(self, loads: tuple[SharedLoad, ...]) -> bool:
        """Whether its loader waits for one of ``loads``, or for a load that does."""
        return self in loads or any(other._waits_for_any(loads) for other in self._waits_for)


def now() -> int:
    """Return the present logical time, for :func:`claim`: to be taken before anything is read."""
    return next(_clock)


def claim(
    backend: Any,
    seen: Mapping[str, bytes | None],
    began: int,
    lease: int | None,
    excluded: Container[SharedLoad] = (),
) -> tuple[SharedLoad, dict[SharedLoad, list[str]]]:
    """Divide keys into those to load and those that other callers are loading.

    Args:
        backend: the backend of the keys.
        seen: the keys, and what was stored under them.
        began: the logical time at which reading them began.
        lease: seconds of the leases of the new load.
        excluded: loads not to wait for.

    Returns:
        A new load with the keys to load, which may be none; and the loads to wait for, with their keys. The latter
        have to be passed to :func:`stop_waiting` after the wait.

    Raises:
        RuntimeError: a loader asks for a row that it is loading.
    """
    load = SharedLoad(backend, lease)
    joined: dict[SharedLoad, list[str]] = {}
    inside = _inside.get()
    with _lock:
        running = _running.setdefault(id(backend), {})
        try:
            if seen.keys().isdisjoint(running):
                load.keys.extend(seen)
                running.update(dict.fromkeys(seen, load))
                seen = {}
            for key, payload in seen.items():
                other = running.get(key)
                if other is None or not other._is_fresh_enough(payload, began):
                    load.keys.append(key)
                elif other in inside:
                    raise RuntimeError(f"the loader of {key} asks for that row again")
                elif other in excluded or (other not in joined and other._waits_for_any(inside)):
                    # It waits for this caller, or cannot go on before it. Better to load the row a second time.
                    load.keys.append(key)
                    load.ignores_leases = True
                    continue
                else:
                    joined.setdefault(other, []).append(key)
                    continue
                running[key] = load
        except BaseException:
            for key in load.keys:
                if running.get(key) is load:
                    del running[key]
            raise
        finally:
            if not running:
                del _running[id(backend)]
        load.reads_again = _last_end > began
        for outer in inside:
            outer._waits_for.extend(joined)
    return load, joined


def stop_waiting(joined: Iterable[SharedLoad]) -> None:
    """Record that the present context no longer waits for ``joined``."""
    inside = _inside.get()
    if inside:
        with _lock:
            for outer in inside:
                for other in joined:
                    outer._waits_for.remove(other)


def _forget() -> None:
    """Forget all loads in a forked child, which has no other threads to finish them."""
    global _lock  # noqa: PLW0603 - another thread may have held it, and is not here to release it
    _lock = threading.Lock()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
