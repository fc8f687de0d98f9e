"""Rows and the garbage collector: plain rows are none of its business, and no cycle is lost to it."""

from __future__ import annotations

import copy
import gc
import pickle
import uuid
import weakref
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from types import MemberDescriptorType
from typing import Any

import pytest

import cacheorm as co


class Color(Enum):
    RED = 1
    BLUE = 2


class Note(co.Model):
    id = co.UUIDField(primary_key=True)
    title = co.StringField()
    color = co.EnumField(Color, default=Color.RED)
    parent = co.UUIDField(null=True)
    price = co.DecimalField(null=True)
    tags = co.ListField(co.StringField(), null=True)
    anything = co.JSONField(null=True)

    class Meta:
        backend = co.SimpleBackend()


class Reply(co.Model):
    id = co.IntegerField(primary_key=True)
    note = co.ForeignKeyField(Note, null=True)
    answer_to = co.ForeignKeyField("self", null=True)

    class Meta:
        backend = co.SimpleBackend()


class Slotted(Note):
    __slots__ = ("extra",)

    class Meta:
        name = "slotted"


class Open(Note):
    __slots__ = ("__dict__",)

    class Meta:
        name = "open"


class Shared(Note):
    class Meta:
        name = "shared"

    def __new__(cls) -> Shared:
        return super().__new__(cls)


def row(model: Any = Note, **values: Any) -> Any:
    """A row as a read gives it."""
    pk = uuid.uuid4()
    model.insert_many({"id": pk, "title": "a title", "price": Decimal("1.50"), "parent": pk, **values}).execute()
    (found,) = model.query_many({"id": pk}).execute()
    return found


def answer(**values: Any) -> Any:
    Reply.insert_many({"id": 1, **values}).execute()
    (found,) = Reply.query_many({"id": 1}).execute()
    return found


# The pure version has no means to leave rows out.
LEFT_OUT = co.speedups_enabled


def test_rows_of_plain_values_are_left_out_of_the_collectors_lists() -> None:
    given = [
        {"id": uuid.uuid4(), "title": f"t{number}", "color": Color.BLUE, "parent": uuid.uuid4()} for number in range(10)
    ]
    written = Note.insert_many(given).execute()
    read = Note.query_many([{"id": one["id"]} for one in given]).execute()
    found = [*written, *read, *[one.parent for one in read if one], answer(note=uuid.uuid4())]
    assert [gc.is_tracked(one) for one in found] == [not LEFT_OUT] * 31


class Listed(co.Model):
    id = co.IntegerField(primary_key=True)
    items = co.ListField(co.IntegerField(), default=[])
    words = co.ListField(co.StringField(), null=True)
    nested = co.ListField(co.ListField(co.IntegerField()), null=True)
    other = co.ForeignKeyField("self", null=True)

    class Meta:
        backend = co.SimpleBackend()


class ListedAsJson(Listed):
    class Meta:
        serializer = "json"


def read_row(model: Any, values: dict[str, Any]) -> Any:
    model.insert_many([{"id": 1, **values}]).execute()
    return model.query_many([{"id": 1}]).execute()[0]


def written_row(model: Any, values: dict[str, Any]) -> Any:
    return model.insert_many([{"id": 1, **values}]).execute()[0]


def saved_row(model: Any, values: dict[str, Any]) -> Any:
    one = model(id=1, **values)
    one.save(force_insert=True)
    return one


LISTED = pytest.mark.parametrize("model", [Listed, ListedAsJson])
MAKERS = pytest.mark.parametrize("make", [read_row, written_row, saved_row])


@LISTED
@MAKERS
def test_rows_with_lists_of_plain_values_are_left_out_until_one_is_read(model: Any, make: Any) -> None:
    one = make(model, {"items": [1, 2], "words": ["x", "ü"]})
    assert gc.is_tracked(one) is not LEFT_OUT
    words = one.words
    assert gc.is_tracked(one)
    assert gc.is_tracked(words)
    assert gc.is_tracked(one.items)
    assert (one.items, words) == ([1, 2], ["x", "ü"])


def by_read(one: Any) -> Any:
    return one.items


def by_peek(one: Any) -> Any:
    return type(one).items.peek(one)


def by_dict(one: Any) -> Any:
    return one.to_dict()["items"]


def by_copy(one: Any) -> Any:
    return copy.copy(one).items


def by_pickled_state(one: Any) -> Any:
    return one.__getstate__()["values"]["items"]


