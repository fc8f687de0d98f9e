"""Atomic updates, counters in rows, and lifetimes, on every backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lifetimes import left_of

import cacheorm as co
from cacheorm.testing._suite import in_threads

ROOT = Path(__file__).parents[2]


def counters(backend: co.BaseBackend, **options: Any) -> Any:
    class Counter(co.Model):
        id = co.IntegerField(primary_key=True)
        hits = co.IntegerField(default=0)
        total = co.DecimalField(default=Decimal(0))
        label = co.StringField(null=True)

    class Meta:
        pass

    for name, value in options.items():
        setattr(Meta, name, value)
    co.bind([Counter], backend=backend)
    return Counter


def hit(row: Any) -> None:
    row.hits += 1


class Meddling:
    """A backend in front of another, which changes entries between the read and the write of an update."""

    def __init__(self, backend: co.BaseBackend, meddle: Callable[[tuple[str, ...]], None], times: int) -> None:
        self._backend = backend
        self._meddle = meddle
        self._left = times
        self.read: list[tuple[str, ...]] = []

    def get_many_cas(self, *keys: str) -> Any:
        found = self._backend.get_many_cas(*keys)
        self.read.append(keys)
        if self._left:
            self._left -= 1
            self._meddle(keys)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


# -- what is written -------------------------------------------------------------------------------------


def test_a_function_changes_the_rows_that_exist(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many({"id": 1}, {"id": 2, "hits": 5}).execute()
    rows = counter.update_many({"id": 2, "label": "two"}, {"id": 3}, {"id": 1}).apply(hit).atomic().execute()
    assert [row and (row.id, row.hits, row.label) for row in rows] == [(2, 6, "two"), None, (1, 1, None)]
    assert [row and row.hits for row in counter.query_many({"id": 1}, {"id": 2}, {"id": 3}).execute()] == [1, 6, None]
    assert counter.update(id=1).apply(hit).execute().hits == 2
    assert counter.update(id=3).apply(hit).atomic().execute() is None


def test_what_others_change_meanwhile_is_kept(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many([{"id": i} for i in range(4)]).execute()
    labels = iter(["first", "theirs"])
    meddling: Any = Meddling(backend, lambda keys: counter.update(id=2, label=next(labels)).execute(), times=2)
    ours = counters(meddling)
    rows = ours.update_many([{"id": i} for i in range(4)]).apply(hit).atomic(retries=2).execute()
    assert [(row.hits, row.label) for row in rows] == [(1, None), (1, None), (1, "theirs"), (1, None)]
    assert counter.get(id=2).hits == 1
    # The others were not in the way: only the row that had changed was read again.
    assert [len(keys) for keys in meddling.read] == [4, 1, 1]


def test_rows_that_others_keep_changing_are_named(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many([{"id": i} for i in range(4)]).execute()
    labels = iter(range(100))
    meddling: Any = Meddling(backend, lambda keys: counter.update(id=2, label=next(labels)).execute(), times=100)
    ours = counters(meddling)
    with pytest.raises(co.ConflictError, match=r"1 row was not stored: Counter .*others changed it 4 times") as caught:
        ours.update_many([{"id": i, "hits": 9} for i in range(4)]).atomic(retries=3).execute()
    assert [row.key for row in caught.value.failed] == [counter.key(id=2)]
    assert isinstance(caught.value, co.WriteError)
    assert [row.hits for row in counter.query_many([{"id": i} for i in range(4)]).execute()] == [9, 9, 0, 9]
    with pytest.raises(co.ConflictError, match="1 times in a row"):
        ours.update(id=2, hits=1).atomic(retries=0).execute()


def test_a_row_that_is_deleted_meanwhile_stays_deleted(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many({"id": 1}, {"id": 2}).execute()
    meddling: Any = Meddling(backend, lambda keys: counter.delete(id=1).execute(), times=1)
    assert counters(meddling).update_many({"id": 1}, {"id": 2}).apply(hit).atomic().execute()[0] is None
    assert counter.get_or_none(id=1) is None
    assert counter.get(id=2).hits == 1


def test_other_parts_are_written_past_a_conflict(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many([{"id": i} for i in range(9)]).execute()
    meddling: Any = Meddling(backend, lambda keys: counter.update(id=1, label="theirs").execute(), times=1)
    with pytest.raises(co.ConflictError) as caught:
        counters(meddling).update_many([{"id": i, "hits": 1} for i in range(9)]).atomic(0).chunk_size(3).execute()
    assert len(caught.value.failed) == 1
    assert [row.hits for row in counter.query_many([{"id": i} for i in range(9)]).execute()] == [1, 0] + [1] * 7


def test_a_refused_row_does_not_hide_those_that_others_changed(memcached_backend: co.BaseBackend) -> None:
    counter = counters(memcached_backend)
    counter.insert_many([{"id": i} for i in range(4)]).execute()
    labels = iter(range(100))
    changes = [{"id": 0, "hits": 1}, {"id": 1, "hits": 1}, {"id": 2, "label": "x" * (3 << 20)}, {"id": 3, "hits": 1}]

    def meddling(times: int) -> Any:
        return Meddling(memcached_backend, lambda keys: counter.update(id=1, label=next(labels)).execute(), times)

    with pytest.raises(co.WriteError) as caught:
        counters(meddling(100)).update_many(changes).atomic(2).execute()
    assert type(caught.value) is co.WriteError
    assert [row.key for row in caught.value.failed] == [counter.key(id=2), counter.key(id=1)]
    assert (counter.get(id=0).hits, counter.get(id=1).hits, counter.get(id=3).hits) == (1, 0, 1)
    # The server dropped the entry that it had no room to replace.
    counter.insert(id=2).execute()
    with pytest.raises(co.WriteError) as caught:
        counters(meddling(1)).update_many(changes).atomic(2).execute()
    assert [row.key for row in caught.value.failed] == [counter.key(id=2)]
    assert (counter.get(id=1).hits, counter.get(id=1).label) == (1, "3")


def test_the_same_row_twice_is_changed_once_with_both_changes(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.create(id=1)
    rows = counter.update_many({"id": 1, "label": "a"}, {"id": 1, "hits": 3}).atomic().execute()
    assert [(row.hits, row.label) for row in rows] == [(3, "a"), (3, "a")]
    assert counter.get(id=1).label == "a"


def test_bad_changes_are_found_before_anything_is_read(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.create(id=1)
    meddling: Any = Meddling(backend, lambda keys: None, times=0)
    with pytest.raises(co.ValidationError):
        counters(meddling).update_many({"id": 1}, {"id": 2, "hits": "many"}).atomic().execute()
    assert meddling.read == []

    def spoil(row: Any) -> None:
        row.hits = "many"

    def move(row: Any) -> None:
        row.id = 7

    with pytest.raises(co.ValidationError, match="hits"):
        counter.update(id=1).apply(spoil).atomic().execute()
    with pytest.raises(ValueError, match="changed the primary key"):
        counter.update(id=1).apply(move).atomic().execute()
    with pytest.raises(ZeroDivisionError):
        counter.update(id=1).apply(lambda row: row.hits / 0).atomic().execute()
    assert counter.get(id=1).hits == 0
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="retries must be a whole number"):
            counter.update(id=1).atomic(wrong)
    with pytest.raises(TypeError, match="expected a function"):
        counter.update(id=1).apply(5)


def test_atomic_updates_take_and_keep_lifetimes(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many({"id": 1}, {"id": 2}).ttl(20_000).execute()
    counter.update(id=1, hits=1).atomic().ttl(timedelta(hours=1)).execute()
    counter.update(id=2, hits=1).atomic().keep_ttl().execute()
    assert counter.get(id=1).ttl() in left_of(3600, early=1)
    assert counter.get(id=2).ttl() in left_of(20_000, early=1)


@pytest.mark.no_cover
def test_threads_lose_no_change(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many([{"id": i} for i in range(5)]).execute()
    rows = [{"id": i} for i in range(5)]

    def work(_: int) -> None:
        for _ in range(10):
            counter.update_many(rows).apply(hit).atomic(1000).execute()

    in_threads(8, work)
    assert [row.hits for row in counter.query_many(rows).execute()] == [80] * 5


PROGRAM = """
import sys
import cacheorm as co

