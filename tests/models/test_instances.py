"""Instances: construction, equality, text, copies, pickles, dicts and primary keys."""

from __future__ import annotations

import copy
import datetime
import pickle
import uuid
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

import cacheorm as co

MEMORY = co.SimpleBackend()


class Account(co.Model):
    number = co.IntegerField(primary_key=True)
    name = co.StringField()
    password = co.StringField(secret=True, null=True)
    tags = co.ListField(co.StringField(), default=[])

    class Meta:
        backend = MEMORY
        namespace = "test_instances"


class Visit(co.Model):
    account = co.ForeignKeyField(Account)
    day = co.IntegerField()
    place = co.StringField(default="home")

    class Meta:
        backend = MEMORY
        namespace = "test_instances"
        primary_key = co.CompositeKey("account", "day")


class Slotted(co.Model):
    __slots__ = ("__private", "cached")
    owner = co.ForeignKeyField(Account, null=True)

    class Meta:
        backend = MEMORY
        namespace = "test_instances"

    def remember(self, value: Any) -> None:
        self.__private = value

    def recall(self) -> Any:
        return self.__private


class Open(co.Model):
    __slots__ = ("__dict__",)
    name = co.StringField(null=True)

    class Meta:
        backend = MEMORY
        namespace = "test_instances"


COPIES = [copy.copy, copy.deepcopy, *(lambda row, p=p: pickle.loads(pickle.dumps(row, p)) for p in range(2, 6))]


def test_an_unknown_name_is_a_type_error_that_names_the_closest_field() -> None:
    with pytest.raises(TypeError, match="Account has no field 'nmae'; did you mean 'name'"):
        Account(nmae="Sam")
    with pytest.raises(TypeError, match="Account has no field 'zzz'; it has: number, name, password, tags"):
        Account(zzz=1)
    with pytest.raises(TypeError, match="did you mean 'account_id'"):
        Visit(acount_id=1)
    with pytest.raises(TypeError):
        Account(1)  # type: ignore[call-arg,misc]


def test_instances_are_equal_by_model_and_key() -> None:
    assert Account(number=1, name="a") == Account(number=1, name="b")
    assert Account(number=1) != Account(number=2)
    assert Account(number=1) != 1
    assert Account(number=1) != Visit(account=1, day=1)
    unsaved = Account(name="a")
    assert unsaved == unsaved
    assert unsaved != Account(name="a")
    assert len({Account(number=1), Account(number=1), Account(number=2), Visit(account=1, day=1)}) == 3
    assert Visit(account=Account(number=1), day=2) == Visit(account_id=1, day=2)


def test_repr_shows_the_fields_and_masks_secrets() -> None:
    assert repr(Account()) == "Account()"
    assert repr(Account(number=1, name="Sam")) == "Account(number=1, name='Sam')"
    full = Account(number=1, name="Sam", password="hunter2", tags=["a"])
    assert repr(full) == "Account(number=1, name='Sam', password=***, tags=['a'])"
    assert repr(Visit(account=full, day=3)) == "Visit(account_id=1, day=3)"
    assert "hunter2" not in str(full)


def test_repr_changes_nothing() -> None:
    row = Account(number=1)
    repr(row)
    assert Account.tags.peek(row, "unset") == "unset"


@pytest.mark.parametrize("duplicate", COPIES)
def test_copies_and_pickles_are_equal_and_independent(duplicate: Any) -> None:
    row = Account(number=1, name="Sam", tags=["a"])
    again = duplicate(row)
    assert again is not row
    assert again == row
    assert again.to_dict() == row.to_dict()
    again.name = "Bob"
    assert row.name == "Sam"


def test_only_a_shallow_copy_shares_values() -> None:
    row = Account(number=1, name="Sam", tags=["a"])
    assert copy.copy(row).tags is row.tags
    assert copy.deepcopy(row).tags is not row.tags


@pytest.mark.parametrize("duplicate", COPIES)
def test_what_is_unset_stays_unset(duplicate: Any) -> None:
    again = duplicate(Account(name="Sam"))
    assert again._pk is None
    assert Account.tags.peek(again, "unset") == "unset"
    assert again.tags == []


@pytest.mark.parametrize("duplicate", COPIES)
def test_slots_and_dicts_of_subclasses_are_copied_too(duplicate: Any) -> None:
    row: Any = Slotted(owner=Account(number=1, name="Sam"))
    row.cached = [1]
    row.remember("secret")
    again = duplicate(row)
    assert (again.cached, again.recall(), again.owner.name) == ([1], "secret", "Sam")
    free: Any = Open(name="x")
    free.anything = 5
    again = duplicate(free)
    assert (again.anything, again.name) == (5, "x")
    again.anything = 6
    assert free.anything == 5


