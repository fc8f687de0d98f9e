"""Event loops: many tasks in one, several in turn, several at a time, and calls that block in one."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co

Models = Any
Run = Callable[[Any], Any]


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return [{"id": number, "name": f"user {number}"} for number in range(start, start + count)]


def keys(start: int, count: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(start, start + count)]


def names(found: Any) -> list[str | None]:
    return [row and row.name for row in found]


def test_a_thousand_tasks_read_their_own_rows(models: Models, run: Run) -> None:
    models.User.insert_many(rows(0, 1100)).execute()

    async def read(start: int) -> list[str | None]:
        return names(await models.User.query_many(keys(start, 100)).aexecute())

    async def main() -> Any:
        return await asyncio.gather(*map(read, range(1000)))

    assert run(main()) == [[f"user {number}" for number in range(start, start + 100)] for start in range(1000)]


def test_tasks_that_increment_lose_no_count(models: Models, run: Run) -> None:
    models.User.create(id=1)

    async def main() -> Any:
        return await asyncio.gather(*(models.User.aincrement(1, "visits") for _ in range(50)))

    assert sorted(run(main())) == list(range(1, 51))


def test_loops_in_turn_and_calls_in_between(models: Models, run: Run) -> None:
    for turn in range(4):

        async def main(turn: int = turn) -> None:
            await models.User.insert_many(rows(turn, 3)).aexecute()
            assert names(await models.User.query_many(keys(turn, 3)).aexecute()) == names(
                models.User.query_many(keys(turn, 3)).execute()
            )

        assert len(models.User.get_many(range(10))) == (turn + 2 if turn else 0)
        run(main())
    assert len(models.User.get_many(range(10))) == 6


def test_a_loop_that_ends_amid_its_work_leaves_the_next_one_alone(models: Models, run: Run) -> None:
    models.User.insert_many(rows(0, 1000)).execute()

    async def interrupted() -> None:
        work = [asyncio.create_task(models.User.query_many(keys(0, 1000)).aexecute()) for _ in range(10)]
        await asyncio.sleep(0.001)
        assert work

    async def main() -> Any:
        return await models.User.query_many(keys(1, 3)).aexecute()

    for _ in range(3):
        run(interrupted())
        assert names(run(main())) == ["user 1", "user 2", "user 3"]


# Python says that connections were left open, and is right.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_without_ceremony_leaves_the_next_one_alone(models: Models) -> None:
    models.User.insert_many(rows(0, 300)).execute()
    for _ in range(3):
        loop = asyncio.new_event_loop()
        found = loop.run_until_complete(models.User.query_many(keys(0, 300)).aexecute())
        loop.close()
        assert names(found) == [f"user {number}" for number in range(300)]
        del loop
    assert asyncio.run(models.User.aget(id=1)).name == "user 1"
    gc.collect()


def test_a_loop_in_each_of_several_threads(models: Models, run: Run) -> None:
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        async def main() -> None:
            for _ in range(10):
                await models.User.insert_many(rows(100 * number, 50)).aexecute()
                found[number] = await models.User.query_many(keys(100 * number, 50)).aexecute()

        run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: names(of_one) for number, of_one in found.items()} == {
        number: [f"user {at}" for at in range(100 * number, 100 * number + 50)] for number in range(4)
    }


def test_blocking_calls_work_inside_a_loop(models: Models, run: Run) -> None:
    async def main() -> Any:
        models.Article.create(id=1, author=await models.User.acreate(id=1, name="Sam"))
        with pytest.warns(co.LazyLoadWarning, match="blocks the running event loop"):
            return models.Article.get(id=1).author

    assert run(main()).name == "Sam"


@pytest.mark.parametrize("when", ["at once", "at the first await", "later"])
def test_after_a_cancelled_write_rows_are_whole_or_not_there(models: Models, run: Run, when: str) -> None:
    async def main() -> None:
        task = asyncio.create_task(models.User.insert_many(rows(0, 100)).aexecute())
        await asyncio.sleep({"at once": 0, "at the first await": 0, "later": 0.001}[when])
        if when != "at once":
            await asyncio.sleep(0)
        task.cancel()
        try:
            assert names(await task) == [f"user {number}" for number in range(100)]
        except asyncio.CancelledError:
            assert task.cancelled()
        found = await models.User.aget_many(range(100))
        assert {pk: row.name for pk, row in found.items()} == {pk: f"user {pk}" for pk in found}

    run(main())


def test_programs_that_await_nothing_do_not_import_asyncio() -> None:
    program = """
import sys
import cacheorm as co
class User(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(default="")
    class Meta:
        backend = co.SimpleBackend()
User.create(id=1)
assert User.get_or_load(1, str).id == 1
assert "asyncio" not in sys.modules, sorted(sys.modules)
import asyncio
assert asyncio.run(User.aget(id=1)).id == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_operation_awaited_twice_is_done_twice() -> None:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        visits = co.IntegerField(default=0)

        class Meta:
            backend = co.SimpleBackend()

    def visit(row: Any) -> None:
        row.visits += 1

    User.create(id=1)
    update = User.update(id=1).apply(visit).atomic()

    async def main() -> list[int]:
        return [(await update.aexecute()).visits for _ in range(2)]

    assert asyncio.run(main()) == [1, 2]
