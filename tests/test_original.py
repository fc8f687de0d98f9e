"""The published page of the first version, as code: everything on it works unchanged, on real servers."""

from __future__ import annotations

import datetime
import enum
from functools import partial
from typing import Any

import pytest

import cacheorm as co
from cacheorm.types import to_bytes
from tests.protos import article_pb2, user_pb2
from tests.servers import MemcachedServer, RedisServer


class Gender(enum.Enum):
    UNKNOWN = 0
    MALE = 1
    FEMALE = 2


class PhoneNumber:
    def __init__(self, number: str, kind: int) -> None:
        self.number = number
        self.kind = kind

    def se(self) -> str:
        return f"{self.number},{self.kind}"

    @classmethod
    def de(cls, text: str) -> PhoneNumber:
        number, kind = text.split(",")
        return cls(number, int(kind))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhoneNumber) and self.se() == other.se()

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def page(redis_server: RedisServer, memcached_server: MemcachedServer) -> Any:
    co.registry.register("protobuf.article", co.ProtobufSerializer(article_pb2.Article))

    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        height = co.FloatField()
        married = co.BooleanField(default=False)
        gender = co.EnumField(Gender, default=Gender.UNKNOWN)
        phones = co.ListField(co.StructField(PhoneNumber.se, PhoneNumber.de), default=[])
        created_at = co.DateTimeTZField(default=partial(datetime.datetime.now, tz=datetime.UTC))

        class Meta:
            backend = co.RedisBackend(port=redis_server.port)
            serializer = "json"

    class Article(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(User)
        title = co.StringField()
        content = co.StringField(default="")
        created_at = co.DateTimeField(default=datetime.datetime.now)
        updated_at = co.DateTimeField(default=datetime.datetime.now)

        class Meta:
            backend = co.SimpleBackend()
            serializer = "protobuf.article"
            ttl = 100 * 24 * 3600

    class Collection(co.Model):
        collector = co.ForeignKeyField(User)
        article = co.ForeignKeyField(Article)
        mark = co.StringField(default="")

        class Meta:
            primary_key = co.CompositeKey("collector", "article", index_formatter="collection.%s.%d")
            backend = co.MemcachedBackend(servers=[("127.0.0.1", memcached_server.port)])
            serializer = "msgpack"

    yield User, Article, Collection
    co.registry.unregister("protobuf.article")
    for model in (User, Article, Collection):
        model._meta.backend.clear(everything=True)
        model._meta.backend.close()


def test_the_page_works_from_top_to_bottom(page: Any) -> None:
    User, Article, Collection = page

    # Insert
    sam = User.create(id=1, name="Sam", height=178.8, gender=Gender.MALE)
    bob = User.insert(id=2, name="Bob", height=182.4, gender=Gender.MALE).execute()
    article = Article(id=1, author=sam, title="CacheORM", content="Create a article using cacheorm.")
    assert article.save(force_insert=True) is True
    collections = Collection.insert_many(
        {"collector": bob, "article_id": article}, Collection(collector=sam, article=article)
    ).execute()
    assert [row.collector_id for row in collections] == [2, 1]
    assert Collection.key(collector=2, article=1) == "collection.2.1"

    # Query
    sam = User.get(id=1)
    assert (sam.name, sam.height, sam.gender, sam.married, sam.phones) == ("Sam", 178.8, Gender.MALE, False, [])
    assert sam.created_at.tzinfo is datetime.UTC
    bob = User.get_by_id(2)
    article = Article.query(id=1).execute()
    assert article.title == "CacheORM"
    assert article.author == sam
    collections = Collection.query_many(
        {"collector_id": 1, "article_id": article.id}, {"collector": bob, "article_id": article.id}
    ).execute()
    assert [row.collector.name for row in collections] == ["Sam", "Bob"]

    # Update
    sam = User.set_by_id(1, {"height": 178.0})
    assert (sam.height, sam.name) == (178.0, "Sam")
    bob = User.get_by_id(2)
    bob.married = True
    assert bob.save() is True
    assert User.get_by_id(2).married is True
    article = Article.update(id=1, title="What's new in CacheORM?").execute()
    assert (article.title, article.content) == ("What's new in CacheORM?", "Create a article using cacheorm.")
    collections = Collection.update_many(
        {"collector_id": 1, "article_id": article.id, "mark": "mark"},
        {"collector": bob, "article_id": article.id, "mark": "Good"},
    ).execute()
    assert [row.mark for row in collections] == ["mark", "Good"]

    # Delete
    assert User.delete_by_id(2) is True
    assert User.delete(id=1).execute() is True
    article = Article.query(id=1).execute()
    assert (
        Collection.delete_many(
            {"collector_id": 1, "article_id": article.id}, {"collector_id": 2, "article_id": article.id}
        ).execute()
        is True
    )
    assert article.delete_instance() is True
    with pytest.raises(User.DoesNotExist):
        User.get(id=1)


def test_a_struct_field_makes_objects_again(page: Any) -> None:
    User = page[0]
    User.create(id=1, name="Sam", height=1.8, phones=[PhoneNumber("555", 10)])
    assert User.get(id=1).phones == [PhoneNumber("555", 10)]


def test_a_serializer_can_be_registered_by_name() -> None:
    co.registry.register("protobuf.user", co.ProtobufSerializer(user_pb2.User))
    try:
        serializer = co.registry.get_by_name("protobuf.user")
        assert serializer is not None
        read = serializer.loads(serializer.dumps({"name": "Sam", "score": 2**40}))
        assert (read["name"], read["score"], read["married"], read["tags"]) == ("Sam", 2**40, False, [])
        assert serializer.loads(serializer.dumps(user_pb2.User(**read))) == read
        with pytest.raises(ValueError, match="already registered"):
            co.registry.register("protobuf.user", co.JSONSerializer())
    finally:
        co.registry.unregister("protobuf.user")
    assert co.registry.get_by_name("protobuf.user") is None
    with pytest.raises(KeyError):
        co.registry.unregister("protobuf.user")


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle"])
def test_three_serializers_are_preset(name: str) -> None:
    serializer = co.registry.get_by_name(name)
    assert serializer is not None
    value = {"foo": 1, "bar": [1, 2, 3], "测试": {}, "none": None, "real": 1.5}
    assert serializer.loads(serializer.dumps(value)) == value


def test_modules_and_names_are_where_they_were() -> None:
    from cacheorm.backends import BaseBackend, MemcachedBackend, RedisBackend, SimpleBackend
    from cacheorm.fields import CompositeKey, Field, ForeignKeyField
    from cacheorm.serializers import BaseSerializer, JSONSerializer, MessagePackSerializer, registry

    assert registry is co.registry
    for known in (BaseBackend, MemcachedBackend, RedisBackend, SimpleBackend, CompositeKey, Field, ForeignKeyField):
        assert getattr(co, known.__name__) is known
    for packer in (BaseSerializer, JSONSerializer, MessagePackSerializer):
        assert getattr(co, packer.__name__) is packer
    assert to_bytes("text") == b"text"
    assert to_bytes(None) is None
