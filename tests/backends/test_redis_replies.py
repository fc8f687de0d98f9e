"""Replies that are read past redis-py's parser, and those that are given back to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import redis
from faults import Proxy, say
from redis import _parsers
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, RedisServer

from cacheorm.backends._driving import run_blocking
from cacheorm.backends._redis.blocking import BlockingLink
from cacheorm.backends._redis.replies import Replies
from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError

BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}
PARSERS = [_parsers._HiredisParser, _parsers._RESP2Parser, _parsers._RESP3Parser]
PUSH = b">2\r\n$4\r\nnews\r\n$5\r\nfresh\r\n"


class Blocking(Replies):
    """Replies whose methods are called as a backend's synchronous methods call them."""

    def values(self, count: int) -> list[bytes | None]:
        return run_blocking(self.read_values(count))

    def statuses(self, statuses: list[Any], count: int) -> None:
        run_blocking(self.read_statuses(statuses, count))


class Wire:
    """A connection of redis-py whose server is the test."""

    def __init__(self, parser: type) -> None:
        protocol = 2 if parser is _parsers._RESP2Parser else 3
        self.null = b"$-1\r\n" if protocol == 2 else b"_\r\n"
        self.values = b"*3\r\n$1\r\na\r\n" + self.null + b"$2\r\nbc\r\n"
        self.connection = redis.Connection(protocol=protocol, parser_class=parser, socket_timeout=0.2)
        self.server, self.connection._sock = socket.socketpair()
        self.connection._sock.settimeout(0.2)
        self.connection._parser.on_connect(self.connection)
        self.pushed: list[Any] = []
        # Otherwise it is logged. The second name is that of older versions.
        self.connection._parser.pubsub_push_handler_func = self.pushed.append
        self.connection._parser.push_handler_func = self.pushed.append

    def replies(self) -> Blocking:
        return Blocking(BlockingLink(self.connection, True, None), [])

    def close(self) -> None:
        self.server.close()
        self.connection.disconnect()


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def line(request: pytest.FixtureRequest) -> Iterator[Wire]:
    line = Wire(request.param)
    yield line
    line.close()


def in_pieces(line: Wire, data: bytes, cuts: list[int], read: Callable[[], Any]) -> Any:
    """Read while the bytes arrive piece by piece: the next one when the one before was taken off the socket."""
    pieces = iter([data[begin:end] for begin, end in pairwise([0, *cuts, len(data)]) if begin < end])
    source = line.connection._sock

    class Slow:
        """The socket, which gets something to read whenever it is read from."""

        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def recv_into(self, *args: Any) -> int:
            line.server.sendall(next(pieces, b""))
            return int(source.recv_into(*args))

        def recv(self, *args: Any) -> bytes:
            line.server.sendall(next(pieces, b""))
            return bytes(source.recv(*args))

    slow = Slow()
    line.connection._sock = line.connection._parser._sock = slow
    if isinstance(getattr(line.connection._parser, "_buffer", None), _parsers.socket.SocketBuffer):
        line.connection._parser._buffer._sock = slow
    return read()


def test_values_come_whole_from_any_pieces(line: Wire) -> None:
    for cut in range(1, len(line.values)):
        replies = line.replies()
        assert in_pieces(line, line.values, [cut], lambda replies=replies: replies.values(3)) == [
            b"a",
            None,
            b"bc",
        ]
        replies.finish()


def test_refusals_among_statuses_keep_their_places_and_classes(line: Wire) -> None:
    data = b"+OK\r\n" + line.null + b"-OOM too much\r\n+OK\r\n-ERR no\r\n"
    for cut in range(1, len(data)):
        replies = line.replies()
        statuses: list[Any] = []
        in_pieces(line, data, [cut], lambda replies=replies, found=statuses: replies.statuses(found, 5))
        replies.finish()
        assert statuses[:2] == [b"OK", None]
        assert [type(status) for status in statuses[2:]] == [
            redis.exceptions.OutOfMemoryError,
            bytes,
            redis.exceptions.ResponseError,
        ]
        assert str(statuses[4]) == "no"


def test_a_refused_read_raises_what_the_driver_raises(line: Wire) -> None:
    line.server.sendall(b"-NOPERM not you\r\n")
    with pytest.raises(redis.exceptions.NoPermissionError, match="not you"):
        line.replies().values(3)


def test_what_the_server_pushes_goes_to_the_drivers_parser(line: Wire) -> None:
    if isinstance(line.connection._parser, _parsers._RESP2Parser):
        pytest.skip("the second version of the protocol pushes nothing")
    data = (PUSH + line.values) * 2
    for cut in range(1, len(data), 3):
        line.pushed.clear()
        replies = line.replies()
        read = [
            in_pieces(line, data, [cut], lambda replies=replies: replies.values(3)),
            replies.values(3),
        ]
        replies.finish()
        assert read == [[b"a", None, b"bc"]] * 2
        assert line.pushed == [[b"news", b"fresh"]] * 2


def test_what_follows_the_last_reply_is_left_to_the_driver(line: Wire) -> None:
    replies = line.replies()
    line.server.sendall(line.values + b"+PONG\r\n")
    assert replies.values(3) == [b"a", None, b"bc"]
    replies.finish()
    assert line.connection.can_read()
    # Something is waiting there: the next exchange leaves everything to the driver.
    replies = line.replies()
    line.server.sendall(b"*1\r\n$1\r\nz\r\n")
    assert line.connection.read_response() == b"PONG"
    assert replies.values(1) == [b"z"]
    replies.finish()


