"""Entries one at a time: what is stored, counted, and told of the backend as a whole."""

# ruff: noqa: S101  # tests are made of asserts

from __future__ import annotations

from typing import Any

import pytest

from ..backends import BaseBackend
from ..errors import BackendError
from ._suite import Name, Suite

__all__ = ["EntryTests"]


class EntryTests(Suite):
    def test_a_stored_value_is_read_back_and_overwritten(self, backend: BaseBackend, name: Name) -> None:
        key = name("a")
        assert backend.get(key) is None
        assert backend.has(key) is False
        assert backend.set(key, b"1") is True
        assert backend.get(key) == b"1"
        assert backend.has(key) is True
        assert backend.set(key, b"22") is True
        assert backend.get(key) == b"22"

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
    def test_values_are_read_back_as_bytes(self, backend: BaseBackend, name: Name, value: Any, stored: bytes) -> None:
        one, many, added = name("one"), name("many"), name("added")
        backend.set(one, value)
        backend.set_many({many: value})
        backend.add(added, value)
        assert [backend.get(one), *backend.get_many(many, added)] == [stored] * 3
        assert all(type(found) is bytes for found in backend.get_many(one, many, added))
        backend.set(one, b"other")
        assert backend.replace(one, value) is True
        assert backend.get(one) == stored
        assert backend.has(one) is True

    @pytest.mark.parametrize("value", [True, None, ["x"], object()], ids=["bool", "None", "list", "object"])
    def test_other_values_are_refused_and_nothing_is_written(
        self, backend: BaseBackend, name: Name, value: Any
    ) -> None:
        key, present = name("a"), name("present")
        backend.set(present, b"1")
        for write in (backend.set, backend.add):
            with pytest.raises(TypeError):
                write(key, value)
        with pytest.raises(TypeError):
            backend.replace(present, value)
        with pytest.raises(TypeError):
            backend.set_many({key: value})
        assert backend.get_many(key, present) == [None, b"1"]

    def test_delete_tells_whether_the_key_existed(self, backend: BaseBackend, name: Name) -> None:
        backend.set(name("a"), b"")
        assert backend.delete(name("a")) is True
        assert backend.delete(name("a")) is False
        assert backend.get(name("a")) is None

    def test_add_stores_only_what_is_absent(self, backend: BaseBackend, name: Name) -> None:
        assert backend.add(name("a"), b"") is True
        assert backend.add(name("a"), b"2") is False
        assert backend.get(name("a")) == b""

    def test_replace_stores_only_what_is_present(self, backend: BaseBackend, name: Name) -> None:
        assert backend.replace(name("a"), b"1") is False
        assert backend.get(name("a")) is None
        backend.set(name("a"), b"1")
        assert backend.replace(name("a"), b"2") is True
        assert backend.get(name("a")) == b"2"

    def test_counters_start_from_zero_and_go_below_it(self, backend: BaseBackend, name: Name) -> None:
        assert backend.incr(name("a")) == 1
        assert backend.incr(name("a"), 41) == 42
        assert backend.decr(name("a"), 50) == -8
        assert backend.incr(name("a"), 0) == -8
        assert backend.get(name("a")) == b"-8"
        assert backend.decr(name("b")) == -1
        backend.set(name("c"), 5)
        assert backend.incr(name("c"), -7) == -2

    def test_counters_keep_to_64_bits_and_stay_as_they_are(self, backend: BaseBackend, name: Name) -> None:
        assert backend.incr(name("up"), 2**63 - 1) == 2**63 - 1
        assert backend.decr(name("down"), 2**63 - 1) == -(2**63) + 1
        assert backend.decr(name("down")) == -(2**63)
        with pytest.raises(BackendError):
            backend.incr(name("up"))
        with pytest.raises(BackendError):
            backend.decr(name("down"))
        assert backend.get_many(name("up"), name("down")) == [b"%d" % (2**63 - 1), b"%d" % -(2**63)]

    def test_what_is_no_integer_cannot_be_counted(self, backend: BaseBackend, name: Name) -> None:
        for value in (b"text", b"1.5", b""):
            backend.set(name("a"), value)
            with pytest.raises(BackendError):
                backend.incr(name("a"))
            assert backend.get(name("a")) == value
        step: Any
        for step in (1.5, "1", None):
            with pytest.raises(TypeError):
                backend.incr(name("b"), step)
        assert backend.get(name("b")) is None

    def test_clear_removes_everything(self, backend: BaseBackend, name: Name) -> None:
        backend.set_many({name("a"): b"1", name("b"): b"2"}, 0)
        if not self.can_clear:
            with pytest.raises(NotImplementedError):
                backend.clear()
            return
        backend.clear()
        assert backend.get_many(name("a"), name("b")) == [None, None]
        assert backend.add(name("a"), b"3") is True

    def test_a_closed_backend_opens_again(self, backend: BaseBackend, name: Name) -> None:
        backend.set(name("a"), b"1")
        backend.close()
        backend.close()
        assert backend.set(name("b"), b"2") is True
        assert backend.get_many(name("a"), name("b")) == [b"1", b"2"]
        with backend as entered:
            assert entered is backend
        assert backend.get(name("a")) == b"1"

    def test_it_tells_about_itself(self, backend: BaseBackend) -> None:
        assert backend.ping() is True
        assert isinstance(backend.stats(), dict)
        assert type(backend.default_ttl) is int
        assert backend.chunk_size > 0
        assert isinstance(backend.in_process, bool)

    def test_its_methods_can_be_wrapped(self, backend: BaseBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []
        monkeypatch.setattr(backend, "get", seen.append)
        backend.get("wrapped")
        assert seen == ["wrapped"]
