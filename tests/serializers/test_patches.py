"""Partial writes in formats of all kinds: what is not named survives, whatever is around the row."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from formats import UNKNOWN, Reversed

import cacheorm as co
from cacheorm.payload import COMPRESSED, identify

sys.path.insert(0, str(Path(__file__).parents[1] / "protos"))

import shapes_pb2
import user_pb2

LONG = "long " * 100

SERIALIZERS: dict[str, co.BaseSerializer] = {
    "json": co.JSONSerializer(),
    "msgpack": co.MessagePackSerializer(),
    "pickle": co.PickleSerializer(unsafe=True),
    "signed": co.PickleSerializer(secret="secret"),
    "Reversed": Reversed(),
}


def model(backend: co.BaseBackend, serializer: co.BaseSerializer, newer: bool = False, **options: Any) -> Any:
    """Return a release of a model; the newer one has one more field."""
    more = {"nick": co.StringField(default="none")} if newer else {}
    body = {
        "id": co.IntegerField(primary_key=True),
        "name": co.StringField(default=""),
        "visits": co.IntegerField(default=0),
        "email": co.StringField(null=True, default="x"),
        "Meta": type("Meta", (), {"backend": backend, "serializer": serializer, **options}),
        **more,
    }
    return type(co.Model)("User", (co.Model,), {"__qualname__": "<locals>.User", **body})


def models(serializer: co.BaseSerializer, **options: Any) -> tuple[Any, Any]:
    """Return two releases of one model on one backend."""
    memory = co.SimpleBackend()
    return model(memory, serializer, **options), model(memory, serializer, newer=True, **options)


@pytest.mark.parametrize("options", [{}, {"version": 3}, {"compress": co.Zstd(threshold=20)}], ids=str)
@pytest.mark.parametrize("chosen", SERIALIZERS)
def test_fields_of_another_release_survive(chosen: str, options: dict[str, Any]) -> None:
    old, new = models(SERIALIZERS[chosen], **options)
    new.insert_many({"id": number, "name": LONG, "nick": "Nick", "email": None} for number in range(6)).execute()
    payload = old._meta.backend.get(old.key(id=1))
    old.update(id=1, visits=1).execute()
    old.update_many({"id": number, "visits": 1} for number in range(2, 6)).execute()
    old.increment(0, "visits")
    row = old.get(id=2)
    row.name = "short"
    assert row.save()
    rows = new.get_many(range(6))
    assert [(row.nick, row.visits, row.email, len(row.name)) for row in rows.values()] == [
        ("Nick", 1, None, len("short" if number == 2 else LONG)) for number in range(6)
    ]
    header, _ = identify(old._meta.backend.get(old.key(id=1)))
    assert header == identify(payload)[0]
    if "compress" in options:
        assert header is not None
        assert header.flags & COMPRESSED
        assert not identify(old._meta.backend.get(old.key(id=2)))[0].flags & COMPRESSED


def test_a_row_that_was_changed_by_others_is_not_signed_again() -> None:
    old, _ = models(SERIALIZERS["signed"])
    old.insert_many({"id": 1}, {"id": 2}).execute()
    backend = old._meta.backend
    backend.set(old.key(id=1), backend.get(old.key(id=2)))
    with pytest.raises(co.PayloadError, match="signature is wrong"):
        old.update(id=1, visits=1).execute()
    backend.set(old.key(id=1), pickle.dumps({"name": "x"}))
    with pytest.raises(co.PayloadError, match="is not signed"):
        old.update_many({"id": 1, "visits": 1}, {"id": 2, "visits": 1}).execute()
    assert old.get(id=2).visits == 0


class Person(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()
    married = co.BooleanField(default=False)
    score: Any = co.IntegerField(null=True, default=3)
    tags = co.ListField(co.StringField(), default=[])

    class Meta:
        backend = co.SimpleBackend()
        serializer = co.ProtobufSerializer(user_pb2.User)


def test_what_a_message_holds_beside_the_fields_of_the_model_survives() -> None:
    Person.create(id=1, name="Sam", married=True, score=None, tags=["a"])
    backend = Person._meta.backend
    head = backend.get(Person.key(id=1))[: identify(backend.get(Person.key(id=1)))[1]]  # type: ignore[index,arg-type]
    message = user_pb2.User(name="Sam", tags=["a"], counts={"x": 1}, address={"city": "Rome"}, photo=b"p")
    backend.set(Person.key(id=1), head + message.SerializeToString() + UNKNOWN)
    row = Person.update(id=1, name="Bob", score=None).execute()
    assert row.to_dict() == {"id": 1, "name": "Bob", "married": False, "score": None, "tags": ["a"]}  # type: ignore[union-attr]
    Person.update_many({"id": 1, "score": 7}, {"id": 1, "tags": ["b"]}).execute()
    Person.update(id=1, score=None).execute()
    stored = backend.get(Person.key(id=1))[len(head) :]  # type: ignore[index]
    assert stored.endswith(UNKNOWN)
    message.name, message.tags[:] = "Bob", ["b"]
    assert user_pb2.User.FromString(stored[: -len(UNKNOWN)]) == message


def test_alternatives_of_a_message_are_refused_and_not_cleared() -> None:
    class Shape(co.Model):
        id = co.IntegerField(primary_key=True)
        phone: Any = co.StringField(null=True)
        mail: Any = co.StringField(null=True)

        class Meta:
            backend = co.SimpleBackend()
            serializer = co.ProtobufSerializer(shapes_pb2.Shapes)

    Shape.create(id=1, phone="1")
    with pytest.raises(ValueError, match=r"Shape.*holds phone or mail, not both.* \(key m:shape:id:1\)"):
        Shape.update(id=1, mail="2").execute()
    assert Shape.get(id=1).phone == "1"
    assert Shape.update(id=1, mail="2", phone=None).execute().mail == "2"  # type: ignore[union-attr]


@pytest.mark.parametrize("after", SERIALIZERS)
@pytest.mark.parametrize("before", SERIALIZERS)
def test_a_row_of_another_serializer_becomes_one_of_the_models_own(before: str, after: str) -> None:
    memory = co.SimpleBackend()
    old = model(memory, SERIALIZERS[before], newer=True)
    new = model(memory, SERIALIZERS[after], accepts=[SERIALIZERS[before]])
    old.insert_many([{"id": number, "name": "Sam", "nick": "Nick", "email": None} for number in (1, 2, 3)]).execute()
    new.update(id=1, visits=1).execute()
    new.update_many({"id": 2, "visits": 1}, {"id": 2, "visits": 2}).execute()
    new.increment(3, "visits", 3)
    only_new = model(memory, SERIALIZERS[after], newer=True)
    rows = only_new.get_many([1, 2, 3]).values()
    assert [(row.name, row.nick, row.email, row.visits) for row in rows] == [
        ("Sam", "Nick", None, number) for number in (1, 2, 3)
    ]
    expected = model(co.SimpleBackend(), SERIALIZERS[after])
    expected.create(id=1)
    headers = {identify(backend.get(new.key(id=1)))[0] for backend in (memory, expected._meta.backend)}
    assert len(headers) == 1


def test_what_the_new_serializer_cannot_hold_is_named_and_nothing_is_written() -> None:
    memory = co.SimpleBackend()
    old = model(memory, SERIALIZERS["msgpack"])
    new = model(memory, SERIALIZERS["json"])
    stored = co.MessagePackSerializer().dumps({"name": "x", "raw": b"x"})
    memory.set(old.key(id=1), stored)
    for update in (new.update(id=1, visits=1), new.update_many({"id": 1, "visits": 1})):
        with pytest.raises(TypeError, match=r"^User\.raw: the json serializer cannot hold it: .* \(key m:user:id:1\)$"):
            update.execute()
    assert memory.get(old.key(id=1)) == stored
    memory.set(Person.key(id=1), b'{"name":"Sam","unheard":1}')
    with co.bind([Person], backend=memory):
        with pytest.raises(ValueError, match=r"^Person\.unheard: the protobuf .* has no field 'unheard' \(key"):
            Person.update(id=1, married=True).execute()
        memory.set(Person.key(id=1), b'{"name":"Sam","small":1}')
        assert Person.update(id=1, married=True).execute().name == "Sam"  # type: ignore[union-attr]
