"""Operations over several models: order, round trips, modifiers, and what is told when a part of it fails."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from lifetimes import left_of
from servers import HOST, RedisServer

import cacheorm as co
from cacheorm.types import TTL, KeepTTL, Outcome, Value


class Counting(co.SimpleBackend):
    """Records the requests, and fails those that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()

    def _note(self, method: str, *rest: Any) -> None:
        self.requests.append((method, *rest))
        if method in self.broken:
            raise co.BackendError(f"{method} is broken", maybe_applied=method != "get_chunks")

    def get_chunks(self, keys: Sequence[str]) -> Iterator[list[bytes | None]]:
        self._note("get_chunks", len(keys))
        for start in range(0, len(keys), 3):
            yield super().get_many(*keys[start : start + 3])

    def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        self._note("set_many", len(mapping), ttl)
        return super().set_many(mapping, ttl)

    def add_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
        self._note("add_many", len(mapping), ttl)
        return super().add_many(mapping, ttl)

    def replace_many(self, mapping: Mapping[str, Value], ttl: TTL | KeepTTL = None) -> Outcome:
        self._note("replace_many", len(mapping), ttl)
        return super().replace_many(mapping, ttl)

    def delete_many(self, *keys: str) -> bool:
        self._note("delete_many", len(keys))
        return super().delete_many(*keys)


HERE, THERE = Counting(), Counting()


class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")

    class Meta:
        backend = HERE
        namespace = "test_many"


class Badge(co.Model):
    label = co.StringField(primary_key=True)
    owner = co.ForeignKeyField(User, null=True)

    class Meta:
        backend = HERE
        namespace = "test_many"
        serializer = "json"


class Visit(co.Model):
    id = co.UUIDField(primary_key=True, default=uuid.uuid4)
    page = co.StringField(default="")

    class Meta:
        backend = HERE
        namespace = "test_many"
        ttl = 60


class Item(co.Model):
    id = co.IntegerField(primary_key=True)
    amount = co.IntegerField(default=0)
    seller = co.ForeignKeyField(User, null=True)

    class Meta:
        backend = THERE
        namespace = "test_many"


@pytest.fixture(autouse=True)
def empty() -> None:
    for backend in (HERE, THERE):
        backend.clear()
        backend.broken.clear()
        backend.requests.clear()


def test_rows_come_back_in_the_order_given() -> None:
    sam, bob = User(id=1, name="Sam"), User(id=2, name="Bob")
    rows = co.Insert([sam, (Item, [{"id": 1}, {"id": 2}]), (Badge, {"label": "x"}), bob, Visit(page="home")]).execute()
    assert [type(row) for row in rows] == [User, Item, Item, Badge, User, Visit]
    assert rows[0] is sam
    assert rows[4] is bob
    assert [row.id for row in rows[1:3]] == [1, 2]
    # One write per backend and lifetime.
    assert sorted(HERE.requests, key=str) == [("set_many", 1, 60), ("set_many", 3, None)]
    assert THERE.requests == [("set_many", 2, None)]
    HERE.requests.clear()
    found = co.Query([(Item, [{"id": 2}, {"id": 9}]), bob, (Badge, [{"label": "x"}, {"label": "x"}]), sam]).execute()
    assert [row and row._pk for row in found] == [2, None, 2, "x", "x", 1]
    assert found[3] is found[4]
    assert HERE.requests == [("get_chunks", 3)]


def test_rows_may_be_given_one_by_one_and_by_generators() -> None:
    assert co.Insert(User(id=1), (Item, ({"id": i} for i in range(4)))).execute()[4].id == 3
    assert co.Insert(row for row in (User(id=2), Badge(label="y"))).execute()[1].label == "y"
    assert co.Query((User, [{"id": 1}, {"id": 2}])).execute()[1].id == 2
    assert co.Delete(User(id=1)).execute() is True
    assert co.Insert([]).execute() == co.Query().execute() == co.Update([(User, [])]).execute() == []
    assert co.Delete([]).execute() is True


