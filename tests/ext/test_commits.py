"""What transactions have changed, and its removal from the cache: the part that knows no database library."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co
from cacheorm.ext._commits import CachedModel, Changes

Apply = Callable[[Changes], None]

DATABASE: dict[int, str] = {}


def load(ids: list[int]) -> dict[int, Any]:
    return {pk: {"name": DATABASE[pk]} for pk in ids if pk in DATABASE}


class Shelf(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta:
        name = "commits-shelf"
        loader = load
        negative_ttl = 60


@pytest.fixture(params=["called", "awaited"])
def apply(request: pytest.FixtureRequest) -> Apply:
    if request.param == "called":
        return Changes.apply

    def apply(changes: Changes) -> None:
        async def main() -> None:
            await changes.aapply()
            await Shelf._meta.backend.aclose()

        asyncio.run(main())

    return apply


def changed(*pks: int, on_commit: str = "delete") -> Changes:
    changes = Changes()
    changes.add(CachedModel(Shelf, on_commit), pks)
    return changes


@pytest.fixture(autouse=True)
def database() -> None:
    DATABASE.clear()
    DATABASE.update({pk: f"shelf {pk}" for pk in range(5)})


def test_rows_and_remembered_misses_are_removed(backend: co.BaseBackend, apply: Apply) -> None:
    with co.bind([Shelf], backend=backend):
        assert [shelf and shelf.name for shelf in Shelf.query_many([1, 2, 7]).execute()] == ["shelf 1", "shelf 2", None]
        DATABASE.update({1: "new", 7: "made"})
        apply(changed(1, 7))
        assert not Shelf.exists(id=1)
        assert Shelf.exists(id=2)
        assert [shelf and shelf.name for shelf in Shelf.query_many([1, 2, 7]).execute()] == ["new", "shelf 2", "made"]


def test_write_loads_the_rows_at_once_as_they_are_now(backend: co.BaseBackend, apply: Apply) -> None:
    with co.bind([Shelf], backend=backend):
        Shelf.query_many([1, 2]).execute()
        DATABASE[1] = "new"
        del DATABASE[2]
        apply(changed(1, 2, on_commit="write"))
        (first, second) = Shelf.query_many([1, 2]).cached_only().execute()
        assert first is not None
        assert first.name == "new"
        assert second is None


def test_a_loader_that_fails_at_once_leaves_the_rows_to_the_next_read(
    apply: Apply, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Shelf):
        class Meta:
            backend = co.SimpleBackend()
            loader = DATABASE.__getitem__

    changes = Changes()
    changes.add(CachedModel(Failing, "write"), [1])
    apply(changes)
    assert "Failing: rows that a transaction has changed are loaded when they are read" in caplog.text


def test_of_savepoints_the_changes_that_last_are_added(memory: co.SimpleBackend, apply: Apply) -> None:
    with co.bind([Shelf], backend=memory):
        Shelf.query_many([1, 2]).execute()
        cached = CachedModel(Shelf)
        outer, inner = Changes(), Changes()
        outer.add(cached, [1])
        inner.add(cached, [2])
        outer.update(inner)
        apply(outer)
        assert not Shelf.exists(id=1)
        assert not Shelf.exists(id=2)


def test_a_key_of_another_type_costs_all_rows_and_no_error(
    memory: co.SimpleBackend, apply: Apply, caplog: pytest.LogCaptureFixture
) -> None:
    with co.bind([Shelf], backend=memory):
        Shelf.query_many([1, 2]).execute()
        changes = changed(1)
        changes.add(CachedModel(Shelf), ["secret"])
        apply(changes)
        assert not Shelf.exists(id=1)
        assert not Shelf.exists(id=2)
    assert "Shelf: all rows are removed from the cache, since a primary key among those" in caplog.text
    assert "secret" not in caplog.text


def test_keys_that_cannot_be_enumerated_are_said(apply: Apply, caplog: pytest.LogCaptureFixture) -> None:
    class Formatted(co.Model):
        id = co.IntegerField(primary_key=True, index_formatter=str)

        class Meta:
            backend = co.SimpleBackend()
            loader = load

    changes = Changes()
    changes.add_all(CachedModel(Formatted), "of a test")
    apply(changes)
    assert "its index_formatter is a function: a %-format string may begin with fixed text" in caplog.text


def test_models_that_inherit_a_cached_one_lose_the_row_too(memory: co.SimpleBackend, apply: Apply) -> None:
    class Tall(Shelf):
        pass

    with co.bind([Shelf, Tall], backend=memory):
        Shelf.get(id=1)
        Tall.get(id=1)
        apply(changed(1))
        assert not Shelf.exists(id=1)
        assert not Tall.exists(id=1)


class Down(co.SimpleBackend):
    def delete_many(self, *keys: str) -> bool:
        raise co.BackendError("connection refused")


def test_a_cache_that_is_down_fails_nothing_and_is_logged(apply: Apply, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "cacheorm"), co.bind([Shelf], backend=Down()):
        for on_commit in ("delete", "write"):
            apply(changed(1, on_commit=on_commit))
        assert not Shelf.exists(id=1)
    assert "Shelf: 1 rows" in caplog.text
    assert 'on_failure="miss"' in caplog.text


def test_a_deadline_that_has_passed_keeps_no_row_from_being_removed(
    redis_backend: co.RedisBackend, apply: Apply
) -> None:
    with co.bind([Shelf], backend=redis_backend):
        Shelf.get(id=1)
        with co.deadline(0):
            apply(changed(1))
        assert not Shelf.exists(id=1)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_task_that_is_cancelled_removes_the_rows_all_the_same(at_the_end: bool) -> None:
    began = asyncio.Event()

    class Slow(co.SimpleBackend):
        in_process = False
        removed: tuple[str, ...] = ()

        async def adelete_many(self, *keys: str) -> bool:
            began.set()
            await asyncio.sleep(3600 if at_the_end else 0)
            return self.delete_many(*keys)

    async def main() -> None:
        task = asyncio.create_task(changed(1).aapply())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not at_the_end and Shelf.exists(id=1):
            await asyncio.sleep(0)

    with co.bind([Shelf], backend=Slow()):
        Shelf.get(id=1)
        asyncio.run(main())
        assert not Shelf.exists(id=1)


def test_on_commit_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="Shelf: on_commit is 'delete' or 'write', got 'wirte'"):
        CachedModel(Shelf, "wirte")
