"""Redis servers that hang, drop, refuse or have no address: what ends an operation, and what is sent meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import fork_and_check
from clusters import wait_until
from faults import ScriptedServer
from servers import HOST, RedisServer

from cacheorm.backends._net.sync_bridge import run_blocking
from cacheorm.backends.redis import RedisBackend
from cacheorm.deadlines import deadline
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads

WAYS = ["called", "awaited"]
# The bound that has to end an operation, and the one that would end it otherwise. Nothing takes as long on a busy
# machine as the second one, in seconds.
TIGHT, LOOSE = 0.2, 200.0

BATCH = {f"key:{i}": b"v" for i in range(1200)}
CALLS: dict[str, tuple[Any, ...]] = {
    "get": ("k",),
    "set": ("k", b"v"),
    "incr": ("k",),
    "get_many": tuple(BATCH),
    "set_many": (BATCH,),
    "delete_many": tuple(BATCH),
    "compare_and_set_many": ({"k": (b"new", b"old")},),
    "ping": (),
}


def call(way: str, backend: RedisBackend, method: str, *args: Any) -> Any:
    """Call a method, or await its twin in an event loop of its own."""
    if way == "called":
        return getattr(backend, method)(*args)

    async def main() -> Any:
        try:
            return await getattr(backend, f"a{method}")(*args)
        finally:
            await backend.aclose()

    # asyncio.run() would wait for look-ups of names that the loop's threads have begun.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(asyncio.sleep(0))  # what was closed comes to its end
        loop.close()


@pytest.fixture(scope="module")
def hung() -> Iterator[int]:
    """The port of a server that accepts connections and then says nothing."""
    with RedisServer() as server:
        server.pause()
        yield server.port
        server.resume()


@pytest.fixture(scope="module")
def full() -> Iterator[int]:
    """The port of a server whose queue is full: what wants to connect hears nothing."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.fixture
