"""Keys: each one is stored exactly, or refused before anything is written."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..backends import BaseBackend
from ..errors import InvalidKeyError
from ._suite import Name, Suite

__all__ = ["AWKWARD_KEYS", "KeyTests"]

AWKWARD_KEYS = [
    "",
    " ",
    "two words",
    "line\r\nflush_all\r\n",
    "line\nbreak",
    "tab\tstop",
    "nul\0byte",
    "del\x7f",
    "quote'\"\\; DROP TABLE entries; --",
    "percent%s %d {0} *?[a-z]",
    "{tag}:hash",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f600",
    "lone\ud800surrogate",
    "k" * 250,
    "k" * 251,
    "k" * 70_000,
]
"""Keys that have broken caches. A backend refuses each with InvalidKeyError, or stores it as a key of its own."""


class KeyTests(Suite):
    @pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: ascii(key[:24]))
    def test_an_awkward_key_works_exactly_or_is_refused(self, store: BaseBackend, name: Name, key: str) -> None:
        good = name("good")
        store.set(good, b"good")
        # Keys that a server or a driver might confuse with it.
        others = {key + "x", key[:250], key[:-1], key.strip(), key.lower(), key.upper(), "x" + key, "caf\u00e9"}
        others |= {key.split(mark)[0] for mark in ("\0", "\r", "\n", " ", "\t") if mark in key}
        others = {other for other in others - {key} if other and other.isascii() and other.isprintable()}
        others = {other for other in others if " " not in other and len(other) <= 250}
        store.set_many(dict.fromkeys(others, b"other"))
        try:
            store.check_key(key)
        except InvalidKeyError:
            self._refuses(store, key, good)
        else:
            self._serves(store, key)
        assert store.get(good) == b"good"
        assert store.get_many(*others) == [b"other"] * len(others)

    @pytest.mark.parametrize("key", [1, None, b"bytes", ("a",), ["a"]], ids=repr)
    def test_keys_of_other_types_are_refused(self, store: BaseBackend, name: Name, key: Any) -> None:
        store.set(name("good"), b"good")
        self._refuses(store, key, name("good"))

    def _refuses(self, store: BaseBackend, key: Any, good: str) -> None:
        absent = good + "-absent"
        calls: list[Callable[[], object]] = [
            lambda: store.get(key),
            lambda: store.has(key),
            lambda: store.set(key, b"1"),
            lambda: store.add(key, b"1"),
            lambda: store.replace(key, b"1"),
            lambda: store.delete(key),
            lambda: store.incr(key),
            lambda: store.decr(key),
            lambda: store.touch(key, 10),
            lambda: store.get_many(good, key),
            lambda: store.get_dict(key),
            lambda: [*store.get_chunks([good, key])],
            lambda: store.delete_many(key, good),
            lambda: store.delete_many(good, key),
            lambda: store.check_key(key),
        ]
        if self.tells_lifetimes:
            calls.append(lambda: store.ttl(key))
        if not isinstance(key, list):  # which no mapping can hold
            calls += [
                lambda: store.set_many({good: b"bad", key: b"1"}),
                lambda: store.set_many({key: b"1", good: b"bad"}),
                lambda: store.add_many({absent: b"bad", key: b"1"}),
                lambda: store.replace_many({good: b"bad", key: b"1"}),
            ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        assert store.get_many(good, absent) == [b"good", None]

    def _serves(self, store: BaseBackend, key: str) -> None:
        store.delete(key)
        assert store.get(key) is None
        assert store.add(key, b"1") is True
        assert (store.get(key), store.has(key)) == (b"1", True)
        assert store.set_many({key: b"2"}) == {key: True}
        assert store.get_many(key, key) == [b"2", b"2"]
        assert store.replace(key, b"3") is True
        assert store.touch(key, 100) is True
        assert store.get_dict(key) == {key: b"3"}
        assert store.incr(key) == 4
        assert store.delete_many(key) is True
        assert store.delete(key) is False
