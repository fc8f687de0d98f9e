"""Keys that have to be deleted: races of reads, writes and deletes of one key, and what remembering them costs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from servers import HOST, free_port

import cacheorm as co
from cacheorm import logs
from cacheorm.backends._net.invalidations import Invalidations
from cacheorm.backends._net.miss import MissOnFailure
from cacheorm.backends._net.sync_bridge import run_blocking
from cacheorm.errors import BackendError
from cacheorm.types import Outcome


class Store:
    """Commands over a dict, whose executions a test can fail, or have something happen before or after.

    Attributes:
        entries: what is stored.
        asked: the commands, in their order.
        error: raised by each command, if set.
        after: called when a command has been executed, before its reply comes.
    """

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.error: BackendError | None = None
        self.after: Callable[[], object] = lambda: None

    def _execute(self, *command: Any) -> None:
        self.asked.append(command)
        if self.error is not None:
            raise self.error

    def _reply(self) -> None:
        after, self.after = self.after, lambda: None
        after()

    def owners(self, keys: list[str]) -> list[str]:
        return [key[0] for key in keys]

    async def get(self, key: str) -> bytes | None:
        self._execute("get", key)
        value = self.entries.get(key)
        self._reply()
        return value

    async def get_many(self, *keys: str) -> list[bytes | None]:
        self._execute("get_many", *keys)
        values = [self.entries.get(key) for key in keys]
        self._reply()
        return values

    async def set(self, key: str, value: bytes, ttl: Any = None) -> bool:
        self._execute("set", key)
        self.entries[key] = value
        self._reply()
        return True

    async def replace_many(self, mapping: dict[str, bytes], ttl: Any = None) -> Outcome:
        self._execute("replace_many", *mapping)
        outcome = Outcome({key: key in self.entries for key in mapping})
        self.entries.update({key: value for key, value in mapping.items() if outcome[key]})
        self._reply()
        return outcome

    async def delete_many(self, *keys: str) -> bool:
        self._execute("delete_many", *keys)
        existed = [self.entries.pop(key, None) is not None for key in keys]
        self._reply()
        return all(existed)

    async def delete(self, key: str) -> bool:
        self._execute("delete", key)
        existed = self.entries.pop(key, None) is not None
        self._reply()
        return existed


class Rig:
    """A store that may fail under ``on_failure="miss"``, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = Store()
        self.pending = Invalidations("the store", 1000, lambda: self.now)
        self.commands = MissOnFailure(self.store, self.pending, "the store", None)

    def run(self, name: str, *args: Any) -> Any:
        return run_blocking(getattr(self.commands, name)(*args))

    def failing(self, name: str, *args: Any, maybe_applied: bool = False) -> Any:
        """Run a command while the store fails."""
        self.store.error = BackendError("down", maybe_applied=maybe_applied)
        try:
            return self.run(name, *args)
        finally:
            self.store.error = None


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_key_is_deleted_before_anything_else_is_read(rig: Rig) -> None:
    rig.store.entries["b"] = b"kept"
    rig.failing("delete", "a")
    del rig.store.asked[:]
    assert rig.run("get", "b") == b"kept"
    assert rig.store.asked == [("delete_many", "a"), ("get", "b")]
    assert rig.run("get", "b") == b"kept"
    assert rig.store.asked[2:] == [("get", "b")]


def test_a_key_that_is_changed_while_it_is_read_is_missed(rig: Rig) -> None:
    rig.store.entries.update(a=b"old", b=b"kept")
    rig.store.after = lambda: rig.failing("delete", "a")
    assert rig.run("get", "a") is None
    rig.store.entries["a"] = b"old"
    rig.run("get", "b")
    rig.store.entries["a"] = b"old"
    rig.store.after = lambda: rig.failing("set", "a", b"new")
    assert rig.run("get_many", "a", "b") == [None, b"kept"]


def test_a_read_that_was_sent_before_the_key_was_deleted_misses(rig: Rig) -> None:
    """Another caller has deleted it by the time that the reply comes."""
    rig.store.entries.update(a=b"old", b=b"kept")
    rig.failing("delete", "a")
    rig.store.error = BackendError("down")
    deleting, rig.store.delete_many = rig.store.delete_many, fails  # type: ignore[method-assign]
    rig.store.error = None

    def another_caller() -> None:
        rig.store.delete_many = deleting  # type: ignore[method-assign]
        rig.run("get", "b")
        assert not rig.pending

    rig.store.after = another_caller
    assert rig.run("get_many", "a", "b") == [None, b"kept"]


async def fails(*keys: str) -> bool:
    raise BackendError("down")


def test_a_key_that_is_changed_while_it_is_deleted_stays_remembered(rig: Rig) -> None:
    rig.failing("delete", "a")
    rig.store.entries["b"] = b"kept"

    def change() -> None:
        rig.store.entries["a"] = b"by another process"
        rig.failing("delete", "a")

    rig.store.after = change
    assert rig.run("get", "b") == b"kept"
    assert "a" in rig.pending
    assert rig.run("get", "a") is None
    assert "a" not in rig.store.entries


def test_a_write_that_began_before_does_not_undo_what_is_remembered_since(rig: Rig) -> None:
    rig.store.after = lambda: rig.failing("delete", "a")
    assert rig.run("set", "a", b"old") is True
    assert rig.store.entries == {"a": b"old"}
    assert rig.run("get", "a") is None
    assert rig.store.entries == {}


def test_a_confirmed_write_ends_what_was_remembered_before(rig: Rig) -> None:
    rig.failing("set", "a", b"old")
    deleting, rig.store.delete_many = rig.store.delete_many, fails  # type: ignore[method-assign]
    assert rig.run("set", "a", b"new") is True
    assert not rig.pending
    rig.store.delete_many = deleting  # type: ignore[method-assign]
    assert rig.run("get", "a") == b"new"


