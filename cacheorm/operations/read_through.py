"""Read-through: rows that are not in the cache are loaded, stored, and returned as if they had been there.

Rows that another caller is loading are not loaded again. In this process :mod:`.single_flight` keeps track of loads;
other processes see a *lease*: before a row is loaded, a payload that no other has is added under its key, and the row
replaces only that payload, by compare-and-set. So any other change of the key wins: a row that is written stays, and a
row that is deleted, because what was being loaded has changed, does not come back. (The technique is that of "Scaling
Memcache at Facebook", NSDI 2013, section 3.2.1.) A lease expires by itself: a process that dies with one delays the
others no longer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from .._speedups import slots
from ..errors import BackendError
from ..payload import ABSENT, LEASE, is_lease
from ..requests import Call, CallLoader, Sleep, Steps, WaitFor
from ..types import TTL, check_ttl
from . import single_flight
from .base import R, WriteOperation, slices
from .compare_and_set import swap
from .loader_reply import rows_by_key
from .query import ModelQuery
from .read import Gaps, read_with_gaps
from .single_flight import SharedLoad

__all__ = ["Loader", "ModelLoad"]

Rows = Mapping[Any, Any] | Iterable[Any]

Loader = Callable[[list[Any]], Rows | Awaitable[Rows] | AsyncIterator[Any]]
"""Returns rows for a list of primary keys: by primary key, or in any order. An awaited operation also awaits it."""

# Between two reads of rows that another process loads, in seconds.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class _Loaded:
    """The rows that were found or loaded for some keys, ``None`` for no row.

    Attributes:
        rows: instances by key, for this caller.
        payloads: what is stored, by key, for the callers that share the load.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.payloads: dict[str, bytes | None] = {}


