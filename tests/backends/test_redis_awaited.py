"""Redis in event loops: whose replies are whose when tasks are cancelled, and what becomes of connections."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from cancelling import settled
from children import fork_and_check
from delays import DelayingProxy
from faults import Proxy
from loops import RUNNERS
from servers import HOST, RedisServer

from cacheorm.backends.redis import RedisBackend
from cacheorm.deadlines import deadline
from cacheorm.errors import BackendError

BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}

# Seconds to wait for what does not come. Whatever does come is there far sooner, on a busy machine as well.
SHORT = 2


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    runner: Callable[[Coroutine[Any, Any, Any]], Any] = request.param
    return runner


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[DelayingProxy]:
    with DelayingProxy(redis_server.port) as proxy:
        yield proxy


def through(proxy: DelayingProxy | Proxy, **options: Any) -> RedisBackend:
    return RedisBackend(host=HOST, port=proxy.port, **options)


# -- cancelled tasks ---------------------------------------------------------------------------------------


def test_a_write_that_is_cancelled_costs_its_connection_and_no_other(
    run: Callable[..., Any], proxy: DelayingProxy, redis_backend: RedisBackend
) -> None:
    large = {f"large:{i}": bytes([i]) * 300_000 for i in range(30)}

    async def main() -> None:
        with through(proxy, socket_timeout=60) as backend:
            await backend.aset("key:1", b"1")
            for wait in (0, 0.001, 0.004, 0.02):
                proxy.hung = True
                task = asyncio.create_task(backend.aset_many(large))
                await asyncio.sleep(wait)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                proxy.hung = False
                assert await backend.aget_many("key:1", "absent") == [b"1", None]
                assert await settled(lambda: proxy.open == 1)
            await backend.aclose()

    run(main())


def test_an_abandoned_read_gives_its_connection_up(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, max_connections=1) as backend:
            await backend.aset_many(BATCH)
            for count in range(1, 4):
                chunks: Any = backend.aget_chunks(list(BATCH))
                for _ in range(count):
                    await anext(chunks)
                await chunks.aclose()
                assert await backend.aget_many("key:5", "key:6") == [b"5", b"6"]
            await backend.aclose()

    run(main())


# -- connections -------------------------------------------------------------------------------------------


def test_tasks_share_a_bounded_number_of_connections(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, max_connections=5, socket_timeout=60) as backend:
            await backend.aset_many(BATCH)
            keys = list(BATCH)[:100]
            replies = await asyncio.gather(*[backend.aget_many(*keys[i:]) for i in range(100) for _ in range(10)])
            assert [len(reply) for reply in replies] == [100 - i for i in range(100) for _ in range(10)]
            assert proxy.accepted <= 5
            await backend.aclose()

    run(main())


def test_who_waits_too_long_for_a_connection_is_told_why(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, max_connections=2, socket_timeout=2) as backend:
            await backend.aset_many(BATCH)
            reads: list[Any] = [backend.aget_chunks(list(BATCH)) for _ in range(2)]
            for read in reads:
                await anext(read)
            with pytest.raises(BackendError, match=r"all 2 connections .* in use; raise max_connections") as caught:
                await backend.aset("k", b"v")
            assert not caught.value.maybe_applied
            await reads[0].aclose()
            assert await backend.aget("absent") is None
            await reads[1].aclose()
            await backend.aclose()

    run(main())


def test_a_silent_server_is_given_up_after_the_timeout(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, socket_timeout=SHORT, retry_after=0) as backend:
            for call, maybe_applied in ((lambda: backend.aget("k"), False), (lambda: backend.aset("k", b"v"), True)):
                await backend.aping()
                proxy.hung = True
                with pytest.raises(BackendError, match="no answer in time") as told:
                    await call()
                assert told.value.maybe_applied is maybe_applied
                proxy.hung = False
            assert await backend.aget_many("absent") == [None]
            await backend.aclose()

    run(main())


def test_a_connection_that_broke_while_idle_is_replaced_unnoticed(run: Callable[..., Any]) -> None:
    async def main() -> None:
        with RedisServer() as server, RedisBackend(host=HOST, port=server.port) as backend:
            await backend.aset("k", b"v")
            server.restart()
            assert await backend.aget("k") is None
            await backend.aset("k", b"w")
            server.restart()
            assert await backend.aset_many(BATCH) == dict.fromkeys(BATCH, True)
            await backend.aclose()

    run(main())


@pytest.mark.parametrize("cut", [0, 3, 5000, 12_000])
def test_replies_cut_off_anywhere_are_errors(cut: int, run: Callable[..., Any], redis_server: RedisServer) -> None:
    async def main() -> None:
        with Proxy(redis_server.port) as proxy, through(proxy, retry_after=0) as backend:
            await backend.aset_many(BATCH)
            for call, maybe_applied in (
                (lambda: backend.aset_many(BATCH), True),
                (lambda: backend.aget_many(*BATCH), False),
            ):
                proxy.cut_after = cut
                with pytest.raises(BackendError) as caught:
                    await call()
                assert caught.value.maybe_applied is maybe_applied
                proxy.cut_after = None
                assert await backend.aget_many("key:1", "key:2") == [b"1", b"2"]
            await backend.aclose()

    run(main())


def test_a_connection_is_not_idle_for_longer_than_the_interval_of_health_checks(
    run: Callable[..., Any], proxy: DelayingProxy
) -> None:
    async def main() -> None:
        with through(proxy, health_check_interval=1) as backend, through(proxy) as other:
            assert await backend.aset_many(BATCH) == dict.fromkeys(BATCH, True)
            assert await other.aget("key:7") == b"7"
            assert proxy.accepted == 2
            await asyncio.sleep(1.1)
            assert await backend.aget_many(*BATCH) == list(BATCH.values())
            assert proxy.accepted == 3
            assert await other.aget("key:7") == b"7"
            assert proxy.accepted == 3
            await backend.aclose()
            await other.aclose()

    run(main())


def test_a_server_that_is_not_there_is_an_error_with_its_address() -> None:
    async def main() -> None:
        with RedisBackend(host=HOST, port=1) as backend:
            with pytest.raises(BackendError, match=r"127\.0\.0\.1:1") as caught:
                await backend.aset("k", b"v")
            assert not caught.value.maybe_applied
            await backend.aclose()

    asyncio.run(main())


def test_a_password_is_used_and_never_shown() -> None:
    async def main() -> None:
        with RedisServer("--requirepass", "s3cret") as server:
            with RedisBackend(host=HOST, port=server.port, password="s3cret") as backend:
                assert await backend.aping()
                await backend.aclose()
            with RedisBackend(host=HOST, port=server.port, password="wr0ng") as backend:
                with pytest.raises(BackendError) as caught:
                    await backend.aping()
                assert "wr0ng" not in str(caught.value)
                await backend.aclose()

    asyncio.run(main())


def test_a_unix_socket_works(run: Callable[..., Any]) -> None:
    async def main() -> None:
        with RedisServer(unix=True) as server, RedisBackend.from_url(server.url) as backend:
            assert await backend.aset_many(BATCH) == dict.fromkeys(BATCH, True)
            assert await backend.aget_many(*BATCH) == list(BATCH.values())
            await backend.aclose()

    run(main())


# -- event loops, threads and processes --------------------------------------------------------------------


def test_event_loops_in_turn_have_connections_of_their_own(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    with through(proxy) as backend:

        async def use(number: int) -> None:
            assert await backend.aset("k", b"%d" % number)
            assert await backend.aget("k") == b"%d" % number

        for number in range(4):
            [asyncio.run, run][number % 2](use(number))
        gc.collect()
        assert proxy.accepted == 4
        # Each loop's were closed when it ended, though nobody asked for that.
        assert asyncio.run(settled(lambda: proxy.open == 0))


def test_event_loops_of_several_threads_work_side_by_side(redis_backend: RedisBackend) -> None:
    failures: list[BaseException] = []

    async def use(number: int) -> None:
        for step in range(50):
            await backend_set(number, step)

    async def backend_set(number: int, step: int) -> None:
        await redis_backend.aset(f"k{number}", b"%d" % step)
        assert await redis_backend.aget(f"k{number}") == b"%d" % step

    def work(number: int) -> None:
        try:
            asyncio.run(use(number))
        except BaseException as error:  # noqa: BLE001 - shown in the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert redis_backend.get("k0") == b"49"


def test_synchronous_methods_work_inside_a_loop(redis_backend: RedisBackend) -> None:
    async def main() -> None:
        await redis_backend.aset("k", b"v")
        assert redis_backend.get("k") == b"v"
        assert [value for chunk in redis_backend.get_chunks(["k"] * 1200) for value in chunk] == [b"v"] * 1200
        await redis_backend.aclose()

    asyncio.run(main())


def test_a_child_leaves_the_connections_of_its_parents_loop_alone(proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy) as backend:
            await backend.aset("k", b"v")

            def child() -> bool:
                async def use() -> bool:
                    return await backend.aget("k") == b"v" and await backend.aset("child", b"here")

                # In a thread, as this one has a running loop by its copy of the parent's memory.
                answers: list[bool] = []
                thread = threading.Thread(target=lambda: answers.append(asyncio.run(use())))
                thread.start()
                thread.join()
                return answers == [True] and backend.get("child") == b"here"

            fork_and_check(child)()
            before = proxy.accepted
            for _ in range(20):
                assert await backend.aget("k") == b"v"
            assert proxy.accepted == before
            await backend.aclose()

    asyncio.run(main())


# -- clients of other kinds --------------------------------------------------------------------------------


def test_a_client_of_asyncio_gives_both_kinds_of_methods_their_options(redis_server: RedisServer) -> None:
    async def main() -> None:
        client = redis.asyncio.Redis(host=HOST, port=redis_server.port, db=5, socket_timeout=3)
        with RedisBackend(client=client) as backend:
            await backend.aset("k", b"v")
            assert await client.get("k") == b"v"
            assert backend.get("k") == b"v"
            assert "db 5" in repr(backend)
            await backend.aclear(everything=True)
            await backend.aclose()
        await client.aclose()

    asyncio.run(main())


def test_a_client_that_keeps_its_connections_to_itself_says_what_to_use_instead(redis_server: RedisServer) -> None:
    class Closed:
        def __init__(self) -> None:
            self.inner = redis.Redis(host=HOST, port=redis_server.port)

        def pipeline(self, **options: Any) -> Any:
            return self.inner.pipeline(**options)

        def close(self) -> None:
            self.inner.close()

    client = Closed()
    backend = RedisBackend(client=client)
    backend.set("k", b"v")
    assert backend.get("k") == b"v"
    with pytest.raises(TypeError, match="cannot be awaited: give the backend a URL"):
        asyncio.run(backend.aget("k"))
    client.close()


def test_time_passes_for_others_while_a_server_is_silent(proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, socket_timeout=60) as backend:
            await backend.aping()
            proxy.hung = True
            reading = asyncio.create_task(backend.aget_many("a", "b"))
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert not reading.done()
            proxy.hung = False
            assert await reading == [None, None]
            await backend.aclose()

    asyncio.run(main())


def test_the_time_of_one_wait_does_not_end_a_later_one(run: Callable[..., Any], proxy: DelayingProxy) -> None:
    async def main() -> None:
        with through(proxy, max_connections=1, operation_timeout=60) as backend:
            await backend.aset_many(BATCH)
            with deadline(0.5):
                assert await backend.aget("key:1") == b"1"
            proxy.hung = True
            reading = asyncio.create_task(backend.aget_many(*BATCH))
            await asyncio.sleep(1)
            assert not reading.done()
            proxy.hung = False
            assert await reading == list(BATCH.values())
            await backend.aclose()

    run(main())
