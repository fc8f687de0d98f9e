"""How much of its time an operation waits, for places and for replies in all; and what the waits say of a server."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from amounts import enough
from faults import Proxy
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co
from cacheorm.errors import BackendError

if TYPE_CHECKING:
    from skipping import SkippingClock

pytestmark = pytest.mark.skipif(not hasattr(select, "poll"), reason="the system has no poll")

KEYS = [f"key:{i}" for i in range(2500)]
VALUE = b"v" * 100

# Seconds that an operation may take, and by how many it may be late.
TIME = 5.0
LATE = 0.1 * TIME

Make = Callable[..., Any]


class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(null=True)

    class Meta:
        name = "timed_row"


@pytest.fixture(params=["redis", "memcached"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(kind: str, redis_server: RedisServer, memcached_server: MemcachedServer) -> Iterator[Proxy]:
    """A server that a test may have hang."""
    with Proxy(redis_server.port if kind == "redis" else memcached_server.port) as proxy:
        yield proxy


@pytest.fixture
def make(kind: str, proxy: Proxy, clock: SkippingClock) -> Iterator[Make]:
    made: list[Any] = []

    def make(**given: Any) -> Any:
        options = {"operation_timeout": TIME, "max_connections": 1, "retry_after": 0, "on_failure": "raise", **given}
        if kind == "redis":
            backend: Any = co.RedisBackend(HOST, proxy.port, socket_connect_timeout=1000, **options)
        else:
            backend = co.MemcachedBackend([(HOST, proxy.port)], connect_timeout=1000, **options)
        made.append(backend)
        backend.set_many(dict.fromkeys(KEYS, VALUE))
        return backend

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(params=["called", "awaited"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def hang(proxy: Proxy) -> None:
    proxy.cut_after, proxy.hang = 0, True


# -- an operation has one deadline -----------------------------------------------------------------


@pytest.fixture(params=["operation_timeout", "deadline"])
def bound(request: pytest.FixtureRequest) -> str:
    """Which of the two is :data:`TIME`; the other one is far away."""
    return str(request.param)


def bounded(bound: str) -> Any:
    return co.deadline(TIME) if bound == "deadline" else contextlib.nullcontext()


def timeout(bound: str) -> float:
    return TIME if bound == "operation_timeout" else 100 * TIME


@pytest.mark.parametrize("policy", ["raise", "miss"])
@pytest.mark.parametrize("situation", ["a full pool", "a hung server"])
def test_no_operation_waits_longer_than_its_time(
    make: Make, proxy: Proxy, clock: SkippingClock, way: str, bound: str, policy: str, situation: str
) -> None:
    async def main() -> None:
        held: Any = None
        if way == "awaited":
            assert await Row.aget_or_none(id=1) is None
            if situation == "a full pool":
                held = backend.aget_chunks(KEYS)
                await anext(held)
        elif situation == "a full pool":
            held = backend.get_chunks(KEYS)
            next(held)
        if situation == "a hung server":
            hang(proxy)
        for called, awaited in (
            (lambda: backend.get("key:1"), lambda: backend.aget("key:1")),
            (lambda: backend.get_many(*KEYS), lambda: backend.aget_many(*KEYS)),
            (lambda: Row.get_or_none(id=1), lambda: Row.aget_or_none(id=1)),
            (Row.query_many([{"id": 1}]).execute, Row.query_many([{"id": 1}]).aexecute),
        ):
            with clock.skipping():
                begun = clock()
                expected = pytest.raises(BackendError) if policy == "raise" else contextlib.nullcontext()
                with bounded(bound), expected:
                    await awaited() if way == "awaited" else called()
                assert TIME <= clock() - begun <= TIME + LATE
        if held is not None:
            await held.aclose() if way == "awaited" else held.close()
        await backend.aclose()

    backend = make(operation_timeout=timeout(bound), on_failure=policy)
    with co.bind([Row], backend=backend):
        clock.run(main())


@pytest.mark.parametrize("policy", ["raise", "miss"])
def test_what_an_operation_has_waited_to_begin_is_not_left_for_its_reply(
    make: Make, proxy: Proxy, clock: SkippingClock, bound: str, policy: str
) -> None:
    async def main() -> None:
        assert await Row.aget_or_none(id=1) is None
        for read in (lambda: Row.aget_or_none(id=1), Row.query_many([{"id": 1}]).aexecute):
            held: Any = backend.aget_chunks(KEYS)
            await anext(held)
            with clock.skipping():
                begun = clock()
                with bounded(bound):
                    reading = asyncio.ensure_future(read())
                await asyncio.sleep(0.75 * TIME)
                hang(proxy)
                await held.aclose()
                with pytest.raises(BackendError) if policy == "raise" else contextlib.nullcontext():
                    await reading
                assert TIME <= clock() - begun <= TIME + LATE
            proxy.cut_after = None
        await backend.aclose()

    backend = make(operation_timeout=timeout(bound), on_failure=policy)
    with co.bind([Row], backend=backend):
        clock.run(main())


def test_who_has_less_time_does_not_wait_to_begin_as_long_as_those_in_front(
    make: Make, proxy: Proxy, clock: SkippingClock
) -> None:
    async def main() -> None:
        assert await Row.aget_or_none(id=1) is None
        held: Any = backend.aget_chunks(KEYS)
        await anext(held)
        with clock.skipping():
            begun = clock()
            first = asyncio.ensure_future(Row.aget_or_none(id=1))
            with co.deadline(0.2 * TIME):
                second = asyncio.ensure_future(Row.aget_or_none(id=2))
            with pytest.raises(BackendError, match="connections stayed in use"):
                await second
            assert 0.2 * TIME <= clock() - begun <= 0.2 * TIME + LATE
            assert not first.done()
        await held.aclose()
        assert await first is None
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        clock.run(main())


# -- when a server is left alone -------------------------------------------------------------------


class Reads:
    """Reads of one key, called or awaited, whose replies tests may hold back."""

    def __init__(self, backend: Any, proxy: Proxy, clock: SkippingClock, way: str) -> None:
        self.backend = backend
        self._proxy = proxy
        self._clock = clock
        self._way = way

    @property
    def failures(self) -> int:
        """How often the breaker has opened."""
        return int(self.backend.breakers()[0].failures)

    async def succeed(self) -> None:
        """Read when the server replies."""
        self._proxy.cut_after = None
        assert await self._read() == VALUE

    async def fail(self, seconds: float | None = None, count: int = 1) -> None:
        """Read when it does not, within a deadline if one is given; several times at once if asked to."""
        hang(self._proxy)
        with self._clock.skipping(), contextlib.nullcontext() if seconds is None else co.deadline(seconds):
            outcomes = await asyncio.gather(*[self._read() for _ in range(count)], return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} == {"UnreachableError"}

    async def _read(self) -> Any:
        return self.backend.get("key:1") if self._way == "called" else await self.backend.aget("key:1")

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def closing() -> None:
            await main()
            await self.backend.aclose()

        self._clock.run(closing())


@pytest.fixture
def reads(make: Make, proxy: Proxy, clock: SkippingClock, way: str) -> Reads:
    return Reads(make(max_connections=30), proxy, clock, way)


def test_a_server_that_is_too_slow_for_some_callers_is_not_left_alone(reads: Reads) -> None:
    async def main() -> None:
        for _ in range(enough(200, 20)):
            await reads.fail(0.09 * TIME)
            await reads.succeed()
        assert reads.failures == 0

    reads.run(main)


@pytest.mark.parametrize("way", ["awaited"])
def test_many_callers_who_wait_at_the_same_time_count_as_one(reads: Reads) -> None:
    async def main() -> None:
        await reads.succeed()
        await reads.fail(0.09 * TIME, 30)
        assert reads.failures == 0

    reads.run(main)


def test_a_server_that_answers_nobody_is_left_alone_once_their_waits_add_up(reads: Reads) -> None:
    async def main() -> None:
        await reads.succeed()
        for _ in range(4):
            await reads.fail(0.1 * TIME)
        assert reads.failures == 0
        for _ in range(4):
            await reads.fail(0.1 * TIME)
        assert reads.failures == 1

    reads.run(main)


def test_a_server_that_is_silent_for_the_time_of_one_operation_is_left_alone(reads: Reads) -> None:
    async def main() -> None:
        await reads.succeed()
        await reads.fail()
        assert reads.failures == 1

    reads.run(main)