class ModelLoad(ModelQuery[R], WriteOperation[R]):
    """Reads rows, and has a loader return those that are missing; see :meth:`ModelQuery.load_missing`.

    With ``one_by_one``, of the one row, the loader gets its primary key and returns the row itself.
    """

    def __init__(
        self,
        plan: Any,
        rows: Iterable[Any],
        many: bool,
        loader: Callable[[Any], Any],
        negative_ttl: TTL,
        lease: TTL,
        one_by_one: bool = False,
    ) -> None:
        super().__init__(plan, rows, many)
        given: Any = loader
        if not callable(given):
            argument = "a primary key" if one_by_one else "a list of primary keys"
            raise TypeError(f"the loader must be a function of {argument}, got {type(loader).__name__}")
        self._loader = loader
        self._one_by_one = one_by_one
        self._negative_ttl = _seconds("negative_ttl", negative_ttl, "to remember no misses")
        self._lease = _seconds("lease", lease, "to take no leases")

    def _read_one(self) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        began = single_flight.now()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        found = None if payload is None else resolved.codec.load(payload, pk, key)
        if found is None and payload != ABSENT:
            rows = yield from self._fill({key: (pk, payload)}, began)
            found = rows[key]
        return found

    def _read_many(self) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        began = single_flight.now()
        found: list[Any] = []
        keys: list[str] = []
        gaps: Gaps = {}
        for part in slices(self._rows, self._size):
            pks, of_part = self._identify(part)
            rows, missing = yield from read_with_gaps(resolved, pks, of_part)
            found += rows
            keys += of_part
            gaps |= missing
        if gaps:
            loaded = yield from self._fill(gaps, began)
            return [loaded.get(key) if row is None else row for row, key in zip(found, keys, strict=True)]
        return found

    # -- which caller loads what -----------------------------------------------------------------

    def _fill(self, gaps: Gaps, began: int) -> Steps[dict[str, Any]]:
        """Return the rows of ``gaps``: load those that no caller is loading, then wait for the others."""
        resolved = self._plan.resolved()
        rows: dict[str, Any] = {}
        missing = {key: payload for key, (_, payload) in gaps.items()}
        excluded: set[SharedLoad] = set()
        while missing:
            load, joined = single_flight.claim(resolved.backend, missing, began, self._lease, excluded)
            try:
                if load.keys:
                    rows.update((yield from self._lead(load, {key: gaps[key] for key in load.keys})))
                missing = {}
                for other, keys in joined.items():
                    payloads = yield WaitFor(other)
                    if payloads is None:
                        excluded.add(other)
                        missing.update((key, gaps[key][1]) for key in keys)
                        continue
                    found = [payloads[key] for key in keys]
                    loaded = resolved.codec.load_many(found, [gaps[key][0] for key in keys], keys)
                    rows.update(zip(keys, loaded, strict=True))
            finally:
                single_flight.stop_waiting(joined)
        return rows

    def _lead(self, load: SharedLoad, gaps: Gaps) -> Steps[dict[str, Any]]:
        """Carry out a load for this caller and those that share it."""
        loaded = _Loaded()
        try:
            if load.lease_payload is None:
                if load.reads_again:
                    gaps = yield from self._read_again(gaps, loaded)
                if gaps:
                    yield from self._load(load, gaps, set(), loaded)
            else:
                yield from self._load_leased(load, load.lease_payload, gaps, loaded)
        except BaseException as error:
            load.finish(error=error)
            raise
        load.finish(loaded.payloads)
        return loaded.rows

    def _load_leased(self, load: SharedLoad, lease: bytes, gaps: Gaps, loaded: _Loaded) -> Steps[None]:
        """Load the rows that no other process is loading, then read the rest again, until none is missing."""
        every = list(gaps)
        try:
            yield from self._load_in_rounds(load, lease, gaps, loaded)
        except GeneratorExit:
            raise  # nothing more can be asked of the backend
        except BaseException:
            yield from self._release_leases(lease, every)
            raise

    def _load_in_rounds(self, load: SharedLoad, lease: bytes, gaps: Gaps, loaded: _Loaded) -> Steps[None]:
        import random  # here, as it takes a millisecond to import, and few programs load

        deadline = time.monotonic() + (0 if load.ignores_leases else self._lease or 0)
        pause = _FIRST_PAUSE
        while gaps:
            overdue = time.monotonic() >= deadline
            leased = yield from self._take_leases(load, lease, gaps, overdue)
            # After the deadline, it loads even what it got no lease for.
            own = gaps if overdue else {key: gap for key, gap in gaps.items() if key in leased}
            if own:
                yield from self._load(load, own, leased, loaded)
                gaps = {key: gap for key, gap in gaps.items() if key not in own}
            elif gaps:
                # Not all processes at the same moment.
                yield Sleep(pause * (0.5 + random.random() / 2))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
            gaps = yield from self._read_again(gaps, loaded)

    def _take_leases(self, load: SharedLoad, lease: bytes, gaps: Gaps, overdue: bool) -> Steps[set[str]]:
        """Take the leases that are free, once ``overdue`` also those that are not; return their keys."""
        backend = self._plan.backend
        empty = [key for key, (_, seen) in gaps.items() if seen is None]
        taken: dict[str, bool] = {}
        load.start_lease()
        if not self._many and empty:
            taken[empty[0]] = yield Call(backend, "add", (empty[0], lease, self._lease))
        else:
            for part in slices(empty, self._size):
                taken.update((yield Call(backend, "add_many", (dict.fromkeys(part, lease), self._lease))))
        free = {key: seen for key, (_, seen) in gaps.items() if seen is not None and (overdue or not is_lease(seen))}
        if free:
            taken.update((yield from swap(backend, dict.fromkeys(free, lease), self._lease, self._size, free)))
        return {key for key, is_taken in taken.items() if is_taken}

    def _read_again(self, gaps: Gaps, loaded: _Loaded) -> Steps[Gaps]:
        """Read keys again, keep the rows that exist by now, and return the other keys."""
        resolved = self._plan.resolved()
        rest: Gaps = {}
        for keys in slices([*gaps], self._size):
            pks = [gaps[key][0] for key in keys]
            payloads = yield Call(resolved.backend, "get_many", tuple(keys))
            rows = resolved.codec.load_many(payloads, pks, keys)
            for key, pk, payload, row in zip(keys, pks, payloads, rows, strict=True):
                if row is None and payload != ABSENT:
                    rest[key] = pk, payload
                else:
                    loaded.rows[key] = row
                    loaded.payloads[key] = payload
        return rest

    # -- loading and storing ---------------------------------------------------------------------

    def _load(self, load: SharedLoad, gaps: Gaps, leased: set[str], loaded: _Loaded) -> Steps[None]:
        """Call the loader for the rows of ``gaps``, store them, and keep the outcome."""
        pks = {key: pk for key, (pk, _) in gaps.items()}
        missing = list(pks.values())
        reply: Any
        outer = load.enter_loader()
        try:
            if self._one_by_one:
                reply = {missing[0]: (yield CallLoader(self._loader, (missing[0],)))}
            else:
                reply = yield CallLoader(_call_to_end, (self._loader, missing))
        finally:
            load.leave_loader(outer)
        rows = rows_by_key(self._plan, reply, pks)
        payloads = self._plan.resolved().codec.dump_many(list(rows.values()))
        slots.clear(self._plan.tracker, list(rows.values()))
        packed = dict(zip(rows, payloads, strict=True))
        loaded.rows |= dict.fromkeys(gaps) | rows
        loaded.payloads |= dict.fromkeys(gaps) | packed
        newer = yield from self._store(load, gaps, leased, packed)
        # Something else is stored under these keys by now; later reads return that, and so does this one.
        yield from self._read_again({key: gaps[key] for key in newer}, loaded)

    def _store(self, load: SharedLoad, gaps: Gaps, leased: set[str], packed: dict[str, bytes]) -> Steps[list[str]]:
        """Store rows and misses, each only where nothing else is stored by now; return the keys where something is."""
        backend = self._plan.backend
        # What is stored until now under each key that something is to be stored under.
        present = {
            key: load.lease_payload if key in leased else seen
            for key, (_, seen) in gaps.items()
            if key in packed or key in leased or self._negative_ttl
        }
        tokens: dict[str, Any] = {}
        empty = {key for key, payload in present.items() if payload is None}
        for part in slices([key for key in present if key not in empty], self._size):
            entries = yield Call(backend, "get_many_cas", tuple(part))
            for key, entry in zip(part, entries, strict=True):
                if entry is not None and entry[0] == present[key]:
                    tokens[key] = entry[1]
                elif entry is None and not load.lease_holds:
                    empty.add(key)
        stored: dict[str, bool] = {}
        in_place = [key for key in packed if key in tokens]
        if in_place:
            swaps = [(packed[key], tokens[key]) for key in in_place]
            stored.update((yield from self._write_many("compare_and_set_many", in_place, swaps)))
            if not load.lease_holds:
                # Leases may have expired between the read and the write: as if they had been gone at the read.
                empty.update([key for key in in_place if not stored.get(key)])
        new = [key for key in packed if key in empty]
        if new and not self._many:
            stored[new[0]] = yield Call(backend, "add", (new[0], packed[new[0]], self._pick_ttl()))
        elif new:
            stored.update((yield from self._write_many("add_many", new, [packed[key] for key in new])))
        # A lease for a row that does not exist becomes a remembered miss, or a released lease that expires in a second.
        miss, ttl = (ABSENT, self._negative_ttl) if self._negative_ttl else (LEASE, 1)
        for part in slices([key for key in present if key in tokens and key not in packed], self._size):
            batch = {key: (miss, tokens[key]) for key in part}
            stored.update((yield Call(backend, "compare_and_set_many", (batch, ttl))))
        if self._negative_ttl:
            for part in slices([key for key in present if key in empty and key not in packed], self._size):
                stored.update((yield Call(backend, "add_many", (dict.fromkeys(part, miss), ttl))))
        return [key for key in present if not stored.get(key)]

    def _release_leases(self, lease: bytes, keys: list[str]) -> Steps[None]:
        """End the leases on ``keys`` that are still there."""
        # The caller has to see the first error; leases that stay expire.
        with contextlib.suppress(BackendError):
            replaced = dict.fromkeys(keys, LEASE)
            yield from swap(self._plan.backend, replaced, 1, self._size, dict.fromkeys(keys, lease))

    @property
    def _size(self) -> int:
        return self._chunk or self._plan.backend.chunk_size


def _seconds(name: str, given: TTL, hint: str) -> int | None:
    """Check an optional number of seconds; 0 is refused, since it would mean a lifetime without end."""
    if given is None:
        return None
    try:
        seconds = check_ttl(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not seconds:
        raise ValueError(f"{name} must be at least 1 second; leave it None {hint}")
    return seconds


def _call_to_end(loader: Loader, pks: list[Any]) -> Any:
    """Call a loader, and if it is a generator, exhaust it."""
    reply = loader(pks)
    return list(reply) if isinstance(reply, Iterator) else reply
