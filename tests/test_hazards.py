"""What the first version got wrong, so that it does not come back: on every backend where it applies."""

from __future__ import annotations

import datetime
import decimal
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from amounts import enough

import cacheorm as co
from cacheorm.types import TTL, Value

if TYPE_CHECKING:
    from servers import MemcachedServer, RedisServer


@pytest.fixture
def memcached(memcached_server: MemcachedServer) -> Iterator[co.MemcachedBackend]:
    with co.MemcachedBackend(servers=[("127.0.0.1", memcached_server.port)]) as made:
        made.clear(everything=True)
        yield made


def model(backend: co.BaseBackend, name: str = "User", /, **body: Any) -> Any:
    options = {"backend": backend, **body.pop("Meta", {})}
    body = {"__qualname__": f"<locals>.{name}", "id": co.IntegerField(primary_key=True), **body}
    if "primary_key" in options:
        del body["id"]
    return type(co.Model)(name, (co.Model,), {**body, "Meta": type("Meta", (), options)})


# -- batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_every_row_of_a_batch_is_written_once(backend: co.BaseBackend, rows: int) -> None:
    """The first one was written twice."""
    written: list[str] = []
    inner = backend.set_many

    def counted(mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        written.extend(mapping)
        return inner(mapping, ttl)

    backend.set_many = counted  # type: ignore[method-assign]
    single: list[str] = []
    backend.set = lambda key, value, ttl=None: bool(single.append(key))  # type: ignore[method-assign]
    user = model(backend)
    user.insert_many({"id": number} for number in range(rows)).execute()
    assert written == [user.key(id=number) for number in range(rows)]
    assert single == []


def test_what_a_backend_refuses_is_an_error(backend: co.BaseBackend) -> None:
    """Results of writes were not looked at."""
    user = model(backend)

    def refuse(mapping: Mapping[str, Value], ttl: TTL = None) -> dict[str, bool]:
        return dict.fromkeys(mapping, False)

    backend.set_many = refuse  # type: ignore[method-assign]
    backend.set = lambda key, value, ttl=None: False  # type: ignore[method-assign]
    with pytest.raises(co.WriteError, match="2 rows were not stored"):
        user.insert_many({"id": 1}, {"id": 2}).execute()
    with pytest.raises(co.WriteError, match="1 row was not stored"):
        user.create(id=1)


def test_a_row_that_memcached_has_no_room_for_is_an_error(memcached: co.MemcachedBackend) -> None:
    note = model(memcached, "Note", text=co.StringField())
    huge = "x" * (3 << 20)
    note.insert_many({"id": number, "text": "small"} for number in range(3)).execute()
    with pytest.raises((co.WriteError, co.BackendError), match="m:note:id:7"):
        note.create(id=7, text=huge)
    with pytest.raises(co.WriteError) as caught:
        note.insert_many({"id": 4, "text": "small"}, {"id": 5, "text": huge}, {"id": 6, "text": "small"}).execute()
    assert [row.key for row in caught.value.failed] == ["m:note:id:5"]
    assert [row and row.id for row in note.query_many({"id": n} for n in (4, 5, 6)).execute()] == [4, None, 6]
    with pytest.raises((co.WriteError, co.BackendError), match="m:note:id:1"):
        note.update(id=1, text=huge).execute()
    with pytest.raises(co.WriteError) as caught:
        note.update_many({"id": 0, "text": "new"}, {"id": 2, "text": huge}).execute()
    assert [row.key for row in caught.value.failed] == ["m:note:id:2"]
    assert note.get(id=0).text == "new"
    with pytest.raises((co.WriteError, co.BackendError), match="m:note:id:8"):
        note.get_or_create(id=8, text=huge)
    with pytest.raises((co.WriteError, co.BackendError), match="m:note:id:9"):
        note.insert(id=9, text=huge).if_absent().execute()


def test_more_than_a_hundred_rows_stay() -> None:
    """The backend in memory dropped rows from the hundredth on."""
    user = model(co.SimpleBackend())
    user.insert_many({"id": number} for number in range(enough(50_000))).execute()
    found = user.query_many({"id": number} for number in range(enough(50_000))).execute()
    assert None not in found


def test_rows_that_a_small_threshold_has_no_room_for_are_reported() -> None:
    user = model(co.SimpleBackend(threshold=10))
    with pytest.raises(co.WriteError) as caught:
        user.insert_many({"id": number} for number in range(15)).execute()
    assert len(caught.value.failed) == 5
    lost = {row.key for row in caught.value.failed}
    for number in range(15):
        assert user.exists(id=number) == (user.key(id=number) not in lost)


def test_delete_many_goes_on_past_misses(backend: co.BaseBackend) -> None:
    """It stopped at the first miss."""
    for key in ("a", "c", "d"):
        backend.set(key, b"1")
    assert backend.delete_many("a", "b", "c", "d") is False
    assert backend.get_many("a", "b", "c", "d") == [None] * 4


def test_empty_batches_are_nothing_to_do(backend: co.BaseBackend) -> None:
    """``set_many({})`` raised."""
    assert backend.set_many({}) == {}
    assert backend.replace_many({}) == {}
    assert backend.add_many({}) == {}
    assert backend.get_many() == []
    assert backend.get_dict() == {}
    assert backend.delete_many() is True
    user = model(backend)
    assert user.insert_many().execute() == user.query_many([]).execute() == user.update_many(()).execute() == []
    assert user.delete_many(iter(())).execute() is True


# -- keys --------------------------------------------------------------------------------------------

PARTS = [
    "",
    "a",
    "b",
    ":",
    "a:b",
    "::",
    "a:",
    ":a",
    "%",
    "%3A",
    "a%3Ab",
    " ",
    "é",
    "\0",
    "\r\n",
    "b:right:c",
    "%~",
    "~",
]


def test_no_two_composite_keys_collide(backend: co.BaseBackend) -> None:
    """``("a:b", "c")`` and ``("a", "b:c")`` were one row."""
    key = co.CompositeKey("left", "right")
    fields = {"left": co.StringField(), "right": co.StringField(), "text": co.StringField()}
    pair = model(backend, "Pair", **fields, Meta={"primary_key": key})
    rows = [{"left": left, "right": right, "text": repr((left, right))} for left in PARTS for right in PARTS]
    pair.insert_many(rows).execute()
    found = pair.query_many({"left": row["left"], "right": row["right"]} for row in rows).execute()
    assert [row and row.text for row in found] == [row["text"] for row in rows]
    assert len({pair.key(left=row["left"], right=row["right"]) for row in rows}) == len(rows)


def test_no_two_long_keys_collide(backend: co.BaseBackend) -> None:
    user = model(backend, name=co.StringField(primary_key=True), id=co.IntegerField(default=0))
    names = ["x" * size + tail for size in (200, 249, 250, 251, 1000, 100_000) for tail in ("", "a", "b", " ", "é")]
    user.insert_many({"name": name, "id": number} for number, name in enumerate(names)).execute()
    found = user.query_many({"name": name} for name in names).execute()
    assert [(row.name, row.id) for row in found] == [(name, number) for number, name in enumerate(names)]
    assert max(len(user.key(name=name)) for name in names) == 250


NASTY = [
    "a b",
    "a\r\nset m:user:name:victim 0 0 3\r\nbad\r\n",
    "x 0 0 1\r\nx\r\nflush_all\r\n",
    "a\nb",
    "a\0b",
    "\x7f",
    "x" * 300,
    "é" * 200,
]


def test_no_primary_key_reaches_the_server_as_a_command(backend: co.BaseBackend) -> None:
    """Names with line breaks ran commands on memcached, and long ones swapped users' rows."""
    user = model(backend, name=co.StringField(primary_key=True), id=co.IntegerField(default=0))
    user.create(name="victim", id=1)
    user.insert_many({"name": name, "id": number} for number, name in enumerate(NASTY, 10)).execute()
    for number, name in enumerate(NASTY, 10):
        assert user.get(name=name).id == number
        assert user.update(name=name, id=-number).execute().id == -number
        assert user.query_many({"name": name}, {"name": "victim"}).execute()[0].id == -number
        assert user.get_or_create(name=name)[1] is False
    assert user.get(name="victim").id == 1
    assert user.delete_many({"name": name} for name in NASTY).execute() is True
    assert user.get(name="victim").id == 1


@pytest.mark.parametrize("name", NASTY)
def test_keys_of_ones_own_making_are_checked_before_anything_is_sent(memcached: co.MemcachedBackend, name: str) -> None:
    user = model(memcached, name=co.StringField(primary_key=True, index_formatter="%s"), id=co.IntegerField(default=0))
    user.create(name="victim", id=1)
    row = {"name": name}
    good = {"name": "fine"}
    operations = [
        user.insert(**row),
        user.insert(**row).if_absent(),
        user.insert_many(good, row),
        user.insert_many(good, row).if_absent(),
        user.query(**row),
        user.query_many({"name": "victim"}, row),
        user.update(id=5, **row),
        user.update_many({"name": "victim", "id": 5}, {"id": 5, **row}),
        user.delete(**row),
        user.delete_many({"name": "victim"}, row),
    ]
    for operation in operations:
        with pytest.raises(co.InvalidKeyError) as caught:
            operation.execute()
        assert "\n" not in str(caught.value)
    for call in (
        lambda: user.exists(**row),
        lambda: user(**row).ttl(),
        lambda: user(**row).touch(),
        lambda: user.get_or_create(**row),
    ):
        with pytest.raises(co.InvalidKeyError):
            call()
    assert user.get(name="victim").id == 1
    assert not user.exists(name="fine")


# -- counters and lifetimes --------------------------------------------------------------------------


@pytest.mark.no_cover
def test_counts_are_not_lost_between_threads(backend: co.BaseBackend) -> None:
    def count() -> None:
        for _ in range(100):
            backend.incr("hits")
            backend.incr("hits", 2)
            backend.decr("hits")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.get("hits") == b"1600"


def test_an_expired_entry_does_not_exist_for_anybody(backend: co.BaseBackend) -> None:
    """``replace`` and ``delete`` still saw it."""
    user = model(backend, name=co.StringField(default="x"))
    user.create(id=99)
    is_seen = False
    while not is_seen:  # on a busy machine it may be gone before it is looked for
        user.insert_many({"id": number} for number in range(10)).ttl(1).execute()
        is_seen = user.exists(id=0)
    while user.exists(id=0) or user.exists(id=9):
        time.sleep(0.05)
    key = [user.key(id=number) for number in range(10)]
    assert backend.replace(key[0], b"new") is False
    assert backend.replace_many({key[1]: b"new"}) == {key[1]: False}
    assert backend.delete(key[2]) is False
    assert backend.delete_many(key[3]) is False
    assert backend.touch(key[4]) is False
    assert backend.ttl(key[5]) is None
    assert backend.has(key[6]) is False
    assert backend.get_many(*key) == [None] * 10
    assert user.update(id=7, name="y").execute() is None
    assert user(id=8).save() is False
    assert backend.incr(key[9]) == 1
    assert user.insert(id=1).if_absent().execute() is not None
    assert user.exists(id=99)


@pytest.mark.parametrize("ttl", [-1, -0.001, -(10**9), 0.5])
def test_no_lifetime_means_forever_by_accident(backend: co.BaseBackend, ttl: float) -> None:
    user = model(backend)
    row = user.create(id=1)
    with pytest.raises(ValueError, match="ttl"):
        model(backend, Meta={"ttl": ttl})
    with pytest.raises(ValueError, match="ttl"):
        user.insert(id=2).ttl(ttl)
    with pytest.raises(ValueError, match="ttl"):
        row.touch(ttl)
    for write in (backend.set, backend.add, backend.replace):
        with pytest.raises(ValueError, match="ttl"):
            write("key", b"1", ttl)
    for write_many in (backend.set_many, backend.add_many, backend.replace_many):
        with pytest.raises(ValueError, match="ttl"):
            write_many({"key": b"1"}, ttl)
    with pytest.raises(ValueError, match="ttl"):
        backend.touch("key", ttl)
    with pytest.raises(ValueError, match="ttl"):
        backend.incr("key", 1, ttl)
    assert not user.exists(id=2)
    assert not backend.has("key")


def test_a_lifetime_of_months_is_not_taken_for_a_date(backend: co.BaseBackend) -> None:
    """memcached reads more than 30 days as a point in time, long past."""
    days = 100 * 24 * 3600
    # A server's clock ticks in seconds and may stand still while the machine is busy; a date would be off by decades.
    minutes = 600
    user = model(backend, Meta={"ttl": days})
    row = user.create(id=1)
    user.insert_many({"id": 2}).execute()
    assert user.exists(id=1)
    assert user.exists(id=2)
    assert row.ttl() == pytest.approx(days, abs=minutes)
    assert row.touch(2 * days)
    assert row.ttl() == pytest.approx(2 * days, abs=minutes)
    assert user.update(id=1).execute() is not None
    assert row.ttl() == pytest.approx(days, abs=minutes)


# -- values ------------------------------------------------------------------------------------------


def test_mutable_defaults_are_not_shared(backend: co.BaseBackend) -> None:
    user = model(backend, tags=co.ListField(co.StringField(), default=[]), extra=co.JSONField(default={"seen": []}))
    first, second = user(id=1), user(id=2)
    first.tags.append("mine")
    first.extra["seen"].append(1)
    user.insert_many(first, second, {"id": 3}).execute()
    third = user.create(id=4)
    for row in (second, third, user.get(id=2), user.get(id=3)):
        assert (row.tags, row.extra) == ([], {"seen": []})
    assert (user.get(id=1).tags, user.get(id=1).extra) == (["mine"], {"seen": [1]})


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_decimals_never_pass_through_float(backend: co.BaseBackend, serializer: str) -> None:
    price = model(backend, "Price", amount=co.DecimalField(), Meta={"serializer": serializer})
    amounts = ["0.1", "1.10", "12345678901234567890.12345678901234567890", "0.30000000000000000001", "-0.00000001"]
    price.insert_many({"id": n, "amount": decimal.Decimal(text)} for n, text in enumerate(amounts)).execute()
    for number, text in enumerate(amounts):
        assert price.get(id=number).amount == decimal.Decimal(text)
    first, second = price.get(id=0).amount, decimal.Decimal("0.2")
    assert first + second == decimal.Decimal("0.3")


@pytest.fixture
def _new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    assert "TZ" not in os.environ or os.environ["TZ"] != "America/New_York"


@pytest.mark.usefixtures("_new_york")
def test_a_timestamp_keeps_the_instant_of_an_aware_value(backend: co.BaseBackend) -> None:
    """Its zone was dropped."""
    event = model(
        backend, "Event", local=co.TimestampField(resolution=6, null=True), utc=co.TimestampField(utc=True, null=True)
    )
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    moment = datetime.datetime(2024, 7, 1, 21, 0, 0, tzinfo=tokyo)  # noon in UTC, 8 in the morning in New York
    event.create(id=1, local=moment, utc=moment)
    row = event.get(id=1)
    assert row.local == datetime.datetime(2024, 7, 1, 8, 0, 0)
    assert row.utc == datetime.datetime(2024, 7, 1, 12, 0, 0)


@pytest.mark.usefixtures("_new_york")
def test_a_timestamp_tells_the_two_hours_of_a_fold_apart(backend: co.BaseBackend) -> None:
    """On 3 November 2024 New York's clocks showed 01:30 twice."""
    event = model(backend, "Event", at=co.TimestampField())
    early = datetime.datetime(2024, 11, 3, 1, 30, fold=0)
    late = datetime.datetime(2024, 11, 3, 1, 30, fold=1)
    event.insert_many({"id": 0, "at": early}, {"id": 1, "at": late}).execute()
    rows = event.query_many({"id": 0}, {"id": 1}).execute()
    assert [row.at.fold for row in rows] == [0, 1]
    assert rows[1].at.timestamp() - rows[0].at.timestamp() == 3600
    for row in rows:  # written again as it was read, it stays the same instant
        instant = row.at.timestamp()
        assert row.save()
        assert event.get(id=row.id).at.timestamp() == instant


# -- updates and replies -----------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_an_update_never_brings_back_a_deleted_row(backend: co.BaseBackend, many: bool) -> None:
    user = model(backend, name=co.StringField(default="x"))
    user.insert_many({"id": 1}, {"id": 2}).execute()
    name = "replace_many" if many else "replace"
    inner = getattr(backend, name)

    def lose_first(*args: Any) -> Any:
        backend.delete(user.key(id=1))
        return inner(*args)

    setattr(backend, name, lose_first)
    if many:
        rows = user.update_many({"id": 1, "name": "y"}, {"id": 2, "name": "y"}).execute()
        assert [row and row.name for row in rows] == [None, "y"]
    else:
        assert user.update(id=1, name="y").execute() is None
    delattr(backend, name)
    assert not user.exists(id=1)
    assert user(id=1, name="y").save() is False
    assert not user.exists(id=1)


def test_an_entry_of_another_type_is_an_error_and_no_miss(redis_server: RedisServer) -> None:
    """Redis answers WRONGTYPE for a list or a hash; that was reported as "no such row"."""
    with co.RedisBackend(port=redis_server.port) as backend:
        backend.clear(everything=True)
        user = model(backend, name=co.StringField(default="x"))
        key = user.key(id=1)
        backend.client.rpush(key, "a", "b")
        for call in (
            user.query(id=1).execute,
            lambda: user.get(id=1),
            user.update(id=1, name="y").execute,
            lambda: user.get_or_create(id=1),
            lambda: user.exists(id=1),
            lambda: backend.get(key),
            lambda: backend.incr(key),
        ):
            with pytest.raises(co.BackendError, match="WRONGTYPE"):
                call()
        assert backend.client.lrange(key, 0, -1) == [b"a", b"b"]
        assert backend.has(key)
