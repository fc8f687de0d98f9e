"""A real Redis Cluster for tests and benchmarks: primaries with a replica each, on free ports of 127.0.0.1.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis
from servers import HANG, HOST, RedisServer, free_port

if TYPE_CHECKING:
    from certificates import Certificates

__all__ = ["SLOTS", "ClusterNode", "RedisCluster", "wait_until"]

SLOTS = 16384

# Milliseconds after which nodes take a silent one for dead: longer than any test, since a busy machine is silent for
# seconds. They are told to be quick while one has been killed, and when they start: for as long, up to five seconds,
# they wait before they serve anything.
_NEVER = 10_000_000
_SOON = 1500


def wait_until(what: str, true: Callable[[], bool], seconds: float = HANG) -> None:
    """Wait until something holds that servers settle among themselves."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class ClusterNode(RedisServer):
    """One node of a cluster.

    Args:
        folder: where it keeps its view of the cluster.
        certificates: with which it speaks TLS as well, at ``tls_port``.
    """

    answers_with = (b"+PONG", b"-NOAUTH", b"-LOADING", b"-MASTERDOWN")

    def __init__(self, folder: Path, certificates: Certificates | None = None) -> None:
        self.tls_port = free_port() if certificates is not None else 0
        super().__init__(*(certificates.options(self.tls_port) if certificates is not None else ()))
        self._nodes = folder
        self.bus = free_port()
        self.client: Any = None

    def command(self) -> list[str]:
        return [
            *super().command(),
            "--dir",
            str(self._nodes),
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            str(self.bus),
            "--cluster-config-file",
            str(self._nodes / f"{self.bus}.conf"),
            "--cluster-node-timeout",
            str(_SOON),
            "--cluster-replica-validity-factor",
            "0",
            "--cluster-migration-barrier",
            "99",
            "--repl-diskless-sync-delay",
            "0",
        ]

    def start(self) -> Self:
        super().start()
        self.client = redis.Redis(host=HOST, port=self.port, socket_timeout=HANG)
        return self

    def kill(self) -> None:
        if self.client is not None:
            self.client.close()
        super().kill()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients reach it."""
        return HOST, self.port

    @cached_property
    def name(self) -> str:
        """Its id in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    def ask(self, *command: Any) -> Any:
        """Run a command, and give the reply as the server gave it."""
        connection = self.client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            self.client.connection_pool.release(connection)

    def figures(self, command: str) -> dict[str, str]:
        """Give the ``name:value`` lines of ``INFO <section>`` or ``CLUSTER INFO``."""
        text = self.ask(*command.split()).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


