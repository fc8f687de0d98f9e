"""Models on a cache that fails, with ``on_failure="miss"``: nothing raises, what was loaded stays, nothing is stale."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis
from clusters import wait_until
from servers import HOST, MemcachedServer, RedisServer, free_port

import cacheorm as co
from cacheorm.errors import BackendError, WriteError

if TYPE_CHECKING:
    from skipping import SkippingClock

Run = Callable[[Any], Any]


class Writer(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()


class Article(co.Model):
    id = co.IntegerField(primary_key=True)
    title = co.StringField()
    author = co.ForeignKeyField(Writer, null=True)
    reads = co.IntegerField(default=0)


def keys(count: int) -> list[dict[str, int]]:
    return [{"id": pk} for pk in range(count)]


@pytest.fixture(params=["redis", "memcached", "memcacheds"])
def dead(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Both models on servers that do not reply."""
    options: Any = {"on_failure": "miss"}
    if request.param == "redis":
        backend: Any = co.RedisBackend(HOST, free_port(), **options)
    else:
        count = 1 if request.param == "memcached" else 2
        backend = co.MemcachedBackend([(HOST, free_port()) for _ in range(count)], **options)
    with co.bind([Writer, Article], backend=backend):
        yield backend


@pytest.fixture(params=["called", "awaited"])
def run(request: pytest.FixtureRequest, clock: SkippingClock) -> Iterator[Run]:
    """Executes an operation, or awaits it in an event loop that stays the same."""
    if request.param == "called":
        yield lambda operation: operation.execute()
        return
    with clock.runner() as runner:
        yield lambda operation: runner.run(operation.aexecute())


def test_operations_raise_nothing(dead: Any, run: Run) -> None:
    assert run(Writer.insert(id=1, name="a")).name == "a"
    assert [row.id for row in run(Writer.insert_many({"id": 1, "name": "a"}, {"id": 2, "name": "b"}))] == [1, 2]
    assert run(Writer.query(id=1)) is None
    assert run(Writer.query_many(*keys(3))) == [None] * 3
    assert run(Writer.update(id=1, name="b")) is None
    assert run(Writer.update_many({"id": 1, "name": "b"}, {"id": 2, "name": "c"})) == [None, None]
    assert run(Writer.delete(id=1)) is False
    assert run(Writer.delete_many(*keys(3))) is False
    article = run(Article.insert(id=1, title="t", author=run(Writer.insert(id=1, name="a"))))
    assert [row.id for row in run(co.Insert([article, (Writer, {"id": 9, "name": "i"})]))] == [1, 9]
    assert run(co.Query((Article, [{"id": 1}]), (Writer, [{"id": 1}]))) == [None, None]
    assert run(co.Update((Article, [{"id": 1, "title": "u"}]), (Writer, [{"id": 1, "name": "u"}]))) == [None, None]
    assert run(co.Delete(article)) is False
    assert run(Article.query_many(*keys(3)).preload("author")) == [None] * 3


def test_shortcuts_raise_nothing(dead: Any) -> None:
    author = Writer.create(id=1, name="a")
    assert Writer.get_or_none(id=1) is None
    assert Writer.get_many([1, 2]) == {}
    assert Writer.exists(id=1) is False
    with pytest.raises(Writer.DoesNotExist):
        Writer.get(id=1)
    author.name = "b"
    assert author.save() is False
    assert author.save(force_insert=True) is True
    assert author.touch(60) is False
    assert author.ttl() is None
    assert author.delete_instance() is False
    article = Article(id=1, title="t", author_id=1)
    with pytest.raises(Writer.DoesNotExist):
        article.author  # noqa: B018
    given = Article(id=2, title="t", author=author)
    co.preload([given], "author")
    assert given.author is author


def test_shortcuts_that_are_awaited_raise_nothing(dead: Any) -> None:
    async def main() -> None:
        author = await Writer.acreate(id=1, name="a")
        assert await Writer.aget_or_none(id=1) is None
        assert await Writer.aget_many([1, 2]) == {}
        author.name = "b"
        assert await author.asave() is False
        assert await author.asave(force_insert=True) is True
        assert await author.adelete_instance() is False
        await dead.aclose()

    asyncio.run(main())


def test_what_is_for_agreement_raises(dead: Any, run: Run) -> None:
    with pytest.raises((BackendError, WriteError)):
        run(Writer.update(id=1, name="b").atomic())
    with pytest.raises((BackendError, WriteError)):
        run(Writer.insert(id=1, name="b").if_absent())
    with pytest.raises((BackendError, WriteError)):
        run(Writer.insert_many({"id": 1, "name": "b"}).if_absent())
    with pytest.raises((BackendError, WriteError)):
        Article.increment(1, Article.reads)
    with pytest.raises((BackendError, WriteError)):
        Writer.get_or_create(id=1, name="a")


