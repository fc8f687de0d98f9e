from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from amounts import enough
from children import fork_and_check
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cacheorm._speedups.memory import _lru_table_py
from cacheorm.backends import SimpleBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.testing._suite import in_threads
from cacheorm.types import KEEP_TTL


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def backend_and_clock(**options: Any) -> tuple[SimpleBackend, Clock]:
    backend, clock = SimpleBackend(**options), Clock()
    backend._clock = clock
    return backend, clock


# -- eviction ------------------------------------------------------------------------------------------


def test_the_least_recently_used_entry_makes_room() -> None:
    backend = SimpleBackend(threshold=3)
    backend.set_many({"a": 1, "b": 2, "c": 3})
    backend.get("a")
    backend.set("d", 4)
    assert backend.get_many("a", "b", "c", "d") == [b"1", None, b"3", b"4"]
    backend.set("a", 5)
    backend.set_many({"e": 6})
    assert backend.get_many("a", "c", "d", "e") == [b"5", None, b"4", b"6"]
    assert len(backend) == len(backend._store) == 3
    assert backend.stats()["evictions"] == 2


@pytest.mark.parametrize(
    "use",
    [
        lambda backend: backend.get_many("a"),
        lambda backend: backend.get_many("a", "absent"),
        lambda backend: backend.replace("a", 2),
        lambda backend: backend.replace_many({"a": 2}, KEEP_TTL),
        lambda backend: backend.touch("a"),
        lambda backend: backend.incr("a"),
    ],
)
def test_reads_and_writes_count_as_use(use: Callable[[SimpleBackend], object]) -> None:
    backend = SimpleBackend(threshold=2)
    backend.set("a", 1)
    backend.set("b", 1)
    use(backend)
    backend.set("c", 1)
    assert (backend.has("a"), backend.has("b"), backend.has("c")) == (True, False, True)


def test_looking_without_reading_is_no_use() -> None:
    backend = SimpleBackend(threshold=2)
    backend.set_many({"a": 1, "b": 1})
    assert backend.has("a")
    assert backend.ttl("a") == 300
    assert not backend.add("a", 2)
    backend.set("c", 1)
    assert not backend.has("a")


def test_expired_entries_go_before_living_ones() -> None:
    backend, clock = backend_and_clock(threshold=3)
    backend.set("oldest", 1)
    backend.set_many({"brief": 1, "brief too": 1}, ttl=5)
    clock.now += 5
    backend.set_many({"new": 1, "newer": 1})
    assert backend.get_many("oldest", "brief", "new", "newer") == [b"1", None, b"1", b"1"]
    assert (backend.stats()["evictions"], backend.stats()["expired"]) == (0, 2)


def test_a_batch_beyond_the_threshold_says_which_rows_it_lost() -> None:
    backend = SimpleBackend(threshold=2)
    outcome = backend.set_many({"a": 1, "b": 2, "c": 3})
    assert outcome == {"a": False, "b": True, "c": True}
    assert list(outcome.reasons) == ["a"]
    assert "threshold of 2" in outcome.reasons["a"]
    assert backend.get_many("a", "b", "c") == [None, b"2", b"3"]


def test_a_hundred_thousand_rows_fit_by_default() -> None:
    backend = SimpleBackend()
    rows = {str(i): b"x" for i in range(100_000)}
    assert all(backend.set_many(rows).values())
    assert None not in backend.get_many(*rows)


def test_inserting_at_the_threshold_does_not_scan_the_store() -> None:
    small, large = SimpleBackend(threshold=1_000), SimpleBackend(threshold=100_000)
    for backend in (small, large):
        backend.set_many({f"filler {i}": b"x" for i in range(backend.threshold)})

    def seconds(backend: SimpleBackend) -> float:
        start = time.perf_counter()
        for i in range(2_000):
            backend.set(f"new {i}", b"x")
        return time.perf_counter() - start

    # A scan would make it a hundred times.
    assert min(seconds(large) for _ in range(3)) < 10 * min(seconds(small) for _ in range(3))


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_threshold_that_makes_no_sense_is_refused(threshold: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="threshold"):
        SimpleBackend(threshold=threshold)


# -- lifetimes -----------------------------------------------------------------------------------------


def test_an_entry_lives_for_exactly_its_lifetime() -> None:
    backend, clock = backend_and_clock(default_ttl=10)
    backend.set("a", 1)
    backend.set("for ever", 1, 0)
    clock.now += 9.5
    assert backend.get("a") == b"1"
    assert backend.ttl("a") == 1
    clock.now += 0.5
    assert backend.get("a") is None
    clock.now += 10**9
    assert backend.get_many("a", "for ever") == [None, b"1"]


