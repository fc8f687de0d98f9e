"""No operation leaves anything behind, whether it succeeds or fails: no object, and no reference to its arguments."""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from formats import SERIALIZERS
from leaking import assert_nothing_stays

import cacheorm as co
from tests.protos import article_pb2

pytestmark = pytest.mark.no_cover

FORMATS: dict[str, co.BaseSerializer] = {
    "json": SERIALIZERS["json"],
    "msgpack": SERIALIZERS["msgpack"],
    "protobuf": co.ProtobufSerializer(article_pb2.Article),
}
MOMENT = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class Stop(BaseException):
    """Passes through everything."""


class Models:
    """Two related models of one format, with rows 1 to 9 of both; the payload of row 9 is broken."""

    def __init__(self, serializer: co.BaseSerializer) -> None:
        class Author(co.Model):
            id = co.IntegerField(primary_key=True)
            title = co.StringField()

            class Meta:
                backend = co.SimpleBackend()

        class Article(co.Model):
            id = co.IntegerField(primary_key=True)
            author = co.ForeignKeyField(Author, default=1)
            title = co.StringField(max_length=20)
            content = co.StringField(default="")
            created_at = co.DateTimeTZField(default=MOMENT)

            class Meta:
                backend = Author._meta.backend

        co.bind([Author, Article], serializer=serializer)
        self.author: Any = Author
        self.article: Any = Article
        self.fill()

    def fill(self) -> None:
        self.author.insert_many({"id": pk, "title": f"author {pk}"} for pk in range(1, 10)).execute()
        self.article.insert_many(self.rows()).execute()
        backend, key = self.article._meta.backend, self.article.key(id=9)
        backend.set(key, backend.get(key)[:-3])

    def rows(self) -> list[dict[str, Any]]:
        return [{"id": pk, "author": pk, "title": f"title {pk}"} for pk in range(1, 10)]


def fail(*_: Any) -> Any:
    raise RuntimeError("as loaders do")


def stop(*_: Any) -> Any:
    raise Stop


def rows_then_stop(models: Models) -> Iterator[Any]:
    yield from models.rows()
    raise Stop


def load(pks: list[Any]) -> list[Any]:
    return [{"id": pk, "author": 1, "title": "loaded"} if pk % 2 else None for pk in pks]


def load_one(pk: Any) -> Any:
    return {"id": pk, "author": 1, "title": "loaded"}


def some_of(models: Models) -> list[Any]:
    return [models.article(**row) for row in models.rows()]


def change(row: Any) -> None:
    row.title = "changed"


