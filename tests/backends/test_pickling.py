"""Backends pickle as what they were made with."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lifetimes import Clock

import cacheorm as co

if TYPE_CHECKING:
    from servers import RedisServer


class Smallest(co.BaseBackend):
    """Does not call ``__init__`` of its base, and has state that no process can share."""

    def __init__(self, name: str, *others: str, size: int = 3, **options: Any) -> None:
        self.given = (name, others, size, options)
        self.state = (number for number in range(size))


def test_a_subclass_pickles_as_its_arguments() -> None:
    backend = Smallest("a", "b", "c", size=5, more=[1, 2])
    next(backend.state)
    for made in (pickle.loads(pickle.dumps(backend)), copy.copy(backend), copy.deepcopy(backend)):
        assert type(made) is Smallest
        assert made is not backend
        assert made.given == ("a", ("b", "c"), 5, {"more": [1, 2]})
        assert next(made.state) == 0


def test_a_file_pickles_as_its_options(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path, 60, busy_timeout=2, operation_timeout=5) as backend:
        backend.set("a", 1)
        with pickle.loads(pickle.dumps(backend)) as made:
            assert (made.path, made.default_ttl, made.operation_timeout) == (str(tmp_path), 60, 5)
            assert made.get("a") == b"1"


def test_memory_pickles_as_its_options_and_begins_empty() -> None:
    backend = co.SimpleBackend(7, default_ttl=60, max_bytes=1000)
    backend.set("a", 1)
    made = pickle.loads(pickle.dumps(backend))
    assert (made.threshold, made.default_ttl, made.max_bytes) == (7, 60, 1000)
    assert made.get("a") is None
    made.set("b", 1)
    assert backend.get_many("a", "b") == [b"1", None]


def test_a_backend_of_a_url_pickles(tmp_path: Path) -> None:
    for url in ("memory://?threshold=5", f"file://{tmp_path}?busy_timeout=2"):
        made = pickle.loads(pickle.dumps(co.backend_from_url(url)))
        assert made.set("a", 1) is True
        made.close()


def test_backends_over_a_network_pickle_as_their_options(redis_server: RedisServer) -> None:
    url = f"redis://localhost:{redis_server.port}/3?on_failure=miss"
    for backend in (
        co.RedisBackend(port=redis_server.port, db=3),
        co.RedisBackend.from_url(url, default_ttl=60, socket_timeout=7),
        co.backend_from_url(url),
        co.MemcachedBackend([("localhost", 11211)], timeout=2),
        co.backend_from_url("redis+cluster://h1,h2"),
        co.backend_from_url("redis+sentinel://h1,h2/service"),
    ):
        made = pickle.loads(pickle.dumps(backend))
        assert type(made) is type(backend)
        assert repr(made) == repr(backend)
        assert (made.default_ttl, made.operation_timeout) == (backend.default_ttl, backend.operation_timeout)
    assert co.backend_from_url(url).set("a", 1) is True
    assert pickle.loads(pickle.dumps(co.backend_from_url(url))).get("a") == b"1"


def test_a_client_that_was_passed_in_does_not_pickle() -> None:
    import redis

    with pytest.raises(TypeError, match="cannot pickle this RedisBackend, because its argument client"):
        pickle.dumps(co.RedisBackend(client=redis.Redis()))


def test_an_argument_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    for backend in (
        co.SimpleBackend(clock=lambda: 0.0),
        co.FileSystemBackend(tmp_path, clock=lambda: 0.0),
        Smallest("secret", size=5, clock=lambda: 0.0),
    ):
        name = "options" if isinstance(backend, Smallest) else "clock"
        with pytest.raises(
            TypeError, match=f"cannot pickle this {type(backend).__name__}, .*argument {name} "
        ) as caught:
            pickle.dumps(backend)
        assert "secret" not in str(caught.value)
    assert pickle.loads(pickle.dumps(co.SimpleBackend(clock=Clock()))).get("a") is None


def test_another_process_uses_the_same_file(tmp_path: Path) -> None:
    with co.FileSystemBackend(tmp_path) as backend:
        backend.incr("count")
        program = "import pickle, sys; pickle.load(sys.stdin.buffer).incr('count')"
        subprocess.run([sys.executable, "-c", program], input=pickle.dumps(backend), check=True)
        assert backend.get("count") == b"2"
