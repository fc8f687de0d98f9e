from __future__ import annotations

from pathlib import Path

import pytest

from cacheorm.backends import BaseBackend, FileSystemBackend, SimpleBackend
from cacheorm.testing import BackendConformance


class WithAClock(BackendConformance):
    """Lets no time pass but what a test asks for."""

    now = 1_700_000_000.0

    def clock(self) -> float:
        return self.now

    def expire(self) -> None:
        self.now += 1


class TestSimpleBackend(WithAClock):
    default_ttl = 300

    def make_backend(self) -> BaseBackend:
        return SimpleBackend(clock=self.clock)


class TestFileSystemBackend(WithAClock):
    default_ttl = 600

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cache"

    def make_backend(self) -> BaseBackend:
        return FileSystemBackend(self.path, clock=self.clock)


def test_a_conformance_class_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match="make_backend"):
        BackendConformance().make_backend()
