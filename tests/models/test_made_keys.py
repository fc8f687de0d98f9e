"""Primary keys that an insert made, after it has failed: no row is stored twice, and no reference leads nowhere."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cacheorm as co


class Lossy(co.SimpleBackend):
    """Stores what it is given, and fails before or after that if it is told to."""

    fail: str = ""

    def _write(self, write: Callable[[], Any]) -> Any:
        when, self.fail = self.fail, ""
        if when == "before":
            raise co.BackendError("down")
        done = write()
        if when == "after":
            raise co.BackendError("no reply", maybe_applied=True)
        if when == "interrupt":
            raise KeyboardInterrupt
        return done

    def set(self, *args: Any, **kwargs: Any) -> bool:
        return bool(self._write(lambda: super(Lossy, self).set(*args, **kwargs)))

    def set_many(self, *args: Any, **kwargs: Any) -> Any:
        return self._write(lambda: super(Lossy, self).set_many(*args, **kwargs))


class User(co.Model):
    name = co.StringField(default="")

    class Meta:
        namespace = "test_made_keys"


class Article(co.Model):
    id = co.IntegerField(primary_key=True)
    user = co.ForeignKeyField(User)

    class Meta:
        namespace = "test_made_keys"


@pytest.fixture
def store() -> Iterator[Lossy]:
    made = Lossy()
    with co.bind([User, Article], backend=made):
        yield made


FAILURES = (co.BackendError, co.WriteError, KeyboardInterrupt)


@pytest.mark.parametrize("when", ["before", "after", "interrupt"])
def test_save_after_a_failure_stores_one_row(store: Lossy, when: str) -> None:
    user = User(name="Sam")
    store.fail = when
    with pytest.raises(FAILURES):
        user.save()
    for row in (pickle.loads(pickle.dumps(user)), copy.copy(user), user):
        assert row.save()
    if when != "before":
        assert store.stats()["entries"] == 1
    user.name = "Bob"
    assert user.save()
    assert User.get(id=user.id).name == "Bob"


@pytest.mark.parametrize("when", ["before", "after", "interrupt"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: User.insert(name="a"),
        lambda: User.insert_many({"name": "a"}, {"name": "b"}),
        lambda: User.insert_many({"name": name} for name in "ab"),
        lambda: co.Insert([User(name="a"), User(name="b")]),
        lambda: co.Insert((User, ({"name": name} for name in "ab"))),
    ],
)
def test_an_insert_that_is_executed_again_stores_each_row_once(store: Lossy, when: str, make: Any) -> None:
    operation = make()
    store.fail = when
    with pytest.raises(FAILURES):
        operation.execute()
    rows = operation.execute()
    rows = rows if isinstance(rows, list) else [rows]
    assert store.stats()["entries"] == len(rows)
    assert len(User.get_many([row.id for row in rows])) == len(rows)


@pytest.mark.parametrize("many", [False, True])
def test_a_receiver_of_post_save_that_fails_leaves_the_row_its_key(store: Lossy, many: bool) -> None:
    def fail(sender: Any, instance: Any, created: bool) -> None:
        raise LookupError("no mail")

    user = User(name="a")
    operation: Any = co.Insert([user]) if many else User.insert_many([user])
    with co.signals.post_save.connected_to(fail, sender=User):
        for write in (user.save, operation.execute):
            with pytest.raises(LookupError):
                write()
    assert user.save()
    operation.execute()
    assert store.stats()["entries"] == 1


def test_a_key_that_a_receiver_has_given_stays(store: Lossy) -> None:
    def give(sender: Any, instance: Any) -> None:
        instance.id = instance.id or "0" * 32

    user = User(name="a")
    store.fail = "before"
    with co.signals.pre_save.connected_to(give, sender=User):
        with pytest.raises(co.BackendError):
            user.save()
        assert user.id is not None


@pytest.mark.parametrize("again", ["execute", "save"])
@pytest.mark.parametrize("mistake", ["value", "before", "after"])
def test_rows_refer_to_the_row_that_is_stored_later(store: Lossy, mistake: str, again: str) -> None:
    user = User(name="Sam")
    articles = [Article(id=1, user=user), Article(id="x" if mistake == "value" else 2, user=user)]
    operation = co.Insert([user, *articles])
    if mistake != "value":
        store.fail = mistake
    with pytest.raises((co.ValidationError, co.WriteError)):
        operation.execute()
    articles[1].id = 2
    if again == "execute":
        operation.execute()
    else:
        assert user.save()
        for article in articles:
            assert article.save(force_insert=True)
    assert [Article.get(id=number).user.name for number in (1, 2)] == ["Sam", "Sam"]
    assert store.stats()["entries"] == 3
