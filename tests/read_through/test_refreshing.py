"""``refresh_after``: rows that are due are given at once, and loaded anew behind the answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from servers import HANG

import cacheorm as co
from cacheorm.payload import Ages, Header, ages_of

if TYPE_CHECKING:
    from lifetimes import Clock

FORMATS = ["msgpack", "json", co.PickleSerializer(secret="secret")]


class Source:
    """Stands for a database whose rows say how often they were loaded, and counts the calls."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.version = 1
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.missing: set[int] = set()

    def load(self, pks: list[int]) -> dict[int, dict[str, Any]]:
        self.asked.append(pks)
        assert self.go_on.wait(HANG)
        if self.error is not None:
            raise self.error
        return {pk: {"name": f"user {pk}, {self.version}"} for pk in pks if pk not in self.missing}

    async def aload(self, pks: list[int]) -> dict[int, dict[str, Any]]:
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)
        return self.load(pks)


@pytest.fixture
def source() -> Source:
    return Source()


def user_model(backend: Any, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        Meta = type("Meta", (), {"backend": backend, "ttl": 1000, "refresh_after": 100, **options})

    return User


@pytest.fixture
def user(backend: co.BaseBackend, source: Source) -> Any:
    return user_model(backend, loader=source.load)


def fill(user: Any, source: Source, count: int) -> None:
    user.query_many(range(count)).execute()
    source.asked.clear()
    source.version += 1


READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda user: user.get(id=0),
    "get_by_id": lambda user: user.get_by_id(0),
    "get_or_none": lambda user: user.get_or_none(id=0),
    "query": lambda user: user.query(id=0).execute(),
    "query_many": lambda user: user.query_many([0]).execute()[0],
    "get_many": lambda user: user.get_many([0])[0],
    "co.Query": lambda user: co.Query((user, 0)).execute()[0],
    "refresh": lambda user: user(id=0).refresh(),
    "get_or_load": lambda user: user.get_or_load(0, lambda pk: user._meta.options.loader([pk])[pk]),
    "awaited get": lambda user: asyncio.run(user.aget(id=0)),
    "awaited query_many": lambda user: asyncio.run(user.query_many([0]).aexecute())[0],
}


@pytest.mark.parametrize("read", READS)
def test_a_row_that_is_due_is_given_and_loaded_anew(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None], read: str
) -> None:
    fill(user, source, 1)
    wall_clock.now += 99
    assert READS[read](user).name == "user 0, 1"
    settled()
    assert source.asked == []
    wall_clock.now += 2
    assert READS[read](user).name == "user 0, 1"
    settled()
    assert source.asked == [[0]]
    assert READS[read](user).name == "user 0, 2"
    settled()
    assert source.asked == [[0]]


@pytest.mark.parametrize("serializer", FORMATS, ids=str)
@pytest.mark.parametrize("awaited", [False, True])
def test_all_rows_of_a_batch_that_are_due_are_loaded_by_one_call(
    backend: co.BaseBackend,
    source: Source,
    wall_clock: Clock,
    settled: Callable[[], None],
    serializer: Any,
    awaited: bool,
) -> None:
    user = user_model(backend, serializer=serializer, loader=source.load)
    fill(user, source, 300)
    wall_clock.now += 101
    user.query_many(range(300, 1000)).execute()
    source.asked.clear()
    query = user.query_many(range(1000))
    rows = asyncio.run(query.aexecute()) if awaited else query.execute()
    assert [row.name[-1] for row in rows] == ["1"] * 300 + ["2"] * 700
    settled()
    assert source.asked == [[*range(300)]]
    assert {row.name[-1] for row in user.query_many(range(1000)).execute()} == {"2"}
    settled()
    assert len(source.asked) == 1


def test_the_answer_does_not_wait(user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]) -> None:
    fill(user, source, 3)
    wall_clock.now += 101
    source.go_on.clear()
    for _ in range(5):
        assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["1"] * 3
    source.go_on.set()
    settled()
    assert source.asked == [[0, 1, 2]]


def test_an_awaited_read_goes_on_in_its_loop(backend: co.BaseBackend, source: Source, wall_clock: Clock) -> None:
    user = user_model(backend, loader=source.load, aloader=source.aload)
    fill(user, source, 3)
    wall_clock.now += 101
    source.go_on.clear()

    async def main() -> None:
        assert [row.name[-1] for row in await user.query_many(range(3))] == ["1"] * 3
        assert all(thread.name != "cacheorm-behind" for thread in threading.enumerate())
        source.go_on.set()
        (task,) = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await task
        assert [row.name[-1] for row in await user.query_many(range(3))] == ["2"] * 3

    asyncio.run(main())
    assert source.asked == [[0, 1, 2]]