def test_updates_read_and_write_once_per_backend() -> None:
    co.Insert([(User, [{"id": i} for i in range(4)]), (Badge, {"label": "x"}), (Item, {"id": 1})]).ttl(5000).execute()
    HERE.requests.clear()
    THERE.requests.clear()
    rows = co.Update(
        [
            (User, [{"id": 3, "name": "c"}, {"id": 7, "name": "d"}]),
            (Item, {"id": 1, "amount": 5}),
            Badge(label="x", owner=3),
        ]
    ).execute()
    assert [row and row._pk for row in rows] == [3, None, 1, "x"]
    assert (User.get(id=3).name, Item.get(id=1).amount, Badge.get(label="x").owner_id) == ("c", 5, 3)  # type: ignore[attr-defined]
    assert [request[0] for request in HERE.requests[:2]] == ["get_chunks", "replace_many"]
    assert [request[0] for request in THERE.requests[:2]] == ["get_chunks", "replace_many"]
    co.Update([(User, {"id": 1, "name": "kept"}), (Item, {"id": 1})]).keep_ttl().execute()
    assert User.get(id=1).ttl() in left_of(5000)


def test_deletes_remove_all_and_tell_whether_all_existed() -> None:
    co.Insert([User(id=1), Badge(label="x"), Item(id=1)]).execute()
    HERE.requests.clear()
    assert co.Delete([User(id=1), (Badge, {"label": "x"}), (Item, [{"id": 1}, {"id": 2}])]).execute() is False
    assert HERE.requests == [("delete_many", 2)]
    assert co.Query([User(id=1), Badge(label="x"), Item(id=1)]).execute() == [None] * 3
    with pytest.raises(TypeError, match="name"):
        co.Delete([(User, {"id": 1, "name": "x"})]).execute()


def test_modifiers_are_handed_on() -> None:
    users = [{"id": i, "name": "new"} for i in range(5)]
    User.create(id=2, name="old")
    rows = co.Insert([(User, users), Item(id=1)]).if_absent().ttl(5000).execute()
    assert [row is not None for row in rows] == [True, True, False, True, True, True]
    assert User.get(id=2).name == "old"
    assert Item.get(id=1).ttl() in left_of(5000)

    def bump(row: Any) -> None:
        if isinstance(row, Item):
            row.amount += 1
        else:
            row.name += "!"

    changed = co.Update([(User, {"id": 2}), (Item, {"id": 1})]).apply(bump).atomic().execute()
    assert (changed[0].name, changed[1].amount) == ("old!", 1)
    HERE.requests.clear()
    co.Insert([(User, users), (Badge, [{"label": str(i)} for i in range(5)])]).chunk_size(2).execute()
    assert [request[1] for request in HERE.requests] == [4, 4, 2]


def test_related_rows_of_all_models_are_read_together() -> None:
    co.Insert([(User, [{"id": i} for i in range(3)]), Badge(label="a", owner=1), Item(id=1, seller=1)]).execute()
    HERE.requests.clear()
    query = co.Query([(Badge, {"label": "a"}), (Item, {"id": 1}), (User, {"id": 1})])
    tag, item, user = query.preload(Badge.owner, "seller").execute()
    # The row that both refer to was read by the same call.
    assert tag.owner is item.seller is user
    assert HERE.requests == [("get_chunks", 2)]
    HERE.requests.clear()
    tag, item = co.Query([(Badge, {"label": "a"}), (Item, {"id": 1})]).preload("owner", "seller").execute()
    assert tag.owner is item.seller
    assert HERE.requests == [("get_chunks", 1), ("get_chunks", 1)]
    with pytest.raises(ValueError, match="no foreign key 'nobody'"):
        query.preload("nobody").execute()
    with pytest.raises(TypeError, match="expected a foreign key"):
        query.preload(3)


