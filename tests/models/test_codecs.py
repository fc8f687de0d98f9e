"""The hooks through which rows reach serializers and the compiled codec."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

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


class Whole(co.Field[Any]):
    """A field of an application that stores what it gets."""

    def cache_value(self, value: Any) -> Any:
        return value


class Corner(NamedTuple):
    x: int
    y: int


TUPLE_KEYS = [{(1, 2): 3}, {"a": [{(1, ("b", 2)): None}]}, {Corner(1, 2): 3, "a": 1}]


@pytest.mark.parametrize("value", TUPLE_KEYS)
@pytest.mark.parametrize("made", [co.Field, Whole, lambda: co.StructField(lambda value: value, lambda stored: stored)])
@pytest.mark.parametrize("serializer", ["msgpack", "json", "pickle"])
def test_only_pickle_holds_dicts_with_tuples_as_keys(serializer: str, made: Any, value: Any) -> None:
    class Grid(co.Model):
        id = co.IntegerField(primary_key=True)
        cells: Any = made()

        Meta = type("Meta", (), {"backend": co.SimpleBackend(), "serializer": serializer})

    Grid.create(id=1, cells=0)
    many = [{"id": number, "cells": value} for number in range(8)]
    writes: list[Any] = [
        lambda: Grid.create(id=1, cells=value),
        lambda: Grid.insert_many(many).execute(),
        lambda: Grid.update(id=1, cells=value).execute(),
        lambda: Grid.update_many([many[1], many[1], many[1], many[1]]).execute(),
        lambda: Grid.set_by_id(1, {"cells": value}),
    ]
    for write in writes:
        if serializer == "pickle":
            write()
            assert Grid.get(id=1).cells == value
            assert {*map(type, Grid.get(id=1).cells)} <= {tuple, str}
            continue
        with pytest.raises(TypeError, match=rf"Grid\.cells: the {serializer} serializer cannot hold it: ") as caught:
            write()
        found = "str keys, got one with tuple" if serializer == "json" else "a dict has a tuple as a key, which would"
        assert found in str(caught.value)
        assert Grid.get(id=1).cells == 0


@pytest.mark.parametrize("made", [co.Field, Whole])
def test_dicts_with_tuples_as_keys_are_primary_keys(made: Any) -> None:
    class Placed(co.Model):
        id: Any = made(primary_key=True)

        class Meta:
            backend = co.SimpleBackend()

    keys = [Placed.key(id=value) for value in (*TUPLE_KEYS, {"a": 1, (1.0, 2): 3})]
    assert len({*keys}) == 3
    Placed.create(id={(1, 2): 3})
    assert Placed.get(id={(1, 2.0): 3}).id == {(1, 2): 3}
