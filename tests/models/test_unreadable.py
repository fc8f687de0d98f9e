"""Rows that cannot be read: an error lists all those of the operation, or they count as misses."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co


class Author(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")

    class Meta:
        name = "unreadable.author"


class Book(co.Model):
    id = co.IntegerField(primary_key=True)
    title = co.StringField(default="")
    author: Any = co.ForeignKeyField(Author, null=True)

    class Meta:
        name = "unreadable.book"


class Lenient(co.Model):
    id = co.IntegerField(primary_key=True)
    title = co.StringField(default="")

    class Meta:
        name = "unreadable.lenient"
        on_invalid = "miss"


NEWER = b"\xc1\x01\x04\x04json\x00\x00\x00\x07" + b'{"title":"new"}'
BROKEN = b'{"title":5.5,"author":null,"name":5.5}'
IS_NEWER = "is a row of version 7, and the model is at version 1"
IS_BROKEN = "title: expected text, got float"


@pytest.fixture(params=["json", "msgpack"])
def store(request: pytest.FixtureRequest, backend: co.BaseBackend) -> Any:
    with co.bind([Author, Book, Lenient], backend=backend, serializer=request.param):
        yield backend


def fill(model: Any, backend: co.BaseBackend, bad: dict[int, bytes], count: int = 8) -> None:
    model.insert_many({"id": pk} for pk in range(count) if pk not in bad).execute()
    for pk, payload in bad.items():
        backend.set(model.key(id=pk), payload, 0)


def executed(operation: Any, awaited: bool) -> Any:
    if not awaited:
        return operation.execute()

    async def execute() -> Any:
        try:
            return await operation.aexecute()
        finally:
            await Book._meta.backend.aclose()

    return asyncio.run(execute())


def ids(rows: Any) -> list[Any]:
    return [row and row.id for row in rows]


PKS = [{"id": pk} for pk in range(8)]
BAD = {2: NEWER, 3: BROKEN, 6: NEWER, 7: NEWER}
REASONS = {2: IS_NEWER, 3: IS_BROKEN, 6: IS_NEWER, 7: IS_NEWER}
READABLE = [None if pk in BAD else pk for pk in range(8)]

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "query_many": lambda model: model.query_many(PKS),
    "query_many in parts": lambda model: model.query_many(PKS).chunk_size(3),
    "query_many twice": lambda model: model.query_many(PKS + PKS[:3]),
    "co.Query": lambda model: co.Query((model, PKS)),
    "co.Query in parts": lambda model: co.Query((model, PKS)).chunk_size(3),
    "update_many": lambda model: model.update_many({"id": pk} for pk in range(8)),
    "update_many in parts": lambda model: model.update_many({"id": pk} for pk in range(8)).chunk_size(3),
    "atomic": lambda model: model.update_many({"id": pk} for pk in range(8)).atomic(),
    "co.Update": lambda model: co.Update((model, PKS)),
    "load_missing": lambda model: model.query_many(PKS).load_missing(lambda pks: []),
}


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_error_lists_all_of_the_operation(store: co.BaseBackend, name: str, awaited: bool) -> None:
    fill(Book, store, BAD)
    with pytest.raises(co.PayloadError) as caught:
        executed(OPERATIONS[name](Book), awaited)
    error = caught.value
    assert sorted(set(error.failed)) == [
        co.FailedRow("Book", f"m:unreadable.book:id:{pk}", reason) for pk, reason in REASONS.items()
    ]
    assert len(error.failed) == 4
    assert str(error).startswith("4 rows cannot be read: Book m:unreadable.book:id:2: is a row of version 7, and the")
    assert str(error).endswith("; and 1 more")
    assert (error.model, error.key) == ("Book", "m:unreadable.book:id:2")
    assert str(error.__cause__) == f"Book: {IS_NEWER} (key m:unreadable.book:id:2, read as json)"
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(copied), copied.failed) == (str(error), error.failed)
    assert [store.get(Book.key(id=pk)) for pk in BAD] == [*BAD.values()]


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_can_count_them_as_misses_or_not(store: co.BaseBackend, name: str, awaited: bool) -> None:
    fill(Book, store, BAD)
    fill(Lenient, store, BAD)
    for operation in (OPERATIONS[name](Lenient).on_invalid("raise"), OPERATIONS[name](Book)):
        with pytest.raises(co.PayloadError, match="4 rows cannot be read: "):
            executed(operation, awaited)
    expected = READABLE + READABLE[:3] if name == "query_many twice" else READABLE
    assert ids(executed(OPERATIONS[name](Book).on_invalid("miss"), awaited)) == expected
    assert ids(executed(OPERATIONS[name](Lenient), awaited)) == expected


def test_a_single_row_has_its_own_error(store: co.BaseBackend) -> None:
    fill(Book, store, {1: NEWER})
    text = rf"^Book: {IS_NEWER} \(key m:unreadable\.book:id:1, read as json\)$"
    for use in (
        lambda: Book.get(id=1),
        Book.query(id=1).execute,
        Book.query_many(PKS).execute,
        lambda: Book.get_many(range(8)),
        Book.update(id=1, title="x").execute,
        Book.update_many(PKS).execute,
        co.Query(Book(id=1), Book(id=2)).execute,
    ):
        with pytest.raises(co.PayloadError, match=text) as caught:
            use()
        assert caught.value.failed == [co.FailedRow("Book", "m:unreadable.book:id:1", IS_NEWER)]
    assert Book.query(id=1).on_invalid("miss").execute() is None
    assert Book.update(id=1, title="x").on_invalid("miss").execute() is None
    fill(Lenient, store, {1: NEWER})
    for operation in (Lenient.query(id=1), Lenient.update(id=1, title="x"), Lenient.update(id=1).atomic()):
        assert operation.execute() is None
        with pytest.raises(co.PayloadError, match=r"^Lenient: is a row of version 7"):
            operation.on_invalid("raise").execute()  # type: ignore[attr-defined]


def test_rows_of_all_models_are_listed_and_nothing_is_written(store: co.BaseBackend) -> None:
    fill(Book, store, {1: NEWER, 5: BROKEN})
    fill(Author, store, {2: NEWER})
    fill(Lenient, store, {3: NEWER})
    before = store.get_many(*(Book.key(id=pk) for pk in range(8)))
    query = co.Query((Lenient, PKS), (Book, PKS), (Author, PKS)).chunk_size(3)
    with pytest.raises(co.PayloadError, match=r"^3 rows cannot be read: ") as caught:
        query.execute()
    assert sorted((row.model, row.key[-1]) for row in caught.value.failed) == [
        ("Author", "2"),
        ("Book", "1"),
        ("Book", "5"),
    ]
    assert ids(query.on_invalid("miss").execute()) == [
        *(None if pk == 3 else pk for pk in range(8)),
        *(None if pk in (1, 5) else pk for pk in range(8)),
        *(None if pk == 2 else pk for pk in range(8)),
    ]
    with pytest.raises(co.PayloadError, match=r"^4 rows cannot be read: "):
        query.on_invalid("raise").execute()
    for modify in (lambda update: update, lambda update: update.atomic()):
        update = modify(co.Update((Author, [{"id": pk, "name": "x"} for pk in range(8)]), (Book, PKS)))
        with pytest.raises(co.PayloadError, match=r"^3 rows cannot be read: "):
            update.execute()
        assert store.get_many(*(Book.key(id=pk) for pk in range(8))) == before
        assert {row.name for row in Author.get_many([0, 1, 3, 4]).values()} == {""}


def test_rows_that_are_referred_to(store: co.BaseBackend) -> None:
    fill(Author, store, {1: NEWER, 2: NEWER})
    Book.insert_many({"id": pk, "author": pk} for pk in range(4)).execute()
    books = Book.query_many([{"id": pk} for pk in range(4)])
    with pytest.raises(co.PayloadError, match=r"^2 rows cannot be read: Author "):
        books.preload("author").execute()
    with pytest.raises(co.PayloadError, match=r"^2 rows cannot be read: Author "):
        co.preload(Book.query_many({"id": pk} for pk in range(4)).execute(), "author")
    found = books.on_invalid("miss").execute()
    assert found[3].author.id == 3  # type: ignore[union-attr]
    with pytest.raises(Author.DoesNotExist):
        _ = found[1].author  # type: ignore[union-attr]
    found = co.Query((Book, PKS[:4])).preload("author").on_invalid("miss").execute()
    assert found[0].author.id == 0


def test_rows_that_count_as_misses_are_loaded(store: co.BaseBackend) -> None:
    fill(Book, store, BAD)
    asked: list[int] = []

    def load(pks: list[int]) -> list[dict[str, Any]]:
        asked.extend(pks)
        return [{"id": pk, "title": "loaded"} for pk in pks]

    for query in (
        Book.query_many(PKS).load_missing(load).on_invalid("miss"),
        Book.query_many(PKS).on_invalid("miss").load_missing(load),
    ):
        assert [row.title for row in query.execute()] == ["loaded" if pk in BAD else "" for pk in range(8)]
    assert asked == [*BAD]
    assert Book.query_many(PKS).execute()[2].title == "loaded"  # type: ignore[union-attr]


def test_updates_of_parts_before_the_first_such_row_are_done(store: co.BaseBackend) -> None:
    fill(Book, store, {4: NEWER, 7: BROKEN})
    update = Book.update_many({"id": pk, "title": "x" if pk != 7 else "y"} for pk in range(8)).chunk_size(2)
    with pytest.raises(co.PayloadError) as caught:
        update.execute()
    # The last of them is readable again by what is named.
    assert [row.key for row in caught.value.failed] == [Book.key(id=4)]
    assert [row.title for row in Book.get_many([0, 1, 2, 3, 5, 6]).values()] == ["x"] * 4 + [""] * 2
    # Executed again, it does the rest; what counts as a miss is not mended.
    Book.update(id=0, title="changed since").execute()
    assert ids(update.on_invalid("miss").execute()) == [None if pk in (4, 7) else pk for pk in range(8)]
    titles = {pk: row.title for pk, row in Book.get_many([0, 1, 2, 3, 5, 6]).items()}
    assert titles == {0: "changed since", 1: "x", 2: "x", 3: "x", 5: "x", 6: "x"}
    assert store.get(Book.key(id=7)) == BROKEN


def test_of_thousands_of_rows_the_message_shows_three() -> None:
    with co.bind([Book], backend=co.SimpleBackend()):
        fill(Book, Book._meta.backend, dict.fromkeys(range(5000), NEWER), 5000)
        with pytest.raises(co.PayloadError, match=r"^5000 rows cannot be read: .*; and 4997 more$") as caught:
            Book.query_many({"id": pk} for pk in range(5000)).execute()
        assert len(caught.value.failed) == 5000


def test_on_invalid_takes_two_words() -> None:
    for operation in (Book.query(id=1), Book.query_many(PKS), co.Query(), Book.update(id=1), co.Update()):
        with pytest.raises(ValueError, match="expected 'raise' or 'miss'"):
            operation.on_invalid("ignore")  # type: ignore[attr-defined]
