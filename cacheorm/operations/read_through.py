"""Read-through: rows that are not in the cache are loaded, stored, and returned as if they had been there.

Rows that another caller is loading are not loaded again. In this process :mod:`.single_flight` keeps track of loads;
other processes see a *lease*: before a row is loaded, a payload that no other has is added under its key, and the row
replaces only that payload, by compare-and-set. So any other change of the key wins: a row that is written stays, and a
row that is deleted, because what was being loaded has changed, does not come back. (The technique is that of "Scaling
Memcache at Facebook", NSDI 2013, section 3.2.1.) A lease expires by itself: a process that dies with one delays the
others no longer.

A cache that fails after the first read costs no row: what cannot be stored is returned all the same, with a
:class:`WriteError` that holds it, and what cannot be leased is loaded at once.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NoReturn

from ..errors import BackendError
from ..payload import ABSENT
from ..requests import Call, Sleep, Steps, WaitFor
from ..types import OF_MODEL, TTL, OfModel
from . import leases, marks, single_flight
from .base import R
from .load_turns import Turn
from .loaded_rows import Loaded, Refused, not_stored
from .presence import note_placeholders
from .query import ModelQuery, contradiction
from .read import DueRows, Gaps, read_with_gaps
from .refreshing import Refreshing
from .rows import slices
from .single_flight import Lead, Moment, SharedLoad

__all__ = ["ModelLoad"]

# Between two reads of rows that another process loads, in seconds.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class ModelLoad(ModelQuery[R], Refreshing[R]):
    """Reads rows, and has a loader return those that are missing; see :meth:`ModelQuery.load_missing`."""

    @classmethod
    def of(
        cls, query: ModelQuery[R], loaders: Any, negative_ttl: TTL | OfModel = OF_MODEL, lease: TTL | OfModel = OF_MODEL
    ) -> ModelLoad[R]:
        """Return the operation that also loads what a query asks for."""
        load = cls(query._plan, query._rows, query._many, loaders, negative_ttl, lease, by_pk=query._by_pk)
        load._chunk, load._paths, load._tree = query._chunk, query._paths, query._tree
        load._on_invalid = query._on_invalid
        return load

    def cached_only(self) -> NoReturn:
        raise contradiction()

    def steps(self) -> Steps[R]:
        refused: list[Refused] = []
        # No variable refers to the generators below: they end with this one, even if a traceback keeps its frame.
        result: Any = yield from self.reading(refused)
        if self._tree:
            yield from self._load_related(result, self._tree, refused)
        if refused:
            raise not_stored(refused, result)
        return result  # type: ignore[no-any-return]

    def reading(self, refused: list[Refused]) -> Steps[Any]:
        return self._read_rows(refused) if self._many else self._read_row(refused)

    def filling(self, gaps: Gaps, began: Moment) -> Steps[Any]:
        """Return the row of the one gap there is, which a read found that began at ``began``."""
        refused: list[Refused] = []
        (row,) = (yield from self._fill(gaps, began, refused)).values()
        if refused:
            raise not_stored(refused, row)
        return row

    def _read_row(self, refused: list[Refused]) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        began = single_flight.now()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        found = None if payload is None else self._load_one(resolved.codec, payload, pk, key)
        if found is None and payload != ABSENT:
            rows = yield from self._fill({key: (pk, payload)}, began, refused)
            found = rows[key]
        elif found is not None:
            yield from self.refreshing(pk, key, payload)
        return found

    def _read_rows(self, refused: list[Refused]) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        began = single_flight.now()
        found: list[Any] = []
        keys: list[str] = []
        gaps: Gaps = {}
        due = None if self._plan.aging is None else DueRows()
        unreadable = self._unreadable()
        for part in slices(self._rows, self._size):
            pks, of_part = self._identify(part, len(found))
            rows, missing = yield from read_with_gaps(resolved, pks, of_part, unreadable, due, self._plan.paused)
            found += rows
            keys += of_part
            gaps |= missing
        unreadable.check()
        if due is not None and due.keys:
            yield from self._refresh_behind(due)
        if gaps:
            loaded = yield from self._fill(gaps, began, refused)
            return [loaded.get(key) if row is None else row for row, key in zip(found, keys, strict=True)]
        return found

    # -- which caller loads what -----------------------------------------------------------------

    def _fill(self, gaps: Gaps, began: Moment, refused: list[Refused]) -> Steps[dict[str, Any]]:
        """Return the rows of ``gaps``, also those that are kept stale where these are to be given."""
        kept = self._kept(gaps)
        load = self._load_gaps if len(kept) < len(gaps) else self._load_or_give
        return (yield from load(gaps, kept, began, refused))

    def _load_gaps(
        self, gaps: Gaps, kept: dict[str, bytes], began: Moment, refused: list[Refused]
    ) -> Steps[dict[str, Any]]:
        """Return the rows of ``gaps``: load those that no caller is loading, then wait for the others."""
        resolved = self._plan.resolved()
        note_placeholders(resolved.backend)
        rows: dict[str, Any] = {}
        missing = {key: payload for key, (_, payload) in gaps.items()}
        excluded: set[SharedLoad] = set()
        reports = resolved.backend.on_failure != "miss"
        while missing:
            lease = self._lease if leases.can_be_replaced(resolved.backend) else None
            load = SharedLoad(resolved.backend, missing, lease)
            load.beside = {key: kept[key] for key in missing if key in kept}
            lead = Lead(load)  # noqa: F841 - its end is the end of the load
            joined: dict[SharedLoad, list[str]] = {}
            try:
                joined = single_flight.claim(load, missing, began, excluded)
                if load.keys:
                    loaded = Loaded()
                    own = {key: gaps[key] for key in load.keys}
                    yield from self._lead(load, self._load_claimed(load, own, loaded), loaded)
                    rows |= loaded.rows
                    if reports:
                        refused += loaded.refused.among(load.keys)
                missing = {}
                for other, keys in joined.items():
                    theirs = yield from self._wait_for(other)
                    if theirs is None or not theirs.payloads.keys() >= set(keys):
                        excluded.add(other)
                        missing.update((key, gaps[key][1]) for key in keys)
                        continue
                    found = [theirs.payloads[key] for key in keys]
                    # Also those that are kept stale, which the other caller gives.
                    shared = self._load_many(resolved.codec, found, [gaps[key][0] for key in keys], keys, 0)
                    rows.update(zip(keys, shared, strict=True))
                    if reports:
                        refused += theirs.refused.among(keys)
            finally:
                # A traceback that somebody keeps refers to this frame, and so to the lead.
                single_flight.release(load, joined)
        return rows

    def _wait_for(self, other: SharedLoad) -> Steps[Loaded | None]:
        """Return what another caller has loaded; ``None`` if it was interrupted, or takes longer than its lease."""
        seconds = min([lease for lease in (self._lease, other.lease) if lease is not None], default=None)
        loaded = yield WaitFor(other, seconds)
        if loaded is None and seconds == other.lease:
            # It may have waited for the lease of another process first.
            loaded = yield WaitFor(other, other.lease_left)
        return loaded  # type: ignore[no-any-return]

    def _load_claimed(self, load: SharedLoad, gaps: Gaps, loaded: Loaded) -> Steps[None]:
        """Load the rows that this caller has claimed."""
        if load.lease_payload is not None:
            return self._load_in_rounds(load, gaps, loaded)
        return self._load_in_turn(load, gaps, loaded, load.reads_again)

    def _load_in_rounds(self, load: SharedLoad, gaps: Gaps, loaded: Loaded) -> Steps[None]:
        """Load the rows that no other process is loading, then read the rest again, until none is missing."""
        import random  # here, as it takes a millisecond to import, and few programs load

        deadline = time.monotonic() + (self._lease or 0)
        pause = _FIRST_PAUSE
        closed: set[str] = set()
        while gaps:
            overdue = time.monotonic() >= deadline
            free = {
                key: seen
                for key, (_, seen) in gaps.items()
                if overdue or seen is None or not single_flight.is_held(seen, load.backend)
            }
            turn = Turn(self._plan.load_limit, load)
            try:
                if free:
                    deadline += yield from turn.come()
                beside = [key for key in free if key in load.beside]
                refused = yield from leases.take(
                    load, {key: free[key] for key in free if key not in load.beside}, not self._many, self._size
                )
                if beside:
                    untaken = yield from marks.take(load, beside, self._size)
                    refused |= untaken.refused
                    gaps = self._without_failed(gaps, untaken.failed, loaded)
                # Another caller may have taken these. If there is no lease at the next try either, nobody has: there is
                # something else under the key, such as a list in Redis.
                before, closed = closed, free.keys() - load.leased - refused - load.beside.keys()
                own = load.leased | load.marked | refused | (before & closed)
                # After the deadline, it loads even what it got no lease for.
                now = gaps if overdue else {key: gap for key, gap in gaps.items() if key in own}
                if now:
                    yield from self._load(turn, now, loaded)
                    gaps = {key: gap for key, gap in gaps.items() if key not in now}
            finally:
                turn.leave()
            if not now and not closed:
                # Not all processes at the same moment.
                yield Sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                gaps = yield from self._read_again(gaps, loaded)
                if load.beside:
                    self._look_again(load, gaps)
            except BackendError:
                # Whoever has the leases stores nothing there either.
                return (yield from self._load_in_turn(load, gaps, loaded))

    def _load_in_turn(self, load: SharedLoad, gaps: Gaps, loaded: Loaded, reads_again: bool = False) -> Steps[None]:
        """Load rows without leases; first read them again if others may have stored them since."""
        turn = Turn(self._plan.load_limit, load)
        try:
            waited = yield from turn.come()
            if reads_again or waited:
                with suppress(BackendError):
                    gaps = yield from self._read_again(gaps, loaded)
            if gaps:
                yield from self._load(turn, gaps, loaded)
        finally:
            turn.leave()
