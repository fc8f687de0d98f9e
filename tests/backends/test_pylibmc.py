"""memcached through a client of pylibmc that was passed in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pylibmc
import pytest
from children import fork_and_check
from lifetimes import left_of
from servers import HOST, MemcachedServer

from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.types import KEEP_TTL

# From Python 3.13 on, making a client says on stderr what pylibmc used to ignore in silence.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in PyMapping_HasKeyString:pytest.PytestUnraisableExceptionWarning"
)

BATCH = {f"key:{i}": b"%d" % i for i in range(1200)}


@pytest.fixture(params=["text", "binary"])
def client(request: pytest.FixtureRequest, memcached_server: MemcachedServer) -> Iterator[Any]:
    client = pylibmc.Client([f"{HOST}:{memcached_server.port}"], binary=request.param == "binary")
    yield client
    client.disconnect_all()


@pytest.fixture
def backend(client: Any, memcached_backend: MemcachedBackend) -> Iterator[MemcachedBackend]:
    with MemcachedBackend(client=client) as backend:
        yield backend


def test_the_client_and_our_own_connections_find_the_same_rows(
    backend: MemcachedBackend, memcached_backend: MemcachedBackend, client: Any
) -> None:
    rows = {**BATCH, "é": "text", "number": 12}
    assert backend.set_many(rows, ttl=9000) == dict.fromkeys(rows, True)
    assert memcached_backend.get_many(*rows) == backend.get_many(*rows)
    assert memcached_backend.ttl("é") in left_of(9000, early=1)
    assert backend.get_many("number", "absent", "é") == [b"12", None, b"text"]
    memcached_backend.set("theirs", b"\x00\xff")
    assert backend.get("theirs") == b"\x00\xff"
    client.set("number", 13)
    assert backend.get("number") == b"13"
    assert repr(backend).endswith("(pylibmc)>")


def test_conditions_are_kept(backend: MemcachedBackend) -> None:
    assert backend.add_many({"a": b"1"}) == {"a": True}
    assert backend.add_many({"a": b"2", "b": b"2"}) == {"a": False, "b": True}
    outcome = backend.replace_many({"a": b"3", "c": b"3"})
    assert (outcome, outcome.reasons) == ({"a": True, "c": False}, {})
    assert backend.get_many("a", "b", "c") == [b"3", b"2", None]
    assert backend.has("a")
    assert not backend.has("c")
    assert backend.delete("a") is True
    assert backend.delete("a") is False
    assert backend.set_many({}) == {}


def test_what_is_too_large_is_refused_and_the_rest_is_stored(backend: MemcachedBackend) -> None:
    outcome = backend.set_many({"a": b"1", "large": b"x" * 1_500_000, "b": b"2"})
    assert outcome == {"a": True, "large": False, "b": True}
    assert "TooBig" in outcome.reasons["large"]
    assert backend.get_many("a", "b") == [b"1", b"2"]


def test_counters_go_both_ways(backend: MemcachedBackend, memcached_backend: MemcachedBackend) -> None:
    assert backend.incr("n", 5, ttl=5000) == 5
    assert backend.incr("n", 5, ttl=9000) == 10
    assert memcached_backend.ttl("n") in left_of(5000, early=1)
    assert backend.decr("n") == 9
    assert backend.get("n") == b"9"
    assert backend.decr("n", 20) == -11
    assert backend.incr("n", 20) == 9
    assert backend.incr("n", 0) == 9
    backend.set("text", b"many")
    with pytest.raises(BackendError, match="text: cannot count"):
        backend.incr("text")
    backend.set("full", (1 << 63) - 1)
    with pytest.raises(BackendError, match="64-bit"):
        backend.incr("full")


def test_no_count_is_lost_under_threads(backend: MemcachedBackend) -> None:
    def work(step: int) -> None:
        for _ in range(50):
            backend.incr("n", step)

    threads = [threading.Thread(target=work, args=(step,)) for step in (2, -1, 2, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.get("n") == b"100"


class Client:
    """A client that a test has its hands in; what it compares and sets with is a clone of it.

    Args:
        inner: does what is not overridden.
        swapping: given as its clone; a real one unless given.
    """

    def __init__(self, inner: Any, swapping: Any = None) -> None:
        self.inner = inner
        self.swapping = swapping
        self.clones = self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def clone(self) -> Any:
        self.clones += 1
        return self.inner.clone() if self.swapping is None else self.swapping

    def get(self, key: str) -> Any:
        self.reads += 1
        return self.inner.get(key)


@pytest.mark.usefixtures("backend")
def test_a_lost_race_is_run_again(client: Any) -> None:
    real = client.clone()
    real.behaviors = {"cas": True}
    answers = iter([(None, None), (b"9", 1), (b"9", 1)])

    class Racing:
        def gets(self, key: str) -> Any:
            return next(answers, None) or real.gets(key)

        def get(self, key: str) -> None:
            return None

        def cas(self, key: str, value: bytes, token: int, time: int) -> bool:
            if token == 1:
                raise pylibmc.NotFound
            return bool(real.cas(key, value, token, time=time))

    class Losing(Racing):
        def gets(self, key: str) -> Any:
            return b"9", 1

    client.set("n", b"9")
    assert MemcachedBackend(client=Client(client, Racing())).decr("n") == 8
    losing = MemcachedBackend(client=Client(client, Losing()))
    with pytest.raises(BackendError, match="1000 times in a row"):
        losing.decr("n")
    if client.binary:
        with pytest.raises(BackendError, match="1000 times in a row"):
            losing.touch("n", 50)
    real.disconnect_all()


@pytest.mark.usefixtures("backend")
def test_a_counter_that_vanishes_in_between_starts_again(client: Any) -> None:
    class Vanishing(Client):
        def get(self, key: str) -> bytes:
            return b"5"

        def incr(self, key: str, delta: int) -> int:
            raise pylibmc.NotFound

    with MemcachedBackend(client=Vanishing(client)) as backend:
        assert backend.incr("n") == 1


def test_lifetimes_can_be_set_but_not_told(backend: MemcachedBackend, memcached_backend: MemcachedBackend) -> None:
    backend.set("a", b"1", ttl=365 * 86400)
    assert memcached_backend.ttl("a") in left_of(365 * 86400, early=2, late=2)
    assert backend.touch("a", 7000) is True
    assert memcached_backend.ttl("a") in left_of(7000, early=1)
    assert backend.get("a") == b"1"
    assert backend.touch("absent", 7000) is False
    with pytest.raises(NotImplementedError, match="does not tell lifetimes"):
        backend.ttl("a")
    with pytest.raises(NotImplementedError, match="does not tell lifetimes"):
        backend.replace("a", b"", KEEP_TTL)


def test_keys_are_checked_before_the_client_sees_them(backend: MemcachedBackend) -> None:
    with pytest.raises(InvalidKeyError):
        backend.set_many({"good": b"", "a\r\nflush_all": b""})
    assert backend.get("good") is None


def test_the_server_can_be_asked_and_emptied(backend: MemcachedBackend) -> None:
    backend.set_many(BATCH)
    assert backend.ping() is True
    assert backend.stats()["entries"] >= len(BATCH)
    assert backend.delete_many(*BATCH) is True
    assert backend.delete_many("key:1", "key:2") is False
    backend.set("k", b"v")
    backend.clear(everything=True)
    assert backend.get("k") is None


def test_a_client_that_was_passed_in_stays_open(backend: MemcachedBackend, client: Any) -> None:
    backend.decr("n")
    backend.close()
    backend.close()
    client.set("k", b"v")
    assert backend.get("k") == b"v"


def test_a_server_that_is_gone_is_an_error() -> None:
    with MemcachedServer() as server:
        client = pylibmc.Client([f"{HOST}:{server.port}"])
        backend = MemcachedBackend(client=client)
        backend.set("k", b"v")
        server.kill()
        with pytest.raises(BackendError, match=r"\(pylibmc\): ") as caught:
            backend.set("k", b"v")
        assert caught.value.maybe_applied is True
        with pytest.raises(BackendError) as caught:
            backend.get("k")
        assert caught.value.maybe_applied is False
        assert isinstance(caught.value.__cause__, pylibmc.Error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_works_on_a_clone(backend: MemcachedBackend, client: Any) -> None:
    backend.set_many(BATCH)
    watched = Client(client)
    backend = MemcachedBackend(client=watched)
    assert backend.get("key:1") == b"1"

    def use() -> bool:
        good = all(backend.get(f"key:{i}") == b"%d" % i for i in range(200))
        return good and (watched.clones, watched.reads) == (1, 1)

    wait = fork_and_check(use)
    assert all(backend.get(f"key:{i}") == b"%d" % i for i in range(200, 400))
    wait()
    assert watched.clones == 0