def no_answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look-ups of names that are not answered."""
    given_up = threading.Event()

    def look_up(*args: Any, **kwargs: Any) -> Any:
        given_up.wait(LOOSE)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    given_up.set()


@pytest.fixture(params=["hung", "full", "refusing", "nameless"])
def address(request: pytest.FixtureRequest) -> tuple[str, int]:
    if request.param == "nameless":
        request.getfixturevalue("no_answer")
        return "cache.example", 6379
    return HOST, 1 if request.param == "refusing" else request.getfixturevalue(request.param)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bound", ["deadline", "operation_timeout"])
def test_the_tighter_bound_ends_every_operation(bound: str, way: str, address: tuple[str, int]) -> None:
    host, port = address
    timeout, seconds = (TIGHT, LOOSE) if bound == "operation_timeout" else (LOOSE, TIGHT)
    slow = {"socket_timeout": LOOSE, "socket_connect_timeout": LOOSE, "retry_after": 0}
    with RedisBackend(host=host, port=port, operation_timeout=timeout, **slow) as backend:
        for method, args in CALLS.items():
            began = time.monotonic()
            with pytest.raises(BackendError) as caught, deadline(seconds):
                call(way, backend, method, *args)
            assert time.monotonic() - began < LOOSE / 2
            assert not caught.value.maybe_applied, "nothing was sent"
        assert [state.in_use for state in backend.pools()] in ([0], [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bound", ["deadline", "operation_timeout"])
def test_the_tighter_bound_ends_operations_whose_server_falls_silent(bound: str, way: str) -> None:
    timeout, seconds = (TIGHT, LOOSE) if bound == "operation_timeout" else (LOOSE, TIGHT)
    with (
        RedisServer() as server,
        RedisBackend(host=HOST, port=server.port, operation_timeout=timeout, retry_after=0) as backend,
    ):

        async def main() -> None:
            await use_all(backend.aping, lambda method, args: getattr(backend, f"a{method}")(*args))
            await backend.aclose()

        async def use_all(ping: Callable[[], Any], use: Callable[[str, Any], Any]) -> None:
            for method, args in CALLS.items():
                with contextlib.suppress(BackendError):  # it may take longer on a busy machine
                    await given(ping())
                server.pause()
                try:
                    began = time.monotonic()
                    with pytest.raises(BackendError), deadline(seconds):
                        await given(use(method, args))
                    assert time.monotonic() - began < LOOSE / 2
                finally:
                    server.resume()

        if way == "awaited":
            asyncio.run(main())
            return

        def called(method: str, args: Any) -> Any:
            return getattr(backend, method)(*args)

        run_blocking(use_all(backend.ping, called))


async def given(result: Any) -> Any:
    """Return what a call has returned, or await what it has to."""
    return await result if asyncio.iscoroutine(result) else result


# -- the circuit breaker ---------------------------------------------------------------------------------


class Silent:
    """A server that accepts connections, and closes them, says nothing or answers as a Redis server does."""

    def __init__(self) -> None:
        self.received = 0
        self.closes = self.speaks = False

    def serve(self, connection: socket.socket) -> None:
        while not self.closes and (data := connection.recv(1 << 16)):
            self.received += 1
            if self.speaks:
                count = data.count(b"*")
                connection.sendall(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n" * count)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_sent_to_a_server_that_is_left_alone(way: str) -> None:
    silent = Silent()
    with (
        ScriptedServer(silent.serve) as server,
        RedisBackend(host=HOST, port=server.port, protocol=2, operation_timeout=0.5, retry_after=LOOSE) as backend,
    ):
        with pytest.raises(BackendError):
            call(way, backend, "get", "k")
        (breaker,) = backend.breakers()
        assert breaker.reason is not None
        assert breaker.failures == 1
        figures = server.accepted, silent.received
        for _ in range(20):
            for other_way in WAYS:
                for method, args in CALLS.items():
                    with pytest.raises(BackendError, match="left alone") as caught:
                        call(other_way, backend, method, *args)
                    assert not caught.value.maybe_applied
        assert (server.accepted, silent.received) == figures
        silent.speaks = True

        def answers() -> bool:
            backend.retry_failed_servers()
            with contextlib.suppress(BackendError):  # on a busy machine that takes longer than it may
                return bool(call(way, backend, "ping"))
            return False

        wait_until("the server is used again", answers)
        assert server.accepted > figures[0]
        assert backend.breakers()[0].reason is None


def test_one_of_many_threads_tries_a_server_that_was_left_alone() -> None:
    silent = Silent()
    options: Any = {"protocol": 2, "operation_timeout": 10, "socket_connect_timeout": 0.5, "retry_after": LOOSE}
    with (
        ScriptedServer(silent.serve) as server,
        RedisBackend(host=HOST, port=server.port, **options) as backend,
    ):
        with pytest.raises(BackendError):
            backend.get("k")
        for count in (2, 3):
            backend.retry_failed_servers()
            failures: list[BackendError] = []

            def work(number: int, failures: list[BackendError] = failures) -> None:
                with pytest.raises(BackendError) as caught:
                    backend.get("k")
                failures.append(caught.value)

            in_threads(16, work)
            assert len(failures) == 16
            assert server.accepted == count
            # That somebody keeps its errors keeps nobody from trying again.


def test_a_fork_while_a_server_is_tried_leaves_the_child_its_own_try() -> None:
    silent = Silent()
    with (
        ScriptedServer(silent.serve) as server,
        RedisBackend(host=HOST, port=server.port, protocol=2, operation_timeout=LOOSE, retry_after=LOOSE) as backend,
    ):
        silent.closes = True
        with pytest.raises(BackendError):
            backend.get("k")
        assert backend.breakers()[0].reason is not None
        backend.retry_failed_servers()
        silent.closes = False
        before = server.accepted

        def work() -> None:
            with contextlib.suppress(BackendError):
                backend.get("k")

        thread = threading.Thread(target=work)
        thread.start()
        wait_until("the server is tried", lambda: server.accepted == before + 1)
        wait = fork_and_check(lambda: backend.ping() is True)
        silent.speaks = True
        wait()
        server.drop()
        thread.join()
