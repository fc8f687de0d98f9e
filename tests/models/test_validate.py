"""instance.validate(): the errors of a write, without a write, and with the instance as it was."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import cacheorm as co
from tests.protos import user_pb2


def short(value: str) -> None:
    if len(value) > 5:
        raise ValueError("too long")


class Shouted(co.StringField[str]):
    """Stores another form than it is given, as a field that hashes does."""

    def cache_value(self, value: Any) -> Any:
        return f"{value}!"


def user_model(serializer: Any = "msgpack", backend: Any = None) -> Any:
    numbers = itertools.count(1)

    class User(co.Model):
        id = co.IntegerField(primary_key=True, default=lambda: next(numbers))
        name = co.StringField(validators=[short])
        age = co.IntegerField(default=18)
        tags = co.ListField(co.IntegerField(), default=[])
        secret = Shouted(default="")
        friend = co.ForeignKeyField("self", null=True)

    co.bind([User], backend=backend or co.SimpleBackend(), serializer=serializer)
    return User


@pytest.fixture(params=["json", "msgpack", "pickle"])
def user(request: pytest.FixtureRequest) -> Any:
    return user_model(request.param)


def state(instance: Any) -> Any:
    absent = object()
    fields = type(instance)._meta.fields
    values = {name: field.peek(instance, absent) for name, field in fields.items()}
    return {name: value for name, value in values.items() if value is not absent}, instance.__getstate__()


def test_all_bad_fields_are_reported_together(user: Any) -> None:
    row = user(name="Samantha", age="S3CRET", tags=["x"])
    before = state(row)
    with pytest.raises(co.ValidationError) as caught:
        row.validate()
    assert [name for name, _ in caught.value.problems] == ["name", "age", "tags"]
    assert "S3CRET" not in str(caught.value)
    assert state(row) == before
    with pytest.raises(co.ValidationError) as written:
        row.save()
    assert written.value.problems == caught.value.problems
    with pytest.raises(co.ValidationError) as caught:
        user().validate()
    assert caught.value.problems == [("name", "missing value for <Field: User.name>")]
    stored = user.create(name="Sam")
    stored.name = None
    with pytest.raises(co.ValidationError, match=r"^missing value for <Field: User\.name>: it takes no null; "):
        stored.validate()


def test_a_right_row_is_left_as_it_is(user: Any) -> None:
    row = user(name="Sam", age="20", tags=("1", 2), secret="x")
    before = state(row)
    assert row.validate() is None
    assert state(row) == before
    assert row._pk is None
    assert row.save()
    assert (row.id, row.age, row.tags, row.secret) == (1, 20, [1, 2], "x!")
    assert user.get(id=1).secret == "x!"


def test_a_key_without_a_default_is_required() -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        age = co.IntegerField()

    with pytest.raises(co.ValidationError, match=r"missing .*Row\.id>; Row\.age: expected an integer"):
        Row(age="x").validate()
    with pytest.raises(co.ValidationError, match=r"Row\.id: expected an integer, got str$"):
        Row(id="x", age=1).validate()
    Row(id=1, age=1).validate()
    assert not Row.exists(id=1)


def test_of_a_row_that_was_read_the_changes_are_checked(user: Any) -> None:
    meta = user._meta

    class Older(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            name = "user"
            backend = meta.backend
            serializer = meta.serializer

    Older.create(id=1, name="longer than it may be by now")
    row = user.get(id=1)
    before = state(row)
    row.validate()
    row.age = "x"
    with pytest.raises(co.ValidationError, match=r"^User\.age: expected an integer, got str \(key m:user:id:1\)$"):
        row.validate()
    row.age = "30"
    row.validate()
    assert row.age == "30"
    row.tags.append("x")
    with pytest.raises(co.ValidationError, match=r"^User\.tags: "):
        row.validate()
    row.tags[:] = []
    row.age = 18
    row.name = "Samantha"
    with pytest.raises(co.ValidationError, match=r"^User\.name: too long"):
        row.validate()
    assert before[0]["age"] == 18
    assert user.get(id=1).age == 18


def test_a_reference_to_a_row_that_was_never_saved_is_an_error(user: Any) -> None:
    friend = user(name="Bob")
    row = user(name="Sam", friend=friend)
    with pytest.raises(co.ValidationError, match=r"User\.friend: .*save it first"):
        row.validate()
    assert row.friend is friend
    friend.save()
    row.validate()
    assert row._pk is None


def test_a_value_that_the_serializer_cannot_hold_is_its_error() -> None:
    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        small = co.IntegerField()

        class Meta:
            serializer = co.ProtobufSerializer(user_pb2.User)

    Row(id=1, small=5).validate()
    with pytest.raises(co.ValidationError, match=r"Row\.small: the protobuf field .* cannot hold this int"):
        Row(id=1, small=2**40).validate()


def test_nothing_is_asked_of_the_backend() -> None:
    class Silent(co.SimpleBackend):
        def refuse(self, *arguments: Any) -> Any:
            raise AssertionError

        get = set = add = replace = get_many = set_many = replace_many = add_many = delete = refuse

    row = user_model(backend=Silent())(name="Sam")
    row.validate()
