"""Servers and exceptions at any moment: no reply reaches another caller, and no connection or place is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import LONG, enough
from cancelling import settled
from children import fork_and_check
from injecting import Injected, alarms, doing_at, fail, on_alarm, steps
from observing import ain_use, in_use
from servers import HOST, MemcachedServer, RedisServer
from striking import struck_destructors_ignored

from cacheorm.backends import MemcachedBackend, RedisBackend
from cacheorm.errors import BackendError

# Where an exception strikes as a coroutine begins or an object ends, Python itself warns.
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers"),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning", "ignore::ResourceWarning"
    ),
]

long = pytest.mark.skipif(not LONG, reason="thousands of exceptions in an event loop take minutes: make test-long")

ROWS = {f"key:{i}": b"%d" % i for i in range(1500)}
KEYS = list(ROWS)


@pytest.fixture(scope="module")
def memcacheds() -> Iterator[list[MemcachedServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(2)]


@pytest.fixture(params=["redis", "memcached", "two memcacheds"])
def backend(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcacheds: list[MemcachedServer]
) -> Iterator[Any]:
    """A backend with two connections to each server, which have all rows, for as long as a test may take.

    An exception that strikes as the event loop tells of a lost connection leaves the call to its timeout.
    """
    options: Any = {"default_ttl": 0, "max_connections": 2, "operation_timeout": 10, "retry_after": 0}
    made: Any
    if request.param == "redis":
        made = RedisBackend(HOST, redis_server.port, **options)
    else:
        servers: Any = [server.address for server in memcacheds[: 1 if request.param == "memcached" else 2]]
        made = MemcachedBackend(servers, on_failure="raise", **options)
    with reports_dropped(), made as backend:
        backend.clear(everything=True)
        backend.set_many(ROWS)
        yield backend


@contextlib.contextmanager
def reports_dropped() -> Iterator[None]:
    """Drop what Python and asyncio report of exceptions that nobody can catch.

    pytest would keep them until the test ends, and with their frames all that these refer to, connections too.
    """
    logger = logging.getLogger("asyncio")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with struck_destructors_ignored(Injected):
            yield
    finally:
        logger.disabled = was_disabled


# -- calls of several kinds ----------------------------------------------------------------------------------

KINDS = 6


def _call_of(number: int) -> tuple[str, list[Any], Any]:
    """Return a method, its arguments and what it returns, of one of several kinds."""
    key, keys = KEYS[number % len(KEYS)], KEYS[number % 40 :][:30]
    return (
        ("get", [key], ROWS[key]),
        ("get_many", [*keys, "absent"], [*map(ROWS.get, keys), None]),
        ("set_many", [{key: ROWS[key] for key in keys}], dict.fromkeys(keys, True)),
        ("get_chunks", [KEYS], list(ROWS.values())),
        ("add_many", [dict.fromkeys(keys, b"other")], dict.fromkeys(keys, False)),
        ("delete_many", [f"absent:{key}" for key in keys], False),
    )[number % KINDS]


def call(backend: Any, number: int) -> None:
    """Make a call, and check what it returns."""
    method, args, expected = _call_of(number)
    found = getattr(backend, method)(*args)
    assert ([value for chunk in found for value in chunk] if method == "get_chunks" else found) == expected


async def acall(backend: Any, number: int) -> None:
    """Do the same as :func:`call`, awaited."""
    method, args, expected = _call_of(number)
    if method == "get_chunks":
        assert [value async for chunk in backend.aget_chunks(*args) for value in chunk] == expected
    else:
        found = await getattr(backend, f"a{method}")(*args)
        if method == "set_many":  # rows of a connection that was lost are listed with the reason
            expected = {key: key not in found.reasons for key in found}
        assert found == expected


def keys_of_each(backend: Any) -> list[list[str]]:
    """Return for each server more of its keys than one request asks for."""
    names = [state.server for state in backend.pools()]
    owners = backend.servers_of(*KEYS) if len(names) > 1 else names * len(KEYS)
    return [[key for key, owner in zip(KEYS, owners, strict=True) if owner == name] * 3 for name in names]


def check_places(backend: Any) -> None:
    """Check that nothing is in use, and that two can be used of each server at the same time."""
    count = len(backend.pools())
    assert in_use(backend) == [0] * count
    reads = [backend.get_chunks(keys) for keys in keys_of_each(backend) for _ in range(2)]
    for read in reads:
        assert None not in next(read)
    assert in_use(backend) == [2] * count
    for read in reads:
        read.close()
    assert in_use(backend) == [0] * count


async def acheck_places(backend: Any) -> None:
    """Do the same as :func:`check_places`, awaited; close the backend."""
    count = len(backend.pools())

    async def is_free() -> bool:
        gc.collect()
        return await ain_use(backend) == [0] * count

    # What was being connected when an exception struck ends by itself, or with the frames that it left in a cycle.
    assert await settled(is_free)
    reads: list[Any] = [backend.aget_chunks(keys) for keys in keys_of_each(backend) for _ in range(2)]
    for read in reads:
        assert None not in await anext(read)
    assert await ain_use(backend) == [2] * count
    for read in reads:
        await read.aclose()
    assert await ain_use(backend) == [0] * count
    await backend.aclose()


# -- exceptions ----------------------------------------------------------------------------------------------


def test_an_exception_at_any_bytecode_costs_no_place_and_no_row(backend: Any) -> None:
    for kind, step, tell in steps(enough(100_000, 2000, "exceptions at a bytecode"), KINDS):
        with doing_at(step, fail) as was_raised, contextlib.suppress(Injected):
            call(backend, kind)
        tell(was_raised())
        key = KEYS[step % len(KEYS)]
        assert backend.get_many("key:7", "absent", key) == [b"7", None, ROWS[key]]
    check_places(backend)


def test_an_exception_at_any_bytecode_of_a_coroutine_costs_no_place_and_no_row(backend: Any) -> None:
    async def main() -> None:
        # One that strikes while the event loop hands on what has arrived ends the connection: the call says so.
        for kind, step, tell in steps(enough(100_000, 2000, "exceptions at a bytecode"), KINDS):
            with doing_at(step, fail) as was_raised, contextlib.suppress(Injected, BackendError):
                await acall(backend, kind)
            tell(was_raised())
            key = KEYS[step % len(KEYS)]
            assert await backend.aget_many("key:7", "absent", key) == [b"7", None, ROWS[key]]
        await acheck_places(backend)

    asyncio.run(main())


def test_an_exception_of_a_signal_handler_costs_no_place_and_no_row(backend: Any) -> None:
    goal, number = enough(100_000, 1000, "exceptions of a signal handler"), 0
    with alarms() as alarm:
        while alarm.raised < goal:
            number += 1
            with contextlib.suppress(Injected), alarm.one_within(0.002):
                call(backend, number)
            if number % 5 == 0:
                assert backend.get_many("key:7", "absent") == [b"7", None]
    check_places(backend)


@long
def test_an_exception_of_a_signal_handler_in_a_coroutine_costs_no_place_and_no_row(backend: Any) -> None:
    async def main() -> None:
        goal, number = enough(100_000, 1000, "exceptions of a signal handler"), 0
        with alarms() as alarm:
            while alarm.raised < goal:
                number += 1
                with contextlib.suppress(Injected, BackendError), alarm.one_within(0.002):
                    await acall(backend, number)
                if number % 5 == 0:
                    assert await backend.aget_many("key:7", "absent") == [b"7", None]
        await acheck_places(backend)

    asyncio.run(main())


def test_an_exception_while_a_connection_is_opened_keeps_no_later_one_waiting(backend: Any) -> None:
    async def main() -> None:
        step, was_struck = 0, True
        while was_struck:
            step += 1 if LONG else 7
            with (
                doing_at(step, fail, within="backends") as was_raised,
                contextlib.suppress(Injected, BackendError),
            ):
                await backend.aget("key:7")
            was_struck = was_raised()
            # This opens a socket, most likely of the number that the other one had.
            assert await backend.aget("key:7") == b"7"
            await backend.aclose()
        assert step > 500

    asyncio.run(main())


# -- counters ------------------------------------------------------------------------------------------------


class Counters:
    """Counters that are counted once each; some are there before.

    Attributes:
        kinds: how many kinds of counting there are.
    """

    kinds = 3

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._allowed: dict[str, set[bytes | None]] = {}

    @contextlib.contextmanager
    def next(self, kind: int) -> Iterator[tuple[str, int, int]]:
        """Yield a counter's key, what to add and what that gives. Note what the counter may be if an error comes."""
        key = f"count:{len(self._allowed)}"
        start, delta = ((None, 1), (None, -1), (7, -2))[kind % self.kinds]
        if start is not None:
            self._backend.set(key, start)
        result = (start or 0) + delta
        before, after = None if start is None else b"%d" % start, b"%d" % result
        self._allowed[key] = {before, after}
        try:
            yield key, delta, result
        except BackendError as error:
            if not error.maybe_applied:
                self._allowed[key] = {before}
        else:
            self._allowed[key] = {after}

    def check(self) -> None:
        """Check what all counters are now: those of calls that returned were counted once, no other one twice."""
        values = self._backend.get_many(*self._allowed)
        wrong = {
            key: (value, allowed)
            for value, (key, allowed) in zip(values, self._allowed.items(), strict=True)
            if value not in allowed
        }
        assert wrong == {}


