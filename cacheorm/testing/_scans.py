"""Enumerating keys: each one that begins with a prefix, whatever is changed meanwhile; and removing them."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..backends import BaseBackend
from ..errors import InvalidKeyError
from ._keys import AWKWARD_KEYS
from ._suite import Name, Suite

__all__ = ["ScanTests"]


class ScanTests(Suite):
    def test_a_scan_gives_each_key_with_the_prefix(self, store: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        rows = {name(f"a:{i}"): b"1" for i in range(2500)}
        others = {name(f"b:{i}"): b"1" for i in range(100)}
        store.set_many({**rows, **others, name("a"): b"1"}, 10_000)
        assert {*store.scan(name("a:"))} == {*rows}
        assert {*store.scan(name(""))} == {*rows, *others, name("a")}
        assert {*rows, *others} <= {*store.scan()}
        assert {*store.scan(name("c"))} == set()
        assert {*store.scan(name("a:2499"))} == {name("a:2499")}
        assert all(type(key) is str for key in store.scan(name("b:")))

    def test_a_scan_comes_in_lists(self, store: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        rows = {name(str(i)): b"1" for i in range(700)}
        store.set_many(rows, 10_000)
        for size in (1, 7, 100, 5000):
            chunks = [*store.scan_chunks(name(""), size)]
            assert all(0 < len(keys) <= size for keys in chunks)
            assert {key for keys in chunks for key in keys} == {*rows}
            assert {*store.scan(name(""), size)} == {*rows}

    def test_a_scan_leaves_out_what_was_removed(self, store: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        store.set_many({name("removed"): b"1", name("stays"): b"1"}, 10_000)
        store.delete(name("removed"))
        assert {*store.scan(name(""))} == {name("stays")}

    @pytest.mark.parametrize("prefix", ["*", "?", "[a-z]", "%", "_", "\\", "a\\*", "^", "'", "%25", "key=", "a%3Ab"])
    def test_a_scan_takes_the_prefix_as_it_is(self, store: BaseBackend, name: Name, prefix: str) -> None:
        if not self.can_scan:
            return
        keys = {name(prefix + end): b"1" for end in ("", "1", "*", "%41", "é")}
        keys = {key: value for key, value in keys.items() if _is_valid(store, key)}
        others = {name(other) + "1": b"1" for other in ("a", "b", "aa", ":", "x*", "a%3ab", "a:b")}
        store.set_many({**keys, **others}, 10_000)
        assert {*store.scan(name(prefix))} == {*keys}

    def test_a_scan_gives_awkward_keys_as_they_are(self, store: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        keys = [key for key in map(name, AWKWARD_KEYS) if _is_valid(store, key)]
        store.set_many(dict.fromkeys(keys, b"1"), 10_000)
        assert {*store.scan(name(""))} == {*keys}

    def test_a_scan_gives_the_keys_that_stay_while_others_come_and_go(self, backend: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        stays = {name(f"stays:{i}"): b"1" for i in range(600)}
        goes = [name(f"goes:{i}") for i in range(600)]
        backend.set_many({**stays, **dict.fromkeys(goes, b"1")}, 10_000)
        found: set[str] = set()
        for step, keys in enumerate(backend.scan_chunks(name(""), 50)):
            found.update(keys)
            if step >= 10:
                continue
            backend.delete_many(*goes[step * 60 : step * 60 + 60])
            backend.set_many({name(f"comes:{step}:{i}"): b"1" for i in range(100)}, 10_000)
            backend.get_many(*stays)
            backend.set_many(dict(list(stays.items())[step::7]), 10_000)
        assert {*stays} <= found

    def test_a_scan_that_is_ended_gives_back_what_it_has(self, backend: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        backend.set_many({name(str(i)): b"1" for i in range(300)}, 10_000)
        for _ in range(100):
            keys: Iterator[str] = backend.scan(name(""), 10)
            assert next(keys).startswith(name(""))
            keys.close()  # type: ignore[attr-defined]
            assert backend.get(name("0")) == b"1"
        assert sum(state.in_use for state in backend.pools()) == 0

    def test_clear_removes_what_a_scan_gives_and_nothing_else(self, store: BaseBackend, name: Name) -> None:
        if not self.can_scan:
            return
        rows = {name(f"a:{i}"): b"1" for i in range(2500)}
        others = {name(f"b:{i}"): b"1" for i in range(50)} | {name("a"): b"1"}
        store.set_many({**rows, **others}, 10_000)
        store.clear(name("a:"))
        assert store.get_many(*rows) == [None] * len(rows)
        assert store.get_many(*others) == [b"1"] * len(others)
        store.clear(prefix=name("b"))
        assert store.get(name("a")) == b"1"

    def test_clear_of_a_scan_asks_for_one_of_both(self, store: BaseBackend, name: Name) -> None:
        store.set(name("a"), b"1")
        with pytest.raises(ValueError, match="empty"):
            store.clear("")
        with pytest.raises(TypeError, match="not both"):
            store.clear(name("a"), everything=True)
        assert store.get(name("a")) == b"1"

    def test_a_backend_without_scans_says_so(self, store: BaseBackend, name: Name) -> None:
        if self.can_scan:
            return
        for call in (store.scan, store.scan_chunks, store.clear):
            with pytest.raises(NotImplementedError):
                [*(call(name("a")) or ())]


def _is_valid(store: BaseBackend, key: str) -> bool:
    try:
        store.check_key(key)
    except InvalidKeyError:
        return False
    return True