def test_a_called_read_leaves_it_to_awaited_ones_where_only_these_can_load(
    memory: co.SimpleBackend, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    user = user_model(memory, aloader=source.aload)
    asyncio.run(user.query_many(range(3)).aexecute())
    wall_clock.now += 101
    for _ in range(2):
        assert user.get(id=0).name == "user 0, 1"
    settled()
    assert len(source.asked) == 1

    async def main() -> None:
        await user.aget(id=0)
        while len(source.asked) == 1:
            await asyncio.sleep(0)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(main())
    assert source.asked[1:] == [[0]]


def test_a_row_that_is_deleted_meanwhile_does_not_come_back(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    fill(user, source, 3)
    wall_clock.now += 101
    source.go_on.clear()
    user.query_many(range(3)).execute()
    user.delete(id=0).execute()
    user.update(id=1, name="changed").execute()
    source.go_on.set()
    settled()
    found = user.query_many(range(3)).cached_only().execute()
    assert [row and row.name for row in found] == [None, "changed", "user 2, 2"]


def test_a_reader_after_a_deletion_does_not_share_the_older_load(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    fill(user, source, 1)
    wall_clock.now += 101
    begun, go_on = threading.Event(), threading.Event()
    load = source.load

    def slow(pks: list[int]) -> Any:
        found = load(pks)
        begun.set()
        assert go_on.wait(HANG)
        return found

    user.get_or_load(0, lambda pk: slow([pk])[pk])
    assert begun.wait(HANG)
    user.delete(id=0).execute()
    source.version = 3
    assert user.get(id=0).name == "user 0, 3"
    go_on.set()
    settled()
    assert user.get(id=0).name == "user 0, 3"


def test_a_row_that_is_gone_at_the_source_is_removed(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    fill(user, source, 3)
    wall_clock.now += 101
    source.missing = {1}
    assert user.get(id=1).name == "user 1, 1"
    settled()
    assert user.query_many(range(3)).execute()[1] is None


def test_a_partial_write_makes_the_rest_no_younger(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    fill(user, source, 2)
    wall_clock.now += 60
    user.update(id=0, visits=7).execute()
    user.create(id=1, name="whole")
    wall_clock.now += 60
    assert user.get(id=0).visits == 7
    assert user.get(id=1).name == "whole"
    settled()
    assert source.asked == [[0]]


def test_errors_are_logged_and_counted_and_the_loader_is_left_alone_for_a_while(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    fill(user, source, 3)
    wall_clock.now += 101
    source.error = ValueError("a secret")
    with caplog.at_level(logging.WARNING, "cacheorm"):
        for _ in range(3):
            assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["1"] * 3
            settled()
    assert source.asked == [[0, 1, 2]]
    assert user._meta.failed_loads == 1
    assert "a secret" not in caplog.text
    # So do other processes.
    other = user_model(user._meta.backend, loader=source.load)
    assert other.get(id=0).name == "user 0, 1"
    settled()
    assert len(source.asked) == 1


@pytest.mark.parametrize("serializer", FORMATS, ids=str)
def test_a_row_of_before_grows_old_from_when_it_is_first_read(
    backend: co.BaseBackend, source: Source, wall_clock: Clock, settled: Callable[[], None], serializer: Any
) -> None:
    before = user_model(backend, serializer=serializer, refresh_after=None, loader=source.load)
    fill(before, source, 3)
    user = user_model(backend, serializer=serializer, loader=source.load)
    wall_clock.now += 10_000
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["1"] * 3
    settled()
    assert source.asked == []
    ages = ages_of(backend.get(user.key(id=0)) or b"")
    assert ages is not None
    assert ages.written == int(1000 * wall_clock.now)
    wall_clock.now += 101
    assert user.get(id=0).name == "user 0, 1"
    settled()
    assert source.asked == [[0]]


def test_a_clock_that_is_set_back_does_no_harm(
    user: Any, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    fill(user, source, 1)
    wall_clock.now -= 50
    user.get(id=0)
    settled()
    assert source.asked == []
    wall_clock.now -= 10_000
    user.get(id=0)
    settled()
    assert source.asked == [[0]]
    user.get(id=0)
    settled()
    assert source.asked == [[0]]


def test_jitter_spreads_the_rows_that_are_due(
    memory: co.SimpleBackend, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    user = user_model(memory, loader=source.load, ttl_jitter=0.5)
    fill(user, source, 1000)
    wall_clock.now += 49
    user.query_many(range(1000)).execute()
    settled()
    assert source.asked == []
    wall_clock.now += 26
    user.query_many(range(1000)).execute()
    settled()
    (asked,) = source.asked
    assert 400 < len(asked) < 600


def test_no_more_is_loaded_behind_answers_than_the_pool_takes(
    memory: co.SimpleBackend, source: Source, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    user = user_model(memory, loader=source.load)
    fill(user, source, 500)
    wall_clock.now += 101
    source.go_on.clear()
    for pk in range(500):
        assert user.get(id=pk).name == f"user {pk}, 1"
    assert sum(thread.name == "cacheorm-behind" for thread in threading.enumerate()) <= 4
    source.go_on.set()
    settled()
    assert 100 <= len(source.asked) <= 105
    # The others were not lost: the next read asks for them.
    user.query_many(range(500)).execute()
    settled()
    assert {row.name[-1] for row in user.query_many(range(500)).execute()} == {"2"}


def test_related_rows_are_loaded_anew_too(
    memory: co.SimpleBackend, wall_clock: Clock, source: Source, settled: Any
) -> None:
    user = user_model(memory, loader=source.load)

    class Article(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(user)

        class Meta:
            backend = memory

    articles = Article.insert_many({"id": number, "author": number % 3} for number in range(9)).execute()
    fill(user, source, 3)
    wall_clock.now += 101
    found = Article.query_many(range(9)).preload("author").execute()
    assert [row.author.name[-1] for row in found] == ["1"] * 9
    settled()
    assert source.asked == [[0, 1, 2]]
    assert articles[0].author.name == "user 0, 2"


def test_cached_only_loads_nothing_anew(user: Any, source: Source, wall_clock: Clock, settled: Any) -> None:
    fill(user, source, 3)
    wall_clock.now += 101
    assert user.query_many(range(3)).cached_only().execute()[0].name == "user 0, 1"
    assert user.exists(id=0)
    settled()
    assert source.asked == []


def test_headers_of_other_models_have_no_ages(memory: co.SimpleBackend, source: Source) -> None:
    plain = user_model(memory, loader=source.load, refresh_after=None)
    plain.get(id=0)
    assert ages_of(memory.get(plain.key(id=0)) or b"") is None
    # They read those of models that have some.
    payload = Header("msgpack", None, 0, Ages(1)).pack() + (memory.get(plain.key(id=0)) or b"")
    memory.set(plain.key(id=1), payload)
    assert plain.get(id=1).name == "user 0, 1"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"refresh_after": 0}, "User.Meta.refresh_after: it must be at least 1 second"),
        ({"refresh_after": -1}, "User.Meta.refresh_after: .*negative"),
        ({"refresh_after": 1000}, "User.Meta.refresh_after: rows would be gone before they are due.*1000"),
        ({"refresh_after": 5, "loader": None}, "User.Meta.refresh_after: it needs a Meta.loader"),
        ({"refresh_after": None, "keep_stale": 5, "loader": None}, "User.Meta.keep_stale: it needs a Meta.loader"),
        ({"keep_stale": 5, "ttl": None}, "User.Meta.keep_stale: it begins when the ttl"),
        ({"keep_stale": 5, "ttl": 0}, "User.Meta.keep_stale: it begins when the ttl"),
        ({"keep_stale": 0}, "User.Meta.keep_stale: it must be at least 1 second"),
        ({"retry_after": 5, "refresh_after": None}, "User.Meta.retry_after: it is for rows that are old"),
        ({"loader_timeout": 5}, "User.Meta.loader_timeout: there are rows to give .*keep_stale"),
        ({"loader_timeout": -1, "keep_stale": 5}, "User.Meta.loader_timeout: it must be a finite number"),
    ],
)
def test_wrong_declarations_name_model_and_option(
    memory: co.SimpleBackend, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        user_model(memory, **{"loader": dict, **options})


@pytest.mark.parametrize("option", ["refresh_after", "keep_stale", "retry_after", "loader_timeout"])
def test_what_is_no_number_of_seconds_is_refused(memory: co.SimpleBackend, option: str) -> None:
    with pytest.raises(TypeError, match=f"User.Meta.{option}: "):
        user_model(memory, **{"loader": dict, "keep_stale": 5, option: "5"})


def test_a_row_without_end_may_be_loaded_anew(memory: co.SimpleBackend) -> None:
    for ttl in (None, 0):
        assert user_model(memory, loader=dict, ttl=ttl)._meta.aging.due_after == 100_000