def run_out_of_time() -> None:
    """Raise what signal handlers raise for time limits, which sockets raise too."""
    raise TimeoutError("the time is up")


@pytest.mark.parametrize("act", [fail, run_out_of_time])
def test_what_an_exception_at_any_bytecode_interrupts_is_counted_once_at_most(
    act: Callable[[], None], backend: Any
) -> None:
    counters = Counters(backend)
    for kind, step, tell in steps(enough(20_000, 1000, "counts that are interrupted"), counters.kinds):
        with (
            contextlib.suppress(Injected, TimeoutError),
            counters.next(kind) as (key, delta, result),
            doing_at(step, act) as was_raised,
        ):
            assert backend.incr(key, delta) == result
        tell(was_raised())
    counters.check()
    check_places(backend)


def test_what_an_exception_at_any_bytecode_of_a_coroutine_interrupts_is_counted_once_at_most(backend: Any) -> None:
    counters = Counters(backend)

    async def main() -> None:
        for kind, step, tell in steps(enough(20_000, 1000, "counts that are interrupted"), counters.kinds):
            with (
                contextlib.suppress(Injected),
                counters.next(kind) as (key, delta, result),
                doing_at(step, fail) as was_raised,
            ):
                assert await backend.aincr(key, delta) == result
            tell(was_raised())
        await acheck_places(backend)

    asyncio.run(main())
    counters.check()


