"""``save()`` writes what was changed in an instance since its row was read or stored."""

from __future__ import annotations

import copy
import functools
import pickle
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from lifetimes import left_of

import cacheorm as co


class Counting(co.SimpleBackend):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name in ("get", "get_many", "set", "add", "replace", "replace_many", "get_many_cas", "compare_and_set_many"):
            self.calls[name] += 1
        return super().__getattribute__(name)


class Thing:
    """An object that can be changed in place, and is stored as a number."""

    def __init__(self, number: int) -> None:
        self.number = number


class Page(co.Model):
    title = co.StringField(default="")
    visits = co.IntegerField(default=0)
    tags = co.ListField(co.StringField(), default=[])
    data = co.JSONField(default={})
    thing: Any = co.StructField(lambda thing: thing.number, Thing, default=lambda: Thing(0))

    class Meta:
        name = "saving.page"
        ttl = 2000


@pytest.fixture(autouse=True)
def backend() -> Iterator[Counting]:
    made = Counting()
    with co.bind([Page], backend=made):
        yield made


def changed_by_others(row: Page, **values: Any) -> Page:
    """Change a stored row behind the back of an instance, and return what is stored after its ``save()``."""
    Page.update(id=row.id, **values).execute()
    assert row.save() is True
    return Page.get(id=row.id)


def test_what_was_assigned_is_written_and_nothing_else() -> None:
    row = Page.create(title="a", visits=1)
    row.visits = 5
    found = changed_by_others(row, title="theirs", tags=["theirs"])
    assert (found.title, found.visits, found.tags) == ("theirs", 5, ["theirs"])
    # The instance is the whole row by now.
    assert row.to_dict()["title"] == "theirs"
    read = Page.get(id=row.id)
    read.title = "mine"
    assert changed_by_others(read, visits=7).title == "mine"
    assert Page.get(id=row.id).visits == 7


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tags", lambda row: row.tags.append("new")),
        ("tags", lambda row: row.tags.clear()),
        ("tags", lambda row: row.tags.sort(reverse=True)),
        ("data", lambda row: row.data["deep"].append({"a": 1})),
        ("data", lambda row: row.data.update(a=True)),
        ("thing", lambda row: setattr(row.thing, "number", 9)),
    ],
)
def test_what_was_changed_in_place_is_written(name: str, change: Any) -> None:
    made = Page.create(tags=["a", "b"], data={"deep": [1], "a": 1}, thing=Thing(4))
    for row in (made, Page.get(id=made.id), copy.deepcopy(made), pickle.loads(pickle.dumps(Page.get(id=made.id)))):
        Page.update(id=made.id, tags=["a", "b"], data={"deep": [1], "a": 1}, thing=Thing(4)).execute()
        change(row)
        assert row.save()
        plain = {"tags": ["a", "b"], "data": {"deep": [1], "a": 1}, "thing": 4}
        found = {"tags": row.tags, "data": row.data, "thing": row.thing.number}
        stored = Page.get(id=made.id)
        assert found == {"tags": stored.tags, "data": stored.data, "thing": stored.thing.number}
        assert found[name] != plain[name] or (name, found["data"].get("a")) == ("data", True)
        assert {key: value for key, value in found.items() if key != name} == {
            key: value for key, value in plain.items() if key != name
        }


def test_what_was_only_looked_at_is_not_written(backend: Counting) -> None:
    made = Page.create(tags=["a"])
    row = Page.get(id=made.id)
    row.to_dict()
    assert row.tags == ["a"]
    found = changed_by_others(row, tags=["theirs"], data={"x": 1}, thing=Thing(3))
    assert (found.tags, found.data, found.thing.number) == (["theirs"], {"x": 1}, 3)
    # Neither are defaults, which look the same as values.
    fresh = Page(id=made.id, title="fresh")
    assert (fresh.tags, fresh.data, fresh.thing.number) == ([], {}, 0)
    found = changed_by_others(fresh)
    assert (found.title, found.tags, found.thing.number) == ("fresh", ["theirs"], 3)
    changed = Page(id=made.id)
    changed.tags.append("mine")
    assert changed_by_others(changed).tags == ["mine"]


