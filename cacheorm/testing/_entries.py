"""Single entries: storing, counting, and the methods of the backend as a whole."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from typing import Any

import pytest

from ..backends import BaseBackend
from ..errors import BackendError
from ._suite import Name, Suite

__all__ = ["EntryTests"]


class EntryTests(Suite):
    def test_a_stored_value_is_read_back_and_overwritten(self, store: BaseBackend, name: Name) -> None:
        key = name("a")
        assert store.get(key) is None
        assert store.has(key) is False
        assert store.set(key, b"1") is True
        assert store.get(key) == b"1"
        assert store.has(key) is True
        assert store.set(key, b"22") is True
        assert store.get(key) == b"22"

    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (b"", b""),
            (b"\x00\xff\r\nEND\r\n", b"\x00\xff\r\nEND\r\n"),
            ("", b""),
            ("caf\u00e9 \0", b"caf\xc3\xa9 \x00"),
            (0, b"0"),
            (-(2**70), b"-1180591620717411303424"),
            (1.5, b"1.5"),
            (b"x" * (512 * 1024), b"x" * (512 * 1024)),
        ],
        ids=["empty", "binary", "empty text", "text", "zero", "big int", "float", "512 KiB"],
    )
    def test_values_are_read_back_as_bytes(self, store: BaseBackend, name: Name, value: Any, stored: bytes) -> None:
        single, many, added = name("single"), name("many"), name("added")
        store.set(single, value)
        store.set_many({many: value})
        store.add(added, value)
        assert [store.get(single), *store.get_many(many, added)] == [stored] * 3
        assert all(type(found) is bytes for found in store.get_many(single, many, added))
        store.set(single, b"other")
        assert store.replace(single, value) is True
        assert store.get(single) == stored
        assert store.has(single) is True

    @pytest.mark.parametrize("value", [True, None, ["x"], object()], ids=["bool", "None", "list", "object"])
    def test_other_values_are_refused_and_nothing_is_written(self, store: BaseBackend, name: Name, value: Any) -> None:
        key, present = name("a"), name("present")
        store.set(present, b"1")
        for write in (store.set, store.add):
            with pytest.raises(TypeError):
                write(key, value)
        with pytest.raises(TypeError):
            store.replace(present, value)
        with pytest.raises(TypeError):
            store.set_many({key: value})
        assert store.get_many(key, present) == [None, b"1"]

    def test_delete_tells_whether_the_key_existed(self, store: BaseBackend, name: Name) -> None:
        store.set(name("a"), b"")
        assert store.delete(name("a")) is True
        assert store.delete(name("a")) is False
        assert store.get(name("a")) is None

    def test_add_stores_only_what_is_absent(self, store: BaseBackend, name: Name) -> None:
        assert store.add(name("a"), b"") is True
        assert store.add(name("a"), b"2") is False
        assert store.get(name("a")) == b""

    def test_replace_stores_only_what_is_present(self, store: BaseBackend, name: Name) -> None:
        assert store.replace(name("a"), b"1") is False
        assert store.get(name("a")) is None
        store.set(name("a"), b"1")
        assert store.replace(name("a"), b"2") is True
        assert store.get(name("a")) == b"2"

    def test_counters_start_from_zero_and_go_below_it(self, store: BaseBackend, name: Name) -> None:
        assert store.incr(name("a")) == 1
        assert store.incr(name("a"), 41) == 42
        assert store.decr(name("a"), 50) == -8
        assert store.incr(name("a"), 0) == -8
        assert store.get(name("a")) == b"-8"
        assert store.decr(name("b")) == -1
        store.set(name("c"), 5)
        assert store.incr(name("c"), -7) == -2

    def test_counters_keep_to_64_bits_and_stay_as_they_are(self, store: BaseBackend, name: Name) -> None:
        assert store.incr(name("up"), 2**63 - 1) == 2**63 - 1
        assert store.decr(name("down"), 2**63 - 1) == -(2**63) + 1
        assert store.decr(name("down")) == -(2**63)
        with pytest.raises(BackendError):
            store.incr(name("up"))
        with pytest.raises(BackendError):
            store.decr(name("down"))
        assert store.get_many(name("up"), name("down")) == [b"%d" % (2**63 - 1), b"%d" % -(2**63)]

    def test_what_is_no_integer_cannot_be_counted(self, store: BaseBackend, name: Name) -> None:
        for value in (b"text", b"1.5", b""):
            store.set(name("a"), value)
            with pytest.raises(BackendError):
                store.incr(name("a"))
            assert store.get(name("a")) == value
        step: Any
        for step in (1.5, "1", None):
            with pytest.raises(TypeError):
                store.incr(name("b"), step)
        assert store.get(name("b")) is None

    def test_clear_removes_everything(self, store: BaseBackend, name: Name) -> None:
        store.set_many({name("a"): b"1", name("b"): b"2"}, 0)
        if not self.can_clear:
            with pytest.raises(NotImplementedError):
                store.clear(everything=True)
            return
        store.clear(everything=True)
        assert store.get_many(name("a"), name("b")) == [None, None]
        assert store.add(name("a"), b"3") is True

    def test_a_closed_backend_opens_again(self, store: BaseBackend, name: Name) -> None:
        store.set(name("a"), b"1")
        store.close()
        store.close()
        assert store.set(name("b"), b"2") is True
        assert store.get_many(name("a"), name("b")) == [b"1", b"2"]
        with store as entered:
            assert entered is store
        assert store.get(name("a")) == b"1"

    def test_it_describes_itself(self, store: BaseBackend) -> None:
        assert store.ping() is True
        assert isinstance(store.stats(), dict)
        assert type(store.default_ttl) is int
        assert store.chunk_size > 0
        assert isinstance(store.in_process, bool)

    def test_its_methods_can_be_wrapped(self, store: BaseBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        monkeypatch.setattr(store, "get", seen.append)
        store.get("wrapped")
        assert seen == ["wrapped"]
