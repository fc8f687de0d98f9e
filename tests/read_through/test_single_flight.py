"""Callers of one process who miss the same rows at the same time: one loads, all get rows, nobody waits for ever."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cacheorm as co
from cacheorm.operations import single_flight
from cacheorm.payload import is_lease
from cacheorm.requests import CallFunction
from cacheorm.sync_driver import perform

sys.path.insert(0, str(Path(__file__).parents[1]))

from children import fork_and_check
from clusters import wait_until
from flights import in_flight

Together = Callable[..., list[Any]]


class Gate:
    """A loader that waits until it is opened, and tells when it has been entered."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, pks: Any) -> Any:
        self.entered.set()
        assert self.open.wait(60)
        return self._loader(pks)


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start ``work`` in a thread; gives what waits for its result and raises its error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> Any:
        thread.join()
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return result


@pytest.mark.parametrize("lease", [3600, None])
def test_threads_that_miss_the_same_rows_load_each_once(
    user: Any, source: Any, together: Together, lease: int | None
) -> None:
    def load(pks: list[int]) -> Any:
        time.sleep(0.02)
        return source(pks)

    def work(number: int) -> list[Any]:
        order = list(range(100))
        random.Random(number).shuffle(order)
        found = []
        for start in range(0, 100, 20):
            pks = [{"id": pk} for pk in order[start : start + 50]]
            found += user.query_many(pks).load_missing(load, lease=lease).execute()
            found.append(user.get_or_load(order[start], lambda pk: load([pk])[pk], lease=lease))
        assert all(row.name == f"user {row.id}" for row in found)
        return found

    everything = together(work)
    assert all(isinstance(found, list) for found in everything), everything
    assert set(Counter(source.asked_for).values()) == {1}
    assert sorted(source.asked_for) == list(range(100))
    # As two reads would give: nobody's changes show in another's rows.
    assert len({id(row) for found in everything for row in found if row.id == 5}) >= 8


def test_those_who_wait_get_rows_of_their_own(memory: Any, source: Any) -> None:
    user = a_user(memory)
    gate = Gate(source)
    first = in_thread(lambda: user.query_many({"id": 1}, {"id": 999}).load_missing(gate, lease=3600).execute())
    assert gate.entered.wait(60)
    query = user.query_many({"id": 999}, {"id": 1}, {"id": 2})
    second = in_thread(lambda: query.load_missing(source, lease=3600).execute())
    third = in_thread(lambda: user.get_or_load(1, source.one, lease=3600))
    while [2] not in source.asked:
        time.sleep(0.001)
    gate.open.set()
    (mine, nobody), (none, theirs, other), single = first(), second(), third()
    assert nobody is None
    assert none is None
    assert mine == theirs == single
    assert len({id(row) for row in (mine, theirs, single)}) == 3
    assert other.name == "user 2"
    assert sorted(source.asked) == [[1, 999], [2]]


def a_user(backend: co.BaseBackend) -> Any:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField()

    co.bind([User], backend=backend)
    return User


def test_batches_in_different_order_never_wait_for_each_other(user: Any, source: Any, together: Together) -> None:
    def work(number: int) -> int:
        numbers = range(100) if number % 2 else range(99, -1, -1)
        count = 0
        for _ in range(10):
            found = user.query_many({"id": pk} for pk in numbers).chunk_size(7).load_missing(source).execute()
            count += sum(row is not None for row in found)
            user.delete_many({"id": pk} for pk in numbers if pk % 8 == number).execute()
        return count

    assert together(work) == [1000] * 8


@pytest.mark.parametrize("lease", [3600, None])
def test_an_error_reaches_all_who_wait_and_the_next_tries_again(
    memory: Any, source: Any, waiters: list[Any], lease: int | None
) -> None:
    user = a_user(memory)
    mistake = LookupError("the database is down")

    def broken(pks: list[int]) -> Any:
        raise mistake

    gate = Gate(broken)
    first = in_thread(lambda: user.query_many({"id": 1}, {"id": 2}).load_missing(gate, lease=lease).execute())
    assert gate.entered.wait(60)
    waiting = [in_thread(lambda: user.get_or_load(2, source.one, lease=lease)) for _ in range(3)]
    wait_until("all wait", lambda: len(waiters) == 3)
    gate.open.set()
    with pytest.raises(LookupError) as caught:
        first()
    assert caught.value is mistake
    for result in waiting:
        with pytest.raises(LookupError, match="the database is down") as caught:
            result()
        assert caught.value.__cause__ is mistake
    assert source.asked == []
    assert user.get_or_load(2, source.one, lease=lease).name == "user 2"


