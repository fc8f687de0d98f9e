"""Replies of a server that says what a test wants, in any pieces; and pushes, which may come between them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from faults import Proxy, ScriptedServer
from interrupting import ctrl_c_after
from observing import in_use
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, RedisServer

from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError

BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}
PUSH = b">2\r\n$4\r\nnews\r\n$5\r\nfresh\r\n"


class Piecewise:
    """A socket that gives a first piece of what has arrived, and the rest when it is read again.

    Args:
        source: the socket.
        line: says how long the piece is.
    """

    def __init__(self, source: socket.socket, line: Line) -> None:
        self.source = source
        self.line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        piece = self.line.take_piece()
        return self.source.recv_into(buffer, size if piece is None else min(piece, len(memoryview(buffer))))


class Line:
    """A backend whose server says what the test tells it to, over connections that give it in pieces.

    Args:
        protocol: the version of the protocol; with the third one, servers push messages.
        options: of the connections.

    Attributes:
        reply: what each request is answered with, once so many have come as it has to answer.
        requests: how many that are.
        piece: how many bytes the next read from a socket gives; ``None`` for all that there are.
    """

    def __init__(self, protocol: int, **options: Any) -> None:
        self.protocol = protocol
        self.null = b"$-1\r\n" if protocol == 2 else b"_\r\n"
        self.values = b"*3\r\n$1\r\na\r\n" + self.null + b"$2\r\nbc\r\n"
        self.reply = b""
        self.requests = 1
        self.piece: int | None = None
        line = self

        class Connection(redis.Connection):
            def _connect(self) -> Any:
                return Piecewise(super()._connect(), line)

        def greet(connection: Any) -> None:
            connection._parser.on_connect(connection)

        self.server = ScriptedServer(self.answer)
        pool = redis.ConnectionPool(
            connection_class=Connection,
            host=HOST,
            port=self.server.port,
            protocol=protocol,
            redis_connect_func=greet,
            retry=Retry(NoBackoff(), 0),
            **{"socket_timeout": 60} | options,
        )
        self.client = redis.Redis(connection_pool=pool)
        self.backend = RedisBackend(client=self.client, retry_after=0)

    def take_piece(self) -> int | None:
        piece, self.piece = self.piece, None
        return piece

    def answer(self, connection: socket.socket) -> None:
        asked = b""
        while data := connection.recv(1 << 16):
            asked += data
            if asked.count(b"MGET") + asked.count(b"SET") >= self.requests:
                asked = b""
                connection.sendall(self.reply)
                if not self.reply.endswith(b"\r\n"):
                    return

    def close(self) -> None:
        self.backend.close()
        self.server.close()


@pytest.fixture(params=[2, 3])
def protocol(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture
def line(protocol: int) -> Iterator[Line]:
    line = Line(protocol)
    yield line
    line.close()


def test_values_come_whole_from_any_pieces(line: Line) -> None:
    line.reply = line.values
    for size in range(1, len(line.values)):
        line.piece = size
        assert line.backend.get_many("x", "y", "z") == [b"a", None, b"bc"]
        assert line.piece is None
    assert line.server.accepted == 1


def test_refusals_among_statuses_keep_their_places_and_words(line: Line) -> None:
    line.reply = b"+OK\r\n" + line.null + b"-OOM too much\r\n+OK\r\n-ERR no\r\n"
    line.requests = 5
    for size in range(1, len(line.reply)):
        line.piece = size
        outcome: Any = line.backend.set_many(dict.fromkeys("abcde", b""))
        assert list(outcome.values()) == [True, False, False, True, False]
        assert list(outcome.reasons) == ["c", "e"]
        assert "too much" in outcome.reasons["c"]
        assert outcome.reasons["e"] == "no"
    assert line.server.accepted == 1


def test_a_refused_read_raises_what_the_driver_raises(line: Line) -> None:
    line.reply = b"-NOPERM not you\r\n"
    with pytest.raises(BackendError, match="not you") as caught:
        line.backend.get_many("x", "y", "z")
    assert isinstance(caught.value.__cause__, redis.exceptions.NoPermissionError)


@pytest.mark.parametrize("protocol", [3], indirect=True)
def test_what_the_server_pushes_between_replies_is_nobodys_reply(line: Line) -> None:
    keys = [str(i) for i in range(1000)]
    line.reply = (PUSH + b"*500\r\n" + b"$1\r\na\r\n" * 500) * 2
    line.requests = 2
    # Around each message, and elsewhere now and then.
    for size in [*range(1, 50), *range(50, 3500, 97), *range(3500, 3600), *range(3600, len(line.reply), 97)]:
        line.piece = size
        assert line.backend.get_many(*keys) == [b"a"] * 1000
    assert line.server.accepted == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_what_follows_the_last_reply_is_nobodys_reply(at_once: bool, line: Line) -> None:
    line.reply = line.values + b"*3\r\n" + b"$5\r\nwrong\r\n" * 3
    for _ in range(3):
        line.piece = None if at_once else len(line.values)
        assert line.backend.get_many("x", "y", "z") == [b"a", None, b"bc"]
    assert line.server.accepted == 3


@pytest.mark.parametrize("protocol", [3], indirect=True)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_pushed_after_the_last_reply_is_nobodys_reply(at_once: bool, line: Line) -> None:
    line.reply = line.values + PUSH
    for _ in range(3):
        line.piece = None if at_once else len(line.values)
        assert line.backend.get_many("x", "y", "z") == [b"a", None, b"bc"]


def test_a_server_that_falls_silent_is_a_timeout(protocol: int) -> None:
    line = Line(protocol, socket_timeout=1)
    line.requests = 1000
    try:
        with pytest.raises(BackendError, match="no answer in time") as caught:
            line.backend.get_many("x", "y", "z")
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert line.server.accepted == 1, "a timeout is no stale connection: the read is not repeated"
    finally:
        line.close()


@pytest.mark.parametrize("sent", [0, 5])
def test_a_server_that_leaves_is_a_connection_error(sent: int, line: Line) -> None:
    line.reply = line.values[:sent]
    with pytest.raises(BackendError, match=r"losed|reset") as caught:
        line.backend.get_many("x", "y", "z")
    assert isinstance(caught.value.__cause__, OSError)
    assert line.server.accepted == 1, "only a connection that was idle before is a stale one"


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
            assert Watched.seen == 2500 + 3


# -- with a real server, in both versions of the protocol ---------------------------------------------------


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def plain(protocol: int, proxy: Proxy) -> Iterator[RedisBackend]:
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 60, "retry_after": 0}
    with RedisBackend(host=HOST, port=proxy.port, protocol=protocol, **options) as backend:
        backend.clear(everything=True)
        yield backend


def test_batches_are_the_same_in_both_versions(plain: RedisBackend) -> None:
    assert plain.set_many(BATCH) == dict.fromkeys(BATCH, True)
    assert plain.add_many({"key:1": b"", "new": b"\xff"}) == {"key:1": False, "new": True}
    assert plain.get_many(*BATCH, "absent", "new") == [*BATCH.values(), None, b"\xff"]
    large = {f"large:{i}": bytes([i]) * 1_000_000 for i in range(20)}
    assert all(plain.set_many(large).values())
    assert plain.get_many(*large) == list(large.values())


@pytest.mark.parametrize("after", [0, 1, 9001])
@pytest.mark.parametrize("call", [lambda b: b.set_many(BATCH), lambda b: b.get_many(*BATCH)], ids=["write", "read"])
def test_ctrl_c_while_replies_are_due_costs_the_connection(
    call: Callable[[RedisBackend], Any], after: int, plain: RedisBackend, proxy: Proxy
) -> None:
    plain.set_many(BATCH)
    before = proxy.accepted
    proxy.cut_after, proxy.hang = after, True
    with pytest.raises(KeyboardInterrupt), ctrl_c_after(proxy.silent):
        call(plain)
    proxy.cut_after = None
    assert in_use(plain) == [0]
    assert plain.get("key:8") == b"8"
    assert plain.get_many("key:1", "absent", "key:3") == [b"1", None, b"3"]
    assert proxy.accepted == before + 1


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


def test_replies_that_make_no_sense_cost_the_connection(line: Line) -> None:
    line.reply = line.values
    for count in (1, 2):
        with pytest.raises(BackendError, match="expected 2 values, got 3") as caught:
            line.backend.get_many("a", "b")
        assert caught.value.maybe_applied is False
        assert in_use(line.backend) == [0]
        assert line.server.accepted == count
