"""What the library does to instances, in many threads at once: nothing is lost, torn or raised."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import enough

import cacheorm as co

THREADS = 6


class Author(co.Model):
    id = co.UUIDField(primary_key=True)
    name = co.StringField()

    class Meta:
        namespace = "shared"


class Book(co.Model):
    id = co.IntegerField(primary_key=True)
    author: Any = co.ForeignKeyField(Author)
    editor: Any = co.ForeignKeyField(Author, null=True)
    title = co.StringField(default="")
    tags = co.ListField(co.StringField(), default=[])

    class Meta:
        namespace = "shared"


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Let threads switch at every chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def books(backend: co.BaseBackend) -> list[Any]:
    co.bind([Author, Book], backend=backend)
    authors = [Author(id=uuid.UUID(int=number << 64), name=f"author {number}") for number in range(5)]
    Author.insert_many(authors).execute()
    Book.insert_many(
        {"id": number, "author": authors[number % 5].id, "editor": authors[number % 3].id, "tags": ["a", "b"]}
        for number in range(20)
    ).execute()
    return [*Book.query_many({"id": number} for number in range(20)).execute()]


def together(*works: Callable[[], Any]) -> None:
    """Do works in threads that start at the same moment, each several times and in several of them."""
    start = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        start.wait()
        try:
            for _ in range(enough(100, 10)):
                work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(works[number % len(works)],)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_the_same_instances_are_preloaded_by_many(books: list[Any]) -> None:
    together(lambda: co.preload(books, "author"), lambda: co.preload(books, "editor"))
    for book in books:
        assert book.author.id == book.author_id == uuid.UUID(int=book.id % 5 << 64)
        assert book.editor.id == book.editor_id == uuid.UUID(int=book.id % 3 << 64)


def test_the_same_instances_are_saved_by_many(books: list[Any]) -> None:
    def save() -> None:
        for book in books:
            book.title = f"title {book.id}"
            book.tags = ["a", "b", "c"]
            book.save()

    together(save, lambda: Book.update_many(books).execute(), lambda: co.preload(books, "author"))
    for book in books:
        assert book.save() in (True, False)
        stored = Book.get(id=book.id)
        assert (stored.title, stored.author_id) == (f"title {book.id}", uuid.UUID(int=book.id % 5 << 64))
        assert stored.tags == ["a", "b", "c"]


def test_the_same_instances_are_read_inserted_and_refreshed_by_many(books: list[Any]) -> None:
    together(
        lambda: [(book.title, book.author.name, [*book.tags], book.to_dict(), hash(book)) for book in books],
        lambda: Book.insert_many(books).execute(),
        lambda: [book.refresh() for book in books],
        lambda: co.preload(books, "author", "editor"),
    )
    for book in books:
        assert (book.title, book.tags, book.author_id) == ("", ["a", "b"], uuid.UUID(int=book.id % 5 << 64))


def test_references_that_one_assigns_are_whole_to_those_who_load(books: list[Any]) -> None:
    known = [uuid.UUID(int=number << 64) for number in range(5)]

    def assign() -> None:
        for at, book in enumerate(books):
            book.author_id = known[at % 5]
            book.author = Author(id=known[at % 4], name="other")

    together(assign, lambda: co.preload(books, "author"), lambda: [book.save() for book in books])
    for book in books:
        assert book.author_id in known
        assert book.author.id in known
