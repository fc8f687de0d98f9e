"""A primary and a replica of Redis under three real sentinels, on free ports of 127.0.0.1.

https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Self

import redis
from clusters import wait_until
from servers import HANG, HOST, RedisServer, ServerProcess

__all__ = ["SentinelGroup", "SentinelServer"]


# Milliseconds: sentinels take their time for what they do not take for urgent, such as to tell an old primary whom to
# follow when it comes back. Tests would wait for ten seconds each time; and for thirty after a stall of the machine for
# two, as sentinels do nothing then ("tilt").
_HASTE = ("info-period", 300, "publish-period", 300, "slave-reconf-timeout", 1000, "tilt-period", 1000)

# Likewise milliseconds, after which sentinels take a silent server for dead: longer than any test, since a busy
# machine is silent for seconds. They are told to be quick while one has been killed. While one is to hand over to the
# other they are told to be slow, but not for ever: on a busy machine they may undo what another of them does, and what
# comes of it is a primary that says it is a replica, which is mended when it is taken for dead.
_NEVER = 10_000_000
_SOON = 1000
_LATER = 4000


class SentinelServer(ServerProcess):
    """One sentinel.

    Args:
        folder: where it keeps its configuration, which it rewrites.
        service: the name of the primary that it watches, and the replicas of it.
        primary: the primary's port.
        lines: further ones of the configuration.
    """

    program = "redis-server"
    greeting = b"PING\r\n"
    answers_with = (b"+PONG", b"-NOAUTH")

    def __init__(self, folder: Path, service: str, primary: int, lines: str = "") -> None:
        super().__init__()
        self._folder = None
        self._file = folder / f"sentinel-{id(self)}.conf"
        self._file.write_text(
            f"sentinel monitor {service} {HOST} {primary} 2\n"
            f"sentinel down-after-milliseconds {service} {_NEVER}\n"
            f"sentinel failover-timeout {service} 2000\n"
            f"sentinel parallel-syncs {service} 1\n"
            f"{lines}",
            encoding="utf-8",
        )

    def command(self) -> list[str]:
        return [str(self._file), "--sentinel", "--port", str(self.port), "--bind", HOST]


class SentinelGroup:
    """A primary, a replica and three sentinels that are ready when ``with`` has entered it."""

    service = "cacheorm"

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="cacheorm-")
        options = ("--dir", self._temporary.name, "--repl-diskless-sync-delay", "0")
        self.servers = [RedisServer(*options), RedisServer(*options)]
        self.sentinels: list[SentinelServer] = []

    def __enter__(self) -> Self:
        try:
            first, second = (server.start() for server in self.servers)
            with self.client_of(second) as client:
                client.replicaof(HOST, first.port)
            for _ in range(3):
                sentinel = SentinelServer(Path(self._temporary.name), self.service, first.port)
                self.sentinels.append(sentinel.start())
                with self.client_of(sentinel) as client:
                    client.execute_command("SENTINEL", "DEBUG", *_HASTE)
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes."""
        for process in [*self.sentinels, *self.servers]:
            process.stop()
        self._temporary.cleanup()

    # -- what it looks like ----------------------------------------------------------------------

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    @property
    def url(self) -> str:
        """The URL of the service."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{self.service}/0"

    @staticmethod
    def client_of(process: ServerProcess) -> Any:
        """Make a client of one process."""
        return redis.Redis(host=HOST, port=process.port, socket_timeout=HANG, decode_responses=True)

    def running(self) -> list[RedisServer]:
        """Give the servers that were not killed."""
        return [server for server in self.servers if server._process is not None]

    def primary(self) -> RedisServer:
        """Give the server that the sentinels name as the primary, which they agree on."""
        wait_until("the sentinels agree", lambda: len(set(self._named())) == 1)
        return self._server(self._named()[0])

    def replica(self) -> RedisServer:
        """Give the other one."""
        return next(server for server in self.servers if server is not self.primary())

    def wait_until_ready(self) -> None:
        """Wait until the sentinels see each other and a replica that is linked."""
        wait_until("the sentinels see all", lambda: all(map(self._sees_all, self.sentinels)))
        wait_until("the replica is linked", self._is_linked)
        self._take_for_dead_after(_NEVER)

    # -- losing the primary ----------------------------------------------------------------------

    def kill_primary(self) -> RedisServer:
        """Kill the primary; return it."""
        primary = self.primary()
        primary.kill()
        self._take_for_dead_after(_SOON)
        return primary

    def wait_until_primary_is_not(self, lost: RedisServer) -> RedisServer:
        """Wait until all sentinels name another primary, and it is one; return it."""
        wait_until("another server becomes the primary", lambda: self._has_replaced(lost))
        self._take_for_dead_after(_NEVER)
        return self.primary()

    def _take_for_dead_after(self, milliseconds: int) -> None:
        for sentinel in self.sentinels:
            with self.client_of(sentinel) as client:
                client.execute_command("SENTINEL", "SET", self.service, "down-after-milliseconds", milliseconds)

    def restart(self, lost: RedisServer) -> None:
        """Start a server that was killed, and wait until it follows the primary."""
        lost.start()
        self.wait_until_ready()

    def failover(self) -> RedisServer:
        """Let the replica take over from a primary that runs; return the new one."""
        before = self.primary()
        self._take_for_dead_after(_LATER)

        def switched() -> bool:
            # A sentinel that said OK may give up later, which it tells nobody: on a machine that stalls, the replica
            # is not heard of in time (-failover-abort-slave-timeout, -failover-abort-no-good-slave).
            self._ask_to_replace(before)
            return self._has_replaced(before)

        wait_until("the replica takes over", switched)
        return self.primary()

    # -- how -------------------------------------------------------------------------------------

    def _server(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def _ask_to_replace(self, primary: RedisServer) -> None:
        """Ask a sentinel for a failover, unless it is at it, or has done it."""
        with self.client_of(self.sentinels[0]) as client:
            state = client.sentinel_master(self.service)
            if state["port"] == primary.port and "failover_in_progress" not in state["flags"]:
                # Refused while it does not know whether the replica is good.
                with contextlib.suppress(redis.ResponseError):
                    client.execute_command("SENTINEL", "FAILOVER", self.service)

    def _has_replaced(self, lost: RedisServer) -> bool:
        """Tell whether all sentinels name another primary, and it is one."""
        ports = set(self._named())
        if len(ports) != 1 or lost.port in ports:
            return False
        with self.client_of(self._server(ports.pop())) as client:
            return bool(client.info("replication")["role"] == "master")

    def _named(self) -> list[int]:
        ports = []
        for sentinel in self.sentinels:
            with self.client_of(sentinel) as client:
                ports.append(int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1]))
        return ports

    def _sees_all(self, sentinel: SentinelServer) -> bool:
        with self.client_of(sentinel) as client:
            state = client.sentinel_master(self.service)
            good = [
                replica
                for replica in client.sentinel_slaves(self.service)
                if not replica["is_sdown"] and not replica["is_disconnected"]
            ]
        return state["num-other-sentinels"] == len(self.sentinels) - 1 and bool(good) and not state["is_sdown"]

    def _is_linked(self) -> bool:
        primary = self.primary()
        for server in self.running():
            with self.client_of(server) as client:
                figures = client.info("replication")
            linked = figures.get("master_link_status") == "up" and figures.get("master_port") == primary.port
            if server is not primary and not linked:
                return False
        return True
