"""Compare-and-set: which entries are stored, which are left alone, and that no change is lost between threads."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from typing import Any

import pytest

from ..backends import BaseBackend
from ..errors import InvalidKeyError
from ..types import KEEP_TTL
from ._suite import Name, Suite, about, in_threads, in_time

__all__ = ["CompareAndSetTests"]


def read(store: BaseBackend, *keys: str) -> list[tuple[bytes, Any]]:
    """Read entries that are all there, with their tokens."""
    found = store.get_many_cas(*keys)
    assert None not in found
    return [entry for entry in found if entry is not None]


class CompareAndSetTests(Suite):
    def test_tokens_come_with_the_values(self, store: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        store.set_many({a: b"1", b: b"2"})
        found = store.get_many_cas(a, c, b, a)
        assert [entry and entry[0] for entry in found] == [b"1", None, b"2", b"1"]
        assert store.get_many_cas() == []

    def test_an_unchanged_entry_is_set(self, store: BaseBackend, name: Name) -> None:
        a, b = name("a"), name("b")
        store.set_many({a: b"1", b: b"\x00\r\nbinary\xff"})
        (_, first), (_, second) = read(store, a, b)
        stored = store.compare_and_set_many({b: (b"\xff\r\n\x00", second), a: ("2", first)}, 50)
        assert list(stored.items()) == [(b, True), (a, True)]
        assert store.get_many(a, b) == [b"2", b"\xff\r\n\x00"]

    def test_a_changed_a_deleted_and_an_absent_entry_are_left_alone(self, store: BaseBackend, name: Name) -> None:
        changed, deleted, kept = name("changed"), name("deleted"), name("kept")
        store.set_many({changed: b"1", deleted: b"1", kept: b"1"})
        tokens = [token for _, token in read(store, changed, deleted, kept)]
        store.set(changed, b"2")
        store.delete(deleted)
        swaps = {key: (b"3", token) for key, token in zip([changed, deleted, kept], tokens, strict=True)}
        swaps[name("absent")] = (b"3", tokens[0])
        assert list(store.compare_and_set_many(swaps).values()) == [False, False, True, False]
        assert store.get_many(*swaps) == [b"2", None, b"3", None]

    def test_a_token_is_good_once(self, store: BaseBackend, name: Name) -> None:
        store.set(name("a"), b"1")
        ((_, token),) = read(store, name("a"))
        assert store.compare_and_set_many({name("a"): (b"2", token)}) == {name("a"): True}
        assert store.compare_and_set_many({name("a"): (b"3", token)}) == {name("a"): False}
        assert store.get(name("a")) == b"2"

    def test_an_expired_entry_is_not_set(self, store: BaseBackend, name: Name) -> None:
        entry = in_time(lambda: store.set(name("a"), b"1", 1), lambda: store.get_many_cas(name("a"))[0])
        assert entry is not None
        self.expire()
        assert store.compare_and_set_many({name("a"): (b"2", entry[1])}, 10_000) == {name("a"): False}
        assert store.get(name("a")) is None

    def test_a_set_entry_takes_the_lifetime_that_is_given(self, store: BaseBackend, name: Name) -> None:
        if not self.tells_lifetimes:
            return
        timed, ever, kept = name("timed"), name("ever"), name("kept")
        store.set_many({timed: b"1", ever: b"1", kept: b"1"}, 10_000)
        (_, first), (_, second), (_, third) = read(store, timed, ever, kept)
        assert store.compare_and_set_many({timed: (b"2", first)}, 5000)[timed]
        assert store.compare_and_set_many({ever: (b"2", second)}, 0)[ever]
        assert store.compare_and_set_many({kept: (b"2", third)}, KEEP_TTL)[kept]
        assert store.get_many(timed, ever, kept) == [b"2"] * 3
        assert about(store.ttl(timed), 5000)
        assert store.ttl(ever) == 0
        assert about(store.ttl(kept), 10_000)

    def test_bad_swaps_change_nothing(self, store: BaseBackend, name: Name) -> None:
        assert store.compare_and_set_many({}) == {}
        store.set(name("a"), b"1")
        ((_, token),) = read(store, name("a"))
        bad: list[tuple[dict[Any, Any], Any, type[Exception]]] = [
            ({name("a"): (b"2", token)}, -1, ValueError),
            ({name("a"): (None, token)}, 10, TypeError),
            ({name("a"): (b"2", token), 1: (b"2", token)}, 10, InvalidKeyError),
        ]
        for swaps, ttl, error in bad:
            with pytest.raises(error):
                store.compare_and_set_many(swaps, ttl)
        assert store.get(name("a")) == b"1"

    def test_thousands_of_entries_make_a_batch(self, store: BaseBackend, name: Name) -> None:
        rows = {name(str(i)): b"row %d" % i for i in range(2500)}
        store.set_many(rows, 10_000)
        found = dict(zip(rows, read(store, *rows), strict=True))
        store.set_many(dict.fromkeys(list(rows)[::5], b"changed"), 10_000)
        outcome = store.compare_and_set_many({key: (b"2", token) for key, (_, token) in found.items()}, 10_000)
        assert list(outcome) == list(rows)
        assert list(outcome.values()) == [False, True, True, True, True] * 500
        assert store.get_many(*rows) == [b"changed", b"2", b"2", b"2", b"2"] * 500

    def test_threads_that_compare_and_set_lose_no_change(self, store: BaseBackend, name: Name) -> None:
        keys = [name(str(i)) for i in range(3)]
        store.set_many(dict.fromkeys(keys, b"n0"), 10_000)

        def work(_: int) -> None:
            left = dict.fromkeys(keys, 10)
            while any(left.values()):
                rest = [key for key in keys if left[key]]
                found = zip(rest, read(store, *rest), strict=True)
                swaps = {key: (b"n%d" % (int(value[1:]) + 1), token) for key, (value, token) in found}
                for key, stored in store.compare_and_set_many(swaps, 10_000).items():
                    left[key] -= stored

        in_threads(8, work)
        assert store.get_many(*keys) == [b"n80"] * 3

    def test_touch_many_tells_which_entries_exist(self, store: BaseBackend, name: Name) -> None:
        a, b, c = name("a"), name("b"), name("c")
        store.set_many({a: b"1", b: b"1"}, 10_000)
        assert list(store.touch_many([a, c, b, a], 5000).items()) == [(a, True), (c, False), (b, True)]
        if self.tells_lifetimes:
            assert about(store.ttl(a), 5000)
            assert about(store.ttl(b), 5000)
            assert store.touch_many([a, c], 0) == {a: True, c: False}
            assert store.ttl(a) == 0
        assert store.touch_many([]) == {}
        with pytest.raises(ValueError, match="ttl"):
            store.touch_many([a], -1)

    def test_touched_entries_expire_when_their_new_lifetime_ends(self, store: BaseBackend, name: Name) -> None:
        keys = [name(str(i)) for i in range(1200)]
        store.set_many(dict.fromkeys(keys, b"1"), 10_000)
        store.set(name("stays"), b"1", 10_000)
        assert all(store.touch_many(keys, 1).values())
        self.expire()
        assert store.get_many(*keys, name("stays")) == [None] * 1200 + [b"1"]