def test_what_was_loaded_is_returned(dead: Any, run: Run) -> None:
    def load(pks: list[int]) -> dict[int, dict[str, Any]]:
        return {pk: {"name": f"author {pk}"} for pk in pks if pk != 3}

    rows = run(Writer.query_many(*keys(5)).load_missing(load, negative_ttl=60, lease=60))
    assert [row and row.name for row in rows] == ["author 0", "author 1", "author 2", None, "author 4"]
    rows = run(Writer.query_many(*keys(2)).load_missing(load))
    assert [row.name for row in rows] == ["author 0", "author 1"]
    assert Writer.get_or_load(7, lambda pk: {"name": "seven"}).name == "seven"
    assert Writer.get_or_load(3, lambda pk: None, negative_ttl=60) is None


@pytest.mark.parametrize("many", [False, True])
def test_what_was_loaded_before_it_changed_is_not_stored_when_the_server_is_back(run: Run, many: bool) -> None:
    """It could take no lease, which the change would have ended."""
    with RedisServer() as server:
        backend: Any = co.backend_from_url(server.url, on_failure="miss", retry_after=1e6)

        def load(pk: int) -> dict[str, Any]:
            run_other(Writer.insert(id=pk, name="new"))
            server.start()
            wait_until("the server is used again", replies)
            return {"name": "old"}

        def run_other(operation: Any) -> None:
            # Within the loader, where the event loop of the test is busy.
            operation.execute()

        def replies() -> bool:
            backend.retry_failed_servers()
            try:
                return bool(backend.ping())
            except BackendError:
                return False

        with co.bind([Writer], backend=backend):
            server.kill()
            if many:
                (row,) = run(Writer.query_many({"id": 1}).load_missing(lambda pks: {pk: load(pk) for pk in pks}))
            else:
                row = Writer.get_or_load(1, load)
            assert row.name == "old"
            assert run(Writer.query(id=1)) is None
            assert Writer.get_or_load(1, lambda pk: {"name": "new"}).name == "new"
            assert run(Writer.query(id=1)).name == "new"


# -- nothing is stale afterwards -----------------------------------------------------------------


@pytest.fixture(params=["redis", "memcached"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with RedisServer() if request.param == "redis" else MemcachedServer("-m", "64") as server:
        yield server


def test_rows_that_were_changed_meanwhile_are_not_stale_afterwards(server: Any, run: Run, clock: SkippingClock) -> None:
    options: Any = {"on_failure": "miss", "operation_timeout": 60, "retry_after": 1e6}
    backend: Any = co.backend_from_url(server.url, **options)
    with co.bind([Writer, Article], backend=backend):
        run(Writer.insert_many({"id": pk, "name": "old"} for pk in range(9)))
        read = run(Writer.query(id=5))
        server.pause()
        try:
            with clock.skipping():
                run(Writer.insert(id=0, name="new"))
            run(Writer.update(id=1, name="new"))
            run(Writer.update_many({"id": 2, "name": "new"}))
            run(Writer.delete(id=3))
            run(co.Update((Writer, [{"id": 4, "name": "new"}])))
            read.name = "new"
            assert read.save() is False
            run(Writer.query_many({"id": 6}))
        finally:
            server.resume()

        def names() -> list[Any]:
            backend.retry_failed_servers()
            found = [row and row.name for row in run(Writer.query_many(*keys(9)))]
            assert "old" not in found[:6]
            return found

        wait_until("the server is used again", lambda: names()[6:] == ["old"] * 3)
        assert names()[:6] == [None] * 6


def test_a_row_that_a_replica_keeps_from_being_changed_is_missing(run: Run) -> None:
    with RedisServer() as server, redis.Redis(HOST, server.port) as client:
        backend: Any = co.backend_from_url(server.url, on_failure="miss")
        with co.bind([Writer], backend=backend):
            run(Writer.insert_many({"id": pk, "name": "old"} for pk in range(2)))
            client.replicaof(HOST, free_port())
            assert run(Writer.update(id=0, name="new")) is None
            assert [row and row.name for row in run(Writer.query_many(*keys(2)))] == [None, "old"]
            client.replicaof("NO", "ONE")
            assert [row and row.name for row in run(Writer.query_many(*keys(2)))] == [None, "old"]
            assert run(Writer.insert(id=0, name="new")).name == "new"
            assert run(Writer.query(id=0)).name == "new"
