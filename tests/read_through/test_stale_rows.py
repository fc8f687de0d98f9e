"""``keep_stale`` and ``loader_timeout``: rows past their ttl, for when the loader fails or takes long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from lifetimes import left_of
from servers import HANG

import cacheorm as co

if TYPE_CHECKING:
    from lifetimes import Clock


class Flaky:
    """Stands for a database that may fail, or take until it is let go on."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.version = 1
        self.error: BaseException | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.begun = threading.Event()

    def load(self, pks: list[int]) -> dict[int, dict[str, Any]]:
        self.asked.append(pks)
        self.begun.set()
        assert self.go_on.wait(HANG)
        if self.error is not None:
            raise self.error
        return {pk: {"name": f"user {pk}, {self.version}"} for pk in pks}


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


def user_model(backend: Any, loader: Any, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        Meta = type("Meta", (), {"backend": backend, "ttl": 1000, "keep_stale": 2000, "loader": loader, **options})

    return User


def stale(user: Any, flaky: Flaky, wall_clock: Clock, count: int = 3) -> None:
    """Store rows whose lifetime has ended."""
    user.query_many(range(count)).execute()
    wall_clock.now += 1001
    flaky.asked.clear()
    flaky.version += 1
    flaky.begun.clear()


@pytest.fixture
def user(backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock) -> Any:
    """A model with three rows that are kept stale."""
    made = user_model(backend, flaky.load)
    stale(made, flaky, wall_clock)
    return made


READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda user: user.get(id=0),
    "query": lambda user: user.query(id=0).execute(),
    "query_many": lambda user: user.query_many([0]).execute()[0],
    "get_many": lambda user: user.get_many([0])[0],
    "co.Query": lambda user: co.Query((user, 0)).execute()[0],
    "awaited": lambda user: asyncio.run(user.aget(id=0)),
}


@pytest.mark.parametrize("read", READS)
def test_past_its_ttl_a_row_is_loaded(user: Any, flaky: Flaky, read: str) -> None:
    assert READS[read](user).name == "user 0, 2"
    assert READS[read](user).name == "user 0, 2"
    assert flaky.asked == [[0]]


@pytest.mark.parametrize("read", READS)
def test_it_is_given_where_the_loader_fails(user: Any, flaky: Flaky, read: str) -> None:
    flaky.error = ValueError("the database is down")
    for _ in range(3):
        assert READS[read](user).name == "user 0, 1"
    # Nobody asks the loader again for some time.
    assert flaky.asked == [[0]]
    assert user._meta.failed_loads == 1


@pytest.mark.parametrize("serializer", ["json", co.PickleSerializer(secret="secret")], ids=str)
def test_it_is_given_in_every_format(backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock, serializer: Any) -> None:
    user = user_model(backend, flaky.load, serializer=serializer)
    stale(user, flaky, wall_clock)
    flaky.error = ValueError()
    assert [row.name for row in user.query_many(range(3)).execute()] == [f"user {pk}, 1" for pk in range(3)]
    flaky.error = None
    again = user_model(backend, flaky.load, serializer=serializer, lease=None)
    assert again.query_many(range(3)).execute()[0].name == "user 0, 2"


def test_other_processes_do_not_ask_the_loader_either(user: Any, flaky: Flaky) -> None:
    flaky.error = ValueError()
    user.query_many(range(3)).execute()
    other = user_model(user._meta.backend, flaky.load)
    assert [row.name[-1] for row in other.query_many(range(3)).execute()] == ["1"] * 3
    assert other.get(id=0).name == "user 0, 1"
    assert flaky.asked == [[0, 1, 2]]
    assert other._meta.failed_loads == 0


def test_after_that_time_the_loader_is_asked_again(backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock) -> None:
    user = user_model(backend, flaky.load, retry_after=1)
    stale(user, flaky, wall_clock)
    flaky.error = ValueError()
    assert user.get(id=0).name == "user 0, 1"
    flaky.error = None
    from clusters import wait_until

    wait_until("the loader is asked again", lambda: user.get(id=0).name == "user 0, 2")


def test_a_batch_with_a_row_that_is_not_kept_fails(user: Any, flaky: Flaky) -> None:
    flaky.error = ValueError("down")
    with pytest.raises(ValueError, match="down"):
        user.query_many(range(4)).execute()
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["1"] * 3
    assert flaky.asked == [[3, 0, 1, 2]] or flaky.asked == [[0, 1, 2, 3]]
    flaky.error = None
    # Of those whose loader has failed, the rows that are kept are given.
    assert [row.name for row in user.query_many(range(4)).execute()] == [
        *(f"user {pk}, 1" for pk in range(3)),
        "user 3, 2",
    ]