def test_a_write_whose_reply_was_lost_is_deleted_again_after_it_may_have_been_executed(rig: Rig) -> None:
    rig.failing("set", "a", b"late", maybe_applied=True)
    assert rig.run("get", "a") is None
    assert rig.store.asked[1:] == [("delete_many", "a")]
    rig.store.entries["a"] = b"late"
    assert rig.run("get", "a") is None
    assert rig.run("set", "a", b"new") is True
    rig.store.entries["a"] = b"late"
    assert rig.run("get", "a") is None
    rig.now = 5.0
    del rig.store.asked[:]
    assert rig.run("get", "a") is None
    assert rig.store.asked == [("delete_many", "a"), ("get", "a")]
    assert not rig.pending


def test_a_row_that_was_deleted_is_not_replaced(rig: Rig) -> None:
    rig.store.entries.update(a=b"old", b=b"old")
    rig.failing("delete", "a")
    rig.store.delete_many = fails  # type: ignore[method-assign]
    assert rig.run("replace_many", {"a": b"new", "b": b"new"}) == {"a": False, "b": True}
    assert rig.store.entries == {"a": b"old", "b": b"new"}
    assert rig.run("get", "a") is None


def test_a_server_that_fails_keeps_no_keys_of_others(rig: Rig) -> None:
    """Keys are remembered by server: here the first letter."""
    rig.failing("delete_many", *[f"a{i}" for i in range(50)], *[f"b{i}" for i in range(50)])
    deleting = rig.store.delete_many

    async def only_others(*keys: str) -> bool:
        if any(key[0] == "a" for key in keys):
            raise BackendError("down")
        return await deleting(*keys)

    rig.store.delete_many = only_others  # type: ignore[method-assign]
    rig.run("get", "c")
    assert len(rig.pending) == 50
    assert "a0" in rig.pending
    assert "b0" not in rig.pending


def test_a_key_that_cannot_be_deleted_blocks_nobody(rig: Rig) -> None:
    rig.failing("delete", "a")

    async def refuse(*keys: str) -> bool:
        raise ValueError("such a key cannot be stored")

    rig.store.delete_many = refuse  # type: ignore[method-assign]
    rig.store.entries["b"] = b"kept"
    assert rig.run("get", "b") == b"kept"
    assert not rig.pending


def test_many_keys_are_deleted_in_few_requests(rig: Rig) -> None:
    pending = Invalidations("the store", 100_000)
    commands = MissOnFailure(rig.store, pending, "the store", None)
    pending.add([f"a{i}" for i in range(100_000)], ["a"] * 100_000, False)
    run_blocking(commands.get("b"))
    assert not pending
    assert len(rig.store.asked) < 250


# -- what it costs -------------------------------------------------------------------------------


def calls_of(function: Callable[[], object]) -> int:
    """Count the functions that a function calls, those of C included."""
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture(params=["redis", "memcached", "memcacheds"])
def dead(request: pytest.FixtureRequest) -> Any:
    """A backend whose servers are left alone."""
    options: Any = {"on_failure": "miss", "retry_after": 1e6}
    if request.param == "redis":
        backend: Any = co.RedisBackend(HOST, free_port(), **options)
    else:
        count = 1 if request.param == "memcached" else 2
        backend = co.MemcachedBackend([(HOST, free_port()) for _ in range(count)], **options)
    for i in range(100):
        backend.delete(f"k{i}")
    assert all(state.reason is not None for state in backend.breakers())
    return backend


def test_remembered_keys_cost_nothing_while_the_server_is_left_alone(
    dead: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "cacheorm")  # a message would be counted as well

    def use() -> list[int]:
        return [
            calls_of(lambda: dead.get("k1")),
            calls_of(lambda: dead.get("other")),
            calls_of(lambda: dead.get_many("k1", "other")),
            calls_of(lambda: dead.set("k1", b"1")),
            calls_of(lambda: dead.delete("k1")),
        ]

    few = use()
    dead.delete_many(*[f"key:{i}" for i in range(99_900)])
    assert dead.pending_invalidations() == (100_000, 0)
    # Some calls more or less are other things': connections, say, that the collector has not found yet.
    assert all(now < before + 50 for now, before in zip(use(), few, strict=True))
    assert max(few) < 500


# -- log messages --------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The time of log messages, none of which has been logged."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: time.now))
    monkeypatch.setattr(logs, "_last", {})
    return time


def test_failures_are_logged_once_in_ten_seconds(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheorm")
    port = free_port()
    backend = co.RedisBackend(HOST, port, password="s3cret", on_failure="miss", retry_after=1e6)
    for _ in range(50):
        backend.get("other")
        backend.set("key", b"v4lue")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    opened, reads, writes = [record.getMessage() for record in caplog.records]
    assert opened.startswith(f"Redis at {HOST}:{port} db 0 does not reply, and is left alone for a while: ")
    assert "reads miss: " in reads
    assert "writes are dropped: " in writes
    caplog.clear()
    clock.now += 9.9
    backend.get("other")
    assert caplog.records == []
    clock.now += 0.2
    backend.get("other")
    (record,) = caplog.records
    assert record.getMessage().endswith("(50 more such messages in the last 10 s)")
    assert "s3cret" not in caplog.text
    assert "v4lue" not in caplog.text


def test_other_servers_are_logged_by_themselves(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    ports = [free_port(), free_port()]
    for port in ports:
        co.RedisBackend(HOST, port, on_failure="miss").get("key")
    assert [sum(str(port) in record.getMessage() for record in caplog.records) for port in ports] == [2, 2]