@pytest.mark.parametrize("lease", [3600, None])
def test_an_interruption_is_its_own_callers_alone(
    memory: Any, source: Any, waiters: list[Any], lease: int | None
) -> None:
    """As Ctrl-C does; those who wait load themselves, once."""
    user = a_user(memory)

    def interrupted(pks: list[int]) -> Any:
        raise KeyboardInterrupt

    gate = Gate(interrupted)
    first = in_thread(lambda: user.query_many({"id": 1}, {"id": 2}).load_missing(gate, lease=lease).execute())
    assert gate.entered.wait(60)
    waiting = [in_thread(lambda: user.query_many({"id": 2}).load_missing(source, lease=lease).execute()) for _ in "123"]
    wait_until("all wait", lambda: len(waiters) == 3)
    gate.open.set()
    with pytest.raises(KeyboardInterrupt):
        first()
    assert [result()[0].name for result in waiting] == ["user 2"] * 3
    assert source.asked == [[2]]


class Stopping:
    """Has one method of a backend raise an error at its first call, after it has done its work."""

    def __init__(self, backend: Any, method: str, error: BaseException) -> None:
        inner = getattr(backend, method)

        def stopped(*args: Any, **kwargs: Any) -> Any:
            reply = inner(*args, **kwargs)
            setattr(backend, method, inner)
            raise error
            return reply

        setattr(backend, method, stopped)