def test_bad_rows_are_found_before_anything_is_sent() -> None:
    for operation in (
        co.Insert([User(id=1), (Item, [{"id": 1}, {"id": 2, "amount": "many"}])]),
        co.Update([User(id=1), (Item, [{"id": 1, "amount": "many"}])]),
        co.Delete([User(id=1), (Item, {"id": "one"})]),
        co.Query([User(id=1), (Item, {"id": "one"})]),
    ):
        with pytest.raises(co.ValidationError, match="Item"):
            operation.execute()
    assert HERE.requests == THERE.requests == []


@pytest.mark.parametrize("item", [1, "user", {"id": 1}, User, (User,), (User, [], 1), ("User", []), None])
def test_what_is_no_row_is_refused(item: Any) -> None:
    for operation in (co.Insert, co.Query, co.Update, co.Delete):
        with pytest.raises(TypeError, match="expected instances of models and pairs of a model and its rows, got"):
            operation([User(id=1), item]).execute()


@pytest.mark.parametrize("items", [(User,), ([User],), ((User,),), (User(id=1), User)])
def test_a_class_in_place_of_rows_is_called_so(items: Any) -> None:
    for operation in (co.Insert, co.Query, co.Update, co.Delete):
        with pytest.raises(TypeError, match=r"pairs of a model and its rows, got the class User$"):
            operation(*items).execute()


def test_one_backends_error_leaves_the_others_written() -> None:
    THERE.broken.add("set_many")
    with pytest.raises(co.WriteError, match=r"2 rows were not stored: Item .*set_many is broken") as caught:
        co.Insert([(Item, [{"id": 1}, {"id": 2}]), User(id=1), Visit()]).execute()
    error = caught.value
    assert [(row.model, row.key) for row in error.failed] == [("Item", Item.key(id=1)), ("Item", Item.key(id=2))]
    assert all("may have been applied" in row.reason for row in error.failed)
    assert isinstance(error.__cause__, co.BackendError)
    assert ("User", User.key(id=1)) in (error.stored or [])
    assert [model for model, _ in error.stored or []] == ["User", "Visit"]
    assert User.get_or_none(id=1) is not None
    again = pickle.loads(pickle.dumps(error))
    assert (again.failed, again.stored, str(again)) == (error.failed, error.stored, str(error))


def test_updates_and_deletes_report_likewise() -> None:
    co.Insert([User(id=1), Item(id=1), Item(id=2)]).execute()
    THERE.broken |= {"replace_many", "delete_many"}
    with pytest.raises(co.WriteError) as caught:
        co.Update([(Item, {"id": 1, "amount": 1}), (User, {"id": 1, "name": "x"})]).execute()
    assert [row.key for row in caught.value.failed] == [Item.key(id=1)]
    assert caught.value.stored == [("User", User.key(id=1))]
    assert User.get(id=1).name == "x"
    with pytest.raises(co.WriteError, match="1 row was not removed: Item") as caught:
        co.Delete([Item(id=1), User(id=1)]).execute()
    assert caught.value.stored == [("User", User.key(id=1))]
    assert User.get_or_none(id=1) is None


def test_parts_that_were_written_before_the_error_count_as_stored() -> None:
    written = []

    class Third(Counting):
        def set_many(self, mapping: Mapping[str, Value], ttl: TTL = None) -> Outcome:
            if len(written) == 2:
                raise co.BackendError("the third is broken")
            written.append(mapping)
            return super().set_many(mapping, ttl)

    with co.bind([Item], backend=Third()), pytest.raises(co.WriteError) as caught:
        co.Insert([(Item, [{"id": i} for i in range(9)])]).chunk_size(2).execute()
    assert [row.key for row in caught.value.failed] == [Item.key(id=i) for i in range(4, 9)]
    assert caught.value.stored == [("Item", Item.key(id=i)) for i in range(4)]