def test_what_a_signal_handler_interrupts_is_counted_once_at_most(backend: Any) -> None:
    counters = Counters(backend)
    goal, number = enough(20_000, 1000, "counts that are interrupted"), 0
    with alarms() as alarm:
        while alarm.raised < goal:
            number += 1
            with (
                contextlib.suppress(Injected),
                counters.next(number) as (key, delta, result),
                alarm.one_within(0.0005),
            ):
                assert backend.incr(key, delta) == result
    counters.check()
    check_places(backend)


# -- signals without exceptions, and calls within calls ------------------------------------------------------


@pytest.mark.parametrize("way", ["called", "awaited"])
@pytest.mark.parametrize("kind", [RedisServer, MemcachedServer])
def test_signals_that_arrive_all_the_time_keep_no_timeout_from_firing(
    kind: type[RedisServer | MemcachedServer], way: str
) -> None:
    rung: list[int] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(kind())
        options: Any = {"operation_timeout": 1}
        backend: Any = RedisBackend(HOST, server.port, **options) if kind is RedisServer else None
        backend = stack.enter_context(backend or MemcachedBackend([(HOST, server.port)], **options))
        backend.ping()
        server.pause()
        stack.callback(server.resume)
        with on_alarm(lambda number, frame: rung.append(number)):
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            with pytest.raises(BackendError, match=r"no answer in time|timed out"):
                backend.get_many(*KEYS) if way == "called" else asyncio.run(backend.aget_many(*KEYS))
    # Many a time within one timeout: none of them has begun it anew.
    assert len(rung) > 10


