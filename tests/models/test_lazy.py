"""References to rows that are gone or not loaded: what access raises, and what it warns of."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import cacheorm as co

MEMORY = co.SimpleBackend()


class Writer(co.Model):
    number = co.IntegerField(primary_key=True)
    name = co.StringField(default="nobody")

    class Meta:
        backend = MEMORY
        namespace = "test_lazy"


class Novelist(Writer):
    pass


class Book(co.Model):
    title = co.StringField(primary_key=True)
    writer = co.ForeignKeyField(Writer, null=True)
    editor = co.ForeignKeyField(Writer, null=True, lazy="raise")

    class Meta:
        backend = MEMORY
        namespace = "test_lazy"


@pytest.fixture
def book(backend: co.BaseBackend) -> Iterator[Any]:
    with co.bind([Writer, Book], backend=backend):
        Writer.create(number=1, name="Ann")
        Book.create(title="A", writer=1, editor=1)
        yield Book.get(title="A")


# -- rows that are gone ------------------------------------------------------------------------------


def gone(book: Any) -> Any:
    Writer.delete(number=1).execute()
    return book


def test_a_row_that_is_gone_is_no_value_of_the_attribute(book: Any) -> None:
    gone(book)
    assert getattr(book, "writer", None) is None
    assert not hasattr(book, "writer")
    assert dict(inspect.getmembers(Book(title="B", writer=404)))["writer_id"] == 404
    for error in (Writer.DoesNotExist, AttributeError, co.DoesNotExist, co.CacheORMError):
        with pytest.raises(error, match=r"^Writer: no row under key test_lazy:m:writer:number:1$"):
            _ = book.writer
    Writer.create(number=1, name="Late")
    assert book.writer.name == "Late"


def test_a_preloaded_row_that_is_gone_is_no_value_either(book: Any) -> None:
    co.preload(gone(book), "writer")
    assert getattr(book, "writer", None) is None
    with pytest.raises(Writer.DoesNotExist) as caught:
        _ = book.writer
    assert isinstance(caught.value, AttributeError)


def test_a_reference_that_was_never_set_is_no_value() -> None:
    class Essay(co.Model):
        id = co.IntegerField(primary_key=True)
        writer = co.ForeignKeyField(Writer)

    essay: Any = Essay(id=1)
    assert getattr(essay, "writer", None) is None
    assert essay.writer_id is None
    assert dict(inspect.getmembers(essay))["id"] == 1
    with pytest.raises(Writer.DoesNotExist, match=r"Essay\.writer> is not set") as caught:
        _ = essay.writer
    assert isinstance(caught.value, AttributeError)


def test_an_awaited_read_of_a_row_that_is_gone_raises_the_same(book: Any) -> None:
    async def main() -> None:
        with pytest.raises(Writer.DoesNotExist, match="no row under key") as caught:
            await Book.writer.aget(gone(book))
        assert isinstance(caught.value, AttributeError)
        await co.apreload(book, "writer")
        assert not hasattr(book, "writer")
        with pytest.raises(AttributeError):
            await Book.writer.aget(book)
        await Book._meta.backend.aclose()

    asyncio.run(main())


def test_no_other_read_raises_an_attribute_error(book: Any) -> None:
    gone(book)
    for call in (lambda: Writer.get(number=1), lambda: Writer.get_by_id(1), Writer(number=1).refresh):
        with pytest.raises(Writer.DoesNotExist) as caught:
            call()
        assert type(caught.value) is Writer.DoesNotExist
        assert not isinstance(caught.value, AttributeError)


def test_the_error_of_a_reference_pickles_and_copies() -> None:
    with pytest.raises(Writer.DoesNotExist) as caught:
        _ = Book(title="B", writer=404).writer
    error = caught.value
    assert type(error) is Writer.DoesNotExist.Related
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(again), str(again)) == (type(error), str(error))
    assert issubclass(Novelist.DoesNotExist.Related, Novelist.DoesNotExist)
    assert issubclass(Novelist.DoesNotExist.Related, Writer.DoesNotExist)
    assert not issubclass(Writer.DoesNotExist.Related, Novelist.DoesNotExist)


def test_a_getattr_of_the_model_is_not_asked_for_references() -> None:
    asked: list[str] = []

    class Fallback:
        __slots__ = ()

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            if name == "other":
                return 5
            raise AttributeError(f"no attribute {name}")

    class Essay(Fallback, co.Model):
        id = co.IntegerField(primary_key=True)
        writer = co.ForeignKeyField(Writer)

        class Meta:
            backend = MEMORY
            namespace = "test_lazy"

    class Long(Essay):
        editor = co.ForeignKeyField(Writer, null=True)

        def __getattr__(self, name: str) -> Any:
            return super().__getattr__(name)

    for model in (Essay, Long):
        essay: Any = model(id=1, writer=404)
        with pytest.raises(Writer.DoesNotExist, match="no row under key"):
            _ = essay.writer
        assert getattr(essay, "writer", None) is None
        assert asked == []
        assert essay.other == 5
        assert not hasattr(essay, "nothing")
        assert asked == ["other", "nothing"]
        asked.clear()


# -- lazy="raise" ------------------------------------------------------------------------------------


def test_access_raises_unless_the_row_was_loaded(book: Any) -> None:
    with pytest.raises(
        co.CacheORMError, match=r"Book\.editor> has not been loaded, .*lazy='raise': preload it"
    ) as caught:
        _ = book.editor
    assert not isinstance(caught.value, AttributeError)  # it is there: to take it for "no value" would be wrong
    assert book.editor_id == 1
    assert book.to_dict()["editor"] == 1
    repr(book)
    assert co.preload(book, "editor").editor.name == "Ann"
    assert Book.query(title="A").preload(Book.editor).execute().editor.name == "Ann"  # type: ignore[union-attr]
    book.editor = None
    assert book.editor is None
    book.editor = Writer.get(number=1)
    assert book.editor.name == "Ann"
    book.editor = 2
    with pytest.raises(co.CacheORMError, match="has not been loaded"):
        _ = book.editor
    co.preload(book, "editor")
    with pytest.raises(Writer.DoesNotExist):
        _ = book.editor


def test_a_row_that_is_awaited_is_loaded(book: Any) -> None:
    async def main() -> None:
        assert (await Book.editor.aget(book)).name == "Ann"  # type: ignore[union-attr]
        assert book.editor.name == "Ann"
        await Book._meta.backend.aclose()

    asyncio.run(main())


def test_it_is_inherited_and_checked_at_the_declaration() -> None:
    class Reprint(Book):
        pass

    with pytest.raises(co.CacheORMError, match="has not been loaded"):
        _ = Reprint(title="A", editor=1).editor
    for wrong in ("never", None, True, []):
        with pytest.raises(ValueError, match="lazy is 'load' or 'raise', got"):
            co.ForeignKeyField(Writer, lazy=wrong)  # type: ignore[call-overload]


# -- reads inside an event loop ----------------------------------------------------------------------


def read_in_a_loop(function: Any) -> list[Any]:
    """Return the warnings of a function that runs in an event loop."""

    async def main() -> list[Any]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
        await Book._meta.backend.aclose()
        return caught

    return asyncio.run(main())


def line_of_call() -> int:
    return sys._getframe(1).f_lineno


def test_a_read_in_an_event_loop_warns_once_for_each_line(book: Any) -> None:
    class Again(Book):  # its fields have not warned yet
        class Meta:
            name = "book"
            backend = Book._meta.backend

    lines: list[int] = []

    def read() -> None:
        for _ in range(3):
            lines.append(line_of_call() + 1)
            assert Again.get(title="A").writer.name == "Ann"  # type: ignore[union-attr]
        lines.append(line_of_call() + 1)
        assert getattr(Again.get(title="A"), "writer").name == "Ann"  # noqa: B009

    caught = read_in_a_loop(read)
    assert [(warning.category, warning.filename, warning.lineno) for warning in caught] == [
        (co.LazyLoadWarning, __file__, line) for line in dict.fromkeys(lines)
    ]
    assert str(caught[0].message) == (
        "access to Again.writer reads the related row and blocks the running event loop meanwhile: preload it, as by "
        ".preload('writer') or await co.apreload(rows, 'writer'), or await Again.writer.aget(row)"
    )
    assert issubclass(co.LazyLoadWarning, RuntimeWarning)
    assert read_in_a_loop(read) == []


def test_what_is_loaded_does_not_warn_in_an_event_loop(book: Any) -> None:
    co.preload(book, "writer")

    def read() -> None:
        assert book.writer.name == "Ann"
        assert (book.writer_id, Book(title="B").writer, Book(title="C", writer=book.writer).writer.name) == (
            1,
            None,
            "Ann",
        )  # type: ignore[union-attr]

    assert read_in_a_loop(read) == []


def test_a_filter_may_make_it_an_error_each_time() -> None:
    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", co.LazyLoadWarning)
            for _ in range(2):
                with pytest.raises(co.LazyLoadWarning):
                    _ = Book(title="A", writer=404).writer

    asyncio.run(main())


def test_a_read_outside_of_the_loop_does_not_warn(book: Any) -> None:
    def read() -> None:
        assert Book.get(title="A").writer.name == "Ann"  # type: ignore[union-attr]

    read()  # warnings are errors

    async def main() -> None:
        await asyncio.to_thread(read)
        thread = threading.Thread(target=read)
        thread.start()
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
