"""Reading through: rows that are not in the cache are loaded, stored, and given as if they had been there.

Rows that others are loading are not loaded again. In this process :mod:`.flights` knows of them; other processes see
a *lease*: before a row is loaded, a payload that no other has is added under its key, and the row is stored only in
its place, by compare-and-set. So whatever happens to the key meanwhile wins: a row that is written stays, and one
that is deleted, because what was being loaded has changed, does not come back. (The technique is that of "Scaling
Memcache at Facebook", NSDI 2013, section 3.2.1.) A lease ends by itself: who dies with one delays others no longer.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from ..errors import BackendError
from ..payload import ABSENT, LEASE, is_lease
from ..store import Ask, Call, Join, Pause
from ..types import TTL, check_ttl
from . import flights
from .base import R, Steps, WriteOperation, slices
from .flights import Flight
from .loaded import rows_by_key
from .query import Gaps, ModelQuery, read
from .swap import swap

__all__ = ["Loader", "ModelLoad"]

Rows = Mapping[Any, Any] | Iterable[Any]

Loader = Callable[[list[Any]], Rows | Awaitable[Rows] | AsyncIterator[Any]]
"""Gives rows for a list of primary keys: by primary key, or in any order. Operations that are awaited also await it."""

# Between two looks at rows that another process loads, in seconds.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


class _Loaded:
    """What came of some keys: the rows for this caller, the payloads for those who wait for it; ``None`` for no row."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.payloads: dict[str, bytes | None] = {}