@pytest.mark.parametrize("method", ["get_chunks", "add_many", "get_many_cas", "compare_and_set_many"])
def test_wherever_a_load_is_interrupted_everything_stays_usable(
    user: Any, source: Any, backend: co.BaseBackend, method: str
) -> None:
    pks = [{"id": 1}, {"id": 2}]
    Stopping(backend, method, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        user.query_many(pks).load_missing(source, lease=3600).execute()
    # Leases that were not given back would be waited for, at least by other processes.
    assert not any(map(is_lease, filter(None, backend.get_many(user.key(id=1), user.key(id=2)))))
    found = user.query_many(pks).load_missing(source, lease=3600).execute()
    assert [row.name for row in found] == ["user 1", "user 2"]


def test_an_operation_that_is_abandoned_blocks_no_other(memory: Any, source: Any) -> None:
    user = a_user(memory)
    steps = user.query_many({"id": 1}).load_missing(source, lease=1).steps()
    request = next(steps)
    while not isinstance(request, CallFunction):
        request = steps.send(perform(request))
    assert in_flight() == 1
    del steps
    gc.collect()
    assert in_flight() == 0
    assert user.get_or_load(1, source.one).name == "user 1"


# -- loaders that read through themselves ----------------------------------------------------------------


def test_a_loader_may_load_other_rows(user: Any, source: Any) -> None:
    def with_friend(pk: int) -> dict[str, str]:
        if pk == 0:
            return {"name": "nobody"}
        friend = user.get_or_load(pk - 1, with_friend)
        return {"name": f"{pk}, friend of {friend.name}"}

    assert user.get_or_load(3, with_friend).name == "3, friend of 2, friend of 1, friend of nobody"
    many = user.query_many({"id": pk} for pk in (5, 4)).load_missing(
        lambda pks: {pk: {"name": user.get_or_load(0, with_friend).name} for pk in pks}
    )
    assert [row.name for row in many.execute()] == ["nobody", "nobody"]


def test_a_loader_that_asks_for_what_it_is_loading_is_told(user: Any, source: Any) -> None:
    def circle(pk: int) -> Any:
        return user.get_or_load((pk + 1) % 3, circle)

    with pytest.raises(RuntimeError, match="the loader of m:user:id:1 asks for that row again"):
        user.get_or_load(1, circle)
    assert user.get_or_load(1, source.one).name == "user 1"


def test_a_loader_that_asks_another_loader_for_its_row_does_not_wait_for_itself(user: Any, source: Any) -> None:
    found = user.query_many({"id": 1}, {"id": 2}).load_missing(
        lambda pks: [user.get_or_load(2, source.one, lease=3600)]
    )
    assert [row and row.name for row in found.execute()] == [None, "user 2"]
    assert source.asked == [[2]]


@pytest.mark.parametrize("lease", [60, None])
def test_loaders_that_ask_for_each_others_rows_do_not_wait_for_ever(
    memory: Any, source: Any, together: Together, lease: int | None
) -> None:
    user = a_user(memory)
    both = threading.Barrier(2)
    calls: Counter[int] = Counter()

    def loader(pk: int) -> Any:
        calls[pk] += 1
        if calls[pk] == 1:
            both.wait()
            other = user.get_or_load(1 - pk, loader, lease=lease)
            return {"name": f"{pk} after {other.name}"}
        return {"name": f"{pk}"}

    names = [row.name for row in together(lambda number: user.get_or_load(number, loader, lease=lease), 2)]
    # The last is what comes of it if each sees at the same moment that it would wait for the other.
    assert sorted(names) in (
        ["0 after 1", "1 after 0 after 1"],
        ["0 after 1 after 0", "1 after 0"],
        ["0", "1 after 0"],
        ["0 after 1", "1"],
        ["0 after 1", "1 after 0"],
    )
    assert sum(calls.values()) in (3, 4)


# -- rows that change while they are loaded ---------------------------------------------------------------


@pytest.mark.parametrize("lease", [3600, None])
def test_a_row_written_meanwhile_stays_and_is_what_everybody_gets(user: Any, source: Any, lease: int | None) -> None:
    def loader(pks: list[int]) -> Any:
        user.create(id=1, name="newer")
        return source(pks)

    found = user.query_many({"id": 1}, {"id": 2}).load_missing(loader, lease=lease).execute()
    assert [row.name for row in found] == ["newer", "user 2"]
    assert user.get(id=1).name == "newer"


@pytest.mark.parametrize("how", ["if_absent", "get_or_create"])
def test_a_row_added_meanwhile_stays(user: Any, source: Any, how: str) -> None:
    def loader(pk: int) -> Any:
        if how == "if_absent":
            assert user.insert(id=pk, name="newer").if_absent().execute() is not None
        else:
            assert user.get_or_create(id=pk, name="newer")[1]
        return source.one(pk)

    assert user.get_or_load(1, loader).name == "newer"
    assert user.get(id=1).name == "newer"


def test_a_row_deleted_meanwhile_is_given_but_not_stored(user: Any, source: Any) -> None:
    def loader(pks: list[int]) -> Any:
        rows = source(pks)
        user.delete(id=1).execute()  # what was just read has changed in the database
        return rows

    found = user.query_many({"id": 1}, {"id": 2}).load_missing(loader).execute()
    assert [row.name for row in found] == ["user 1", "user 2"]
    assert user.get_or_none(id=1) is None
    assert user.get(id=2).name == "user 2"
    source.rows[1] = {"name": "changed"}
    assert user.get_or_load(1, source.one).name == "changed"


def test_a_miss_is_not_remembered_where_the_row_was_deleted_meanwhile(user: Any, backend: co.BaseBackend) -> None:
    def loader(pk: int) -> None:
        user.delete(id=1).execute()

    assert user.get_or_load(1, loader, negative_ttl=60) is None
    assert backend.get(user.key(id=1)) is None


def test_who_reads_after_a_deletion_does_not_get_what_was_loaded_before(memory: Any, source: Any) -> None:
    user = a_user(memory)
    stale = source(range(5))
    gate = Gate(lambda pks: {pk: stale[pk] for pk in pks})
    first = in_thread(lambda: user.query_many({"id": 1}, {"id": 2}).load_missing(gate, lease=3600).execute())
    assert gate.entered.wait(60)
    source.rows[1] = {"name": "changed"}
    user.delete(id=1).execute()
    assert user.get_or_load(1, source.one).name == "changed"
    gate.open.set()
    assert [row.name for row in first()] == ["changed", "user 2"]
    assert user.get(id=1).name == "changed"


def test_a_load_that_outlasts_its_lease_is_stored_all_the_same(user: Any, source: Any, backend: co.BaseBackend) -> None:
    def loader(pk: int) -> Any:
        while backend.get(user.key(id=1)) is not None:
            time.sleep(0.05)
        return source.one(pk)

    assert user.get_or_load(1, loader, lease=1).name == "user 1"
    assert user.get(id=1).name == "user 1"


def test_a_load_whose_lease_has_expired_is_shared_like_one_without_leases(
    memory: Any, source: Any, waiters: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = a_user(memory)
    gate = Gate(source)
    first = in_thread(lambda: user.query_many({"id": 1}).load_missing(gate, lease=3600).execute())
    assert gate.entered.wait(60)
    memory.delete(user.key(id=1))
    monkeypatch.setattr(single_flight.SharedLoad, "lease_holds", False)
    second = in_thread(lambda: user.get_or_load(1, source.one, lease=3600))
    wait_until("it waits", lambda: len(waiters) == 1)
    gate.open.set()
    assert first()[0] == second()
    assert source.asked == [[1]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_forked_child_does_not_wait_for_its_parents_threads(memory: Any, source: Any) -> None:
    user = a_user(memory)
    gate = Gate(source)
    first = in_thread(lambda: user.query_many({"id": 1}).load_missing(gate, lease=None).execute())
    assert gate.entered.wait(60)
    finish = fork_and_check(lambda: user.get_or_load(1, source.one, lease=None).name == "user 1")
    finish()
    gate.open.set()
    assert first()[0].name == "user 1"


# -- errors of loaders, for each who waits -----------------------------------------------------------------


class Plain(Exception):
    pass


class WithArguments(Exception):
    """Takes other arguments than it passes on."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Stubborn(Exception):
    """Cannot be copied in any way."""

    def __new__(cls, *args: Any) -> Any:
        if args == ("no more",):
            raise TypeError("it is made once")
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        super().__init__("no more")


def depth(error: BaseException) -> int:
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


@pytest.mark.parametrize(
    "mistake",
    [
        Plain("down"),
        WithArguments(7, "down"),
        OSError(2, "No such file", "name"),
        co.BackendError("down", maybe_applied=True),
        co.ValidationError("Other", [("name", "is too long")]),
        KeyError("down"),
        ExceptionGroup("both", [ValueError("one"), KeyError("two")]),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
    ids=lambda mistake: type(mistake).__name__,
)
def test_each_who_waits_gets_an_error_of_its_own(
    memory: Any, source: Any, together: Together, waiters: list[Any], mistake: Exception
) -> None:
    user = a_user(memory)
    mistake.add_note("while loading")

    def broken(pk: int) -> Any:
        wait_until("all others wait", lambda: len(waiters) == 29)
        raise mistake

    errors = together(lambda number: user.get_or_load(1, broken, lease=3600), 30)
    copies = [error for error in errors if error is not mistake]
    assert len(copies) == len({id(error) for error in copies}) == 29
    for error in copies:
        assert type(error) is type(mistake)
        assert (str(error), error.args) == (str(mistake), mistake.args)
        assert error.__cause__ is mistake
        assert {**vars(error), "__notes__": []} == {**vars(mistake), "__notes__": []}
    copies[0].add_note("of one request")
    assert [error.__notes__ for error in errors if error is not copies[0]] == [["while loading"]] * 29
    # None has the frames of another.
    assert len({depth(error) for error in copies}) == 1
    assert depth(mistake) < 2 * depth(copies[0]) + 10


def test_an_error_that_cannot_be_copied_is_raised_as_it_was_in_the_load(
    memory: Any, together: Together, waiters: list[Any]
) -> None:
    user = a_user(memory)
    mistake = Stubborn()

    def broken(pk: int) -> Any:
        wait_until("all others wait", lambda: len(waiters) == 9)
        raise mistake

    errors = together(lambda number: user.get_or_load(1, broken, lease=3600), 10)
    assert all(error is mistake for error in errors)
    assert depth(mistake) < 40


# -- loads that take long --------------------------------------------------------------------------------


def test_nobody_waits_for_a_load_longer_than_its_lease(
    memory: Any, source: Any, together: Together, waiters: list[Any]
) -> None:
    user = a_user(memory)
    gate = Gate(source)
    first = in_thread(lambda: user.query_many({"id": 1}).load_missing(gate, lease=1).execute())
    assert gate.entered.wait(60)
    # One loads in its place, and the others wait for that one.
    found = together(lambda number: user.get_or_load(1, source.one, lease=3600), 5)
    assert [row.name for row in found] == ["user 1"] * 5
    assert source.asked == [[1]]
    assert len(waiters) >= 5
    gate.open.set()
    assert first()[0].name == "user 1"


def test_nobody_waits_longer_than_a_lease_of_its_own(memory: Any, source: Any) -> None:
    user = a_user(memory)
    gate = Gate(source)
    first = in_thread(lambda: user.query_many({"id": 1}).load_missing(gate, lease=3600).execute())
    assert gate.entered.wait(60)
    assert user.get_or_load(1, source.one, lease=1).name == "user 1"
    gate.open.set()
    assert first()[0].name == "user 1"


def test_a_load_whose_caller_is_gone_is_not_waited_for(memory: Any, source: Any, waiters: list[Any]) -> None:
    """Even if nothing could tell those who wait."""
    user = a_user(memory)
    steps = user.query_many({"id": 1}).load_missing(source, lease=3600).steps()
    request = next(steps)
    while not isinstance(request, CallFunction):
        request = steps.send(perform(request))
    (running,) = single_flight._running.values()
    second = in_thread(lambda: user.get_or_load(1, source.one, lease=3600))
    wait_until("it waits", lambda: len(waiters) == 1)
    running.finish = lambda *args, **kwargs: None  # type: ignore[method-assign] - as if an exception had struck at once
    del steps, request, running
    assert second().name == "user 1"
