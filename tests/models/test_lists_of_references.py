"""Lists of foreign keys: they hold the related primary keys, and name models as foreign keys do."""

from __future__ import annotations

import types
import uuid
from typing import Any

import pytest

import cacheorm as co

ModelBase: Any = type(co.Model)


@pytest.fixture(params=["json", "msgpack", "pickle"])
def declared(request: pytest.FixtureRequest, backend: co.BaseBackend) -> dict[str, Any]:
    """Models that name each other, as a module declares them."""
    if request.param == "pickle":
        serializer: Any = co.PickleSerializer(secret="s" * 32)
    else:
        serializer = request.param
    names: dict[str, Any] = {"co": co, "backend": backend, "serializer": serializer, "__name__": f"{__name__}.declared"}
    exec(
        """
def make():
    class Base(co.Model):
        class Meta:
            abstract = True
        Meta.backend, Meta.serializer = backend, serializer

    class Team(Base):
        id = co.IntegerField(primary_key=True)
        members = co.ListField(co.ForeignKeyField("Person"), default=[])
        rivals = co.ListField(co.ForeignKeyField("self"), default=[])
        pairs = co.ListField(co.ListField(co.ForeignKeyField("Person", null=True)), default=[])
        visits = co.ListField(co.ForeignKeyField("Visit"), null=True)

    class Person(Base):
        id = co.UUIDField(primary_key=True)

    class Visit(Base):
        team = co.ForeignKeyField(Team)
        day = co.IntegerField()

        class Meta:
            primary_key = co.CompositeKey("team", "day")

    return locals()
""",
        names,
    )
    made: dict[str, Any] = names["make"]()
    return made


def test_they_take_instances_and_ids_and_hold_ids(declared: dict[str, Any]) -> None:
    team, person, visit = declared["Team"], declared["Person"], declared["Visit"]
    one, two = person(id=uuid.UUID(int=1)), uuid.UUID(int=2)
    first = team.create(id=1)
    stored = team.create(
        id=2,
        members=[one, two],
        rivals=[first, 1, "3"],
        pairs=[[one, None], []],
        visits=[visit(team=first, day=5), (1, 6)],
    )
    expected = {
        "id": 2,
        "members": [one.id, two],
        "rivals": [1, 1, 3],
        "pairs": [[one.id, None], []],
        "visits": [(1, 5), (1, 6)],
    }
    assert stored.to_dict() == expected
    assert team.get(id=2).to_dict() == expected
    assert [row.to_dict() for row in team.query_many([{"id": 2}]).execute()] == [expected]
    team.insert_many({"id": 3, "rivals": (stored,)}).execute()
    assert team.get(id=3).rivals == [2]
    assert team.update(id=3, rivals=[first, stored]).execute().rivals == [1, 2]


def test_what_refers_to_no_row_is_an_error(declared: dict[str, Any]) -> None:
    team, person = declared["Team"], declared["Person"]
    for members, text in (
        ([person()], "item 0: the Person it refers to has no primary key yet"),
        (["x"], "item 0: expected "),
        ([None], "item 0: expected a value, got NoneType"),
    ):
        with pytest.raises(co.ValidationError, match=text):
            team.create(id=1, members=members)


def test_a_model_that_is_not_declared_is_named(memory: co.SimpleBackend) -> None:
    class Team(co.Model):
        id = co.IntegerField(primary_key=True)
        members = co.ListField(co.ForeignKeyField("Nobody"), default=[])

        class Meta:
            backend = memory

    assert Team.create(id=1).members == []
    with pytest.raises(
        co.CacheORMError, match=r"<ForeignKeyField: Team\.members> refers to 'Nobody', and no such model"
    ):
        Team.create(id=1, members=[1])


def test_self_is_the_model_that_has_the_list(memory: co.SimpleBackend) -> None:
    shared = co.ForeignKeyField("self")

    class Base(co.Model):
        id = co.IntegerField(primary_key=True)
        others = co.ListField(shared, default=[])

        class Meta:
            abstract = True
            backend = memory

    class First(Base):
        pass

    class Second(Base):
        more = co.ListField(shared, default=[])

    class Third(Second):
        pass

    for model in (First, Second, Third):
        assert model.others.field.rel_model is model
        assert model.create(id=1, others=[model(id=5)]).others == [5]
    assert Second.more.field.rel_model is Second
    assert Third.more.field.rel_model is Third
    with pytest.raises(co.ValidationError, match="item 0: expected"):
        First.create(id=1, others=[Second(id=1)])


def test_the_field_of_a_list_knows_to_whom_it_belongs() -> None:
    class Noted(co.Field[str]):
        def belong_to(self, model: Any, name: str) -> None:
            super().belong_to(model, name)
            owners.append((model.__name__, name))

    owners: list[tuple[str, str]] = []

    class Note(co.Model):
        texts = co.ListField(co.ListField(Noted()))

    assert owners == [("Note", "texts")]
    assert repr(Note.texts.field.field) == "<Noted: Note.texts>"


def test_a_module_that_is_executed_again_is_found_by_earlier_lists() -> None:
    made = types.ModuleType("executed_again")
    vars(made)["co"] = co
    source = "class Listed(co.Model):\n    id = co.IntegerField(primary_key=True)"
    exec("class Group(co.Model):\n    members = co.ListField(co.ForeignKeyField('Listed'), default=[])", vars(made))
    group: Any = vars(made)["Group"]
    for _ in range(2):
        exec(source, vars(made))
        assert group.members.field.rel_model is vars(made)["Listed"]