class RedisCluster:
    """A cluster that is ready when ``with`` has entered it.

    Args:
        primaries: how many.
        replicas: whether each has a replica.
        certificates: with which the nodes speak TLS, among themselves and to whoever wants to.
    """

    def __init__(
        self,
        primaries: int = 3,
        replicas: bool = True,
        certificates: Certificates | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cacheorm-")
        self._count = primaries
        total = primaries * (2 if replicas else 1)
        self.nodes = [ClusterNode(Path(self._folder.name), certificates) for _ in range(total)]

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            self._form()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()
        self._folder.cleanup()

    def _form(self) -> None:
        first, *others = self.nodes
        for i, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in others:
            first.ask("CLUSTER", "MEET", HOST, node.tls_port or node.port, node.bus)
        primaries = self.nodes[: self._count]
        for i, node in enumerate(primaries):
            node.ask("CLUSTER", "ADDSLOTSRANGE", i * SLOTS // self._count, (i + 1) * SLOTS // self._count - 1)
        names = {node.name for node in self.nodes}
        wait_until(
            "all nodes know each other",
            lambda: all(names <= {line.split()[0] for line in node.lines()} for node in map(_Viewed, self.nodes)),
        )
        for primary, replica in zip(primaries, self.nodes[self._count :], strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.name)
        self.wait_until_ready()
        self._take_for_dead_after(_NEVER)

    def wait_until_ready(self) -> None:
        """Wait until every running node sees all slots served, and every replica is linked."""
        running = self.running()
        wait_until("the state of the cluster is ok", lambda: all(_is_ok(node) for node in running))
        wait_until("the replicas are linked", lambda: all(_is_linked(node) for node in running))

    # -- what it looks like ----------------------------------------------------------------------

    @property
    def startup_nodes(self) -> list[tuple[str, int]]:
        """The addresses of all nodes."""
        return [node.address for node in self.nodes]

    @property
    def url(self) -> str:
        """The URL of the cluster."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def running(self) -> list[ClusterNode]:
        """Give the nodes that were not killed."""
        return [node for node in self.nodes if node._process is not None]

    def primaries(self) -> list[ClusterNode]:
        """Give the running nodes that take themselves for primaries."""
        return [node for node in self.running() if node.figures("INFO replication")["role"] == "master"]

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """Give the replica of a primary."""
        port = str(primary.port)
        return next(node for node in self.running() if node.figures("INFO replication").get("master_port") == port)

    def owner(self, slot: int) -> ClusterNode:
        """Give the primary that serves a slot."""
        for first, last, (_, port, *_), *_ in self.running()[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"nobody serves slot {slot}")

    def flush(self) -> None:
        """Remove every entry."""
        for node in self.primaries():
            node.ask("FLUSHALL")

    # -- moving slots ----------------------------------------------------------------------------

    def begin_move(self, slot: int, target: ClusterNode, source: ClusterNode | None = None) -> ClusterNode:
        """Begin to move a slot: from now on its owner, which is given, answers ``ASK`` for keys that it lacks."""
        source = source or self.owner(slot)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)
        return source

    def migrate_keys(self, slot: int, source: ClusterNode, target: ClusterNode, count: int) -> int:
        """Move up to ``count`` keys of a slot; give how many there were."""
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.ask("MIGRATE", HOST, target.port, "", 0, int(HANG * 1000), "KEYS", *keys)
        return len(keys)

    def finish_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Say that a slot has moved; the target first, so that it is never nobody's."""
        name = target.name
        target.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
        source.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
        for node in self.running():
            if node not in (source, target):
                with contextlib.suppress(redis.ResponseError):  # of replicas, which have no say
                    node.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    def move_slot(self, slot: int, target: ClusterNode, source: ClusterNode | None = None) -> None:
        """Move a slot with its keys, as ``redis-cli --cluster reshard`` does.

        Args:
            slot: its number.
            target: who serves it from then on.
            source: who serves it now. While many slots move, other nodes may be behind the times.
        """
        source = self.begin_move(slot, target, source)
        while self.migrate_keys(slot, source, target, 100) == 100:
            pass
        self.finish_move(slot, source, target)

    def wait_until_agreed(self) -> None:
        """Wait until all nodes know the same: who takes over slots before they do may not be believed by some."""

        def agreed() -> bool:
            nodes = self.running()
            maps = {tuple(sorted(_slots(node))) for node in nodes}
            epochs = {node.figures("CLUSTER INFO")["cluster_current_epoch"] for node in nodes}
            return len(maps) == len(epochs) == 1

        wait_until("all nodes agree", agreed)

    # -- losing nodes ----------------------------------------------------------------------------

    def kill(self, primary: ClusterNode) -> ClusterNode:
        """Kill a primary once its replica has what was written until now; return the replica, which will take over."""
        replica = self.replica_of(primary)
        written = int(primary.figures("INFO replication")["master_repl_offset"])
        wait_until(
            "the replica has what was written",
            lambda: int(replica.figures("INFO replication")["slave_repl_offset"]) >= written,
        )
        primary.kill()
        self._take_for_dead_after(_SOON)
        return replica

    def wait_for_failover(self, replica: ClusterNode) -> None:
        """Wait until every running node knows that a replica has taken over."""
        wait_until(
            "a replica takes over",
            lambda: all(replica.port in {port for _, _, port in _slots(node)} for node in self.running()),
        )
        wait_until("the state of the cluster is ok", lambda: all(_is_ok(node) for node in self.running()))
        self._take_for_dead_after(_NEVER)

    def _take_for_dead_after(self, milliseconds: int) -> None:
        for node in self.running():
            node.ask("CONFIG", "SET", "cluster-node-timeout", milliseconds)

    def restart(self, node: ClusterNode) -> None:
        """Start a node that was killed; it comes back as a replica if it has been replaced."""
        node.start()
        self.wait_until_ready()
        self._take_for_dead_after(_NEVER)


class _Viewed:
    """The nodes that one of them knows."""

    def __init__(self, node: ClusterNode) -> None:
        self._node = node

    def lines(self) -> Iterator[str]:
        for line in self._node.ask("CLUSTER", "NODES").decode().splitlines():
            if "handshake" not in line and "noaddr" not in line:
                yield line


def _slots(node: ClusterNode) -> Iterator[tuple[int, int, int]]:
    for first, last, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
        yield first, last, port


def _is_ok(node: ClusterNode) -> bool:
    figures = node.figures("CLUSTER INFO")
    return figures["cluster_state"] == "ok" and figures["cluster_slots_ok"] == str(SLOTS)


def _is_linked(node: ClusterNode) -> bool:
    return node.figures("INFO replication").get("master_link_status", "up") == "up"