def test_nothing_to_write_is_no_request(backend: Counting) -> None:
    row = Page.create(tags=["a"])
    read = Page.get(id=row.id)
    assert read.tags == ["a"]
    backend.calls.clear()
    assert row.save() is True
    assert read.save() is True
    assert not backend.calls
    row.title = "b"
    assert row.save() is True
    assert row.save() is True
    assert backend.calls == {"get": 1, "replace": 1}
    # Of a row that is not known to be there, it is asked.
    assert Page(id=row.id).save() is True
    row.delete_instance()
    assert row.save() is False
    assert row.save() is False
    assert Page(id=row.id).save() is False


def test_what_was_not_stored_is_written_by_the_next_save(backend: Counting) -> None:
    row = Page.create(title="a")
    row.title = "b"
    row.tags.append("c")
    replace, backend.replace = backend.replace, lambda *arguments: 1 / 0  # type: ignore[assignment,return-value]
    with pytest.raises(ZeroDivisionError):
        row.save()
    backend.replace = replace  # type: ignore[method-assign]
    found = changed_by_others(row, visits=9)
    assert (found.title, found.tags, found.visits) == ("b", ["c"], 9)
    row.title = None  # type: ignore[assignment]
    with pytest.raises(co.ValidationError, match="title"):
        row.save()
    row.title = "d"
    assert changed_by_others(row, visits=1).title == "d"


def test_lifetimes_and_atomic_saves(backend: Counting) -> None:
    row = Page(title="a")
    row.save(ttl=5000)
    assert row.ttl() in left_of(5000, early=1)
    row.title = "b"
    row.save(keep_ttl=True)
    assert row.ttl() in left_of(5000, early=1)
    row.save(ttl=9000)
    assert row.ttl() in left_of(9000, early=1)
    row.title = "c"
    row.save()
    assert row.ttl() in left_of(2000, early=1)
    backend.calls.clear()
    row.title = "d"
    assert row.save(atomic=True, ttl=100) is True
    assert (backend.calls["compare_and_set_many"], backend.calls["replace"]) == (1, 0)
    assert Page.get(id=row.id).title == "d"
    with pytest.raises(ValueError, match=r"Page: ttl gives .* keep_ttl"):
        row.save(ttl=5, keep_ttl=True)


def test_a_row_under_another_key_is_another_row() -> None:
    one, other = Page.create(title="one", visits=1), Page.create(title="other", visits=2)
    row = Page.get(id=one.id)
    row.id = other.id
    assert row.save()
    assert (Page.get(id=other.id).title, Page.get(id=other.id).visits) == ("one", 1)


def test_copies_keep_what_was_assigned() -> None:
    made = Page.create(title="a")
    for copied in (copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))):
        row = Page.get(id=made.id)
        row.visits = 3
        found = changed_by_others(copied(row), title="theirs")
        assert (found.title, found.visits) == ("theirs", 3)
        assert changed_by_others(copied(Page.get(id=made.id)), visits=0, title="a").visits == 0


def test_instances_that_older_versions_pickled_write_all_their_values() -> None:
    made = Page.create(title="a", visits=1)
    state = made.__getstate__()
    del state["assigned"], state["new"]
    row = Page.__new__(Page)
    row.__setstate__(state)
    assert changed_by_others(row, title="theirs", visits=9).title == "a"


def refused(*arguments: Any) -> bool:
    return False


def failing(*arguments: Any) -> Any:
    raise co.BackendError("down")


@pytest.mark.parametrize("write", ["save", "insert", "insert_many", "co.Insert"])
def test_a_key_of_a_row_that_was_not_stored_is_taken_back(backend: Counting, write: str) -> None:
    row = Page(title="a")
    other = Page(title="b")
    calls: dict[str, Any] = {
        "save": row.save,
        "insert": lambda: row.save(force_insert=True),
        "insert_many": Page.insert_many([row, other]).execute,
        "co.Insert": co.Insert([row, other]).execute,
    }
    backend.set = refused  # type: ignore[assignment]
    backend.set_many = lambda batch, ttl=None: co.types.Outcome(dict.fromkeys(batch, False))  # type: ignore[attr-defined,method-assign]
    with pytest.raises(co.WriteError):
        calls[write]()
    backend.set_many = backend.set = failing  # type: ignore[method-assign]
    assert row._pk is None
    with pytest.raises((co.BackendError, co.WriteError)):
        calls[write]()
    assert (row._pk, other._pk) == (None, None)
    del backend.set, backend.set_many
    row.visits = "many"  # type: ignore[assignment]
    with pytest.raises(co.ValidationError):
        calls[write]()
    assert row._pk is None
    row.visits = 1
    assert row.save()
    assert Page.get(id=row.id).visits == 1


