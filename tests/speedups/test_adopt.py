"""Rows as users pass them become the same instances in both versions."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from amounts import enough
from hypothesis import given, settings
from hypothesis import strategies as st

import cacheorm as co
from cacheorm._speedups.rows import _adopt_py

TWINS: dict[str, Any] = {"pure": _adopt_py}
if co.speedups_enabled:
    from cacheorm._speedups.rows import _adopt_c

    TWINS["compiled"] = _adopt_c


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="none")
    friend = co.ForeignKeyField("self", null=True)
    boss = co.ForeignKeyField("self", null=True)
    note = co.JSONField(null=True)

    class Meta:
        backend = co.SimpleBackend()


class Made(User):
    """Takes part in making its instances."""

    class Meta:
        name = "made"

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.note = "made"


class Other(User):
    """Its instances come from elsewhere."""

    class Meta:
        name = "other"

    def __new__(cls, **values: Any) -> Any:
        made = super().__new__(cls)
        made.note = "new"
        return made


def adopter(twin: Any, model: Any = User) -> Any:
    plan = model._meta
    return twin.Adopter(model, plan.names, plan.references)


@pytest.fixture(params=list(TWINS))
def twin(request: pytest.FixtureRequest) -> Any:
    return TWINS[request.param]


def shown(instance: Any) -> list[Any]:
    absent = object()
    values = [(name, field.peek(instance, absent)) for name, field in type(instance)._meta.fields.items()]
    return [(name, value) for name, value in values if value is not absent] + sorted(instance._relations)


def outcome(one: Any, rows: Any) -> Any:
    try:
        return [shown(instance) for instance in one.adopt(rows)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the same
        return type(error), str(error)


def test_rows_become_instances(twin: Any) -> None:
    sam = User(id=1)
    rows = [sam, {"id": 2, "name": "Bob"}, UserDict({"id": "3", "friend": sam}), {"friend_id": 1}, {}]
    made = adopter(twin).adopt(iter(rows))
    assert made[0] is sam
    assert [(row.id, row.name, row.friend_id) for row in made] == [
        (1, "none", None),
        (2, "Bob", None),
        ("3", "none", 1),
        (None, "none", 1),
        (None, "none", None),
    ]
    assert made[2].friend is sam


def test_what_is_no_row_is_refused(twin: Any) -> None:
    for wrong in (5, None, "ab", [("id", 1)], object()):
        with pytest.raises(TypeError, match="User: a row is a dict or an instance of User"):
            adopter(twin).adopt([wrong])
    with pytest.raises(TypeError, match="User has no field 'nme'; did you mean 'name'"):
        adopter(twin).adopt([{"nme": 1}])


def test_a_model_may_take_part_in_making_its_instances(twin: Any) -> None:
    (made,) = adopter(twin, Made).adopt([{"id": 1}])
    (other,) = adopter(twin, Other).adopt([{"id": 1}])
    assert (made.id, made.note, other.id, other.note) == (1, "made", 1, "new")


def test_a_related_row_passes_on_the_key_it_got_meanwhile(twin: Any) -> None:
    sam = User()
    bob = User(id=2, friend=sam)
    (made,) = adopter(twin).adopt([{"id": 3, "friend": sam}])
    sam.id = 9
    adopter(twin).adopt([bob, made])
    assert (bob.friend_id, made.friend_id) == (9, 9)
    assert bob.friend is sam


SAM = User(id=1)
values = st.sampled_from([None, 0, 5, "x", 2.5, b"raw", [1], {"a": 1}, SAM, User(), User(id="7"), object])
names = st.sampled_from(["id", "name", "friend", "friend_id", "boss", "boss_id", "note", "nme", "i" + "d"])


@settings(max_examples=enough(500), deadline=None)
@given(st.lists(st.lists(st.tuples(names, values), max_size=8).map(dict), max_size=3))
def test_rows_with_their_names_in_any_order_become_the_same_instances(rows: list[dict[str, Any]]) -> None:
    outcomes = [outcome(adopter(one), [dict(row) for row in rows]) for one in TWINS.values()]
    assert all(one == outcomes[0] for one in outcomes)
