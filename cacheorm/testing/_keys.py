"""Keys: each works exactly, or is refused before anything is written."""

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
"""Keys that have broken caches. A backend refuses each with InvalidKeyError, or keeps it apart from all others."""


class KeyTests(Suite):
    @pytest.mark.parametrize("key", AWKWARD_KEYS, ids=lambda key: ascii(key[:24]))
    def test_an_awkward_key_works_exactly_or_is_refused(self, backend: BaseBackend, name: Name, key: str) -> None:
        good = name("good")
        backend.set(good, b"good")
        # What a server or a driver might take the key for.
        others = {key + "x", key[:250], key[:-1], key.strip(), key.lower(), key.upper(), "x" + key, "caf\u00e9"}
        others |= {key.split(mark)[0] for mark in ("\0", "\r", "\n", " ", "\t") if mark in key}
        others = {other for other in others - {key} if other and other.isascii() and other.isprintable()}
        others = {other for other in others if " " not in other and len(other) <= 250}
        backend.set_many(dict.fromkeys(others, b"other"))
        try:
            backend.check_key(key)
        except InvalidKeyError:
            self._refuses(backend, key, good)
        else:
            self._serves(backend, key)
        assert backend.get(good) == b"good"
        assert backend.get_many(*others) == [b"other"] * len(others)

    @pytest.mark.parametrize("key", [1, None, b"bytes", ("a",), ["a"]], ids=repr)
    def test_keys_of_other_types_are_refused(self, backend: BaseBackend, name: Name, key: Any) -> None:
        backend.set(name("good"), b"good")
        self._refuses(backend, key, name("good"))

    def _refuses(self, backend: BaseBackend, key: Any, good: str) -> None:
        absent = good + "-absent"
        calls: list[Callable[[], object]] = [
            lambda: backend.get(key),
            lambda: backend.has(key),
            lambda: backend.set(key, b"1"),
            lambda: backend.add(key, b"1"),
            lambda: backend.replace(key, b"1"),
            lambda: backend.delete(key),
            lambda: backend.incr(key),
            lambda: backend.decr(key),
            lambda: backend.touch(key, 10),
            lambda: backend.get_many(good, key),
            lambda: backend.get_dict(key),
            lambda: [*backend.get_chunks([good, key])],
            lambda: backend.delete_many(key, good),
            lambda: backend.delete_many(good, key),
            lambda: backend.check_key(key),
        ]
        if self.tells_lifetimes:
            calls.append(lambda: backend.ttl(key))
        if not isinstance(key, list):  # which no mapping can hold
            calls += [
                lambda: backend.set_many({good: b"bad", key: b"1"}),
                lambda: backend.set_many({key: b"1", good: b"bad"}),
                lambda: backend.add_many({absent: b"bad", key: b"1"}),
                lambda: backend.replace_many({good: b"bad", key: b"1"}),
            ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        assert backend.get_many(good, absent) == [b"good", None]

    def _serves(self, backend: BaseBackend, key: str) -> None:
        backend.delete(key)
        assert backend.get(key) is None
        assert backend.add(key, b"1") is True
        assert (backend.get(key), backend.has(key)) == (b"1", True)
        assert backend.set_many({key: b"2"}) == {key: True}
        assert backend.get_many(key, key) == [b"2", b"2"]
        assert backend.replace(key, b"3") is True
        assert backend.touch(key, 100) is True
        assert backend.get_dict(key) == {key: b"3"}
        assert backend.incr(key) == 4
        assert backend.delete_many(key) is True
        assert backend.delete(key) is False