def test_keys_of_rows_that_are_stored_stay(backend: Counting) -> None:
    rows = [Page(title=str(number)) for number in range(6)]
    write, parts = backend.set_many, iter([1, 1, 0])
    backend.set_many = lambda batch, ttl=None: write(batch, ttl) if next(parts) else failing()  # type: ignore[method-assign]
    with pytest.raises(co.BackendError):
        Page.insert_many(rows).chunk_size(2).execute()
    assert [row._pk is not None for row in rows] == [True] * 4 + [False] * 2
    assert [Page.get(id=row.id).title for row in rows[:4]] == ["0", "1", "2", "3"]


def test_instances_given_to_update_many_are_written_as_by_save() -> None:
    made = Page.insert_many({"title": "a", "visits": number} for number in range(5)).execute()
    rows = [Page.get(id=row.id) for row in made]
    for row in rows:
        row.title = "mine"
    Page.update_many({"id": row.id, "visits": 9} for row in rows).execute()
    assert Page.update_many(rows).execute() == rows
    assert [(row.title, row.visits) for row in rows] == [("mine", 9)] * 5


def test_instances_may_take_part_in_relations() -> None:
    class Note(co.Model):
        id = co.IntegerField(primary_key=True)
        page: Any = co.ForeignKeyField(Page, null=True)
        text = co.StringField(default="")

    page, later = Page.create(title="a"), Page(title="later")
    Note.create(id=1, page=page)
    note = Note.get(id=1)
    assert note.page == page
    loaded = note.page
    note.text = "x"
    note.save()
    assert note.page is loaded
    note.page = later
    later.save()
    note.save()
    assert note.page is later
    assert Note.get(id=1).page_id == later.id  # type: ignore[attr-defined]
    other = Note.get(id=1)
    assert other.page == later
    Note.update(id=1, page=page).execute()
    other.text = "y"
    other.save()
    assert other.page == page


