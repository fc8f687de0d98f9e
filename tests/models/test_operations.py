"""Insert, query, update and delete, one row and many, on every backend."""

from __future__ import annotations

import copy
import datetime
import enum
import re
import uuid
from typing import Any

import pytest
from amounts import enough
from lifetimes import left_of

import cacheorm as co


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


def user_model(backend: co.BaseBackend, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        height = co.FloatField(default=1.5)
        married = co.BooleanField(default=False)
        color = co.EnumField(Color, default=Color.RED)
        email = co.StringField(null=True)
        tags = co.ListField(co.StringField(), default=[])
        born = co.DateTimeTZField(default=lambda: datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC))

        Meta = type("Meta", (), {"backend": backend, **options})

    return User


@pytest.fixture
def user(backend: co.BaseBackend) -> Any:
    return user_model(backend)


def test_insert_gives_the_instance_and_overwrites(user: Any) -> None:
    first = user.insert(id=1, name="Sam", height="1.8").execute()
    assert isinstance(first, user)
    assert (first.id, first.name, first.height, first.color) == (1, "Sam", 1.8, Color.RED)
    user.insert(id=1, name="Bob").execute()
    assert user.get(id=1).name == "Bob"


def test_an_instance_holds_what_a_later_read_gives(user: Any) -> None:
    written = user(id="7", name=b"Sam", height="2", married=1, color="blue", tags=("a", "b"))
    written.save(force_insert=True)
    read = user.get(id=7)
    assert written.to_dict() == read.to_dict()
    assert [type(value) for value in written.to_dict().values()] == [type(value) for value in read.to_dict().values()]
    assert (written.id, written.name, written.height, written.married) == (7, "Sam", 2.0, True)
    assert (written.color, written.tags) == (Color.BLUE, ["a", "b"])


def test_insert_many_takes_dicts_and_instances_and_keeps_their_order(user: Any) -> None:
    sam = user(id=2, name="Sam")
    rows = user.insert_many({"id": 3, "name": "Bob"}, sam, {"id": 1, "name": "Amy"}).execute()
    assert [row.id for row in rows] == [3, 2, 1]
    assert rows[1] is sam
    assert sam.height == 1.5
    assert [row.name for row in user.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()] == ["Amy", "Sam", "Bob"]


@pytest.mark.parametrize("wrap", [list, tuple, iter, lambda rows: (row for row in rows)])
def test_many_forms_take_one_iterable(user: Any, wrap: Any) -> None:
    rows = [{"id": number, "name": str(number)} for number in range(5)]
    keys = [{"id": number} for number in range(6)]
    assert len(user.insert_many(wrap(rows)).execute()) == 5
    assert [row and row.id for row in user.query_many(wrap(keys)).execute()] == [0, 1, 2, 3, 4, None]
    assert user.delete_many(wrap(keys)).execute() is False
    assert user.query_many(keys).execute() == [None] * 6


def test_nothing_in_gives_nothing_out(user: Any) -> None:
    assert user.insert_many().execute() == []
    assert user.insert_many([]).execute() == []
    assert user.query_many([]).execute() == []
    assert user.update_many([]).execute() == []
    assert user.delete_many([]).execute() is True


def test_an_operation_does_nothing_until_it_is_executed(user: Any) -> None:
    user.insert(id=1, name="Sam")
    user.insert_many({"id": 1, "name": "Sam"})
    assert not user.exists(id=1)


def test_query_gives_none_for_a_miss_and_get_raises(user: Any) -> None:
    assert user.query(id=1).execute() is None
    assert user.get_or_none(id=1) is None
    with pytest.raises(user.DoesNotExist, match="User: no row under key m:user:id:1"):
        user.get(id=1)
    with pytest.raises(co.DoesNotExist):
        user.get_by_id(1)


def test_the_same_key_twice_gives_the_same_row_twice(user: Any) -> None:
    user.create(id=1, name="Sam")
    first, missing, second = user.query_many({"id": 1}, {"id": 2}, {"id": "1"}).execute()
    assert first is second
    assert missing is None


def test_the_first_row_of_a_batch_is_written_once(user: Any) -> None:
    rows = [user(id=number, name=str(number)) for number in range(3)]
    user.insert_many(rows).execute()
    assert [row.name for row in user.query_many(rows).execute()] == ["0", "1", "2"]


