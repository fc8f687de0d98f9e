"""Leases for rows that stay there while they are loaded anew: entries of their own, under the keys with a suffix.

A mark is added before the loader is called, for the seconds of a lease: of all processes, the one that has added it
loads the row. If the loader fails, the mark stays, as one that is given up, for the seconds of ``retry_after``: until
it has expired, nobody asks the loader for that row again. The row itself is replaced by compare-and-set, so that any
change of it wins, a deletion too.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from .._speedups import keys as key_makers
from ..errors import BackendError
from ..payload import LEASE
from ..requests import Call, Steps
from ..types import Outcome
from .compare_and_set import collect
from .rows import slices
from .single_flight import SharedLoad

__all__ = ["Untaken", "give_up", "is_mark", "remove", "take"]

_SUFFIX = ":@load"


def _mark_of(key: str) -> str:
    """Return the key of the mark of a row; a key ends so only if an ``index_formatter`` makes it."""
    encoded = key.encode("utf-8", "surrogatepass")
    if len(encoded) + len(_SUFFIX) <= key_makers.MAX_KEY_BYTES:
        return key + _SUFFIX
    import hashlib  # here, because few keys are so long

    digest = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    begin = encoded[: key_makers.MAX_KEY_BYTES - len(_SUFFIX) - len(digest)].decode("utf-8", "ignore")
    return f"{begin}{digest}{_SUFFIX}"


def is_mark(key: str) -> bool:
    """Return whether a key is that of a mark."""
    return key.endswith(_SUFFIX)


class Untaken(NamedTuple):
    """The keys of rows that could not be marked.

    Attributes:
        refused: the backend does not store the mark, whatever the reason.
        failed: the loader has failed lately.
        held: another process loads the row.
    """

    refused: set[str]
    failed: set[str]
    held: set[str]


def take(load: SharedLoad, keys: list[str], size: int) -> Steps[Untaken]:
    """Mark rows as being loaded that nobody loads or has changed, and add their keys to ``load.marked``.

    Args:
        load: the load that is to have them.
        keys: the keys of the rows.
        size: how many keys to pass to the backend at a time.
    """
    lease, seconds = load.lease_payload, load.lease
    marks = {_mark_of(key): key for key in keys}
    taken = Outcome()
    failed: set[str] = set()
    load.start_lease()
    try:
        for part in slices([*marks], size):
            collect(taken, (yield Call(load.backend, "add_many", (dict.fromkeys(part, lease), seconds))))
        yield from _keep(load, [key for mark, key in marks.items() if taken.get(mark)], size)
        held = [mark for mark in marks if not taken.get(mark) and mark not in taken.reasons]
        for part in slices(held, size):
            stored = yield Call(load.backend, "get_many", tuple(part))
            failed.update([marks[mark] for mark, payload in zip(part, stored, strict=True) if payload == LEASE])
    except BackendError:
        # A backend that fails is not asked for the rest.
        return Untaken({*keys} - load.marked, failed, set())
    return Untaken({marks[mark] for mark in taken.reasons}, failed, {marks[mark] for mark in held} - failed)


def _keep(load: SharedLoad, keys: list[str], size: int) -> Steps[None]:
    """Keep the marks of rows that are still as they were when they were read; others have loaded the rest since."""
    outdated: list[str] = []
    for part in slices(keys, size):
        load.marked.update(part)
        stored = yield Call(load.backend, "get_many", tuple(part))
        outdated += [key for key, payload in zip(part, stored, strict=True) if payload != load.beside[key]]
    load.marked.difference_update(outdated)
    for part in slices([*map(_mark_of, outdated)], size):
        yield Call(load.backend, "delete_many", tuple(part))


def remove(load: SharedLoad, size: int) -> Steps[None]:
    """Remove the marks of a load. If the backend fails, they expire by themselves."""
    with contextlib.suppress(BackendError):
        for part in slices([*map(_mark_of, load.marked)], size):
            yield Call(load.backend, "delete_many", tuple(part))


def give_up(load: SharedLoad, seconds: int, size: int) -> Steps[None]:
    """Leave the marks of a load that failed for some seconds, in which nobody loads these rows."""
    with contextlib.suppress(BackendError):
        for part in slices([*map(_mark_of, load.marked)], size):
            yield Call(load.backend, "set_many", (dict.fromkeys(part, LEASE), seconds))
