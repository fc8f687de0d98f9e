"""``max_loads``: how many loader calls of a model run at a time, in threads and event loops alike."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import fork_and_check
from clusters import wait_until
from servers import HANG

import cacheorm as co
from cacheorm.operations.load_turns import Turn


class Counted:
    """A loader that runs until it is let go on, and counts the calls that run at the same time."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.asked: list[list[int]] = []
        self.go_on = threading.Event()
        self._lock = threading.Lock()

    def begin(self, pks: list[int]) -> None:
        with self._lock:
            self.asked.append(pks)
            self.running += 1
            self.most = max(self.most, self.running)

    def end(self, pks: list[int]) -> Any:
        with self._lock:
            self.running -= 1
        return {pk: {"name": f"user {pk}"} for pk in pks}

    def __call__(self, pks: list[int]) -> Any:
        self.begin(pks)
        assert self.go_on.wait(HANG)
        return self.end(pks)

    async def awaited(self, pks: list[int]) -> Any:
        self.begin(pks)
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)
        return self.end(pks)


@pytest.fixture
def loader() -> Iterator[Counted]:
    counted = Counted()
    yield counted
    assert counted.running == 0


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """Grows by one with each load that begins to wait for a place."""
    waiting: list[Turn] = []
    when_done = Turn.when_done

    def noted(turn: Turn, wake: Any) -> None:
        when_done(turn, wake)
        waiting.append(turn)

    monkeypatch.setattr(Turn, "when_done", noted)
    return waiting


def user_model(backend: Any, **options: Any) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

        Meta = type("Meta", (), {"backend": backend, "max_loads": 2, "lease": 3600, **options})

    return User


