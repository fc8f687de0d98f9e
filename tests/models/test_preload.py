"""Loading related rows with their rows: how many reads it takes, what is shared, and what is missing."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import cacheorm as co


class Counting(co.SimpleBackend):
    """Records the keys of each read of many."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[list[str]] = []

    def get(self, key: str) -> bytes | None:
        self.reads.append([key])
        return super().get(key)

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        self.reads.append(list(keys))
        yield super().get_many(*keys)


HERE, THERE = Counting(), Counting()


class Company(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")

    class Meta:
        backend = THERE
        namespace = "test_preload"


class Person(co.Model):
    id = co.IntegerField(primary_key=True)
    employer = co.ForeignKeyField(Company, null=True)
    boss = co.ForeignKeyField("self", null=True)

    class Meta:
        backend = HERE
        namespace = "test_preload"


class Text(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(Person)
    editor = co.ForeignKeyField(Person, null=True)

    class Meta:
        backend = HERE
        namespace = "test_preload"


class Mark(co.Model):
    person = co.ForeignKeyField(Person)
    text = co.ForeignKeyField(Text)

    class Meta:
        primary_key = co.CompositeKey("person", "text")
        backend = HERE
        namespace = "test_preload"


class Note(co.Model):
    id = co.IntegerField(primary_key=True)
    mark = co.ForeignKeyField(Mark)

    class Meta:
        backend = THERE
        namespace = "test_preload"


@pytest.fixture(autouse=True)
def rows() -> None:
    HERE.clear()
    THERE.clear()
    Company.insert_many({"id": 1, "name": "A"}, {"id": 2, "name": "B"}).execute()
    Person.insert_many(
        {"id": 1, "employer": 1},
        {"id": 2, "employer": 2, "boss": 1},
        {"id": 3, "employer": 1, "boss": 2},
        {"id": 4, "boss": 77},
    ).execute()
    Text.insert_many([{"id": i, "author": 1 + i % 3, "editor": 2 if i % 2 else None} for i in range(10)]).execute()
    Mark.insert_many({"person": 1, "text": 0}, {"person": 2, "text": 1}).execute()
    Note.insert_many({"id": 1, "mark": (1, 0)}, {"id": 2, "mark": (2, 1)}, {"id": 3, "mark": (1, 9)}).execute()
    HERE.reads.clear()
    THERE.reads.clear()


TEXTS = [{"id": i} for i in range(10)]


def reads() -> tuple[int, int]:
    """How many reads there were, here and there."""
    return len(HERE.reads), len(THERE.reads)


def found(query: Any) -> list[Any]:
    result = query.execute()
    assert None not in result
    return list(result)


def test_one_read_gets_all_related_rows() -> None:
    texts = found(Text.query_many(TEXTS).preload(Text.author))
    assert reads() == (2, 0)
    assert len(HERE.reads[1]) == 3
    assert [text.author.id for text in texts] == [1 + i % 3 for i in range(10)]
    assert reads() == (2, 0)
    # One row is one object, whoever refers to it.
    assert texts[0].author is texts[3].author


def test_several_references_are_read_together() -> None:
    texts = found(Text.query_many(TEXTS).preload(Text.author, "editor"))
    assert reads() == (2, 0)
    assert texts[1].editor is texts[1].author
    assert texts[0].editor is None
    assert reads() == (2, 0)


def test_a_nested_path_takes_one_read_per_level_and_backend() -> None:
    texts = found(Text.query_many(TEXTS).preload("author.employer", "editor.employer", Text.author))
    assert reads() == (2, 1)
    assert len(THERE.reads[0]) == 2
    assert [text.author.employer.name for text in texts[:3]] == ["A", "B", "A"]
    assert texts[1].editor.employer is texts[1].author.employer
    assert reads() == (2, 1)


def test_composite_keys_and_other_backends() -> None:
    notes = found(
        Note.query_many([{"id": 1}, {"id": 2}, {"id": 3}]).preload("mark.text.author.employer", "mark.person")
    )
    # Marks; texts and persons together; the authors that are not known by then; companies.
    assert [len(keys) for keys in HERE.reads] == [3, 4]
    assert [len(keys) for keys in THERE.reads] == [3, 2]
    before = reads()
    assert (notes[0].mark.text.id, notes[1].mark.person.id) == (0, 2)
    assert notes[1].mark.text.author is notes[1].mark.person
    assert notes[1].mark.text.author.employer.name == "B"
    with pytest.raises(Mark.DoesNotExist):
        _ = notes[2].mark
    assert reads() == before


def test_self_references_find_the_rows_of_the_same_result() -> None:
    people = found(Person.query_many([{"id": i} for i in (1, 2, 3)]).preload("boss.boss"))
    assert reads() == (1, 0)
    one, two, three = people
    assert three.boss is two
    assert three.boss.boss is one
    assert one.boss is None


def test_rows_that_refer_to_each_other_are_collected() -> None:
    Person.update_many({"id": 1, "boss": 2}).execute()
    people = found(Person.query_many({"id": 1}, {"id": 2}).preload("boss.boss.boss"))
    assert people[0].boss.boss is people[0]
    watched = weakref.ref(people[0])
    del people
    gc.collect()
    assert watched() is None


def test_a_missing_row_raises_on_access_and_is_not_looked_for_again() -> None:
    person = Person.query(id=4).preload(Person.boss, Person.employer).execute()
    assert person is not None
    assert reads() == (2, 0)
    for _ in range(2):
        with pytest.raises(Person.DoesNotExist, match=r"Person: no row under key .*:77"):
            _ = person.boss
    assert person.boss_id == 77  # type: ignore[attr-defined]
    assert person.employer is None
    copied = pickle.loads(pickle.dumps(person))
    for again in (copied, copy.copy(person), copy.deepcopy(person)):
        with pytest.raises(Person.DoesNotExist):
            _ = again.boss
    assert reads() == (2, 0)
    # What is assigned, or read again, is looked for again.
    person.boss = 3  # type: ignore[assignment]
    assert person.boss is not None
    Person.create(id=77)
    assert copied.refresh().boss.id == 77
    copied.boss = Person(id=5)
    assert copied.boss.id == 5


def test_misses_and_nothing_to_load() -> None:
    assert Text.query(id=99).preload("author").execute() is None
    assert Text.query_many({"id": 99}, {"id": 0}).preload("editor").execute()[0] is None
    assert Text.query_many([]).preload("author.employer").execute() == []
    assert co.preload([], "author") == []
    assert co.preload([None], Text.author) == [None]


def test_instances_are_preloaded_wherever_they_come_from() -> None:
    texts = Text.query_many(TEXTS).execute()
    unsaved = Text(id=50, author="3")
    mixed = [*texts, None, unsaved, unsaved]
    HERE.reads.clear()
    assert co.preload(iter(mixed), Text.author, "editor.boss") == mixed
    assert [len(keys) for keys in HERE.reads] == [3]
    assert unsaved.author.id == 3
    known = unsaved.author
    co.preload(mixed, "author.employer")
    assert unsaved.author is known
    assert reads() == (1, 1)
    assert unsaved.author.employer.name == "A"
    assert reads() == (1, 1)


def test_what_is_assigned_is_kept_and_followed() -> None:
    boss = Person(id=1000, employer=2)
    text = Text(id=1, author=boss)
    co.preload([text], "author.employer")
    assert text.author is boss
    assert boss.employer is not None
    assert boss.employer.name == "B"
    assert reads() == (0, 1)


def test_instances_of_several_models_share_their_reads() -> None:
    text, mark = Text.get(id=1), Mark.get(person=2, text=1)
    HERE.reads.clear()
    co.preload([text, mark], Text.author, Mark.text, Mark.person)
    assert reads() == (1, 0)
    assert mark.person is text.author
    co.preload([text, mark], "text.author", "editor")
    assert mark.text.author is not None


def test_a_subclass_has_the_references_of_its_parent() -> None:
    class Story(Text):
        class Meta:
            namespace = "test_preload"

    Story.create(id=1, author=1)
    (story,) = found(Story.query_many({"id": 1}).preload(Text.author))
    assert story.author.id == 1


def test_a_path_may_be_a_tuple_of_its_steps() -> None:
    texts = found(Text.query_many(TEXTS).preload((Text.author, Person.employer), ("editor", Person.boss)))
    assert reads() == (2, 1)
    assert texts[0].author.employer.name == "A"
    assert texts[1].editor.boss.id == 1
    (note,) = found(Note.query_many({"id": 1}).preload((Note.mark, "text.author")))
    before = reads()
    assert note.mark.text.author.id == 1
    assert reads() == before
    for wrong in ((), (Text.author, 5), [Text.author], (Text.author, ("employer",))):
        with pytest.raises(TypeError, match="expected a foreign key or a path"):
            Text.query_many(TEXTS).preload(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="belongs to Text: from Person"):
        Text.query_many(TEXTS).preload((Text.author, Text.editor))


def test_one_instance_is_preloaded_and_given_back() -> None:
    text = Text.get(id=1)
    assert co.preload(text, "author.employer") is text
    before = reads()
    assert text.author.employer is not None
    assert reads() == before


def test_keys_that_were_never_read_are_found_whatever_their_form() -> None:
    # A list cannot be hashed, as the tuple that a read gives can.
    notes = [Note(id=1, mark=given) for given in ([1, 0], (1, 0), ["1", "0"], [2, 1])]  # type: ignore[arg-type]
    co.preload([*notes, Note(id=2)], Note.mark)
    assert [len(keys) for keys in HERE.reads] == [2]
    assert [note.mark.text_id for note in notes] == [0, 0, 0, 1]  # type: ignore[attr-defined]
    assert notes[0].mark is notes[1].mark is notes[2].mark
    with pytest.raises(Mark.DoesNotExist, match="is not set"):
        _ = co.preload(Note(id=2), Note.mark).mark


def test_defaults_are_references_like_others() -> None:
    boss = Person(id=50)

    class Report(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(Person, default=1)
        reader = co.ForeignKeyField(Person, default=lambda: boss)

        class Meta:
            backend = HERE
            namespace = "test_preload"

    reports = [Report(id=1), Report(id=2, author=2), Report(id=3, reader=1)]
    co.preload(reports, "author", "reader")
    assert [len(keys) for keys in HERE.reads] == [2]
    assert [report.author.id for report in reports] == [1, 2, 1]
    assert reports[0].reader is boss
    assert reports[2].reader is reports[2].author
    assert len(HERE.reads) == 1


def test_a_backend_that_gives_too_few_values_is_an_error() -> None:
    class Short(co.SimpleBackend):
        def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
            yield super().get_many(*keys[1:])

    text = Text.get(id=1)
    with co.bind([Person], backend=Short()), pytest.raises(co.BackendError, match="Short gave 0 values for 1 keys"):
        co.preload(text, "author")


def test_wrong_paths_are_refused_before_anything_is_read() -> None:
    query = Text.query_many(TEXTS)
    with pytest.raises(ValueError, match="Text has no foreign key 'auther'; it has: author, editor"):
        query.preload("auther")
    with pytest.raises(ValueError, match="Person has no foreign key 'name'; it has: employer, boss"):
        query.preload("author.name")
    with pytest.raises(ValueError, match="Company has no foreign key 'x'; it has: none"):
        query.preload("author.employer.x")
    with pytest.raises(ValueError, match="Text has no foreign key 'id'"):
        query.preload("id")
    with pytest.raises(ValueError, match="belongs to Mark"):
        Note.query(id=1).preload(Mark.person, "mark")
    with pytest.raises(ValueError, match="belongs to Person: from Text, give the whole path"):
        query.preload(Person.employer)
    with pytest.raises(TypeError, match="expected a foreign key or a path"):
        query.preload(Person)
    with pytest.raises(TypeError, match="preload takes instances of models, got dict"):
        co.preload([{"id": 1}], "author")
    with pytest.raises(ValueError, match=r"Text has no foreign key 'boss'.*; Mark has no foreign key 'boss'"):
        co.preload([Text(id=1), Mark()], "boss")
    assert query.execute()[0] is not None
    assert reads() == (1, 0)


@pytest.mark.no_cover
def test_thousands_of_rows_on_every_backend(backend: co.BaseBackend) -> None:
    class Author(co.Model):
        id = co.StringField(primary_key=True)

    class Article(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(Author)

    with co.bind([Author, Article], backend=backend):
        Author.insert_many({"id": f"a{i}"} for i in range(1500)).execute()
        Article.insert_many({"id": i, "author": f"a{i % 1600}"} for i in range(5000)).execute()
        articles = found(Article.query_many({"id": i} for i in range(5000)).preload(Article.author))
        assert [article.author.id for article in articles[:1500]] == [f"a{i}" for i in range(1500)]
        with pytest.raises(Author.DoesNotExist):
            _ = articles[1550].author
