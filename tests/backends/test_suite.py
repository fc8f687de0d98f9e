"""The conformance suite itself: it has to find the mistakes that backends make."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from cacheorm.backends import SimpleBackend
from cacheorm.errors import InvalidKeyError
from cacheorm.testing import BackendConformance
from cacheorm.testing._suite import in_threads
from cacheorm.types import TTL, Outcome, Value


class StopsAtTheFirstMiss(SimpleBackend):
    def delete_many(self, *keys: str) -> bool:
        return all(self.delete(key) for key in dict.fromkeys(keys))


class LosesCounts(SimpleBackend):
    def __init__(self) -> None:
        super().__init__()
        self.calls = itertools.count()
        self.both = threading.Barrier(2)

    def incr(self, key: str, delta: int = 1, ttl: TTL = None) -> int:
        count = int(self.get(key) or 0) + delta
        if next(self.calls) < 2:
            self.both.wait()  # until another thread has read the same
        self.set(key, count, ttl)
        return count


class SeesExpiredEntries(SimpleBackend):
    def __init__(self) -> None:
        super().__init__()
        self.kept: set[str] = set()

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        self.kept.add(key)
        return super().set(key, value, ttl)

    def delete(self, key: str) -> bool:
        super().delete(key)
        existed = key in self.kept
        self.kept.discard(key)
        return existed


class NegativeIsForEver(SimpleBackend):
    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return super().set(key, value, 0 if ttl == -1 else ttl)


class CutsLongKeys(SimpleBackend):
    def get(self, key: str) -> bytes | None:
        return super().get(key[:250])

    def set(self, key: str, value: Value, ttl: TTL = None) -> bool:
        return super().set(key[:250], value, ttl)


class FindsABadKeyTooLate(SimpleBackend):
    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        return Outcome({key: self.set(key, value, ttl) for key, value in mapping.items()})


@pytest.mark.parametrize(
    ("backend", "test", "arguments"),
    [
        (StopsAtTheFirstMiss, "test_delete_many_goes_on_past_what_is_absent", ()),
        (LosesCounts, "test_threads_lose_no_count", ()),
        (SeesExpiredEntries, "test_an_expired_entry_does_not_exist_for_any_method", ()),
        (NegativeIsForEver, "test_impossible_lifetimes_are_refused_and_nothing_is_written", (-1, ValueError)),
        (CutsLongKeys, "test_an_awkward_key_works_exactly_or_is_refused", ("k" * 251,)),
        (FindsABadKeyTooLate, "test_keys_of_other_types_are_refused", (7,)),
    ],
)
def test_a_mistake_of_a_backend_fails_its_test(
    backend: type[SimpleBackend], test: str, arguments: tuple[Any, ...]
) -> None:
    run = getattr(BackendConformance(), test)
    run(SimpleBackend(), "good:{}".format, *arguments)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(backend(), "bad:{}".format, *arguments)


def test_an_error_in_a_thread_reaches_the_test() -> None:
    with pytest.raises(InvalidKeyError):
        in_threads(2, lambda i: SimpleBackend().get(i))  # type: ignore[arg-type]


def test_without_pytest_the_suite_says_what_to_install() -> None:
    program = "import sys; sys.modules['pytest'] = None; import cacheorm.testing"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.endswith("ImportError: cacheorm.testing is made of pytest tests: pip install pytest\n")
