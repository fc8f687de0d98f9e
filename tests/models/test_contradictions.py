"""Rows that name a reference, or their primary key, twice: the same value is fine, and two values are an error."""

from __future__ import annotations

import asyncio
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest

import cacheorm as co

MEMORY = co.SimpleBackend()


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")

    class Meta:
        backend = MEMORY
        namespace = "test_contradictions"


class Article(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(User)
    editor = co.ForeignKeyField(User, null=True)

    class Meta:
        backend = MEMORY
        namespace = "test_contradictions"


class Profile(co.Model):
    user = co.ForeignKeyField(User, primary_key=True)
    text = co.StringField(default="")

    class Meta:
        backend = MEMORY
        namespace = "test_contradictions"


class Visit(co.Model):
    user = co.ForeignKeyField(User)
    day = co.IntegerField()
    note = co.StringField(default="")

    class Meta:
        backend = MEMORY
        namespace = "test_contradictions"
        primary_key = co.CompositeKey("user", "day")


class Strict(Article):
    __slots__ = ()

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


@pytest.fixture(params=["json", "msgpack", "pickle"])
def models(request: pytest.FixtureRequest) -> Iterator[None]:
    memory = co.SimpleBackend()
    with co.bind([User, Article, Profile, Visit, Strict], backend=memory, serializer=request.param):
        Article.create(id=1, author=9)
        Profile.create(user=1)
        Visit.create(user=1, day=1)
        yield


TWICE = {"id": 1, "author": 1, "author_id": 2}
SAM = User(id=1)

WRITES: list[Any] = [
    lambda row: Article.create(**row),
    lambda row: Article(**row),
    Article.from_dict,
    lambda row: Article.insert(**row).execute(),
    lambda row: Article.update(**row).execute(),
    lambda row: Article.get_or_create(**{**row, "id": 77}),
    lambda row: Article.set_by_id(1, {**row}),
    lambda row: asyncio.run(Article.acreate(**row)),
    lambda row: Strict(**row),
    lambda row: Strict.insert(**row).execute(),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("values", [(1, 2), (SAM, 2), ("S3CRET", 1), (None, 1), (1, None), (User(), 1)])
def test_a_reference_with_two_values_is_an_error(models: None, write: Any, values: Any) -> None:
    for names in (("author", "author_id"), ("author_id", "author")):
        with pytest.raises(
            co.ValidationError, match=r"^(Article|Strict)\.author: author and author_id contradict each other$"
        ):
            write({"id": 1, **dict(zip(names, values, strict=True))})
    assert Article.get(id=1).author_id == 9  # type: ignore[attr-defined]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("values", [(1, 1), (SAM, 1), ("1", 1), (SAM, SAM), (SAM, "1"), (User(id="1"), 1)])
def test_a_reference_with_the_same_value_twice_is_fine(models: None, write: Any, values: Any) -> None:
    for names in (("author", "author_id"), ("author_id", "author")):
        found = write({"id": 1, **dict(zip(names, values, strict=True))})
        row = found[0] if isinstance(found, tuple) else found
        assert str(row.author_id) == "1"


@pytest.mark.parametrize("form", [Article.insert_many, Article.update_many, Strict.insert_many])
@pytest.mark.parametrize("kind", [dict, UserDict])
def test_one_such_row_among_many_says_which_it_is(models: None, form: Any, kind: Any) -> None:
    rows: list[Any] = [{"id": number, "author_id": 3} for number in range(20)]
    rows[13] = kind({**rows[13], "author": 4})
    with pytest.raises(
        co.ValidationError, match=r"\.author: author and author_id contradict each other( \(row 13\))?$"
    ):
        form(rows).execute()
    assert Article.get(id=1).author_id == 9  # type: ignore[attr-defined]
    assert not Article.exists(id=2)


def test_both_references_of_a_row_are_reported(models: None) -> None:
    with pytest.raises(
        co.ValidationError, match=r"author and author_id contra.*editor and editor_id contradict.*\(row 2\)"
    ):
        Article.insert_many(
            {"id": 5, "author": 1},
            {"id": 6, "author": 1, "editor": 2},
            {**TWICE, "editor": 1, "editor_id": 2},
        ).execute()


def test_rows_of_several_models_say_their_place_in_the_call(models: None) -> None:
    for operation in (co.Insert, co.Update):
        with pytest.raises(co.ValidationError, match=r"^Article\.author: .*\(row 2\)$"):
            operation(SAM, (Article, [{"id": 5, "author": 1}, TWICE])).execute()
        with pytest.raises(TypeError, match=r"^Article: a row is a dict or an instance of Article, got int \(row 2\)$"):
            operation(SAM, (Article, [{"id": 5, "author": 1}, 5])).execute()
        with pytest.raises(TypeError, match=r"^Article has no field 'athor'; .* \(row 1\)$"):
            operation(SAM, (Article, {"athor": 1})).execute()


@pytest.mark.parametrize(
    ("model", "right", "wrong"),
    [
        (Profile, {"user": SAM, "user_id": "1"}, {"user": 1, "user_id": 2}),
        (Visit, {"user_id": 1, "day": 1, "user": "1"}, {"user_id": 2, "day": 1, "user": 1}),
    ],
)
def test_keys_under_two_names_have_to_agree(models: None, model: Any, right: Any, wrong: Any) -> None:
    calls: list[Any] = [
        lambda row: model.query(**row).execute(),
        lambda row: model.get(**row),
        lambda row: model.get_or_none(**row),
        lambda row: model.query_many(row).execute()[0],
        lambda row: co.Query((model, row)).execute()[0],
        lambda row: model.exists(**row),
        lambda row: model.key(**row),
        lambda row: model.update(**row).execute(),
        lambda row: model.get_or_create(**row)[0],
        lambda row: model.delete_many([row]).execute(),
        lambda row: model.delete(**row).execute() is False,
    ]
    for call in calls:
        with pytest.raises(
            co.ValidationError, match=rf"^{model.__name__}\.user: user and user_id contradict each other"
        ):
            call(wrong)
        assert call(right)


def test_the_key_in_the_values_of_set_by_id_has_to_be_the_key(models: None) -> None:
    User.create(id=1, name="Sam")
    assert User.set_by_id(1, {"id": 1, "name": "a"}).name == "a"
    assert User.set_by_id("1", {"id": 1, "name": "b"}).name == "b"
    assert Profile.set_by_id(SAM, {"user_id": 1, "text": "x"}).text == "x"
    assert Visit.set_by_id((1, 1), {"day": "1", "user": SAM, "note": "x"}).note == "x"
    wrong: list[tuple[Any, Any, Any]] = [
        (User, 1, {"id": 2}),
        (User, 1, {"id": None}),
        (User, 1, {"id": "S3CRET"}),
        (Profile, 1, {"user": 2}),
        (Profile, 1, {"user_id": User(id=2)}),
        (Visit, (1, 1), {"day": 2}),
        (Visit, (1, 1), {"user_id": 2}),
    ]
    for model, pk, values in wrong:
        (name,) = values
        with pytest.raises(
            co.ValidationError, match=rf"^{model.__name__}\.\w+: {name} in the values contradicts the primary key"
        ):
            model.set_by_id(pk, {**values})
        with pytest.raises(co.ValidationError, match="contradicts the primary key"):
            asyncio.run(model.aset_by_id(pk, {**values}))
    assert User.get(id=1).name == "b"


def test_a_default_gives_way_to_a_value_under_the_other_name(models: None) -> None:
    row, created = Article.get_or_create(id=50, author=1, defaults={"author_id": 2})
    assert created
    assert row.author_id == 1  # type: ignore[attr-defined]


def test_a_default_that_contradicts_the_key_is_refused(models: None) -> None:
    wrong: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
        (User, {"id": 50}, {"id": 51}),
        (User, {"id": 50}, {"id": "S3CRET"}),
        (Profile, {"user": 50}, {"user_id": 51}),
        (Profile, {"user_id": 50}, {"user": User(id=51)}),
        (Visit, {"user": 50, "day": 1}, {"day": 2}),
    ]
    for model, key, defaults in wrong:
        (name,) = defaults
        problem = rf"^{model.__name__}\.\w+: {name} in the defaults contradicts the primary key that is given"
        with pytest.raises(co.ValidationError, match=problem):
            model.get_or_create(defaults, **key)
        with pytest.raises(co.ValidationError, match=problem):
            asyncio.run(model.aget_or_create(defaults=defaults, **key))
        assert not model.exists(**key)
    assert Profile.get_or_create({"user": "50"}, user_id=50)[1] is True
    assert User.get_or_create({"id": 50, "name": "a"}, id="50")[0].name == "a"


@pytest.mark.parametrize("values", [7, "id", ["id"], ()])
def test_values_that_are_no_dict_are_a_type_error(models: None, values: Any) -> None:
    got = type(values).__name__
    text = f"^User.get_or_create: defaults is a dict of values by field name, got {got}$"
    with pytest.raises(TypeError, match=text):
        User.get_or_create(values, id=5)
    with pytest.raises(TypeError, match=text):
        asyncio.run(User.aget_or_create(id=5, defaults=values))
    for wrong in (values, None):
        text = f"^User.set_by_id: values is a dict of values by field name, got {type(wrong).__name__}$"
        with pytest.raises(TypeError, match=text):
            User.set_by_id(1, wrong)  # type: ignore[arg-type]