OPERATIONS: dict[str, Callable[[Models], Any]] = {
    # -- reading
    "query": lambda m: m.article.query(id=1).execute(),
    "query a missing row": lambda m: m.article.query(id=100).execute(),
    "query a broken row": lambda m: m.article.query(id=9).execute(),
    "query by a wrong key": lambda m: m.article.query(id="x").execute(),
    "query by a wrong name": lambda m: m.article.query(title="x").execute(),
    "query_many": lambda m: m.article.query_many(*range(1, 8), 1, 100).execute(),
    "query_many in parts": lambda m: m.article.query_many(*range(1, 8)).chunk_size(2).execute(),
    "query_many with a broken row": lambda m: m.article.query_many(1, 9, 2).execute(),
    "query_many by wrong keys": lambda m: m.article.query_many(1, None, "x").execute(),
    "query_many over an iterator that fails": lambda m: m.article.query_many(rows_then_stop(m)).execute(),
    "get_many": lambda m: m.article.get_many([1, 2, 100]),
    "get_many with a broken row": lambda m: m.article.get_many([1, 9]),
    "get": lambda m: m.article.get(id=1),
    "get a missing row": lambda m: m.article.get(id=100),
    "get_or_none": lambda m: m.article.get_or_none(id=100),
    "exists": lambda m: m.article.exists(id=1),
    "refresh": lambda m: m.article.get(id=1).refresh(),
    "refresh a missing row": lambda m: m.article(id=100).refresh(),
    "co.Query": lambda m: co.Query([m.article(id=1), (m.author, [{"id": 1}, {"id": 100}])]).execute(),
    "co.Query of a broken row": lambda m: co.Query([(m.author, [{"id": 1}]), (m.article, [{"id": 9}])]).execute(),
    "co.Query of no row": lambda m: co.Query([5]).execute(),
    # -- what rows refer to
    "a foreign key": lambda m: m.article.get(id=1).author.title,
    "a foreign key to a missing row": lambda m: m.article(id=1, author=100).author,
    "preload": lambda m: co.preload(m.article.query_many(1, 2, 3).execute(), "author"),
    "preload in a query": lambda m: m.article.query_many(1, 2).preload("author").execute(),
    "preload by a wrong name": lambda m: co.preload(m.article.query_many(1).execute(), "autor"),
    "preload missing rows": lambda m: co.preload([m.article(id=1, author=100)], "author"),
    # -- loading
    "load_missing": lambda m: m.article.query_many(1, 101, 102).load_missing(load, lease=None).execute(),
    "load_missing under a lease": lambda m: m.article.query_many(1, 103, 104).load_missing(load).execute(),
    "load_missing with a memory": lambda m: m.article.query_many(105, 106).load_missing(load, negative_ttl=9).execute(),
    "load_missing that fails": lambda m: m.article.query_many(1, 107).load_missing(fail).execute(),
    "load_missing that is stopped": lambda m: m.article.query_many(1, 108).load_missing(stop).execute(),
    "load_missing of wrong rows": lambda m: m.article.query_many(109).load_missing(lambda pks: [{"id": 1}]).execute(),
    "load_missing of no rows": lambda m: m.article.query_many(110).load_missing(lambda pks: [5]).execute(),
    "get_or_load": lambda m: m.article.get_or_load(111, load_one),
    "get_or_load that fails": lambda m: m.article.get_or_load(112, fail),
    "get_or_load nothing": lambda m: m.article.get_or_load(114, lambda pk: None),
    # -- writing
    "insert": lambda m: m.article.insert(**m.rows()[0]).execute(),
    "insert a wrong value": lambda m: m.article.insert(id=1, title=[]).execute(),
    "insert a wrong name": lambda m: m.article.insert(id=1, titel="x").execute(),
    "insert without a value": lambda m: m.article.insert(id=1).execute(),
    "insert_many": lambda m: m.article.insert_many(*m.rows()[:8]).execute(),
    "insert_many of instances": lambda m: m.article.insert_many(some_of(m)[:8]).execute(),
    "insert_many in parts": lambda m: m.article.insert_many(m.rows()[:8]).chunk_size(3).execute(),
    "insert_many of wrong values": lambda m: m.article.insert_many({"id": 1, "title": "x"}, {"id": 2}).execute(),
    "insert_many of long values": lambda m: m.article.insert_many(*m.rows(), {"id": 1, "title": "x" * 50}).execute(),
    "insert_many of no rows": lambda m: m.article.insert_many(*m.rows(), 5).execute(),
    "insert_many over an iterator that fails": lambda m: m.article.insert_many(rows_then_stop(m)).execute(),
    "insert_many if absent": lambda m: m.article.insert_many(*m.rows()[:8]).if_absent().execute(),
    "get_or_create": lambda m: m.article.get_or_create(id=1, defaults={"title": "x"}),
    "get_or_create a wrong row": lambda m: m.article.get_or_create(id=120, defaults={"title": []}),
    "scan": lambda m: [*m.author.scan(4)],
    "scan a broken row": lambda m: [*m.article.scan(4)],
    "scan that is closed": lambda m: [next(rows := m.author.scan(4)), rows.close()],
    "scan_keys": lambda m: [*m.article.scan_keys(4)],
    "count": lambda m: m.article.count(),
    "purge": lambda m: m.author.purge(),
    "update": lambda m: m.article.update(id=1, title="new").execute(),
    "update a missing row": lambda m: m.article.update(id=100, title="new").execute(),
    "update a broken row": lambda m: m.article.update(id=9, title="new").execute(),
    "update by a wrong value": lambda m: m.article.update(id=1, title=None).execute(),
    "update by a function": lambda m: m.article.update(id=1).apply(change).atomic().execute(),
    "update by a function that fails": lambda m: m.article.update(id=1).apply(fail).atomic().execute(),
    "update_many": lambda m: m.article.update_many({"id": 1, "title": "a"}, {"id": 100, "title": "b"}).execute(),
    "update_many atomic": lambda m: m.article.update_many({"id": 1, "title": "a"}).atomic().execute(),
    "update_many of a broken row": lambda m: m.article.update_many(*m.rows()).execute(),
    "update_many by wrong values": lambda m: m.article.update_many({"id": 1, "title": ""}, {"id": 2, "x": 1}).execute(),
    "save": lambda m: setattr(row := m.article.get(id=1), "title", "saved") or row.save(),
    "save a row that is gone": lambda m: m.article(id=100, title="x").save(),
    "increment": lambda m: m.article.increment(1, "author"),
    "increment by a wrong number": lambda m: m.author.increment(1, "id", "x"),
    "increment text": lambda m: m.author.increment(1, "title"),
    "increment a missing row": lambda m: m.article.increment(100, "author"),
    # Without an end, as outdated timers of lifetimes stay until there are as many as rows, and some more.
    "touch": lambda m: m.article.get(id=1).touch(co.NEVER),
    "expire_many": lambda m: m.article.expire_many([1, 2, 100], co.NEVER),
    "expire_many by a wrong lifetime": lambda m: m.article.expire_many([1], -5),
    "delete": lambda m: m.article.delete(id=3).execute(),
    "delete a missing row": lambda m: m.article.delete(id=100).execute(),
    "delete_many": lambda m: m.article.delete_many(3, 4, 100).execute(),
    "delete_many by wrong keys": lambda m: m.article.delete_many(3, []).execute(),
    "delete_instance": lambda m: m.article.get(id=2).delete_instance(),
    "co.Insert": lambda m: co.Insert([*some_of(m)[:8], (m.author, [{"id": 1, "title": "x"}])]).execute(),
    "co.Insert of wrong values": lambda m: co.Insert([*some_of(m), (m.author, [{"id": 1, "title": []}])]).execute(),
    "co.Update": lambda m: co.Update([(m.article, [{"id": 1, "title": "x"}])]).execute(),
    "co.Update of a broken row": lambda m: co.Update([(m.article, [{"id": 9, "title": "x"}])]).execute(),
    "co.Delete": lambda m: co.Delete([(m.article, [{"id": 5}]), m.author(id=100)]).execute(),
    "co.Delete by a wrong name": lambda m: co.Delete([(m.article, [{"title": "x"}])]).execute(),
    # -- instances
    "validate": lambda m: m.article(id=1, title="x", author=m.author(id=1)).validate(),
    "validate wrong values": lambda m: m.article(id="x", title=[], created_at=1).validate(),
    "make a row with a wrong name": lambda m: m.article(titel="x"),
    "compare, copy and show": lambda m: [m.article(**row).to_dict() for row in m.rows()] + [repr(some_of(m))],
}  # fmt: skip


