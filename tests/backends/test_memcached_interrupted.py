"""memcached and exceptions at any moment: no reply reaches another caller, and no connection or place is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import LONG, enough
from cancelling import settled
from faults import Proxy
from injecting import doing_at, on_alarm, steps
from observing import ain_use, in_use
from servers import HOST, MemcachedServer
from struck import KEYS, ROWS, Calls, reports_dropped

from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError

# Where an exception strikes as a coroutine begins or an object ends, Python itself warns.
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers"),
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning", "ignore::ResourceWarning"
    ),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[list[MemcachedServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(2)]


@pytest.fixture(params=[1, 2], ids=["one-server", "two-servers"])
def backend(request: pytest.FixtureRequest, shared: list[MemcachedServer]) -> Iterator[MemcachedBackend]:
    """A backend with two connections to each server, which have all rows, for as long as a test may take.

    An exception that strikes as the event loop tells of a lost connection leaves the call to its timeout.
    """
    servers: Any = [server.address for server in shared[: request.param]]
    options: Any = {"default_ttl": 0, "max_connections": 2, "timeout": 10, "retry_after": 0, "on_failure": "raise"}
    with reports_dropped(), MemcachedBackend(servers, **options) as backend:
        backend.clear()
        backend.set_many(ROWS)
        yield backend


def _calls(number: int) -> tuple[str, list[Any], Any]:
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


KINDS = 6


def call(backend: MemcachedBackend, number: int) -> None:
    """Make a call, and check what it returns."""
    method, args, expected = _calls(number)
    found = getattr(backend, method)(*args)
    assert ([value for chunk in found for value in chunk] if method == "get_chunks" else found) == expected


async def acall(backend: MemcachedBackend, number: int) -> None:
    """Do the same as :func:`call`, awaited."""
    method, args, expected = _calls(number)
    if method == "get_chunks":
        assert [value async for chunk in backend.aget_chunks(*args) for value in chunk] == expected
    else:
        found = await getattr(backend, f"a{method}")(*args)
        if method == "set_many":  # rows of a connection that was lost are listed with the reason
            expected = {key: key not in found.reasons for key in found}
        assert found == expected


def keys_of_each(backend: MemcachedBackend) -> list[list[str]]:
    """Return for each server more of its keys than one request asks for."""
    owners = backend.servers_of(*KEYS)
    names = [state.server for state in backend.pools()]
    return [[key for key, owner in zip(KEYS, owners, strict=True) if owner == name] * 3 for name in names]


def check_places(backend: MemcachedBackend) -> None:
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


async def acheck_places(backend: MemcachedBackend) -> None:
    """Do the same as :func:`check_places`, awaited."""
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


CALLS = Calls(KINDS, call, acall, check_places, acheck_places)


def test_an_exception_at_any_bytecode_costs_no_place_and_no_row(backend: MemcachedBackend) -> None:
    CALLS.strike_bytecodes(backend)


def test_an_exception_at_any_bytecode_of_a_coroutine_costs_no_place_and_no_row(backend: MemcachedBackend) -> None:
    CALLS.strike_bytecodes_of_coroutines(backend)


def test_an_exception_of_a_signal_handler_costs_no_place_and_no_row(backend: MemcachedBackend) -> None:
    CALLS.strike_by_signals(backend)


@pytest.mark.skipif(not LONG, reason="thousands of exceptions in an event loop take minutes: make test-long")
def test_an_exception_of_a_signal_handler_in_a_coroutine_costs_no_place_and_no_row(backend: MemcachedBackend) -> None:
    CALLS.strike_coroutines_by_signals(backend)


# -- signals without exceptions, and calls within calls ------------------------------------------------------


@contextlib.contextmanager
def ringing(handle: Callable[[], object], seconds: float) -> Iterator[None]:
    """Have a signal arrive all the time, and call something each time."""
    with on_alarm(lambda number, frame: handle()):
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
        yield


@pytest.mark.parametrize("way", ["called", "awaited"])
def test_signals_that_arrive_all_the_time_do_not_keep_a_timeout_from_firing(
    way: str, memcached_server: MemcachedServer
) -> None:
    rung: list[int] = []
    with Proxy(memcached_server.port) as proxy, MemcachedBackend([(HOST, proxy.port)], timeout=1) as backend:
        proxy.cut_after, proxy.hang = 0, True
        with ringing(lambda: rung.append(1), 0.01), pytest.raises(BackendError, match="no answer in time"):
            backend.get_many(*KEYS) if way == "called" else asyncio.run(backend.aget_many(*KEYS))
        # Many a time within one timeout: none of them has begun it anew.
        assert len(rung) > 10


def test_signal_handlers_and_finalizers_may_use_a_backend_at_any_bytecode(backend: MemcachedBackend) -> None:
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


def test_signal_handlers_and_finalizers_may_use_a_backend_at_any_bytecode_of_a_coroutine(
    backend: MemcachedBackend,
) -> None:
    found: list[Any] = []

    async def main() -> None:
        for kind, step, tell in steps(count, KINDS):
            with doing_at(step, lambda: found.append(backend.get_many(*KEYS[:20], "absent"))) as was_called:
                await acall(backend, kind)
            tell(was_called())
        await acheck_places(backend)
        await backend.aclose()

    count = enough(20_000, 1000, "calls within calls")
    asyncio.run(main())
    assert found == [[*map(ROWS.get, KEYS[:20]), None]] * count


class Finalized:
    """An object in a cycle, which the collector finds."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._itself = self
        self._act = act

    def __del__(self) -> None:
        self._act()


def test_finalizers_that_the_collector_runs_use_the_backend(backend: MemcachedBackend) -> None:
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
