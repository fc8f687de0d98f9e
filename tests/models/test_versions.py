"""``Meta.upgrade`` turns rows of older versions into today's, and ``version_in_key`` keeps versions apart."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from formats import SERIALIZERS, UNKNOWN

import cacheorm as co
from cacheorm.payload import identify

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import user_pb2

LONG = "long " * 100


def release(version: int | None, backend: co.BaseBackend, serializer: Any, **options: Any) -> Any:
    """Return a release of a model: one text in the first version, and in the later ones its length too."""
    fields: dict[str, Any] = {"name": co.StringField(default="")}
    if version in (None, 1):
        fields["score"] = co.IntegerField(null=True)
    else:
        fields |= {"small": co.IntegerField(), "email": co.StringField(null=True)}
    body = {
        "id": co.IntegerField(primary_key=True),
        **fields,
        "Meta": type("Meta", (), {"backend": backend, "serializer": serializer, "version": version, **options}),
        "__qualname__": "<locals>.User",
    }
    return type(co.Model)("User", (co.Model,), body)


def measure(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    """Upgrade a row of the first version."""
    assert version == 1
    stored["small"] = len(stored["name"])
    stored["email"] = f"{stored.pop('score')}@example.org"
    return stored


def values(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.to_dict().items() if name != "id"}


def shorten(row: Any) -> None:
    row.name = "short"


def saved(model: Any, pk: int) -> Any:
    row = model.get(id=pk)
    shorten(row)
    assert row.save()
    return row


WRITES: dict[str, Any] = {
    "update": lambda model: [model.update(id=pk, name="short").execute() for pk in range(6)],
    "update_many": lambda model: model.update_many({"id": pk, "name": "short"} for pk in range(6)).execute(),
    "atomic": lambda model: model.update_many({"id": pk, "name": "short"} for pk in range(6)).atomic().execute(),
    "apply": lambda model: [model.update(id=pk).apply(shorten).execute() for pk in range(6)],
    "co.Update": lambda model: co.Update([(model, [{"id": pk, "name": "short"} for pk in range(6)])]).execute(),
    "save": lambda model: [saved(model, pk) for pk in range(6)],
}


@pytest.mark.parametrize("options", [{}, {"compress": co.Zstd(threshold=20)}], ids=str)
@pytest.mark.parametrize("first", [None, 1])
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_rows_of_an_older_version_are_upgraded_as_they_are_read(
    backend: co.BaseBackend, chosen: str, first: int | None, options: dict[str, Any]
) -> None:
    old = release(first, backend, SERIALIZERS[chosen], **options)
    new = release(2, backend, SERIALIZERS[chosen], upgrade=measure, **options)
    old.insert_many({"id": pk, "name": LONG, "score": pk} for pk in range(6)).execute()
    new.create(id=6, name="new", small=1)
    before = backend.get(old.key(id=0))
    expected = [{"name": LONG, "small": len(LONG), "email": f"{pk}@example.org"} for pk in range(6)]
    assert [values(new.get(id=pk)) for pk in range(6)] == expected
    rows = new.query_many({"id": pk} for pk in range(8)).execute()
    assert [row and values(row) for row in rows] == [*expected, {"name": "new", "small": 1, "email": None}, None]
    assert [values(row) for row in co.Query((new, [{"id": pk} for pk in range(6)])).execute()] == expected
    # Reading writes nothing: the older release still reads its rows.
    assert backend.get(old.key(id=0)) == before
    assert old.get(id=3).score == 3
    with pytest.raises(co.PayloadError, match="is a row of version 2, and the model is at version 1"):
        old.get(id=6)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_partial_write_stores_the_whole_row_in_the_version_of_today(
    memory: co.SimpleBackend, chosen: str, write: str
) -> None:
    serializer = SERIALIZERS[chosen]
    for options in ({}, {"compress": co.Zstd(threshold=20)}):
        old = release(1, memory, serializer, **options)
        new = release(2, memory, serializer, upgrade=measure, **options)
        old.insert_many({"id": pk, "name": LONG, "score": pk} for pk in range(6)).execute()
        expected = [{"name": "short", "small": len(LONG), "email": f"{pk}@example.org"} for pk in range(6)]
        assert [*map(values, WRITES[write](new))] == expected
        # Without `upgrade`, so that nothing but rows of today can be read.
        plain = release(2, memory, serializer, **options)
        assert [values(row) for row in plain.get_many(range(6)).values()] == expected
        assert identify(memory.get(new.key(id=1)))[0].version == 2  # type: ignore[union-attr,arg-type]


def test_fields_that_nobody_knows_survive(memory: co.SimpleBackend) -> None:
    for chosen in ("json", "msgpack", "signed", "Reversed"):
        old, new = (
            release(version, memory, SERIALIZERS[chosen], upgrade=upgrade)
            for version, upgrade in ((1, None), (2, measure))
        )

        class Wider(old):  # type: ignore[misc]
            other = co.StringField()

            class Meta:
                name = "user"

        Wider.create(id=1, name="a", score=1, other="kept")
        new.update(id=1, name="b").execute()

        class Newer(new):  # type: ignore[misc]
            other = co.StringField()

            class Meta:
                name = "user"

        assert values(Newer.get(id=1)) == {"name": "b", "small": 1, "email": "1@example.org", "other": "kept"}
    serializer = SERIALIZERS["protobuf"]
    old, new = (release(version, memory, serializer, upgrade=upgrade) for version, upgrade in ((1, None), (2, measure)))
    old.create(id=2, name="a", score=1)
    payload: Any = memory.get(old.key(id=2))
    memory.set(old.key(id=2), payload + UNKNOWN)
    new.update(id=2, small=5).execute()
    payload = memory.get(old.key(id=2))
    assert payload.endswith(UNKNOWN)
    assert values(new.get(id=2)) == {"name": "a", "small": 5, "email": "1@example.org"}
    _, start = identify(payload)
    assert not user_pb2.User.FromString(payload[start:]).HasField("score")


def test_an_upgrade_of_a_message_gets_the_fields_that_are_set(memory: co.SimpleBackend) -> None:
    given: list[dict[str, Any]] = []

    def fill(version: int, stored: dict[str, Any]) -> dict[str, Any]:
        given.append(copy.deepcopy(stored))
        stored.setdefault("score", 5)
        stored["tags"].append("added")
        return stored

    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(default="nobody")
        email = co.StringField(null=True, default="nobody")
        score = co.IntegerField(null=True)

        class Meta:
            backend = memory
            serializer = SERIALIZERS["protobuf"]
            version = 2
            upgrade = fill

    release(1, memory, SERIALIZERS["protobuf"]).create(id=1, name="a")
    expected = {"name": "a", "email": None, "score": 5}
    assert values(User.get(id=1)) == expected
    # Those without presence may be zero as well as not set.
    unset = {"name": "a", "height": 0.0, "married": False, "tags": [], "counts": {}, "others": [], "photo": b""}
    assert given == [{**unset, "weight": 0.0, "level": 0, "small": 0}]
    User.update(id=1).execute()
    assert values(User.get(id=1)) == expected
    payload: Any = memory.get(User.key(id=1))
    message = user_pb2.User.FromString(payload[identify(payload)[1] :])
    assert message == user_pb2.User(name="a", score=5, tags=["added"])


def appended(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    """Change a row in place."""
    stored["tags"].append("added")
    stored["counts"]["added"] = 1
    return stored


def test_an_update_keeps_unknown_fields_of_nested_messages(memory: co.SimpleBackend) -> None:
    # An address with a field number that it does not declare, once as `address` and once among the `others`.
    address = user_pb2.Address(city="Bern").SerializeToString() + UNKNOWN
    nested = bytes([0x42, len(address)]) + address + bytes([0x4A, len(address)]) + address
    old = release(1, memory, SERIALIZERS["protobuf"])
    for upgrade in (appended, lambda version, stored: {**stored, "tags": ["added"], "counts": {"added": 1}}):
        new = release(2, memory, SERIALIZERS["protobuf"], upgrade=upgrade)
        old.create(id=1, name="a", score=1)
        payload: Any = memory.get(old.key(id=1))
        memory.set(old.key(id=1), payload + nested + UNKNOWN)
        for change in ({"small": 5}, {}):
            new.update(id=1, **change).execute()
            payload = memory.get(old.key(id=1))
            body = payload[identify(payload)[1] :]
            assert nested in body
            assert body.endswith(UNKNOWN)
            message = user_pb2.User.FromString(body)
            assert (message.name, message.score, message.small) == ("a", 1, 5)
            assert (message.tags, dict(message.counts)) == (["added"], {"added": 1})


def test_upgrade_and_a_change_of_the_serializer_and_an_alias(memory: co.SimpleBackend) -> None:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        title = co.StringField(alias="name")
        small = co.IntegerField()

        class Meta:
            backend = memory
            serializer = "msgpack"
            accepts = (SERIALIZERS["Reversed"],)
            version = 2

            @staticmethod
            def upgrade(version: int, stored: dict[str, Any]) -> dict[str, Any]:
                return {**measure(version, stored), "x": 1}

    old = release(None, memory, SERIALIZERS["Reversed"])
    old.create(id=1, name="abc")
    assert values(User.get(id=1)) == {"title": "abc", "small": 3}
    User.update(id=1, small=4).execute()
    row = b"\x84\xa5title\xa3abc\xa5small\x04\xa5email\xb0None@example.org\xa1x\x01"
    assert memory.get(User.key(id=1)).endswith(row)  # type: ignore[union-attr]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("upgrade", "reason", "cause"),
    [
        (lambda version, stored: stored["secret name"], "for which Meta.upgrade raised KeyError", KeyError),
        (lambda version, stored: None, "for which Meta.upgrade gave NoneType; it has to return the row", None),
        (lambda version, stored: [stored], "for which Meta.upgrade gave list", None),
        (lambda stored: stored, "for which Meta.upgrade raised TypeError", TypeError),
        (lambda version, stored: {**stored, "small": "many"}, r"User\.small: ", ValueError),
        (lambda version, stored: {}, r"User\.small: has no value, and the field no default", None),
    ],
)
def test_an_upgrade_that_fails(memory: co.SimpleBackend, upgrade: Any, reason: str, cause: Any, many: bool) -> None:
    release(1, memory, "json").create(id=1, name="a")
    model = release(2, memory, "json", upgrade=upgrade)
    lenient = release(2, memory, "json", upgrade=upgrade, on_invalid="miss")
    read, write = (
        (
            lambda model: model.query_many([{"id": 1}]).execute()[0],
            lambda model: model.update_many([{"id": 1, "name": "b"}]).execute()[0],
        )
        if many
        else (lambda model: model.query(id=1).execute(), lambda model: model.update(id=1, name="b").execute())
    )
    for use in (read, write):
        with pytest.raises(co.PayloadError, match=reason) as caught:
            use(model)
        assert (caught.value.model, caught.value.key) == ("User", "m:user:id:1")
        assert "secret" not in str(caught.value)
        assert cause is None or isinstance(caught.value.__cause__, cause)
        assert use(lenient) is None
    assert memory.get(model.key(id=1)) == b"\xc1\x01\x04\x04json\x00\x00\x00\x01" + b'{"name":"a","score":null}'


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_a_row_that_an_upgrade_makes_unfit_to_be_stored(memory: co.SimpleBackend, chosen: str, many: bool) -> None:
    def spoil(version: int, stored: dict[str, Any]) -> dict[str, Any]:
        if stored["name"] == "bad":
            # A message has no such field, and no other format holds such a value.
            stored["x"] = lambda: None
        stored["small"] = 1
        return stored

    old = release(1, memory, SERIALIZERS[chosen])
    old.insert_many({"id": pk, "name": "bad" if pk % 2 else "good", "score": pk} for pk in range(6)).execute()
    before = {pk: memory.get(old.key(id=pk)) for pk in range(6)}
    model = release(2, memory, SERIALIZERS[chosen], upgrade=spoil)
    assert model.get(id=1).name == "bad"

    def update(pks: Any) -> Any:
        if many:
            return model.update_many({"id": pk, "email": "new"} for pk in pks)
        return model.update(id=pks[0], email="new")

    with pytest.raises(co.PayloadError) as caught:
        update(range(6) if many else [1]).execute()
    assert [row.key for row in caught.value.failed] == [model.key(id=pk) for pk in ((1, 3, 5) if many else (1,))]
    assert all("User.x: the " in row.reason for row in caught.value.failed)
    assert "Meta.upgrade gave what cannot be stored: " in str(caught.value)
    assert caught.value.__cause__ is not None
    assert {pk: memory.get(old.key(id=pk)) for pk in range(6)} == before
    if many:
        rows = update(range(6)).on_invalid("miss").execute()
        assert [row and row.email for row in rows] == ["new", None] * 3
    else:
        assert update([1]).on_invalid("miss").execute() is None
        assert update([1]).atomic().on_invalid("miss").execute() is None
    assert memory.get(old.key(id=1)) == before[1]


def test_what_the_caller_gives_is_not_blamed_on_an_upgrade(memory: co.SimpleBackend) -> None:
    class Anything(co.Field[Any]):
        pass

    for version, upgrade in ((1, None), (2, lambda version, stored: stored)):
        meta = {"backend": memory, "serializer": SERIALIZERS["Reversed"], "version": version, "upgrade": upgrade}

        class User(co.Model):
            id = co.IntegerField(primary_key=True)
            any = Anything(null=True)
            Meta = type("Meta", (), meta)

        if version == 1:
            User.create(id=1)
    with pytest.raises(TypeError, match=r"^User\.any: the Reversed serializer cannot hold it: .*\(key m:user:id:1\)"):
        User.update(id=1, any=object()).execute()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("chosen", ["json", "msgpack", "Reversed", "protobuf"])
def test_bytes_that_are_no_row_are_of_no_version(
    memory: co.SimpleBackend, chosen: str, version: int, many: bool
) -> None:
    serializer = SERIALIZERS[chosen]
    for upgrade in (None, measure):
        model = release(version, memory, serializer, upgrade=upgrade)
        uses: list[Any] = [
            lambda model=model: model.query_many([{"id": 1}] * 9 if many else [{"id": 1}]).execute(),
            lambda model=model: model.update_many([{"id": 1, "name": "a"}]).execute(),
            lambda model=model: model.update(id=1, name="a").execute(),
            lambda model=model: model.get(id=1),
        ]
        for garbage in (b"broken", b"", b"\xff\xff"):
            if chosen == "protobuf" and not garbage:
                continue  # an empty message
            memory.set(model.key(id=1), garbage)
            for use in uses:
                with pytest.raises(co.PayloadError, match=r"^User: (cannot be decoded|expected a map of fields)"):
                    use()
    if version != 1:
        # A row of the first release, which had neither headers nor versions.
        memory.set(model.key(id=1), serializer.dumps({"name": "a"}))
        with pytest.raises(co.PayloadError, match=f"is a row of version 1, and the model is at version {version}"):
            release(version, memory, serializer).get(id=1)


def test_upgrade_is_called_once_per_row_of_an_older_version_and_inherited(memory: co.SimpleBackend) -> None:
    calls: list[int] = []

    class Base(co.Model):
        id = co.IntegerField(primary_key=True)
        steps = co.ListField(co.IntegerField(), default=[])

        class Meta:
            abstract = True
            backend = memory
            name = "steps"

            def upgrade(version: int, stored: dict[str, Any]) -> dict[str, Any]:
                calls.append(version)
                for number in range(version, 4):
                    stored["steps"] = [*stored["steps"], number]
                return stored

    class Steps(Base):
        class Meta:
            name = "steps"
            version = 4

    for number in (0, 1, 2, 3, 4):

        class Earlier(Base):
            class Meta:
                name = "steps"
                version = number

        Earlier.create(id=number)
    found = Steps.query_many([{"id": pk} for pk in range(6)]).execute()
    assert [row and row.steps for row in found] == [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3], [], None]
    assert calls == [0, 1, 2, 3]

    class Off(Steps):
        class Meta:
            name = "steps"
            upgrade = None

    with pytest.raises(co.PayloadError, match="is a row of version 3"):
        Off.get(id=3)


async def never(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    return stored


def test_what_is_no_upgrade_is_refused(memory: co.SimpleBackend) -> None:
    for given, text in ((5, "got int"), (never, "got a coroutine function")):
        with pytest.raises(TypeError, match=rf"^User\.Meta\.upgrade: expected a function .*{text}"):
            release(2, memory, "json", upgrade=given)
    with pytest.raises(ValueError, match=r"^User\.Meta\.upgrade needs the version of the model: set Meta\.version too"):
        release(None, memory, "json", upgrade=measure)
    with pytest.raises(ValueError, match=r"^User\.Meta\.version_in_key needs the version of the model"):
        release(None, memory, "json", version_in_key=True)
    with pytest.raises(TypeError, match=r"^User\.Meta\.version_in_key: expected True or False, got int"):
        release(2, memory, "json", version_in_key=1)


# -- versions side by side -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_two_releases_have_each_their_own_rows(backend: co.BaseBackend, chosen: str) -> None:
    old, new = (release(version, backend, SERIALIZERS[chosen], version_in_key=True) for version in (1, 2))
    assert (old.key(id=1), new.key(id=1)) == ("m:user:@1:id:1", "m:user:@2:id:1")
    assert co.CacheBuilder(new, row={"id": 1}).build_key() == "m:user:@2:id:1"
    old.insert_many({"id": pk, "name": "old", "score": pk} for pk in range(4)).execute()
    assert new.query_many({"id": pk} for pk in range(4)).execute() == [None] * 4
    new.insert_many({"id": pk, "name": "new", "small": pk} for pk in range(4)).execute()
    old.update(id=1, name="older").execute()
    assert new.increment(1, "small") == 2
    assert new.delete(id=2).execute()
    assert [row.name for row in old.get_many(range(4)).values()] == ["old", "older", "old", "old"]
    assert [(pk, row.name, row.small) for pk, row in new.get_many(range(4)).items()] == [
        (0, "new", 0),
        (1, "new", 2),
        (3, "new", 3),
    ]


def test_keys_of_versions_are_keys_of_nothing_else(memory: co.SimpleBackend) -> None:
    class Plain(co.Model):
        v2 = co.StringField(primary_key=True)

        class Meta:
            name = "user"
            backend = memory

    class Marked(co.Model):
        id = co.StringField(primary_key=True)

        class Meta:
            name = "user:@2"
            backend = memory

    new = release(2, memory, "json", version_in_key=True)
    assert Plain.key(v2="@2:id:1") == "m:user:v2:@2%3Aid%3A1"
    assert Marked.key(id="1") == "m:user%3A@2:id:1"
    assert new.key(id=1) == "m:user:@2:id:1"
    spaced = release(2, memory, "json", version_in_key=True, namespace="shop")
    assert spaced.key(id=1) == "shop:m:user:@2:id:1"
    long = type(co.Model)(
        "Long",
        (co.Model,),
        {
            "__qualname__": "<locals>.Long",
            "id": co.StringField(primary_key=True),
            "Meta": type("Meta", (), {"version": 2, "version_in_key": True}),
        },
    )
    assert len(long.key(id="x" * 300)) == 250  # type: ignore[attr-defined]


@pytest.mark.parametrize("formatter", ["user/%d", lambda pk: f"user/{pk}"])
def test_formatters_of_keys_get_the_version_before_their_keys(memory: co.SimpleBackend, formatter: Any) -> None:
    models = [
        type(co.Model)(
            "User",
            (co.Model,),
            {
                "__qualname__": "<locals>.User",
                "id": co.IntegerField(primary_key=True, index_formatter=formatter),
                "name": co.StringField(default=""),
                "Meta": type("Meta", (), {"version": version, "version_in_key": in_key, "backend": memory}),
            },
        )
        for version, in_key in ((1, True), (2, True), (2, False))
    ]
    assert [model.key(id=7) for model in models] == ["@1:user/7", "@2:user/7", "user/7"]  # type: ignore[attr-defined]
    for number, model in enumerate(models):
        model.insert_many([{"id": pk, "name": str(number)} for pk in range(3)]).execute()  # type: ignore[attr-defined]
    assert [model.get(id=1).name for model in models] == ["0", "1", "2"]  # type: ignore[attr-defined]
    composite: Any = type(co.Model)(
        "Pair",
        (co.Model,),
        {
            "__qualname__": "<locals>.Pair",
            "a": co.IntegerField(),
            "b": co.IntegerField(),
            "Meta": type(
                "Meta",
                (),
                {
                    "primary_key": co.CompositeKey("a", "b", index_formatter="%d/%d"),
                    "version": 3,
                    "version_in_key": True,
                },
            ),
        },
    )
    assert composite.key(a=1, b=2) == "@3:1/2"


def test_foreign_keys_lead_to_the_rows_of_their_version(memory: co.SimpleBackend) -> None:
    old, new = (release(version, memory, "json", version_in_key=True) for version in (1, 2))

    class Note(co.Model):
        id = co.IntegerField(primary_key=True)
        user = co.ForeignKeyField(new)

        class Meta:
            backend = memory

    old.create(id=1, name="old")
    note = Note.create(id=1, user=1)
    with pytest.raises(new.DoesNotExist):
        _ = note.user
    new.create(id=1, name="new", small=1)
    assert Note.get(id=1).user.name == "new"  # type: ignore[attr-defined]
    assert Note.query_many([{"id": 1}]).preload("user").execute()[0].user.name == "new"  # type: ignore[union-attr,attr-defined]
    with pytest.raises(co.ValidationError, match=r"Note\.user: expected a User .*, got an instance of another User"):
        Note.create(id=2, user=old.get(id=1))
    other = co.SimpleBackend()
    with co.bind([new], backend=other):
        assert new.get_or_none(id=1) is None
        new.create(id=1, small=1)
        assert other.get("m:user:@2:id:1")


class Side(co.Model):
    id = co.IntegerField(primary_key=True)

    class Meta:
        name = "versions.side"
        version = 1
        version_in_key = True


class OtherSide(co.Model):
    id = co.IntegerField(primary_key=True)

    class Meta:
        name = "versions.side"
        version = 2
        version_in_key = True


class Formatted(co.Model):
    id = co.IntegerField(primary_key=True, index_formatter="formatted/%d")

    class Meta:
        abstract = True
        version_in_key = True


class FormattedOne(Formatted):
    class Meta:
        version = 1


class FormattedTwo(Formatted):
    class Meta:
        version = 2


def test_models_of_different_versions_may_inherit_one_formatter() -> None:
    assert (FormattedOne.key(id=1), FormattedTwo.key(id=1)) == ("@1:formatted/1", "@2:formatted/1")
    with co.bind([FormattedOne, FormattedTwo], backend=co.SimpleBackend()):
        assert FormattedOne.create(id=1)
        assert FormattedTwo.get_or_none(id=1) is None


def test_two_models_of_one_name_and_different_versions_are_no_clash() -> None:
    assert (Side.key(id=1), OtherSide.key(id=1)) == ("m:versions.side:@1:id:1", "m:versions.side:@2:id:1")


def reads_by_turns(models: list[Any], reads: int, awaited: bool) -> Counter[int]:
    """Read one row with models by turns, as two releases do behind a load balancer; return the loads of each."""
    loads: Counter[int] = Counter()

    def load(number: int) -> Any:
        def loader(pks: list[Any]) -> list[dict[str, Any]]:
            loads[number] += 1
            return [{"id": pk, "name": "a"} | ({"small": 1} if number else {}) for pk in pks]

        return loader

    async def use() -> None:
        for turn in range(reads):
            number = turn % 2
            query = models[number].query_many([{"id": 1}]).load_missing(load(number))
            (row,) = (await query.aexecute()) if awaited else query.execute()
            assert row.name == "a"

    asyncio.run(use())
    return loads


@pytest.mark.parametrize("awaited", [False, True])
def test_readers_of_two_versions_by_turns_load_a_row_once_each(awaited: bool) -> None:
    def loads(first: dict[str, Any], second: dict[str, Any]) -> Counter[int]:
        memory = co.SimpleBackend()
        models = [release(version, memory, "json", **options) for version, options in ((1, first), (2, second))]
        return reads_by_turns(models, 100, awaited)

    assert loads({"version_in_key": True}, {"version_in_key": True}) == {0: 1, 1: 1}
    # Under one key, the one's row is a miss for the other.
    assert loads({"on_invalid": "miss"}, {"on_invalid": "miss"}) == {0: 50, 1: 50}
    # Reading an upgraded row writes nothing.
    assert loads({"on_invalid": "miss"}, {"on_invalid": "miss", "upgrade": measure}) == {0: 1}