def test_of_rows_with_one_key_the_last_is_stored(user: Any) -> None:
    user.insert_many({"id": 1, "name": "first"}, {"id": 1, "name": "last"}).execute()
    assert user.get(id=1).name == "last"


def test_update_changes_only_the_named_fields(user: Any) -> None:
    user.create(id=1, name="Sam", height=1.8, email="a@b")
    changed = user.update(id=1, married=True).execute()
    assert (changed.name, changed.height, changed.married, changed.email) == ("Sam", 1.8, True, "a@b")
    assert user.get(id=1).to_dict() == changed.to_dict()


def test_update_clears_a_nullable_field_with_none(user: Any) -> None:
    user.create(id=1, name="Sam", email="a@b")
    assert user.update(id=1, email=None).execute().email is None
    assert user.get(id=1).email is None


def test_update_gives_none_where_no_row_exists_and_creates_none(user: Any) -> None:
    user.create(id=2, name="Bob")
    rows = user.update_many({"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 3, "name": "z"}).execute()
    assert [row and row.name for row in rows] == [None, "y", None]
    assert not user.exists(id=1)
    assert user.update(id=1, name="x").execute() is None


def test_update_of_one_key_twice_applies_both(user: Any) -> None:
    user.create(id=1, name="Sam")
    rows = user.update_many({"id": 1, "name": "Bob"}, {"id": 1, "married": True}).execute()
    assert [(row.name, row.married) for row in rows] == [("Bob", True), ("Bob", True)]
    assert (user.get(id=1).name, user.get(id=1).married) == ("Bob", True)


def test_update_many_takes_instances_and_completes_them(user: Any) -> None:
    user.create(id=1, name="Sam", height=1.9)
    partial = user(id=1, married=True)
    (row,) = user.update_many(partial).execute()
    assert row is partial
    assert (row.name, row.height, row.married) == ("Sam", 1.9, True)


def test_update_never_brings_back_a_deleted_row(user: Any, backend: co.BaseBackend) -> None:
    """A row deleted between the read and the write stays deleted."""
    user.create(id=1, name="Sam")
    read = backend.get

    def read_then_lose(key: str) -> bytes | None:
        payload = read(key)
        backend.delete(key)
        return payload

    backend.get = read_then_lose  # type: ignore[method-assign]
    assert user.update(id=1, name="Bob").execute() is None
    del backend.get
    assert not user.exists(id=1)


def test_delete_tells_whether_the_row_existed(user: Any) -> None:
    user.create(id=1, name="Sam")
    assert user.delete(id=1).execute() is True
    assert user.delete(id=1).execute() is False


def test_delete_many_goes_on_past_misses(user: Any) -> None:
    user.insert_many({"id": 1, "name": "a"}, {"id": 3, "name": "c"}).execute()
    assert user.delete_many({"id": 1}, {"id": 2}, {"id": 3}).execute() is False
    assert user.query_many({"id": 1}, {"id": 3}).execute() == [None, None]
    user.insert_many({"id": 1, "name": "a"}, {"id": 3, "name": "c"}).execute()
    assert user.delete_many({"id": 1}, {"id": 3}, {"id": 1}).execute() is True


def test_save_inserts_without_a_key_and_updates_with_one(backend: co.BaseBackend) -> None:
    class Note(co.Model):
        text = co.StringField()
        Meta = type("Meta", (), {"backend": backend})

    note = Note(text="hello")
    assert note._pk is None
    assert note.save() is True
    assert isinstance(note.id, uuid.UUID)
    note.text = "changed"
    assert note.save() is True
    assert Note.get(id=note.id).text == "changed"
    note.delete_instance()
    assert note.save() is False
    assert Note.get_or_none(id=note.id) is None


def test_get_or_create_creates_once(user: Any) -> None:
    row, created = user.get_or_create(id=1, name="Sam", defaults={"height": 2.0})
    assert created
    assert (row.name, row.height) == ("Sam", 2.0)
    row, created = user.get_or_create(id=1, name="Bob")
    assert not created
    assert row.name == "Sam"


def test_by_id_shortcuts_raise_where_there_is_no_row(user: Any) -> None:
    with pytest.raises(user.DoesNotExist):
        user.set_by_id(1, {"height": 2.0})
    with pytest.raises(user.DoesNotExist):
        user.delete_by_id(1)
    user.create(id=1, name="Sam")
    assert user.set_by_id(1, {"height": 2.0}).height == 2.0
    assert user.delete_by_id(1) is True
    assert not user.exists(id=1)


def test_get_many_gives_a_dict_of_the_rows_found(user: Any) -> None:
    user.insert_many({"id": 1, "name": "a"}, {"id": 2, "name": "b"}).execute()
    assert {pk: row.name for pk, row in user.get_many([2, 5, 1]).items()} == {2: "b", 1: "a"}


def test_if_absent_writes_only_what_is_not_there(user: Any) -> None:
    user.create(id=1, name="Sam")
    assert user.insert(id=1, name="Bob").if_absent().execute() is None
    rows = (
        user.insert_many({"id": 1, "name": "x"}, {"id": 2, "name": "new"}, {"id": 2, "name": "newer"})
        .if_absent()
        .execute()
    )
    assert [row and row.name for row in rows] == [None, "new", None]
    assert [row.name for row in user.query_many({"id": 1}, {"id": 2}).execute()] == ["Sam", "new"]


def test_chunks_change_nothing_but_the_size_of_batches(user: Any) -> None:
    rows = [{"id": number, "name": str(number)} for number in range(25)]
    assert [row.id for row in user.insert_many(rows).chunk_size(7).execute()] == list(range(25))
    keys = [{"id": number} for number in range(25)]
    assert [row.id for row in user.query_many(keys).chunk_size(4).execute()] == list(range(25))
    changed = user.update_many({"id": number, "married": True} for number in range(25)).chunk_size(6).execute()
    assert all(row.married for row in changed)
    assert user.delete_many(keys).chunk_size(3).execute() is True


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_chunk_has_at_least_one_row(user: Any, size: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        user.query_many([]).chunk_size(size)


@pytest.mark.no_cover
def test_a_great_many_rows_pass_through(memory: co.SimpleBackend) -> None:
    user = user_model(memory)
    count = enough(100_000, 10_000)
    assert len(user.insert_many({"id": n, "name": "x"} for n in range(count)).execute()) == count
    rows = user.query_many({"id": n} for n in range(count)).execute()
    assert all(row.id == n for n, row in enumerate(rows))


def test_lifetimes_come_from_the_operation_then_the_model_then_the_backend(backend: co.BaseBackend) -> None:
    plain, timed, forever = (
        user_model(backend),
        user_model(backend, ttl=5000, name="t"),
        user_model(backend, ttl=0, name="f"),
    )
    assert 1 <= plain.create(id=1, name="a").ttl() <= backend.default_ttl < 5000
    assert timed.create(id=1, name="a").ttl() in left_of(5000, early=1)
    assert forever.create(id=1, name="a").ttl() == 0
    row = timed.insert(id=2, name="a").ttl(10_000).execute()
    assert row.ttl() in left_of(10_000, early=1)
    assert row.touch() is True
    assert row.ttl() in left_of(5000, early=1)
    assert row.touch(0) is True
    assert row.ttl() == 0
    row.delete_instance()
    assert row.ttl() is None
    assert row.touch() is False


def test_update_starts_the_lifetime_anew_unless_told_to_keep_it(backend: co.BaseBackend) -> None:
    user = user_model(backend, ttl=5000)
    row = user.insert(id=1, name="a").ttl(10_000).execute()
    user.update(id=1, name="b").keep_ttl().execute()
    assert row.ttl() in left_of(10_000, early=1)
    user.update_many({"id": 1, "name": "c"}).keep_ttl().execute()
    assert row.ttl() in left_of(10_000, early=2)
    user.update(id=1, name="d").execute()
    assert row.ttl() in left_of(5000, early=1)


def test_jitter_spreads_lifetimes_below_the_ttl(memory: co.SimpleBackend) -> None:
    user = user_model(memory, ttl=10_000, ttl_jitter=0.5)
    rows = user.insert_many({"id": n, "name": "x"} for n in range(64)).execute()
    lifetimes = {row.ttl() for row in rows}
    assert len(lifetimes) > 1
    assert all(4500 <= left <= 10_000 for left in lifetimes)


@pytest.mark.parametrize(
    ("ttl", "error"), [(-1, ValueError), (0.5, ValueError), ("1", TypeError), (float("nan"), ValueError)]
)
def test_impossible_lifetimes_are_refused(memory: co.SimpleBackend, ttl: Any, error: type[Exception]) -> None:
    user = user_model(memory)
    with pytest.raises(error):
        user.insert(id=1, name="a").ttl(ttl)
    with pytest.raises(error, match=r"User\.Meta\.ttl"):
        user_model(memory, ttl=ttl)
    user.create(id=1, name="a")
    with pytest.raises(error):
        user.get(id=1).touch(ttl)


def test_refresh_reads_the_row_again(user: Any) -> None:
    row = user.create(id=1, name="Sam")
    user.update(id=1, name="Bob").execute()
    assert row.refresh() is row
    assert row.name == "Bob"
    row.delete_instance()
    with pytest.raises(user.DoesNotExist):
        row.refresh()
    assert row.name == "Bob"


def test_mutable_defaults_are_not_shared(user: Any) -> None:
    first, second = user(id=1, name="a"), user(id=2, name="b")
    first.tags.append("x")
    assert second.tags == []
    assert user.tags.default == []
    first.save(force_insert=True)
    assert user.get(id=1).tags == ["x"]


def test_instances_copy_and_pickle(memory: co.SimpleBackend) -> None:
    user = user_model(memory)
    row = user.create(id=1, name="Sam", tags=["a"])
    shallow, deep = copy.copy(row), copy.deepcopy(row)
    assert shallow == deep == row
    assert shallow.to_dict() == deep.to_dict() == row.to_dict()
    deep.tags.append("b")
    assert row.tags == ["a"]


def test_single_row_operations_call_single_key_methods_and_bulk_ones_batches(backend: co.BaseBackend) -> None:
    calls: list[str] = []
    for method in ("get", "set", "add", "replace", "delete", "has"):
        wrap(backend, method, calls)
    for method in ("get_many", "get_chunks", "set_many", "add_many", "replace_many", "delete_many"):
        wrap(backend, method, calls)
    user = user_model(backend)

    def called(operation: Any) -> list[str]:
        """Give the first call; a backend may make others from within it."""
        calls.clear()
        operation()
        return calls[:1]

    assert called(lambda: user.create(id=1, name="a")) == ["set"]
    assert called(lambda: user.get(id=1)) == ["get"]
    assert called(lambda: user.exists(id=1)) == ["get"]
    assert called(lambda: user.delete(id=1).execute()) == ["delete"]
    assert called(lambda: user.insert(id=1, name="a").if_absent().execute()) == ["add"]
    assert called(lambda: user.insert_many({"id": 1, "name": "a"}).execute()) == ["set_many"]
    assert called(lambda: user.query_many({"id": 1}).execute()) == ["get_chunks"]
    assert called(lambda: user.delete_many({"id": 1}).execute()) == ["delete_many"]
    assert called(lambda: user.insert_many({"id": 1, "name": "a"}).if_absent().execute()) == ["add_many"]
    calls.clear()
    user.update(id=1, name="b").execute()
    assert calls[0] == "get"
    assert "replace" in calls
    calls.clear()
    user.update_many({"id": 1, "name": "b"}).execute()
    assert calls[0] == "get_chunks"
    assert "replace_many" in calls


def wrap(backend: co.BaseBackend, method: str, calls: list[str]) -> None:
    """Let ``backend`` record calls of ``method`` from outside (calls that one makes to another follow it)."""
    inner = getattr(backend, method)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return inner(*args, **kwargs)

    setattr(backend, method, counted)


def test_an_operation_shows_what_it_is(user: Any) -> None:
    operation = user.insert(id=1, name="S3CRET")
    assert repr(operation) == "<ModelInsert: User.insert, not executed: call .execute(), or await it>"
    assert not user.exists(id=1)
    operation.execute()
    assert repr(operation) == "<ModelInsert: User.insert, executed>"
    rows = iter([{"id": 1}])
    query = user.query_many(rows)
    assert repr(query) == "<ModelQuery: User.query_many, not executed: call .execute(), or await it>"
    assert len(query.execute()) == 1
    loading = user.query(id=1).load_missing(dict)
    for shown in (user.update(id=1), user.delete_many([1]), loading, co.Delete((user, [1]))):
        assert re.fullmatch(r"<\w+: .*\bUser\b.*, not executed: .*>", repr(shown))
    assert repr(co.Insert([user(id=1), (user, [{"id": 2}])])).startswith("<Insert: rows of User, not executed")
    assert repr(co.Query(iter([]))).startswith("<Query: rows of several models, not executed")
