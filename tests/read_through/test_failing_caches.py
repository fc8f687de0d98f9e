"""A cache that stores nothing, or not all: what was loaded is returned, without waiting for leases that nobody has."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from clusters import wait_until
from servers import HANG, RedisServer

import cacheorm as co
from cacheorm.operations import leases, read_through
from cacheorm.payload import LEASE, is_lease
from cacheorm.requests import Sleep

Run = Callable[[Any], Any]


class Visitor(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()


@pytest.fixture(params=["called", "awaited"])
def run(request: pytest.FixtureRequest) -> Run:
    """Executes an operation in one way or the other."""
    if request.param == "called":
        return lambda operation: operation.execute()

    def run(operation: Any) -> Any:
        async def main() -> Any:
            try:
                return await operation.aexecute()
            finally:
                await operation._plan.backend.aclose()

        return asyncio.run(main())

    return run


def one(pk: int, loader: Any, **options: Any) -> Any:
    """Return the operation of get_or_load."""
    return co.operations.shortcuts.get_or_load(
        Visitor, pk, loader, None, options.get("negative_ttl"), options.get("lease", 3600)
    )


def many(pks: Any, loader: Any, **options: Any) -> Any:
    return Visitor.query_many({"id": pk} for pk in pks).load_missing(loader, **{"lease": 3600, **options})


class Cache:
    """A backend for the model, and what it refuses to store."""

    def __init__(
        self, backend: co.BaseBackend, refused: list[int], stored: list[int], fill: Callable[[], None]
    ) -> None:
        self.backend = backend
        self.refused = refused
        self.stored = stored
        self.fail = fill


_USER = {"username": "reader", "password": "secret"}


@contextlib.contextmanager
def redis_cache(fail: Callable[[Any], None]) -> Iterator[Cache]:
    with (
        RedisServer("--user", "reader", "on", ">secret", "~*", "+@all") as server,
        redis.Redis(port=server.port) as admin,
        co.RedisBackend(host="127.0.0.1", port=server.port, **_USER) as backend,
    ):
        yield Cache(backend, [1, 2, 3], [], lambda: fail(admin))


def fill(admin: Any) -> None:
    admin.config_set("maxmemory", "1")


def make_replica(admin: Any) -> None:
    admin.replicaof("127.0.0.1", 1)  # of nobody: it serves what it has


def without_right(*commands: str) -> contextlib.AbstractContextManager[Cache]:
    denied = [f"-{command}" for command in commands]
    return redis_cache(lambda admin: admin.acl_setuser("reader", enabled=True, commands=["+@all", *denied]))


CACHES: dict[str, Callable[[], contextlib.AbstractContextManager[Cache]]] = {
    "full server": lambda: redis_cache(fill),
    "read-only replica": lambda: redis_cache(make_replica),
    "user without SET": lambda: without_right("set"),
}


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest) -> Iterator[Cache]:
    with CACHES[request.param]() as made, co.bind([Visitor], backend=made.backend):
        yield made


pytestmark = pytest.mark.usefixtures("no_waiting")


def test_rows_that_cannot_be_stored_are_in_the_error(cache: Cache, source: Any, run: Run) -> None:
    cache.fail()
    pk = cache.refused[0]
    pks = [pk, *cache.stored, 999, pk]
    for missing in [pk, *cache.stored, 999], [pk, 999]:
        source.asked.clear()
        with pytest.raises(co.WriteError, match=r"\.rows") as caught:
            run(many(pks, source))
        names = {each: f"user {each}" for each in [pk, *cache.stored]}
        assert [row and (row.id, row.name) for row in caught.value.rows] == [
            (each, names[each]) if each in names else None for each in pks
        ]
        assert [(row.model, row.key) for row in caught.value.failed] == [("Visitor", Visitor.key(id=pk))]
        assert sorted(source.asked_for) == sorted(missing)
    assert set(Visitor.get_many(cache.stored)) == set(cache.stored)


def test_rows_that_were_stored_before_are_among_the_others(cache: Cache, source: Any, run: Run) -> None:
    Visitor.insert_many({"id": pk, "name": "stored before"} for pk in cache.refused[:1] + cache.stored).execute()
    cache.fail()
    with pytest.raises(co.WriteError) as caught:
        run(many([*cache.stored, cache.refused[1], *cache.refused[:1]], source))
    kept = cache.backend.has(Visitor.key(id=cache.refused[0])) if not cache.stored else False
    assert [row.name for row in caught.value.rows[:-2]] == ["stored before"] * len(cache.stored)
    assert caught.value.rows[-2].name == f"user {cache.refused[1]}"
    assert caught.value.rows[-1].name == ("stored before" if kept else f"user {cache.refused[0]}")


def test_a_single_row_that_cannot_be_stored_is_in_the_error(cache: Cache, source: Any, run: Run) -> None:
    cache.fail()
    pk = cache.refused[0]
    for _ in range(2):
        with pytest.raises(co.WriteError) as caught:
            run(one(pk, source.one))
        assert (caught.value.rows.id, caught.value.rows.name) == (pk, f"user {pk}")
        assert [row.key for row in caught.value.failed] == [Visitor.key(id=pk)]
        assert isinstance(caught.value.__cause__, co.BackendError)
        with pytest.raises(co.WriteError) as caught:
            run(Visitor.query(id=pk).load_missing(source, lease=3600))
        assert caught.value.rows.id == pk
    assert source.asked == [[pk]] * 4


def test_the_error_pickles_with_its_rows(cache: Cache, source: Any) -> None:
    cache.fail()
    with pytest.raises(co.WriteError) as caught:
        many(cache.refused, source).execute()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.rows == caught.value.rows
    assert again.failed == caught.value.failed


def test_a_lease_that_was_refused_is_not_asked_for_again(cache: Cache, source: Any) -> None:
    cache.fail()
    calls: list[str] = []

    def count(method: str, inner: Any) -> Any:
        def counted(*args: Any) -> Any:
            calls.append(method)
            return inner(*args)

        return counted

    for method in "add", "add_many", "get_many":
        setattr(cache.backend, method, count(method, getattr(cache.backend, method)))
    with pytest.raises(co.WriteError):
        many(cache.refused, source).execute()
    with pytest.raises(co.WriteError):
        one(cache.refused[0], source.one).execute()
    # The lease, and the rows.
    assert calls == ["add_many", "add_many", "add", "add"]


def test_misses_that_cannot_be_remembered_are_no_error(cache: Cache, source: Any, run: Run) -> None:
    cache.fail()
    source.rows.clear()
    assert run(many(cache.refused, source, negative_ttl=60)) == [None] * 3
    assert run(one(cache.refused[0], source.one, negative_ttl=60)) is None
    assert run(many(cache.refused, source)) == [None] * 3


def test_callers_that_share_a_load_get_their_rows_in_errors_of_their_own(
    cache: Cache, source: Any, together: Any, waiters: list[Any]
) -> None:
    cache.fail()

    def loader(pks: list[int]) -> Any:
        if pk in pks:
            wait_until("the others wait", lambda: len(waiters) == 3)
        return source(pks)

    def work(number: int) -> Any:
        with pytest.raises(co.WriteError) as caught:
            many([pk, cache.refused[number % 3]], loader).execute()
        return caught.value

    pk = cache.refused[0]
    errors = together(work, 4)
    for number, error in enumerate(errors):
        assert [row.id for row in error.rows] == [pk, cache.refused[number % 3]]
        assert {row.key for row in error.failed} == {Visitor.key(id=row.id) for row in error.rows}
    assert source.asked_for.count(pk) == 1
    assert len({id(error.rows[0]) for error in errors}) == 4


def test_a_lease_that_is_refused_is_no_error_where_the_row_is_stored(source: Any, run: Run) -> None:
    with (
        RedisServer() as server,
        redis.Redis(port=server.port) as admin,
        co.RedisBackend(host="127.0.0.1", port=server.port) as backend,
        co.bind([Visitor], backend=backend),
    ):

        def loader(pks: list[int]) -> Any:
            assert backend.get_many(*[Visitor.key(id=pk) for pk in pks]) == [None] * len(pks)
            admin.config_set("maxmemory", "0")
            return source(pks)

        fill(admin)
        assert [row.id for row in run(many([1, 2], loader))] == [1, 2]
        fill(admin)
        assert run(one(3, lambda pk: loader([pk])[pk])).id == 3
        assert set(Visitor.get_many([1, 2, 3])) == {1, 2, 3}


def test_users_without_the_right_to_run_scripts_get_their_rows(
    source: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with without_right("eval", "evalsha") as cache, co.bind([Visitor], backend=cache.backend):
        cache.fail()
        with pytest.raises(co.WriteError, match="no permissions") as caught:
            run(many([1, 2], source))
        assert [row.name for row in caught.value.rows] == ["user 1", "user 2"]
        # Their leases stay for their time, and no more are taken: rows can be added without.
        assert all(map(is_lease, cache.backend.get_many(Visitor.key(id=1), Visitor.key(id=2))))
        with pytest.raises(co.WriteError) as caught:
            run(many([2, 3], source))
        assert [row.name for row in caught.value.rows] == ["user 2", "user 3"]
        assert [row.key for row in caught.value.failed] == [Visitor.key(id=2)]
        assert run(one(4, source.one)).name == "user 4"
        assert run(many([3, 4, 5], source))[2].name == "user 5"
        assert [row.id for row in Visitor.get_many([3, 4, 5]).values()] == [3, 4, 5]
        monkeypatch.setattr(leases, "_SECONDS_WITHOUT", 0)
        leases._keep_from(cache.backend)
        with pytest.raises(co.WriteError):
            run(one(6, source.one))
        assert is_lease(cache.backend.get(Visitor.key(id=6)))


def test_users_without_the_right_to_transactions_notice_nothing(source: Any, run: Run) -> None:
    with without_right("multi", "exec", "watch") as cache, co.bind([Visitor], backend=cache.backend):
        cache.fail()
        assert [row.name for row in run(many([1, 2], source))] == ["user 1", "user 2"]
        assert run(one(3, source.one)).name == "user 3"
        assert set(Visitor.get_many([1, 2, 3])) == {1, 2, 3}


def test_a_key_of_another_type_holds_nobody_up(redis_server: Any, redis_backend: Any, source: Any, run: Run) -> None:
    with redis.Redis(port=redis_server.port) as admin, co.bind([Visitor], backend=redis_backend):
        admin.rpush(Visitor.key(id=1), "an element")
        for _ in range(2):
            source.asked.clear()
            assert [row.name for row in run(many([1, 2], source))] == ["user 1", "user 2"]
            assert source.asked_for.count(1) == 1
        assert admin.lrange(Visitor.key(id=1), 0, -1) == [b"an element"]
        # The command for one key is an error of its own, as with any other read; nothing is loaded in vain.
        source.asked.clear()
        with pytest.raises(co.BackendError, match=Visitor.key(id=1)):
            run(one(1, source.one))
        assert source.asked == []


def test_rows_are_given_if_leases_have_expired_and_the_server_fails_then(source: Any, run: Run) -> None:
    class Expiring(co.SimpleBackend):
        def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
            self.delete_many(*mapping)
            failing(self, "add_many", False)
            return super().compare_and_set_many(mapping, ttl)

    with co.bind([Visitor], backend=Expiring()), pytest.raises(co.WriteError) as caught:
        run(many([1, 2], source, lease=1))
    assert [row.name for row in caught.value.rows] == ["user 1", "user 2"]


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_rows_are_given_if_the_server_fails_while_they_are_loaded(how: str, source: Any, run: Run) -> None:
    with RedisServer() as server:
        backend = co.RedisBackend(host="127.0.0.1", port=server.port, socket_timeout=0.2, retry_after=0)

        def loader(pks: list[int]) -> Any:
            getattr(server, how)()
            return source(pks)

        with backend, co.bind([Visitor], backend=backend):
            with pytest.raises(co.WriteError, match=str(server.port)) as caught:
                run(many([1, 2], loader))
            assert [row.name for row in caught.value.rows] == ["user 1", "user 2"]
            assert len(caught.value.failed) == 2
            server.resume() if how == "pause" else server.start()
            with pytest.raises(co.WriteError) as caught:
                run(one(3, lambda pk: loader([pk])[pk]))
            assert caught.value.rows.name == "user 3"
            if how == "pause":
                server.resume()


def test_a_server_that_fails_while_others_load_is_not_waited_for(
    source: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as server:
        backend = co.RedisBackend(host="127.0.0.1", port=server.port)

        def pause(seconds: float) -> Sleep:
            server.kill()
            return Sleep(0)

        monkeypatch.setattr(read_through, "Sleep", pause)
        with backend, co.bind([Visitor], backend=backend):
            backend.set(Visitor.key(id=1), LEASE + b"of another process", 0)
            with pytest.raises(co.WriteError) as caught:
                run(many([1, 2], source))
        assert [row.name for row in caught.value.rows] == ["user 1", "user 2"]
        assert source.asked == [[2], [1]]


def test_a_cache_that_cannot_be_read_is_an_error_before_anything_is_loaded(source: Any, run: Run) -> None:
    with RedisServer() as server:
        backend = co.RedisBackend(host="127.0.0.1", port=server.port)
    with co.bind([Visitor], backend=backend):
        for operation in many([1], source), one(1, source.one):
            with pytest.raises(co.BackendError):
                run(operation)
    assert source.asked == []


def failing(backend: Any, method: str, maybe_applied: bool = True) -> Any:
    """Have a method raise an error in place of its replies, after it has done what it was asked; return the backend."""
    inner = getattr(backend, method)

    def fail(*args: Any) -> Any:
        inner(*args)
        raise co.BackendError("no reply", maybe_applied=maybe_applied)

    setattr(backend, method, fail)
    return backend


def test_a_lease_that_may_have_been_stored_is_looked_for(source: Any, run: Run) -> None:
    with co.bind([Visitor], backend=failing(co.SimpleBackend(), "add_many")):
        assert [row.name for row in run(many([1, 2], source))] == ["user 1", "user 2"]
        assert set(Visitor.get_many([1, 2])) == {1, 2}


def test_what_is_stored_by_now_need_not_be_readable(source: Any, run: Run) -> None:
    class Apart(co.SimpleBackend):
        def get_many_cas(self, *keys: str) -> Any:
            return [None if value is None else (value, value) for value in co.SimpleBackend.get_many(self, *keys)]

    memory = Apart()
    with co.bind([Visitor], backend=memory):

        def loader(pks: list[int]) -> Any:
            Visitor.create(id=1, name="newer")
            failing(memory, "get_many")
            return source(pks)

        assert [row.name for row in run(many([1, 2], loader))] == ["user 1", "user 2"]


def test_rows_that_may_have_been_stored_are_told_apart(source: Any, run: Run) -> None:
    for sure in (True, False):
        memory = failing(co.SimpleBackend(), "compare_and_set_many", not sure)
        with co.bind([Visitor], backend=memory), pytest.raises(co.WriteError, match="no reply") as caught:
            run(many([1, 2], source))
        assert [row.maybe_applied for row in caught.value.failed] == [not sure] * 2
        assert [row.reason for row in caught.value.failed] == ["no reply"] * 2


def test_rows_of_the_error_have_what_they_refer_to(source: Any, run: Run) -> None:
    class Post(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(Visitor)

    memory = failing(co.SimpleBackend(), "compare_and_set_many")
    with co.bind([Visitor, Post], backend=memory):
        Visitor.create(id=7, name="Sam")
        query = Post.query_many({"id": 1}).preload(Post.author)
        with pytest.raises(co.WriteError) as caught:
            run(query.load_missing(lambda pks: [{"id": pk, "author_id": 7} for pk in pks]))
        Visitor.delete(id=7).execute()
        assert caught.value.rows[0].author.name == "Sam"


def test_errors_of_a_loader_are_not_taken_for_refused_rows(source: Any, run: Run) -> None:
    mistake = co.WriteError([co.FailedRow("Other", "m:other:id:1", "is full")])

    def loader(pks: Any) -> Any:
        raise mistake

    with co.bind([Visitor], backend=co.SimpleBackend()):
        for operation in many([1], loader), one(1, loader):
            with pytest.raises(co.WriteError) as caught:
                run(operation)
            assert caught.value is mistake
            assert caught.value.rows is None


def test_a_cancelled_task_does_not_wait_for_a_server_that_hangs(source: Any) -> None:
    with RedisServer() as server:
        backend = co.RedisBackend(host="127.0.0.1", port=server.port, socket_timeout=HANG)

        async def loader(pks: list[int]) -> Any:
            server.pause()
            await asyncio.sleep(HANG)

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await many([1, 2], loader).aexecute()
            # Its leases are given back once the server replies.
            server.resume()
            while any(map(is_lease, await backend.aget_many(Visitor.key(id=1), Visitor.key(id=2)))):
                await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await Visitor.aget_or_load(3, loader)

        with backend, co.bind([Visitor], backend=backend):
            asyncio.run(main())
            server.resume()