def test_signal_handlers_and_finalizers_may_use_a_backend_at_any_bytecode(backend: Any) -> None:
    found: list[Any] = []

    def use() -> None:
        found.append((backend.get("key:7"), backend.get_many(*KEYS[:20], "absent"), backend.set("other", b"v")))

    count = enough(20_000, 1000, "calls within calls")
    for kind, step, tell in steps(count, KINDS):
        with doing_at(step, use) as was_called:
            call(backend, kind)
        tell(was_called())
    assert found == [(b"7", [*map(ROWS.get, KEYS[:20]), None], True)] * count
    check_places(backend)


def test_signal_handlers_and_finalizers_may_use_a_backend_at_any_bytecode_of_a_coroutine(backend: Any) -> None:
    found: list[Any] = []

    async def main() -> None:
        for kind, step, tell in steps(count, KINDS):
            with doing_at(step, lambda: found.append(backend.get_many(*KEYS[:20], "absent"))) as was_called:
                await acall(backend, kind)
            tell(was_called())
        await acheck_places(backend)

    count = enough(20_000, 1000, "calls within calls")
    asyncio.run(main())
    assert found == [[*map(ROWS.get, KEYS[:20]), None]] * count
    check_places(backend)


class Finalized:
    """An object in a cycle, which the collector finds, with what it keeps.

    Args:
        act: called as it is finalized.
        keep: an object that ends with it.
    """

    def __init__(self, act: Callable[[], object], keep: object = None) -> None:
        self._itself = self
        self._act = act
        self._keep = keep

    def __del__(self) -> None:
        self._act()


def test_finalizers_that_the_collector_runs_use_the_backend(backend: Any) -> None:
    found: list[Any] = []
    wanted = enough(1000, 200, "calls of finalizers")
    threshold = gc.get_threshold()
    gc.set_threshold(20)  # the collector runs within the calls
    try:
        number = 0
        while len(found) < wanted:
            number += 1
            Finalized(lambda: found.append(backend.get_many("key:3", "absent")))
            call(backend, number)
    finally:
        gc.set_threshold(*threshold)
        gc.collect()
    assert all(each == [b"3", None] for each in found)
    check_places(backend)


def test_finalizers_use_a_backend_whose_connections_the_collector_finds(backend: Any) -> None:
    found: list[Any] = []
    wanted = enough(1000, 100, "calls of finalizers")
    for number in range(wanted):
        reads = [backend.get_chunks(keys) for keys in keys_of_each(backend)]
        for read in reads:
            next(read)
        Finalized(lambda: found.append(backend.get_many(*KEYS[:20], "absent")), reads)
        del reads, read
        call(backend, number)
        gc.collect()
    assert found == [[*map(ROWS.get, KEYS[:20]), None]] * wanted
    check_places(backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_at_any_bytecode_disturbs_neither_side(backend: Any) -> None:
    waits: list[Callable[[], None]] = []

    def child() -> bool:
        good = all(backend.get_many(key, "absent") == [value, None] for key, value in list(ROWS.items())[:5])
        check_places(backend)
        return good

    for number in range(enough(1000, 40, "forks")):
        if number % 4 == 0:
            backend.close()  # the next call connects
        with doing_at(number * 13 + 1, lambda: waits.append(fork_and_check(child))):
            call(backend, number)
        assert backend.get_many("key:7", "absent") == [b"7", None]
        for wait in waits:
            wait()
        waits.clear()
    check_places(backend)
