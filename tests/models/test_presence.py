"""What counts as a row: a remembered miss, a lease, and what cannot be read are absent for every operation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from lifetimes import left_of

import cacheorm as co
from cacheorm.payload import ABSENT, LEASE


def counter_model(backend: co.BaseBackend, serializer: str = "msgpack", on_invalid: str = "miss") -> Any:
    class Counter(co.Model):
        id = co.IntegerField(primary_key=True)
        hits = co.IntegerField(default=0)

    options = {"backend": backend, "serializer": serializer, "on_invalid": on_invalid, "ttl": 5000}
    namespace = {"Meta": type("Meta", (), options), "__qualname__": "counter_model.<locals>.Counter"}
    return type(co.Model)("Counter", (Counter,), {**namespace})


def unreadable(counter: Any) -> None:
    counter._meta.backend.set(counter.key(id=1), b'{"hits": "many"}', 5000)


def another_version(counter: Any) -> None:
    options = {"version": 7, "backend": counter._meta.backend, "name": "counter"}
    later = type(co.Model)(
        "Counter", (counter,), {"Meta": type("Meta", (), options), "__qualname__": "another.<locals>.Counter"}
    )
    later.create(id=1, hits=70)


def planted_miss(counter: Any) -> None:
    counter.get_or_load(2, lambda pk: None)
    counter._meta.backend.set(counter.key(id=1), ABSENT, 300)


def remembered_miss(counter: Any) -> None:
    assert counter.get_or_load(1, lambda pk: None, negative_ttl=300) is None


def lease(counter: Any) -> None:
    counter.get_or_load(2, lambda pk: None)
    counter._meta.backend.set(counter.key(id=1), LEASE + b"of another process", 300)


class Case(NamedTuple):
    serializer: str
    on_invalid: str
    prepare: Callable[[Any], None]


CASES = [
    *[Case(serializer, "miss", unreadable) for serializer in ("msgpack", "json")],
    *[Case(serializer, "miss", another_version) for serializer in ("msgpack", "json")],
    *[Case("msgpack", on_invalid, planted_miss) for on_invalid in ("miss", "raise")],
    *[Case("json", on_invalid, remembered_miss) for on_invalid in ("miss", "raise")],
    *[Case("msgpack", on_invalid, lease) for on_invalid in ("miss", "raise")],
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.prepare.__name__}-{case.serializer}-{case.on_invalid}")
def absent(request: pytest.FixtureRequest, backend: co.BaseBackend) -> Any:
    """A model with something stored under the key of row 1 that is no row."""
    case: Case = request.param
    counter = counter_model(backend, case.serializer, case.on_invalid)
    case.prepare(counter)
    assert backend.get(counter.key(id=1)) is not None
    return counter


def call(function: Callable[[], Any]) -> Any:
    return function()


def wait(function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await function()

    return asyncio.run(main())


WAYS = {"": call, "a": wait}


@pytest.fixture(params=WAYS)
def do(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method, or await its twin."""
    prefix: str = request.param

    def run(owner: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return WAYS[prefix](lambda: getattr(owner, f"{prefix}{method}")(*args, **kwargs))

    return run


def test_it_does_not_exist(absent: Any, do: Any) -> None:
    assert do(absent, "exists", id=1) is False
    assert do(absent(id=1), "ttl") is None
    assert do(absent, "get_or_none", id=1) is None
    assert do(absent.query_many({"id": 1}), "execute") == [None]
    assert do(absent, "get_many", [1]) == {}
    with pytest.raises(absent.DoesNotExist):
        do(absent, "get", id=1)
    with pytest.raises(absent.DoesNotExist):
        do(absent(id=1), "refresh")


def test_its_lifetime_stays_as_it_is(absent: Any, do: Any) -> None:
    backend, key = absent._meta.backend, absent.key(id=1)
    before, lifetime = backend.get(key), backend.ttl(key)
    absent.create(id=3)
    assert do(absent(id=1), "touch", 90_000) is False
    assert do(absent, "expire_many", [1, 3, 4], 90_000) == {1: False, 3: True, 4: False}
    assert (backend.get(key), backend.ttl(key) <= lifetime) == (before, True)
    assert do(absent(id=3), "ttl") in left_of(90_000)


def test_it_is_not_changed(absent: Any, do: Any) -> None:
    before = absent._meta.backend.get(absent.key(id=1))
    assert do(absent.update(id=1, hits=1), "execute") is None
    assert do(absent.update_many({"id": 1, "hits": 1}), "execute") == [None]
    assert do(absent.update(id=1, hits=1).atomic(), "execute") is None
    with pytest.raises(absent.DoesNotExist):
        do(absent, "increment", 1, "hits")
    with pytest.raises(absent.DoesNotExist):
        do(absent, "set_by_id", 1, {"hits": 1})
    assert do(absent(id=1, hits=5), "save") is False
    assert absent._meta.backend.get(absent.key(id=1)) == before


def test_rows_are_inserted_in_its_place(absent: Any, do: Any) -> None:
    made = do(absent.insert(id=1, hits=1).if_absent(), "execute")
    assert made is not None
    assert absent.get(id=1).hits == 1
    assert do(absent.insert(id=1, hits=2).if_absent(), "execute") is None
    assert absent.get(id=1).ttl() in left_of(5000)


def test_many_rows_are_inserted_in_its_place(absent: Any, do: Any) -> None:
    absent.create(id=3, hits=3)
    rows = [{"id": number, "hits": 10} for number in (1, 3, 4)]
    assert [row and row.id for row in do(absent.insert_many(rows).if_absent(), "execute")] == [1, None, 4]
    assert [row.hits for row in absent.query_many([{"id": 1}, {"id": 3}, {"id": 4}]).execute()] == [10, 3, 10]
    assert do(co.Insert([(absent, rows)]).if_absent(), "execute") == [None] * 3


def test_it_is_created(absent: Any, do: Any) -> None:
    row, created = do(absent, "get_or_create", id=1, hits=4)
    assert (row.hits, created) == (4, True)
    row, created = do(absent, "get_or_create", id=1, hits=5)
    assert (row.hits, created) == (4, False)


def test_it_is_removed_but_was_no_row(absent: Any, do: Any) -> None:
    assert do(absent.delete(id=1), "execute") is False
    assert absent._meta.backend.get(absent.key(id=1)) is None


def test_several_are_removed_but_were_not_all_rows(absent: Any, do: Any) -> None:
    absent.create(id=3)
    absent.create(id=4)
    assert do(absent.delete_many({"id": 3}, {"id": 1}, {"id": 4}).chunk_size(1), "execute") is False
    assert absent._meta.backend.get_many(*[absent.key(id=number) for number in (1, 3, 4)]) == [None] * 3
    absent.create(id=3)
    assert do(absent.delete_many({"id": 3}, {"id": 3}), "execute") is True


@pytest.mark.parametrize("method", ["delete_instance", "delete_by_id", "over models"])
def test_it_is_removed_by_the_other_deletes(absent: Any, do: Any, method: str) -> None:
    if method == "delete_instance":
        assert do(absent(id=1), method) is False
    elif method == "delete_by_id":
        with pytest.raises(absent.DoesNotExist):
            do(absent, method, 1)
    else:
        assert do(co.Delete([absent(id=1)]), "execute") is False
    assert absent._meta.backend.get(absent.key(id=1)) is None


def test_what_cannot_be_read_is_a_row_unless_it_counts_as_a_miss(backend: co.BaseBackend, do: Any) -> None:
    counter = counter_model(backend, on_invalid="raise")
    unreadable(counter)
    assert do(counter, "exists", id=1) is True
    assert do(counter(id=1), "ttl") in left_of(5000)
    assert do(counter.insert(id=1).if_absent(), "execute") is None
    assert do(counter(id=1), "touch") is True
    assert do(counter, "expire_many", [1]) == {1: True}
    with pytest.raises(co.PayloadError):
        do(counter, "get_or_create", id=1)
    assert do(counter.delete(id=1), "execute") is True


def test_a_row_is_removed_though_it_cannot_be_read_before(memory: co.SimpleBackend, do: Any) -> None:
    counter = counter_model(memory)
    counter.create(id=1)
    counter.create(id=2)

    def fail(*keys: str) -> Any:
        raise co.BackendError("no right to read")

    memory.get = memory.get_chunks = memory.aget = memory.aget_chunks = fail  # type: ignore[method-assign, assignment]
    assert do(counter.delete(id=1), "execute") is True
    assert do(counter.delete_many({"id": 2}), "execute") is True
    assert do(counter.delete_many({"id": 2}), "execute") is False
