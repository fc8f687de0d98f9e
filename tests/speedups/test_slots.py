"""The descriptor over hidden slots, compiled and pure: never touches an object that has no such slot."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from typing import Any

import pytest

import cacheorm as co
from cacheorm._speedups.rows import _slots_py

TWINS: dict[str, Any] = {"pure": _slots_py}
if co.speedups_enabled:
    from cacheorm._speedups.rows import _slots_c

    TWINS["compiled"] = _slots_c


@pytest.fixture(params=list(TWINS))
def twin(request: pytest.FixtureRequest) -> Any:
    return TWINS[request.param]


def slotted(twin: Any) -> tuple[Any, Any]:
    """A class with one hidden slot, and the descriptor over it."""

    class Row:
        __slots__ = ("__weakref__", "_hidden")
        field = twin.Slot()

    slot = Row.__dict__["field"]
    slot.attach(Row.__dict__["_hidden"])
    return Row, slot


def test_a_slot_reads_writes_and_forgets(twin: Any) -> None:
    Row, slot = slotted(twin)
    row = Row()
    assert Row.field is slot
    assert row.field is None
    assert slot.peek(row, "absent") == "absent"
    row.field = 5
    assert (row.field, slot.peek(row, "absent"), row._hidden) == (5, 5, 5)
    slot.poke(row, 6)
    assert row.field == 6
    del row.field
    assert slot.peek(row, "absent") == "absent"
    with pytest.raises(AttributeError, match="the field has no value"):
        del row.field


def test_none_is_a_value_and_not_the_lack_of_one(twin: Any) -> None:
    Row, slot = slotted(twin)
    row = Row()
    row.field = None
    assert slot.peek(row, "absent") is None
    del row.field
    assert slot.peek(row, "absent") == "absent"


def test_reading_without_a_value_asks_the_subclass(twin: Any) -> None:
    class Made(twin.Slot):  # type: ignore[misc]
        def unset(self, instance: Any) -> Any:
            return f"made for {type(instance).__name__}"

    class Row:
        __slots__ = ("_hidden",)
        field = Made()

    Row.__dict__["field"].attach(Row.__dict__["_hidden"])
    row = Row()
    assert row.field == "made for Row"
    row.field = None
    assert row.field is None


@pytest.mark.parametrize("stranger", [None, 5, "text", object(), type, co.Model, lambda: None])
def test_objects_without_the_slot_are_refused(twin: Any, stranger: Any) -> None:
    _, slot = slotted(twin)

    class Other:
        __slots__ = ("_a", "_b", "_hidden")

    for wrong in (stranger, Other()):
        for use in (slot.peek, slot.__delete__, lambda it: slot.poke(it, 1), lambda it: slot.__set__(it, 1)):
            with pytest.raises(TypeError, match="doesn't apply to"):
                use(wrong)
        if wrong is not None:
            with pytest.raises(TypeError, match="doesn't apply to"):
                slot.__get__(wrong, type(wrong))


def test_instances_of_subclasses_have_the_slot(twin: Any) -> None:
    Row, slot = slotted(twin)

    class Sub(Row):  # type: ignore[misc]
        __slots__ = ("more",)

    class Loose(Row):  # type: ignore[misc]
        pass

    for row in (Sub(), Loose()):
        row.field = "x"
        assert (slot.peek(row), row._hidden) == ("x", "x")


def test_an_unbound_slot_belongs_to_no_model(twin: Any) -> None:
    slot = twin.Slot()
    for use in (slot.peek, slot.__delete__, lambda it: slot.poke(it, 1), lambda it: slot.__get__(it, object)):
        with pytest.raises(AttributeError, match="the field belongs to no model"):
            use(object())


@pytest.mark.parametrize(
    "member",
    [
        None,
        5,
        property(),
        object.__dict__["__class__"],
        functools.partial.__dict__["func"],
        type.__dict__["__basicsize__"],
        type(sys.flags).__dict__["optimize"],
    ],
)
def test_only_descriptors_of_slots_can_be_attached(twin: Any, member: Any) -> None:
    with pytest.raises(TypeError, match="expected the descriptor of a slot, got"):
        twin.Slot().attach(member)


def test_a_destructor_sees_the_new_value_and_may_change_it(twin: Any) -> None:
    Row, slot = slotted(twin)
    row = Row()
    seen: list[Any] = []

    class Loud:
        def __init__(self, then: Any) -> None:
            self.then = then

        def __del__(self) -> None:
            seen.append(slot.peek(row, "absent"))
            self.then()

    row.field = Loud(lambda: slot.poke(row, "from the destructor"))
    row.field = "new"
    assert (seen, row.field) == (["new"], "from the destructor")
    row.field = Loud(lambda: slot.__delete__(row))
    row.field = "gone at once"
    assert slot.peek(row, "absent") == "absent"
    row.field = Loud(lambda: slot.poke(row, "after all"))
    del row.field
    assert seen == ["new", "gone at once", "absent"]
    assert row.field == "after all"


def test_values_are_held_once_and_cycles_are_collected(twin: Any) -> None:
    Row, _ = slotted(twin)
    row, value = Row(), object()
    before = sys.getrefcount(value)
    row.field = value
    row.field = value
    assert sys.getrefcount(value) == before + 1
    assert row.field is value
    del row.field
    assert sys.getrefcount(value) == before
    row.field = row
    watcher = weakref.ref(row)
    del row
    gc.collect()
    assert watcher() is None


def test_a_slot_keeps_its_class_alive_and_no_longer_than_itself(twin: Any) -> None:
    Row, slot = slotted(twin)
    watcher = weakref.ref(Row)
    del Row, slot
    gc.collect()
    assert watcher() is None


def related_rows(twin: Any) -> tuple[Any, Any, Any]:
    """A class with a slot for an id and one for what is loaded, whose class keeps its name, and both descriptors."""

    class Row:
        __slots__ = ("__weakref__", "_hidden", "_loaded")
        field = twin.Slot()
        related = twin.Slot()

    Row.field.attach(Row.__dict__["_hidden"])
    Row.related.attach(Row.__dict__["_loaded"])
    return Row, Row.field, Row.related


def test_distinct_values_come_once_and_without_none(twin: Any) -> None:
    Row, slot, _ = related_rows(twin)
    rows = [Row() for _ in range(6)]
    for row, value in zip(rows, (3, 1, None, 3, 1.0), strict=False):
        row.field = value
    assert list(twin.distinct(slot, rows[:5])) == [3, 1]
    assert list(twin.distinct(slot, [rows[0], None, rows[5], rows[1]])) == [3, 1]
    assert twin.distinct(slot, []) == {}
    rows[5].field = [1]
    with pytest.raises(TypeError, match="unhashable"):
        twin.distinct(slot, rows)
    with pytest.raises((TypeError, AttributeError)):
        twin.distinct(slot, [object()])


def test_a_slot_of_many_is_held_by_any_or_none(twin: Any) -> None:
    Row, _, related = related_rows(twin)
    rows = [Row(), None, Row()]
    assert not twin.holds(related, rows)
    assert not twin.holds(related, [])
    rows[2].related = {}
    assert twin.holds(related, rows)


def test_rows_get_what_they_refer_to(twin: Any) -> None:
    Row, slot, related = related_rows(twin)
    rows = [Row() for _ in range(5)]
    for row, value in zip(rows, (1, 2, None, 3), strict=False):
        row.field = value
    rows[1].related = {"other": "there"}
    one, two = object(), object()
    collecting = gc.isenabled()
    twin.relate(related, slot, "boss", [*rows, None], {1: one, 2: two})
    assert gc.isenabled() == collecting
    assert [row.related for row in rows] == [{"boss": one}, {"other": "there", "boss": two}, None, None, None]
    rows[4].field = []
    with pytest.raises(TypeError, match="unhashable"):
        twin.relate(related, slot, "boss", rows, {})
    assert gc.isenabled() == collecting


def test_rows_that_refer_to_each_other_can_be_collected(twin: Any) -> None:
    Row, slot, related = related_rows(twin)
    rows = [Row(), Row()]
    rows[0].field, rows[1].field = 2, 1
    twin.relate(related, slot, "other", rows, {1: rows[0], 2: rows[1]})
    watched = weakref.ref(rows[0])
    del rows
    gc.collect()
    assert watched() is None
