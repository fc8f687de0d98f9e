"""memcached over connections of asyncio: the same rows, and what is left of a caller that is cancelled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pylibmc
import pytest
from cancelling import settled
from children import fork_and_check
from faults import Proxy, say
from lifetimes import left_of
from loops import FACTORIES
from observing import ain_use
from servers import HOST, MemcachedServer

from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.types import KEEP_TTL

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}

# Seconds to wait for what does not come. Whatever does come is there far sooner, on a busy machine as well.
SHORT = 2


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """What runs a coroutine in an event loop of either kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def backend(memcached_backend: MemcachedBackend) -> MemcachedBackend:
    return memcached_backend


@pytest.fixture
def proxy(memcached_server: MemcachedServer) -> Iterator[Proxy]:
    with Proxy(memcached_server.port) as proxy:
        yield proxy


def awaited(backend: MemcachedBackend, method: str, *args: Any) -> Awaitable[Any]:
    found: Awaitable[Any] = getattr(backend, f"a{method}")(*args)
    return found


async def until_waiting(backend: MemcachedBackend, count: int) -> None:
    """Let the event loop go round until so many callers wait for a connection."""
    while (await backend.apools())[0].waiting < count:
        await asyncio.sleep(0)


# -- the same rows ---------------------------------------------------------------------------------------


def test_every_method_does_the_same_as_its_blocking_twin(backend: MemcachedBackend, run: Run[None]) -> None:
    async def main() -> None:
        do = lambda method, *args: awaited(backend, method, *args)  # noqa: E731
        assert await do("set_many", BATCH) == dict.fromkeys(BATCH, True)
        assert await do("get_many", *BATCH, "absent") == [*BATCH.values(), None]
        chunks = [chunk async for chunk in backend.aget_chunks(list(BATCH))]
        assert [value for chunk in chunks for value in chunk] == list(BATCH.values())
        assert len(chunks) > 1
        assert [await do("get", "key:7"), await do("get", "absent")] == [b"7", None]
        assert [await do("has", "key:7"), await do("has", "absent")] == [True, False]
        assert [await do("add", "key:7", b"x"), await do("add", "new", b"x", 5000)] == [False, True]
        assert [await do("replace", "no", b"x"), await do("replace", "new", b"y", KEEP_TTL)] == [False, True]
        assert await do("ttl", "new") in left_of(5000, early=1)
        assert await do("touch", "new", 9000) is True
        assert await do("ttl", "new") in left_of(9000, early=1)
        assert [await do("incr", "n", 5), await do("incr", "n", -7), await do("incr", "n")] == [5, -2, -1]
        ((value, token),) = await do("get_many_cas", "new")
        assert value == b"y"
        assert await do("compare_and_set_many", {"new": (b"z", token)}, KEEP_TTL) == {"new": True}
        assert await do("compare_and_set_many", {"new": (b"z", token)}) == {"new": False}
        assert await do("touch_many", ["new", "no"], 50) == {"new": True, "no": False}
        assert await do("replace_many", {"new": b"1", "no": b"1"}) == {"new": True, "no": False}
        assert await do("add_many", {"new": b"1", "newer": b"1"}) == {"new": False, "newer": True}
        assert await do("delete", "newer") is True
        assert await do("delete_many", *BATCH, "no") is False
        assert await do("ping") is True
        assert (await do("stats"))["entries"] >= 2
        await backend.aclear(everything=True)
        assert await do("get_many", "new", "n") == [None, None]
        with pytest.raises(InvalidKeyError):
            await do("get", "a b")
        await backend.aclose()

    run(main())
    backend.set("k", b"v")
    assert run(awaited(backend, "get", "k")) == b"v"  # type: ignore[arg-type]


