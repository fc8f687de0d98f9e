"""Signal handlers, finalizers and exceptions that strike at any instruction of a load: nothing stays in flight."""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import enough
from flights import in_flight
from injecting import count_bytecodes, doing_at, on_alarm

import cacheorm as co
from cacheorm.operations import single_flight

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("no_waiting")]


class Struck(BaseException):
    """Raised where nobody expects it, as a soft time limit is."""


def load(pks: list[int]) -> dict[int, dict[str, str]]:
    return {pk: {"name": f"member {pk}"} for pk in pks if pk < 100}


class Member(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta:
        loader = load
        lease = 3600
        max_loads = 1


class Guest(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField()

    class Meta(Member.Meta):
        pass


@pytest.fixture(autouse=True)
def on_memory() -> Iterator[co.SimpleBackend]:
    memory = co.SimpleBackend()
    with co.bind([Member, Guest], backend=memory):
        yield memory


def load_one(pk: int) -> dict[str, str]:
    return {"name": f"member {pk}"}


def fail() -> None:
    with contextlib.suppress(LookupError):  # unless a handler has loaded the row
        Member.get_or_load(1, {}.__getitem__, lease=3600)


CALLS: dict[str, Callable[[], Any]] = {
    "many": lambda: Member.query_many({"id": pk} for pk in (1, 2, 500)).load_missing(load, lease=3600).execute(),
    "many without leases": lambda: Member.query_many({"id": 1}, {"id": 2}).load_missing(load, lease=None).execute(),
    "one": lambda: Member.get_or_load(1, load_one, lease=3600),
    "nested": lambda: Member.get_or_load(1, lambda pk: load_one(Member.get_or_load(2, load_one, lease=3600).id - 1)),
    "failing": fail,
    "by the model": lambda: Member.get(id=1),
    "of two models": lambda: co.Query((Member, [1, 500]), (Guest, [2])).execute(),
}


def strike() -> None:
    raise Struck


def instructions(call: Callable[[], Any]) -> int:
    """Count the instructions of a call on an empty cache."""
    for _ in range(2):  # first without what is imported late
        count = count_bytecodes(call)
        clear()
    return count


def clear() -> None:
    co.Delete((Member, [1, 2, 500]), (Guest, [2])).execute()


def check() -> None:
    """Check that nothing is in flight, and that the next loads, and those after a deletion, do not wait."""
    assert in_flight() == 0
    assert [model._meta.load_limit.running() for model in (Member, Guest)] == [[], []]
    assert [row.name for row in CALLS["many"]()[:2]] == ["member 1", "member 2"]
    clear()
    assert Member.get_or_load(1, load_one, lease=3600).name == "member 1"
    clear()
    assert single_flight._running == {}


@pytest.fixture
def in_finalizers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The exceptions that struck in finalizers, where Python can only report them."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: found.append(unraisable.exc_type))
    return found


@pytest.mark.parametrize("name", CALLS)
def test_an_exception_at_any_instruction_leaves_nothing_in_flight(name: str, in_finalizers: list[Any]) -> None:
    call = CALLS[name]
    count = instructions(call)
    tries = enough(100_000 // len(CALLS), 400, of="exceptions inside a load")
    step = max(1, count // tries)
    raised = 0
    for number in range(tries):
        # In turn, so that each instruction is struck before one is struck again.
        at = 1 + (number * step + number * step // count) % count
        try:
            with doing_at(at, strike):
                call()
        except Struck as error:
            raised += 1
            kept = error  # and the frames with all their locals, as a debugger or an error report does
        check()
    del kept
    assert set(in_finalizers) <= {Struck}
    assert raised + len(in_finalizers) >= tries * 0.9


@pytest.mark.parametrize("name", CALLS)
def test_a_load_may_begin_at_any_instruction_of_another(name: str) -> None:
    """As in a signal handler or a finalizer."""
    call = CALLS[name]
    count = instructions(call)
    inner: list[Any] = []

    def handle() -> None:
        inner.append(Member.get_or_load(1, load_one, lease=3600).name)
        inner.append(Member.query_many({"id": 1}, {"id": 2}).load_missing(load).execute()[1].name)

    tries = min(count, enough(count, 150, of="loads inside a load"))
    for number in range(tries):
        with doing_at(1 + number * count // tries, handle):
            call()
        clear()
        assert in_flight() == 0
    assert inner == ["member 1", "member 2"] * tries
    check()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no timers")
def test_signals_at_any_moment_leave_nothing_in_flight(in_finalizers: list[Any]) -> None:
    fired: list[int] = []

    def handle(number: int, frame: Any) -> None:
        fired.append(number)
        raise Struck

    chance = random.Random(1)
    with on_alarm(handle):
        for count in range(1, enough(20_000, 300, of="signals inside a load") + 1):
            with contextlib.suppress(Struck):
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 4e-4))
                while len(fired) < count:  # a finalizer may keep the exception
                    chance.choice([*CALLS.values()])()
                    clear()
            clear()
            check()


def test_a_signal_handler_may_load_what_its_thread_is_loading() -> None:
    handled: list[Any] = []

    def handle(number: int, frame: Any) -> None:
        handled.append(Member.get_or_load(1, lambda pk: {"name": "by the handler"}, lease=3600).name)

    def loader(pk: int) -> dict[str, str]:
        signal.raise_signal(signal.SIGINT)
        return load_one(pk)

    before = signal.signal(signal.SIGINT, handle)
    try:
        found = Member.get_or_load(1, loader, lease=3600)
    finally:
        signal.signal(signal.SIGINT, before)
    assert handled == ["by the handler"]
    # What was stored meanwhile stays, as with any other caller.
    assert found.name == Member.get(id=1).name == "by the handler"


def test_a_finalizer_may_load_what_its_thread_is_loading() -> None:
    class Reading:
        def __del__(self) -> None:
            found.append(Member.get_or_load(1, load_one, lease=3600).name)

    def loader(pk: int) -> dict[str, str]:
        garbage: list[Any] = [Reading()]
        garbage.append(garbage)
        del garbage
        gc.collect()
        return load_one(pk)

    found: list[str] = []
    assert Member.get_or_load(1, loader, lease=3600).name == "member 1"
    assert found == ["member 1"]
