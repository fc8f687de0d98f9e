"""Redis and exceptions at any moment: no reply reaches another caller, and no connection or place is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import LONG, enough
from cancelling import settled
from children import fork_and_check
from injecting import Injected, doing_at, fail, steps
from observing import ain_use, in_use
from servers import HOST, RedisServer
from struck import KEYS, ROWS, Calls, reports_dropped

from cacheorm.backends.redis import RedisBackend

# Kinds of calls that :func:`call` makes.
KINDS = 5

# Where an exception strikes as a coroutine begins or an object ends, Python itself warns.
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers"),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning", "ignore::ResourceWarning"
    ),
]


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """A backend with two connections, on a server that has all rows, for as long as a test may take."""
    options: Any = {"default_ttl": 0, "max_connections": 2, "retry_after": 0}
    with reports_dropped(), RedisBackend(HOST, redis_server.port, **options) as backend:
        backend.set_many(ROWS)
        yield backend


def call(backend: RedisBackend, number: int) -> None:
    """Make one of several kinds of calls, and check what it returns."""
    key, keys = KEYS[number % len(KEYS)], KEYS[number % 40 :][:30]
    match number % KINDS:
        case 0:
            assert backend.get(key) == ROWS[key]
        case 1:
            assert backend.get_many(*keys, "absent") == [*map(ROWS.get, keys), None]
        case 2:
            assert all(backend.set_many({key: ROWS[key] for key in keys}).values())
        case 3:
            assert [value for chunk in backend.get_chunks(KEYS) for value in chunk] == list(ROWS.values())
        case _:
            assert backend.incr(f"count:{number}") >= 1


async def acall(backend: RedisBackend, number: int) -> None:
    """Do the same as :func:`call`, awaited."""
    key, keys = KEYS[number % len(KEYS)], KEYS[number % 40 :][:30]
    match number % KINDS:
        case 0:
            assert await backend.aget(key) == ROWS[key]
        case 1:
            assert await backend.aget_many(*keys, "absent") == [*map(ROWS.get, keys), None]
        case 2:
            assert all((await backend.aset_many({key: ROWS[key] for key in keys})).values())
        case 3:
            assert [value async for chunk in backend.aget_chunks(KEYS) for value in chunk] == list(ROWS.values())
        case _:
            assert await backend.aincr(f"count:{number}") >= 1


def check_places(backend: RedisBackend) -> None:
    """Check that nothing is in use, and that two can be used at the same time."""
    assert in_use(backend) == [0]
    reads = [backend.get_chunks(KEYS) for _ in range(2)]
    assert [next(read)[0] for read in reads] == [b"0", b"0"]
    assert in_use(backend) == [2]
    for read in reads:
        read.close()
    assert in_use(backend) == [0]


async def acheck_places(backend: RedisBackend) -> None:
    """Do the same as :func:`check_places`, awaited."""

    async def is_free() -> bool:
        gc.collect()
        return await ain_use(backend) == [0]

    # What was being connected when an exception struck ends by itself, or with the frames that it left in a cycle.
    assert await settled(is_free)
    reads: list[Any] = [backend.aget_chunks(KEYS) for _ in range(2)]
    assert [(await anext(read))[0] for read in reads] == [b"0", b"0"]
    assert await ain_use(backend) == [2]
    for read in reads:
        await read.aclose()
    assert await ain_use(backend) == [0]


CALLS = Calls(KINDS, call, acall, check_places, acheck_places)


def test_an_exception_at_any_bytecode_costs_no_place_and_no_row(backend: RedisBackend) -> None:
    CALLS.strike_bytecodes(backend)


def test_an_exception_at_any_bytecode_of_a_coroutine_costs_no_place_and_no_row(backend: RedisBackend) -> None:
    CALLS.strike_bytecodes_of_coroutines(backend)


def test_an_exception_of_a_signal_handler_costs_no_place_and_no_row(backend: RedisBackend) -> None:
    CALLS.strike_by_signals(backend)


@pytest.mark.skipif(not LONG, reason="thousands of exceptions in an event loop take minutes: make test-long")
def test_an_exception_of_a_signal_handler_in_a_coroutine_costs_no_place_and_no_row(backend: RedisBackend) -> None:
    CALLS.strike_coroutines_by_signals(backend)


def test_an_exception_while_a_connection_is_opened_keeps_no_later_one_waiting(backend: RedisBackend) -> None:
    async def main() -> None:
        step, was_struck = 0, True
        while was_struck:
            step += 1
            with (
                doing_at(step, fail, within="backends/_redis/endpoint.py") as was_raised,
                contextlib.suppress(Injected),
            ):
                await backend.aget("key:7")
            was_struck = was_raised()
            # This opens a socket, most likely of the number that the other one had.
            assert await backend.aget("key:7") == b"7"
            await backend.aclose()
        assert step > 100

    asyncio.run(main())


# -- the same backend, used while it is at work in the same thread ---------------------------------------


def test_signal_handlers_and_finalizers_may_use_a_backend_at_any_bytecode(backend: RedisBackend) -> None:
    found: list[Any] = []

    def use() -> None:
        found.append((backend.get("key:7"), backend.get_many("key:8", "absent"), backend.set("other", b"v")))

    count = enough(20_000, 1000, "calls within calls")
    for kind, step, tell in steps(count, KINDS):
        with doing_at(step, use) as was_called:
            call(backend, kind)
        tell(was_called())
    assert found == [(b"7", [b"8", None], True)] * count
    check_places(backend)


def test_signal_handlers_may_use_a_backend_at_any_bytecode_of_a_coroutine(backend: RedisBackend) -> None:
    found: list[Any] = []

    async def main() -> None:
        for kind, step, tell in steps(count, KINDS):
            with doing_at(step, lambda: found.append(backend.get_many("key:8", "absent"))) as was_called:
                await acall(backend, kind)
            tell(was_called())
        await acheck_places(backend)
        await backend.aclose()

    count = enough(20_000, 1000, "calls within calls")
    asyncio.run(main())
    assert found == [[b"8", None]] * count
    check_places(backend)


def test_a_finalizer_may_use_a_backend_whose_connections_the_collector_finds(backend: RedisBackend) -> None:
    found: list[Any] = []

    class Row:
        def __del__(self) -> None:
            found.append(backend.get("key:7"))

    for number in range(100):
        row: Any = Row()
        row.itself = row
        del row
        call(backend, number)
    while len(found) < 100:
        call(backend, len(found))
        [[] for _ in range(10_000)]  # something for the collector to count
    assert found == [b"7"] * 100
    check_places(backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_at_any_bytecode_disturbs_neither_side(backend: RedisBackend) -> None:
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
