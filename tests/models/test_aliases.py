"""Fields that were renamed: rows that have the old name are read, and lose it by the next write of the field."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from formats import SERIALIZERS

import cacheorm as co

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "versioned": {"version": 1},
    "compressed": {"compress": co.Zstd(threshold=20)},
}

# Of the protobuf message, ``name`` and ``small`` cannot be told from empty and zero, ``email`` and ``score`` can.
OLD: dict[str, Any] = {
    "name": lambda: co.StringField(default="nobody"),
    "score": lambda: co.IntegerField(null=True, default=-1),
    "married": lambda: co.BooleanField(default=False),
}
NEW: dict[str, Any] = {
    "email": lambda: co.StringField(null=True, default="nobody", alias="name"),
    "small": lambda: co.IntegerField(default=0, alias=["points", "score"]),
    "married": lambda: co.BooleanField(default=False),
}
ROW = {"name": "Sam, " * 10, "score": 7, "married": True}


def release(fields: dict[str, Any], backend: co.BaseBackend, serializer: co.BaseSerializer, **options: Any) -> Any:
    body = {
        "id": co.IntegerField(primary_key=True),
        **{name: make() for name, make in fields.items()},
        "Meta": type("Meta", (), {"backend": backend, "serializer": serializer, **options}),
        "__qualname__": "<locals>.User",
    }
    return type(co.Model)("User", (co.Model,), body)


def values(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "id"}


def give_name(row: Any) -> None:
    row.email = "Bob"


def saved(model: Any, pk: int) -> Any:
    row = model.get(id=pk)
    give_name(row)
    assert row.save()
    return row


WRITES: dict[str, Any] = {
    "update": lambda model: [model.update(id=pk, email="Bob").execute() for pk in range(6)],
    "update_many": lambda model: model.update_many({"id": pk, "email": "Bob"} for pk in range(6)).execute(),
    "atomic": lambda model: model.update_many({"id": pk, "email": "Bob"} for pk in range(6)).atomic().execute(),
    "apply": lambda model: [model.update(id=pk).apply(give_name).execute() for pk in range(6)],
    "set_by_id": lambda model: [model.set_by_id(pk, {"email": "Bob"}) for pk in range(6)],
    "co.Update": lambda model: co.Update([(model, [{"id": pk, "email": "Bob"} for pk in range(6)])]).execute(),
    "save": lambda model: [saved(model, pk) for pk in range(6)],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_rows_with_an_old_name_are_read(backend: co.BaseBackend, chosen: str, options: dict[str, Any]) -> None:
    old, new = (release(fields, backend, SERIALIZERS[chosen], **options) for fields in (OLD, NEW))
    old.insert_many({"id": pk, **ROW} for pk in range(6)).execute()
    expected = {"email": ROW["name"], "small": 7, "married": True}
    assert values(new.get(id=0)) == expected
    assert [*map(values, new.query_many({"id": pk} for pk in range(6)).execute())] == [expected] * 6
    assert values(co.Query(new(id=1)).execute()[0]) == expected
    assert values(new.update(id=2, married=False).execute()) == expected | {"married": False}
    assert new.increment(3, "small") == 8
    assert [values(row) for row in new.get_many([2, 3]).values()] == [
        expected | {"married": False},
        expected | {"small": 8},
    ]
    # The older release still finds what was not named.
    assert (old.get(id=2).name, old.get(id=3).name) == (ROW["name"],) * 2


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_an_old_value_never_comes_back(memory: co.SimpleBackend, chosen: str, write: str) -> None:
    for options in OPTIONS.values():
        old, new = (release(fields, memory, SERIALIZERS[chosen], **options) for fields in (OLD, NEW))
        old.insert_many({"id": pk, **ROW} for pk in range(6)).execute()
        expected = {"email": "Bob", "small": 7, "married": True}
        assert [*map(values, WRITES[write](new))] == [expected] * 6
        assert [values(row) for row in new.get_many(range(6)).values()] == [expected] * 6
        assert [row.name for row in old.get_many(range(6)).values()] == [
            "" if chosen == "protobuf" else "nobody" for _ in range(6)
        ]
        # Nor does it when the new value is empty, zero or null.
        assert values(new.update(id=0, email=None, small=0).execute()) == {"email": None, "small": 0, "married": True}
        assert values(new.get(id=0)) == {"email": None, "small": 0, "married": True}
        assert old.get(id=0).score == (None if chosen == "protobuf" else -1)


def test_awaited_operations_do_the_same(backend: co.BaseBackend) -> None:
    old, new = (release(fields, backend, SERIALIZERS["msgpack"]) for fields in (OLD, NEW))

    async def use() -> None:
        await old.insert_many({"id": pk, **ROW} for pk in range(2)).aexecute()
        assert (await new.aget(id=0)).email == ROW["name"]
        await new.update(id=0, email="Bob").aexecute()
        assert [row.email for row in await new.query_many({"id": 0}, {"id": 1}).aexecute()] == ["Bob", ROW["name"]]
        await backend.aclose()

    asyncio.run(use())
    assert old.get(id=0).name == "nobody"


@pytest.mark.parametrize("chosen", ["json", "msgpack", "signed", "Reversed"])
def test_two_releases_that_know_both_names_lose_nothing(memory: co.SimpleBackend, chosen: str) -> None:
    before = release({"name": lambda: co.StringField(alias="title")}, memory, SERIALIZERS[chosen])
    after = release({"title": lambda: co.StringField(alias="name")}, memory, SERIALIZERS[chosen])
    before.create(id=1, name="0")
    for number in range(1, 9):
        if number % 3:
            after.update(id=1, title=str(number)).execute()
        else:
            before.update_many({"id": 1, "name": str(number)}).execute()
        assert (before.get(id=1).name, after.get(id=1).title) == (str(number),) * 2


PACK: dict[str, Any] = {
    "json": lambda row: json.dumps(row, separators=(",", ":")).encode(),
    "msgpack": msgpack.packb,
}


class Account(co.Model):
    id = co.IntegerField(primary_key=True)
    name: Any = co.StringField(null=True, default="nobody", alias=["nom", "título"])
    visits = co.IntegerField(default=0)
    email: Any = co.StringField(null=True, alias="mail")

    class Meta:
        name = "aliases.account"


@pytest.mark.parametrize("form", PACK)
@pytest.mark.parametrize(
    ("before", "name"),
    [
        ({"nom": "a", "título": "b"}, "a"),
        ({"título": "b", "nom": "a"}, "a"),
        ({"título": "b"}, "b"),
        ({"título": None}, None),
        ({"name": "n", "nom": "a", "título": "b"}, "n"),
        ({"nom": "a", "name": None}, None),
        ({"x": {"nom": "c"}, "y": ["nom"]}, "nobody"),
    ],
)
def test_which_name_is_read_and_what_stays_of_the_row(form: str, before: dict[str, Any], name: Any) -> None:
    with co.bind([Account], backend=co.SimpleBackend(), serializer=form):
        backend = Account._meta.backend
        row = {"newer": {"nom": 1.0}, **before, "mail": "m", "visits": 1}
        for many in (False, True):
            backend.set_many({Account.key(id=pk): PACK[form](row) for pk in range(5)}, 0)
            assert {found.name for found in Account.get_many(range(5)).values()} == {name}
            if many:
                rows = Account.update_many({"id": pk, "name": "z"} for pk in range(5)).execute()
            else:
                rows = [Account.set_by_id(pk, {"name": "z"}) for pk in range(5)]
            assert [(found.name, found.email, found.visits) for found in rows] == [("z", "m", 1)] * 5  # type: ignore[union-attr]
            kept = [key for key in row if key not in ("name", "nom", "título")]
            for pk in range(5):
                stored: Any = backend.get(Account.key(id=pk))
                unpacked = json.loads(stored) if form == "json" else msgpack.unpackb(stored)
                assert unpacked == {key: row[key] for key in kept} | {"name": "z"}
            # In the place of the old name, which keeps the order in which rows are read sooner.
            first = next((key for key in row if key in ("name", "nom", "título")), None)
            if first is not None and "name" not in before:
                expected = [
                    "name" if key == first else key for key in row if key == first or key not in ("nom", "título")
                ]
                assert list(unpacked) == expected
            Account.update(id=0, visits=2).execute()
            assert Account.get(id=0).email == "m"
            assert b"mail" in backend.get(Account.key(id=0))  # type: ignore[operator]


def test_json_names_in_other_spellings_are_known() -> None:
    with co.bind([Account], backend=co.SimpleBackend(), serializer="json"):
        backend = Account._meta.backend
        for row in (b'{ "t\\u00edtulo" : "a" , "visits": 1 }\n', b'{"\\u006eom":"a","visits":1}'):
            backend.set(Account.key(id=1), row)
            assert Account.get(id=1).name == "a"
            assert Account.update(id=1, name="b").execute().name == "b"  # type: ignore[union-attr]
            assert json.loads(backend.get(Account.key(id=1))) == {"name": "b", "visits": 1}  # type: ignore[arg-type]


@pytest.mark.parametrize("before", [co.JSONSerializer(), co.PickleSerializer(unsafe=True), SERIALIZERS["protobuf"]])
@pytest.mark.parametrize("after", SERIALIZERS)
def test_a_row_that_changes_its_serializer_has_no_old_name(
    memory: co.SimpleBackend, before: co.BaseSerializer, after: str
) -> None:
    old = release(OLD, memory, before)
    new = release(NEW, memory, SERIALIZERS[after], accepts=[before, "json"])
    old.create(id=1, **ROW)
    assert values(new.get(id=1)) == {"email": ROW["name"], "small": 7, "married": True}
    new.update(id=1, married=False).execute()
    expected = {"email": ROW["name"], "small": 7, "married": False}
    assert values(new.get(id=1)) == expected
    bare = release({name: make for name, make in NEW.items() if name != "x"}, memory, SERIALIZERS[after])
    assert values(bare.get(id=1)) == expected


def unchanged(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    return stored


def copied(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    return {**stored, "married": True}


@pytest.mark.parametrize("upgrade", [unchanged, copied])
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_row_that_is_upgraded_is_read_under_its_old_names(
    memory: co.SimpleBackend, chosen: str, upgrade: Any
) -> None:
    old = release(OLD, memory, SERIALIZERS[chosen])
    new = release(NEW, memory, SERIALIZERS[chosen], version=2, upgrade=upgrade)
    old.insert_many([{"id": 1, **ROW}, {"id": 2, **ROW, "name": "", "score": None}]).execute()
    full = {"email": ROW["name"], "small": 7, "married": True}
    assert values(new.get(id=1)) == full
    # As without an upgrade: what is not set has the unset value of the present name in a message, and none elsewhere.
    empty = values(release(NEW, memory, SERIALIZERS[chosen]).get(id=2))
    assert values(new.get(id=2)) == empty
    assert [*map(values, new.update_many([{"id": 1}, {"id": 2}]).execute())] == [full, empty]
    assert [*map(values, new.get_many([1, 2]).values())] == [full, empty]
    assert values(new.update(id=1, email="Bob").execute()) == {**full, "email": "Bob"}
    assert values(new.get(id=1)) == {**full, "email": "Bob"}


@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_name_that_an_upgrade_gives_goes_before_the_old_ones(memory: co.SimpleBackend, chosen: str) -> None:
    def rename(version: int, stored: dict[str, Any]) -> dict[str, Any]:
        stored["email"] = stored["name"].upper()
        stored["small"] = stored["score"] + 1
        return stored

    old = release(OLD, memory, SERIALIZERS[chosen])
    new = release(NEW, memory, SERIALIZERS[chosen], version=2, upgrade=rename)
    old.create(id=1, **ROW)
    expected = {"email": ROW["name"].upper(), "small": 8, "married": True}
    assert values(new.get(id=1)) == expected
    new.update(id=1).execute()
    assert values(new.get(id=1)) == expected


def test_a_foreign_key_takes_over_the_ids_of_a_plain_field(memory: co.SimpleBackend) -> None:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)

    old = release({"author_id": co.IntegerField}, memory, SERIALIZERS["json"])
    new = release({"author": lambda: co.ForeignKeyField(User, alias="author_id")}, memory, SERIALIZERS["json"])
    old.create(id=1, author_id=5)
    with co.bind([User], backend=memory):
        User.create(id=5)
        (row,) = new.query_many({"id": 1}).preload("author").execute()
        assert row.author == User(id=5)
        new.update(id=1, author=6).execute()
    assert new.get(id=1).author_id == 6
    assert memory.get(new.key(id=1)) == b'{"author":6}'


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"a": co.IntegerField(alias="b"), "b": co.IntegerField()}, "'b' is an alias of a, and the name of another"),
        ({"a": co.IntegerField(alias="id")}, "'id' is an alias of a, and the name of another field"),
        ({"a": co.IntegerField(alias="x"), "b": co.IntegerField(alias=["y", "x"])}, "a and b both have the alias 'x'"),
        ({"a": co.IntegerField(alias="a")}, r"User\.a: its alias is its own name"),
        ({"id": co.IntegerField(primary_key=True, alias="pk")}, r"User\.id: alias is for fields that are stored"),
    ],
)
def test_names_that_clash_are_refused(fields: dict[str, Any], error: str) -> None:
    body = {"id": co.IntegerField(primary_key=True), **fields, "__qualname__": "<locals>.User"}
    with pytest.raises(ValueError, match=error):
        type(co.Model)("User", (co.Model,), body)


@pytest.mark.parametrize("alias", [5, b"old", ["a", 5], None, {"a": 1}.values()])
def test_an_alias_is_a_name_or_several(alias: Any) -> None:
    with pytest.raises(TypeError, match="alias is the name of a field in stored rows"):
        co.IntegerField(alias=alias)
    with pytest.raises(ValueError, match="got an empty text"):
        co.IntegerField(alias="")
    with pytest.raises(ValueError, match="alias is for the list"):
        co.ListField(co.IntegerField(alias="old"))


def test_aliases_are_no_names_for_values() -> None:
    for use in (
        lambda: Account(id=1, mail="m"),
        lambda: Account.update(id=1, mail="m").execute(),
        lambda: Account.insert(id=1, mail="m").execute(),
        lambda: Account.from_dict({"id": 1, "mail": "m"}),
    ):
        with pytest.raises(TypeError, match=r"Account has no field 'mail'; that is an alias, under which 'email' is"):
            use()
    assert not hasattr(Account, "mail")


def test_aliases_are_inherited(memory: co.SimpleBackend) -> None:
    class Base(co.Model):
        name = co.StringField(alias="nom")

        class Meta:
            abstract = True

    class Child(Base):
        id = co.IntegerField(primary_key=True)

    class Grandchild(Child):
        more = co.IntegerField(default=0, alias="extra")

    for model in (Child, Grandchild):
        with co.bind([model], backend=memory):
            memory.set(model.key(id=1), b'{"nom":"a","extra":3}')
            assert model.get(id=1).name == "a"
    with co.bind([Grandchild], backend=memory):
        assert Grandchild.get(id=1).more == 3