def test_full_buffers_on_both_sides_do_not_wait_for_each_other(run: Run[None]) -> None:
    async def main(backend: MemcachedBackend) -> None:
        rows = {f"{i}:" + "k" * 240: b"%d" % i * 300_000 for i in range(60)}
        assert all((await awaited(backend, "set_many", rows)).values())
        keys = [key for _ in range(10) for key in rows]
        assert await awaited(backend, "get_many", *keys) == [rows[key] for key in keys]
        refusals = {f"{i}:" + "k" * 240: b"x" * 1_500_000 for i in range(60)}
        outcome = await awaited(backend, "set_many", refusals)
        assert not any(outcome.values())
        assert len(outcome.reasons) == 60

    with MemcachedServer("-m", "1024") as server, MemcachedBackend([server.address], timeout=60) as backend:
        run(main(backend))


def test_a_unix_socket_works(run: Run[None]) -> None:
    with MemcachedServer(unix=True) as server, MemcachedBackend([server.address]) as backend:

        async def main() -> None:
            assert await awaited(backend, "set_many", BATCH) == dict.fromkeys(BATCH, True)
            assert await awaited(backend, "get_many", *BATCH) == list(BATCH.values())
            await backend.aclose()
            server.kill()
            with pytest.raises(BackendError, match="cannot connect"):
                await awaited(backend, "get", "k")

        run(main())


def test_a_thousand_tasks_each_get_their_own_rows(proxy: Proxy, backend: MemcachedBackend, run: Run[None]) -> None:
    backend.set_many(BATCH)
    keys = list(BATCH)

    async def one(backend: MemcachedBackend, number: int) -> bool:
        mine = keys[number : number + 100]
        return bool(await awaited(backend, "get_many", *mine) == [BATCH[key] for key in mine])

    async def main(shaky: MemcachedBackend) -> None:
        assert all(await asyncio.gather(*[one(shaky, number) for number in range(1000)]))
        assert proxy.accepted <= 64
        assert await ain_use(shaky) == [0]
        await shaky.aclose()

    with MemcachedBackend([(HOST, proxy.port)], timeout=120, connect_timeout=60) as shaky:
        run(main(shaky))


# -- callers that are cancelled --------------------------------------------------------------------------


