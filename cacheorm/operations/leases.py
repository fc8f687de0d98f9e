"""Taking leases on rows that are about to be loaded, and giving them back.

A lease is refused if the backend does not store it, whatever the reason: the server is full or read-only, a node is
down, the user has not the right. That is different from a lease that another caller holds. Nobody would end the wait
for a lease that was refused, so such a row is loaded without one.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from typing import Any

from ..errors import BackendError
from ..payload import LEASE
from ..requests import Call, Steps
from ..types import Outcome
from .compare_and_set import collect, only, swap
from .rows import slices
from .single_flight import SharedLoad

__all__ = ["can_be_replaced", "give_back", "take"]

_SECONDS_WITHOUT = 60
"""For how long no leases are taken on a backend that did not replace them."""

# Backends that store leases, but do not replace them, by their ids; and until when no leases are taken there.
_keeping: dict[int, tuple[weakref.ref[Any], float]] = {}


def take(load: SharedLoad, free: dict[str, bytes | None], single: bool, size: int) -> Steps[set[str]]:
    """Take leases, and add their keys to ``load.leased``.

    Args:
        load: the load that is to have them.
        free: the keys, and what is stored under them, which the lease is to replace.
        single: whether to use the method of the backend for one key.
        size: how many keys to pass to the backend at a time.

    Returns:
        The keys whose leases were refused. A lease that may have been stored all the same counts as taken, too.
    """
    backend, lease, seconds = load.backend, load.lease_payload, load.lease
    assert lease is not None  # noqa: S101 - whoever takes no leases does not get here
    empty = [key for key, seen in free.items() if seen is None]
    taken = Outcome()
    load.start_lease()
    try:
        if single and empty:
            taken[empty[0]] = yield Call(backend, "add", (empty[0], lease, seconds))
        else:
            for part in slices(empty, size):
                collect(taken, (yield Call(backend, "add_many", (dict.fromkeys(part, lease), seconds))))
        if len(empty) < len(free):
            stale = {key: seen for key, seen in free.items() if seen is not None}
            collect(taken, (yield from swap(backend, dict.fromkeys(stale, lease), seconds, size, only(stale))))
    except BackendError as error:
        # A backend that fails is not asked for the rest.
        for key in free.keys() - taken.keys():
            taken[key] = False
            taken.reasons[key] = "not stored"
            if error.maybe_applied:
                taken.unsure.add(key)
    load.leased.update(taken.unsure)
    load.leased.update([key for key, is_taken in taken.items() if is_taken])
    return {*taken.reasons}


def give_back(load: SharedLoad, keys: list[str], size: int) -> Steps[None]:
    """Replace leases that are still there by released ones. If the backend fails, they expire by themselves."""
    backend, lease = load.backend, load.lease_payload
    if lease is None or not keys:
        return
    with contextlib.suppress(BackendError):
        try:
            yield from swap(backend, dict.fromkeys(keys, LEASE), 1, size, only(dict.fromkeys(keys, lease)))
        except BackendError as error:
            yield Call(backend, "get", (keys[0],))  # fails where the backend is down
            if not error.maybe_applied:
                _keep_from(backend)


def _keep_from(backend: Any) -> None:
    """Take no leases for a while on a backend that reads and adds, but does not compare and set.

    A user of Redis without the right to run scripts would leave leases behind that all others wait for.
    """
    with contextlib.suppress(TypeError):  # of a class without weak references
        _keeping[id(backend)] = weakref.ref(backend), time.monotonic() + _SECONDS_WITHOUT


def can_be_replaced(backend: Any) -> bool:
    """Return whether leases may be taken on a backend, since they will be replaced."""
    if not _keeping:
        return True
    kept, until = _keeping.get(id(backend), (None, 0.0))
    if kept is not None and kept() is backend and time.monotonic() < until:
        return False
    _keeping.pop(id(backend), None)
    return True