def in_threads(calls: list[Callable[[], Any]]) -> Callable[[], list[Any]]:
    """Start each call in a thread; return what waits for them and gives their results or errors."""
    results: list[Any] = [None] * len(calls)

    def one(number: int) -> None:
        try:
            results[number] = calls[number]()
        except BaseException as error:  # noqa: BLE001 - part of the result
            results[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()

    def join() -> list[Any]:
        for thread in threads:
            thread.join()
        return results

    return join


def names(rows: Any) -> list[Any]:
    return [row.name for row in rows]


@pytest.mark.parametrize("lease", [3600, None])
def test_threads_wait_for_a_place(
    backend: co.BaseBackend, loader: Counted, queued: list[Turn], lease: int | None
) -> None:
    user = user_model(backend, loader=loader, lease=lease)
    reads: list[Callable[[Any], Any]] = [
        lambda pk: user.get(id=pk),
        lambda pk: user.query_many([pk]).execute()[0],
        lambda pk: user.get_or_load(pk, lambda one: loader([one])[one]),
    ]
    rows = in_threads([lambda pk=pk: reads[pk % 3](pk) for pk in range(12)])  # type: ignore[misc]
    wait_until("all the others wait", lambda: (loader.running, len(queued)) == (2, 10))
    loader.go_on.set()
    assert sorted(names(rows())) == sorted(f"user {pk}" for pk in range(12))
    assert loader.most == 2
    assert sorted(loader.asked) == [[pk] for pk in range(12)]


@pytest.mark.parametrize("kind", ["loader", "aloader"])
def test_tasks_wait_for_a_place_and_their_loop_goes_on(
    backend: co.BaseBackend, loader: Counted, queued: list[Turn], kind: str
) -> None:
    user = user_model(backend, **{kind: loader if kind == "loader" else loader.awaited})

    async def main() -> Any:
        try:
            tasks = [asyncio.ensure_future(user.aget(id=pk)) for pk in range(12)]
            while (loader.running, len(queued)) != (2, 10):
                await asyncio.sleep(0.001)
            loader.go_on.set()
            return await asyncio.gather(*tasks)
        finally:
            loader.go_on.set()
            await backend.aclose()

    assert names(asyncio.run(main())) == [f"user {pk}" for pk in range(12)]
    assert loader.most == 2


def test_threads_and_several_event_loops_share_the_places(memory: Any, loader: Counted, queued: list[Turn]) -> None:
    user = user_model(memory, loader=loader, aloader=loader.awaited)

    async def gathered(pks: range) -> Any:
        return await asyncio.gather(*(user.aget(id=pk) for pk in pks))

    calls: list[Callable[[], Any]] = [
        lambda: asyncio.run(gathered(range(5))),
        lambda: asyncio.run(gathered(range(5, 9))),
    ]
    calls += [lambda pk=pk: [user.get(id=pk)] for pk in range(9, 15)]  # type: ignore[misc]
    rows = in_threads(calls)
    wait_until("all the others wait", lambda: (loader.running, len(queued)) == (2, 13))
    loader.go_on.set()
    assert sorted(row.id for part in rows() for row in part) == [*range(15)]
    assert loader.most == 2


def test_with_a_dead_cache_the_loader_is_called_in_batches_a_few_at_a_time(loader: Counted, queued: list[Turn]) -> None:
    with co.RedisBackend(host="127.0.0.1", port=1, on_failure="miss") as dead:
        user = user_model(dead, loader=loader)
        rows = in_threads([
            lambda start=start: user.query_many(range(start, start + 10)).execute() for start in range(0, 80, 10)  # type: ignore[misc]
        ])  # fmt: skip
        wait_until("all the others wait", lambda: (loader.running, len(queued)) == (2, 6))
        loader.go_on.set()
        assert [names(part) for part in rows()] == [
            [f"user {pk}" for pk in range(start, start + 10)] for start in range(0, 80, 10)
        ]
    assert loader.most == 2
    assert sorted(loader.asked) == [[*range(start, start + 10)] for start in range(0, 80, 10)]


def test_a_place_is_free_when_the_loader_has_returned_or_failed(memory: Any) -> None:
    def loader(pks: list[int]) -> Any:
        if pks == [1]:
            raise LookupError("no database")
        return {pk: {"name": f"user {pk}"} for pk in pks}

    user = user_model(memory, loader=loader, max_loads=1)
    for _ in range(3):
        with pytest.raises(LookupError):
            user.get(id=1)
        with pytest.raises(LookupError):
            asyncio.run(user.aget(id=1))
        with pytest.raises(TypeError):
            user.query(id=3).load_missing(lambda pks: 5).execute()
    assert user.get(id=2).name == "user 2"


def test_rows_that_others_have_stored_while_it_waited_are_not_loaded(
    memory: Any, loader: Counted, queued: list[Turn]
) -> None:
    for lease in 3600, None:
        queued.clear()
        loader.go_on.clear()
        user = user_model(memory, loader=loader, max_loads=1, lease=lease, name=f"user-{lease}")
        rows = in_threads([lambda user=user: user.get(id=1)])  # type: ignore[misc]
        wait_until("the first is loaded", lambda loader=loader: loader.running == 1)
        others = in_threads([lambda user=user: user.query_many([2, 3]).execute()])  # type: ignore[misc]
        wait_until("the other waits", lambda: len(queued) == 1)
        user.create(id=2, name="stored")
        user.create(id=3, name="stored")
        loader.go_on.set()
        assert (names(rows()), names(others()[0])) == (["user 1"], ["stored", "stored"])
    assert loader.asked == [[1], [1]]


def test_a_cancelled_task_leaves_the_queue(memory: Any, loader: Counted, queued: list[Turn]) -> None:
    user = user_model(memory, aloader=loader.awaited, max_loads=1)

    async def main() -> Any:
        first = asyncio.ensure_future(user.aget(id=1))
        while loader.running < 1:
            await asyncio.sleep(0)
        second, third = asyncio.ensure_future(user.aget(id=2)), asyncio.ensure_future(user.aget(id=3))
        while len(queued) < 2:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        loader.go_on.set()
        return await asyncio.gather(first, third)

    assert names(asyncio.run(main())) == ["user 1", "user 3"]
    assert loader.asked == [[1], [3]]


def test_a_cancelled_caller_frees_the_place_when_its_loader_has_ended_in_the_thread(
    memory: Any, loader: Counted, queued: list[Turn]
) -> None:
    user = user_model(memory, loader=loader, max_loads=1)

    async def main() -> Any:
        first = asyncio.ensure_future(user.aget(id=1))
        while loader.running < 1:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.ensure_future(user.aget(id=2))
        while len(queued) < 1:
            await asyncio.sleep(0.001)
        assert loader.running == 1
        loader.go_on.set()
        return await second

    assert asyncio.run(main()).name == "user 2"
    assert (loader.most, loader.asked) == (1, [[1], [2]])


def test_a_loader_that_loads_other_rows_of_its_model_does_not_wait_for_itself(memory: Any) -> None:
    def loader(pks: list[int]) -> Any:
        return {pk: {"name": f"{pk}" if pk == 0 else f"{pk} under {user.get(id=pk - 1).name}"} for pk in pks}

    user = user_model(memory, loader=loader, max_loads=1)
    assert user.get(id=3).name == "3 under 2 under 1 under 0"
    co.Delete((user, range(4))).execute()

    async def main() -> Any:
        return await user.aget(id=3)

    assert asyncio.run(main()).name == "3 under 2 under 1 under 0"


def test_loaders_of_two_models_that_load_each_other_do_not_wait_for_each_other(memory: Any, queued: list[Turn]) -> None:
    both = threading.Barrier(2)

    def model_called(name: str, other: str) -> Any:
        class Meta:
            backend = memory
            max_loads = 1
            lease = None

            @staticmethod
            def loader(pks: list[int]) -> Any:
                if pks == [1]:
                    both.wait(HANG)
                    return {1: {"name": models[other].get(id=2).name}}
                return {pk: {"name": f"{name} {pk}"} for pk in pks}

        return type(
            name, (co.Model,), {"id": co.IntegerField(primary_key=True), "name": co.StringField(), "Meta": Meta}
        )

    models = {"left": model_called("left", "right"), "right": model_called("right", "left")}
    rows = in_threads([lambda: models["left"].get(id=1), lambda: models["right"].get(id=1)])
    assert names(rows()) == ["right 2", "left 2"]


def test_operations_over_models_in_different_orders_do_not_wait_for_each_other(memory: Any, together: Any) -> None:
    def load(pks: list[int]) -> Any:
        return {pk: {"name": f"{pk}"} for pk in pks}

    left, right = (user_model(memory, loader=load, max_loads=1, lease=None, name=name) for name in ("left", "right"))

    def work(number: int) -> int:
        models = (left, right) if number % 2 else (right, left)
        for pk in range(50):
            co.Query(*((model, [pk, 1000 * number + pk]) for model in models)).execute()
        return number

    assert together(work, 8) == [*range(8)]


def test_a_row_that_a_queued_load_is_to_load_does_not_stop_the_loader_that_asks_for_it(
    memory: Any, queued: list[Turn]
) -> None:
    """The loader has the place that the queued load waits for."""
    entered = threading.Event()

    def loader(pks: list[int]) -> Any:
        if pks == [1]:
            entered.set()
            wait_until("the other is queued", lambda: len(queued) == 1)
            return {1: {"name": user.get(id=2).name}}
        return {pk: {"name": f"user {pk}"} for pk in pks}

    user = user_model(memory, loader=loader, max_loads=1, lease=None)
    first = in_threads([lambda: user.get(id=1)])
    assert entered.wait(HANG)
    second = in_threads([lambda: user.get(id=2)])
    assert names([*first(), *second()]) == ["user 2", "user 2"]


def test_a_blocking_call_in_the_thread_of_the_loop_does_not_wait_for_its_tasks(memory: Any, loader: Counted) -> None:
    user = user_model(memory, loader=loader.end, aloader=loader.awaited, max_loads=1)

    async def main() -> Any:
        task = asyncio.ensure_future(user.aget(id=1))
        while loader.running < 1:
            await asyncio.sleep(0)
        loader.begin([2])
        row = user.get(id=2)
        loader.go_on.set()
        return [await task, row]

    assert names(asyncio.run(main())) == ["user 1", "user 2"]


def test_a_caller_waits_for_a_place_no_longer_than_its_deadline(
    memory: Any, loader: Counted, queued: list[Turn]
) -> None:
    user = user_model(memory, loader=loader, aloader=loader.awaited, max_loads=1)
    first = in_threads([lambda: user.get(id=1)])
    wait_until("it loads", lambda: loader.running == 1)
    with co.deadline(0.01), pytest.raises(co.BackendError, match=r"by the deadline: 1 .*\(max_loads\)"):
        user.get(id=2)

    async def main() -> Any:
        with co.deadline(0.01):
            await user.aget(id=2)

    with pytest.raises(co.BackendError, match="by the deadline"):
        asyncio.run(main())
    # Who shares that load has a deadline of its own, or none.
    loader.go_on.set()
    assert names([user.get(id=2), *first()]) == ["user 2", "user 1"]


def test_the_places_of_a_model_are_the_same_on_every_backend(memory: Any, loader: Counted, queued: list[Turn]) -> None:
    user = user_model(memory, loader=loader, max_loads=1)
    first = in_threads([lambda: user.get(id=1)])
    wait_until("it loads", lambda: loader.running == 1)
    with co.bind([user], backend=co.SimpleBackend()):
        second = in_threads([lambda: user.get(id=2)])
        wait_until("it waits", lambda: len(queued) == 1)
        loader.go_on.set()
        assert names([*first(), *second()]) == ["user 1", "user 2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_all_places(memory: Any, loader: Counted) -> None:
    user = user_model(memory, loader=loader, max_loads=1)
    first = in_threads([lambda: user.get(id=1)])
    wait_until("it loads", lambda: loader.running == 1)

    # Not by the same loader, whose lock the other thread may have at that moment.
    def check() -> bool:
        return names(user.query_many([2]).load_missing(lambda pks: {2: {"name": "loaded"}}).execute()) == ["loaded"]

    fork_and_check(check)()
    loader.go_on.set()
    assert names(first()) == ["user 1"]