def test_a_shallow_copy_loads_relations_by_itself() -> None:
    sam, bob = Account.create(number=1, name="Sam"), Account.create(number=2, name="Bob")
    visit = Visit(account=sam, day=1)
    again = copy.copy(visit)
    again.account = bob
    assert (visit.account, again.account) == (sam, bob)


def test_a_pickle_of_an_older_version_of_the_model_is_read() -> None:
    row = Account(number=1, name="Sam")
    state = row.__getstate__()
    state["values"]["gone"] = 1
    again = Account.__new__(Account)
    again.__setstate__(state)
    assert again.to_dict() == row.to_dict()


def test_dicts_lead_there_and_back() -> None:
    row = Account(number=1, name="Sam", tags=["a"])
    assert row.to_dict() == {"number": 1, "name": "Sam", "password": None, "tags": ["a"]}
    assert Account.from_dict(row.to_dict()).to_dict() == row.to_dict()
    visit = Visit(account=row, day=1)
    assert visit.to_dict() == {"account": 1, "day": 1, "place": "home"}
    assert Visit.from_dict(visit.to_dict()) == visit
    with pytest.raises(TypeError, match="did you mean 'name'"):
        Account.from_dict({"nam": 1})


def test_an_instance_without_a_primary_key_has_no_hash(memory: co.SimpleBackend) -> None:
    class Note(co.Model):
        text = co.StringField(default="")

        class Meta:
            backend = memory

    note = Note()
    for unsaved in (note, Account(), Visit(day=1), Visit(account=Account(), day=1)):
        with pytest.raises(TypeError, match=f"a {type(unsaved).__name__} without a primary key has no hash"):
            hash(unsaved)
    note.save()
    assert {note, Note.get(id=note.id)} == {note}


def test_the_primary_key_can_be_read_and_set() -> None:
    row = Account()
    assert (row._pk, row.get_id()) == (None, None)
    row._pk = 5
    assert (row.number, row._pk, row.get_id()) == (5, 5, 5)


def test_a_composite_key_is_a_tuple_and_is_checked() -> None:
    visit = Visit(day=1)
    assert visit._pk is None
    visit._pk = (Account(number=7), 2)
    assert (visit._pk, visit.account_id, visit.day) == ((7, 2), 7, 2)  # type: ignore[attr-defined]
    visit._pk = [8, 3]
    assert visit.get_id() == (8, 3)
    for wrong in (5, "ab", {1, 2}, None):
        with pytest.raises(TypeError, match=r"<CompositeKey: Visit\.\(account, day\)> takes a tuple"):
            visit._pk = wrong
    with pytest.raises(ValueError, match="takes 2 values, got 3"):
        visit._pk = (1, 2, 3)
    for call in (
        Visit.get_by_id,
        Visit.delete_by_id,
        lambda pk: Visit.set_by_id(pk, {}),
        lambda pk: Visit.get_many([pk]),
    ):
        with pytest.raises(TypeError):
            call(5)
        with pytest.raises(ValueError, match="takes 2 values"):
            call((1,))


def test_the_by_id_shortcuts_take_composite_keys() -> None:
    Visit.create(account=1, day=1)
    assert Visit.get_by_id((1, 1)).place == "home"
    assert Visit.get_by_id([1, 1]).place == "home"
    assert Visit.set_by_id((1, 1), {"place": "work"}).place == "work"
    assert set(Visit.get_many([(1, 1), [1, 2]])) == {(1, 1)}
    assert set(Visit.get_many([[1, 1]])) == {(1, 1)}
    assert Visit.delete_by_id((1, 1)) is True
    with pytest.raises(Visit.DoesNotExist, match="Visit: no row under key test_instances:m:visit:account:1:day:1"):
        Visit.get_by_id((1, 1))


def test_get_many_refuses_a_text() -> None:
    for wrong in ("abc", b"abc"):
        with pytest.raises(TypeError, match="iterable of primary keys"):
            Account.get_many(wrong)
    with pytest.raises(TypeError):
        Account.get_many(5)  # type: ignore[arg-type]