def test_a_row_that_is_kept_is_none_for_all_other_operations(user: Any, flaky: Flaky) -> None:
    backend = user._meta.backend
    assert not user.exists(id=0)
    assert user.query(id=0).cached_only().execute() is None
    assert user.query_many(range(3)).cached_only().execute() == [None] * 3
    assert user.get_many(range(3), cached_only=True) == {}
    assert user(id=0).ttl() is None
    assert not user(id=0).touch()
    assert user.expire_many([0, 1]) == {0: False, 1: False}
    assert user.update(id=0, visits=1).execute() is None
    assert user.update_many({"id": 0, "visits": 1}, {"id": 1, "visits": 1}).execute() == [None, None]
    assert user.update(id=0, visits=1).atomic().execute() is None
    with pytest.raises(user.DoesNotExist):
        user.increment(0, "visits")
    assert not user.delete(id=2).execute()
    assert backend.get(user.key(id=2)) is None
    assert user.insert(id=0, name="new").if_absent().execute().name == "new"
    _, is_new = user.get_or_create(id=1, name="new")
    assert is_new
    assert [row.name for row in user.query_many([0, 1]).execute()] == ["new", "new"]
    assert flaky.asked == []


def test_a_fresh_row_is_one_for_all_operations(backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock) -> None:
    user = user_model(backend, flaky.load)
    user.create(id=0, name="new")
    assert user.exists(id=0)
    assert user(id=0).ttl() == 1000
    assert backend.ttl(user.key(id=0)) in left_of(3000, 1, 1)
    wall_clock.now += 400
    assert user(id=0).ttl() == 600
    assert user.update(id=0, visits=1).keep_ttl().execute().visits == 1
    assert user(id=0).ttl() == 600
    assert user.increment(0, "visits") == 2
    assert user(id=0).ttl() == 600
    assert user.update(id=0, visits=1).execute().visits == 1
    assert user(id=0).ttl() == 1000
    assert user(id=0).touch(500)
    assert user(id=0).ttl() == 500
    assert backend.ttl(user.key(id=0)) in left_of(2500, 1, 1)
    assert user.expire_many([0, 7], ttl=700) == {0: True, 7: False}
    assert user(id=0).ttl() == 700
    assert user.insert(id=0, name="again").ttl(600).execute()
    assert user(id=0).ttl() == 600
    assert user(id=0).touch(co.NEVER)
    assert user(id=0).ttl() == 0
    wall_clock.now += 1_000_000
    assert user.exists(id=0)
    assert not user.insert(id=0, name="other").if_absent().execute()
    assert user.delete(id=0).execute()


def test_a_row_that_is_gone_at_the_source_is_given_no_more(
    backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock
) -> None:
    for negative_ttl in (None, 300):
        user = user_model(backend, flaky.load, negative_ttl=negative_ttl)
        stale(user, flaky, wall_clock)
        assert user.query(id=0).load_missing(lambda pks: {}).execute() is None
        flaky.error = ValueError("down")
        if negative_ttl is None:
            with pytest.raises(ValueError, match="down"):
                user.get(id=0)
        else:
            assert user.get_or_none(id=0) is None
        flaky.error = None
        backend.clear(everything=True)


def test_threads_that_wait_for_a_load_that_fails_get_what_is_kept(
    user: Any, flaky: Flaky, together: Callable[..., list[Any]], waiters: list[Any]
) -> None:
    flaky.error = ValueError("down")
    flaky.go_on.clear()

    def read(number: int) -> str:
        if number == 0:
            from clusters import wait_until

            wait_until("all others wait", lambda: len(waiters) >= 6)
            flaky.go_on.set()
            return "user 0, 1"
        return str(user.get(id=0).name)

    assert together(read) == ["user 0, 1"] * 8
    assert flaky.asked == [[0]]


def test_an_interruption_is_no_failure(user: Any, flaky: Flaky) -> None:
    flaky.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        user.get(id=0)
    flaky.error = None
    assert user.get(id=0).name == "user 0, 2"


