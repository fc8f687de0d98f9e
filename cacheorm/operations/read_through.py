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
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from .._speedups import slots
from ..errors import BackendError, FailedRow
from ..loaders import Loaders, OnlyAwaitedError, Uncommitted
from ..payload import ABSENT, LEASE
from ..requests import Call, Sleep, Steps, WaitFor
from ..types import OF_MODEL, TTL, OfModel, Outcome, check_span
from . import leases, single_flight
from .base import R, WriteOperation
from .compare_and_set import collect
from .load_turns import OverdueTurnError, Turn
from .loaded_rows import Loaded, Refused, not_stored
from .loader_calls import LoaderCall
from .loader_reply import only_row, rows_by_key
from .presence import note_placeholders
from .query import ModelQuery, contradiction
from .read import Gaps, read_with_gaps
from .rows import slices
from .single_flight import Lead, Moment, SharedLoad

__all__ = ["ModelLoad"]

# Between two reads of rows that another process loads, in seconds.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class ModelLoad(ModelQuery[R], WriteOperation[R]):
    """Reads rows, and has a loader return those that are missing; see :meth:`ModelQuery.load_missing`.

    With ``one_by_one``, of the one row, the loader gets its primary key and returns the row itself.
    """

    _loaders: Loaders

    def __init__(
        self,
        plan: Any,
        rows: Iterable[Any],
        many: bool,
        loaders: Loaders,
        negative_ttl: TTL | OfModel = OF_MODEL,
        lease: TTL | OfModel = OF_MODEL,
        one_by_one: bool = False,
        by_pk: bool = False,
    ) -> None:
        super().__init__(plan, rows, many, by_pk)
        self._loaders = loaders
        self._one_by_one = one_by_one
        options = plan.options
        self._negative_ttl: int | None = options.negative_ttl
        if negative_ttl is not OF_MODEL:
            self._negative_ttl = check_span("negative_ttl", negative_ttl, "to remember no misses")
        self._lease: int | None = options.lease
        if lease is not OF_MODEL:
            self._lease = check_span("lease", lease, "to take no leases")

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
        return found

    def _read_rows(self, refused: list[Refused]) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        began = single_flight.now()
        found: list[Any] = []
        keys: list[str] = []
        gaps: Gaps = {}
        unreadable = self._unreadable()
        for part in slices(self._rows, self._size):
            pks, of_part = self._identify(part, len(found))
            rows, missing = yield from read_with_gaps(resolved, pks, of_part, unreadable)
            found += rows
            keys += of_part
            gaps |= missing
        unreadable.check()
        if gaps:
            loaded = yield from self._fill(gaps, began, refused)
            return [loaded.get(key) if row is None else row for row, key in zip(found, keys, strict=True)]
        return found

    # -- which caller loads what -----------------------------------------------------------------

    def _fill(self, gaps: Gaps, began: Moment, refused: list[Refused]) -> Steps[dict[str, Any]]:
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
            lead = Lead(load)  # noqa: F841 - its end is the end of the load
            joined: dict[SharedLoad, list[str]] = {}
            try:
                joined = single_flight.claim(load, missing, began, excluded)
                if load.keys:
                    loaded = yield from self._lead(load, {key: gaps[key] for key in load.keys})
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
                    shared = self._load_many(resolved.codec, found, [gaps[key][0] for key in keys], keys)
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

    def _lead(self, load: SharedLoad, gaps: Gaps) -> Steps[Loaded]:
        """Carry out a load for this caller and those that share it."""
        loaded = Loaded()
        every = list(gaps)
        try:
            if load.lease_payload is not None:
                yield from self._load_in_rounds(load, gaps, loaded)
            else:
                yield from self._load_in_turn(load, gaps, loaded, load.reads_again)
            load.finish(loaded if loaded.is_shared else None)
        except BaseException as error:
            # First of all, so that nobody waits while leases are given back.
            load.finish(error=None if isinstance(error, (OnlyAwaitedError, OverdueTurnError)) else error)
            if not isinstance(error, GeneratorExit):  # after which nothing more can be asked of the backend
                yield from leases.give_back(load, every, self._size)
            raise
        return loaded

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
                refused = yield from leases.take(load, free, not self._many, self._size)
                # Another caller may have taken these. If there is no lease at the next try either, nobody has: there is
                # something else under the key, such as a list in Redis.
                before, closed = closed, free.keys() - load.leased - refused
                own = load.leased | refused | (before & closed)
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

    def _read_again(self, gaps: Gaps, loaded: Loaded) -> Steps[Gaps]:
        """Read keys again, keep the rows that exist by now, and return the other keys."""
        resolved = self._plan.resolved()
        rest: Gaps = {}
        for keys in slices([*gaps], self._size):
            pks = [gaps[key][0] for key in keys]
            payloads = yield Call(resolved.backend, "get_many", tuple(keys))
            rows = self._load_many(resolved.codec, payloads, pks, keys)
            for key, pk, payload, row in zip(keys, pks, payloads, rows, strict=True):
                if row is None and payload != ABSENT:
                    rest[key] = pk, payload
                else:
                    loaded.rows[key] = row
                    loaded.payloads[key] = payload
        return rest

    # -- loading and storing ---------------------------------------------------------------------

    def _load(self, turn: Turn, gaps: Gaps, loaded: Loaded) -> Steps[None]:
        """Call the loader for the rows of ``gaps``, store them, and keep the outcome."""
        pks = {key: pk for key, (pk, _) in gaps.items()}
        load, missing = turn.load, list(pks.values())
        reply = yield LoaderCall(self._loaders, turn, missing[0] if self._one_by_one else missing).request()
        turn.leave()  # before the rows are stored, so that the next loader is called
        rows = (only_row if self._one_by_one else rows_by_key)(self._plan, reply, pks)
        payloads = self._plan.resolved().codec.dump_many(list(rows.values()))
        slots.clear(self._plan.tracker, list(rows.values()))
        packed = dict(zip(rows, payloads, strict=True))
        loaded.rows |= dict.fromkeys(gaps) | rows
        loaded.payloads |= dict.fromkeys(gaps) | packed
        if type(reply) is Uncommitted:
            loaded.is_shared = False
            return (yield from leases.give_back(load, [key for key in gaps if key in load.leased], self._size))
        newer = yield from self._store(load, gaps, packed, loaded.refused)
        with suppress(BackendError):
            # Something else is stored under these keys by now; later reads return that, and so does this one.
            yield from self._read_again({key: gaps[key] for key in newer}, loaded)
        if loaded.refused.rows or loaded.refused.cause is not None:
            yield from leases.give_back(load, [key for key in gaps if key in load.leased], self._size)

    def _store(self, load: SharedLoad, gaps: Gaps, packed: dict[str, bytes], refused: Refused) -> Steps[list[str]]:
        """Store rows and misses, each only where nothing else is stored by now; return the keys where something is.

        Rows that the backend does not store are added to ``refused``.
        """
        # A backend that forgot at once has refused the lease, and with it the change of a row while it was loaded. When
        # it is back, the row must not be stored.
        forgets = load.lease_payload is not None and load.backend.on_failure == "miss"
        # What is stored until now under each key that something is to be stored under.
        present = {
            key: load.lease_payload if key in load.leased else seen
            for key, (_, seen) in gaps.items()
            if key in load.leased or (not (forgets and seen is None) and (key in packed or self._negative_ttl))
        }
        packed = {key: payload for key, payload in packed.items() if key in present}
        outcome = Outcome()
        try:
            yield from self._store_rows(load, present, packed, outcome)
        except BackendError as error:
            # A backend that fails is not asked for the rest.
            refused.cause = error
            for key in present.keys() - outcome.keys():
                outcome.reasons[key] = str(error.args[0])
                if error.maybe_applied:
                    outcome.unsure.add(key)
        name = self._plan.model.__name__
        reasons = outcome.reasons
        refused.rows |= {k: FailedRow(name, k, reasons[k], k in outcome.unsure) for k in packed if k in reasons}
        return [key for key in present if not outcome.get(key) and key not in reasons]

    def _store_rows(
        self, load: SharedLoad, present: dict[str, bytes | None], packed: dict[str, bytes], outcome: Outcome
    ) -> Steps[None]:
        """Store rows and misses in place of what is ``present``, and add to the outcome."""
        tokens: dict[str, Any] = {}
        empty = {key for key, payload in present.items() if payload is None}
        for part in slices([key for key in present if key not in empty], self._size):
            entries = yield Call(load.backend, "get_many_cas", tuple(part))
            may_have_expired = not load.lease_holds
            for key, entry in zip(part, entries, strict=True):
                if entry is not None and entry[0] == present[key]:
                    tokens[key] = entry[1]
                elif entry is None and may_have_expired:
                    empty.add(key)
        yield from self._write(load, "add_many", {key: packed[key] for key in packed if key in empty}, outcome)
        swaps = {key: (packed[key], tokens[key]) for key in packed if key in tokens}
        yield from self._write(load, "compare_and_set_many", swaps, outcome)
        if swaps and not load.lease_holds:
            # Leases may have expired between the read and the write: as if they had been gone at the read.
            expired = {k: packed[k] for k in swaps if not outcome.get(k) and k not in outcome.reasons}
            for key in expired:
                outcome.pop(key, None)
            yield from self._write(load, "add_many", expired, outcome)
        # A lease for a row that does not exist becomes a remembered miss, or a released lease that expires in a second.
        miss, ttl = (ABSENT, self._negative_ttl) if self._negative_ttl else (LEASE, 1)
        misses = [key for key in present if key not in packed]
        for part in slices([key for key in misses if key in tokens], self._size):
            batch = {key: (miss, tokens[key]) for key in part}
            collect(outcome, (yield Call(load.backend, "compare_and_set_many", (batch, ttl))))
        if self._negative_ttl:
            for part in slices([key for key in misses if key in empty], self._size):
                collect(outcome, (yield Call(load.backend, "add_many", (dict.fromkeys(part, miss), ttl))))

    def _write(self, load: SharedLoad, method: str, entries: dict[str, Any], outcome: Outcome) -> Steps[None]:
        """Write the entries of rows, and add to the outcome."""
        if method == "add_many" and not self._many:
            for key, payload in entries.items():
                outcome[key] = yield Call(load.backend, "add", (key, payload, self._pick_ttl()))
            return
        for part in slices([*entries], self._batch_size(len(entries))):
            batch = {key: entries[key] for key in part}
            collect(outcome, (yield Call(load.backend, method, (batch, self._pick_ttl()))))

    @property
    def _size(self) -> int:
        return self._chunk or self._plan.backend.chunk_size
