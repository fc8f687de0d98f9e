"""Calling a loader for rows, and storing what it returned, each row only in place of what was there before."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .._speedups import slots
from ..errors import BackendError, FailedRow
from ..loaders import Loaders, OnlyAwaitedError, Uncommitted
from ..payload import ABSENT, LEASE
from ..requests import Call, Steps
from ..types import OF_MODEL, TTL, OfModel, Outcome, check_span
from . import leases, marks
from .base import R, WriteOperation
from .compare_and_set import collect
from .load_turns import OverdueTurnError, Turn
from .loaded_rows import Loaded, Refused
from .loader_calls import LoaderCall
from .loader_reply import only_row, rows_by_key
from .read import Gaps
from .rows import slices
from .single_flight import SharedLoad
from .unreadable import ReadingOperation

__all__ = ["Loading"]


class Loading(ReadingOperation[R], WriteOperation[R]):
    """The base class of operations that load rows.

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

    def _load(self, turn: Turn, gaps: Gaps, loaded: Loaded) -> Steps[None]:
        """Call the loader for the rows of ``gaps``, store them, and keep the outcome."""
        pks = {key: pk for key, (pk, _) in gaps.items()}
        load, missing = turn.load, list(pks.values())
        reply = yield LoaderCall(self._loaders, turn, missing[0] if self._one_by_one else missing).request()
        turn.leave()  # before the rows are stored, so that the next loader is called
        rows = (only_row if self._one_by_one else rows_by_key)(self._plan, reply, pks)
        payloads = self._plan.resolved().codec.dump_many(list(rows.values()), True, self._stamp())
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

    def _lead(self, load: SharedLoad, loading: Steps[None], loaded: Loaded) -> Steps[None]:
        """Carry out a load for this caller and those that share it.

        Args:
            load: the load.
            loading: what loads its rows, and has not begun.
            loaded: gets the rows.
        """
        try:
            yield from loading
            load.finish(loaded if loaded.is_shared else None)
            if load.marked:
                not_stored = [key for key in load.marked if key in loaded.refused.rows]
                if not_stored:
                    self._plan.paused.hold(not_stored, self._plan.aging.retry_after, True)
                yield from self._end_marks(load, bool(not_stored))
        except BaseException as error:
            no_failure = isinstance(error, (OnlyAwaitedError, OverdueTurnError))
            # First of all, so that nobody waits while leases are given back.
            load.finish(error=None if no_failure else error)
            if not isinstance(error, GeneratorExit):  # after which nothing more can be asked of the backend
                yield from leases.give_back(load, [key for key in load.keys if key not in load.beside], self._size)
                failed = isinstance(error, Exception) and not no_failure
                if failed and load.beside:
                    self._plan.paused.hold(load.marked or load.beside, self._plan.aging.retry_after, True)
                if load.marked:
                    yield from self._end_marks(load, failed)
            raise

    def _end_marks(self, load: SharedLoad, failed: bool) -> Steps[None]:
        """Let others load the rows that are marked: at once, or when some time has passed after a failure."""
        if failed:
            yield from marks.give_up(load, self._plan.aging.retry_after, self._size)
        else:
            yield from marks.remove(load, self._size)

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
            if key in load.leased
            or key in load.beside
            or (not (forgets and seen is None) and (key in packed or self._negative_ttl))
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
                elif entry is None and may_have_expired and key not in load.beside:
                    empty.add(key)
        yield from self._write(load, "add_many", {key: packed[key] for key in packed if key in empty}, outcome)
        swaps = {key: (packed[key], tokens[key]) for key in packed if key in tokens}
        yield from self._write(load, "compare_and_set_many", swaps, outcome)
        if swaps and not load.lease_holds:
            # Leases may have expired between the read and the write: as if they had been gone at the read.
            lost = [key for key in swaps if not outcome.get(key) and key not in outcome.reasons]
            expired = {key: packed[key] for key in lost if key not in load.beside}
            for key in expired:
                outcome.pop(key, None)
            yield from self._write(load, "add_many", expired, outcome)
        # A lease for a row that does not exist becomes a remembered miss, or a released lease that expires in a second.
        # So does a row that was there, and for which the loader returned none.
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
