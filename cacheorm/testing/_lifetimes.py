"""Lifetimes: when entries expire, the reported rest of a lifetime, and lifetimes that are refused."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ..backends import BaseBackend
from ..types import KEEP_TTL
from ._suite import Name, Suite, about, in_time

__all__ = ["LifetimeTests"]

_BAD_LIFETIMES: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (0.5, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    ("60", TypeError),
    (True, TypeError),
]


class LifetimeTests(Suite):
    def test_an_expired_entry_does_not_exist_for_any_method(self, store: BaseBackend, name: Name) -> None:
        keys = [name(suffix) for suffix in "abcdefghijklmno"]
        for key in keys[:5]:
            store.set(key, b"1", 1)
        store.set_many(dict.fromkeys(keys[5:12], b"1"), ttl=1)
        store.add(keys[12], b"1", 1.9)
        store.set(keys[13], b"1", 10_000)
        store.touch(keys[13], 1)
        store.set(keys[14], b"1", 10_000)
        store.replace(keys[14], b"1", 1)
        store.incr(name("count"), 5, ttl=1)
        # These live on: rewritten, or touched, with a longer lifetime.
        store.set(name("set again"), b"1", 1)
        store.set(name("set again"), b"2", 10_000)
        touched, replaced, forever = name("touched"), name("replaced"), name("for ever")
        assert in_time(lambda: store.set(touched, b"1", 1), lambda: store.touch(touched, 10_000)) is True
        assert in_time(lambda: store.set(forever, b"1", 1), lambda: store.touch(forever, 0)) is True
        assert in_time(
            lambda: store.set_many({replaced: b"1"}, 1),
            lambda: store.replace_many({replaced: b"2"}, 10_000)[replaced],
        )
        self.expire()
        # Reads last: they make some backends remove what has expired.
        assert store.delete(keys[3]) is False
        assert store.replace(keys[2], b"2") is False
        assert store.has(keys[1]) is False
        assert store.get(keys[0]) is None
        assert store.touch(keys[4], 10_000) is False
        assert store.get_many(*keys) == [None] * len(keys)
        assert set(store.get_dict(*keys).values()) == {None}
        assert store.delete_many(keys[5], keys[6]) is False
        assert store.replace_many({keys[7]: b"2"}) == {keys[7]: False}
        assert store.add(keys[8], b"2") is True
        assert store.add_many({keys[9]: b"2"}) == {keys[9]: True}
        assert store.get_many(*keys[7:10]) == [None, b"2", b"2"]
        assert store.incr(name("count")) == 1
        if self.tells_lifetimes:
            assert store.ttl(keys[10]) is None
            assert store.replace(keys[11], b"2", KEEP_TTL) is False
        assert store.get_many(name("set again"), touched, replaced, forever) == [b"2", b"1", b"2", b"1"]

    def test_the_rest_of_a_lifetime_is_reported(self, store: BaseBackend, name: Name) -> None:
        key = name("a")
        if not self.tells_lifetimes:
            with pytest.raises(NotImplementedError):
                store.ttl(key)
            return
        assert store.ttl(key) is None
        store.set(key, b"1", 10_000)
        assert about(store.ttl(key), 10_000)
        store.set(key, b"1", 0)
        assert store.ttl(key) == 0
        assert store.touch(key, 5000.9) is True
        assert about(store.ttl(key), 5000)
        assert store.touch(key) is True
        assert about(store.ttl(key), store.default_ttl)
        assert store.touch(name("absent"), 5000) is False
        assert store.ttl(name("absent")) is None
        for i, write in enumerate((store.set_many, store.replace_many, store.set_many)):
            write({key: b"1"}, (4000, None, 0)[i])
            assert about(store.ttl(key), (4000, store.default_ttl, 0)[i])
        if self.default_ttl is not None:
            assert store.default_ttl == self.default_ttl

    def test_replace_can_keep_the_lifetime(self, store: BaseBackend, name: Name) -> None:
        key, forever = name("a"), name("for ever")
        store.set(key, b"1", 10_000)
        store.set(forever, b"1", 0)
        if not self.tells_lifetimes:
            with pytest.raises(NotImplementedError):
                store.replace(key, b"2", KEEP_TTL)
            assert store.get(key) == b"1"
            return
        assert store.replace(key, b"2", KEEP_TTL) is True
        assert store.replace_many({key: b"3", forever: b"3", name("absent"): b"3"}, KEEP_TTL) == {
            key: True,
            forever: True,
            name("absent"): False,
        }
        assert store.get_many(key, forever, name("absent")) == [b"3", b"3", None]
        assert about(store.ttl(key), 10_000)
        assert store.ttl(forever) == 0
        assert store.replace(forever, b"4", KEEP_TTL) is True
        assert store.ttl(forever) == 0

    def test_counting_keeps_the_lifetime(self, store: BaseBackend, name: Name) -> None:
        store.incr(name("a"), ttl=10_000)
        assert store.incr(name("a"), ttl=20_000) == 2
        store.incr(name("b"), ttl=0)
        assert store.decr(name("b"), ttl=20_000) == 0
        store.incr(name("c"))
        if self.tells_lifetimes:
            assert about(store.ttl(name("a")), 10_000)
            assert store.ttl(name("b")) == 0
            assert about(store.ttl(name("c")), store.default_ttl)

    @pytest.mark.parametrize(("ttl", "expected"), _BAD_LIFETIMES, ids=repr)
    def test_impossible_lifetimes_are_refused_and_nothing_is_written(
        self, store: BaseBackend, name: Name, ttl: Any, expected: type[Exception]
    ) -> None:
        key, present = name("a"), name("present")
        store.set(present, b"1", 10_000)
        calls: list[Callable[[], object]] = [
            lambda: store.set(key, b"2", ttl),
            lambda: store.add(key, b"2", ttl),
            lambda: store.incr(key, 1, ttl),
            lambda: store.set_many({key: b"2"}, ttl),
            lambda: store.add_many({key: b"2"}, ttl),
            lambda: store.replace(present, b"2", ttl),
            lambda: store.replace_many({present: b"2"}, ttl),
            lambda: store.touch(present, ttl),
        ]
        for call in calls:
            with pytest.raises(expected):
                call()
        assert store.get_many(key, present) == [None, b"1"]