@LISTED
@MAKERS
@pytest.mark.parametrize("give", [by_read, by_peek, by_dict, by_copy, by_pickled_state])
def test_a_cycle_through_a_list_is_collected_however_the_list_was_got_at(model: Any, make: Any, give: Any) -> None:
    one = make(model, {"items": [1, 2]})
    give(one).append(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_a_cycle_through_a_list_that_a_copy_shares_is_collected() -> None:
    one = read_row(Listed, {"items": [1]})
    twin = copy.copy(one)
    twin.items.append(one)
    gone = weakref.ref(one)
    del one, twin
    gc.collect()
    assert gone() is None


def test_a_cycle_through_a_list_that_a_validator_kept_is_collected() -> None:
    kept: list[Any] = []

    class Checked(co.Model):
        id = co.IntegerField(primary_key=True)
        items = co.ListField(co.IntegerField(), validators=[kept.append])

        class Meta:
            backend = co.SimpleBackend()

    one = written_row(Checked, {"items": [1]})
    kept.pop().append(one)
    kept.clear()
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_a_written_row_with_related_rows_stays_tracked_beside_its_lists() -> None:
    one = Listed(id=1, items=[1])
    one.other = one
    one.save(force_insert=True)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_lists_cost_the_collector_nothing_until_they_are_read() -> None:
    given = [{"id": number, "items": [number], "words": ["x"]} for number in range(5000)]
    written = Listed.insert_many(given).execute()
    gc.collect()
    before = len(gc.get_objects())
    found = Listed.query_many([{"id": one["id"]} for one in given]).execute()
    grown = len(gc.get_objects()) - before
    assert grown < 100 if LEFT_OUT else grown >= 15_000
    assert [one.items for one in found if one] == [one.items for one in written]
    assert len(gc.get_objects()) - before >= 10_000


@pytest.mark.parametrize("values", [{"anything": {"x": [1]}}, {"anything": []}])
def test_rows_that_hold_other_containers_are_tracked(values: dict[str, Any]) -> None:
    assert gc.is_tracked(row(**values))
    assert gc.is_tracked(Note.insert(id=uuid.uuid4(), title="x", **values).execute())


@pytest.mark.parametrize("model", [Slotted, Open, Shared])
def test_rows_that_may_hold_more_than_fields_are_tracked(model: Any) -> None:
    assert gc.is_tracked(row(model))


def by_attribute(one: Any) -> None:
    one.anything = [one]


def by_poke(one: Any) -> None:
    Note.anything.poke(one, {"self": one})


def by_state(one: Any) -> None:
    one.__setstate__({"values": {"anything": [one]}})


def by_key(one: Any) -> None:
    one._pk = [one]


@pytest.mark.parametrize("tie", [by_attribute, by_poke, by_state, by_key])
def test_a_cycle_through_a_field_is_collected(tie: Callable[[Any], None]) -> None:
    one = row()
    tie(one)
    assert gc.is_tracked(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("model", [Slotted, Open, Shared])
def test_a_cycle_through_what_a_subclass_adds_is_collected(model: Any) -> None:
    one = row(model)
    if model is not Shared:
        one.extra = one
    else:
        one.anything = one
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_a_cycle_through_related_rows_is_collected() -> None:
    one, other = answer(), answer(id=1)
    one.answer_to, other.answer_to = other, one
    gone = weakref.ref(one)
    del one, other
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("copied", [copy.copy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copied", "pickled"])
def test_a_cycle_through_the_relations_of_a_copy_is_collected(copied: Callable[[Any], Any]) -> None:
    one = answer()
    one.answer_to = Reply(id=2)
    twin = copied(one)
    twin._relations["answer_to"] = twin
    gone = weakref.ref(twin)
    del twin
    gc.collect()
    assert gone() is None


def test_a_default_that_is_filled_in_on_a_write_is_collected_with_its_row() -> None:
    (one,) = Listed.insert_many([{"id": 1}]).execute()
    one.items.append(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_an_update_brings_containers_into_plain_rows() -> None:
    one = row()
    (updated,) = Note.update_many([{"id": one.id, "anything": [1]}]).execute()
    updated.anything.append(updated)
    gone = weakref.ref(updated)
    del updated
    gc.collect()
    assert gone() is None


def test_a_batch_costs_the_collector_nothing() -> None:
    given = [{"id": uuid.uuid4(), "title": "x"} for _ in range(5000)]
    Note.insert_many(given).execute()
    asked = [{"id": one["id"]} for one in given]
    gc.collect()
    before = len(gc.get_objects())
    found = Note.query_many(asked).execute()
    grown = len(gc.get_objects()) - before
    assert grown < 100 if LEFT_OUT else grown >= 5000
    assert len(found) == 5000


def inner_by_read(one: Any) -> Any:
    return one.nested[0]


def inner_by_copy(one: Any) -> Any:
    return copy.copy(one).nested[0]


def inner_by_dict(one: Any) -> Any:
    return one.to_dict()["nested"][0]


@LISTED
@MAKERS
@pytest.mark.parametrize("give", [inner_by_read, inner_by_copy, inner_by_dict])
def test_a_cycle_through_a_list_in_a_list_is_collected(model: Any, make: Any, give: Any) -> None:
    one = make(model, {"nested": [[1], [2, 3]]})
    given = give(one)
    given.append(one)
    gone = weakref.ref(one)
    del one, given
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not LEFT_OUT, reason="the pure version tracks all rows")
def test_nothing_but_the_descriptors_of_fields_writes_slots() -> None:
    for model in (Note, Reply, co.Model):
        raw = [
            name for cls in model.__mro__ for name, value in vars(cls).items() if type(value) is MemberDescriptorType
        ]
        assert raw == []
    for field in Note._meta.fields.values():
        values = [getattr(field, name) for name in dir(field) if name != "_member" and hasattr(field, name)]
        assert not any(type(value) is MemberDescriptorType for value in values)
