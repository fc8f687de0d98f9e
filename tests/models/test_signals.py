"""Signals: who hears what in which order, what receivers may change and stop, and that silence costs nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import cacheorm as co
from cacheorm import signals

NAMES = ("pre_save", "post_save", "pre_delete", "post_delete")


def models(backend: co.BaseBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(default="")
        visits = co.IntegerField(default=0)

    co.bind([User], backend=backend)
    return User


@pytest.fixture
def user(backend: co.BaseBackend) -> Any:
    return models(backend)


Heard = list[tuple[Any, ...]]


@pytest.fixture
def heard(user: Any) -> Iterator[Heard]:
    """What the receivers of all four signals of the model hear."""
    found: Heard = []

    def hear(name: str) -> Any:
        def receiver(sender: Any, instance: Any, **details: Any) -> None:
            assert type(instance) is sender
            found.append((name, instance.id, *details.values()))

        return receiver

    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(getattr(signals, name).connected_to(hear(name), user))
        yield found


def test_single_operations_send_for_their_row(user: Any, heard: Heard) -> None:
    sam = user.create(id=1, name="Sam")
    sam.name = "Samuel"
    sam.save()
    user.insert(id=2).execute()
    user.update(id=2, name="Bob").execute()
    user.set_by_id(2, {"name": "Robert"})
    user.increment(2, "visits")
    sam.delete_instance()
    user.delete_by_id(2)
    assert heard == [
        *[("pre_save", 1), ("post_save", 1, True), ("pre_save", 1), ("post_save", 1, False)],
        *[("pre_save", 2), ("post_save", 2, True)],
        *[("pre_save", 2), ("post_save", 2, False)] * 3,
        *[("pre_delete", 1), ("post_delete", 1), ("pre_delete", 2), ("post_delete", 2)],
    ]


def test_bulk_operations_send_for_each_row_in_order(user: Any, heard: Heard) -> None:
    rows = [{"id": i} for i in (3, 1, 2)]
    user.insert_many(rows).execute()
    assert heard == [*[("pre_save", i) for i in (3, 1, 2)], *[("post_save", i, True) for i in (3, 1, 2)]]
    heard.clear()
    user.update_many([*rows, {"id": 9}]).chunk_size(2).execute()
    assert heard == [*[("pre_save", i) for i in (3, 1, 2)], *[("post_save", i, False) for i in (3, 1, 2)]]
    heard.clear()
    user.update_many(rows).atomic().execute()
    assert heard == [*[("pre_save", i) for i in (3, 1, 2)], *[("post_save", i, False) for i in (3, 1, 2)]]
    heard.clear()
    user.delete_many(iter(rows)).execute()
    assert heard == [*[("pre_delete", i) for i in (3, 1, 2)], *[("post_delete", i) for i in (3, 1, 2)]]


def test_rows_that_are_not_stored_send_no_post_save(user: Any, heard: Heard) -> None:
    user.create(id=1)
    heard.clear()
    assert user.update(id=5).execute() is None
    assert user.insert(id=1).if_absent().execute() is None
    user.insert_many({"id": 1}, {"id": 2}, {"id": 2}).if_absent().execute()
    assert [one for one in heard if one[0] == "post_save"] == [("post_save", 2, True)]
    heard.clear()
    assert user.delete(id=5).execute() is False
    assert heard == [("pre_delete", 5)]


def test_get_or_create_sends_for_what_it_creates(user: Any, heard: Heard) -> None:
    user.get_or_create(id=1)
    user.get_or_create(id=1)
    assert heard == [("pre_save", 1), ("post_save", 1, True)]


def test_operations_over_models_send_for_each(user: Any, heard: Heard) -> None:
    class Other(co.Model):
        id = co.IntegerField(primary_key=True)

    others: list[int] = []

    def receiver(sender: Any, instance: Any, created: bool) -> None:
        others.append(instance.id)

    with signals.post_save.connected_to(receiver, Other):
        co.Insert([user(id=1), (Other, {"id": 7}), user(id=2)]).execute()
    assert others == [7]
    assert heard == [("pre_save", 1), ("pre_save", 2), ("post_save", 1, True), ("post_save", 2, True)]


def test_operations_over_models_send_in_the_order_of_their_rows(user: Any, heard: Heard) -> None:
    class Other(co.Model):
        id = co.IntegerField(primary_key=True)
        owner = co.ForeignKeyField(user)

    co.bind([Other], backend=co.SimpleBackend())

    def hear(name: str) -> Any:
        def receiver(sender: Any, instance: Any, **details: Any) -> None:
            heard.append((name, instance.id, *details.values()))

        return receiver

    def expected(before: str, after: str, *details: bool) -> Heard:
        return [(before, i) for i in (1, 10, 2, 20)] + [(after, i, *details) for i in (1, 10, 2, 20)]

    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(getattr(signals, name).connected_to(hear(name), Other))
        rows = [user(id=1), (Other, {"id": 10, "owner": 1}), user(id=2), Other(id=20, owner=1)]
        co.Insert(rows).execute()
        assert heard == expected("pre_save", "post_save", True)
        for atomic in (False, True):
            heard.clear()
            update = co.Update(rows)
            (update.atomic() if atomic else update).execute()
            assert heard == expected("pre_save", "post_save", False)
        heard.clear()
        co.Delete([user(id=1), (Other, {"id": 10}), user(id=2), Other(id=20)]).execute()
        assert heard == expected("pre_delete", "post_delete")


def test_nothing_is_written_before_all_receivers_of_all_models_were_called(user: Any) -> None:
    class Other(co.Model):
        id = co.IntegerField(primary_key=True)

    co.bind([Other], backend=co.SimpleBackend())
    Other.create(id=1)
    user.create(id=1, name="old")

    def refuse(sender: Any, instance: Any) -> None:
        raise PermissionError

    with signals.pre_save.connected_to(refuse, Other), signals.pre_delete.connected_to(refuse, Other):
        for operation in (
            co.Insert([user(id=1, name="new"), Other(id=1)]),
            co.Update([user(id=1, name="new"), Other(id=1)]),
            co.Update([user(id=1, name="new"), Other(id=1)]).atomic(),
            co.Delete([user(id=1), Other(id=1)]),
        ):
            with pytest.raises(PermissionError):
                operation.execute()
            assert user.get(id=1).name == "old"


def test_receivers_get_the_instances_that_were_given(user: Any) -> None:
    given: list[Any] = []

    def receiver(sender: Any, instance: Any, **details: Any) -> None:
        given.append(instance)

    sam, bob = user(id=1, name="Sam"), user(id=2)
    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(getattr(signals, name).connected_to(receiver, user))
        for operate in (
            lambda: sam.save(force_insert=True),
            sam.save,
            sam.delete_instance,
            user.insert_many(sam).execute,
            user.update_many(sam).execute,
        ):
            given.clear()
            operate()
            assert [one is sam for one in given] == [True, True]
        user.create(id=2, name="Bob", visits=3)
        given.clear()
        # Only some of its fields were set: receivers see the others as they are stored.
        seen = []

        def look(sender: Any, instance: Any) -> None:
            seen.append(instance.visits)

        with signals.pre_save.connected_to(look, user):
            user.update_many(bob, {"id": 1, "name": "a"}, sam).execute()
        assert seen == [3, 0]
        assert [one is expected for one, expected in zip(given, (bob, sam, bob, sam), strict=True)] == [True] * 4


def test_what_is_assigned_and_has_no_key_is_refused_and_not_written_as_null() -> None:
    class Owner(co.Model):
        pass

    class Pet(co.Model):
        id = co.IntegerField(primary_key=True)
        owner = co.ForeignKeyField(Owner, null=True)

    Pet.create(id=2, owner=Owner.create())
    fresh = Owner()

    def adopt(sender: Any, instance: Any) -> None:
        instance.owner = fresh

    with signals.pre_save.connected_to(adopt, Pet):
        for operation in (
            Pet.insert(id=1),
            Pet.insert_many({"id": 1}),
            Pet.update(id=2),
            Pet.update_many({"id": 2}),
            Pet.update_many({"id": 2}).atomic(),
        ):
            with pytest.raises(co.ValidationError, match=r"Pet\.owner: .*save it first"):
                operation.execute()
        with pytest.raises(co.ValidationError, match="save it first"):
            Pet.get_or_create(id=1)
        fresh.save()
        assert Pet.create(id=1).owner_id == fresh.id  # type: ignore[attr-defined]
    assert Pet.get(id=1).owner == fresh


def test_the_row_that_is_wrong_is_named_by_its_place(user: Any) -> None:
    user.insert_many([{"id": i} for i in range(1, 5)]).execute()

    def spoil(sender: Any, instance: Any) -> None:
        if instance.id == 4:
            instance.visits = "many"

    with signals.pre_save.connected_to(spoil, user):
        for rows in ([{"id": 9}, {"id": 4}], [{"id": 3}, {"id": 4}, {"id": 3}]):
            with pytest.raises(co.ValidationError, match=r"visits: .*\(row 1, key") as caught:
                user.update_many(rows).chunk_size(1).execute()
            assert caught.value.row == 1


def test_get_or_create_keeps_the_key_that_was_asked_for(user: Any) -> None:
    def move(sender: Any, instance: Any) -> None:
        instance.id += 1

    with signals.pre_save.connected_to(move, user), pytest.raises(ValueError, match="changed the primary key"):
        user.get_or_create(id=1)
    assert user.get_many([1, 2]) == {}


def test_what_a_receiver_changes_is_stored(user: Any) -> None:
    def shout(sender: Any, instance: Any) -> None:
        instance.name = instance.name.upper()
        instance.visits = str(instance.visits + 1)

    with signals.pre_save.connected_to(shout, user):
        sam = user.create(id=1, name="sam", visits=0)
        assert (sam.name, sam.visits) == ("SAM", 1)
        rows = user.insert_many({"id": i, "name": f"n{i}", "visits": 0} for i in range(2, 6)).execute()
        assert [row.name for row in rows] == ["N2", "N3", "N4", "N5"]
        assert user.update(id=1, name="tom").execute().name == "TOM"
        assert (sam.refresh().name, sam.visits) == ("TOM", 2)
        sam.name = "ann"
        assert sam.save()
        assert (sam.name, sam.visits) == ("ANN", 3)
        user.update_many({"id": 2, "name": "a"}, {"id": 3}).execute()
    assert [(row.name, row.visits) for row in user.get_many([1, 2, 3]).values()] == [("ANN", 3), ("A", 2), ("N3", 2)]


def test_a_receiver_that_raises_stops_before_anything_is_written(user: Any) -> None:
    user.insert_many([{"id": i, "name": "old"} for i in range(5)]).execute()

    def refuse(sender: Any, instance: Any) -> None:
        if instance.id == 3:
            raise PermissionError("not this one")

    rows = [{"id": i, "name": "new"} for i in range(5)]
    others = models(co.SimpleBackend())
    with signals.pre_save.connected_to(refuse, user), signals.pre_delete.connected_to(refuse, user):
        for operation in (
            user.insert_many(rows),
            user.insert_many(rows).chunk_size(1),
            user.update_many(rows).chunk_size(1),
            user.update_many(rows).chunk_size(1).atomic(),
            user.update(**rows[3]),
            user.insert(**rows[3]),
            user.delete(id=3),
            user.delete_many([{"id": i} for i in range(5)]).chunk_size(1),
            co.Insert([(others, rows), (user, rows)]),
            co.Update([(user, rows)]),
            co.Delete([(user, [{"id": i} for i in range(5)])]),
        ):
            with pytest.raises(PermissionError):
                operation.execute()
    assert [row.name for row in user.get_many(range(5)).values()] == ["old"] * 5
    assert others.get_many(range(5)) == {}


def test_a_receiver_must_not_change_the_key_of_a_row_that_exists(user: Any) -> None:
    def move(sender: Any, instance: Any) -> None:
        instance.id += 100

    user.create(id=1)
    with signals.pre_save.connected_to(move, user):
        with pytest.raises(ValueError, match="changed the primary key"):
            user.update(id=1).execute()
        assert user.create(id=2).id == 102
    assert user.get_many([1, 2, 101, 102]).keys() == {1, 102}


def test_refused_rows_send_nothing_and_stored_ones_do() -> None:
    user = models(co.SimpleBackend(threshold=2))
    stored: list[int] = []

    def receiver(sender: Any, instance: Any, created: bool) -> None:
        stored.append(instance.id)

    with signals.post_save.connected_to(receiver, user), pytest.raises(co.WriteError):
        user.insert_many([{"id": i} for i in range(4)]).execute()
    assert stored == [2, 3]


def test_a_delete_by_key_gives_an_instance_with_its_key(user: Any) -> None:
    given: list[Any] = []

    def receiver(sender: Any, instance: Any) -> None:
        given.append(instance)

    sam = user.create(id=1, name="Sam")
    with signals.pre_delete.connected_to(receiver, user):
        sam.delete_instance()
        user.delete(id="2").execute()
        user.delete_many({"id": 3}, {"id": 3}).execute()
    assert given[0] is sam
    assert [one.id for one in given[1:]] == [2, 3]
    with signals.pre_delete.connected_to(receiver, user), pytest.raises(TypeError, match="name"):
        user.delete(id=1, name="Sam").execute()
    assert len(given) == 3


def test_the_sender_is_the_model_itself(user: Any) -> None:
    class Admin(user):  # type: ignore[misc]
        pass

    of_parent: list[Any] = []
    of_all: list[Any] = []

    def parent(sender: Any, **details: Any) -> None:
        of_parent.append(sender)

    def everything(sender: Any, **details: Any) -> None:
        of_all.append(sender)

    with signals.post_save.connected_to(parent, user), signals.post_save.connected_to(everything):
        Admin.create(id=1)
        user.create(id=1)
    assert of_parent == [user]
    assert of_all == [Admin, user]


def test_receivers_of_an_abstract_model_hear_of_all_that_inherit_it(backend: co.BaseBackend) -> None:
    class Stamped(co.Model):
        stamp = co.StringField(default="")

        class Meta:
            abstract = True

    class Page(Stamped):
        id = co.IntegerField(primary_key=True)

    class Special(Page):
        pass

    class Other(co.Model):
        id = co.IntegerField(primary_key=True)

    co.bind([Page, Special, Other], backend=backend)
    heard: list[Any] = []

    def stamp(sender: Any, instance: Any) -> None:
        heard.append(sender)
        if sender is not Other:
            instance.stamp = sender.__name__

    with signals.pre_save.connected_to(stamp, Stamped), signals.pre_save.connected_to(stamp, Page):
        Page.create(id=1)
        Special.insert_many({"id": 1}).execute()
        Other.create(id=1)
    assert heard == [Page, Special]
    assert (Page.get(id=1).stamp, Special.get(id=1).stamp) == ("Page", "Special")
    heard.clear()
    with signals.pre_save.connected_to(stamp, co.Model), signals.pre_save.connected_to(stamp):
        Other.create(id=2)
        Page.create(id=2)
    assert heard == [Other, Page]
    Page.create(id=3)
    assert len(heard) == 2


def test_a_receiver_that_nothing_refers_to_is_forgotten(user: Any) -> None:
    heard: list[int] = []

    def make() -> Any:
        def forgotten(sender: Any, instance: Any) -> None:
            heard.append(instance.id)

        def kept(sender: Any, instance: Any) -> None:
            heard.append(-instance.id)

        signals.pre_save.connect(forgotten, user)
        signals.pre_save.connect(kept, user, weak=False)
        return kept

    kept = make()
    try:
        gc.collect()
        user.create(id=1)
        assert heard == [-1]
    finally:
        signals.pre_save.disconnect(kept)


def test_the_signals_are_those_of_the_library(user: Any) -> None:
    heard: list[int] = []

    @signals.post_delete.connect_via(user)
    def gone(sender: Any, instance: Any) -> None:
        heard.append(instance.id)

    user.insert_many([{"id": i} for i in range(4)]).execute()
    user.delete(id=1).execute()
    with signals.post_delete.muted():
        user.delete(id=2).execute()
    signals.post_delete.disconnect(gone, user)
    user.delete(id=3).execute()
    assert heard == [1]


def test_an_atomic_update_tells_of_each_attempt_and_once_of_the_outcome(user: Any, heard: Heard) -> None:
    user.create(id=1)
    heard.clear()
    attempts = []

    def meddle(row: Any) -> None:
        attempts.append(row)
        if len(attempts) == 1:
            user._meta.backend.set(user.key(id=1), user._meta.resolved().codec.dump_many([user(id=1, name="x")])[0])
        row.visits += 1

    assert user.update(id=1).apply(meddle).atomic().execute().name == "x"
    assert heard == [("pre_save", 1), ("pre_save", 1), ("post_save", 1, False)]


def test_reads_and_lifetimes_send_nothing(user: Any, heard: Heard) -> None:
    row = user.create(id=1)
    heard.clear()
    user.get(id=1)
    row.touch(50)
    user.expire_many([1], 60)
    row.refresh()
    user.exists(id=1)
    user.get_or_load(2, lambda pk: {"id": pk, "name": "loaded"})
    assert heard == []


def test_the_library_behind_them_is_not_imported_before_it_is_used() -> None:
    program = (
        "import sys, cacheorm as co\n"
        "class User(co.Model): pass\n"
        "User.create().delete_instance()\n"
        "assert 'blinker' not in sys.modules\n"
        "co.signals.post_save\n"
        "assert 'blinker' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
