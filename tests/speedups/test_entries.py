"""The entries of the in-memory backend, with a look inside: what they keep, and that it fits together."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from amounts import enough
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from lifetimes import Clock

from cacheorm._speedups.memory import _lru_table_py
from cacheorm.backends import SimpleBackend
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads
from cacheorm.types import KEEP_TTL


def backend_and_clock(**options: Any) -> tuple[SimpleBackend, Clock]:
    clock = Clock(1000.0)
    return SimpleBackend(**options, clock=clock), clock


def test_rewriting_one_key_for_ever_takes_no_more_memory() -> None:
    backend, _ = backend_and_clock()
    for i in range(20_000):
        backend.set("a", i)
    backend.set_many({str(i): 1 for i in range(100)})
    assert backend._store.timers < 2_000
    assert len(backend) == 101


def test_a_batch_whose_lifetimes_are_renewed_waits_for_one_deadline() -> None:
    backend, clock = backend_and_clock()
    names = [f"{i}" for i in range(1000)]
    backend.set_many(dict.fromkeys(names, 1), 50)
    assert backend.touch_many([*names, "absent", "7"], 100) == {**dict.fromkeys(names, True), "absent": False}
    # Without the extensions the one before is there until its time.
    assert backend._store.timers <= 2
    clock.now += 60
    assert len(backend) == 1000
    clock.now += 60
    assert len(backend) == 0


def test_a_cleared_backend_keeps_nothing() -> None:
    backend, _ = backend_and_clock()
    backend.set_many({"a": 1, "b": 1})
    backend.clear()
    assert (len(backend), backend._store.timers, backend._store.timed) == (0, 0, 0)


def test_evicting_expiring_and_reading_threads_leave_a_consistent_store() -> None:
    backend, clock = backend_and_clock(threshold=50)

    def work(i: int) -> None:
        for step in range(300):
            backend.set_many({str((i * step + j) % 90): b"%d" % j for j in range(10)}, ttl=1 + step % 3)
            backend.get_many(*map(str, range(90)))
            backend.delete_many(str(step % 90))
            clock.now += 0.01

    in_threads(4, work)
    assert len(backend._store) <= 50
    assert backend._store.timed == len(backend._store)
    clock.now += 10
    assert (len(backend), backend._store.timed, backend._store.timers) == (0, 0, 0)


# -- against a model -------------------------------------------------------------------------------------

KEYS = st.sampled_from("abcdefgh")
TTLS = st.sampled_from([None, 0, 1, 2, 5])


class Model:
    """What the backend promises, in the plainest way: a list in order of use, searched from the start."""

    def __init__(self, threshold: int, clock: Clock) -> None:
        self.threshold = threshold
        self.clock = clock
        self.entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def drop(self) -> None:
        for key in [key for key, (_, deadline) in self.entries.items() if deadline <= self.clock.now]:
            del self.entries[key]

    def get(self, key: str) -> bytes | None:
        if key not in self.entries:
            return None
        self.entries.move_to_end(key)
        return self.entries[key][0]

    def deadline(self, ttl: int | None) -> float:
        seconds = 3 if ttl is None else ttl
        return self.clock.now + seconds if seconds else float("inf")

    def put(self, rows: dict[str, bytes], deadline: float | None) -> set[str]:
        for key, value in rows.items():
            kept = self.entries[key][1] if deadline is None else deadline
            self.entries[key] = (value, kept)
            self.entries.move_to_end(key)
        while len(self.entries) > self.threshold:
            self.entries.popitem(last=False)
        return set(rows) & set(self.entries)


class SimpleBackendAgainstModel(RuleBasedStateMachine):
    @initialize(threshold=st.integers(1, 6), slack=st.sampled_from([0, 3, 1024]))
    def make(self, threshold: int, slack: int) -> None:
        self.slack, _lru_table_py._SLACK = _lru_table_py._SLACK, slack
        self.backend, self.clock = backend_and_clock(threshold=threshold, default_ttl=3)
        self.model = Model(threshold, self.clock)

    def teardown(self) -> None:
        _lru_table_py._SLACK = self.slack

    @rule(seconds=st.sampled_from([0.25, 1, 2, 10]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.drop()

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.backend.get(key) == self.model.get(key)

    @rule(keys=st.lists(KEYS))
    def get_many(self, keys: list[str]) -> None:
        assert self.backend.get_many(*keys) == [self.model.get(key) for key in keys]

    @rule(key=KEYS, value=st.binary(max_size=2), ttl=TTLS)
    def set(self, key: str, value: bytes, ttl: int | None) -> None:
        assert self.backend.set(key, value, ttl)
        self.model.put({key: value}, self.model.deadline(ttl))

    @rule(rows=st.dictionaries(KEYS, st.binary(max_size=2)), ttl=TTLS)
    def set_many(self, rows: dict[str, bytes], ttl: int | None) -> None:
        stored = self.model.put(rows, self.model.deadline(ttl))
        assert self.backend.set_many(rows, ttl) == {key: key in stored for key in rows}

    @rule(rows=st.dictionaries(KEYS, st.binary(max_size=2)), ttl=TTLS, keep=st.booleans())
    def replace_many(self, rows: dict[str, bytes], ttl: int | None, keep: bool) -> None:
        present = {key: value for key, value in rows.items() if key in self.model.entries}
        stored = self.model.put(present, None if keep else self.model.deadline(ttl))
        assert self.backend.replace_many(rows, KEEP_TTL if keep else ttl) == {key: key in stored for key in rows}

    @rule(rows=st.dictionaries(KEYS, st.binary(max_size=2)), ttl=TTLS)
    def add_many(self, rows: dict[str, bytes], ttl: int | None) -> None:
        absent = {key: value for key, value in rows.items() if key not in self.model.entries}
        stored = self.model.put(absent, self.model.deadline(ttl))
        assert self.backend.add_many(rows, ttl) == {key: key in stored for key in rows}

    @rule(key=KEYS, value=st.binary(max_size=2), ttl=TTLS, keep=st.booleans())
    def replace(self, key: str, value: bytes, ttl: int | None, keep: bool) -> None:
        present = key in self.model.entries
        if present:
            self.model.put({key: value}, None if keep else self.model.deadline(ttl))
        assert self.backend.replace(key, value, KEEP_TTL if keep else ttl) is present

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key: str, ttl: int | None) -> None:
        present = key in self.model.entries
        if present:
            self.model.put({key: self.model.entries[key][0]}, self.model.deadline(ttl))
        assert self.backend.touch(key, ttl) is present

    @rule(key=KEYS, delta=st.integers(-3, 3), ttl=TTLS)
    def incr(self, key: str, delta: int, ttl: int | None) -> None:
        stored = self.model.entries.get(key)
        try:
            count = int(stored[0]) + delta if stored else delta
        except ValueError:
            with pytest.raises(BackendError):
                self.backend.incr(key, delta, ttl)
        else:
            assert self.backend.incr(key, delta, ttl) == count
            self.model.put({key: b"%d" % count}, None if stored else self.model.deadline(ttl))

    @rule(keys=st.lists(KEYS))
    def delete_many(self, keys: list[str]) -> None:
        existed = [self.model.entries.pop(key, None) is not None for key in dict.fromkeys(keys)]
        assert self.backend.delete_many(*keys) is all(existed)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.backend.delete(key) is (self.model.entries.pop(key, None) is not None)

    @rule(key=KEYS)
    def look(self, key: str) -> None:
        assert self.backend.has(key) is (key in self.model.entries)
        left = self.backend.ttl(key)
        if key not in self.model.entries:
            assert left is None
        else:
            deadline = self.model.entries[key][1]
            assert left == (0 if deadline == float("inf") else -((self.clock.now - deadline) // 1))

    @rule()
    def clear(self) -> None:
        self.backend.clear()
        self.model.entries.clear()

    @invariant()
    def the_same_entries_in_the_same_order(self) -> None:
        if hasattr(self, "model"):
            assert len(self.backend) == len(self.model.entries)
            assert list(self.backend._store.items()) == [(k, v) for k, (v, _) in self.model.entries.items()]
            timed = [deadline for _, deadline in self.model.entries.values() if deadline != float("inf")]
            assert self.backend._store.timed == len(timed)
            assert self.backend._store.next_deadline <= min(timed, default=float("inf"))


TestSimpleBackendAgainstModel = SimpleBackendAgainstModel.TestCase
TestSimpleBackendAgainstModel.settings = settings(max_examples=enough(60), stateful_step_count=40, deadline=None)