@pytest.fixture(params=FORMATS)
def models(request: pytest.FixtureRequest) -> Models:
    return Models(FORMATS[request.param])


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_leaves_anything_behind(models: Models, name: str) -> None:
    def exercise() -> None:
        with contextlib.suppress(Exception, Stop):
            OPERATIONS[name](models)
        if changes:
            models.fill()

    # What is stored in the first turn is there in the others, unless an operation takes something away.
    words = ("insert", "update", "save", "increment", "delete", "co.", "load", "create")
    changes = any(word in name for word in words)
    assert_nothing_stays(exercise, 5)


def test_every_row_that_was_read_or_written_is_gone_when_nobody_has_it(models: Models) -> None:
    def count() -> Counter[str]:
        gc.collect()
        return Counter(type(one).__name__ for one in gc.get_objects() if type(one).__module__ != "builtins")

    def exercise() -> None:
        for operation in OPERATIONS.values():
            with contextlib.suppress(Exception, Stop):
                operation(models)
        models.fill()

    exercise()
    exercise()
    before = count()
    for _ in range(5):
        exercise()
    grown = count() - before
    assert not {name: more for name, more in grown.items() if more >= 5}, grown


def test_nothing_refers_to_what_an_operation_was_given(models: Models) -> None:
    title, moment, row = "a title of its own", dt.datetime(2021, 1, 2, tzinfo=dt.UTC), {"id": 1}
    row |= {"title": title, "created_at": moment}
    gc.collect()
    before = [sys.getrefcount(one) for one in (title, moment, row)]
    for _ in range(50):
        models.article.insert(**row).execute()
        models.article.insert_many(row, row).execute()
        models.article.update_many(row).execute()
        models.article.query_many({"id": 1}).execute()
        with contextlib.suppress(co.ValidationError):
            models.article.insert_many(row, {**row, "author": "x"}).execute()
    gc.collect()
    after = [sys.getrefcount(one) for one in (title, moment, row)]
    assert [more - less for less, more in zip(before, after, strict=True)] == [0, 0, 0]
