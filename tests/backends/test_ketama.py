"""The ring is libmemcached's: asked of the library itself, and shown with real clients on real servers."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from typing import Any

import pytest
from amounts import enough
from faults import say
from rings import owners_by_pylibmc, pylibmc_client
from servers import HOST, MemcachedServer, free_port

from cacheorm.backends.memcached import MemcachedBackend

# From Python 3.13 on, making a client says on stderr what pylibmc used to ignore in silence.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in PyMapping_HasKeyString:pytest.PytestUnraisableExceptionWarning"
)

DISTRIBUTIONS = ("ketama", "ketama_weighted")
KEYS = [f"m:user:id:{i}" for i in range(enough(100_000, 10_000))]
SOME = [*KEYS[:3000], *[f"ключ:{i}" for i in range(500)], *[f"é{i}" for i in range(500)]]


def owners(servers: list[Any], distribution: str, keys: list[str]) -> bytes:
    """Return the place of the server that a backend would ask for each key."""
    return places(MemcachedBackend(servers, distribution=distribution), keys)


def places(backend: MemcachedBackend, keys: list[str]) -> bytes:
    known = {state.server: place for place, state in enumerate(backend.pools())}
    return bytes([known[name] for name in backend.servers_of(*keys)])


@pytest.mark.no_cover
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weights"])
@pytest.mark.parametrize("count", range(1, 11))
def test_keys_lie_where_libmemcached_has_them(count: int, weighted: bool, distribution: str) -> None:
    chance = random.Random(count)
    # The first one weighs more than 1: libmemcached 1.0.16 writes past the end of its ring where only later ones do.
    servers: list[Any] = [
        (f"10.0.0.{i}", 11211 + i % 3, chance.randrange(2, 20) if weighted else 1) for i in range(count)
    ]
    client = pylibmc_client(servers, distribution)
    assert owners(servers, distribution, KEYS) == owners_by_pylibmc(client, KEYS)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(
    "servers",
    [
        [("cache", 11211, 1), ("cache", 11212, 1), ("Cache", 11211, 1)],
        [("::1", 11211, 1), ("::1", 11212, 1), ("fe80::1", 7, 1)],
        ["/run/a.sock", "/run/b.sock", "/run/c.sock"],
        [("a", 1, 3), ("b", 1, 1), ("c", 1, 1), ("d", 1, 1000), ("e", 1, 65535)],
    ],
)
def test_names_of_every_kind_and_keys_of_any_language_lie_there_too(servers: list[Any], distribution: str) -> None:
    client = pylibmc_client(servers, distribution)
    assert owners(servers, distribution, SOME) == owners_by_pylibmc(client, SOME)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weights"])
def test_without_some_servers_the_ring_is_that_of_the_others(weighted: bool, distribution: str) -> None:
    with contextlib.ExitStack() as stack:
        answering = [stack.enter_context(say(b"EN\r\n")) for _ in range(6)]
        for live in ([0, 1, 2, 4, 5], [1, 3], [5]):
            ports = [answering[i].port if i in live else free_port() for i in range(6)]
            servers: list[Any] = [(HOST, port, i + 2 if weighted else 1) for i, port in enumerate(ports)]
            backend = MemcachedBackend(
                servers, distribution=distribution, on_failure="eject", retry_after=3600, timeout=60
            )
            for dead in {0, 1, 2, 3, 4, 5} - {*live}:
                if backend.breakers()[dead].reason is None:
                    backend.get(SOME[places(backend, SOME).index(dead)])
            assert [i for i, breaker in enumerate(backend.breakers()) if breaker.reason is None] == live
            theirs = owners_by_pylibmc(pylibmc_client([servers[i] for i in live], distribution), SOME)
            assert places(backend, SOME) == bytes([live[i] for i in theirs])
            backend.close()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_weights_are_shares_of_the_keys(distribution: str) -> None:
    shares = Counter(owners([("a", 1, 1), ("b", 1, 2), ("c", 1, 5)], distribution, KEYS))
    for server, weight in enumerate((1, 2, 5)):
        # A share is as exact as its points are many: 60, 120 and 300 here, so some 13 % of a share at worst, doubled.
        assert shares[server] / len(KEYS) == pytest.approx(weight / 8, rel=0.3)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_server_that_is_added_takes_its_share_and_moves_no_other_key(count: int, distribution: str) -> None:
    servers: list[Any] = [(f"10.0.0.{i}", 11211) for i in range(count + 1)]
    before, after = owners(servers[:-1], distribution, KEYS), owners(servers, distribution, KEYS)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {count}, "what moves, moves to the new one"
    # Its share is 1 of count + 1, give or take what the chance of its 100 or 160 points makes of it: the standard
    # deviation of such a share is about a tenth of it, and three of them are allowed.
    assert len(moved) / len(KEYS) <= 1.3 / (count + 1)
    assert len(moved) / len(KEYS) <= 1 / count


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [2, 3, 6, 10])
def test_over_all_servers_that_may_be_the_added_one_exactly_a_share_moves(count: int, distribution: str) -> None:
    servers: list[Any] = [(f"10.0.0.{i}", 11211) for i in range(count)]
    after = owners(servers, distribution, KEYS)
    moved = []
    for added in range(count):
        others = [i for i in range(count) if i != added]
        before = owners([servers[i] for i in others], distribution, KEYS)
        moved.append(sum(others[old] != new for old, new in zip(before, after, strict=True)))
    assert sum(moved) / count == len(KEYS) / count


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_what_either_client_writes_the_other_finds_on_ten_servers(distribution: str) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(10)]
        for count in (3, 10):
            addresses = [(HOST, server.port, 1 + (i + 1) % 2) for i, server in enumerate(servers[:count])]
            client = pylibmc_client(addresses, distribution)
            backend = stack.enter_context(MemcachedBackend(addresses, distribution=distribution))
            ours = {key: f"ours {key}".encode() for key in KEYS[:5000]}
            assert all(backend.set_many(ours).values())
            assert client.get_multi(list(ours)) == ours
            theirs = {key: f"theirs {key}".encode() for key in KEYS[5000:7000]}
            assert client.set_multi(theirs) == []
            assert backend.get_many(*theirs) == list(theirs.values())
            held = [MemcachedBackend([(HOST, port)]).stats()["entries"] for _, port, _ in addresses]
            assert sum(held) == 7000, "each entry is on one server, and none on two"
            backend.clear(everything=True)
