"""Old rows: those that are due are given, and loaded anew behind the answer; those kept stale are given if that fails.

Of all processes, one loads a row that is due: it marks the row (:mod:`.marks`). In this process, keys are paused from
when a load is started until it has ended, and for some time after it has failed, so that reads in between do nothing.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Self

from ..aging import DUE
from ..deadlines import remaining, until
from ..options import LEASE_SECONDS
from ..payload import ages_of
from ..requests import Behind, Steps, WaitFor
from ..types import KEEP_TTL
from . import marks, single_flight
from .base import R
from .jobs import LoadJob, note_failure
from .lifetimes import restamp
from .load_turns import Turn
from .loaded_rows import Loaded, Refused, not_stored
from .loading import Loading
from .presence import note_placeholders
from .read import DueRows, Gaps
from .rows import slices
from .single_flight import Lead, Moment, SharedLoad

__all__ = ["Refreshing"]

# For how long a row that another process loads anew is left to it, before it is looked at again.
_OTHERS_SECONDS = 1


class Refreshing(Loading[R]):
    """The base class of operations that load rows which are not there, or old."""

    # -- rows that are due -----------------------------------------------------------------------

    def refreshing(self, pk: Any, key: str, payload: bytes) -> Steps[None]:
        """Have a row loaded anew behind the answer if it is due."""
        plan = self._plan
        if plan.aging is None or plan.aging.state(payload, plan.aging.now()) != DUE:
            return
        if plan.paused.others([key], [0]):
            due = DueRows()
            due.add([0], [pk], [key], [payload])
            yield from self._refresh_behind(due)

    def _refresh_behind(self, due: DueRows) -> Steps[None]:
        """Have rows loaded anew behind the answer."""
        plan = self._plan
        plan.paused.hold(due.keys, self._lease or LEASE_SECONDS)
        behind = self._behind()
        if not (yield Behind(LoadJob(plan, behind._loaders, behind._refresh(due)))):
            plan.paused.release(due.keys)

    def _behind(self) -> Self:
        """Return this operation as it goes on behind the answer."""
        behind = copy(self)
        behind._loaders = self._loaders.behind()
        return behind

    def _refresh(self, due_rows: DueRows) -> Steps[None]:
        """Load rows anew by one call, those that nobody else is loading; a row without ages gets some instead."""
        plan, due = self._plan, due_rows.take()
        gaps = {key: gap for key, gap in due.items() if gap[1] is not None and ages_of(gap[1]) is not None}
        note_placeholders(plan.backend)
        for keys in slices([key for key in due if key not in gaps], self._size):
            yield from restamp(plan, [due[key][0] for key in keys], keys, plan.aging.stamp(KEEP_TTL), KEEP_TTL)
            plan.paused.release(keys)
        if not gaps:
            return
        load = SharedLoad(plan.backend, gaps, self._lease)
        load.beside = {key: payload for key, (_, payload) in gaps.items() if payload is not None}
        lead = Lead(load)  # noqa: F841 - its end is the end of the load
        joined: dict[SharedLoad, list[str]] = {}
        loaded = Loaded()
        try:
            joined = single_flight.claim(load, load.beside, single_flight.now())
            own = {key: gaps[key] for key in load.keys}
            yield from self._lead(load, self._load_marked(load, own, loaded), loaded)
            plan.paused.release(loaded.rows.keys() - loaded.refused.rows.keys())
            plan.paused.hold(gaps.keys() - loaded.rows.keys(), _OTHERS_SECONDS)
            if loaded.refused.rows:
                raise not_stored([loaded.refused], None)
        finally:
            single_flight.release(load, joined)

    def _load_marked(self, load: SharedLoad, gaps: Gaps, loaded: Loaded) -> Steps[None]:
        """Load those rows that no other process loads, and whose loader has not failed lately."""
        turn = Turn(self._plan.load_limit, load)
        try:
            if gaps:
                yield from turn.come()
            if gaps and load.lease_payload is not None:
                # Of processes that read the same batch at the same time, one loads all of it: that with the first mark.
                first = min(gaps)
                untaken = yield from marks.take(load, [first], self._size)
                if not untaken.held:
                    yield from marks.take(load, [key for key in gaps if key != first], self._size)
                gaps = {key: gap for key, gap in gaps.items() if key in load.marked}
            if gaps:
                yield from self._load(turn, gaps, loaded)
        finally:
            turn.leave()

    # -- rows that are kept stale ----------------------------------------------------------------

    def _kept(self, gaps: Gaps) -> dict[str, bytes]:
        """Return those payloads of gaps that are kept stale and can be read, by key."""
        aging = self._plan.aging
        if aging is None or not aging.keeps:
            return {}
        over = {key: gap for key, gap in gaps.items() if gap[1] is not None and aging.is_over(gap[1])}
        if not over:
            return {}
        # What cannot be read is nothing to give: without a row to load in its place, it is an error.
        unreadable: list[Any] = []
        pks, payloads = zip(*over.values(), strict=True)
        codec = self._plan.resolved().codec
        rows = codec.load_many([*payloads], [*pks], [*over], unreadable.append, None, 0)
        return {key: payload for key, payload, row in zip(over, payloads, rows, strict=True) if row is not None}

    def _load_gaps(
        self, gaps: Gaps, kept: dict[str, bytes], began: Moment, refused: list[Refused]
    ) -> Steps[dict[str, Any]]:
        """Load rows, and return them.

        Args:
            gaps: the rows.
            kept: those that are kept stale, with their payloads.
            began: the moment at which reading them began.
            refused: the rows that are not stored are added.
        """
        raise NotImplementedError

    def _load_or_give(
        self, gaps: Gaps, kept: dict[str, bytes], began: Moment, refused: list[Refused]
    ) -> Steps[dict[str, Any]]:
        """Return rows, all of which are kept stale: loaded anew, or as they are where that fails or takes too long."""
        plan = self._plan
        limit, timeout = plan.load_limit, plan.aging.loader_timeout
        if (limit is not None and limit.is_full) or all(map(plan.paused.has_failed, gaps)):
            return self._rows_of(gaps)
        try:
            if timeout is None:
                return (yield from self._load_gaps(gaps, kept, began, refused))
            rows = yield from self._load_in_time(gaps, kept, began, refused, timeout)
            return self._rows_of(gaps) if rows is None else rows
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows are there
            note_failure(plan, error)
            return self._rows_of(gaps)

    def _load_in_time(
        self, gaps: Gaps, kept: dict[str, bytes], began: Moment, refused: list[Refused], seconds: float
    ) -> Steps[dict[str, Any] | None]:
        """Return loaded rows; ``None`` if that takes longer than some seconds, or than the deadline of the caller.

        Then it goes on behind the answer.
        """
        seconds = min(seconds, remaining(until(None)))
        running = single_flight.load_of(self._plan.backend, {key: payload for key, (_, payload) in gaps.items()}, began)
        if running is not None:
            theirs: Loaded | None = yield WaitFor(running, seconds)
            if theirs is None or not theirs.payloads.keys() >= gaps.keys():
                return None
            refused += theirs.refused.among(gaps)
            return self._rows_of({key: (pk, theirs.payloads[key]) for key, (pk, _) in gaps.items()})
        refused_behind: list[Refused] = []
        behind = self._behind()
        job = LoadJob(self._plan, behind._loaders, behind._load_gaps(gaps, kept, began, refused_behind))
        rows = (yield WaitFor(job, seconds)) if (yield Behind(job)) else None
        if rows is not None:
            refused += refused_behind
        return rows

    def _rows_of(self, gaps: Gaps) -> dict[str, Any]:
        """Read the payloads of rows, also of those that are kept stale."""
        pks, payloads = [pk for pk, _ in gaps.values()], [payload for _, payload in gaps.values()]
        rows = self._load_many(self._plan.resolved().codec, payloads, pks, [*gaps], 0)
        return dict(zip(gaps, rows, strict=True))

    def _without_failed(self, gaps: Gaps, failed: set[str], loaded: Loaded) -> Gaps:
        """Give the kept rows whose loader has failed lately; return the others."""
        if not failed:
            return gaps
        self._plan.paused.hold(failed, _OTHERS_SECONDS, True)
        given = {key: gaps[key] for key in failed}
        loaded.rows |= self._rows_of(given)
        loaded.payloads |= {key: payload for key, (_, payload) in given.items()}
        return {key: gap for key, gap in gaps.items() if key not in failed}

    def _look_again(self, load: SharedLoad, gaps: Gaps) -> None:
        """Note which of the rows to load are still there, as others may have replaced or removed them."""
        load.beside = {key: load.beside[key] for key in load.beside if key not in gaps} | self._kept(gaps)