def test_a_caller_cancelled_while_its_reply_is_under_way_costs_the_connection(
    proxy: Proxy, backend: MemcachedBackend, run: Run[None]
) -> None:
    backend.set_many(BATCH)

    async def main(shaky: MemcachedBackend) -> None:
        await awaited(shaky, "ping")
        for cut in (0, 3, 4000):
            proxy.cut_after, proxy.hang = cut, True
            proxy.silent.clear()
            task = asyncio.ensure_future(awaited(shaky, "get_many", *BATCH))
            assert await settled(proxy.silent.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            proxy.cut_after = None
            assert await awaited(shaky, "get_many", "key:1", "absent", "key:2") == [b"1", None, b"2"]
            assert await ain_use(shaky) == [0]
        await shaky.aclose()

    with MemcachedBackend([(HOST, proxy.port)]) as shaky:
        run(main(shaky))


def test_an_abandoned_read_leaves_nothing_for_the_next(backend: MemcachedBackend, run: Run[None]) -> None:
    backend.set_many(BATCH)

    async def main() -> None:
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        await chunks.aclose()
        assert await awaited(backend, "get", "key:5") == b"5"
        assert await ain_use(backend) == [0]

    run(main())


# -- connections that break ------------------------------------------------------------------------------


def test_a_silent_server_is_given_up_after_the_timeout(run: Run[None]) -> None:
    async def main(backend: MemcachedBackend, server: MemcachedServer) -> None:
        await awaited(backend, "set", "k", b"v")
        server.pause()
        try:
            with pytest.raises(BackendError, match="no answer in time") as caught:
                await awaited(backend, "set", "k", b"v")
            assert caught.value.maybe_applied is True
            assert isinstance(caught.value.__cause__, TimeoutError)
            with pytest.raises(BackendError, match=r"timed out|no answer") as caught:
                await awaited(backend, "get_many", *BATCH)
            assert caught.value.maybe_applied is False
        finally:
            server.resume()
        assert await awaited(backend, "get", "k") == b"v"

    with MemcachedServer() as server, MemcachedBackend([server.address], timeout=SHORT, retry_after=0) as backend:
        run(main(backend, server))


def test_connections_that_ended_while_they_were_idle_are_not_used(run: Run[None]) -> None:
    async def main(backend: MemcachedBackend, server: MemcachedServer) -> None:
        for call in (("get_many", "k", "l"), ("add", "k", b"v"), ("incr", "n"), ("get", "k"), ("delete", "k")):
            await awaited(backend, "ping")
            # Without a turn of the event loop, which would notice the end of the connection.
            server.restart()
            assert await awaited(backend, *call) in ([None, None], True, 1, None, False)

    with MemcachedServer() as server, MemcachedBackend([server.address]) as backend:
        run(main(backend, server))


def test_reads_on_a_connection_that_breaks_are_repeated_once_and_writes_are_not(
    proxy: Proxy, backend: MemcachedBackend, run: Run[None]
) -> None:
    backend.set_many(BATCH)

    async def main(shaky: MemcachedBackend) -> None:
        proxy.once = True
        for call, expected in (
            (("get", "key:1"), b"1"),
            (("get_many", "key:1", "no"), [b"1", None]),
            (("has", "no"), False),
        ):
            await awaited(shaky, "ping")
            proxy.cut_after = 0
            before = proxy.accepted
            assert await awaited(shaky, *call) == expected
            assert proxy.accepted == before + 1
        for call in (("set", "once", b"v"), ("incr", "once"), ("delete", "once"), ("touch", "once")):
            await awaited(shaky, "ping")
            proxy.requests.clear()
            proxy.cut_after = 0
            with pytest.raises(BackendError, match="may have been applied") as caught:
                await awaited(shaky, *call)
            assert caught.value.maybe_applied is True
            assert proxy.requests.count(b"once") == 1
        await shaky.aclose()

    with MemcachedBackend([(HOST, proxy.port)], timeout=60) as shaky:
        run(main(shaky))


def test_a_server_that_is_not_there_is_an_error(run: Run[None]) -> None:
    async def main(backend: MemcachedBackend) -> None:
        for _ in range(3):
            with pytest.raises(BackendError, match=f"^memcached at {HOST}:1: cannot connect") as caught:
                await awaited(backend, "set", "k", b"")
            assert caught.value.maybe_applied is False
        assert await ain_use(backend) == [0]

    with MemcachedBackend([(HOST, 1)], max_connections=1) as backend:
        run(main(backend))


def test_replies_that_do_not_fit_the_request_cost_the_connection(run: Run[None]) -> None:
    async def main(backend: MemcachedBackend) -> None:
        for _ in range(2):
            with pytest.raises(BackendError, match=f"^memcached at {HOST}:"):
                await awaited(backend, "get_many", "a", "b")

    with say(b"VA 5 kother\r\nvalue\r\nMN\r\n") as server, MemcachedBackend([(HOST, server.port)]) as backend:
        run(main(backend))
        assert server.accepted == 2


# -- pools and loops -------------------------------------------------------------------------------------


def test_a_full_pool_says_so_after_the_timeout(memcached_server: MemcachedServer, run: Run[None]) -> None:
    async def main(backend: MemcachedBackend) -> None:
        await awaited(backend, "set_many", BATCH)
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        with pytest.raises(BackendError, match="all 1 connections stayed in use; raise max_conn") as caught:
            await awaited(backend, "set", "k", b"")
        assert caught.value.maybe_applied is False
        await chunks.aclose()
        assert await awaited(backend, "get", "key:1") == b"1"
        assert await ain_use(backend) == [0]

    with MemcachedBackend([memcached_server.address], max_connections=1, timeout=SHORT) as backend:
        run(main(backend))


def test_a_caller_that_gives_up_waiting_takes_no_connection(memcached_server: MemcachedServer, run: Run[None]) -> None:
    async def main(backend: MemcachedBackend) -> None:
        await awaited(backend, "set_many", BATCH)
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        waiting = asyncio.ensure_future(awaited(backend, "get", "key:1"))
        given_up = asyncio.ensure_future(awaited(backend, "get", "key:2"))
        await until_waiting(backend, 2)
        given_up.cancel()
        await chunks.aclose()
        assert await waiting == b"1"
        assert await ain_use(backend) == [0]

    with MemcachedBackend([memcached_server.address], max_connections=1, timeout=60) as backend:
        run(main(backend))


def test_a_place_in_the_pool_that_is_given_to_a_cancelled_caller_goes_on(
    memcached_server: MemcachedServer, run: Run[None]
) -> None:
    async def main(backend: MemcachedBackend) -> None:
        await awaited(backend, "set_many", BATCH)
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        waiting = [asyncio.ensure_future(awaited(backend, "get", "k")) for _ in range(2)]
        await until_waiting(backend, 2)
        await chunks.aclose()  # gives the place to the first one, which has not gone on yet
        waiting[0].cancel()
        assert await waiting[1] is None
        assert waiting[0].cancelled()
        assert await ain_use(backend) == [0]

    with MemcachedBackend([memcached_server.address], max_connections=1, timeout=60) as backend:
        run(main(backend))


def test_a_connection_that_breaks_as_it_is_handed_on_keeps_no_place(
    memcached_server: MemcachedServer, run: Run[None]
) -> None:
    async def main(backend: MemcachedBackend, proxy: Proxy) -> None:
        await awaited(backend, "set_many", BATCH)
        chunks: Any = backend.aget_chunks(list(BATCH))
        await anext(chunks)
        waiting = asyncio.ensure_future(awaited(backend, "get", "key:1"))
        await until_waiting(backend, 1)
        async for _ in chunks:
            pass
        proxy.interject(b"EN\r\n")  # the connection is given to the other task, which has not gone on yet
        assert await waiting == b"1"
        assert proxy.accepted == 2
        assert await ain_use(backend) == [0]

    with (
        Proxy(memcached_server.port) as proxy,
        MemcachedBackend([(HOST, proxy.port)], max_connections=1, timeout=SHORT) as backend,
    ):
        run(main(backend, proxy))


@pytest.mark.parametrize("other", FACTORIES)
def test_several_event_loops_in_turn_each_have_their_own_connections(backend: MemcachedBackend, other: Any) -> None:
    backend.set_many(BATCH)
    for factory in (None, other, None):
        with asyncio.Runner(loop_factory=factory) as runner:
            for _ in range(3):
                found = runner.run(awaited(backend, "get_many", "key:1", "absent"))  # type: ignore[arg-type]
                assert found == [b"1", None]
    assert backend.get("key:1") == b"1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_makes_its_own_connections(backend: MemcachedBackend, run: Run[bool]) -> None:
    backend.set_many(BATCH)

    async def read(start: int) -> bool:
        found = await awaited(backend, "get_many", *[f"key:{i}" for i in range(start, start + 200)])
        return bool(found == [b"%d" % i for i in range(start, start + 200)])

    assert run(read(0))
    wait = fork_and_check(lambda: all(asyncio.run(read(i)) for i in range(200)) and backend.get("key:1") == b"1")
    assert all(run(read(i)) for i in range(200, 400))
    wait()
    assert run(read(100))


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in PyMapping_HasKeyString:pytest.PytestUnraisableExceptionWarning"
)
def test_a_client_of_pylibmc_cannot_be_awaited(memcached_server: MemcachedServer) -> None:
    backend = MemcachedBackend(client=pylibmc.Client([f"{HOST}:{memcached_server.port}"]))
    with pytest.raises(NotImplementedError, match=r"give servers= in place of client="):
        asyncio.run(awaited(backend, "get", "k"))  # type: ignore[arg-type]
    assert backend.get("k") is None
