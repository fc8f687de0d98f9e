"""Callers in several processes: a lease on a row tells the others that it is being loaded."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cacheorm as co
from cacheorm.payload import ABSENT, LEASE, is_lease

sys.path.insert(0, str(Path(__file__).parents[1]))

from children import fork, fork_and_check
from lifetimes import left_of

PROCESSES = 4

Connect = Callable[[], co.BaseBackend]


@pytest.fixture(params=["file", "redis", "memcached"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Gives what makes a backend of its own on one and the same store, as another process would have."""
    made: list[co.BaseBackend] = []
    if request.param == "file":
        make: Connect = lambda: co.FileSystemBackend(tmp_path / "cache")  # noqa: E731
    elif request.param == "redis":
        redis = request.getfixturevalue("redis_server")
        make = lambda: co.RedisBackend(host="127.0.0.1", port=redis.port)  # noqa: E731
    else:
        memcached = request.getfixturevalue("memcached_server")
        make = lambda: co.MemcachedBackend(servers=[("127.0.0.1", memcached.port)])  # noqa: E731

    def connect() -> co.BaseBackend:
        made.append(make())
        return made[-1]

    connect().clear(everything=True)
    yield connect
    for backend in made:
        backend.close()


def a_user(backend: co.BaseBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        class Meta:
            ttl = 1000

    co.bind([User], backend=backend)
    return User


def test_processes_that_miss_the_same_rows_load_each_once(connect: Connect, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    start = tmp_path / "start"

    def child(number: int) -> bool:
        user = a_user(connect())

        def loader(pks: list[int]) -> Any:
            with log.open("a") as lines:
                lines.write("".join(f"{pk}\n" for pk in pks))
            time.sleep(0.05)
            return {pk: {"name": f"user {pk}"} for pk in pks if pk != 13}

        while not start.exists():
            time.sleep(0.001)
        order = list(range(200)) if number % 2 else list(range(199, -1, -1))
        for first in range(0, 200, 40):
            pks = [{"id": pk} for pk in order[first : first + 80]]
            found = user.query_many(pks).load_missing(loader, negative_ttl=6000, lease=3000).execute()
            assert [row and row.name for row in found] == [None if pk["id"] == 13 else f"user {pk['id']}" for pk in pks]
        return True

    ends = [fork_and_check(lambda number=number: child(number)) for number in range(PROCESSES)]  # type: ignore[misc]
    start.touch()
    for end in ends:
        end()
    loaded = Counter(int(line) for line in log.read_text().split())
    assert loaded == dict.fromkeys(range(200), 1)


def test_who_dies_while_loading_holds_others_up_no_longer_than_its_lease(connect: Connect, source: Any) -> None:
    user = a_user(connect())
    backend = user._meta.backend
    child = fork()
    if not child:
        try:
            a_user(connect()).query_many({"id": 1}, {"id": 2}).load_missing(
                lambda pks: os.kill(os.getpid(), signal.SIGKILL), lease=6000
            ).execute()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    keys = [user.key(id=1), user.key(id=2)]
    assert all(is_lease(payload) for payload in backend.get_many(*keys))

    def loader(pks: list[int]) -> Any:
        if pks == [3]:  # what nobody else loads comes first; then the lease comes to its end
            assert backend.touch_many(keys, 1) == dict.fromkeys(keys, True)
        return source(pks)

    found = user.query_many({"id": 1}, {"id": 2}, {"id": 3}).load_missing(loader, lease=6000).execute()
    assert [row.name for row in found] == ["user 1", "user 2", "user 3"]
    assert source.asked[0] == [3]
    assert sorted(source.asked_for) == [1, 2, 3]
    assert user.get(id=1).name == "user 1"


def test_who_is_interrupted_while_loading_holds_nobody_up(connect: Connect, source: Any) -> None:
    def child() -> bool:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        user = a_user(connect())

        def loader(pks: list[int]) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

        with pytest.raises(KeyboardInterrupt):
            user.query_many({"id": 1}, {"id": 2}).load_missing(loader, lease=600).execute()
        return True

    fork_and_check(child)()
    user = a_user(connect())
    assert not is_lease(user._meta.backend.get(user.key(id=1)))
    found = user.query_many({"id": 1}, {"id": 2}).load_missing(source, lease=600).execute()
    assert [row.name for row in found] == ["user 1", "user 2"]


def test_who_waits_gets_the_row_that_another_process_stored(connect: Connect, source: Any) -> None:
    mine, other = a_user(connect()), a_user(connect())
    entered, go_on = threading.Event(), threading.Event()
    outcome: list[Any] = []

    def slow(pks: list[int]) -> Any:
        entered.set()
        assert go_on.wait(60)
        return {pk: {"name": f"from the other, {pk}"} for pk in pks if pk != 3}

    def load() -> None:
        outcome.extend(
            other.query_many({"id": n} for n in (1, 2, 3)).load_missing(slow, negative_ttl=9000, lease=6000).execute()
        )

    thread = threading.Thread(target=load)
    thread.start()
    assert entered.wait(60)

    def loader(pks: list[int]) -> Any:
        # What others load is waited for only once what nobody loads is there.
        go_on.set()
        return source(pks)

    found = mine.query_many({"id": n} for n in (0, 1, 3)).load_missing(loader, lease=6000).execute()
    thread.join()
    assert [row and row.name for row in found] == ["user 0", "from the other, 1", None]
    assert source.asked == [[0]]
    assert outcome[0].name == found[1].name
    assert outcome[2] is None


@pytest.mark.parametrize("negative", [False, True])
def test_a_lease_that_is_given_up_is_taken_over(connect: Connect, source: Any, negative: bool) -> None:
    mine, other = a_user(connect()), a_user(connect())
    entered, go_on = threading.Event(), threading.Event()

    def broken(pks: list[int]) -> Any:
        entered.set()
        assert go_on.wait(60)
        if negative:
            return {}
        raise LookupError("the database is down")

    def load() -> None:
        with contextlib.suppress(LookupError):
            other.query_many({"id": 1}, {"id": 2}).load_missing(broken, lease=600).execute()

    thread = threading.Thread(target=load)
    thread.start()
    assert entered.wait(60)
    timer = threading.Timer(0.1, go_on.set)
    timer.start()
    found = mine.query_many({"id": 1}, {"id": 2}).load_missing(source, lease=600).execute()
    thread.join()
    timer.join()
    assert [row.name for row in found] == ["user 1", "user 2"]
    # A server may be asked between two keys that are given back.
    assert sorted(pk for pks in source.asked for pk in pks) == [1, 2]


def test_a_lease_that_does_not_end_is_taken_over_by_who_has_waited_long_enough(connect: Connect, source: Any) -> None:
    backend = connect()
    user = a_user(backend)
    backend.set(user.key(id=1), LEASE + b"of nobody", 0)
    assert user.get_or_load(1, source.one, lease=1).name == "user 1"
    assert user.get(id=1).name == "user 1"
    assert user.get(id=1).ttl() in left_of(1000, early=1)


def test_without_leases_the_first_row_that_was_stored_stays(connect: Connect, source: Any) -> None:
    mine, other = a_user(connect()), a_user(connect())

    def loader(pks: list[int]) -> Any:
        loaded = other.query_many({"id": pk} for pk in pks).load_missing(
            lambda pks: {pk: {"name": "the other's"} for pk in pks if pk != 2}, negative_ttl=6000, lease=None
        )
        loaded.execute()
        return source(pks)

    found = mine.query_many({"id": 1}, {"id": 2}).load_missing(loader, lease=None).execute()
    assert [row and row.name for row in found] == ["the other's", None]
    assert mine.query_many({"id": 1}, {"id": 2}).execute() == found


def test_a_deletion_by_another_process_is_not_undone(connect: Connect, source: Any) -> None:
    mine, other = a_user(connect()), a_user(connect())

    def loader(pk: int) -> Any:
        row = source.one(pk)
        source.rows[pk] = {"name": "changed"}
        other.delete(id=pk).execute()
        assert other.get_or_load(pk, source.one).name == "changed"
        return row

    assert mine.get_or_load(1, loader).name == "changed"
    assert mine.get(id=1).name == "changed"


def test_a_miss_remembered_by_another_process_is_taken_over_by_an_insert_only(connect: Connect, source: Any) -> None:
    backend = connect()
    user = a_user(backend)
    backend.set(user.key(id=1), ABSENT)
    assert user.get_or_load(1, source.one) is None
    assert user.insert(id=1, name="x").if_absent().execute() is not None
    assert user.get_or_load(1, source.one).name == "x"
    assert source.asked == []


def test_a_backend_with_nothing_but_the_three_methods_reads_through(source: Any) -> None:
    class Least(co.BaseBackend):
        def __init__(self) -> None:
            super().__init__()
            self.entries: dict[str, Any] = {}

        def get(self, key: str) -> Any:
            return self.entries.get(key)

        def set(self, key: str, value: Any, ttl: Any = None) -> bool:
            self.entries[key] = value
            return True

        def delete(self, key: str) -> bool:
            return self.entries.pop(key, None) is not None

    user = a_user(Least())
    found = user.query_many({"id": 1}, {"id": 999}).load_missing(source, negative_ttl=5000).execute()
    assert [row and row.name for row in found] == ["user 1", None]
    assert user.query_many({"id": 1}, {"id": 999}).load_missing(source).execute() == found
    assert source.asked == [[1, 999]]
