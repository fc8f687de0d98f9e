"""The hooks through which rows reach serializers and the compiled codec."""

from __future__ import annotations

from typing import Any

import cacheorm as co


class Reversed(co.BaseSerializer):
    """Packs as JSON, backwards: a format that only its own methods know."""

    def dumps(self, obj: Any) -> bytes:
        return co.JSONSerializer().dumps(obj)[::-1]

    def loads(self, s: bytes) -> Any:
        return co.JSONSerializer().loads(s[::-1])


class CountedMsgpack(co.MessagePackSerializer):
    """A subclass that changes the format, so that the codec of msgpack must not be used for it."""

    def dumps(self, obj: Any) -> bytes:
        return b"\xc0" + super().dumps(obj)

    def loads(self, s: bytes) -> Any:
        return super().loads(s[1:])


def row_model(serializer: co.BaseSerializer) -> Any:
    class Note(co.Model):
        id = co.IntegerField(primary_key=True)
        text = co.StringField()

        Meta = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": serializer})

    return Note


def test_a_custom_serializer_packs_and_reads_the_rows_of_a_model() -> None:
    note = row_model(Reversed())
    note.create(id=1, text="hello")
    assert note._meta.backend.get("m:note:id:1") == b'\xc1\x01\x00\x08Reversed}"olleh":"txet"{'
    assert note.get(id=1).text == "hello"


def test_a_subclass_of_msgpack_keeps_its_own_format() -> None:
    note = row_model(CountedMsgpack())
    note.create(id=1, text="hello")
    assert note._meta.backend.get("m:note:id:1").startswith(b"\xc1\x01\x00\x0eCountedMsgpack\xc0\x81")
    assert note.get(id=1).text == "hello"


def test_the_codec_of_a_row_can_be_replaced_as_a_whole() -> None:
    class Watched(co.MessagePackSerializer):
        made = 0

        def row_codec(self, *arguments: Any, **options: Any) -> Any:
            type(self).made += 1
            return super().row_codec(*arguments, **options)

    note = row_model(Watched())
    note.create(id=1, text="hello")
    note.get(id=1)
    assert Watched.made == 1


def test_a_foreign_key_converts_ids_as_the_related_key_does() -> None:
    class Person(co.Model):
        code = co.StringField(primary_key=True)

    class Letter(co.Model):
        sender = co.ForeignKeyField(Person)
        later = co.ForeignKeyField("Nobody", null=True)

    assert Letter.sender.slot_converter is Person.code.converter
    assert Letter.later.slot_converter is Letter.later.converter
    assert Letter.id.slot_converter is Letter.id.converter