def test_what_the_new_of_a_model_assigns_is_no_change(backend: Counting) -> None:
    class Made(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(default="")

        def __new__(cls, **values: Any) -> Any:
            instance = super().__new__(cls)
            instance.name = "made"
            return instance

    with co.bind([Made], backend=backend):
        Made.insert_many({"id": number, "name": "a"} for number in range(9)).execute()
        rows: list[Any] = [Made.get(id=0), *Made.query_many([{"id": number} for number in range(9)]).execute()]
        backend.calls.clear()
        assert all(row.save() for row in rows)
        assert not backend.calls
        assert Made.update(id=0, name="b").execute().name == "b"  # type: ignore[union-attr]


def test_what_receivers_stop_is_written_by_the_next_save() -> None:
    row = Page.create(title="a", tags=["a"])
    row.title = "b"
    assert row.tags == ["a"]
    seen: list[str] = []

    def refuse(sender: Any, instance: Any) -> None:
        seen.append(instance.title)
        instance.visits += 1
        if len(seen) == 1:
            raise PermissionError

    with co.signals.pre_save.connected_to(refuse, Page):
        with pytest.raises(PermissionError):
            row.save()
        Page._meta.backend.set(Page.key(id=row.id), co.MessagePackSerializer().dumps({"tags": ["theirs"], "visits": 4}))
        assert row.save()
        assert row.save()
    assert seen == ["b", "b", "b"]
    assert (Page.get(id=row.id).title, Page.get(id=row.id).visits, row.tags) == ("b", 6, ["theirs"])


class Cached:
    """An object that keeps what it has computed."""

    def __init__(self, number: int) -> None:
        self.number = number

    @functools.cached_property
    def square(self) -> int:
        return self.number**2


class Closed(Cached):
    """An object that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("no pickles")


@pytest.mark.parametrize("kind", [Cached, Closed])
def test_objects_that_were_only_looked_at_are_not_written(backend: Counting, kind: Any) -> None:
    class Held(co.Model):
        id = co.IntegerField(primary_key=True)
        n = co.IntegerField(default=0)
        one: Any = co.StructField(lambda thing: thing.number, kind)
        many: Any = co.ListField(co.StructField(lambda thing: thing.number, kind), default=[])

    with co.bind([Held], backend=backend):
        Held.create(id=1, one=kind(2), many=[kind(3)])
        row = Held.get(id=1)
        assert (row.one.square, row.many[0].square) == (4, 9)
        Held.update(id=1, one=kind(7), many=[kind(8)]).execute()
        row.n = 5
        assert row.save()
        found = Held.get(id=1)
        assert (found.one.number, found.many[0].number, found.n) == (7, 8, 5)
        found.one.number, found.many[0].number = 10, 11
        assert found.save()
        assert (Held.get(id=1).one.number, Held.get(id=1).many[0].number) == (10, 11)


class Reader(co.Model):
    name = co.StringField(default="")

    class Meta:
        name = "saving.reader"


class Seat(co.Model):
    reader = co.ForeignKeyField(Reader, primary_key=True)
    text = co.StringField(default="")
    n = co.IntegerField(default=0)

    class Meta:
        name = "saving.seat"


class Visit(co.Model):
    reader = co.ForeignKeyField(Reader)
    day = co.DateField()
    text = co.StringField(default="")
    n = co.IntegerField(default=0)

    class Meta:
        name = "saving.visit"
        primary_key = co.CompositeKey("reader", "day")


class Number(co.Model):
    id = co.IntegerField(primary_key=True)
    text = co.StringField(default="")
    n = co.IntegerField(default=0)

    class Meta:
        name = "saving.number"


READER = Reader(id=uuid.UUID(int=1))


@pytest.mark.parametrize(
    ("model", "key", "again", "another"),
    [
        (Number, {"id": 1}, {"id": 1}, {"id": 2}),
        (Number, {"id": 1}, {"id": "1"}, {"id": 2}),
        (Number, {"id": 1}, {"_pk": 1}, {"_pk": 2}),
        (Seat, {"reader": READER}, {"reader": READER}, {"reader_id": uuid.UUID(int=2)}),
        (Seat, {"reader": READER}, {"reader_id": str(READER.id)}, {"reader": Reader(id=uuid.UUID(int=2))}),
        (Visit, {"reader": READER, "day": date(2024, 1, 2)}, {"day": "2024-01-02"}, {"day": "2024-01-03"}),
        (
            Visit,
            {"reader": READER, "day": date(2024, 1, 2)},
            {"_pk": (READER, "2024-01-02")},
            {"_pk": (READER.id, date(2024, 1, 3))},
        ),
    ],
)
@pytest.mark.parametrize("serializer", ["msgpack", "json", "pickle"])
def test_the_same_key_again_is_no_change(
    model: Any, key: dict[str, Any], again: dict[str, Any], another: dict[str, Any], serializer: str
) -> None:
    with co.bind([model], backend=co.SimpleBackend(), serializer=serializer):
        model.create(**key, text="old")
        row = model.get(**key)
        for name, value in again.items():
            setattr(row, name, value)
        model.update(**key, text="theirs").execute()
        row.n = 5
        assert row.save()
        assert (row.text, row.n) == ("theirs", 5)
        assert (model.get(**key).text, model.get(**key).n) == ("theirs", 5)
        # Under another key it is another row, of which all values are written.
        found = model(text="another")
        for name, value in {**key, **another}.items():
            setattr(found, name, value)
        assert found.save(force_insert=True)
        for name, value in another.items():
            setattr(row, name, value)
        assert row.save()
        assert row._pk == found._pk
        assert model.get_by_id(found._pk).text == "theirs"


def test_a_field_of_the_key_of_a_base_is_any_field_of_a_model_with_another_key(backend: Counting) -> None:
    class Numbered(Number):
        code = co.StringField()

        class Meta:
            primary_key = co.CompositeKey("code", "n")

    with co.bind([Numbered], backend=backend):
        row = Numbered.create(id=1, code="a", n=1)
        row.n = 1
        row.id = 1
        row.text = "mine"
        Numbered.update(code="a", n=1, id=7).execute()
        assert row.save()
        assert (row.id, row.text) == (1, "mine")