def test_a_server_that_falls_silent_is_a_timeout(line: Wire) -> None:
    replies = line.replies()
    line.server.sendall(line.values[:-3])
    with pytest.raises(redis.TimeoutError, match="Timeout reading"):
        replies.values(3)


@pytest.mark.parametrize("sent", [0, 5])
def test_a_server_that_leaves_is_a_connection_error(sent: int, line: Wire) -> None:
    replies = line.replies()
    line.server.sendall(line.values[:sent])
    line.server.close()
    with pytest.raises(redis.ConnectionError, match=r"losed|reset"):
        replies.values(3)


def test_a_connection_that_another_thread_disconnects_is_a_connection_error(line: Wire) -> None:
    replies = line.replies()
    if replies._reader is None:
        pytest.skip("the driver reads by itself")
    line.connection.disconnect()
    with pytest.raises(redis.ConnectionError, match="losed"):
        replies.values(3)


def test_a_connection_that_somebody_has_changed_is_read_through_its_own_methods() -> None:
    class Watched(redis.Connection):
        seen = 0

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            type(self).seen += 1
            return super().read_response(*args, **kwargs)

    with RedisServer() as server:
        pool = redis.ConnectionPool(connection_class=Watched, host=HOST, port=server.port)
        with redis.Redis(connection_pool=pool) as client:
            backend = RedisBackend(client=client)
            backend.ping()
            Watched.seen = 0
            backend.set_many(BATCH)
            assert backend.get_many(*BATCH) == list(BATCH.values())
            assert Watched.seen == 2500 + 5


# -- with a real server, through a parser that is always passed by ----------------------------------------


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture(params=[2, 3])
def plain(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[RedisBackend]:
    """A backend without hiredis, in both versions of the protocol."""
    pool = redis.ConnectionPool(
        host=HOST,
        port=proxy.port,
        protocol=request.param,
        parser_class=_parsers._RESP2Parser,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=1,
    )
    with redis.Redis(connection_pool=pool) as client:
        backend = RedisBackend(client=client)
        backend.clear()
        yield backend


def test_batches_are_the_same_without_hiredis(plain: RedisBackend) -> None:
    assert plain.set_many(BATCH) == dict.fromkeys(BATCH, True)
    assert plain.add_many({"key:1": b"", "new": b"\xff"}) == {"key:1": False, "new": True}
    assert plain.get_many(*BATCH, "absent", "new") == [*BATCH.values(), None, b"\xff"]
    large = {f"large:{i}": bytes([i]) * 1_000_000 for i in range(20)}
    assert all(plain.set_many(large).values())
    assert plain.get_many(*large) == list(large.values())


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("call", [lambda b: b.set_many(BATCH), lambda b: b.get_many(*BATCH)], ids=["write", "read"])
def test_an_interrupt_between_two_receives_costs_the_connection(
    call: Callable[[RedisBackend], Any], after: int, plain: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.set_many(BATCH)
    real = Replies._go_on
    received = 0

    async def interrupted(self: Replies, reader: Any) -> None:
        nonlocal received
        received += 1
        if received > after:
            raise KeyboardInterrupt
        await real(self, reader)

    with monkeypatch.context() as patch:
        patch.setattr(Replies, "_go_on", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(plain)
    assert plain.get("key:8") == b"8"
    assert plain.get_many("key:1", "absent", "key:3") == [b"1", None, b"3"]
    plain.close()
    assert not plain.client.connection_pool._in_use_connections


@pytest.mark.parametrize("cut", [0, 1, 3, 5, 4999, 5000, 5001, 12_000])
def test_replies_cut_off_anywhere_are_errors(cut: int, plain: RedisBackend, proxy: Proxy) -> None:
    plain.set_many(BATCH)
    for call, maybe_applied in ((lambda: plain.set_many(BATCH), True), (lambda: plain.get_many(*BATCH), False)):
        proxy.cut_after = cut
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is maybe_applied
        proxy.cut_after = None
        assert plain.get_many("key:1", "key:2") == [b"1", b"2"]


def test_an_abandoned_read_leaves_nothing_behind(plain: RedisBackend) -> None:
    plain.set_many(BATCH)
    for count in range(1, 4):
        chunks = plain.get_chunks(list(BATCH))
        for _ in range(count):
            next(chunks)
        chunks.close()
        assert plain.get_many("key:5", "key:6") == [b"5", b"6"]


def test_replies_that_make_no_sense_are_errors(line: Wire) -> None:
    replies = line.replies()
    if replies._reader is None:
        pytest.skip("the driver reads by itself")
    line.server.sendall(line.values)
    with pytest.raises(ValueError, match="expected 2 values, got 3"):
        replies.values(2)


def test_replies_that_make_no_sense_cost_the_connection() -> None:
    with say(b"*3\r\n" + b"$1\r\na\r\n" * 3) as server:
        pool = redis.ConnectionPool(
            host=HOST,
            port=server.port,
            protocol=2,
            parser_class=_parsers._RESP2Parser,
            redis_connect_func=lambda connection: connection._parser.on_connect(connection),
        )
        with (
            redis.Redis(connection_pool=pool) as client,
            pytest.raises(BackendError, match="expected 2 values") as caught,
        ):
            RedisBackend(client=client).get_many("a", "b")
        assert caught.value.maybe_applied is False
        assert not pool._in_use_connections
        assert all(connection._sock is None for connection in pool._available_connections)
