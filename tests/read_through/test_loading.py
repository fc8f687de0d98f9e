"""Rows that are missing are loaded, stored and given in their places."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import enough
from lifetimes import left_of

import cacheorm as co
from cacheorm.payload import ABSENT, LEASE, is_absence


def test_missing_rows_are_loaded_with_one_call_and_stored(user: Any, source: Any, ids: Any) -> None:
    user.create(id=2, name="stored")
    query = user.query_many(ids([5, 2, 1, 5, 999])).load_missing(source)
    assert source.asked == []
    found = query.execute()
    assert [row and row.name for row in found] == ["user 5", "stored", "user 1", "user 5", None]
    assert source.asked == [[5, 1, 999]]
    assert found[0] is found[3]
    again = user.query_many(ids([5, 2, 1])).load_missing(source).execute()
    assert [row.name for row in again] == ["user 5", "stored", "user 1"]
    assert source.asked == [[5, 1, 999]]
    assert user.get(id=5).to_dict() == found[0].to_dict()


def test_one_row_is_loaded_and_stored(user: Any, source: Any) -> None:
    assert user.get_or_load(7, source.one).name == "user 7"
    assert user.get_or_load("7", source.one).name == "user 7"
    assert source.asked == [[7]]
    assert user.get(id=7).name == "user 7"
    assert user.get_or_load(999, source.one) is None
    assert user.get_or_load(999, source.one) is None
    assert source.asked == [[7], [999], [999]]


def test_a_single_query_loads_through_the_same_loader(user: Any, source: Any) -> None:
    assert user.query(id=3).load_missing(source).execute().name == "user 3"
    assert user.query(id=999).load_missing(source).execute() is None
    assert source.asked == [[3], [999]]


def test_nothing_asked_is_nothing_loaded(user: Any, source: Any) -> None:
    assert user.query_many([]).load_missing(source).execute() == []
    assert user.query_many(iter(())).load_missing(source).execute() == []
    assert source.asked == []


def test_rows_that_are_all_there_cost_no_call(user: Any, source: Any, ids: Any) -> None:
    user.insert_many({"id": number, "name": "stored"} for number in range(30)).execute()
    assert all(user.query_many(ids(range(30))).load_missing(source).execute())
    assert source.asked == []


@pytest.mark.parametrize("lease", [5, None])
def test_an_operation_is_one_read_one_load_and_one_write(
    user: Any, source: Any, ids: Any, backend: co.BaseBackend, lease: int | None
) -> None:
    calls: list[str] = []
    busy: list[str] = []

    def counted(method: str) -> Callable[..., Any]:
        inner = getattr(backend, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            # Not what a backend calls of itself.
            if not busy:
                calls.append(method)
            busy.append(method)
            try:
                reply = inner(*args, **kwargs)
                return iter(list(reply)) if method == "get_chunks" else reply
            finally:
                busy.pop()

        return call

    methods = "get", "get_many", "get_chunks", "add", "add_many", "set_many", "get_many_cas", "compare_and_set_many"
    for method in methods:
        setattr(backend, method, counted(method))
    user.query_many(ids(range(50))).load_missing(source, lease=lease).execute()
    leased = ["get_chunks", "add_many", "get_many_cas", "compare_and_set_many"]
    assert calls == (leased if lease else ["get_chunks", "add_many"])
    calls.clear()
    user.query_many(ids(range(50))).load_missing(source, lease=lease).execute()
    assert calls == ["get_chunks"]
    calls.clear()
    user.get_or_load(77, source.one, lease=lease)
    assert calls == (["get", "add", "get_many_cas", "compare_and_set_many"] if lease else ["get", "add"])


def as_rows(pks: list[int]) -> list[dict[str, Any]]:
    return [{"id": pk, "name": f"user {pk}"} for pk in reversed(pks)]


def as_generator(pks: list[int]) -> Iterator[dict[str, Any]]:
    yield from as_rows(pks)


@pytest.mark.parametrize("as_instances", [False, True])
@pytest.mark.parametrize("shape", ["dict", "full dict", "rows", "tuple", "generator", "texts"])
def test_loaders_may_give_rows_in_any_shape(memory: Any, shape: str, as_instances: bool) -> None:
    user = a_user(memory)

    def loader(pks: list[int]) -> Any:
        make = user if as_instances else dict
        if shape in ("dict", "full dict", "texts"):
            names = ["id"] if shape == "full dict" else []
            return {
                (str(pk) if shape == "texts" else pk): make(name=f"user {pk}", **dict.fromkeys(names, pk))
                for pk in pks
                if pk < 10
            }
        rows = [make(id=pk, name=f"user {pk}") if pk < 10 else None for pk in reversed(pks)]
        return {"rows": rows, "tuple": tuple(rows), "generator": (row for row in rows)}[shape]

    found = user.query_many({"id": number} for number in (3, 11, 1)).load_missing(loader).execute()
    assert [row and (row.id, row.name, row.visits) for row in found] == [(3, "user 3", 0), None, (1, "user 1", 0)]
    assert user.get(id=3) == found[0]


def a_user(backend: co.BaseBackend, **options: Any) -> Any:
    chosen = options

    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        Meta = type("Meta", (), {"backend": backend, **chosen})

    return User


def test_loaded_rows_hold_what_a_later_read_gives(memory: Any) -> None:
    class Event(co.Model):
        id = co.UUIDField(primary_key=True)
        at = co.DateTimeTZField()
        size = co.IntegerField()

        class Meta:
            backend = memory

    pk = "0123456789abcdef0123456789abcdef"
    zone = datetime.timezone(datetime.timedelta(hours=2))
    event = Event.get_or_load(pk, lambda pk: {"at": datetime.datetime(2024, 1, 1, 2, tzinfo=zone), "size": "5"})
    assert event is not None
    assert event.size == 5
    assert event.at == datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    assert event.to_dict() == Event.get_by_id(pk).to_dict()


def test_composite_keys_are_tuples_for_the_loader(backend: co.BaseBackend, user: Any) -> None:
    class Visit(co.Model):
        who = co.ForeignKeyField(user)
        day = co.IntegerField()
        note = co.StringField(default="")

        class Meta:
            primary_key = co.CompositeKey("who", "day")

    co.bind([Visit], backend=backend)
    asked = []

    def loader(pks: list[tuple[int, int]]) -> Any:
        asked.append(pks)
        return {pk: {"note": f"{pk[0]} on {pk[1]}"} for pk in pks if pk[1] < 5}

    pks = [{"who_id": 1, "day": 2}, {"who": user(id=2, name="Bob"), "day": 1}, {"who_id": 1, "day": 9}]
    found = Visit.query_many(pks).load_missing(loader).execute()
    assert asked == [[(1, 2), (2, 1), (1, 9)]]
    assert [row and row.note for row in found] == ["1 on 2", "2 on 1", None]
    assert Visit.get_by_id((1, 2)).note == "1 on 2"
    assert Visit.get_or_load((3, 3), lambda pk: {"who_id": 3, "note": f"{pk}"}).note == "(3, 3)"
    assert Visit.get_or_load([4, 3], lambda pk: Visit(note="instance")).who_id == 4
    with pytest.raises(TypeError, match="tuple"):
        Visit.get_or_load(3, lambda pk: None)


def test_a_key_with_a_default_is_the_one_that_was_asked_for(memory: Any) -> None:
    class Thing(co.Model):
        name = co.StringField()

        class Meta:
            backend = memory

    pk = "0123456789abcdef0123456789abcdef"
    for make in (dict, Thing):
        thing = Thing.get_or_load(pk, lambda pk, make=make: make(name="x"))
        assert thing is not None
        assert thing.id.hex == pk
        assert Thing.delete_by_id(pk)


@pytest.mark.no_cover
def test_a_great_many_rows_are_loaded_with_one_call(user: Any, ids: Any) -> None:
    asked: list[int] = []

    def loader(pks: list[int]) -> dict[int, dict[str, str]]:
        asked.append(len(pks))
        return {pk: {"name": "loaded"} for pk in pks}

    count = enough(100_000, 5_000)
    pks = ids(range(count))
    user.insert_many({"id": number, "name": "stored"} for number in range(0, count, 2)).execute()
    expected = ["loaded" if number % 2 else "stored" for number in range(count)]
    found = user.query_many(pks).load_missing(loader).execute()
    assert [row.name for row in found] == expected
    again = user.query_many(pks).load_missing(loader).execute()
    assert [row.name for row in again] == expected
    assert asked == [count // 2]


# -- lifetimes and misses ------------------------------------------------------------------------------


def test_loaded_rows_live_as_long_as_the_model_or_the_operation_says(user: Any, source: Any, ids: Any) -> None:
    user.query_many(ids([1])).load_missing(source).execute()
    user.query_many(ids([2])).load_missing(source).ttl(7000).execute()
    user.get_or_load(3, source.one, ttl=8000)
    user.get_or_load(4, source.one, ttl=0)
    user.query_many(ids([5])).load_missing(source, lease=None).ttl(7000).execute()
    for number, seconds in ((1, 1000), (2, 7000), (3, 8000), (5, 7000)):
        assert user.get(id=number).ttl() in left_of(seconds, early=2)
    assert user.get(id=4).ttl() == 0


def test_lifetimes_of_rows_loaded_together_are_spread(source: Any, ids: Any) -> None:
    user = a_user(co.SimpleBackend(), ttl=10_000, ttl_jitter=0.9)
    found = user.query_many(ids(range(80))).load_missing(source).execute()
    assert len({row.ttl() for row in found}) > 2


@pytest.mark.parametrize("lease", [5, None])
def test_misses_are_remembered_if_asked_for(user: Any, source: Any, ids: Any, lease: int | None) -> None:
    def load() -> list[Any]:
        return user.query_many(ids([1, 500, 501])).load_missing(source, negative_ttl=6000, lease=lease).execute()

    assert [row and row.name for row in load()] == ["user 1", None, None]
    assert [row and row.name for row in load()] == ["user 1", None, None]
    assert source.asked == [[1, 500, 501]]
    # Also by those who remember none themselves.
    assert user.get_or_load(500, source.one) is None
    assert source.asked == [[1, 500, 501]]
    assert not user.exists(id=500)
    assert user.get_or_none(id=500) is None
    assert user.update(id=500, name="x").execute() is None


def test_a_remembered_miss_lasts_for_its_time(user: Any, source: Any, backend: co.BaseBackend) -> None:
    assert user.get_or_load(500, source.one, negative_ttl=6000) is None
    assert backend.ttl(user.key(id=500)) in left_of(6000, early=1)


@pytest.mark.parametrize("lease", [5, None])
def test_a_miss_ends_where_the_row_is_written_or_the_miss_deleted(
    user: Any, source: Any, ids: Any, lease: int | None
) -> None:
    user.query_many(ids(range(500, 504))).load_missing(source, negative_ttl=60, lease=lease).execute()
    user.create(id=500, name="written")
    assert user.insert(id=501, name="added").if_absent().execute().name == "added"
    assert user.insert(id=501, name="late").if_absent().execute() is None
    made = user.insert_many({"id": number, "name": "many"} for number in (501, 502)).if_absent().execute()
    assert [row and row.name for row in made] == [None, "many"]
    user.delete(id=503).execute()
    source.rows[503] = {"name": "there by now"}
    found = user.query_many(ids(range(500, 504))).load_missing(source).execute()
    assert [row.name for row in found] == ["written", "added", "many", "there by now"]


def test_a_miss_that_is_not_remembered_is_asked_for_again(user: Any, source: Any, ids: Any) -> None:
    for _ in range(3):
        assert user.query_many(ids([500, 1])).load_missing(source).execute()[0] is None
    assert source.asked == [[500, 1], [500], [500]]
    source.rows[500] = {"name": "new"}
    assert user.get_or_load(500, source.one).name == "new"
    assert user.get(id=500).name == "new"


def test_rows_that_cannot_be_read_are_loaded_where_they_count_as_misses(
    backend: co.BaseBackend, source: Any, ids: Any
) -> None:
    user = a_user(backend, on_invalid="miss")
    for lease in (5, None):
        backend.set_many({user.key(id=1): b"no row", user.key(id=2): b"\x93\x01"})
        found = user.query_many(ids([1, 2, 3])).load_missing(source, lease=lease).execute()
        assert [row.name for row in found] == ["user 1", "user 2", "user 3"]
        assert [row.name for row in user.query_many(ids([1, 2, 3])).execute()] == ["user 1", "user 2", "user 3"]
    strict = a_user(backend)
    backend.set(strict.key(id=1), b"no row")
    with pytest.raises(co.PayloadError):
        strict.query_many(ids([1])).load_missing(source).execute()


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_leases_are_misses_for_every_read(backend: co.BaseBackend, serializer: str) -> None:
    user = a_user(backend, serializer=serializer)
    for number, payload in enumerate([LEASE, LEASE + b"0123456789ab"]):
        backend.set(user.key(id=number), payload)
    user.create(id=2, name="Sam")
    assert [row is None for row in user.query_many({"id": number} for number in range(3)).execute()] == [
        True,
        True,
        False,
    ]
    for number in range(2):
        assert user.get_or_none(id=number) is None
        assert not user.exists(id=number)
        assert user.update(id=number, name="x").execute() is None
        assert user.insert(id=number, name="added").if_absent().execute().name == "added"
        assert user.get(id=number).name == "added"


# -- wrong use -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [5, None])
@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (None, TypeError, "User: the loader gave NoneType, expected a dict of rows by primary key"),
        (5, TypeError, "the loader gave int"),
        ("rows", TypeError, "the loader gave str"),
        ({3: {"name": "x"}}, ValueError, "m:user:id:3, which it was not asked for"),
        ([{"id": 3, "name": "x"}], ValueError, "m:user:id:3, which it was not asked for"),
        ({1: {"id": 2, "name": "x"}}, ValueError, "the row of m:user:id:2 as that of m:user:id:1"),
        ([{"id": 1, "name": "x"}] * 2, ValueError, "the row of m:user:id:1 twice"),
        ({1: {"name": "x"}, "1": {"name": "x"}}, ValueError, "the row of m:user:id:1 twice"),
        ({"id": 1, "name": "x"}, ValueError, r"User\.id"),
        ([{"name": "x"}], co.ValidationError, "missing value for <Field: User.id>"),
        ({1: {"nam": "x"}}, TypeError, "User has no field 'nam'"),
        ({1: {"name": "x", "visits": "many"}}, co.ValidationError, r"User\.visits.*m:user:id:1"),
        ({1: {}}, co.ValidationError, "missing value for <Field: User.name>"),
        ({1: ("id", "name")}, TypeError, "a row is a dict or an instance of User, got tuple"),
        ([(1, "Sam")], TypeError, "a row is a dict or an instance of User, got tuple"),
    ],
)
def test_what_a_loader_must_not_give_is_said_and_nothing_is_stored(
    memory: Any, reply: Any, error: type[Exception], words: str, lease: int | None
) -> None:
    user = a_user(memory)
    with pytest.raises(error, match=words):
        user.query_many({"id": 2}, {"id": 1}).load_missing(lambda pks: reply, lease=lease).execute()
    assert user.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute() == [None] * 3
    found = user.query_many({"id": 2}, {"id": 1}).load_missing(as_rows, lease=lease).execute()
    assert [row.name for row in found] == ["user 2", "user 1"]


def test_an_instance_by_itself_is_no_reply_for_many(memory: Any) -> None:
    user = a_user(memory)
    with pytest.raises(TypeError, match="the loader gave User"):
        user.query_many({"id": 1}).load_missing(lambda pks: user(id=1, name="x")).execute()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"negative_ttl": 0}, ValueError, "negative_ttl must be at least 1 second; leave it None"),
        ({"negative_ttl": -1}, ValueError, "negative_ttl: ttl must not be negative"),
        ({"negative_ttl": "60"}, TypeError, "negative_ttl: ttl must be"),
        ({"lease": 0}, ValueError, "lease must be at least 1 second; leave it None"),
        ({"lease": True}, TypeError, "lease: ttl must be"),
        ({"loader": None}, TypeError, "the loader must be a function"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    memory: Any, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    user = a_user(memory)
    with pytest.raises(error, match=words):
        user.query_many([]).load_missing(**{"loader": as_rows, **arguments})
    if "loader" not in arguments:
        with pytest.raises(error, match=words):
            user.get_or_load(1, lambda pk: None, **arguments)


def test_a_loader_of_one_row_must_be_a_function(memory: Any) -> None:
    with pytest.raises(TypeError, match="the loader must be a function"):
        a_user(memory).get_or_load(1, {"name": "x"})


def test_wrong_primary_keys_are_refused_before_anything_is_read(user: Any, source: Any) -> None:
    with pytest.raises(co.ValidationError, match=r"User\.id"):
        user.get_or_load("one", source.one)
    with pytest.raises(TypeError, match="does not belong to the primary key"):
        user.query_many({"id": 1, "name": "x"}).load_missing(source).execute()
    assert source.asked == []


def test_a_row_that_the_backend_refuses_is_reported_and_its_lease_given_back(memcached_backend: Any) -> None:
    user = a_user(memcached_backend)

    def loader(pks: list[int]) -> Any:
        return {1: {"name": "small"}, 2: {"name": "x" * 2_000_000}}

    with pytest.raises(co.WriteError) as caught:
        user.query_many({"id": 1}, {"id": 2}).load_missing(loader).execute()
    assert [row.key for row in caught.value.failed] == ["m:user:id:2"]
    assert user.get(id=1).name == "small"
    payload = memcached_backend.get(user.key(id=2))
    assert payload in (None, LEASE)


# -- what it leaves behind -------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [5, None])
@pytest.mark.parametrize("error", [RuntimeError("the database is down"), KeyboardInterrupt()])
def test_after_a_loader_that_raises_nothing_is_stored_and_the_next_tries_again(
    user: Any, source: Any, ids: Any, backend: co.BaseBackend, lease: int | None, error: BaseException
) -> None:
    def broken(pks: list[int]) -> Any:
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            user.query_many(ids([1, 2])).load_missing(broken, negative_ttl=60, lease=lease).execute()
        assert caught.value is error
        with pytest.raises(type(error)):
            user.get_or_load(3, broken, lease=lease)
    left = backend.get_many(*(user.key(id=number) for number in (1, 2, 3)))
    assert all(payload in (None, LEASE) for payload in left)
    assert [row.name for row in user.query_many(ids([1, 2, 3])).load_missing(source, lease=lease).execute()] == [
        "user 1",
        "user 2",
        "user 3",
    ]
    assert source.asked == [[1, 2, 3]]


def test_a_generator_that_raises_half_way_stores_nothing(user: Any, ids: Any) -> None:
    def broken(pks: list[int]) -> Iterator[dict[str, Any]]:
        yield {"id": 1, "name": "x"}
        raise LookupError("gone")

    with pytest.raises(LookupError):
        user.query_many(ids([1, 2])).load_missing(broken).execute()
    assert user.query_many(ids([1, 2])).execute() == [None, None]


def test_bytes_of_misses_are_never_rows() -> None:
    assert is_absence(ABSENT)
    assert is_absence(LEASE)


def test_loading_leaves_the_operation_usable_again(user: Any, source: Any, ids: Callable[..., Any]) -> None:
    operation = user.query_many(ids([1, 2])).chunk_size(1).load_missing(source)
    assert repr(operation) == "<ModelLoad: User.query_many, not executed: call .execute(), or await it>"
    first = operation.execute()
    assert [row.name for row in first] == ["user 1", "user 2"]
    assert operation.execute() == first
    assert source.asked == [[1, 2]]


def test_loaded_rows_get_what_they_refer_to(backend: co.BaseBackend, user: Any, source: Any) -> None:
    class Article(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(user)

    co.bind([Article], backend=backend)
    user.create(id=1, name="Sam")
    Article.create(id=1, author_id=1)

    def loader(pks: list[int]) -> Any:
        return {pk: {"author_id": 1} for pk in pks}

    for query in (
        Article.query_many({"id": 1}, {"id": 2}).preload("author").load_missing(loader),
        Article.query_many({"id": 1}, {"id": 3}).load_missing(loader).preload(Article.author),
    ):
        first, second = query.execute()
        user.delete(id=1).execute()
        assert first.author is second.author
        assert first.author.name == "Sam"
        user.create(id=1, name="Sam")


def test_loaded_rows_are_no_saves_and_send_no_signals(user: Any, source: Any, ids: Any) -> None:
    sent: list[Any] = []

    def receive(sender: Any, **values: Any) -> None:
        sent.append(values["instance"])

    with co.signals.pre_save.connected_to(receive, user), co.signals.post_save.connected_to(receive, user):
        assert all(user.query_many(ids([1, 2])).load_missing(source).execute())
        assert user.get_or_load(3, source.one) is not None
        assert sent == []
        written = user.create(id=4, name="x")
        assert sent == [written, written]


@pytest.mark.parametrize(("lease", "stored"), [(1, True), (60, False)])
def test_leases_that_run_out_while_rows_are_stored_cost_no_rows(lease: int, stored: bool) -> None:
    class Vanishing(co.SimpleBackend):
        def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
            self.delete_many(*mapping)
            return super().compare_and_set_many(mapping, ttl)

    kept = Vanishing()

    class Page(co.Model):
        id = co.IntegerField(primary_key=True)

        class Meta:
            backend = kept

    rows = Page.query_many({"id": 1}, {"id": 2}).load_missing(lambda pks: [{"id": pk} for pk in pks], lease=lease)
    assert [row and row.id for row in rows.execute()] == [1, 2]
    # What goes before a lease can have run out was deleted, and stays so.
    assert set(Page.get_many([1, 2])) == ({1, 2} if stored else set())