def test_a_new_lifetime_replaces_the_old_one_in_both_directions() -> None:
    backend, clock = backend_and_clock()
    backend.set_many({"longer": 1, "for ever": 1, "kept": 1}, 10)
    backend.set("shorter", 1, 100)
    backend.set("shorter", 1, 10)
    backend.set("longer", 1, 100)
    backend.touch("for ever", 0)
    backend.replace("kept", 2, KEEP_TTL)
    clock.now += 10
    assert backend.get_many("shorter", "longer", "for ever", "kept") == [None, b"1", b"1", None]


def test_a_lifetime_of_a_googol_is_as_good_as_for_ever() -> None:
    backend, clock = backend_and_clock()
    backend.set("a", 1, 10**100)
    clock.now += 10**9
    assert backend.get("a") == b"1"


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


def test_the_system_clock_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SimpleBackend()
    backend.set("a", 1, 10)
    monkeypatch.setattr(time, "time", lambda: 10.0**11)
    assert backend.get("a") == b"1"


# -- what a subclass, a thread or a child sees -----------------------------------------------------------


def test_an_empty_backend_is_no_false_value() -> None:
    assert SimpleBackend()
    assert len(SimpleBackend()) == 0


def test_hits_and_misses_are_counted() -> None:
    backend = SimpleBackend(threshold=5)
    backend.set("a", 1)
    backend.get("a")
    backend.get("b")
    backend.get_many("a", "b", "c", "a")
    assert backend.stats() == {"entries": 1, "threshold": 5, "hits": 3, "misses": 3, "evictions": 0, "expired": 0}


def test_entries_survive_close_but_not_clear() -> None:
    backend = SimpleBackend()
    backend.set("a", 1)
    with backend:
        pass
    assert backend.get("a") == b"1"
    backend.clear()
    assert (len(backend), backend._store.timers, backend._store.timed) == (0, 0, 0)


def test_a_refused_value_names_its_key_and_not_itself() -> None:
    with pytest.raises(TypeError, match="user:1: cannot store list") as caught:
        SimpleBackend().set_many({"user:0": b"1", "user:1": ["secret"]})  # type: ignore[dict-item]
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError, match="user:1: cannot store None: delete"):
        SimpleBackend().set("user:1", None)  # type: ignore[arg-type]


def test_a_key_of_another_type_is_named_by_its_type() -> None:
    backend: Any = SimpleBackend()
    for call in (backend.get, backend.get_many, backend.delete_many):
        for key in (7, ["secret"]):
            with pytest.raises(InvalidKeyError, match=f"must be a str, got {type(key).__name__}"):
                call(key)


def test_of_a_key_with_methods_of_its_own_only_the_text_counts() -> None:
    class Broken(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise TypeError("broken")

        def __eq__(self, other: object) -> bool:
            raise TypeError("broken")

        def __str__(self) -> str:
            return "broken"

    key, backend = Broken("a"), SimpleBackend()
    assert backend.set(key, 1)
    assert backend.get("a") == backend.get(key) == b"1"
    assert backend.get_many(key, "a", "b", key) == [b"1", b"1", None, b"1"]
    assert (backend.has(key), backend.add(key, 2), backend.replace(key, 3), backend.incr(key)) == (True, False, True, 4)
    assert backend.touch(key, 50)
    assert backend.ttl(key) == 50
    assert backend.delete_many("a", key)
    assert len(backend) == 0


def test_whoever_sees_one_entry_of_a_batch_sees_the_others() -> None:
    backend = SimpleBackend()
    backend.set_many(dict.fromkeys("abcdefgh", 0))
    done = threading.Event()

    def write() -> None:
        for number in range(1, 3000):
            backend.set_many(dict.fromkeys("abcdefgh", number), ttl=number % 3 * 100)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        one = [int(backend.get(key) or 0) for key in "abcdefgh"]
        seen.append(one == sorted(one))
    writer.join()
    assert all(seen)


def test_a_signal_handler_may_use_the_backend_it_interrupted() -> None:
    backend = SimpleBackend()
    with backend._lock:
        assert backend.set("a", 1)


def test_a_child_can_use_the_backend_that_another_thread_was_using(recwarn: pytest.WarningsRecorder) -> None:
    backend = SimpleBackend()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            backend.incr("a")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            fork_and_check(lambda: backend.incr("child") == 1)()
    finally:
        done.set()
        thread.join()
    assert backend.get("child") is None


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
