"""No Python function of the package runs for each row of a bulk call: what is done per row is compiled code.

Calls are counted for two numbers of rows, and their difference is divided by the difference of the rows, so that what
is done once per operation, or once per part of a batch, does not count.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
from servers import MemcachedServer

import cacheorm as co

if TYPE_CHECKING:
    from clusters import RedisCluster

pytestmark = pytest.mark.skipif(not co.speedups_enabled, reason="the pure build is Python that runs for each row")

FEW, MANY = 100, 300
PACKAGE = str(Path(co.__file__).parent)

# The ids of rows that do not exist begin here.
ABSENT = 1_000_000


def count_calls(function: Callable[[], Any]) -> Counter[str]:
    """Count the calls of Python functions of the package, generators that go on included, in all threads."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            calls[f"{Path(code.co_filename).name}: {code.co_qualname}"] += 1

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return calls


class Shortcut:
    """A call that executes at once, with the two methods of an operation."""

    def __init__(self, execute: Callable[[], Any], aexecute: Callable[[], Any]) -> None:
        self.execute = execute
        self.aexecute = aexecute


class Author(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta:
        name = "calls.author"


class Book(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(Author)
    title = co.StringField()
    pages: Any = co.IntegerField(default=7, alias="length")
    tags: Any = co.ListField(co.StringField(), default=[])

    class Meta:
        name = "calls.book"


class Loan(co.Model):
    book = co.ForeignKeyField(Book)
    reader = co.IntegerField()
    note = co.StringField(default="")

    class Meta:
        name = "calls.loan"
        primary_key = co.CompositeKey("book", "reader")


class Price(co.Model):
    amount = co.DecimalField(primary_key=True)

    class Meta:
        name = "calls.price"


class Stay(co.Model):
    room = co.IntegerField()
    night = co.DecimalField()

    class Meta:
        name = "calls.stay"
        primary_key = co.CompositeKey("room", "night")


class Edition(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(Author)
    title = co.StringField()

    class Meta:
        name = "calls.edition"

        @staticmethod
        def loader(pks: list[Any]) -> Any:
            return load(pks)


class Batch:
    """The arguments of the calls for a number of rows, of which every row but those of ``absent`` exists."""

    def __init__(self, count: int) -> None:
        ids = range(count)
        self.ids = [*ids]
        self.rows = [{"id": n, "author": n % 50, "title": f"title {n}", "pages": n, "tags": ["a"]} for n in ids]
        self.partial = [{"id": n, "author": n % 50, "title": f"title {n}"} for n in ids]
        self.changes = [{"id": n, "title": "new"} for n in ids]
        self.keys = [{"id": n} for n in ids]
        self.absent = [{"id": ABSENT + n} for n in ids]
        self.new = [{"id": ABSENT + n, "author": 1, "title": "t"} for n in ids]
        self.pairs = [(n, n % 3) for n in ids]
        self.books = Book.insert_many(self.rows).execute()
        self.authors = Author.insert_many({"id": n, "name": f"author {n}"} for n in range(50)).execute()
        Loan.insert_many({"book": n, "reader": n % 3} for n in ids).execute()
        Edition.insert_many({"id": n, "author": n % 50, "title": "t"} for n in ids).execute()

    def read(self) -> list[Any]:
        return Book.query_many(self.keys).execute()


def load(pks: list[Any]) -> list[dict[str, Any]]:
    return [{"id": pk, "author": 1, "title": "t"} for pk in pks]


def load_by_key(pks: list[Any]) -> dict[Any, dict[str, Any]]:
    return {pk: {"author": 1, "title": "t"} for pk in pks}


def load_nothing(pks: list[Any]) -> list[Any]:
    return []


# What makes each operation.
READING: dict[str, Callable[[Batch], Any]] = {
    "query_many": lambda batch: Book.query_many(batch.keys),
    "query_many of rows that are not there": lambda batch: Book.query_many(batch.absent),
    "query_many of instances": lambda batch: Book.query_many(batch.books),
    "query_many of plain keys": lambda batch: Book.query_many(batch.ids),
    "query_many of plain composite keys": lambda batch: Loan.query_many(batch.pairs),
    "get_many": lambda batch: Shortcut(lambda: Book.get_many(batch.ids), lambda: Book.aget_many(batch.ids)),
    "get_many of composite keys": lambda batch: Shortcut(
        lambda: Loan.get_many(batch.pairs), lambda: Loan.aget_many(batch.pairs)
    ),
    "co.Query": lambda batch: co.Query([(Book, batch.keys), (Author, [{"id": 1}])]),
    "co.Query of plain keys": lambda batch: co.Query([(Book, batch.ids), (Author, 1)]),
    "query_many of keys that are converted": lambda batch: Price.query_many(map(Decimal, batch.ids)),
    "query_many of keys that are texts of numbers": lambda batch: Book.query_many(map(str, batch.ids)),
    "query_many of composite keys that are converted": lambda batch: Stay.query_many(
        [(str(room), night) for room, night in batch.pairs]
    ),
    "co.Query of single keys in turn": lambda batch: co.Query(
        [pair for key in batch.ids for pair in ((Book, key), (Author, str(key)), (Price, Decimal(key)))]
    ),
    "co.Query of single rows in turn": lambda batch: co.Query(
        [pair for key in batch.keys for pair in ((Book, key), (Author, key))]
    ),
    "co.Query of instances": lambda batch: co.Query([*batch.books, *batch.authors]),
    "query_many with preload": lambda batch: Book.query_many(batch.keys).preload(Book.author),
    "preload of composite keys": lambda batch: Loan.query_many(
        {"book": book, "reader": reader} for book, reader in batch.pairs
    ).preload(Loan.book, "book.author"),
    "co.preload": lambda batch: preloading(batch.read()),
    "query_many of a model with a loader": lambda batch: Edition.query_many(batch.ids).preload("author"),
    "co.Query of a model with a loader": lambda batch: co.Query((Edition, batch.ids), (Author, 1)),
    "count": lambda batch: Shortcut(Book.count, Book.acount),
    "count of composite keys": lambda batch: Shortcut(Loan.count, Loan.acount),
    "load_missing of rows that are there": lambda batch: Book.query_many(batch.keys).load_missing(load),
}
WRITING: dict[str, Callable[[Batch], Any]] = {
    "insert_many": lambda batch: Book.insert_many(batch.rows),
    "insert_many with defaults": lambda batch: Book.insert_many(batch.partial),
    "insert_many of instances": lambda batch: Book.insert_many(batch.books),
    "insert_many if absent": lambda batch: Book.insert_many(batch.new).if_absent(),
    "insert_many if absent of rows that are there": lambda batch: Book.insert_many(batch.rows).if_absent(),
    "co.Insert": lambda batch: co.Insert([(Book, batch.rows), (Author, [{"id": 1, "name": "a"}])]),
    "update_many": lambda batch: Book.update_many(batch.changes),
    "update_many of instances": lambda batch: Book.update_many(batch.books),
    "update_many that keeps lifetimes": lambda batch: Book.update_many(batch.changes).keep_ttl(),
    "co.Update": lambda batch: co.Update([(Book, batch.changes), (Author, [{"id": 1, "name": "a"}])]),
    "update_many of rows that are not there": lambda batch: Book.update_many(batch.new),
}
CHANGING: dict[str, Callable[[Batch], Any]] = {
    "atomic update_many": lambda batch: Book.update_many(batch.changes).atomic(),
    "atomic update_many of instances": lambda batch: Book.update_many(batch.books).atomic(),
    "delete_many": lambda batch: Book.delete_many(batch.keys),
    "purge": lambda batch: Shortcut(Book.purge, Book.apurge),
    "delete_many of plain keys": lambda batch: Book.delete_many(batch.ids),
    "co.Delete": lambda batch: co.Delete([(Book, batch.keys), (Author, [{"id": 1}])]),
    "expire_many": lambda batch: Shortcut(
        lambda: Book.expire_many(batch.ids, 60), lambda: Book.aexpire_many(batch.ids, 60)
    ),
}
LOADING: dict[str, Callable[[Batch], Any]] = {
    "query_many of a model that loads all": lambda batch: Edition.query_many(batch.absent),
    "load_missing": lambda batch: Book.query_many(batch.absent).load_missing(load),
    "load_missing by primary key": lambda batch: Book.query_many(batch.absent).load_missing(load_by_key),
    "load_missing without leases": lambda batch: Book.query_many(batch.absent).load_missing(load, lease=None),
    "load_missing of rows that nothing has": lambda batch: Book.query_many(batch.absent).load_missing(load_nothing),
    "load_missing that remembers misses": lambda batch: Book.query_many(batch.absent).load_missing(
        load_nothing, negative_ttl=60
    ),
}
OPERATIONS = READING | WRITING | CHANGING | LOADING


def preloading(rows: list[Any]) -> Shortcut:
    return Shortcut(lambda: co.preload(rows, Book.author), lambda: co.apreload(rows, Book.author))


def calls_per_row(make: Callable[[Batch], Any], awaited: bool, backend: Any) -> dict[str, int]:
    """Return the functions that one more row calls, and how often.

    A function that is called for each part of a batch, or for each piece of an answer that arrives, counts less than
    half a time and is left out, however a busy machine divides the answers.
    """

    def count(rows: int) -> Counter[str]:
        backend.clear(everything=True)
        operation = make(Batch(rows))
        return count_calls(lambda: asyncio.run(operation.aexecute()) if awaited else operation.execute())

    count(FEW)  # makes connections and fills caches
    few, many = count(FEW), count(MANY)
    return {name: per_row for name, calls in many.items() if (per_row := round((calls - few[name]) / (MANY - FEW)))}


@pytest.fixture(scope="module")
def two_servers() -> Iterator[list[MemcachedServer]]:
    with MemcachedServer() as one, MemcachedServer() as other:
        yield [one, other]


@pytest.fixture
def memcacheds(two_servers: list[MemcachedServer]) -> co.MemcachedBackend:
    return co.MemcachedBackend(servers=[server.address for server in two_servers])


@pytest.fixture
def cluster(redis_cluster: RedisCluster) -> co.BaseBackend:
    return co.RedisBackend.from_url(redis_cluster.url)


def check(name: str, awaited: bool, backend: Any) -> None:
    with backend, co.bind([Author, Book, Edition, Loan, Price, Stay], backend=backend):
        functions = calls_per_row(OPERATIONS[name], awaited, backend)
        asyncio.run(backend.aclose())
    assert functions == {}


@pytest.mark.parametrize("method", ["scan", "scan_keys"])
def test_an_iteration_calls_nothing_but_itself(method: str, backend: Any) -> None:
    def calls(rows: int) -> Counter[str]:
        backend.clear(everything=True)
        Batch(rows)
        return count_calls(lambda: sum(1 for _ in getattr(Book, method)()))

    with backend, co.bind([Author, Book, Edition, Loan], backend=backend):
        calls(FEW)
        few, many = calls(FEW), calls(MANY)
    per_row = {name: round((count - few[name]) / (MANY - FEW)) for name, count in many.items()}
    assert {name: count for name, count in per_row.items() if count} == {"enumeration.py: RowEnumeration._each": 1}


kinds_of_io = pytest.mark.parametrize("awaited", [False, True], ids=["called", "awaited"])


@kinds_of_io
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_bulk_call_calls_no_python_function_per_row(name: str, awaited: bool, backend: Any) -> None:
    check(name, awaited, backend)


@kinds_of_io
@pytest.mark.parametrize("name", OPERATIONS)
def test_nor_does_it_on_several_memcacheds(name: str, awaited: bool, memcacheds: Any) -> None:
    check(name, awaited, memcacheds)


# Commands that change keys of a cluster are sent for each hash slot, of which there are as many as keys.
@kinds_of_io
@pytest.mark.parametrize("name", READING | WRITING)
def test_nor_does_it_on_a_cluster(name: str, awaited: bool, cluster: Any) -> None:
    check(name, awaited, cluster)
