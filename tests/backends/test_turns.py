"""Places for connections in an event loop: who gets one, and how operations wait for them before they begin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from amounts import LONG
from injecting import Injected, doing_at, fail
from servers import HOST, MemcachedServer, RedisServer

import cacheorm as co

KEYS = [f"key:{i}" for i in range(2500)]


class Row(co.Model):
    id = co.IntegerField(primary_key=True)
    name = co.StringField(null=True)

    class Meta:
        name = "waiting_row"
        ttl = 600


async def hold(backend: Any, keys: list[str] | None = None) -> Any:
    """Take connections, by reading a part of a batch; closing what is returned gives them back."""
    chunks = backend.aget_chunks(KEYS if keys is None else keys)
    await anext(chunks)
    return chunks


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Let the event loop go round until something holds."""
    while not await true():
        await asyncio.sleep(0)


async def until_waiting(backend: Any, count: int) -> None:
    """Let the event loop go round until so many callers wait for a connection."""

    async def wait() -> bool:
        return max(state.waiting for state in await backend.apools()) == count

    await until(wait)


async def rounds(count: int = 10) -> None:
    """Let the event loop go round, so that everybody gets on who can without waiting for a server."""
    for _ in range(count):
        await asyncio.sleep(0)


class Operations:
    """Operations of a model that are awaited; each tells when it begins, which is when it looks at its keys."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    def start(self, number: int) -> asyncio.Task[Any]:
        def keys() -> Iterator[dict[str, int]]:
            self.begun.append(number)
            yield {"id": number}

        return asyncio.create_task(Row.query_many(keys()).aexecute())


# -- one server ----------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "memcached"])
def make(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached_server: MemcachedServer
) -> Iterator[Callable[..., Any]]:
    """What makes a backend on one server, with so many connections, each of which is waited for so long."""
    made: list[Any] = []

    def make(places: int = 1, patience: float = 60) -> Any:
        backend: Any
        if request.param == "redis":
            backend = co.RedisBackend(
                host=HOST, port=redis_server.port, max_connections=places, socket_timeout=patience
            )
        else:
            backend = co.MemcachedBackend(
                servers=[(HOST, memcached_server.port)], max_connections=places, timeout=patience
            )
        if not made:
            backend.clear(everything=True)
            backend.set_many(dict.fromkeys(KEYS, b"v" * 100))
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


def test_connections_go_to_those_who_wait_in_the_order_they_came(make: Callable[..., Any]) -> None:
    async def main() -> None:
        held = await hold(backend)
        got: list[int] = []

        async def one(number: int) -> None:
            assert await backend.aget("key:1")
            got.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await until_waiting(backend, 5)
        assert got == []
        await held.aclose()
        await asyncio.gather(*tasks)
        assert got == [0, 1, 2, 3, 4]
        assert (await backend.apools())[0].in_use == 0
        await backend.aclose()

    backend = make()
    asyncio.run(main())


def test_who_comes_by_waits_behind_those_who_have_waited(make: Callable[..., Any]) -> None:
    async def main() -> None:
        held = await hold(backend)
        tasks = [asyncio.create_task(backend.aincr("served")) for _ in range(3)]
        await until_waiting(backend, 3)
        await held.aclose()
        assert await backend.aincr("served") == 4
        assert await asyncio.gather(*tasks) == [1, 2, 3]
        await backend.aclose()

    backend = make()
    asyncio.run(main())


def test_who_waits_too_long_is_told_which_connections_were_in_use(make: Callable[..., Any]) -> None:
    async def main() -> None:
        held = await hold(backend)
        expected = r"all (1 )?connections stayed in use; raise max_connections or (socket_)?timeout"
        # One has begun, the other has not.
        outcomes = await asyncio.gather(backend.aget("k"), Row.aget(id=1), return_exceptions=True)
        for outcome in outcomes:
            with pytest.raises(co.BackendError, match=expected):
                raise outcome  # type: ignore[misc]
        await held.aclose()
        assert (await backend.apools())[0].in_use == 0
        assert await Row.aget_or_none(id=1) is None
        await backend.aclose()

    backend = make(patience=2)
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_a_place_for_somebody_who_has_been_cancelled_goes_to_the_next(make: Callable[..., Any]) -> None:
    async def main() -> None:
        held = await hold(backend)
        first, second = (asyncio.ensure_future(backend.aget("key:1")) for _ in range(2))
        await until_waiting(backend, 2)
        await held.aclose()
        first.cancel()
        assert await second
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await backend.apools())[0].in_use == 0
        await backend.aclose()

    backend = make()
    asyncio.run(main())


# -- operations begin when there is a connection for them ------------------------------------------------


def test_operations_begin_at_once_as_long_as_there_are_connections(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        assert await operations.start(0) == [None]  # nothing is known of the server before
        held = await hold(backend)
        assert await operations.start(1) == [None]
        other = await hold(backend)
        last = operations.start(2)
        await rounds()
        assert operations.begun == [0, 1]
        await held.aclose()
        assert await last == [None]
        await other.aclose()
        await backend.aclose()

    backend = make(places=2)
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_one_begins_for_each_connection_that_is_given_back(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        held = [await hold(backend) for _ in range(2)]
        tasks = [operations.start(number) for number in range(4)]
        await until_waiting(backend, 4)
        assert operations.begun == []
        await held[0].aclose()
        await asyncio.wait(tasks[:1])
        assert operations.begun[0] == 0
        await held[1].aclose()
        await asyncio.gather(*tasks)
        assert operations.begun == [0, 1, 2, 3]
        await backend.aclose()

    backend = make(places=2)
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_who_comes_later_waits_behind_those_who_may_begin(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        held = await hold(backend)
        early = operations.start(0)
        await until_waiting(backend, 1)
        await held.aclose()
        # Its place is as good as taken, though its task has not gone on yet.
        late = operations.start(1)
        await asyncio.gather(early, late)
        assert operations.begun == [0, 1]
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_operations_that_have_begun_come_before_those_that_have_not(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        held = await hold(backend)
        outside = operations.start(0)
        await until_waiting(backend, 1)

        async def go_on() -> list[int]:  # as an operation that has begun does
            assert await backend.aget("key:1")
            return [*operations.begun]

        inside = asyncio.create_task(go_on())
        await until_waiting(backend, 2)
        await held.aclose()
        assert await inside == []
        assert await outside == [None]
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_operations_that_turn_out_to_need_no_connection_let_the_next_begin(make: Callable[..., Any]) -> None:
    async def main() -> None:
        held = await hold(backend)
        waiting = [asyncio.create_task(Row.query_many([]).aexecute()) for _ in range(50)]
        waiting += [asyncio.create_task(Row.aget(id="no number")) for _ in range(50)]
        await rounds()
        await held.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert outcomes[:50] == [[]] * 50
        assert {type(outcome) for outcome in outcomes[50:]} == {co.ValidationError}
        assert (await backend.apools())[0][2:] == (0, (await backend.apools())[0].idle, 0)
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_operations_that_are_cancelled_before_they_begin_let_the_next_begin(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        held = await hold(backend)
        waiting = [operations.start(number) for number in range(6)]
        await until_waiting(backend, 6)
        waiting[0].cancel()  # while it waits
        await held.aclose()
        waiting[1].cancel()  # it may begin, and has not yet
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, True] + [False] * 4
        assert operations.begun == [2, 3, 4, 5]
        assert (await backend.apools())[0].waiting == 0
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_operations_that_are_interrupted_as_they_wait_let_the_next_begin(make: Callable[..., Any]) -> None:
    async def main() -> None:
        step, was_struck = 1, True
        while was_struck:
            step += 1 if LONG else 13
            operations = Operations()
            held = await hold(backend)
            with doing_at(step, fail, within="backends/_net/admission.py") as was_raised:
                tasks = [operations.start(number) for number in range(3)]
                await rounds()
                with contextlib.suppress(Injected):
                    await held.aclose()
                for task in tasks:
                    with contextlib.suppress(Injected):
                        assert await task == [None]
            was_struck = was_raised()
        assert step > 100
        # Nothing stands in the way of the next one.
        last = operations.start(3)
        await rounds(1)
        assert operations.begun[-1] == 3
        assert await last == [None]
        await backend.aclose()

    backend = make(patience=2)
    with co.bind([Row], backend=backend):
        asyncio.run(main())


def test_operations_do_not_wait_for_connections_that_are_given_up(make: Callable[..., Any]) -> None:
    async def main() -> None:
        operations = Operations()
        held = await hold(backend)
        waiting = operations.start(0)
        await until_waiting(backend, 1)
        await backend.aclose()
        # It began with the connections of before, and finds that there are new ones.
        with contextlib.suppress(co.BackendError):
            await waiting
        assert operations.begun == [0]
        await held.aclose()
        assert await operations.start(1) == [None]
        await backend.aclose()

    backend = make()
    with co.bind([Row], backend=backend):
        asyncio.run(main())


# -- several servers -----------------------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[list[MemcachedServer]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(3)]


async def hold_of(backend: Any, server: int) -> Any:
    """Take a connection to one of several servers."""
    name = backend.pools()[server].server
    mine = [key for key, owner in zip(KEYS, backend.servers_of(*KEYS), strict=True) if owner == name]
    return await hold(backend, mine * 3)


def test_with_several_servers_one_begins_for_as_many_connections(three: list[MemcachedServer]) -> None:
    async def main() -> None:
        operations = Operations()
        held = [[await hold_of(backend, server) for _ in range(4)] for server in range(3)]
        waiting = operations.start(0)
        await until_waiting(backend, 1)
        await held[0].pop().aclose()
        await held[1].pop().aclose()
        await rounds()
        assert operations.begun == []
        await held[1].pop().aclose()

        await rounds()
        assert operations.begun == [0]
        for each in [*held[0], *held[1], *held[2]]:
            await each.aclose()
        assert await waiting == [None]
        await backend.aclose()

    with co.MemcachedBackend([(HOST, server.port) for server in three], max_connections=4, timeout=60) as backend:
        backend.set_many(dict.fromkeys(KEYS, b"x" * 1000))
        with co.bind([Row], backend=backend):
            asyncio.run(main())


def test_a_server_that_keeps_all_its_connections_keeps_nobody_from_the_others(three: list[MemcachedServer]) -> None:
    def owner(number: int) -> str:
        return str(backend.servers_of(Row.key(id=number))[0])

    async def main() -> None:
        held = [await hold_of(backend, server) for server in range(3)]
        operations = Operations()
        waiting = [operations.start(number) for number in range(9)]
        await until_waiting(backend, 9)
        await held[1].aclose()
        # Rows of the servers that are busy come later.
        free = [number for number in range(9) if owner(number) == backend.pools()[1].server]
        await asyncio.gather(*[waiting[number] for number in free])
        await held[0].aclose()
        await held[2].aclose()
        assert await asyncio.gather(*waiting) == [[None]] * 9
        await backend.aclose()

    with co.MemcachedBackend([(HOST, server.port) for server in three], max_connections=1, timeout=60) as backend:
        backend.set_many(dict.fromkeys(KEYS, b"x" * 1000))
        with co.bind([Row], backend=backend):
            asyncio.run(main())


# -- operations ----------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "memcached", "two memcacheds"])
def narrow(
    request: pytest.FixtureRequest, redis_server: RedisServer, memcached_server: MemcachedServer
) -> Iterator[co.BaseBackend]:
    """A backend with one connection to each server."""
    if request.param == "redis":
        backend: co.BaseBackend = co.RedisBackend(
            host=HOST, port=redis_server.port, max_connections=1, socket_timeout=60
        )
        yield backend
        backend.close()
        return
    with MemcachedServer() as second:
        servers = [(HOST, memcached_server.port), (HOST, second.port)][: 1 if request.param == "memcached" else 2]
        backend = co.MemcachedBackend(servers=servers, max_connections=1, timeout=60)
        yield backend
        backend.close()


def test_no_more_operations_begin_than_there_are_connections(narrow: co.BaseBackend) -> None:
    with co.bind([Row], backend=narrow):
        rows = [{"id": number, "name": str(number)} for number in range(100)]
        Row.insert_many(rows).execute()
        most = begun = ended = 0

        def asked(number: int) -> Iterator[dict[str, int]]:
            nonlocal begun
            begun += 1
            yield {"id": number}

        async def read(number: int) -> str | None:
            nonlocal most, ended
            (row,) = await Row.query_many(asked(number)).aexecute()
            most = max(most, begun - ended)
            ended += 1
            return row.name

        async def main() -> list[str | None]:
            await Row.aget(id=0)  # from here on the servers are known
            return await asyncio.gather(*map(read, range(100)))

        assert asyncio.run(main()) == [row["name"] for row in rows]
        # With two servers they begin as long as one has nothing to do, whichever they turn out to need: how many begin
        # is up to the servers.
        assert most <= 3 or "," in repr(narrow)


def test_operations_of_every_kind_get_through_a_few_connections(narrow: co.BaseBackend) -> None:
    with co.bind([Row], backend=narrow):

        async def one(number: int) -> None:
            created = await Row.acreate(id=number, name="a")
            await Row.update_many([{"id": number, "name": "b"}]).aexecute()
            assert (await Row.aget(id=number)).name == "b"
            created.name = "c"
            await created.asave()
            assert [row.name for row in await co.Query((Row, [{"id": number}])).aexecute()] == ["c"]
            assert await Row.aget_many([number]) == {number: created}
            assert await Row.aexists(id=number)
            loaded = await Row.aget_or_load(-number - 1, lambda pk: {"name": "loaded"})
            assert loaded is not None
            assert await Row.adelete_by_id(number)
            with pytest.raises(co.ValidationError):
                await Row.aget(id="none")

        async def main() -> None:
            await asyncio.gather(*map(one, range(100)))

        asyncio.run(main())