class ModelLoad(ModelQuery[R], WriteOperation[R]):
    """Reads rows, and has a loader give those that are missing; see :meth:`ModelQuery.load_missing`.

    With ``one_by_one``, of the one row, the loader gets its primary key, and gives the row itself.
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

    def _query_one(self) -> Steps[Any]:
        (row,) = self._rows
        resolved = self._plan.resolved()
        began = flights.begin()
        pk, key = self._plan.identity.identify_one(row, True)
        payload = yield Call(resolved.backend, "get", (key,))
        found = None if payload is None else resolved.codec.load(payload, pk, key)
        if found is None and payload != ABSENT:
            rows = yield from self._fill({key: (pk, payload)}, began)
            found = rows[key]
        return found

    def _query_many(self) -> Steps[list[Any]]:
        resolved = self._plan.resolved()
        began = flights.begin()
        found: list[Any] = []
        gaps: Gaps = {}
        places: list[tuple[int, str]] = []
        for part in slices(self._rows, self._chunk or resolved.backend.chunk_size):
            pks, keys = self._plan.identity.identify(part, True)
            missing: Gaps = {}
            rows = yield from read(resolved, pks, keys, missing)
            if missing:
                places += [(len(found) + at, key) for at, key in enumerate(keys) if key in missing]
                gaps.update(missing)
            found += rows
        if gaps:
            loaded = yield from self._fill(gaps, began)
            for place, key in places:
                found[place] = loaded[key]
        return found

    # -- who loads what --------------------------------------------------------------------------

    def _fill(self, gaps: Gaps, began: int) -> Steps[dict[str, Any]]:
        """Give the rows of ``gaps``: load those that nobody is loading, then wait for the others."""
        resolved = self._plan.resolved()
        rows: dict[str, Any] = {}
        wanted = {key: payload for key, (_, payload) in gaps.items()}
        passed: set[Flight] = set()
        while wanted:
            flight, joined = flights.claim(resolved.backend, wanted, began, self._lease, passed)
            try:
                if flight.keys:
                    rows.update((yield from self._fly(flight, {key: gaps[key] for key in flight.keys})))
                wanted = {}
                for other, keys in joined.items():
                    payloads = yield Join(other)
                    if payloads is None:
                        passed.add(other)
                        wanted.update((key, gaps[key][1]) for key in keys)
                        continue
                    found = [payloads[key] for key in keys]
                    loaded = resolved.codec.load_many(found, [gaps[key][0] for key in keys], keys)
                    rows.update(zip(keys, loaded, strict=True))
            finally:
                flights.leave(joined)
        return rows

    def _fly(self, flight: Flight, gaps: Gaps) -> Steps[dict[str, Any]]:
        loaded = _Loaded()
        try:
            if flight.marker is None:
                if flight.follows:
                    gaps = yield from self._look_again(gaps, loaded)
                if gaps:
                    yield from self._load(flight, gaps, set(), loaded)
            else:
                yield from self._load_leased(flight, flight.marker, gaps, loaded)
        except BaseException as error:
            flight.finish(error=error)
            raise
        flight.finish(loaded.payloads)
        return loaded.rows

    def _load_leased(self, flight: Flight, marker: bytes, gaps: Gaps, loaded: _Loaded) -> Steps[None]:
        """Load what no other process is loading, then see what came of the rest, until nothing is left."""
        every = list(gaps)
        try:
            yield from self._take_turns(flight, marker, gaps, loaded)
        except GeneratorExit:
            raise  # nothing more can be asked of the backend
        except BaseException:
            yield from self._give_up(marker, every)
            raise

    def _take_turns(self, flight: Flight, marker: bytes, gaps: Gaps, loaded: _Loaded) -> Steps[None]:
        import random  # here, as it takes a millisecond to import, and few programs load

        patience = time.monotonic() + (0 if flight.hurries else self._lease or 0)
        pause = _FIRST_PAUSE
        while gaps:
            overdue = time.monotonic() >= patience
            leased = yield from self._take_leases(flight, marker, gaps, overdue)
            # With its patience at an end, it loads even what it got no lease for.
            mine = gaps if overdue else {key: gap for key, gap in gaps.items() if key in leased}
            if mine:
                yield from self._load(flight, mine, leased, loaded)
                gaps = {key: gap for key, gap in gaps.items() if key not in mine}
            elif gaps:
                # Not all at the same moment.
                yield Pause(pause * (0.5 + random.random() / 2))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE)
            gaps = yield from self._look_again(gaps, loaded)

    def _take_leases(self, flight: Flight, marker: bytes, gaps: Gaps, overdue: bool) -> Steps[set[str]]:
        """Take the leases that nobody holds, once ``overdue`` also those that somebody does; give their keys."""
        backend = self._plan.backend
        empty = [key for key, (_, seen) in gaps.items() if seen is None]
        taken: dict[str, bool] = {}
        flight.start_lease()
        if not self._many and empty:
            taken[empty[0]] = yield Call(backend, "add", (empty[0], marker, self._lease))
        else:
            for part in slices(empty, self._size):
                taken.update((yield Call(backend, "add_many", (dict.fromkeys(part, marker), self._lease))))
        free = [key for key, (_, seen) in gaps.items() if seen is not None and (overdue or not is_lease(seen))]
        if free:
            replaced = yield from swap(
                backend, dict.fromkeys(free, marker), self._lease, self._size, lambda key, now: now == gaps[key][1]
            )
            taken.update(replaced)
        return {key for key, one in taken.items() if one}

    def _look_again(self, gaps: Gaps, loaded: _Loaded) -> Steps[Gaps]:
        """Read keys again, keep what is there by now, and give the others."""
        resolved = self._plan.resolved()
        rest: Gaps = {}
        for part in slices(gaps.items(), self._size):
            keys = [key for key, _ in part]
            pks = [pk for _, (pk, _) in part]
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

    def _load(self, flight: Flight, gaps: Gaps, leased: set[str], loaded: _Loaded) -> Steps[None]:
        """Ask the loader for the rows of ``gaps``, store them, and keep what came of it."""
        pks = {key: pk for key, (pk, _) in gaps.items()}
        wanted = list(pks.values())
        reply: Any
        outer = flight.enter()
        try:
            if self._one_by_one:
                reply = {wanted[0]: (yield Ask(self._loader, (wanted[0],)))}
            else:
                reply = yield Ask(_all_at_once, (self._loader, wanted))
        finally:
            flight.leave(outer)
        rows = rows_by_key(self._plan, reply, pks)
        payloads = self._plan.resolved().codec.dump_many(list(rows.values()))
        packed = dict(zip(rows, payloads, strict=True))
        loaded.rows |= dict.fromkeys(gaps) | rows
        loaded.payloads |= dict.fromkeys(gaps) | packed
        newer = yield from self._store(flight, gaps, leased, packed)
        # Something else has come to be stored there: every later read gives that.
        yield from self._look_again({key: gaps[key] for key in newer}, loaded)

    def _store(self, flight: Flight, gaps: Gaps, leased: set[str], packed: dict[str, bytes]) -> Steps[list[str]]:
        """Store rows and misses, each only where nothing else has come; give the keys where something has."""
        backend = self._plan.backend
        # What is stored until now under each key that something is to be stored under.
        present = {
            key: flight.marker if key in leased else seen
            for key, (_, seen) in gaps.items()
            if key in packed or key in leased or self._negative_ttl
        }
        tokens: dict[str, Any] = {}
        empty = {key for key, payload in present.items() if payload is None}
        for part in slices((key for key in present if key not in empty), self._size):
            entries = yield Call(backend, "get_many_cas", tuple(part))
            for key, entry in zip(part, entries, strict=True):
                if entry is not None and entry[0] == present[key]:
                    tokens[key] = entry[1]
                elif entry is None and not flight.lease_holds:
                    empty.add(key)
        stored: dict[str, bool] = {}
        in_place = [key for key in packed if key in tokens]
        if in_place:
            entries = [(packed[key], tokens[key]) for key in in_place]
            stored.update((yield from self._write_many("compare_and_set_many", in_place, entries)))
            if not flight.lease_holds:
                # Leases may have run out between the read and the write: as if they had been gone at the read.
                empty.update(key for key in in_place if not stored.get(key))
        new = [key for key in packed if key in empty]
        if new and not self._many:
            stored[new[0]] = yield Call(backend, "add", (new[0], packed[new[0]], self._pick_ttl()))
        elif new:
            stored.update((yield from self._write_many("add_many", new, [packed[key] for key in new])))
        # A lease is no row: where there turned out to be none either, a moment later it is as if it had not been.
        miss, ttl = (ABSENT, self._negative_ttl) if self._negative_ttl else (LEASE, 1)
        for part in slices((key for key in present if key in tokens and key not in packed), self._size):
            batch = {key: (miss, tokens[key]) for key in part}
            stored.update((yield Call(backend, "compare_and_set_many", (batch, ttl))))
        if self._negative_ttl:
            for part in slices((key for key in present if key in empty and key not in packed), self._size):
                stored.update((yield Call(backend, "add_many", (dict.fromkeys(part, miss), ttl))))
        return [key for key in present if not stored.get(key)]

    def _give_up(self, marker: bytes, keys: Iterable[str]) -> Steps[None]:
        """End the leases on ``keys`` that are still there."""
        # What went wrong before is what the caller has to know; leases that stay run out.
        with contextlib.suppress(BackendError):
            backend = self._plan.backend
            yield from swap(backend, dict.fromkeys(keys, LEASE), 1, self._size, lambda key, now: now == marker)

    @property
    def _size(self) -> int:
        return self._chunk or self._plan.backend.chunk_size


def _seconds(name: str, given: TTL, hint: str) -> int | None:
    """Check a time for which nothing means none, and 0 would mean for ever."""
    if given is None:
        return None
    try:
        seconds = check_ttl(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not seconds:
        raise ValueError(f"{name} must be at least 1 second; leave it None {hint}")
    return seconds


def _all_at_once(loader: Loader, pks: list[Any]) -> Any:
    """Ask a loader, and if it is a generator, let it come to its end."""
    reply = loader(pks)
    return list(reply) if isinstance(reply, Iterator) else reply
