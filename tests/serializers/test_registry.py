"""Serializers by name, and serializers of one's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import cacheorm as co


class Backwards(co.BaseSerializer):
    """All that a serializer needs."""

    def dumps(self, obj: Any) -> bytes:
        return repr(obj).encode()[::-1]

    def loads(self, s: bytes) -> Any:
        return eval(s[::-1].decode())


@pytest.fixture
def registry() -> co.SerializerRegistry:
    return co.SerializerRegistry()


def test_names_are_registered_once(registry: co.SerializerRegistry) -> None:
    one, other = Backwards(), Backwards()
    registry.register("one", one)
    with pytest.raises(ValueError, match="already registered as 'one'"):
        registry.register("one", other)
    assert registry.get_by_name("one") is one
    assert registry.get_by_name("other") is None
    registry.unregister("one")
    with pytest.raises(KeyError, match="no serializer is registered as 'one'"):
        registry.unregister("one")
    registry.register("one", other)
    registry.register("a", one)
    assert registry.names() == ["a", "one"]
    registry.unregister_all()
    assert registry.names() == []


def test_of_many_threads_one_gets_the_name(registry: co.SerializerRegistry) -> None:
    start, lost = threading.Barrier(8), []

    def race() -> None:
        start.wait()
        for number in range(200):
            try:
                registry.register(str(number), Backwards())
            except ValueError:
                lost.append(number)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7 * 200


def test_a_custom_serializer_is_used_by_instance_and_by_name() -> None:
    co.registry.register("backwards", Backwards())
    try:
        for choice in ("backwards", Backwards()):

            class Row(co.Model):
                id = co.IntegerField(primary_key=True)
                tags = co.ListField(co.StringField())

                class Meta:
                    backend = co.SimpleBackend()
                    serializer = choice

            Row.create(id=1, tags=["a", "ä"])
            assert Row.get(id=1).tags == ["a", "ä"]
            name = b"backwards" if choice == "backwards" else b"Backwards"
            body = "{'tags': ['a', 'ä']}".encode()[::-1]
            assert Row._meta.backend.get(Row.key(id=1)) == b"\xc1\x01\x00\x09" + name + body
            Row._meta.backend.set(Row.key(id=1), b"nonsense")
            with pytest.raises(co.PayloadError, match=r"^Row: .*read as Backwards\)$"):
                Row.get(id=1)
    finally:
        co.registry.unregister("backwards")


@pytest.mark.parametrize(
    ("serializer", "error", "text"),
    [
        ("jsn", ValueError, "no serializer is registered as 'jsn'; registered are: json, msgpack, pickle"),
        (5, TypeError, "must be a registered name or a BaseSerializer, got int"),
        (Backwards, TypeError, "must be a registered name or a BaseSerializer, got type"),
    ],
)
def test_what_is_no_serializer_is_refused_when_the_class_is_created(
    serializer: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        type(co.Model)("Row", (co.Model,), {"Meta": type("Meta", (), {"serializer": serializer})})


def test_a_serializer_that_fails_is_named_with_model_and_field() -> None:
    class Picky(Backwards):
        name = "picky"

        def dumps(self, obj: Any) -> bytes:
            if "S3CRET" in obj.values():
                raise LookupError("S3CRET")
            return super().dumps(obj)

    class Row(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = co.SimpleBackend()
            serializer = Picky()

    with pytest.raises(ValueError, match=r"^Row\.name: the picky serializer cannot hold it: LookupError$"):
        Row.create(id=1, name="S3CRET")


def test_a_serializer_may_have_several_names() -> None:
    registry = co.SerializerRegistry()
    one, other = Backwards(), Backwards()
    for name, serializer in (("b", one), ("other", other), ("a", one)):
        registry.register(name, serializer)
    assert registry.names_of(one) == ["b", "a"]
    assert registry.names_of(Backwards()) == []


def test_only_json_and_msgpack_themselves_say_what_they_are() -> None:
    class Indented(co.JSONSerializer):
        def loads(self, s: bytes) -> Any:
            return super().loads(s[1:])

    class Named(co.JSONSerializer):
        name = "named"

    class Rows(co.MessagePackSerializer):
        def load_row(self, payload: bytes) -> Any:
            return super().load_row(payload[1:])

    assert [one.bare_format for one in (co.JSONSerializer(), Named())] == ["json", "json"]
    assert co.MessagePackSerializer().bare_format == "msgpack"
    assert [one.bare_format for one in (Indented(), Rows(), Backwards(), co.PickleSerializer())] == [""] * 4
