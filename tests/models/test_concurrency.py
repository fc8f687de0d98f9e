"""Several threads, many rows, and interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from amounts import enough

import cacheorm as co

THREADS = 8


def together(work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` with 0, 1, ... in threads that start at the same moment, and give the results."""
    start = threading.Barrier(THREADS)
    results: list[Any] = [None] * THREADS
    errors: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def user(backend: co.BaseBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()
        visits = co.IntegerField(default=0)

        class Meta:
            pass

    co.bind([User], backend=backend)
    return User


def test_of_racers_one_creates_and_all_agree(user: Any) -> None:
    keys = range(40)

    def race(number: int) -> list[tuple[str, bool]]:
        found = [user.get_or_create(id=key, name=f"thread {number}") for key in keys]
        return [(row.name, created) for row, created in found]

    outcomes = together(race)
    for key in keys:
        names = {outcome[key][0] for outcome in outcomes}
        assert names == {user.get(id=key).name}
        assert sum(outcome[key][1] for outcome in outcomes) == 1


def test_racers_that_delete_never_see_two_rows_in_one(user: Any) -> None:
    def race(number: int) -> list[Any]:
        seen = []
        for _ in range(50):
            row, created = user.get_or_create(id=1, name=f"thread {number}")
            seen.append((row.name, created))
            if created:
                assert row.name == f"thread {number}"
            user.delete(id=1).execute()
        return seen

    for outcome in together(race):
        assert len(outcome) == 50


def test_of_racers_with_if_absent_one_wins_each_row(user: Any) -> None:
    rows = 200

    def race(number: int) -> list[bool]:
        made = user.insert_many({"id": key, "name": str(number)} for key in range(rows)).if_absent().execute()
        return [row is not None for row in made]

    outcomes = together(race)
    stored = user.query_many({"id": key} for key in range(rows)).execute()
    for key in range(rows):
        winners = [number for number, outcome in enumerate(outcomes) if outcome[key]]
        assert [str(winner) for winner in winners] == [stored[key].name]


def test_threads_write_and_read_beside_each_other(user: Any) -> None:
    def work(number: int) -> bool:
        base = number * 1000
        for _ in range(5):
            written = user.insert_many({"id": base + n, "name": f"{base + n}"} for n in range(300)).execute()
            read = user.query_many(written).execute()
            assert [row.name for row in read] == [str(base + n) for n in range(300)]
            changed = user.update_many({"id": base + n, "visits": n} for n in range(300)).execute()
            assert [row.visits for row in changed] == list(range(300))
        return bool(user.delete_many({"id": base + n} for n in range(300)).execute())

    assert together(work) == [True] * THREADS


def test_deleted_rows_stay_deleted_while_others_update(user: Any) -> None:
    user.insert_many({"id": key, "name": "x"} for key in range(100)).execute()
    deleted = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            user.delete_many({"id": key} for key in range(100)).execute()
            deleted.set()
            return
        while not deleted.is_set():
            user.update_many({"id": key, "visits": number} for key in range(100)).execute()

    together(work)
    assert user.query_many({"id": key} for key in range(100)).execute() == [None] * 100


def test_many_rows_pass_through_every_backend(user: Any, backend: co.BaseBackend) -> None:
    count = enough(20_000, 3_000)
    rows = user.insert_many({"id": number, "name": f"row {number}"} for number in range(count)).execute()
    assert [row.id for row in rows] == list(range(count))
    read = user.query_many({"id": number} for number in range(count + 1)).execute()
    assert [row and row.name for row in read] == [*(f"row {number}" for number in range(count)), None]
    changed = user.update_many({"id": number, "visits": 7} for number in range(count)).execute()
    assert sum(row.visits for row in changed) == 7 * count
    assert user.get(id=count - 1).visits == 7
    assert user.delete_many({"id": number} for number in range(count)).execute() is True
    assert user.delete_many({"id": number} for number in range(count)).execute() is False


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["set_many", "replace_many", "get_chunks", "delete_many"])
def test_an_interruption_leaves_everything_usable(user: Any, backend: co.BaseBackend, method: str, when: str) -> None:
    """As Ctrl-C does, in the second of several chunks."""
    rows = [{"id": number, "name": "old"} for number in range(100)]
    keys = [{"id": number} for number in range(100)]
    user.insert_many(rows).execute()
    inner = getattr(backend, method)
    calls = []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        if len(calls) == 2 and when == "before":
            raise KeyboardInterrupt
        reply = inner(*args, **kwargs)
        if len(calls) == 2:
            if method == "get_chunks":
                next(reply)
            raise KeyboardInterrupt
        return reply

    setattr(backend, method, interrupted)
    operation = {
        "set_many": lambda: user.insert_many({**row, "name": "new"} for row in rows),
        "replace_many": lambda: user.update_many({**row, "name": "new"} for row in rows),
        "get_chunks": lambda: user.query_many(iter(keys)),  # of a list, some backends are asked for all at once
        "delete_many": lambda: user.delete_many(keys),
    }[method]
    with pytest.raises(KeyboardInterrupt):
        operation().chunk_size(10).execute()
    delattr(backend, method)
    assert len(calls) == 2
    done = 20 if when == "after" else 10
    found = [row and row.name for row in user.query_many(keys).execute()]
    changed = {"set_many": "new", "replace_many": "new", "get_chunks": "old", "delete_many": None}[method]
    assert found == [changed] * done + ["old"] * (100 - done)
    user.insert_many(rows).execute()
    assert [row.name for row in user.query_many(keys).execute()] == ["old"] * 100
    assert user.delete_many(keys).execute() is True
