from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cacheorm.backends import BaseBackend
from cacheorm.backends.base import next_count
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.testing import BackendConformance
from cacheorm.types import KEEP_TTL, TTL, Value, check_ttl, to_bytes


class SmallestBackend(BaseBackend):
    """What the documentation calls a working backend: get, set and delete, and not even a constructor."""

    @property
    def entries(self) -> dict[str, tuple[bytes, float]]:
        return self.__dict__.setdefault("_entries", {})

    def check_key(self, key: str) -> None:
        if not isinstance(key, str):
            raise InvalidKeyError(f"a key must be a str, got {type(key).__name__}")

    def get(self, key: str) -> bytes | None:
        self.check_key(key)
        value, deadline = self.entries.get(key, (None, 0.0))
        return value if deadline > time.monotonic() else None

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        self.check_key(key)
        stored = to_bytes(value)
        if stored is None:
            raise TypeError("cannot store None")
        seconds = self.default_ttl if ttl is None else check_ttl(ttl)
        self.entries[key] = (stored, time.monotonic() + seconds if seconds else float("inf"))
        return True

    def delete(self, key: str) -> bool:
        existed = self.get(key) is not None
        self.entries.pop(key, None)
        return existed


class TellingBackend(SmallestBackend):
    """Tells lifetimes and enumerates its keys, too: then nothing of the contract is missing."""

    def ttl(self, key: str) -> int | None:
        if self.get(key) is None:
            return None
        left = self.entries[key][1] - time.monotonic()
        return 0 if left == float("inf") else max(1, round(left + 0.5))

    def scan(self, prefix: str = "", batch_size: int = 1000) -> Iterator[str]:
        return (key for key in [*self.entries] if key.startswith(prefix) and self.get(key) is not None)


class TestSmallestBackend(BackendConformance):
    tells_lifetimes = False
    can_clear = False
    can_scan = False

    def make_backend(self) -> BaseBackend:
        return SmallestBackend()


class TestTellingBackend(BackendConformance):
    default_ttl = 600

    def make_backend(self) -> BaseBackend:
        return TellingBackend(default_ttl=600)


class Refusing(SmallestBackend):
    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return False


def test_a_refused_write_is_reported_by_whatever_is_built_on_set() -> None:
    backend = Refusing()
    assert backend.set_many({"a": 1}) == {"a": False}
    assert backend.add("a", 1) is False
    with pytest.raises(BackendError, match="a: the count was not stored"):
        backend.incr("a")


def test_a_counter_without_known_lifetime_goes_on_counting() -> None:
    backend = SmallestBackend()
    assert [backend.incr("a"), backend.incr("a"), backend.decr("a", 5)] == [1, 2, -3]


def test_a_set_that_returns_nothing_counts_as_stored() -> None:
    class Silent(SmallestBackend):
        def set(self, key: str, value: Value, ttl: TTL = None) -> Any:
            super().set(key, value, ttl)

    backend = Silent()
    assert backend.set_many({"a": 1}) == {"a": True}
    assert backend.replace("a", 2) is True
    assert backend.incr("a") == 3


def test_the_lifetime_of_an_entry_cannot_be_kept_where_it_is_not_told() -> None:
    backend = SmallestBackend()
    backend.set("a", b"1")
    with pytest.raises(NotImplementedError, match="SmallestBackend does not tell lifetimes"):
        backend.replace("a", b"2", KEEP_TTL)


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.scan("m:"),
        lambda b: [*b.scan_chunks()],
        lambda b: b.clear("m:"),
        lambda b: b.clear(everything=True),
        lambda b: asyncio.run(b.aclear(everything=True)),
        lambda b: asyncio.run(anext(b.ascan())),
    ],
)
def test_a_backend_that_does_not_enumerate_its_keys_says_so(call: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"SmallestBackend does not enumerate its keys: .* neither scan\(\)"):
        call(SmallestBackend())


@pytest.mark.parametrize("call", [lambda b: b.get("a"), lambda b: b.set("a", 1), lambda b: b.delete("a")])
def test_the_three_methods_of_a_backend_have_no_default(call: Any) -> None:
    with pytest.raises(NotImplementedError):
        call(BaseBackend())


def test_the_default_lifetime_is_checked_when_a_backend_is_made() -> None:
    assert BaseBackend(default_ttl=0).default_ttl == 0
    with pytest.raises(ValueError, match="negative"):
        BaseBackend(default_ttl=-1)


def test_counting_names_the_key_and_not_the_value() -> None:
    with pytest.raises(BackendError, match="visits: cannot count") as caught:
        next_count("visits", b"secret", 1)
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError, match="bool"):
        next_count("visits", None, True)


def test_the_base_class_checks_no_keys_and_has_nothing_to_tell() -> None:
    backend = BaseBackend()
    backend.check_key("anything")
    assert backend.ping() is True
    assert backend.stats() == {}
    assert backend.pools() == []
