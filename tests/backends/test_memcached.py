"""What memcached adds to the contract of a backend: its limits, its connections, and what happens when they break."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amounts import enough
from children import fork_and_check
from clusters import wait_until
from faults import Proxy, ScriptedServer, say
from interrupting import ctrl_c_after
from lifetimes import left_of
from observing import in_use, open_connections
from servers import HOST, MemcachedServer

from cacheorm.backends.memcached import MemcachedBackend
from cacheorm.errors import BackendError, InvalidKeyError
from cacheorm.types import KEEP_TTL, PoolState

BATCH = {f"key:{i}": b"%d" % i for i in range(2500)}
YEAR = 365 * 24 * 3600

# Seconds to wait for what does not come. Whatever does come is there far sooner, on a busy machine as well.
SHORT = 2


@pytest.fixture
def backend(memcached_backend: MemcachedBackend) -> MemcachedBackend:
    return memcached_backend


@pytest.fixture
def proxy(memcached_server: MemcachedServer) -> Iterator[Proxy]:
    with Proxy(memcached_server.port) as proxy:
        yield proxy


@pytest.fixture
def shaky(proxy: Proxy, backend: MemcachedBackend) -> Iterator[MemcachedBackend]:
    """A backend that reaches the server through the proxy."""
    with MemcachedBackend([(HOST, proxy.port)], timeout=60) as shaky:
        yield shaky


# -- how it is made --------------------------------------------------------------------------------------


def test_making_a_backend_connects_to_nothing() -> None:
    with Proxy(1) as proxy, MemcachedBackend([(HOST, proxy.port)]):
        assert proxy.accepted == 0


@pytest.mark.parametrize(
    ("servers", "where"),
    [
        ([("cache", 11211)], "cache:11211"),
        ((["cache", "11212"],), "cache:11212"),
        (["cache:11213"], "cache:11213"),
        ("cache:11213", "cache:11213"),
        (["cache"], "cache:11211"),
        (["[::1]:11214"], "[::1]:11214"),
        (["[::1]"], "[::1]:11211"),
        ("/run/memcached.sock", "/run/memcached.sock"),
    ],
)
def test_a_server_is_named_in_several_ways(servers: Any, where: str) -> None:
    assert repr(MemcachedBackend(servers)) == f"<MemcachedBackend memcached at {where}>"


@pytest.mark.parametrize("server", ["cache:port", ("cache", 0), ("cache", 70_000), ("", 11211), (1, 2), 5, "", ("a",)])
def test_what_is_no_address_is_an_error(server: Any) -> None:
    with pytest.raises(ValueError, match="expected a"):
        MemcachedBackend([server])


def test_servers_that_are_none_or_the_same_are_an_error() -> None:
    with pytest.raises(ValueError, match="takes 1 to 255 servers, got 0"):
        MemcachedBackend([])
    with pytest.raises(ValueError, match="memcached at a:1 is given twice"):
        MemcachedBackend(["a:1", "b:1", ("a", 1, 2)])
    for server in ("a:1:0", ("a", 1, -1), "a:1:x", ("a", 1, 70_000), "a:1:"):
        with pytest.raises(ValueError, match="expected a weight from 1 to 65535"):
            MemcachedBackend([server])


def test_a_pool_without_connections_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        MemcachedBackend(max_connections=0)


def test_a_unix_socket_works() -> None:
    with MemcachedServer(unix=True) as server:
        with MemcachedBackend([server.address]) as backend:
            assert backend.set_many(BATCH) == dict.fromkeys(BATCH, True)
            assert backend.get_many(*BATCH) == list(BATCH.values())
        server.kill()
        with MemcachedBackend(server.path) as backend, pytest.raises(BackendError, match="cannot connect"):
            backend.get("k")


def test_a_closed_backend_opens_again(backend: MemcachedBackend) -> None:
    backend.set("k", b"v")
    backend.close()
    backend.close()
    assert backend.get("k") == b"v"


# -- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["", "a b", "a\r\nflush_all\r\n", "a\nb", "a\0b", "a\tb", "a\x7fb", "x" * 251, "é" * 126, "\ud800", b"bytes", 7],
)
def test_keys_that_would_run_commands_are_refused_before_anything_is_sent(key: Any) -> None:
    with say(b"ERROR\r\n") as server, MemcachedBackend([(HOST, server.port)]) as backend:
        calls = [
            lambda: backend.get(key),
            lambda: backend.has(key),
            lambda: backend.set(key, b""),
            lambda: backend.replace(key, b"", KEEP_TTL),
            lambda: backend.add(key, b""),
            lambda: backend.delete(key),
            lambda: backend.incr(key),
            lambda: backend.decr(key),
            lambda: backend.touch(key),
            lambda: backend.ttl(key),
            lambda: backend.check_key(key),
            lambda: backend.get_many(*BATCH, key),
            lambda: backend.get_dict(key),
            lambda: list(backend.get_chunks([*BATCH, key])),
            lambda: backend.set_many({**BATCH, key: b""}),
            lambda: backend.replace_many({**BATCH, key: b""}),
            lambda: backend.add_many({**BATCH, key: b""}),
            lambda: backend.delete_many(*BATCH, key),
        ]
        for call in calls:
            with pytest.raises(InvalidKeyError):
                call()
        assert server.accepted == 0


def test_a_key_with_a_line_break_swaps_nobodys_rows(backend: MemcachedBackend) -> None:
    backend.set_many({"a": b"Ada", "b": b"Bob"})
    with pytest.raises(InvalidKeyError):
        backend.get_many("a", "x\r\nmg b k v q", "b")
    assert backend.get_many("a", "b") == [b"Ada", b"Bob"]


def test_the_longest_keys_and_unicode_keys_work(backend: MemcachedBackend) -> None:
    rows = {"x" * 250: b"1", "é" * 125: b"2", "キー": b"3", "\x80": b"4", "b k v q".replace(" ", "_"): b"5"}
    assert all(backend.set_many(rows).values())
    assert backend.get_dict(*rows) == rows
    assert [backend.get(key) for key in rows] == list(rows.values())
    assert backend.delete_many(*rows) is True


# -- batches ---------------------------------------------------------------------------------------------


def test_a_batch_of_reads_is_one_request(memcached_server: MemcachedServer, proxy: Proxy) -> None:
    with MemcachedBackend([(HOST, proxy.port)]) as backend:
        backend.get_many(*[f"k{i}" for i in range(250)])
        assert proxy.requests.count(b"mn\r\n") == 1
        assert proxy.accepted == 1


def test_a_large_batch_is_read_in_parts_that_arrive_one_by_one(backend: MemcachedBackend) -> None:
    backend.set_many(BATCH)
    chunks = list(backend.get_chunks([*BATCH, "absent"]))
    # Whole parts of 250 keys, as many as have arrived; no more than four are asked for at first.
    assert all(len(chunk) % 250 == 0 for chunk in chunks[:-1])
    assert len(chunks[0]) <= 1000
    assert [value for chunk in chunks for value in chunk] == [*BATCH.values(), None]
    assert list(backend.get_chunks(["key:1", "absent"])) == [[b"1", None]]


def test_a_batch_of_large_values_is_read_in_smaller_parts(proxy: Proxy, shaky: MemcachedBackend) -> None:
    shaky.set("large", b"x" * 20_000)
    proxy.requests.clear()
    keys = ["large"] * 1200
    assert {len(value or b"") for chunk in shaky.get_chunks(keys) for value in chunk} == {20_000}
    # The first four requests are sent before any reply has come: the others ask for a million bytes each.
    asked = bytes(proxy.requests).split(b"mn\r\n")[:-1]
    assert [request.count(b"large") for request in asked] == [250] * 4 + [52] * 3 + [44]


@pytest.mark.no_cover
def test_a_great_many_rows_pass() -> None:
    rows = {f"row:{i}": b"%d" % i for i in range(enough(100_000))}
    with MemcachedServer() as server, MemcachedBackend([server.address]) as backend:
        assert all(backend.set_many(rows).values())
        assert backend.get_many(*rows) == list(rows.values())
        assert backend.delete_many(*rows) is True


def test_full_buffers_on_both_sides_do_not_wait_for_each_other() -> None:
    # The server stops reading while it cannot get rid of hundreds of megabytes of values, and the requests for
    # them are more than a socket holds.
    with MemcachedServer("-m", "1024") as server, MemcachedBackend([server.address], timeout=60) as backend:
        rows = {f"{i}:" + "k" * 240: b"%d" % i * 300_000 for i in range(60)}
        assert all(backend.set_many(rows).values())
        keys = [key for _ in range(10) for key in rows]
        assert backend.get_many(*keys) == [rows[key] for key in keys]
        refusals = {f"{i}:" + "k" * 240: b"x" * 1_500_000 for i in range(60)}
        outcome = backend.set_many(refusals)
        assert not any(outcome.values())
        assert len(outcome.reasons) == 60
        assert backend.ping()


def test_what_is_too_large_is_refused_and_the_rest_is_stored(backend: MemcachedBackend) -> None:
    rows = {"a": b"1", "large": b"x" * 1_500_000, "b": b"2", "huge": b"y" * 6_000_000, "c": b"3"}
    outcome = backend.set_many(rows)
    assert outcome == {"a": True, "large": False, "b": True, "huge": False, "c": True}
    assert outcome.reasons == dict.fromkeys(["large", "huge"], "SERVER_ERROR object too large for cache")
    assert backend.get_many("a", "large", "b", "huge", "c") == [b"1", None, b"2", None, b"3"]
    with pytest.raises(BackendError, match="key large: SERVER_ERROR object too large") as caught:
        backend.set("large", rows["large"])
    assert caught.value.maybe_applied is False
    assert backend.get("c") == b"3"


def test_a_full_server_that_may_not_evict_says_so_row_by_row() -> None:
    with MemcachedServer("-M", "-m", "2") as server, MemcachedBackend([server.address]) as backend:
        rows = {f"k{i}": b"%d" % (i % 10) * 100_000 for i in range(64)}
        outcome = backend.set_many(rows)
        refused = [key for key, stored in outcome.items() if not stored]
        assert refused
        assert list(outcome.reasons) == refused
        assert "out of memory" in outcome.reasons[refused[0]]
        stored = [key for key, stored in outcome.items() if stored]
        assert backend.get_many(*stored) == [rows[key] for key in stored]


def test_conditions_that_are_not_met_are_no_refusals(backend: MemcachedBackend) -> None:
    backend.set("a", b"1")
    outcome = backend.add_many({"a": b"2", "b": b"2"})
    assert (outcome, outcome.reasons) == ({"a": False, "b": True}, {})
    outcome = backend.replace_many({"a": b"3", "c": b"3"})
    assert (outcome, outcome.reasons) == ({"a": True, "c": False}, {})


def test_a_bad_value_anywhere_in_a_batch_stores_nothing(backend: MemcachedBackend) -> None:
    with pytest.raises(TypeError, match="last"):
        backend.set_many({**BATCH, "last": None})
    assert backend.get("key:1") is None


# -- lifetimes -------------------------------------------------------------------------------------------


def test_lifetimes_beyond_thirty_days_are_kept(backend: MemcachedBackend) -> None:
    for seconds in (30 * 86400, 30 * 86400 + 1, YEAR):
        backend.set("k", b"v", ttl=seconds)
        backend.incr("count", ttl=seconds)
        backend.add("added", b"", ttl=seconds)
        for key in ("k", "count", "added"):
            assert backend.ttl(key) in left_of(seconds, early=2, late=2)
            assert backend.touch(key, seconds)
            assert backend.ttl(key) in left_of(seconds, early=2, late=2)
            assert backend.delete(key)


def test_lifetimes_beyond_memcacheds_clock_are_an_error_and_no_silent_loss(backend: MemcachedBackend) -> None:
    for call in (
        lambda: backend.set("k", b"v", ttl=50 * YEAR),
        lambda: backend.set_many({"k": b"v"}, ttl=50 * YEAR),
        lambda: backend.touch("k", 50 * YEAR),
        lambda: backend.incr("k", ttl=50 * YEAR),
    ):
        with pytest.raises(ValueError, match="2038"):
            call()


def test_a_kept_lifetime_does_not_move(backend: MemcachedBackend) -> None:
    backend.set_many({"a": b"0", "b": b"0", "untouched": b"0"}, ttl=3600)
    backend.set("for-ever", b"0", ttl=0)
    backend.incr("count", -1, ttl=3600)
    rounds = 0
    # By the server's clock, which ticks in whole seconds.
    while rounds < 2 or (backend.ttl("untouched") or 0) > 3600 - 4:
        assert backend.replace("a", b"%d" % rounds, KEEP_TTL)
        assert backend.replace_many({"b": b"", "for-ever": b"", "absent": b""}, KEEP_TTL) == {
            "b": True,
            "for-ever": True,
            "absent": False,
        }
        backend.decr("count")
        rounds += 1
    for key in ("a", "b", "count"):
        most, left, least = [backend.ttl(each) or 0 for each in ("untouched", key, "untouched")]
        assert least - 1 <= left <= most + 1, key
    assert backend.ttl("for-ever") == 0


def test_an_entry_that_changes_all_the_time_is_given_up(
    proxy: Proxy, shaky: MemcachedBackend, backend: MemcachedBackend
) -> None:
    backend.set_many({"a": b"0", "b": b"-1"})

    def meddle(request: bytes) -> None:
        if request.startswith(b"ms "):  # what is written depends on what was read before
            backend.set_many({"a": b"-1", "b": b"-1"})

    proxy.before_request = meddle
    outcome = shaky.replace_many({"a": b"1", "absent": b""}, KEEP_TTL)
    assert outcome["a"] is False
    assert "1000 times in a row" in outcome.reasons["a"]
    with pytest.raises(BackendError, match="1000 times in a row"):
        shaky.decr("b")


def test_a_racing_writer_is_not_overwritten(proxy: Proxy, shaky: MemcachedBackend, backend: MemcachedBackend) -> None:
    backend.set_many({"a": b"0", "gone": b"0"}, ttl=5000)
    writes = 0

    def meddle(request: bytes) -> None:
        nonlocal writes
        if request.startswith(b"ms "):
            writes += 1
            if writes == 1:
                backend.set("a", b"theirs", ttl=9000)
                backend.delete("gone")

    proxy.before_request = meddle
    assert shaky.replace_many({"a": b"ours", "gone": b"ours"}, KEEP_TTL) == {"a": True, "gone": False}
    assert writes == 2
    assert backend.get_many("a", "gone") == [b"ours", None]
    assert backend.ttl("a") in left_of(9000, early=1), "the second look saw the lifetime that they had given"


# -- counters --------------------------------------------------------------------------------------------


def test_counters_shrink_without_leaving_spaces(backend: MemcachedBackend) -> None:
    backend.set("n", 100)
    assert backend.decr("n") == 99
    assert backend.get("n") == b"99"
    assert backend.decr("n", 100) == -1
    assert backend.incr("n", 11) == 10
    assert backend.get("n") == b"10"


def test_counters_keep_to_64_bits(backend: MemcachedBackend) -> None:
    backend.set("n", (1 << 63) - 2)
    assert backend.incr("n") == (1 << 63) - 1
    with pytest.raises(BackendError, match="64-bit"):
        backend.incr("n", 5)
    assert backend.get("n") == b"%d" % ((1 << 63) - 1)
    backend.set("n", -(1 << 63))
    with pytest.raises(BackendError, match="64-bit"):
        backend.decr("n")
    with pytest.raises(BackendError, match="64-bit"):
        backend.incr("new", 1 << 63)
    assert backend.get("new") is None


def test_taking_a_step_back_stops_where_the_counter_is_gone(
    proxy: Proxy, shaky: MemcachedBackend, backend: MemcachedBackend
) -> None:
    def meddle(request: bytes) -> None:
        if request.startswith(b"stats"):  # the look that precedes the step back
            backend.delete("n")

    backend.set("n", (1 << 63) - 1)
    proxy.before_request = meddle
    with pytest.raises(BackendError, match="64-bit"):
        shaky.incr("n", 5)
    assert backend.get("n") is None


def test_what_is_no_number_cannot_be_counted(backend: MemcachedBackend) -> None:
    backend.set("text", b"many")
    for step in (1, -1):
        with pytest.raises(BackendError, match="text: cannot count, the entry is not an integer"):
            backend.incr("text", step)
    assert backend.get("text") == b"many"


def test_counts_below_zero_are_not_lost_under_threads(backend: MemcachedBackend) -> None:
    def work(step: int) -> None:
        for _ in range(100):
            backend.incr("n", step)

    threads = [threading.Thread(target=work, args=(step,)) for step in (-3, 1, -3, 1, -3, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.get("n") == b"-600"


# -- what the server says --------------------------------------------------------------------------------


def test_an_old_server_is_recognised() -> None:
    with say(b"ERROR\r\n") as server, MemcachedBackend([(HOST, server.port)]) as backend:
        for call in (
            lambda: backend.get("k"),
            backend.ping,
            lambda: backend.incr("k"),
            lambda: backend.decr("k"),
            lambda: backend.delete("k"),
            lambda: backend.clear(everything=True),
            backend.stats,
            lambda: backend.replace("k", b"", KEEP_TTL),
            lambda: backend.get_many("k"),
        ):
            with pytest.raises(BackendError):
                call()
        with pytest.raises(BackendError, match=r"key k: ERROR \(memcached 1\.6 or later is needed\)"):
            backend.get("k")


@pytest.mark.parametrize(
    "reply",
    [
        b"VA 5 kother\r\nvalue\r\nMN\r\n",
        b"VA 5 kb\r\nvalue\r\nVA 5 ka\r\nvalue\r\nMN\r\n",
        b"VA 5 ka\r\nvalue, and more\r\nMN\r\n",
        b"HD\r\nMN\r\n",
        b"\x00\xff" * 5000,
    ],
)
def test_replies_that_do_not_fit_the_request_cost_the_connection(reply: bytes) -> None:
    with say(reply) as server, MemcachedBackend([(HOST, server.port)]) as backend:
        for _ in range(2):
            with pytest.raises(BackendError, match=f"^memcached at {HOST}:{server.port}: ") as caught:
                backend.get_many("a", "b")
            assert caught.value.maybe_applied is False
        assert server.accepted == 2


def test_more_than_was_asked_for_costs_the_connection() -> None:
    reply = b"VA 5 ka\r\nvalue\r\nMN\r\nMN\r\n"
    with say(reply) as server, MemcachedBackend([(HOST, server.port)]) as backend:
        for _ in range(2):
            assert backend.get_many("a", "b") == [b"value", None]
        assert server.accepted == 2


def test_a_reply_without_what_was_asked_for_is_an_error() -> None:
    for reply in (b"HD\r\n", b"HD tsoon\r\n"):
        with (
            say(reply) as server,
            MemcachedBackend([(HOST, server.port)]) as backend,
            pytest.raises(BackendError, match="without the flag t"),
        ):
            backend.ttl("k")


def test_a_refusal_in_place_of_a_lifetime_is_told() -> None:
    busy = b"SERVER_ERROR busy\r\n"
    answers = iter([b"STAT time 5\r\nEND\r\n" + busy, b"STAT time 5\r\nEND\r\n" + busy * 2])

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(next(answers))

    with ScriptedServer(script) as server, MemcachedBackend([(HOST, server.port)]) as backend:
        outcome = backend.replace_many({"k": b""}, KEEP_TTL)
        assert outcome == {"k": False}
        assert outcome.reasons == {"k": "SERVER_ERROR busy"}
        with pytest.raises(BackendError, match="key k: SERVER_ERROR busy"):
            backend.decr("k")


def test_a_refusal_of_the_write_that_follows_a_read_is_told() -> None:
    answers = iter([b"STAT time 5\r\nEND\r\nEN\r\nEN\r\n", b"SERVER_ERROR busy\r\n"])

    def script(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            connection.sendall(next(answers))

    with (
        ScriptedServer(script) as server,
        MemcachedBackend([(HOST, server.port)]) as backend,
        pytest.raises(BackendError, match="key k: SERVER_ERROR busy"),
    ):
        backend.decr("k")


def test_an_old_value_beside_a_new_cas_is_not_counted_on() -> None:
    """memcached answers so when it counts while it answers; the swap would undo that count."""
    figures = b"STAT time 5\r\nEND\r\n"
    torn = b"VA 2 c6 t-1\r\n10\r\nVA 2 c6 t-1\r\n11\r\n"
    whole = b"VA 2 c6 t-1\r\n11\r\nVA 2 c6 t-1\r\n11\r\n"
    answers = iter([figures + torn, figures + whole, b"HD\r\n"])
    asked: list[bytes] = []

    def script(connection: socket.socket) -> None:
        while request := connection.recv(1 << 16):
            asked.append(request)
            connection.sendall(next(answers))

    with ScriptedServer(script) as server, MemcachedBackend([(HOST, server.port)]) as backend:
        assert backend.decr("k") == 10
    assert b" C6 " in asked[2]


# -- connections that break ------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_an_error_and_nothing_was_written() -> None:
    with MemcachedBackend([(HOST, 1)], retry_after=0) as backend:
        for call in (lambda: backend.get("k"), lambda: backend.set_many({"k": b""}), lambda: backend.incr("k")):
            with pytest.raises(BackendError, match=f"^memcached at {HOST}:1: cannot connect") as caught:
                call()
            assert caught.value.maybe_applied is False
            assert isinstance(caught.value.__cause__, OSError)


def test_a_restarted_server_is_found_again() -> None:
    with MemcachedServer() as server, MemcachedBackend([server.address]) as backend:
        backend.set("k", b"v")
        server.restart()
        assert backend.get("k") is None
        server.restart()
        assert backend.set("k", b"w")
        assert backend.get("k") == b"w"


def write_until_it_breaks(backend: MemcachedBackend, rows: dict[str, bytes]) -> None:
    for _ in range(1000):
        backend.set_many(rows)


def test_a_server_killed_in_mid_batch_leaves_typed_errors_and_recovers() -> None:
    rows = {f"k{i}": b"x" * 500 for i in range(30_000)}
    with MemcachedServer() as server, MemcachedBackend([server.address]) as backend:
        backend.ping()
        killer = threading.Timer(0.03, server.kill)
        killer.start()
        with pytest.raises(BackendError) as caught:
            write_until_it_breaks(backend, rows)
        killer.join()
        # Cut off within a batch, or refused at the next connection.
        assert caught.value.maybe_applied or "cannot connect" in str(caught.value)
        server.start()
        backend.retry_failed_servers()
        assert all(backend.set_many(rows).values())
        assert backend.get_many(*rows) == list(rows.values())


def test_a_read_on_a_stale_connection_is_repeated_once(proxy: Proxy, shaky: MemcachedBackend) -> None:
    shaky.set_many(BATCH)
    proxy.once = True
    for call, expected in (
        (lambda: shaky.get("key:3"), b"3"),
        (lambda: shaky.get_many("key:1", "key:2"), [b"1", b"2"]),
        (lambda: sum(map(len, shaky.get_chunks(list(BATCH)))), len(BATCH)),
        (lambda: shaky.has("key:1"), True),
    ):
        proxy.cut_after = 0
        before = proxy.accepted
        assert call() == expected
        assert proxy.accepted == before + 1
    proxy.once = False
    for call in (lambda: shaky.get("key:3"), lambda: list(shaky.get_chunks(list(BATCH)))):
        proxy.cut_after = 0
        before = proxy.accepted
        with pytest.raises(BackendError, match=r"closed the connection|reset|Broken pipe") as caught:
            call()
        assert caught.value.maybe_applied is False
        assert proxy.accepted - before <= 2


def test_a_write_is_never_sent_twice(proxy: Proxy, shaky: MemcachedBackend) -> None:
    for call in (
        lambda: shaky.set("once", b"v"),
        lambda: shaky.set_many({"once": b"v", "x": b""}),
        lambda: shaky.incr("once"),
        lambda: shaky.delete("once"),
        lambda: shaky.touch("once"),
    ):
        proxy.cut_after = None
        shaky.ping()
        proxy.requests.clear()
        proxy.cut_after = 0
        with pytest.raises(BackendError) as caught:
            call()
        assert caught.value.maybe_applied is True
        assert "may have been applied" in str(caught.value)
        assert proxy.requests.count(b"once") == 1


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 3999, 4000, 4001, 9_999])
def test_replies_cut_off_anywhere_never_reach_the_next_caller(cut: int, proxy: Proxy, shaky: MemcachedBackend) -> None:
    shaky.ping()
    proxy.cut_after = cut
    with pytest.raises(BackendError):
        shaky.set_many(BATCH)
    proxy.cut_after = None
    shaky.set_many(BATCH)
    proxy.cut_after = cut
    with pytest.raises(BackendError) as caught:
        shaky.get_many(*BATCH)
    assert caught.value.maybe_applied is False
    proxy.cut_after = None
    assert shaky.get("key:9") == b"9"
    assert shaky.get_many("key:1", "key:2") == [b"1", b"2"]


def test_a_silent_server_is_given_up_after_the_timeout(proxy: Proxy) -> None:
    with MemcachedBackend([(HOST, proxy.port)], timeout=SHORT, retry_after=0) as backend:
        backend.set_many(BATCH)
        proxy.hang = True
        proxy.cut_after = 0
        with pytest.raises(BackendError, match="no answer in time") as caught:
            backend.set("k", b"v")
        assert caught.value.maybe_applied is True
        assert isinstance(caught.value.__cause__, TimeoutError)
        proxy.cut_after = None
        backend.ping()
        proxy.cut_after = 0
        before = proxy.accepted
        with pytest.raises(BackendError, match="no answer") as caught:
            backend.get("k")
        assert caught.value.maybe_applied is False
        assert proxy.accepted == before, "a timeout is no stale connection: the read is not repeated"
        proxy.cut_after = None
        assert backend.get("key:4") == b"4"


@pytest.mark.parametrize(
    ("call", "after"),
    [
        (lambda backend: backend.set_many(BATCH), 0),
        (lambda backend: backend.set_many(BATCH), 1),
        (lambda backend: backend.set_many(BATCH), 6001),
        (lambda backend: backend.get("key:1"), 0),
        (lambda backend: backend.get("key:1"), 3),
        (lambda backend: backend.get_many(*BATCH), 0),
        (lambda backend: backend.get_many(*BATCH), 1),
        (lambda backend: backend.get_many(*BATCH), 6001),
        (lambda backend: backend.decr("count"), 0),
        (lambda backend: backend.decr("count"), 700),
    ],
)
def test_ctrl_c_while_replies_are_due_costs_the_connection(
    call: Callable[[MemcachedBackend], Any], after: int, proxy: Proxy, shaky: MemcachedBackend
) -> None:
    shaky.set_many(BATCH)
    proxy.cut_after, proxy.hang = after, True
    with pytest.raises(KeyboardInterrupt), ctrl_c_after(proxy.silent):
        call(shaky)
    proxy.cut_after = None
    assert in_use(shaky) == [0]
    assert shaky.get("key:8") == b"8"
    assert shaky.get_many("key:1", "absent", "key:3") == [b"1", None, b"3"]
    assert proxy.accepted == 2


def test_an_abandoned_read_leaves_nothing_for_the_next(backend: MemcachedBackend) -> None:
    backend.set_many(BATCH)
    chunks = backend.get_chunks(list(BATCH))
    next(chunks)
    assert in_use(backend) == [1]
    chunks.close()
    assert backend.get("key:5") == b"5"
    assert in_use(backend) == [0]


# -- the pool --------------------------------------------------------------------------------------------


def test_one_connection_serves_one_thread(proxy: Proxy, shaky: MemcachedBackend) -> None:
    shaky.ping()
    shaky.set_many(BATCH)
    shaky.get_many(*BATCH)
    shaky.incr("n", -1)
    shaky.delete("n")
    assert proxy.accepted == 1


def test_threads_share_a_bounded_pool_without_mixing_replies(proxy: Proxy) -> None:
    wrong: list[Any] = []
    with MemcachedBackend([(HOST, proxy.port)], max_connections=3, timeout=60) as backend:
        backend.clear(everything=True)
        backend.set_many(BATCH)

        def work(number: int) -> None:
            for i in range(50):
                key = f"key:{(number * 50 + i) % 2500}"
                if backend.get_many(key, "absent") != [BATCH[key], None] or backend.get(key) != BATCH[key]:
                    wrong.append(key)
                backend.incr("count")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert backend.get("count") == b"800"
        assert proxy.accepted <= 3


def test_a_backend_that_nobody_closes_goes_quietly(memcached_server: MemcachedServer) -> None:
    backend = MemcachedBackend([memcached_server.address])
    backend.set("k", b"v")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del backend
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_a_full_pool_says_so_after_the_timeout(memcached_server: MemcachedServer) -> None:
    with MemcachedBackend([memcached_server.address], max_connections=1, timeout=SHORT) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        with pytest.raises(BackendError, match="all 1 connections stayed in use; raise max_conn") as caught:
            backend.set("k", b"")
        assert caught.value.maybe_applied is False
        chunks.close()
        assert backend.get("key:1") == b"1"


def test_a_waiting_thread_gets_the_connection_that_is_given_back(memcached_server: MemcachedServer) -> None:
    with MemcachedBackend([memcached_server.address], max_connections=1) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(backend.get("key:3")))
        thread.start()
        wait_until("the thread waits for the connection", lambda: backend.pools()[0].waiting == 1)
        assert found == []
        list(chunks)
        thread.join()
        assert found == [b"3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_makes_its_own_connections(backend: MemcachedBackend) -> None:
    backend.set_many(BATCH)
    chunks = backend.get_chunks(list(BATCH))
    first = next(chunks)

    def use() -> bool:
        # The connection in use is the parent's: giving it back must not bring it into the child's pool.
        chunks.close()
        good = all(backend.get(f"key:{i}") == b"%d" % i for i in range(200))
        return good and in_use(backend) == [0]

    wait = fork_and_check(use)
    assert all(backend.get(f"key:{i}") == b"%d" % i for i in range(200, 400))
    wait()
    assert [value for chunk in (first, *chunks) for value in chunk] == list(BATCH.values())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_keeps_no_connection_of_its_parent_open() -> None:
    with MemcachedServer() as server, MemcachedBackend([server.address]) as backend:
        backend.set_many(BATCH)
        chunks = backend.get_chunks(list(BATCH))
        next(chunks)
        backend.get("key:1")  # over a second connection, which is idle when the child begins
        assert backend.pools() == [PoolState(backend.pools()[0].server, 64, 1, 1, 0)]
        told, tell = os.pipe()

        def child() -> bool:
            os.close(tell)
            chunks.close()
            good = backend.get("key:2") == b"2"
            os.read(told, 1)  # until the parent has looked
            return good

        wait = fork_and_check(child)
        wait_until("the child has a connection of its own", lambda: open_connections(server) == 3)
        chunks.close()
        backend.close()
        # A copy in the child would keep them open.
        wait_until("the parent's connections are closed", lambda: open_connections(server) == 1)
        os.close(tell)
        wait()
        os.close(told)


WITHOUT_POLL = """
import select, sys
del select.poll
from cacheorm.backends.memcached import MemcachedBackend
with MemcachedBackend([("127.0.0.1", int(sys.argv[1]))]) as backend:
    rows = {f"k{i}": b"x" * 100_000 for i in range(100)}
    assert all(backend.set_many(rows).values())
    assert backend.get_many(*rows) == list(rows.values())
    assert backend.delete_many(*rows)