@pytest.mark.parametrize("awaited", [False, True])
def test_a_load_that_takes_too_long_goes_on_behind_the_answer(
    backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock, settled: Callable[[], None], awaited: bool
) -> None:
    user = user_model(backend, flaky.load, loader_timeout=0)
    stale(user, flaky, wall_clock)
    flaky.go_on.clear()
    query = user.query_many(range(3))
    rows = asyncio.run(query.aexecute()) if awaited else query.execute()
    assert [row.name[-1] for row in rows] == ["1"] * 3
    assert flaky.begun.wait(HANG)
    flaky.go_on.set()
    settled()
    assert flaky.asked == [[0, 1, 2]]
    assert [row.name[-1] for row in user.query_many(range(3)).cached_only().execute()] == ["2"] * 3


def test_a_load_in_time_is_given(backend: co.BaseBackend, flaky: Flaky, wall_clock: Clock, settled: Any) -> None:
    user = user_model(backend, flaky.load, loader_timeout=HANG)
    stale(user, flaky, wall_clock)
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["2"] * 3
    wall_clock.now += 1001
    flaky.version += 1
    assert asyncio.run(user.aget(id=0)).name == "user 0, 3"
    settled()


def test_an_awaited_loader_goes_on_in_its_loop(memory: co.SimpleBackend, wall_clock: Clock) -> None:
    asked: list[list[int]] = []

    async def main() -> None:
        go_on = asyncio.Event()

        async def load(pks: list[int]) -> dict[int, dict[str, Any]]:
            asked.append(pks)
            await go_on.wait()
            return {pk: {"name": f"user {pk}, {len(asked)}"} for pk in pks}

        user = user_model(memory, None, aloader=load, loader_timeout=0.01)
        go_on.set()
        assert (await user.aget(id=0)).name == "user 0, 1"
        wall_clock.now += 1001
        go_on.clear()
        found = await asyncio.gather(*[user.aget(id=0) for _ in range(9)])
        assert {row.name for row in found} == {"user 0, 1"}
        go_on.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        assert (await user.query(id=0).cached_only()).name == "user 0, 2"
        assert asked == [[0], [0]]
        wall_clock.now += 1001
        assert (await user.aget(id=0)).name == "user 0, 3"

    asyncio.run(main())


def test_callers_without_a_kept_row_wait(memory: co.SimpleBackend, flaky: Flaky, wall_clock: Clock) -> None:
    user = user_model(memory, flaky.load, loader_timeout=0)
    stale(user, flaky, wall_clock)
    assert user.get(id=7).name == "user 7, 2"
    assert [row.name[-1] for row in user.query_many([0, 7]).execute()] == ["2", "2"]


def test_rows_are_given_while_as_many_loaders_run_as_may(
    memory: co.SimpleBackend, flaky: Flaky, wall_clock: Clock
) -> None:
    user = user_model(memory, flaky.load, max_loads=1)
    stale(user, flaky, wall_clock)
    flaky.go_on.clear()
    running = threading.Thread(target=lambda: user.get(id=9))
    running.start()
    assert flaky.begun.wait(HANG)
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["1"] * 3
    flaky.go_on.set()
    running.join()
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["2"] * 3


def test_rows_are_given_when_the_pool_is_full(
    memory: co.SimpleBackend, flaky: Flaky, wall_clock: Clock, settled: Callable[[], None]
) -> None:
    user = user_model(memory, flaky.load, loader_timeout=0)
    stale(user, flaky, wall_clock, 300)
    flaky.go_on.clear()
    for pk in range(300):
        assert user.get(id=pk).name == f"user {pk}, 1"
    flaky.go_on.set()
    settled()
    assert 100 <= len(flaky.asked) <= 105


def test_a_cache_that_fails_meanwhile_costs_no_row(flaky: Flaky, wall_clock: Clock) -> None:
    class Failing(co.SimpleBackend):
        fails = False

        def _check(self) -> None:
            if self.fails:
                raise co.BackendError("down")

        def add_many(self, mapping: Any, ttl: Any = None) -> Any:
            self._check()
            return super().add_many(mapping, ttl)

        def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
            self._check()
            return super().compare_and_set_many(mapping, ttl)

    backend = Failing()
    user = user_model(backend, flaky.load)
    stale(user, flaky, wall_clock)
    backend.fails = True
    with pytest.raises(co.WriteError) as caught:
        user.query_many(range(3)).execute()
    assert [row.name[-1] for row in caught.value.rows] == ["2"] * 3
    backend.fails = False
    assert [row.name[-1] for row in user.query_many(range(3)).execute()] == ["2"] * 3