def test_a_model_that_is_iterable_is_still_a_row() -> None:
    class Basket(co.Model):
        items = co.ListField(co.StringField(), default=[])

        class Meta:
            backend = MEMORY

        def __iter__(self) -> Any:
            return iter(self.items)

    basket = Basket(items=["a"])
    assert Basket.insert_many(basket).execute() == [basket]
    assert Basket.query_many(basket).execute() == [basket]


def test_cache_builder_builds_keys() -> None:
    assert co.CacheBuilder(Account, row={"number": 1}).build_key() == "test_instances:m:account:number:1"
    assert co.CacheBuilder(Account, row={"number": 1, "name": "x"}).build_key() == Account.key(number=1)
    assert co.CacheBuilder(Visit, instance=Visit(account=1, day=2)).build_key() == Visit.key(account_id=1, day=2)
    with pytest.raises(ValueError, match=r"missing value for <Field: Visit\.day>"):
        co.CacheBuilder(Visit, row={"account": 1}).build_key()
    with pytest.raises(ValueError, match="missing value"):
        co.CacheBuilder(Visit).build_key()


def test_a_key_default_is_made_once_when_the_row_is_written() -> None:
    class Note(co.Model):
        text = co.StringField(default="")

        class Meta:
            backend = MEMORY

    note = Note()
    note.save(force_insert=True)
    first = note.id
    note.save(force_insert=True)
    assert isinstance(first, uuid.UUID)
    assert note.id == first


def test_a_copy_with_other_values_leaves_the_row_as_it_is(memory: co.SimpleBackend) -> None:
    replace = getattr(copy, "replace", lambda row, **changes: row.__replace__(**changes))  # Python 3.13
    with co.bind([Account, Visit], backend=memory):
        row = Account.create(number=1, name="Sam", tags=["a"])
        other = replace(row, name="Bob")
        assert (row.name, other.name, other.tags) == ("Sam", "Bob", ["a"])
        assert other.save()
        assert Account.get(number=1).name == "Bob"
        moved = replace(row, number=2)
        assert moved.save(force_insert=True)
        assert (Account.get(number=2).name, Account.get(number=1).name) == ("Sam", "Bob")
        visit = replace(Visit(account=row, day=1), account_id=2)
        assert visit.account == moved
        with pytest.raises(TypeError, match="did you mean 'name'"):
            replace(row, nam="x")
        with pytest.raises(ValueError, match="contradict"):
            replace(visit, account=1, account_id=2)


class Color(Enum):
    RED = "a"


KEYS: list[tuple[co.Field[Any], Any, Any]] = [
    (co.UUIDField(primary_key=True), str(uuid.UUID(int=7)), uuid.UUID(int=7)),
    (co.ShortUUIDField(primary_key=True), str(uuid.UUID(int=7)), uuid.UUID(int=7)),
    (co.IntegerField(primary_key=True), "5", 5),
    (co.EnumField(Color, primary_key=True), "a", Color.RED),
    (co.DateField(primary_key=True), "2024-02-03", datetime.date(2024, 2, 3)),
    (co.DecimalField(primary_key=True), "1.0", Decimal(1)),
    (co.StructField(str, int, primary_key=True), "5", 5),
]


@pytest.mark.parametrize(("field", "given", "read"), KEYS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("form", ["single", "composite", "reference"])
def test_an_instance_stays_in_a_set_when_it_is_written(field: Any, given: Any, read: Any, form: str) -> None:
    body: dict[str, Any] = {"id": field, "Meta": type("Meta", (), {"backend": co.SimpleBackend()})}
    model: Any = type("Keyed", (co.Model,), body)
    if form == "composite":
        options = {"backend": co.SimpleBackend(), "primary_key": co.CompositeKey("other", "day")}
        body = {"other": co.ForeignKeyField(model), "day": co.IntegerField(), "Meta": type("Meta", (), options)}
        model, given, read = type("Pair", (co.Model,), body), (given, "3"), (read, 3)
    elif form == "reference":
        body = {"id": co.ForeignKeyField(model, primary_key=True), "Meta": body["Meta"]}
        model = type("Referring", (co.Model,), body)
    row, other = model(), model()
    row._pk, other._pk = given, read
    assert row == other
    assert hash(row) == hash(other)
    kept = {row}
    row.save(force_insert=True)
    assert row in kept
    assert model.get_by_id(read) in kept
    other.save()
    assert other in kept


def test_a_key_that_the_field_does_not_take_is_compared_as_it_is() -> None:
    assert Account(number="x") == Account(number="x") != Account(number="y")
    assert len({Account(number="x"), Account(number="x"), Visit(account="x", day=1)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Account(number=[]))