def test_refused_rows_are_told_apart_from_the_stored() -> None:
    with co.bind([Item], backend=co.SimpleBackend(threshold=2)), pytest.raises(co.WriteError) as caught:
        co.Insert([(Item, [{"id": i} for i in range(3)]), User(id=1)]).execute()
    assert [row.key for row in caught.value.failed] == [Item.key(id=0)]
    assert [key for _, key in caught.value.stored or []] == [Item.key(id=1), Item.key(id=2), User.key(id=1)]


def test_a_failed_read_is_the_backends_error() -> None:
    THERE.broken.add("get_chunks")
    with pytest.raises(co.BackendError, match="get_chunks is broken"):
        co.Query([User(id=1), Item(id=1)]).execute()


def test_two_models_that_write_one_key_write_in_order() -> None:
    class Other(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            backend = HERE
            namespace = "test_many"
            name = "user"

    co.Insert([User(id=1, name="first"), Other(id=1, name="second")]).execute()
    assert User.get(id=1).name == "second"
    assert [request[0] for request in HERE.requests] == ["set_many", "set_many"]


def test_backends_of_every_kind_in_one_call(backend: co.BaseBackend, redis_server: RedisServer, tmp_path: Any) -> None:
    with (
        co.RedisBackend(host=HOST, port=redis_server.port, db=3) as redis,
        co.FileSystemBackend(tmp_path / "other") as files,
        co.bind([User, Badge], backend=backend),
        co.bind([Item], backend=redis),
        co.bind([Visit], backend=files),
    ):
        items: list[Any] = [(User, [{"id": i, "name": str(i)} for i in range(3000)]), Badge(label="t"), Visit(page="p")]
        items.append((Item, [{"id": i, "amount": i} for i in range(3000)]))
        rows = co.Insert(items).execute()
        assert [row._pk for row in co.Query(rows).execute()] == [row._pk for row in rows]
        assert [row.amount for row in co.Query(rows).execute()[-3:]] == [2997, 2998, 2999]
        assert co.Delete(rows).execute() is True
        assert co.Query(rows).execute() == [None] * len(rows)


def test_a_dead_server_is_one_backends_error() -> None:
    with (
        RedisServer() as server,
        co.RedisBackend(host=HOST, port=server.port) as redis,
        co.bind([Item], backend=redis),
    ):
        co.Insert([User(id=1), Item(id=1)]).execute()
        server.kill()
        with pytest.raises(co.WriteError, match="Item") as caught:
            co.Insert([User(id=2), Item(id=2)]).execute()
        assert [row.model for row in caught.value.failed] == ["Item"]
        assert User.get_or_none(id=2) is not None


def test_rows_may_refer_to_others_of_the_call_wherever_they_are() -> None:
    class Owner(co.Model):
        id = co.UUIDField(primary_key=True, default=uuid.uuid4)

    class Pet(co.Model):
        owner = co.ForeignKeyField(Owner, primary_key=True)
        friend = co.ForeignKeyField("self", null=True)

    class Toy(co.Model):
        id = co.IntegerField(primary_key=True)
        pet = co.ForeignKeyField(Pet)

    with co.bind([Owner], backend=HERE), co.bind([Pet, Toy], backend=THERE):
        known = Pet.create(owner=Owner.create())
        sam, bob = Owner(), Owner()
        first, second = Pet(owner=sam), Pet(owner=bob)
        second.friend = first
        co.Insert([Toy(id=1, pet=known), Toy(id=2, pet=second), first, second, sam, bob]).execute()
        (toy,) = co.Query((Toy, {"id": 2})).preload("pet.friend.owner", "pet.owner").execute()
        assert (toy.pet.owner, toy.pet.friend.owner) == (bob, sam)
        with pytest.raises(co.ValidationError, match=r"Toy\.pet: .*save it first \(row 1, "):
            co.Insert([sam, Toy(id=3, pet=Pet(owner=Owner()))]).execute()


def test_errors_say_which_row_of_the_call_it_is() -> None:
    users = [User(id=1), User(id=2)]
    for operation in (
        co.Insert([*users, (Item, [{"id": 1}, {"id": 2, "amount": "x"}])]),
        co.Update([*users, (Item, [{"id": 1}, {"id": 2, "amount": "x"}])]),
        co.Delete([*users, (Item, [{"id": 1}, {"id": "x"}])]),
        co.Query([*users, (Item, [{"id": 1}, {"id": "x"}])]),
        co.Insert([(Item, {"id": 1}), *users, Item(id=2, amount="x")]),  # type: ignore[arg-type]
    ):
        with pytest.raises(co.ValidationError, match=r"^Item\.(amount|id): .*\(row 3[,)]") as caught:
            operation.execute()
        assert caught.value.row == 3
    assert HERE.requests == THERE.requests == []


def test_atomic_updates_share_their_reads_as_well() -> None:
    class Swapping(Counting):
        def get_many_cas(self, *keys: str) -> list[tuple[bytes, Any] | None]:
            self._note("get_many_cas", len(keys))
            return super().get_many_cas(*keys)

        def compare_and_set_many(
            self, mapping: Mapping[str, tuple[Value, Any]], ttl: TTL | KeepTTL = None
        ) -> dict[str, bool]:
            self._note("compare_and_set_many", len(mapping))
            return super().compare_and_set_many(mapping, ttl)

    shared = Swapping()
    with co.bind([User, Badge], backend=shared):
        co.Insert([(User, [{"id": i} for i in range(3)]), Badge(label="x")]).execute()
        shared.requests.clear()
        rows = co.Update([(User, [{"id": 2, "name": "c"}, {"id": 9}]), (Badge, {"label": "x", "owner": 2})]).atomic()
        assert [row and row._pk for row in rows.execute()] == [2, None, "x"]
        assert shared.requests == [("get_many_cas", 3), ("compare_and_set_many", 2)]
        assert User.get(id=2).name == "c"


def test_rows_that_others_keep_changing_are_a_conflict() -> None:
    co.Insert([User(id=1), Item(id=1)]).execute()

    names = iter("abcdef")

    def meddle(row: Any) -> None:
        if isinstance(row, User):
            User.insert(id=1, name=next(names)).execute()

    update = co.Update([(User, {"id": 1, "name": "mine"}), (Item, {"id": 1, "amount": 3})])
    with pytest.raises(co.ConflictError, match="User") as caught:
        update.apply(meddle).atomic(retries=2).execute()
    assert [row.key for row in caught.value.failed] == [User.key(id=1)]
    assert caught.value.stored == [("Item", Item.key(id=1))]
    assert Item.get(id=1).amount == 3


@pytest.mark.parametrize("method", ["set_many", "replace_many", "delete_many"])
def test_of_parts_it_is_told_which_are_done_which_are_not_and_which_may_be(method: str) -> None:
    class Second(Counting):
        def _note(self, name: str, *rest: Any) -> None:
            super()._note(name, *rest)
            if name == method and [request[0] for request in self.requests].count(name) == 2:
                raise co.BackendError("the answer was lost", maybe_applied=True)

    rows = [{"id": i} for i in range(6)]
    backend = Second()
    with co.bind([Item], backend=backend):
        if method != "set_many":
            Item.insert_many(rows).execute()
            backend.requests.clear()
        kind = {"set_many": co.Insert, "replace_many": co.Update, "delete_many": co.Delete}[method]
        with pytest.raises(co.WriteError) as caught:
            kind([(Item, rows), (User, {"id": 1})]).chunk_size(2).execute()
    keys = [Item.key(id=i) for i in range(6)]
    assert [row.key for row in caught.value.failed] == keys[2:]
    assert [row.maybe_applied for row in caught.value.failed] == [True, True, False, False]
    assert caught.value.failed[2].reason == "the answer was lost"
    assert caught.value.stored == [*(("Item", key) for key in keys[:2]), ("User", User.key(id=1))]
