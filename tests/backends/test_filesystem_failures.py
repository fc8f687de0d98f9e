"""``on_failure="miss"`` on a file that cannot be written, or not be opened: nothing raises, and nothing old is read."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cacheorm as co
from cacheorm.errors import BackendError, InvalidKeyError

Call = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
def call(request: pytest.FixtureRequest) -> Iterator[Call]:
    if request.param == "blocking":
        yield lambda backend, name, *args: getattr(backend, name)(*args)
        return
    with asyncio.Runner() as runner:
        yield lambda backend, name, *args: runner.run(getattr(backend, f"a{name}")(*args))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the file's lock, as another process may."""
    with contextlib.closing(sqlite3.connect(folder / "cache.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_file_that_others_lock_is_read_and_what_was_changed_misses(tmp_path: Path, call: Call) -> None:
    options: Any = {"busy_timeout": 0.01, "operation_timeout": 60, "retry_after": 1e6}
    backend = co.FileSystemBackend(tmp_path, on_failure="miss", **options)
    keys = ["deleted", "set", "set:2", "replaced", "replaced:2"]
    call(backend, "set_many", dict.fromkeys([*keys, "untouched"], b"old"))
    with locked(tmp_path):
        assert call(backend, "delete", "deleted") is False
        (breaker,) = backend.breakers()
        assert "locked" in str(breaker.reason)
        assert call(backend, "set", "set", b"new") is True
        assert call(backend, "set_many", {"set:2": b"new"}) == {"set:2": True}
        assert call(backend, "replace", "replaced", b"new") is False
        assert call(backend, "replace_many", {"replaced:2": b"new"}) == {"replaced:2": False}
        assert call(backend, "touch", "untouched", 60) is False
        assert backend.pending_invalidations() == (5, 0)
        assert call(backend, "get_many", "untouched", *keys) == [b"old", *[None] * 5]
        assert [value for part in backend.get_chunks(["untouched", *keys]) for value in part] == [b"old", *[None] * 5]
        assert call(backend, "get", "deleted") is None
        assert call(backend, "has", "deleted") is False
        assert call(backend, "ttl", "deleted") is None
        for name, args in {"add": ("new", b"1"), "incr": ("n",), "get_many_cas": ("deleted",)}.items():
            with pytest.raises(BackendError):
                call(backend, name, *args)
        with pytest.raises(InvalidKeyError):
            call(backend, "set", "\ud800", b"1")
    backend.retry_failed_servers()
    assert call(backend, "get", "untouched") == b"old"
    assert backend.pending_invalidations() == (0, 0)
    with co.FileSystemBackend(tmp_path) as other:
        assert other.get_many("untouched", *keys) == [b"old", *[None] * 5]
    assert call(backend, "set", "set", b"newer") is True
    assert call(backend, "get", "set") == b"newer"
    backend.close()


def test_a_file_that_cannot_be_opened_misses(tmp_path: Path, call: Call) -> None:
    (tmp_path / "taken").write_text("no folder")
    backend: Any = co.backend_from_url(f"file://{tmp_path}/taken?on_failure=miss&retry_after=0&on_failure_keys=1")
    before = backend.failed_reads
    assert call(backend, "get", "a") is None
    assert call(backend, "get_many", "a", "b") == [None, None]
    assert backend.failed_reads != before
    assert call(backend, "set_many", {"a": b"1", "b": b"1"}) == {"a": True, "b": True}
    assert backend.pending_invalidations() == (1, 1)
    for name, args in {"add": ("c", b"1"), "ping": (), "stats": (), "clear": ()}.items():
        with pytest.raises(BackendError):
            call(backend, name, *args)


def test_the_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_failure must be one of raise, miss"):
        co.FileSystemBackend(tmp_path, on_failure="eject")
    with pytest.raises(ValueError, match="retry_after"):
        co.FileSystemBackend(tmp_path, retry_after=-1)
    with pytest.raises(ValueError, match="on_failure_keys"):
        co.FileSystemBackend(tmp_path, on_failure_keys=-1)
