"""Primary keys as rows: query_many, delete_many and their forms over several models take plain keys."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import cacheorm as co


class Base(co.Model):
    class Meta:
        abstract = True
        namespace = "test_plain_keys"


class User(Base):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")


class Word(Base):
    text = co.StringField(primary_key=True)


class Token(Base):
    id = co.UUIDField(primary_key=True)


class Profile(Base):
    user = co.ForeignKeyField(User, primary_key=True)


class Visit(Base):
    user = co.ForeignKeyField(User)
    day = co.IntegerField()

    class Meta:
        primary_key = co.CompositeKey("user", "day")


class Document(Base):
    id = co.JSONField(primary_key=True)


class Named(Base):
    id = co.IntegerField(primary_key=True, index_formatter="named.%d")


MODELS: list[Any] = [User, Word, Token, Profile, Visit, Document, Named]
TOKEN = uuid.UUID(int=7)


@pytest.fixture
def rows(backend: co.BaseBackend) -> Iterator[None]:
    with co.bind(MODELS, backend=backend):
        User.insert_many({"id": number, "name": f"user {number}"} for number in range(5)).execute()
        Word.insert_many({"text": text} for text in ("a", "b", "ab")).execute()
        Token.create(id=TOKEN)
        Profile.create(user=1)
        Visit.insert_many({"user": 1, "day": 2}, {"user": 2, "day": 1}).execute()
        Document.create(id=[1, 2])
        Named.create(id=1)
        yield


def found(model: Any, *keys: Any) -> list[Any]:
    result = model.query_many(*keys).execute()
    assert asyncio.run(awaited(model.query_many(*keys))) == result
    assert co.Query((model, keys[0] if len(keys) == 1 else [*keys])).execute() == result
    return [None if row is None else row._pk for row in result]


async def awaited(operation: Any) -> Any:
    result = await operation
    await User._meta.backend.aclose()
    return result


def test_plain_keys_are_read_in_the_order_given(rows: None) -> None:
    assert found(User, [3, 1, 99, 3]) == [3, 1, None, 3]
    assert found(User, 3, 1) == [3, 1]
    assert found(User, 3) == [3]
    assert found(User, (3, 1)) == [3, 1]
    assert found(User, range(3)) == [0, 1, 2]
    assert found(User, ["3", {"id": 1}, User(id=2), 4]) == [3, 1, 2, 4]
    assert User.query_many(iter([1, 2])).chunk_size(1).execute() == [User(id=1), User(id=2)]
    assert found(Named, [1, 2]) == [1, None]
    assert found(Token, [TOKEN, str(TOKEN)]) == [TOKEN, TOKEN]
    assert found(Token, TOKEN) == [TOKEN]


def test_one_text_is_one_key(rows: None) -> None:
    assert found(Word, "ab") == ["ab"]
    assert found(Word, "a", "b") == ["a", "b"]
    assert found(Word, ["a", b"b"]) == ["a", "b"]


def test_keys_of_rows_that_refer_to_others(rows: None) -> None:
    sam = User.get(id=1)
    assert found(Profile, [sam, 1, Profile(user=sam), 2]) == [1, 1, 1, None]
    assert found(Profile, 1) == [1]
    assert Profile.query_many(sam).execute() == [Profile(user=1)]
    assert found(Visit, [(sam, 2), (1, 2)]) == [(1, 2), (1, 2)]


def test_composite_keys_are_tuples(rows: None) -> None:
    assert found(Visit, [(1, 2), (2, 1), (2, 2)]) == [(1, 2), (2, 1), None]
    assert found(Visit, (1, 2), [2, 1]) == [(1, 2), (2, 1)]
    assert found(Visit, (1, 2)) == [(1, 2)]
    assert found(Visit, ((1, 2), (2, 1))) == [(1, 2), (2, 1)]
    assert found(Visit, ({"user": 1, "day": 2}, (2, 1))) == [(1, 2), (2, 1)]
    for wrong, text in ((1, "got int"), ((1,), "takes 2 values, got 1"), ((1, 2, 3), "takes 2 values, got 3")):
        with pytest.raises((TypeError, ValueError), match=rf"^Visit.*{text}.* \(row 1\)$"):
            Visit.query_many([(1, 2), wrong]).execute()


def test_a_list_is_a_key_and_a_dict_is_a_row(rows: None) -> None:
    assert found(Document, [[1, 2], {"id": [1, 2]}]) == [[1, 2], [1, 2]]
    with pytest.raises(TypeError, match=r"Document: 'a' does not belong to the primary key \(id\) \(row 0\)"):
        Document.query_many({"a": 1}).execute()


def test_plain_keys_are_deleted(rows: None) -> None:
    assert User.delete_many([1, "2"]).execute()
    assert User.delete_many(3, 4).execute()
    assert not User.delete_many(0, 99).execute()
    assert User.query_many(range(5)).execute() == [None] * 5
    assert Visit.delete_many((1, 2)).execute()
    assert co.Delete((Visit, (2, 1)), (Word, "ab"), (Word, ["a", "b"]), (Profile, 1)).execute()
    assert Word.query_many("a", "b", "ab").execute() == [None] * 3
    with pytest.raises(co.ValidationError, match=r"^User\.id: expected an integer, got str \(row 2\)$"):
        co.Delete((Visit, [(1, 1)]), (User, [1, "S3CRET"])).execute()


def test_receivers_of_deletions_get_instances(rows: None) -> None:
    seen: list[Any] = []

    def receive(sender: Any, instance: Any) -> None:
        seen.append(instance)

    with co.signals.pre_delete.connected_to(receive, User):
        User.delete_many([1, User(id=2), {"id": 3}]).execute()
    assert seen == [User(id=1), User(id=2), User(id=3)]


def test_other_modifiers_go_with_plain_keys(rows: None) -> None:
    (row,) = Visit.query_many([(1, 2)]).preload("user").execute()
    assert row is not None
    assert row.user.name == "user 1"
    loaded = User.query_many([1, 77]).load_missing(lambda pks: [{"id": pk, "name": "new"} for pk in pks]).execute()
    assert [user and user.name for user in loaded] == ["user 1", "new"]
    with pytest.raises(co.ValidationError, match=r"User\.id: .*\(row 3\)"):
        User.query_many([1, 2, 3, "x"]).load_missing(dict).chunk_size(2).execute()


def test_updates_and_inserts_take_no_plain_keys(rows: None) -> None:
    for form in (User.insert_many, User.update_many):
        for given in ((5,), ([{"id": 1}, 5][1:],), ("ab",)):
            with pytest.raises(TypeError, match=r"^User: a row is a dict or an instance of User, got \w+ \(row 0\)$"):
                form(*given).execute()


def test_a_failed_deletion_names_the_rows(rows: None) -> None:
    class Broken(co.SimpleBackend):
        def delete_many(self, *keys: str) -> bool:
            raise co.BackendError("delete_many is broken")

    with co.bind([Named], backend=Broken()), pytest.raises(co.WriteError) as caught:
        co.Delete((User, [1, 2]), (Named, [1])).execute()
    assert [row.key for row in caught.value.failed] == ["named.1"]