"""


def test_without_poll_select_does(memcached_server: MemcachedServer) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_POLL, str(memcached_server.port)], check=True)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="the system has no poll")
def test_wakeups_without_data_are_no_answers(
    memcached_server: MemcachedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = select.poll
    early = 0

    class Early:
        """A poll of which every other call says at once that there is something to read."""

        def __init__(self) -> None:
            self.poll_ = real()
            self.numbers: list[int] = []
            self.calls = 0

        def register(self, source: Any, events: int) -> None:
            self.numbers.append(source)
            self.poll_.register(source, events)

        def modify(self, source: Any, events: int) -> None:
            self.poll_.modify(source, events)

        def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
            nonlocal early
            self.calls += 1
            if self.calls % 2 and timeout:
                early += 1
                return [(self.numbers[0], select.POLLIN)]
            return self.poll_.poll(timeout)

    monkeypatch.setattr(select, "poll", Early)
    with MemcachedBackend([memcached_server.address]) as backend:
        for i in range(4):
            backend.set("k", i)
            assert backend.get("k") == b"%d" % i
    assert early


@pytest.mark.parametrize("count", [1, 2])
def test_a_backend_that_nobody_closed_goes_quietly(count: int) -> None:
    """Also as part of a cycle, as models are; a warning would be an error here."""
    wrong: list[Any] = []

    def leave_behind(servers: list[MemcachedServer]) -> None:
        backend = MemcachedBackend([(HOST, server.port) for server in servers])
        assert backend.set_many({str(i): b"v" for i in range(20)})
        assert [open_connections(server) for server in servers] == [1] * count
        cycle: list[Any] = [backend]
        cycle.append(cycle)

    gc.collect()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(MemcachedServer("-m", "64", "-t", "1")) for _ in range(count)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", wrong.append)
            leave_behind(servers)
            gc.collect()
        assert wrong == []
        wait_until("they are closed", lambda: not any(open_connections(server) for server in servers))
