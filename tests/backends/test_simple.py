from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from children import fork_and_check
from lifetimes import Clock

import cacheorm as co
from cacheorm.backends import SimpleBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.types import KEEP_TTL


def backend_and_clock(**options: Any) -> tuple[SimpleBackend, Clock]:
    clock = Clock()
    return SimpleBackend(**options, clock=clock), clock


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
    assert len(backend) == 3
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
    backend, _ = backend_and_clock(threshold=2)
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


@pytest.mark.no_cover
def test_inserting_at_the_threshold_does_not_scan_the_store() -> None:
    backend = SimpleBackend()
    backend.set_many({f"filler {i}": b"x" for i in range(backend.threshold)})
    # With a scan each, which takes longer without the extensions, this would take longer than any test may.
    for i in range(1_000_000 if co.speedups_enabled else 200_000):
        backend.set(f"new {i}", b"x")
    assert backend.stats()["evictions"] >= 200_000


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_threshold_that_makes_no_sense_is_refused(threshold: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="threshold"):
        SimpleBackend(threshold=threshold)


# -- size ----------------------------------------------------------------------------------------------


def test_the_size_of_keys_and_values_is_bounded() -> None:
    backend = SimpleBackend(max_bytes=100)
    for number in range(9):
        assert backend.set(f"{number}", b"x" * 10) is True
    backend.get("0")
    assert backend.stats()["bytes"] == 99
    assert backend.set("more", b"x" * 10) is True
    # The least recently used ones went, as many as it took.
    assert [backend.has(f"{number}") for number in range(9)] == [True, False, False, *[True] * 6]
    assert backend.stats()["bytes"] == 7 * 11 + 14
    assert backend.stats()["evictions"] == 2
    backend.clear()
    assert (backend.stats()["bytes"], backend.stats()["max_bytes"]) == (0, 100)


def test_the_size_counts_characters_of_keys_and_bytes_of_values() -> None:
    bounded, unbounded = SimpleBackend(max_bytes=1000), SimpleBackend()
    for backend in (bounded, unbounded):
        backend.set_many({"ключ": "ключ", "a": 1.5})
        backend.set("a", b"longer")
        assert backend.stats()["bytes"] == 4 + 8 + 1 + 6
        backend.delete("a")
        assert backend.stats()["bytes"] == 4 + 8


def test_expired_entries_make_room_before_living_ones() -> None:
    backend, clock = backend_and_clock(max_bytes=20)
    backend.set("a", b"x" * 9, 0)
    backend.set("b", b"x" * 9, 5)
    backend.get("a")
    clock.now += 5
    backend.set("c", b"x" * 9)
    assert backend.get_many("a", "b", "c") == [b"x" * 9, None, b"x" * 9]
    assert (backend.stats()["evictions"], backend.stats()["expired"]) == (0, 1)


def test_a_value_larger_than_the_bound_is_refused_and_removes_an_older_one() -> None:
    backend = SimpleBackend(max_bytes=10)
    large = b"x" * 10
    writes: list[Callable[[], object]] = [
        lambda: backend.set("a", large),
        lambda: backend.replace("a", large),
        lambda: backend.set_many({"a": large})["a"],
        lambda: backend.replace_many({"a": large})["a"],
        lambda: backend.compare_and_set_many({"a": (large, b"old")})["a"],
    ]
    for write in writes:
        backend.set_many({"a": b"old", "b": b"b"})
        assert write() is False
        assert backend.get_many("a", "b") == [None, b"b"]
    assert backend.add("a", large) is False
    backend.set("a", b"old")
    # These are refused for another reason, and what is there stays.
    assert backend.add("a", large) is False
    assert backend.add_many({"a": large}) == {"a": False}
    assert backend.compare_and_set_many({"a": (large, b"other")}) == {"a": False}
    assert backend.get("a") == b"old"
    with pytest.raises(BackendError, match="a count with a long name: not stored: key and value exceed the max_bytes"):
        backend.incr("a count with a long name")
    outcome = backend.set_many({"c": b"c", "a": large})
    assert outcome == {"c": True, "a": False}
    assert outcome.reasons == {"a": "too large: key and value exceed the max_bytes of 10"}


