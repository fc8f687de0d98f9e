"""A Redis Cluster while it changes: slots that move, nodes that fail, and requests that follow."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis.cluster
from amounts import enough
from children import fork_and_check
from clusters import ClusterNode, RedisCluster, wait_until
from faults import ScriptedServer
from loops import call
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import HOST, RedisServer

import cacheorm as co
from cacheorm._speedups import wire
from cacheorm.backends.redis import RedisBackend
from cacheorm.errors import BackendError
from cacheorm.testing._suite import in_threads

NEVER_RETRY = Retry(NoBackoff(), 0)
BATCH = {f"key:{i}": b"%d" % i for i in range(3000)}

# Seconds to wait for what does not come. Whatever does come is there far sooner, on a busy machine as well.
SHORT = 2
WAYS = ["called", "awaited"]


class Moved(co.Model):
    id = co.IntegerField(primary_key=True)
    version = co.IntegerField()
    text = co.StringField()


def row(number: int, version: int) -> dict[str, Any]:
    return {"id": number, "version": version, "text": f"row {number}"}


@pytest.fixture
def backend(redis_cluster: RedisCluster) -> Iterator[RedisBackend]:
    with RedisBackend.from_url(redis_cluster.url) as backend:
        backend.clear(everything=True)
        yield backend


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """A cluster to kill nodes of."""
    with RedisCluster() as cluster:
        yield cluster


def key_in(slot: int, number: int = 0) -> str:
    """Give one of many keys of a slot."""
    tag = next(i for i in range(1 << 20) if wire.key_slots([f"{{{i}}}"]) == [slot])
    return f"{{{tag}}}{number}"


class Moving:
    """A slot that has been half moved: some of its keys are here, the others there."""

    def __init__(self, cluster: RedisCluster, slot: int) -> None:
        self.cluster, self.slot = cluster, slot
        primaries = cluster.primaries()
        source = cluster.owner(slot)
        self.target = primaries[(primaries.index(source) + 1) % len(primaries)]
        self.source = source

    def __enter__(self) -> Moving:
        self.cluster.begin_move(self.slot, self.target)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.finish()
        self.cluster.move_slot(self.slot, self.source)

    def finish(self) -> None:
        while self.cluster.migrate_keys(self.slot, self.source, self.target, 100):
            pass
        self.cluster.finish_move(self.slot, self.source, self.target)


# -- batches -----------------------------------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("way", WAYS)
def test_a_batch_of_many_rows_comes_back_in_order(way: str, backend: RedisBackend) -> None:
    batch = {f"many:{i}": b"%d" % i for i in range(enough(100_000, 10_000))}
    assert all(call(way, backend, "set_many", batch).values())
    assert call(way, backend, "get_many", *batch, "absent") == [*batch.values(), None]
    chunks = list(backend.get_chunks(list(batch)))
    assert len(chunks) > 1
    assert [value for chunk in chunks for value in chunk] == list(batch.values())
    backend.clear(everything=True)
    assert backend.get_many("many:0", f"many:{len(batch) - 1}") == [None, None]


@pytest.mark.parametrize("way", WAYS)
def test_large_values_go_in_small_parts(way: str, backend: RedisBackend) -> None:
    large = {f"large:{i}": bytes([i]) * 700_000 for i in range(60)}
    assert all(call(way, backend, "set_many", large).values())
    assert call(way, backend, "get_many", *large) == list(large.values())
    one_slot = {f"{{tag}}{i}": bytes([i]) * 300_000 for i in range(40)}
    assert all(call(way, backend, "set_many", one_slot).values())
    assert call(way, backend, "get_many", *one_slot) == list(one_slot.values())
    backend.clear(everything=True)


def test_an_entry_that_is_no_string_reads_as_absent_in_a_batch(redis_cluster: RedisCluster, backend: Any) -> None:
    backend.set_many(BATCH)
    node = redis_cluster.owner(*wire.key_slots(["a list"]))
    node.ask("LPUSH", "a list", "x")
    assert backend.get_many("key:1", "a list", *BATCH) == [b"1", None, *BATCH.values()]
    with pytest.raises(BackendError, match=r"a list.*WRONGTYPE"):
        backend.get("a list")


@pytest.mark.parametrize("way", WAYS)
def test_commands_over_several_keys_are_divided_by_slot(way: str, backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    tokens = dict(zip(BATCH, backend.get_many_cas(*BATCH), strict=True))
    swaps = {key: (b"new", token[1]) for key, token in tokens.items() if token is not None}
    backend.set("key:7", b"changed")
    stored = call(way, backend, "compare_and_set_many", swaps)
    assert [key for key, done in stored.items() if not done] == ["key:7"]
    assert call(way, backend, "touch_many", ["key:1", "absent"], 60) == {"key:1": True, "absent": False}
    assert call(way, backend, "delete_many", *BATCH) is True
    assert call(way, backend, "delete_many", "key:1") is False
    assert [call(way, backend, "incr", "count", 3, 60) for _ in range(3)] == [3, 6, 9]


def test_an_abandoned_read_gives_its_connections_up(redis_cluster: RedisCluster) -> None:
    with RedisBackend.from_url(redis_cluster.url, max_connections=1) as backend:
        backend.set_many(BATCH)
        for count in range(1, 3):
            chunks: Any = backend.get_chunks(list(BATCH))
            for _ in range(count):
                next(chunks)
            chunks.close()
            assert backend.get_many("key:5", "key:6") == [b"5", b"6"]


# -- slots on their way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_keys_are_found_on_either_side_of_a_move(way: str, redis_cluster: RedisCluster, backend: RedisBackend) -> None:
    keys = [key_in(5000, i) for i in range(20)]
    backend.set_many(dict.fromkeys(keys, b"v"))
    with Moving(redis_cluster, 5000) as moving:
        # Half of them are there already, where they are found after ASKING only.
        assert redis_cluster.migrate_keys(5000, moving.source, moving.target, 10) == 10
        assert call(way, backend, "get_many", *keys, "key") == [b"v"] * 20 + [None]
        new = [key_in(5000, i) for i in range(20, 30)]
        assert call(way, backend, "set_many", dict.fromkeys(new, b"w")) == dict.fromkeys(new, True)
        assert call(way, backend, "add_many", {keys[0]: b"", keys[19]: b""}) == {keys[0]: False, keys[19]: False}
        assert call(way, backend, "get", new[0]) == b"w"
        # A transaction follows as a whole.
        assert call(way, backend, "incr", key_in(5000, 99), 5) == 5
        assert call(way, backend, "incr", key_in(5000, 99), 5) == 10
        assert call(way, backend, "get_many", *new, *keys) == [b"w"] * 10 + [b"v"] * 20
        moving.finish()
        assert call(way, backend, "get_many", *new, *keys) == [b"w"] * 10 + [b"v"] * 20
        assert call(way, backend, "incr", key_in(5000, 99), 5) == 15


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["get_many", "set_many", "incr"])
def test_requests_to_a_node_that_is_down_for_a_while_are_repeated(
    method: str, way: str, redis_cluster: RedisCluster, backend: RedisBackend
) -> None:
    backend.set_many(BATCH)
    arguments: dict[str, Any] = {"get_many": BATCH, "set_many": [BATCH], "incr": [key_in(6000)]}
    owner = redis_cluster.owner(6000)
    # A primary serves nothing while a slot is nobody's, as far as it knows.
    owner.ask("CLUSTER", "DELSLOTS", 6000)
    try:
        before = refused(owner, "CLUSTERDOWN")
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(call(way, backend, method, *arguments[method])))
        thread.start()
        wait_until("the server has said that it is down", lambda: refused(owner, "CLUSTERDOWN") > before)
    finally:
        owner.ask("CLUSTER", "ADDSLOTS", 6000)
    thread.join()
    assert results == [{"get_many": [*BATCH.values()], "set_many": dict.fromkeys(BATCH, True), "incr": 1}[method]]


def test_who_waits_too_long_for_a_node_that_is_down_is_told_which_keys(redis_cluster: RedisCluster) -> None:
    key = key_in(6000)
    owner = redis_cluster.owner(6000)
    with RedisBackend.from_url(f"{redis_cluster.url}?socket_timeout={SHORT}") as backend:
        backend.set(key, b"before")
        owner.ask("CLUSTER", "DELSLOTS", 6000)
        try:
            for act in (lambda: backend.get_many(key), lambda: backend.set(key, b"after")):
                with pytest.raises(BackendError, match=r"no answer in time, key .*: Hash slot not served") as caught:
                    act()
                assert key in str(caught.value)
                assert not caught.value.maybe_applied
        finally:
            owner.ask("CLUSTER", "ADDSLOTS", 6000)
        wait_until("the node serves again", lambda: owner.figures("CLUSTER INFO")["cluster_state"] == "ok")
        assert backend.get(key) == b"before"


@pytest.mark.parametrize("way", WAYS)
def test_a_command_over_keys_on_both_sides_waits_until_they_are_together(
    way: str, redis_cluster: RedisCluster, backend: RedisBackend
) -> None:
    keys = [key_in(6000, i) for i in range(20)]
    backend.set_many(dict.fromkeys(keys, b"v"))
    with Moving(redis_cluster, 6000) as moving:
        redis_cluster.migrate_keys(6000, moving.source, moving.target, 10)
        refusals = refused(moving.source, "TRYAGAIN")
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(call(way, backend, "delete_many", *keys)))
        thread.start()
        wait_until("the server has asked it to try again", lambda: refused(moving.source, "TRYAGAIN") > refusals)
        moving.finish()
        thread.join()
        assert results == [True]
    assert backend.get_many(*keys) == [None] * 20


def swallow(connection: socket.socket) -> None:
    """Take whatever is sent, and answer nothing."""
    while connection.recv(1 << 16):
        pass


def refused(node: ClusterNode, error: str) -> int:
    """Give how many commands a node has refused with such an error."""
    return int(node.figures("INFO errorstats").get(f"errorstat_{error}", "count=0").partition("=")[2])


def test_who_waits_too_long_for_keys_to_come_together_is_told_which(redis_cluster: RedisCluster) -> None:
    keys = [key_in(6000, i) for i in range(20)]
    with RedisBackend.from_url(redis_cluster.url, socket_timeout=SHORT) as backend:
        backend.set_many(dict.fromkeys(keys, b"v"))
        with Moving(redis_cluster, 6000) as moving:
            redis_cluster.migrate_keys(6000, moving.source, moving.target, 10)
            with pytest.raises(BackendError, match=r"no answer in time, key .*: Multiple keys request") as caught:
                backend.delete_many(*keys)
            assert keys[0] in str(caught.value)
            assert not caught.value.maybe_applied
        assert backend.get_many(*keys) == [b"v"] * 20


def test_redirections_without_end_are_an_error_that_names_some_keys(
    redis_cluster: RedisCluster, backend: RedisBackend
) -> None:
    backend.set_many(BATCH)
    first, second, *_ = redis_cluster.primaries()
    # Each of the two is taken for the other: whoever is named is the one who named it.
    other = {first.address: second.address, second.address: first.address}
    mine = [key for key in BATCH if redis_cluster.owner(*wire.key_slots([key])) is first]
    remap: Callable[[Any], Any] = lambda address: other.get(address, address)  # noqa: E731
    with RedisBackend.from_url(redis_cluster.url, address_remap=remap, socket_timeout=120) as astray:
        for act, maybe_applied in (
            (lambda: astray.get_many(*mine), False),
            (lambda: astray.set_many(dict.fromkeys(mine, b"x")), False),
            (lambda: astray.set_many(dict.fromkeys(BATCH, b"x")), True),
            (lambda: astray.incr(mine[0]), False),
        ):
            with pytest.raises(BackendError, match="redirected more than 5 times, key") as caught:
                act()
            assert any(key in str(caught.value) for key in mine)
            assert caught.value.maybe_applied is maybe_applied
            assert len(str(caught.value)) < 500
        before = refused(second, "MOVED")
        with pytest.raises(BackendError, match="redirected more than 5 times, key"):
            astray.get(mine[0])
        assert refused(second, "MOVED") - before == 6


class Traffic:
    """Rows that are written and read by several threads, each its own, and checked."""

    def __init__(self, backend: RedisBackend, writers: int, rows: int) -> None:
        self.backend = backend
        self.rows = rows
        self.writers = writers
        self.rounds = [0] * writers
        self.failures: list[BaseException] = []
        self.stop = threading.Event()

    def once(self, writer: int, version: int) -> None:
        first = writer * self.rows
        written = Moved.insert_many([row(first + i, version) for i in range(self.rows)]).execute()
        assert len(written) == self.rows
        order = random.Random(version).sample(range(self.rows), self.rows)
        found = Moved.query_many([{"id": first + i} for i in order]).execute()
        assert [(each.id, each.version) for each in found if each] == [(first + i, version) for i in order]

    async def aonce(self, writer: int, version: int) -> None:
        first = writer * self.rows
        await Moved.insert_many([row(first + i, version) for i in range(self.rows)]).aexecute()
        order = random.Random(version).sample(range(self.rows), self.rows)
        found = await Moved.query_many([{"id": first + i} for i in order]).aexecute()
        assert [(each.id, each.version) for each in found if each] == [(first + i, version) for i in order]

    def work(self, writer: int) -> None:
        try:
            while not self.stop.is_set():
                self.once(writer, self.rounds[writer])
                self.rounds[writer] += 1
        except BaseException as error:  # noqa: BLE001 - shown in the main thread
            self.failures.append(error)

    async def awork(self) -> None:
        async def one(writer: int) -> None:
            while not self.stop.is_set():
                await self.aonce(writer, self.rounds[writer])
                self.rounds[writer] += 1

        try:
            await asyncio.gather(*[one(writer) for writer in range(self.writers)])
        except BaseException as error:  # noqa: BLE001 - likewise
            self.failures.append(error)
        await self.backend.aclose()

    def run(self, way: str, meanwhile: Callable[[], bool]) -> None:
        """Go on while ``meanwhile`` runs in a process of its own."""
        wait = fork_and_check(meanwhile)
        threads = [threading.Thread(target=self.work, args=(writer,)) for writer in range(self.writers)]
        if way == "awaited":
            threads = [threading.Thread(target=lambda: asyncio.run(self.awork()))]
        for thread in threads:
            thread.start()
        try:
            wait()
            wait_until("each has done something", lambda: all(self.rounds) or bool(self.failures))
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        assert not self.failures, self.failures[0]


@pytest.mark.parametrize("way", WAYS)
def test_slots_move_and_no_row_is_wrong_lost_or_out_of_order(
    way: str, redis_cluster: RedisCluster, backend: RedisBackend
) -> None:
    used = {*wire.key_slots([Moved.key(id=i) for i in range(2 * 600)])}
    slots = random.Random(5).sample(sorted(used), enough(1000, 60, "slot moves") // 2)
    primaries = redis_cluster.primaries()
    homes = {slot: redis_cluster.owner(slot) for slot in slots}
    others = {slot: primaries[(primaries.index(home) + 1) % 3] for slot, home in homes.items()}

    def move() -> bool:
        redirected: set[str] = set()
        while redirected != {"ASK", "MOVED"}:
            for sources, targets in ((homes, others), (others, homes)):
                for target in primaries:
                    for slot in slots:
                        if targets[slot] is target:
                            redis_cluster.move_slot(slot, target, sources[slot])
                    redis_cluster.wait_until_agreed()
            redirected = moves(primaries)
        return True

    with co.bind([Moved], backend=backend, serializer="msgpack"):
        Traffic(backend, 2, 600).run(way, move)
    assert [redis_cluster.owner(slot) for slot in slots] == list(homes.values())


def moves(nodes: list[ClusterNode]) -> set[str]:
    """Give which redirections there have been."""
    figures = [node.figures("INFO errorstats") for node in nodes]
    return {name for name in ("ASK", "MOVED") if any(f"errorstat_{name}" in each for each in figures)}


def has_replicated(primary: ClusterNode) -> bool:
    """Tell whether the replica of a primary to which nothing is written at the moment has all that it has."""
    figures = primary.figures("INFO replication")
    told = dict(pair.split("=", 1) for pair in figures["slave0"].split(","))
    return told["state"] == "online" and told["offset"] == figures["master_repl_offset"]


# -- nodes that fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_reads_and_writes_outlast_a_primary_that_is_killed(way: str, own_cluster: RedisCluster) -> None:
    with RedisBackend.from_url(own_cluster.url, socket_timeout=120) as backend:
        backend.set_many(BATCH)
        for node in own_cluster.primaries():
            wait_until("its replica has all rows", lambda node=node: has_replicated(node))
        primary = own_cluster.primaries()[0]
        replica = own_cluster.kill(primary)
        # Both begin when nobody has taken over yet, and end when somebody has.
        assert call(way, backend, "get_many", *BATCH) == list(BATCH.values())
        assert call(way, backend, "set_many", dict.fromkeys(BATCH, b"new")) == dict.fromkeys(BATCH, True)
        assert call(way, backend, "get_many", *BATCH) == [b"new"] * len(BATCH)
        own_cluster.wait_for_failover(replica)
        own_cluster.restart(primary)
        assert call(way, backend, "get_many", *BATCH) == [b"new"] * len(BATCH)
        assert call(way, backend, "delete_many", *BATCH) is True


def test_what_must_not_be_run_twice_is_an_error_when_its_connection_is_lost() -> None:
    with (
        RedisCluster(replicas=False) as cluster,
        RedisBackend.from_url(cluster.url, socket_timeout=SHORT, retry=NEVER_RETRY) as backend,
    ):
        primary = cluster.primaries()[0]
        mine = next(key for key in BATCH if cluster.owner(*wire.key_slots([key])) is primary)
        other = next(key for key in BATCH if cluster.owner(*wire.key_slots([key])) is not primary)
        assert backend.incr(mine) == 1
        primary.pause()
        try:
            with pytest.raises(BackendError, match=f"no answer, key {mine}: no answer in time") as caught:
                backend.incr(mine)
            assert caught.value.maybe_applied
            # One that cannot even be connected to has run nothing.
            with pytest.raises(BackendError, match=f"no answer in time, key {mine}: ") as caught:
                backend.incr(mine)
            assert not caught.value.maybe_applied
            assert backend.set(other, b"still served")
        finally:
            primary.resume()


def test_a_cluster_that_has_lost_a_primary_for_good_names_the_keys_that_have_no_home() -> None:
    with (
        RedisCluster(replicas=False) as cluster,
        RedisBackend.from_url(cluster.url, socket_timeout=SHORT) as backend,
    ):
        backend.set_many(BATCH)
        primary = cluster.primaries()[0]
        lost = [key for key in BATCH if cluster.owner(*wire.key_slots([key])) is primary]
        primary.kill()
        with pytest.raises(BackendError, match=r"Redis Cluster at .* keys key:.* and \d+ more: ") as caught:
            backend.get_many(*lost)
        assert not caught.value.maybe_applied
        with pytest.raises(BackendError) as caught:
            backend.set(lost[0], b"")
        assert not caught.value.maybe_applied
        assert lost[0] in str(caught.value)


def asked_for_slots(cluster: RedisCluster) -> int:
    """Return how often nodes have been asked for the map of slots until now."""
    figures = [node.figures("INFO commandstats").get("cmdstat_cluster|slots", "calls=0,") for node in cluster.nodes]
    return sum(int(figure.partition("=")[2].partition(",")[0]) for figure in figures)


def test_the_map_is_learnt_by_one_of_many_threads(redis_cluster: RedisCluster) -> None:
    def work(number: int) -> None:
        for _ in range(5):
            batch = {f"{number}:{i}": b"%d" % i for i in range(100)}
            backend.set_many(batch)
            assert backend.get_many(*batch) == list(batch.values())

    before = asked_for_slots(redis_cluster)
    with RedisBackend.from_url(redis_cluster.url) as backend:
        in_threads(32, work)
    assert asked_for_slots(redis_cluster) - before == 1


def test_threads_that_find_nobody_do_not_each_wait_for_every_node() -> None:
    told: list[str] = []

    def work(number: int) -> None:
        with pytest.raises(BackendError) as caught:
            backend.get("k")
        told.append(str(caught.value))

    silent = ScriptedServer(swallow)
    url = f"redis+cluster://{HOST}:{silent.port}"
    with silent, RedisBackend.from_url(url, socket_timeout=SHORT, retry=NEVER_RETRY) as backend:
        in_threads(16, work)
    assert all("no node can be reached" in words for words in told)
    # Those that came while one was asking, and that is nearly all of them, share what it found.
    assert silent.accepted < 16


def test_threads_that_share_one_connection_to_each_node_do_not_wait_for_one_another_for_ever(
    redis_cluster: RedisCluster,
) -> None:
    with RedisBackend.from_url(redis_cluster.url, max_connections=1, socket_timeout=60) as backend:
        backend.set_many(BATCH)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(backend.get_many(*BATCH))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [list(BATCH.values())] * 16


def test_a_forked_child_has_connections_of_its_own(redis_cluster: RedisCluster, backend: RedisBackend) -> None:
    backend.set_many(BATCH)
    waits = [fork_and_check(lambda: backend.get_many(*BATCH) == list(BATCH.values())) for _ in range(4)]
    for _ in range(50):
        assert backend.get_many(*BATCH) == list(BATCH.values())
    for wait in waits:
        wait()


# -- what is no cluster, or not ours -----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_single_server_is_an_error_that_says_what_to_use_instead(way: str, redis_server: RedisServer) -> None:
    with RedisBackend.from_url(f"redis+cluster://{HOST}:{redis_server.port}") as backend:
        with pytest.raises(BackendError, match="single server: redis://") as caught:
            call(way, backend, "set", "k", b"v")
        assert not caught.value.maybe_applied


@pytest.mark.parametrize("way", WAYS)
def test_nodes_that_are_not_there_are_an_error_at_once(way: str) -> None:
    with RedisBackend.from_url(f"redis+cluster://{HOST}:1,{HOST}:2") as backend:
        with pytest.raises(BackendError, match=r"127\.0\.0\.1:1, 127\.0\.0\.1:2: no node can be reached") as caught:
            call(way, backend, "set", "k", b"v")
        assert not caught.value.maybe_applied


@pytest.mark.parametrize("way", WAYS)
def test_one_node_that_answers_is_enough_to_find_the_others(way: str, redis_cluster: RedisCluster) -> None:
    port = redis_cluster.nodes[4].port
    with RedisBackend.from_url(f"redis+cluster://{HOST}:1,{HOST}:{port}") as backend:
        assert call(way, backend, "set_many", BATCH) == dict.fromkeys(BATCH, True)


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_password_is_an_error_that_does_not_show_it(way: str) -> None:
    with RedisCluster(replicas=False) as cluster:
        for node in cluster.nodes:
            node.ask("CONFIG", "SET", "requirepass", "s3cret")
        url = cluster.url.replace("://", "://:{}@")
        with RedisBackend.from_url(url.format("s3cret")) as backend:
            assert call(way, backend, "set_many", BATCH) == dict.fromkeys(BATCH, True)
        with RedisBackend.from_url(url.format("wr0ng")) as backend:
            with pytest.raises(BackendError) as caught:
                call(way, backend, "get_many", *BATCH)
            assert "wr0ng" not in str(caught.value)
            assert "invalid" in str(caught.value)


def test_nodes_are_reached_where_the_client_says(redis_cluster: RedisCluster) -> None:
    away = {(f"node-{i}", 7000): node.address for i, node in enumerate(redis_cluster.nodes)}
    seen = set()

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        seen.add(address)
        return away.get(address, address)

    host, port = redis_cluster.nodes[0].address
    with (
        redis.cluster.RedisCluster(host=host, port=port, address_remap=remap) as client,
        RedisBackend(client=client) as backend,
    ):
        backend.set_many(BATCH)
        assert client.get("key:7") == b"7"
        assert {node.address for node in redis_cluster.primaries()} <= seen


def test_what_a_client_does_with_each_new_connection_is_done_with_ours(redis_cluster: RedisCluster) -> None:
    greeted = []

    def greet(connection: Any) -> None:
        connection.send_command("CLIENT", "SETNAME", "greeted")
        greeted.append((connection.port, connection.read_response()))

    host, port = redis_cluster.nodes[0].address
    with (
        redis.cluster.RedisCluster(host=host, port=port, redis_connect_func=greet) as client,
        RedisBackend(client=client) as backend,
    ):
        greeted.clear()
        assert backend.set_many(BATCH) == dict.fromkeys(BATCH, True)
        assert {(node.port, b"OK") for node in redis_cluster.primaries()} <= set(greeted)
        # It blocks, so connections for event loops are made in threads.
        greeted.clear()
        assert call("awaited", backend, "get_many", *BATCH) == list(BATCH.values())
        assert {(node.port, b"OK") for node in redis_cluster.primaries()} <= set(greeted)
