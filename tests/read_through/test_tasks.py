"""Reading through in event loops: tasks and threads that miss the same rows at the same time, cancelled ones too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cacheorm as co
from cacheorm.operations import single_flight


def load(user: Any, numbers: Any, loader: Any, **options: Any) -> Any:
    return user.query_many({"id": number} for number in numbers).load_missing(loader, **{"lease": 3600, **options})


class Slow:
    """Loads from a source, and lets all others go on meanwhile."""

    def __init__(self, source: Any, seconds: float = 0.05) -> None:
        self.source = source
        self.seconds = seconds
        self.entered = threading.Event()

    async def __call__(self, pks: list[Any]) -> Any:
        self.entered.set()
        await asyncio.sleep(self.seconds)
        return self.source(pks)

    async def one(self, pk: Any) -> Any:
        return (await self([pk])).get(pk)


def names(rows: list[Any]) -> list[str]:
    return [row.name for row in rows]


@pytest.mark.parametrize("lease", [3600, None])
def test_a_hundred_tasks_load_their_rows_once(user: Any, source: Any, lease: int | None) -> None:
    slow = Slow(source)

    async def main() -> list[list[Any]]:
        wanted = [range(start % 10, start % 10 + 10) for start in range(100)]
        return await asyncio.gather(*(load(user, part, slow, lease=lease).aexecute() for part in wanted))

    found = asyncio.run(main())
    assert [names(rows) for rows in found] == [[f"user {n}" for n in range(at % 10, at % 10 + 10)] for at in range(100)]
    assert sorted(source.asked_for) == list(range(19))
    assert len({id(row) for rows in found for row in rows}) == 1000
    assert None not in user.query_many({"id": number} for number in range(19)).execute()


def test_a_loader_may_be_a_function_a_coroutine_function_or_an_asynchronous_generator(user: Any, source: Any) -> None:
    async def bit_by_bit(pks: list[Any]) -> AsyncIterator[Any]:
        for pk in pks:
            await asyncio.sleep(0)
            yield {"id": pk, **source.rows[pk]}

    async def main() -> list[Any]:
        loaders = (source, Slow(source, 0), bit_by_bit)
        return [await load(user, [at], loader).aexecute() for at, loader in enumerate(loaders)]

    assert [names(rows) for rows in asyncio.run(main())] == [["user 0"], ["user 1"], ["user 2"]]


@pytest.mark.filterwarnings("error")
def test_a_loader_that_has_to_be_awaited_is_refused_by_execute(user: Any, source: Any) -> None:
    with pytest.raises(TypeError, match=r"can only be awaited"):
        load(user, [1], Slow(source)).execute()
    with pytest.raises(TypeError, match=r"can only be awaited"):
        user.get_or_load(1, Slow(source).one)
    assert names(load(user, [1], source).execute()) == ["user 1"]  # nothing has stayed that others wait for


def test_tasks_and_threads_wait_for_each_other(user: Any, source: Any) -> None:
    slow = Slow(source, 0.1)

    async def main() -> tuple[Any, Any]:
        task = asyncio.create_task(load(user, [1, 2], slow).aexecute())
        await asyncio.to_thread(slow.entered.wait)
        of_thread = asyncio.to_thread(load(user, [2, 1], source).execute)
        return await asyncio.gather(task, of_thread)

    first, second = asyncio.run(main())
    assert names(first) == names(second)[::-1] == ["user 1", "user 2"]
    assert source.asked == [[1, 2]]


def test_a_task_waits_for_a_thread_and_the_loop_goes_on(user: Any, source: Any) -> None:
    entered, opened = threading.Event(), threading.Event()

    def of_thread(pks: list[Any]) -> Any:
        entered.set()
        assert opened.wait(60)
        return source(pks)

    async def main() -> list[Any]:
        thread = asyncio.create_task(asyncio.to_thread(load(user, [1], of_thread).execute))
        await asyncio.to_thread(entered.wait)
        task = asyncio.create_task(load(user, [1], source).aexecute())
        await asyncio.sleep(0.02)
        assert not task.done()
        opened.set()
        return [*await task, *await thread]

    assert names(asyncio.run(main())) == ["user 1", "user 1"]
    assert source.asked == [[1]]


def test_a_blocking_call_in_the_thread_of_the_loop_loads_by_itself(user: Any, source: Any) -> None:
    """The task that is loading cannot go on while this one blocks its loop."""
    slow = Slow(source, 0)

    async def main() -> Any:
        task = asyncio.create_task(load(user, [1], slow, lease=3600).aexecute())
        while not slow.entered.is_set():
            await asyncio.sleep(0)
        # It does not wait for the lease either, which lasts far longer than a test may.
        return load(user, [1, 2], source, lease=3600).execute(), await task

    mine, other = asyncio.run(main())
    assert names(mine) == ["user 1", "user 2"]
    assert names(other) == ["user 1"]
    assert sorted(source.asked_for) == [1, 1, 2]


def test_what_a_loader_raises_reaches_all_tasks(user: Any) -> None:
    async def broken(pks: list[Any]) -> Any:
        await asyncio.sleep(0.02)
        raise LookupError("no database")

    async def main() -> list[Any]:
        work = (load(user, [1], broken).aexecute() for _ in range(5))
        return await asyncio.gather(*work, return_exceptions=True)

    assert [str(error) for error in asyncio.run(main())] == ["no database"] * 5
    assert user.get_or_none(id=1) is None


def test_a_loader_that_asks_for_its_own_row_is_told(user: Any) -> None:
    async def circular(pks: list[Any]) -> Any:
        (row,) = await asyncio.gather(load(user, pks, circular).aexecute())  # a task of its own
        return row

    with pytest.raises(RuntimeError, match="asks for that row again"):
        asyncio.run(load(user, [1], circular).aexecute())


def test_loaders_that_ask_for_each_others_rows_do_not_wait_for_ever(user: Any, source: Any) -> None:
    async def main() -> list[Any]:
        both = asyncio.Barrier(2)

        def crossed(other: int) -> Any:
            async def loader(pks: list[Any]) -> Any:
                await both.wait()
                await load(user, [other], source).aexecute()
                return source(pks)

            return loader

        return await asyncio.wait_for(
            asyncio.gather(load(user, [1], crossed(2)).aexecute(), load(user, [2], crossed(1)).aexecute()), 60
        )

    assert [names(rows) for rows in asyncio.run(main())] == [["user 1"], ["user 2"]]


def test_a_cancelled_load_gives_its_leases_back_and_another_task_loads(user: Any, source: Any) -> None:
    slow = Slow(source, 60)

    async def main() -> list[Any]:
        first = asyncio.create_task(load(user, [1, 2], slow, lease=3600).aexecute())
        while not slow.entered.is_set():
            await asyncio.sleep(0.001)
        second = asyncio.create_task(load(user, [2, 1], source, lease=3600).aexecute())
        await asyncio.sleep(0.05)
        assert not second.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert names(asyncio.run(main())) == ["user 2", "user 1"]
    # A server may be asked between two keys that are given back.
    assert sorted(pk for pks in source.asked for pk in pks) == [1, 2]


def test_cancelling_who_only_waits_stops_nobody_else(user: Any, source: Any) -> None:
    async def main() -> list[Any]:
        entered, opened = asyncio.Event(), asyncio.Event()

        async def loader(pks: list[Any]) -> Any:
            entered.set()
            await opened.wait()
            return source(pks)

        first = asyncio.create_task(load(user, [1], loader).aexecute())
        await entered.wait()
        second = asyncio.create_task(load(user, [1], loader).aexecute())
        await asyncio.sleep(0.02)
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        opened.set()
        return await first

    assert names(asyncio.run(main())) == ["user 1"]
    assert source.asked == [[1]]


def test_a_task_whose_load_was_cancelled_may_load_again(user: Any, source: Any) -> None:
    slow = Slow(source, 60)

    async def main() -> list[Any]:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await load(user, [1], slow).aexecute()
        assert single_flight._inside.get() == ()
        return await load(user, [1], source).aexecute()

    assert names(asyncio.run(main())) == ["user 1"]


def test_signals_of_one_row_are_awaited_in_their_order(user: Any) -> None:
    heard: list[Any] = []

    async def awaited(sender: Any, instance: Any, **details: Any) -> None:
        heard.append(("awaited", instance.id))
        await asyncio.sleep(0)
        heard.append(("went on", instance.id))

    def called(sender: Any, instance: Any, **details: Any) -> None:
        heard.append(("called", instance.id))

    with co.signals.pre_save.connected_to(awaited, user), co.signals.pre_save.connected_to(called, user):
        asyncio.run(user.insert_many({"id": 1, "name": "Sam"}, {"id": 2, "name": "Bob"}).aexecute())
        with pytest.raises(TypeError, match=r"awaited is a coroutine function.*aexecute\(\)"):
            user.create(id=3, name="Ann")
    for number in (1, 2):
        mine = [what for what, pk in heard if pk == number]
        assert sorted(mine) == ["awaited", "called", "went on"]
        assert mine.index("went on") == mine.index("awaited") + 1
    assert [pk for _, pk in heard] == sorted(pk for _, pk in heard)
    assert user.get_or_none(id=3) is None


def test_no_task_waits_for_a_load_longer_than_its_lease(user: Any, source: Any) -> None:
    async def main() -> list[Any]:
        entered, opened = asyncio.Event(), asyncio.Event()

        async def slow(pks: list[Any]) -> Any:
            entered.set()
            await opened.wait()
            return source(pks)

        first = asyncio.create_task(load(user, [1], slow, lease=1).aexecute())
        await entered.wait()
        found = await asyncio.gather(*(load(user, [1], source, lease=3600).aexecute() for _ in range(5)))
        assert source.asked == [[1]]
        opened.set()
        return [*found, await first]

    assert [names(rows) for rows in asyncio.run(main())] == [["user 1"]] * 6


def test_tasks_that_wait_get_errors_of_their_own(user: Any) -> None:
    mistake = LookupError("the database is down")

    async def broken(pks: list[Any]) -> Any:
        await asyncio.sleep(0.05)
        raise mistake

    async def main() -> list[Any]:
        return await asyncio.gather(*(load(user, [1], broken).aexecute() for _ in range(30)), return_exceptions=True)

    errors = asyncio.run(main())
    assert len({id(error) for error in errors}) == 30
    assert {(type(error), str(error)) for error in errors} == {(LookupError, "the database is down")}
    assert [error.__cause__ for error in errors if error is not mistake] == [mistake] * 29
