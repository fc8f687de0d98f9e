"""An operation that failed is executed again and does the rest, over an iterator too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import cacheorm as co
from cacheorm.types import Outcome


class Failing(co.SimpleBackend):
    """Fails when it is asked to, by the number of a call of ``name``."""

    chunk_size = 10

    def __init__(self) -> None:
        super().__init__()
        self.fail: set[tuple[str, int]] = set()
        self.refuse: set[str] = set()
        self.calls: dict[str, int] = {}

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if (name, self.calls[name]) in self.fail:
            raise co.BackendError("down")

    def get_chunks(self, keys: Any) -> Any:
        self._count("get_chunks")
        return super().get_chunks(keys)

    def set_many(self, mapping: Any, ttl: Any = None) -> Any:
        self._count("set_many")
        return super().set_many(mapping, ttl)

    def add_many(self, mapping: Any, ttl: Any = None) -> Any:
        self._count("add_many")
        return super().add_many(mapping, ttl)

    def delete_many(self, *keys: str) -> bool:
        self._count("delete_many")
        return super().delete_many(*keys)

    def compare_and_set_many(self, mapping: Any, ttl: Any = None) -> Any:
        self._count("compare_and_set_many")
        return super().compare_and_set_many(mapping, ttl)

    def replace_many(self, mapping: Any, ttl: Any = None) -> Any:
        self._count("replace_many")
        taken = {key: value for key, value in mapping.items() if key not in self.refuse}
        outcome = Outcome(dict.fromkeys(mapping, False) | super().replace_many(taken, ttl))
        outcome.reasons.update(dict.fromkeys(self.refuse & set(mapping), "full"))
        return outcome


class Count(co.Model):
    id = co.IntegerField(primary_key=True)
    n = co.IntegerField(default=0)


class Made(co.Model):
    n = co.IntegerField(default=0)


@pytest.fixture
def store() -> Iterator[Failing]:
    made = Failing()
    with co.bind([Count, Made], backend=made):
        yield made


@pytest.fixture(params=[iter, list, lambda rows: (row for row in rows), lambda rows: map(dict, rows)])
def given(request: pytest.FixtureRequest) -> Callable[[Iterable[Any]], Any]:
    """What rows are given as."""
    as_given: Callable[[Iterable[Any]], Any] = request.param
    return as_given


ROWS = [{"id": number} for number in range(35)]


def execute(operation: Any, awaited: bool) -> Any:
    if not awaited:
        return operation.execute()
    return asyncio.run(operation.aexecute())


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(
    ("name", "method", "result"),
    [
        ("insert_many", "set_many", None),
        ("query_many", "get_chunks", None),
        ("update_many", "replace_many", None),
        ("delete_many", "delete_many", True),
    ],
)
def test_it_does_the_rest(store: Failing, given: Any, name: str, method: str, result: Any, awaited: bool) -> None:
    Count.insert_many(ROWS).execute()
    store.calls.clear()
    if name == "delete_many":
        store.fail = {(method, 1)}
    else:
        store.fail = {(method, 2)}
    operation = getattr(Count, name)(given(ROWS))
    with pytest.raises(co.BackendError):
        execute(operation, awaited)
    found = execute(operation, awaited)
    if result is None:
        assert [row.id for row in found] == list(range(35))
    else:
        assert found is result
    assert len(Count.get_many(range(35))) == (0 if name == "delete_many" else 35)


@pytest.mark.parametrize(
    ("kind", "method"),
    [(co.Insert, "set_many"), (co.Query, "get_chunks"), (co.Update, "replace_many"), (co.Delete, "delete_many")],
)
def test_it_does_the_rest_over_several_models(store: Failing, kind: Any, method: str) -> None:
    Count.insert_many(ROWS).execute()
    store.calls.clear()
    store.fail = {(method, 1)}
    operation = kind((Count, [row]) for row in ROWS)
    with pytest.raises((co.BackendError, co.WriteError)):
        operation.execute()
    found = operation.execute()
    assert found is True or [row.id for row in found] == list(range(35))
    with pytest.raises(RuntimeError, match="used up"):
        operation.execute()


def test_one_that_has_ended_over_an_iterator_says_so(store: Failing) -> None:
    for operation in (
        Count.insert_many(iter(ROWS)),
        Count.query_many(iter(ROWS)),
        Count.update_many(iter(ROWS)),
        Count.query_many(iter(ROWS)).load_missing(lambda keys: {}),
        Count.delete_many(iter(ROWS)),
    ):
        operation.execute()
        with pytest.raises(
            RuntimeError, match="the iterator of rows is used up, since the operation has been executed"
        ):
            operation.execute()
    # A list can be read again, and so can anything else that is no iterator.
    for rows in (ROWS, tuple(ROWS), {1: {"id": 1}}.values()):
        operation = Count.insert_many(rows)
        assert len(operation.execute()) == len(operation.execute()) == len(rows)


def test_an_iterator_that_raised_an_error_is_not_taken_for_one_that_ended(store: Failing) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"id": 1}
        raise LookupError("the database is gone")

    operation = Count.insert_many(rows())
    with pytest.raises(LookupError):
        operation.execute()
    with pytest.raises(RuntimeError, match="the iterator of rows has raised an error"):
        operation.execute()
    assert not Count.exists(id=1)


def test_a_row_that_was_mended_is_taken(store: Failing) -> None:
    rows: list[Any] = [Count(id=1, n="one"), Count(id=2)]
    operation = Count.insert_many(iter(rows))
    with pytest.raises(co.ValidationError):
        operation.execute()
    rows[0].n = 1
    assert [row.n for row in operation.execute()] == [1, 0]


def test_rows_are_drawn_as_they_are_read(store: Failing) -> None:
    drawn: list[int] = []

    def rows() -> Iterator[dict[str, int]]:
        for number in range(5000):
            drawn.append(number)
            yield {"id": number}

    store.fail = {("get_chunks", 1)}
    with pytest.raises(co.BackendError):
        Count.query_many(rows()).execute()
    assert len(drawn) < 5000


def test_keys_that_were_made_stay_those_of_the_rows(store: Failing, given: Any) -> None:
    for kind in (Made.insert_many, lambda rows: co.Insert((Made, row) for row in rows)):
        store.clear()
        store.calls.clear()
        store.fail = {("set_many", 2)}
        operation: Any = kind(given([{"n": number} for number in range(35)]))
        with pytest.raises((co.BackendError, co.WriteError)):
            operation.execute()
        found = operation.execute()
        assert [row.n for row in found] == list(range(35))
        assert store.stats()["entries"] == 35
        assert len(Made.get_many([row.id for row in found])) == 35


@pytest.mark.parametrize("atomic", [False, True])
def test_no_row_is_changed_twice(store: Failing, given: Any, atomic: bool) -> None:
    def visit(row: Count) -> None:
        row.n += 1

    Count.insert_many(ROWS).execute()
    store.calls.clear()
    method = "compare_and_set_many" if atomic else "replace_many"
    store.fail = {(method, 3)}
    store.refuse = {Count.key(id=3), Count.key(id=33)}
    operation = Count.update_many(given(ROWS)).apply(visit)
    if atomic:
        operation.atomic()
    with pytest.raises(co.BackendError):
        operation.execute()
    if not atomic:
        with pytest.raises(co.WriteError) as caught:
            operation.execute()
        assert [row.key for row in caught.value.failed] == [Count.key(id=3), Count.key(id=33)]
        store.refuse = set()
    assert [(row.id, row.n) for row in operation.execute()] == [(number, 1) for number in range(35)]
    assert {row.n for row in Count.get_many(range(35)).values()} == {1}


def test_an_update_over_a_list_begins_anew_after_it_has_ended(store: Failing) -> None:
    def visit(row: Count) -> None:
        row.n += 1

    Count.insert_many(ROWS).execute()
    operation = Count.update_many(ROWS).apply(visit)
    operation.execute()
    assert [row.n for row in operation.execute()] == [2] * 35


@pytest.mark.parametrize("kind", [co.Insert, co.Query, co.Update, co.Delete])
def test_iterators_in_pairs_are_kept_too(store: Failing, kind: Any) -> None:
    Count.insert_many(ROWS).execute()
    methods = {co.Insert: "set_many", co.Query: "get_chunks", co.Update: "replace_many", co.Delete: "delete_many"}
    for items in ([(Count, (row for row in ROWS))], iter([(Count, iter(ROWS))])):
        store.calls.clear()
        store.fail = {(methods[kind], 1)}
        operation = kind(items)
        with pytest.raises((co.BackendError, co.WriteError)):
            operation.execute()
        found = operation.execute()
        assert found is True or [row.id for row in found] == list(range(35))
        with pytest.raises(RuntimeError, match="used up"):
            operation.execute()
        Count.insert_many(ROWS).execute()


@pytest.mark.parametrize("atomic", [False, True])
def test_no_row_of_several_models_is_changed_twice(store: Failing, atomic: bool) -> None:
    def visit(row: Any) -> None:
        row.n += 1

    made = Made.insert_many({"n": 0} for _ in range(15)).execute()
    Count.insert_many(ROWS).execute()
    other = Failing()
    store.calls.clear()
    method = "compare_and_set_many" if atomic else "replace_many"
    with co.bind([Made], backend=other):
        Made.insert_many(made).execute()
        store.fail = {(method, 2)}
        operation = co.Update((Count, ROWS), (Made, [{"id": row.id} for row in made])).apply(visit)
        if atomic:
            operation.atomic()
        with pytest.raises(co.WriteError):
            operation.execute()
        assert [row.n for row in operation.execute()] == [1] * 50
        assert {row.n for row in Count.get_many(range(35)).values()} == {1}
        assert {row.n for row in Made.get_many([row.id for row in made]).values()} == {1}


def test_what_is_done_is_not_done_again_after_an_error_of_the_program(store: Failing) -> None:
    seen: list[int] = []

    def visit(row: Count) -> None:
        row.n += 1

    def once(sender: Any, instance: Any, created: bool) -> None:
        seen.append(instance.id)
        if len(seen) == 15:
            raise LookupError("a receiver")

    Count.insert_many(ROWS).execute()
    operation = Count.update_many(ROWS).apply(visit)
    with co.signals.post_save.connected_to(once, sender=Count):
        with pytest.raises(LookupError):
            operation.execute()
        assert [row.n for row in operation.execute()] == [1] * 35
    assert {row.n for row in Count.get_many(range(35)).values()} == {1}


def test_a_row_that_was_swapped_before_others_conflicted_is_not_changed_again(store: Failing) -> None:
    def visit(row: Count) -> None:
        row.n += 1
        if row.id == 1 and "intruded" not in store.calls:
            store.calls["intruded"] = 1
            Count.update(id=1, n=5).execute()

    Count.insert_many(ROWS[:2]).execute()
    store.calls.clear()
    store.fail = {("compare_and_set_many", 2)}
    operation = Count.update_many(ROWS[:2]).apply(visit).atomic()
    with pytest.raises(co.BackendError):
        operation.execute()
    assert [row.n for row in operation.execute()] == [1, 6]


def test_the_result_is_that_of_all_executions_together(store: Failing) -> None:
    store.fail = {("add_many", 2), ("delete_many", 3)}
    insert = Count.insert_many(ROWS).if_absent()
    with pytest.raises(co.BackendError):
        insert.execute()
    assert [row and row.id for row in insert.execute()] == list(range(35))
    assert insert.execute() == [None] * 35
    delete = Count.delete_many(ROWS)
    with pytest.raises(co.BackendError):
        delete.execute()
    assert delete.execute() is True
    assert delete.execute() is False
