"""Rows that are due or kept stale, where something else is unusual: what is stored, its key, or how it is loaded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from servers import HANG

import cacheorm as co

if TYPE_CHECKING:
    from lifetimes import Clock


def user_model(backend: Any, loader: Any, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        Meta = type("Meta", (), {"backend": backend, "ttl": 1000, "loader": loader, **options})

    return User


def down(pks: list[int]) -> Any:
    raise ConnectionError("the database is down")


def names(version: int) -> Callable[[list[Any]], dict[Any, dict[str, str]]]:
    return lambda pks: {pk: {"name": f"{pk}, {version}"} for pk in pks}


# -- rows that are kept stale, and cannot be read -----------------------------------------------------


def unreadable(backend: Any, wall_clock: Clock, loader: Any, **options: Any) -> Any:
    """Return a model whose row 0 is kept stale, and of another version, and whose row 1 can be read."""
    user_model(backend, names(1), keep_stale=2000, version=1).get(id=0)
    later = user_model(backend, names(1), keep_stale=2000, version=2)
    later.get(id=1)
    wall_clock.now += 1001
    return user_model(backend, loader, keep_stale=2000, version=2, **options)


@pytest.mark.parametrize("on_invalid", ["raise", "miss"])
@pytest.mark.parametrize("timeout", [None, 0, HANG])
def test_a_row_that_cannot_be_read_is_not_said_to_be_missing(
    backend: co.BaseBackend, wall_clock: Clock, on_invalid: str, timeout: float | None
) -> None:
    user = unreadable(backend, wall_clock, down, on_invalid=on_invalid, loader_timeout=timeout)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            user.get_or_none(id=0)
        with pytest.raises(ConnectionError):
            user.query_many([0, 1]).execute()
        with pytest.raises(ConnectionError):
            asyncio.run(user.aget(id=0))
    assert user.get(id=1).name == "1, 1"


@pytest.mark.parametrize("on_invalid", ["raise", "miss"])
def test_a_row_that_cannot_be_read_is_loaded(backend: co.BaseBackend, wall_clock: Clock, on_invalid: str) -> None:
    user = unreadable(backend, wall_clock, names(2), on_invalid=on_invalid, loader_timeout=0)
    assert user.get(id=0).name == "0, 2"
    assert user.query(id=0).cached_only().execute().name == "0, 2"


def test_a_row_that_cannot_be_read_waits_for_its_place(memory: co.SimpleBackend, wall_clock: Clock) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(pks: list[int]) -> Any:
        begun.set()
        assert go_on.wait(HANG)
        return names(2)(pks)

    user = unreadable(memory, wall_clock, slow, on_invalid="miss", max_loads=1)
    running = threading.Thread(target=lambda: user.get(id=9))
    running.start()
    assert begun.wait(HANG)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(user.get_or_none(id=0)))
    waiting.start()
    waiting.join(0.1)
    go_on.set()
    running.join()
    waiting.join()
    assert found[0] is not None
    assert found[0].name == "0, 2"


# -- loaders of one operation ------------------------------------------------------------------------


async def rest_of_the_loop() -> None:
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


@pytest.mark.parametrize("many", [False, True])
def test_a_function_that_gives_an_awaitable_loads_rows_anew(
    memory: co.SimpleBackend, wall_clock: Clock, many: bool
) -> None:
    user = user_model(memory, dict, refresh_after=100)
    version = 1

    async def fetch(pks: list[int]) -> Any:
        await asyncio.sleep(0)
        return names(version)(pks)

    async def fetch_one(pk: int) -> Any:
        return (await fetch([pk]))[pk]

    # Neither is declared as a coroutine function.
    plain, plain_one = partial(fetch), partial(fetch_one)

    async def read() -> Any:
        if many:
            return (await user.query_many([0]).load_missing(plain))[0]
        return await user.aget_or_load(0, plain_one)

    async def main() -> None:
        nonlocal version
        assert (await read()).name == "0, 1"
        version += 1
        wall_clock.now += 101
        assert (await read()).name == "0, 1"
        await rest_of_the_loop()
        assert (await read()).name == "0, 2"
        assert user._meta.failed_loads == 0

    asyncio.run(main())


def test_a_plain_function_of_one_operation_does_not_hold_up_the_loop(
    memory: co.SimpleBackend, wall_clock: Clock
) -> None:
    go_on = threading.Event()
    go_on.set()

    def load(pks: list[int]) -> Any:
        assert go_on.wait(HANG)
        return names(1)(pks)

    user = user_model(memory, dict, refresh_after=100, keep_stale=500, loader_timeout=0.01)

    async def main() -> None:
        await user.query_many([0]).load_missing(load)
        go_on.clear()
        for seconds in (101, 1000):
            wall_clock.now += seconds
            assert (await user.query_many([0]).load_missing(load))[0].name == "0, 1"
            await asyncio.sleep(0.01)
        go_on.set()
        await rest_of_the_loop()

    asyncio.run(main())


# -- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["я" * 119, "я" * 120, "я" * 121, "я" * 122, "a" * 237, "a" * 244])
@pytest.mark.parametrize("backend", ["memcached", "redis"], indirect=True)
def test_rows_under_long_keys_are_loaded_anew(
    backend: co.BaseBackend, wall_clock: Clock, settled: Callable[[], None], name: str
) -> None:
    class Page(co.Model):
        path = co.StringField(primary_key=True, index_formatter="page:%s")
        name = co.StringField()

        class Meta:
            ttl = 1000
            refresh_after = 100
            version = 1

            def loader(pks: list[str]) -> Any:
                return {pk: {"name": str(wall_clock.now)} for pk in pks}

    co.bind([Page], backend=backend)
    assert len(Page.key(path=name).encode()) <= 250
    Page.get(path=name)
    wall_clock.now += 101
    Page.get(path=name)
    settled()
    assert Page._meta.failed_loads == 0
    assert Page.get(path=name).name == str(wall_clock.now)


# -- deadlines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
def test_a_row_is_given_at_the_deadline(
    memory: co.SimpleBackend, wall_clock: Clock, settled: Callable[[], None], awaited: bool
) -> None:
    go_on = threading.Event()

    def load(pks: list[int]) -> Any:
        assert wall_clock.now < 1_700_000_001 or go_on.wait(HANG)
        return names(1)(pks)

    user = user_model(memory, load, keep_stale=2000, loader_timeout=HANG)
    user.get(id=0)
    wall_clock.now += 1001

    async def aread() -> Any:
        with co.deadline(0.05):
            return await user.aget(id=0)

    began = time.monotonic()
    if awaited:
        assert asyncio.run(aread()).name == "0, 1"
    else:
        with co.deadline(0.05):
            assert user.get(id=0).name == "0, 1"
    assert time.monotonic() - began < HANG
    go_on.set()
    settled()


# -- lifetimes ---------------------------------------------------------------------------------------


class Interfering(co.SimpleBackend):
    """Does something else before it compares and sets, once."""

    first: Callable[[], object] | None = None

    def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
        first, self.first = self.first, None
        if first is not None:
            first()
        return super().compare_and_set_many(mapping, ttl)


def test_touch_renews_what_others_change_at_the_same_time(wall_clock: Clock) -> None:
    backend = Interfering()
    user = user_model(backend, names(1), keep_stale=2000)
    user.get(id=0)
    backend.first = lambda: user.update(id=0, name="changed").keep_ttl().execute()
    assert user(id=0).touch(5000)
    assert user(id=0).ttl() == 5000
    assert user.get(id=0).name == "changed"
    backend.first = lambda: user.delete(id=0).execute()
    assert not user(id=0).touch(5000)
    assert not user.exists(id=0)


class Refusing(co.SimpleBackend):
    """Adds, but does not replace."""

    def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
        return co.types.Outcome(dict.fromkeys(mapping, False), dict.fromkeys(mapping, "out of memory"))


def test_touch_says_what_is_not_renewed(wall_clock: Clock) -> None:
    user = user_model(Refusing(), names(1), keep_stale=2000, lease=None)
    user.query_many([0, 1]).execute()
    with pytest.raises(co.WriteError, match="out of memory"):
        user(id=0).touch(5000)
    with pytest.raises(co.WriteError, match="2 rows"):
        user.expire_many([0, 1, 7], 5000)
    assert user(id=0).ttl() == 1000


# -- declarations ------------------------------------------------------------------------------------


def test_an_abstract_model_gives_the_options_to_models_with_loaders(memory: co.SimpleBackend) -> None:
    class Cached(co.Model):
        class Meta:
            abstract = True
            backend = memory
            ttl = 1000
            refresh_after = 100
            keep_stale = 50

    class User(Cached):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            loader = staticmethod(names(1))

    assert User.get(id=3).name == "3, 1"
    assert User._meta.aging.due_after == 100_000


@pytest.mark.parametrize("backend", ["simple", "file", "redis"], indirect=True)
def test_marks_are_no_rows(backend: co.BaseBackend, wall_clock: Clock, settled: Callable[[], None]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Page(co.Model):
        site = co.StringField()
        path = co.StringField()
        name = co.StringField(default="")

        class Meta:
            primary_key = co.CompositeKey("site", "path", index_formatter="page:%s:%s")
            ttl = 1000
            refresh_after = 100

            def loader(pks: list[Any]) -> Any:
                begun.set()
                assert go_on.wait(HANG)
                return {pk: {} for pk in pks}

    co.bind([Page], backend=backend)
    Page.create(site="a", path="b")
    wall_clock.now += 101
    Page.get(site="a", path="b")
    assert begun.wait(HANG)
    assert backend.has("page:a:b:@load")
    assert [row.path for row in Page.scan()] == ["b"]
    assert [*Page.scan_keys()] == [("a", "b")]
    assert Page.count() == 1
    go_on.set()
    settled()
    assert not backend.has("page:a:b:@load")