def test_a_batch_beyond_the_size_says_which_rows_it_lost() -> None:
    backend = SimpleBackend(max_bytes=25)
    outcome = backend.set_many(dict.fromkeys("abc", b"x" * 9))
    assert outcome == {"a": False, "b": True, "c": True}
    assert outcome.reasons == {"a": "evicted by its own batch, which exceeds the max_bytes of 25"}
    assert backend.get_many(*"abc") == [None, b"x" * 9, b"x" * 9]


@pytest.mark.parametrize(("size", "expected"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_size_that_makes_no_sense_is_refused(size: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected, match="max_bytes"):
        SimpleBackend(max_bytes=size)


def test_the_size_is_an_option_of_the_url() -> None:
    backend = co.backend_from_url("memory://?max_bytes=1000")
    assert isinstance(backend, SimpleBackend)
    assert backend.max_bytes == 1000


@pytest.mark.parametrize("add", [True, False])
def test_a_count_that_another_interrupts_is_not_lost(monkeypatch: pytest.MonkeyPatch, add: bool) -> None:
    """As a signal handler does between reading and writing it."""
    from cacheorm.backends import simple

    backend, nested = SimpleBackend(), []
    real = simple.next_count

    def count(key: str, stored: bytes | None, delta: int) -> int:
        if not nested:
            nested.append(None)
            nested.append(backend.incr(key))
        return real(key, stored, delta)

    monkeypatch.setattr(simple, "next_count", count)
    if not add:
        backend.set("a", 5)
    assert backend.incr("a") == (2 if add else 7)
    assert nested == [None, 1 if add else 6]


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
    counted = {"entries": 1, "threshold": 5, "hits": 3, "misses": 3, "evictions": 0, "expired": 0}
    assert backend.stats() == {**counted, "bytes": 2, "max_bytes": None}


def test_entries_survive_close_but_not_clear() -> None:
    backend = SimpleBackend()
    backend.set("a", 1)
    with backend:
        pass
    assert backend.get("a") == b"1"
    backend.clear()
    assert len(backend) == 0


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

    key, backend = Broken("a"), SimpleBackend(clock=Clock())
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
    """It runs between any two steps, also while the backend has its lock: here, whenever that looks at the clock."""
    busy = False
    calls = 0

    def clock() -> float:
        nonlocal busy, calls
        if not busy:
            busy = True
            calls += 1
            assert backend.set("from the handler", calls)
            assert backend.get_many("from the handler", "absent")[0] == b"%d" % calls
            busy = False
        return 0.0

    backend = SimpleBackend(clock=clock)
    assert backend.set("a", 1)
    assert backend.get("a") == b"1"
    assert backend.set_many({"b": 1, "c": 2}, 50) == {"b": True, "c": True}
    assert backend.get_many("a", "b", "c") == [b"1", b"1", b"2"]
    assert backend.touch("a", 9)
    assert backend.incr("a") == 2
    assert backend.delete_many("a", "b") is True
    assert (len(backend), backend.has("c")) == (2, True)
    assert calls >= 8


@pytest.mark.parametrize(
    "write",
    [
        lambda backend, value: backend.add("a", value),
        lambda backend, value: backend.add_many({"a": value})["a"],
        lambda backend, value: backend.compare_and_set_many({"old": (value, b"1")})["old"],
    ],
)
def test_of_two_writes_in_one_thread_one_wins(write: Callable[[SimpleBackend, str], bool]) -> None:
    """A handler writes when the other write looks at the clock, for the first time, the second, and so on."""
    nested: list[bool] = []
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks -= 1
        if looks == 0:
            nested.append(write(backend, "nested"))
        return 0.0

    number = 1
    while number == 1 or nested:
        backend = SimpleBackend(clock=clock)
        backend.set("old", 1)
        nested.clear()
        looks = number
        assert [write(backend, "outer"), *nested].count(True) == 1
        looks = 0
        number += 1
    assert number > 2


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
