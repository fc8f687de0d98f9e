"""Lifetimes: when entries end, what they are told to have left, and which are refused."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ..backends import BaseBackend
from ..types import KEEP_TTL
from ._suite import Name, Suite, about

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
    def test_an_expired_entry_does_not_exist_for_any_method(self, backend: BaseBackend, name: Name) -> None:
        keys = [name(suffix) for suffix in "abcdefghijklmno"]
        for key in keys[:5]:
            backend.set(key, b"1", 1)
        backend.set_many(dict.fromkeys(keys[5:12], b"1"), ttl=1)
        backend.add(keys[12], b"1", 1.9)
        backend.set(keys[13], b"1", 100)
        backend.touch(keys[13], 1)
        backend.set(keys[14], b"1", 100)
        backend.replace(keys[14], b"1", 1)
        backend.incr(name("count"), 5, ttl=1)
        # These live on: rewritten, or touched, with a longer lifetime.
        backend.set(name("set again"), b"1", 1)
        backend.set(name("set again"), b"2", 100)
        backend.set_many({name("touched"): b"1", name("replaced"): b"1", name("for ever"): b"1"}, 1)
        assert backend.touch(name("touched"), 100) is True
        assert backend.replace_many({name("replaced"): b"2"}, 100) == {name("replaced"): True}
        assert backend.touch(name("for ever"), 0) is True
        self.expire()
        # Reads last: they make some backends remove what has expired.
        assert backend.delete(keys[3]) is False
        assert backend.replace(keys[2], b"2") is False
        assert backend.has(keys[1]) is False
        assert backend.get(keys[0]) is None
        assert backend.touch(keys[4], 100) is False
        assert backend.get_many(*keys) == [None] * len(keys)
        assert set(backend.get_dict(*keys).values()) == {None}
        assert backend.delete_many(keys[5], keys[6]) is False
        assert backend.replace_many({keys[7]: b"2"}) == {keys[7]: False}
        assert backend.add(keys[8], b"2") is True
        assert backend.add_many({keys[9]: b"2"}) == {keys[9]: True}
        assert backend.get_many(*keys[7:10]) == [None, b"2", b"2"]
        assert backend.incr(name("count")) == 1
        if self.tells_lifetimes:
            assert backend.ttl(keys[10]) is None
            assert backend.replace(keys[11], b"2", KEEP_TTL) is False
        living = [name(suffix) for suffix in ("set again", "touched", "replaced", "for ever")]
        assert backend.get_many(*living) == [b"2", b"1", b"2", b"1"]

    def test_what_is_left_of_a_lifetime_is_told(self, backend: BaseBackend, name: Name) -> None:
        key = name("a")
        if not self.tells_lifetimes:
            with pytest.raises(NotImplementedError):
                backend.ttl(key)
            return
        assert backend.ttl(key) is None
        backend.set(key, b"1", 100)
        assert about(backend.ttl(key), 100)
        backend.set(key, b"1", 0)
        assert backend.ttl(key) == 0
        assert backend.touch(key, 50.9) is True
        assert about(backend.ttl(key), 50)
        assert backend.touch(key) is True
        assert about(backend.ttl(key), backend.default_ttl)
        assert backend.touch(name("absent"), 50) is False
        assert backend.ttl(name("absent")) is None
        for i, write in enumerate((backend.set_many, backend.replace_many, backend.set_many)):
            write({key: b"1"}, (40, None, 0)[i])
            assert about(backend.ttl(key), (40, backend.default_ttl, 0)[i])
        if self.default_ttl is not None:
            assert backend.default_ttl == self.default_ttl

    def test_replace_can_keep_the_lifetime(self, backend: BaseBackend, name: Name) -> None:
        key, forever = name("a"), name("for ever")
        backend.set(key, b"1", 100)
        backend.set(forever, b"1", 0)
        if not self.tells_lifetimes:
            with pytest.raises(NotImplementedError):
                backend.replace(key, b"2", KEEP_TTL)
            assert backend.get(key) == b"1"
            return
        assert backend.replace(key, b"2", KEEP_TTL) is True
        assert backend.replace_many({key: b"3", forever: b"3", name("absent"): b"3"}, KEEP_TTL) == {
            key: True,
            forever: True,
            name("absent"): False,
        }
        assert backend.get_many(key, forever, name("absent")) == [b"3", b"3", None]
        assert about(backend.ttl(key), 100)
        assert backend.ttl(forever) == 0
        assert backend.replace(forever, b"4", KEEP_TTL) is True
        assert backend.ttl(forever) == 0

    def test_counting_keeps_the_lifetime(self, backend: BaseBackend, name: Name) -> None:
        backend.incr(name("a"), ttl=100)
        assert backend.incr(name("a"), ttl=1000) == 2
        backend.incr(name("b"), ttl=0)
        assert backend.decr(name("b"), ttl=1000) == 0
        backend.incr(name("c"))
        if self.tells_lifetimes:
            assert about(backend.ttl(name("a")), 100)
            assert backend.ttl(name("b")) == 0
            assert about(backend.ttl(name("c")), backend.default_ttl)

    @pytest.mark.parametrize(("ttl", "expected"), _BAD_LIFETIMES, ids=repr)
    def test_impossible_lifetimes_are_refused_and_nothing_is_written(
        self, backend: BaseBackend, name: Name, ttl: Any, expected: type[Exception]
    ) -> None:
        key, present = name("a"), name("present")
        backend.set(present, b"1", 100)
        calls: list[Callable[[], object]] = [
            lambda: backend.set(key, b"2", ttl),
            lambda: backend.add(key, b"2", ttl),
            lambda: backend.incr(key, 1, ttl),
            lambda: backend.set_many({key: b"2"}, ttl),
            lambda: backend.add_many({key: b"2"}, ttl),
            lambda: backend.replace(present, b"2", ttl),
            lambda: backend.replace_many({present: b"2"}, ttl),
            lambda: backend.touch(present, ttl),
        ]
        for call in calls:
            with pytest.raises(expected):
                call()
        assert backend.get_many(key, present) == [None, b"1"]
