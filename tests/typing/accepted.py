"""What type checkers make of models: every line here is accepted by ``mypy --strict`` and by pyright."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

import cacheorm as co


class Gender(enum.Enum):
    FEMALE = "f"
    MALE = "m"


class Phone:
    def __init__(self, number: str) -> None:
        self.number = number

    def pack(self) -> str:
        return self.number

    @classmethod
    def unpack(cls, stored: str) -> Phone:
        return cls(stored)


class Upper(co.Field[str]):
    """A custom field."""

    def cache_value(self, value: Any) -> Any:
        return super().cache_value(value)

    def python_value(self, value: Any) -> Any:
        return str(super().python_value(value)).upper()


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    uid = co.UUIDField()
    short = co.ShortUUIDField()
    name = co.StringField(max_length=40, secret=False, default="", validators=[str.strip], alias="nom")
    height = co.FloatField()
    price = co.DecimalField(decimal_places=2, auto_round=True)
    married = co.BooleanField(default=False)
    gender = co.EnumField(Gender, default=Gender.FEMALE)
    photo = co.BinaryField(ensure_str=False)
    seen = co.DateTimeField(formats=["%d.%m.%Y"])
    born = co.DateField()
    wakes = co.TimeField()
    created = co.DateTimeTZField()
    updated = co.TimestampField(resolution=6, utc=True)
    phone = co.StructField(Phone.pack, Phone.unpack)
    extra = co.JSONField()
    tags = co.ListField(co.StringField(), default=[])
    phones = co.ListField(co.StructField(Phone.pack, Phone.unpack))
    grid = co.ListField(co.ListField(co.IntegerField(null=True)))
    nick = Upper()


class Sparse(co.Model):
    uid = co.UUIDField(null=True)
    short = co.ShortUUIDField(null=True)
    name = co.StringField(null=True)
    age = co.IntegerField(null=True)
    height = co.FloatField(null=True)
    price = co.DecimalField(null=True)
    married = co.BooleanField(null=True)
    gender = co.EnumField(Gender, null=True)
    photo = co.BinaryField(null=True)
    seen = co.DateTimeField(null=True)
    born = co.DateField(null=True)
    wakes = co.TimeField(null=True)
    created = co.DateTimeTZField(null=True)
    updated = co.TimestampField(null=True)
    phone = co.StructField(Phone.pack, Phone.unpack, null=True)
    tags = co.ListField(co.StringField(), null=True)
    user = co.ForeignKeyField(User, null=True)


class Article(co.Model):
    id = co.IntegerField(primary_key=True)
    author = co.ForeignKeyField(User)


def values_have_the_types_of_their_fields(user: User) -> None:
    assert_type(user.id, int)
    assert_type(user.uid, UUID)
    assert_type(user.short, UUID)
    assert_type(user.name, str)
    assert_type(user.height, float)
    assert_type(user.price, Decimal)
    assert_type(user.married, bool)
    assert_type(user.gender, Gender)
    assert_type(user.photo, bytes)
    assert_type(user.seen, dt.datetime)
    assert_type(user.born, dt.date)
    assert_type(user.wakes, dt.time)
    assert_type(user.created, dt.datetime)
    assert_type(user.updated, dt.datetime)
    assert_type(user.phone, Phone)
    assert_type(user.extra, Any)
    assert_type(user.tags, list[str])
    assert_type(user.phones, list[Phone])
    assert_type(user.grid, list[list[int | None]])
    assert_type(user.nick, str)


def nullable_fields_may_be_none(sparse: Sparse) -> None:
    assert_type(sparse.uid, UUID | None)
    assert_type(sparse.short, UUID | None)
    assert_type(sparse.name, str | None)
    assert_type(sparse.age, int | None)
    assert_type(sparse.height, float | None)
    assert_type(sparse.price, Decimal | None)
    assert_type(sparse.married, bool | None)
    assert_type(sparse.gender, Gender | None)
    assert_type(sparse.photo, bytes | None)
    assert_type(sparse.seen, dt.datetime | None)
    assert_type(sparse.born, dt.date | None)
    assert_type(sparse.wakes, dt.time | None)
    assert_type(sparse.created, dt.datetime | None)
    assert_type(sparse.updated, dt.datetime | None)
    assert_type(sparse.phone, Phone | None)
    assert_type(sparse.tags, list[str] | None)
    assert_type(sparse.user, User | None)
    sparse.age = None


def the_class_gives_the_field() -> None:
    assert_type(User.name, co.StringField[str])
    assert_type(Sparse.age, co.IntegerField[int | None])
    assert_type(User.tags, co.ListField[list[str]])
    assert_type(User.name.max_length, int | None)


def a_condition_may_decide_whether_null_is_a_value(flag: bool) -> None:
    assert_type(co.IntegerField(null=flag), co.IntegerField[int | None])
    assert_type(co.StringField(null=flag), co.StringField[str | None])


def operations_know_their_model(user: User, article: Article) -> None:
    assert_type(User.get(id=1), User)
    assert_type(User.get_by_id(1), User)
    assert_type(User.get_or_none(id=1), User | None)
    assert_type(User.create(id=1), User)
    assert_type(User.get_or_create(id=1), tuple[User, bool])
    assert_type(User.insert(id=1).execute(), User)
    assert_type(User.insert_many({"id": 1}, user).execute(), list[User])
    assert_type(User.query(id=1).execute(), User | None)
    assert_type(User.query_many([{"id": 1}]).execute(), list[User | None])
    assert_type(User.update(id=1, name="x").execute(), User | None)
    assert_type(User.delete(id=1).execute(), bool)
    assert_type(user.save(), bool)
    assert_type(article.author, User)
    assert_type(article.author.name, str)
    article.author = user
    article.author = 7
    assert_type(article.author.name, str)
    user.name = "Sam"
    user.tags = ["a", "b"]
