"""The servers, clusters, sentinels and proxies that other tests stand on do what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
import redis
from clusters import SLOTS, RedisCluster, wait_until
from delays import DelayingProxy
from postgresql import PostgresServer
from sentinels import SentinelGroup
from servers import HOST, MissingServerError, RedisServer


def test_a_cluster_forms_moves_slots_and_replaces_a_lost_primary() -> None:
    with RedisCluster() as cluster:
        assert len(cluster.primaries()) == 3
        nodes = [redis.cluster.ClusterNode(*address) for address in cluster.startup_nodes]
        with redis.cluster.RedisCluster(startup_nodes=nodes) as client:
            rows = {f"key:{i}": b"%d" % i for i in range(300)}
            for key, value in rows.items():
                client.set(key, value)
            slot = client.keyslot("key:7")
            source = cluster.owner(slot)
            target = next(node for node in cluster.primaries() if node is not source)
            cluster.move_slot(slot, target)
            assert cluster.owner(slot) is target
            assert target.ask("GET", "key:7") == b"7"
            replica = cluster.kill(target)
            cluster.wait_for_failover(replica)
            assert cluster.owner(slot) is replica
            cluster.restart(target)
            assert cluster.replica_of(replica) is target
            assert {key: client.get(key) for key in rows} == rows
        cluster.flush()
        assert sum(node.ask("DBSIZE") for node in cluster.primaries()) == 0
        assert (
            sum(node.ask("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in range(0, SLOTS, 1000) for node in [target])
            == 0
        )


def test_sentinels_replace_a_primary_again_and_again() -> None:
    with SentinelGroup() as group:
        for _ in range(2):
            first = group.primary()
            assert group.failover() is not first
            group.wait_until_ready()
            lost = group.kill_primary()
            assert group.wait_until_primary_is_not(lost) is first
            group.restart(lost)
            assert group.replica() is lost


def test_a_failover_that_the_sentinels_give_up_is_asked_for_again() -> None:
    with SentinelGroup() as group:
        before, replica = group.primary(), group.replica()
        replica.pause()
        # By then the failover that is asked for first has failed: they are given two seconds.
        resumed = threading.Timer(3, replica.resume)
        resumed.start()
        assert group.failover() is replica
        resumed.join()
        group.wait_until_ready()
        assert group.replica() is before


def test_a_proxy_delays_and_holds_back_replies(redis_server: RedisServer) -> None:
    with DelayingProxy(redis_server.port) as proxy:
        with redis.Redis(host=HOST, port=proxy.port, socket_timeout=2, retry=None) as client:
            assert client.ping()
            assert (proxy.accepted, proxy.open) == (1, 1)
            proxy.hung = True
            with pytest.raises(redis.TimeoutError):
                client.ping()
            proxy.hung = False
            proxy.delay = 0.01
            assert client.echo("still there") == b"still there"
        wait_until("the connections are closed", lambda: proxy.open == 0)


def test_a_postgresql_keeps_its_databases_apart_and_its_rows_when_it_is_killed() -> None:
    with PostgresServer() as server, server.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE things (id integer)")
            connection.execute("INSERT INTO things VALUES (7)")
        with server.database() as other, psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('things')").fetchone() == (None,)
        server.restart()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT id FROM things").fetchall() == [(7,)]


def test_a_postgresql_leaves_nothing_behind() -> None:
    with PostgresServer() as server:
        folder = server.command()[1]
        # It ends although it is paused, and somebody is connected.
        connection = psycopg.connect(server.url())
        server.pause()
    connection.close()
    assert not server.answers()
    assert not Path(folder).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_postgresql_ends_with_the_process_that_started_it() -> None:
    program = """if True:
        from postgresql import PostgresServer
        server = PostgresServer().start()
        print(server.command()[1], flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        folder = process.stdout.readline().decode().strip()
        # It removes this file when it ends.
        lock = Path(folder, "postmaster.pid")
        assert lock.exists()
        process.kill()
    wait_until("the server has ended", lambda: not lock.exists())
    shutil.rmtree(folder)


def test_a_missing_server_is_an_error_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(PostgresServer):
        program = "a-server-that-nobody-has"

    with pytest.raises(MissingServerError, match=r"apt-get install .* postgresql"), Missing():
        pass