class Counter(co.Model):
    id = co.IntegerField(primary_key=True)
    hits = co.IntegerField(default=0)
    class Meta:
        backend = sys.argv[1]

for _ in range(100):
    Counter.increment(1, Counter.hits)
"""


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", ["file", "redis", "memcached"])
def test_processes_lose_no_change(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if kind == "file":
        url = f"file://{tmp_path}"
    else:
        url = f"{kind}://127.0.0.1:{request.getfixturevalue(f'{kind}_server').port}"
    with co.backend_from_url(url) as backend:
        counter = counters(backend)
        counter.create(id=1)
        command = [sys.executable, "-c", PROGRAM, url]
        programs = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        for program in programs:
            _, errors = program.communicate()
            assert (program.returncode, errors) == (0, "")
        assert counter.get(id=1).hits == 300


# -- increment -------------------------------------------------------------------------------------------


def test_increment_adds_and_gives_the_new_value(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert(id=1).ttl(5000).execute()
    assert counter.increment(1, counter.hits) == 1
    assert counter.increment(1, "hits", 41) == 42
    assert counter.increment(1, "hits", -43) == -1
    assert counter.increment(1, counter.total, Decimal("0.25")) == Decimal("0.25")
    assert counter.increment(1, counter.total, 2) == Decimal("2.25")
    row = counter.get(id=1)
    assert (row.hits, row.total) == (-1, Decimal("2.25"))
    assert row.ttl() in left_of(5000, early=1)


def test_what_cannot_be_added_changes_nothing(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    with pytest.raises(counter.DoesNotExist):
        counter.increment(1, "hits")
    counter.create(id=1)
    with pytest.raises(ValueError, match="Counter has no field 'hit'"):
        counter.increment(1, "hit")
    other = type("Other", (co.Model,), {"hits": co.IntegerField(), "extra": co.IntegerField()})
    with pytest.raises(
        ValueError,
        match=r"Counter cannot increment <IntegerField: Other\.hits>, a field of another model; pass Counter\.hits, or",
    ):
        counter.increment(1, other.hits)
    with pytest.raises(ValueError, match=r"cannot increment <IntegerField: Other\.extra>, a field of another model$"):
        counter.increment(1, other.extra)
    with pytest.raises(ValueError, match=r"Counter\.id: part of the primary key"):
        counter.increment(1, counter.id)
    with pytest.raises(TypeError, match=r"Counter\.hits: expected a number, got str"):
        counter.increment(1, "hits", "1")
    with pytest.raises(TypeError, match=r"Counter\.hits: expected a number, got bool"):
        counter.increment(1, "hits", True)
    with pytest.raises(ValueError, match=r"Counter\.label: null"):
        counter.increment(1, "label")
    with pytest.raises(TypeError, match=r"Counter\.total: cannot add float to Decimal"):
        counter.increment(1, "total", 0.5)
    with pytest.raises(co.ValidationError, match="hits"):
        counter.increment(1, "hits", 0.5)
    counter.update(id=1, label="x").execute()
    with pytest.raises(TypeError, match=r"Counter\.label: expected a number, got str"):
        counter.increment(1, "label")
    assert counter.get(id=1).to_dict() == {"id": 1, "hits": 0, "total": 0, "label": "x"}


@pytest.mark.no_cover
def test_threads_lose_no_increment(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.create(id=1)
    values = in_threads(8, lambda _: [counter.increment(1, "hits") for _ in range(25)])
    assert sorted(value for part in values for value in part) == list(range(1, 201))


@pytest.mark.no_cover
def test_of_threads_that_create_each_row_one_wins(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    results = in_threads(8, lambda i: [counter.get_or_create(id=key, label=str(i)) for key in range(1000)])
    for outcomes in zip(*results, strict=True):
        assert sum(created for _, created in outcomes) == 1
        assert len({row.label for row, _ in outcomes}) == 1


@pytest.mark.no_cover
def test_of_threads_that_find_no_readable_row_one_wins(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    lenient = type("Counter", (counter,), {"Meta": type("Meta", (), {"on_invalid": "miss", "name": "counter"})})
    co.bind([lenient], backend=backend)
    backend.set_many({lenient.key(id=key): b"\xc0 no row" for key in range(50)})
    results = in_threads(8, lambda i: [lenient.get_or_create(id=key, label=str(i)) for key in range(50)])
    for outcomes in zip(*results, strict=True):
        assert sum(created for _, created in outcomes) == 1
        assert len({row.label for row, _ in outcomes}) == 1


# -- lifetimes -------------------------------------------------------------------------------------------


def test_lifetimes_may_be_timedeltas_and_never_end(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert(id=1).ttl(timedelta(minutes=50)).execute()
    counter.insert_many({"id": 2}, {"id": 3}).ttl(co.NEVER).execute()
    assert counter.get(id=1).ttl() in left_of(3000, early=1)
    assert counter.get(id=2).ttl() == 0
    assert counter.get(id=2).touch(timedelta(hours=1)) is True
    assert counter.get(id=2).ttl() in left_of(3600, early=1)
    backend.set("plain", b"1", timedelta(seconds=9000))
    assert backend.ttl("plain") in left_of(9000, early=1)
    with pytest.raises(ValueError, match="at least 1 second"):
        counter.insert(id=1).ttl(timedelta(milliseconds=5))
    with pytest.raises(ValueError, match="negative"):
        counter.insert(id=1).ttl(timedelta(seconds=-5))


def test_a_models_lifetime_may_be_a_timedelta(backend: co.BaseBackend) -> None:
    kept = backend

    class Session(co.Model):
        class Meta:
            backend = kept
            ttl = timedelta(days=1)

    session = Session.create()
    assert session.ttl() in left_of(86400, early=1)


def test_expire_many_tells_which_rows_exist(backend: co.BaseBackend) -> None:
    counter = counters(backend)
    counter.insert_many([{"id": i} for i in range(3)]).ttl(10_000).execute()
    assert counter.expire_many([2, 7, 0, 2], 5000) == {2: True, 7: False, 0: True}
    assert [counter.get(id=i).ttl() in left_of(5000, early=1) for i in range(3)] == [True, False, True]
    assert counter.expire_many(iter([1]), co.NEVER) == {1: True}
    assert counter.get(id=1).ttl() == 0
    assert counter.expire_many([]) == {}
    with pytest.raises(TypeError, match="expire_many takes an iterable of primary keys"):
        counter.expire_many("12")
    with pytest.raises(ValueError, match="negative"):
        counter.expire_many([1], -1)
    with pytest.raises(co.ValidationError):
        counter.expire_many([1, "one"])


def test_jitter_shortens_lifetimes_on_every_way_to_write(backend: co.BaseBackend) -> None:
    kept = backend

    class Page(co.Model):
        id = co.IntegerField(primary_key=True)
        text = co.StringField(default="")

        class Meta:
            backend = kept
            ttl = 100_000
            ttl_jitter = 0.5

    rows = [{"id": i} for i in range(200)]

    def lifetimes() -> list[int]:
        return [row.ttl() or 0 for row in Page.query_many(rows).execute() if row is not None]

    Page.insert_many(rows).ttl(co.NEVER).execute()
    writes: list[Callable[[], object]] = [
        lambda: Page.insert_many(rows).execute(),
        lambda: Page.update_many(rows).execute(),
        lambda: Page.update_many(rows).atomic().execute(),
        lambda: Page.expire_many(range(200)),
        lambda: [Page.create(**row) for row in rows],
        lambda: [Page.update(**row).execute() for row in rows],
        lambda: [Page.update(**row).atomic().execute() for row in rows],
        lambda: [page.touch() for page in Page.query_many(rows).execute() if page is not None],
        lambda: [Page.delete_many(rows).execute(), Page.insert_many(rows).if_absent().execute()],
        lambda: [Page.delete_many(rows).execute(), [Page.get_or_create(**row) for row in rows]],
    ]
    for write in writes:
        Page.expire_many(range(200), 1_000_000)
        write()
        found = lifetimes()
        assert len(found) == 200
        assert all(49_000 <= left <= 100_000 for left in found)
        assert max(found) - min(found) > 5_000
