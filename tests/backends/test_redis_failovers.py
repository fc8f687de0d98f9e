"""Failovers again and again, under load from threads and from an event loop.

Replication is asynchronous: Redis may lose what it acknowledged before a replica had it. So after each batch its writer
asks the server that took it whether the replica has it (https://redis.io/docs/latest/commands/wait/). What it has is
*settled*, and has to be there ever after, whichever server is the primary.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import redis
from amounts import enough
from clusters import wait_until
from sentinels import SentinelGroup
from servers import HOST, RedisServer

import cacheorm as co
from cacheorm.backends.redis import RedisBackend

ROWS = 40
WRITERS = 3  # of each kind

_log = logging.getLogger(__name__)


class Acknowledged(co.Model):
    id = co.StringField(primary_key=True)
    number = co.IntegerField()

    class Meta:
        ttl = 0


class Writer:
    """Inserts, counts and reads until it is told to stop.

    Args:
        name: of its rows and of its counter.
        backend: shared by all.
        run: runs a coroutine of the event loop; ``None`` calls the methods that block.
    """

    def __init__(
        self, name: str, backend: RedisBackend, run: Callable[[Coroutine[Any, Any, Any]], Any] | None = None
    ) -> None:
        self.name = name
        self.backend = backend
        self.run = run
        self.settled: list[int] = []
        self.acknowledged = 0
        self.settled_count = self.counted = self.maybe_counted = 0
        self.begun: list[tuple[float, float, Exception | None]] = []
        self.wrong: list[str] = []

    def __call__(self, stopped: threading.Event) -> None:
        number = 0
        try:
            while not stopped.is_set():
                number += 1
                self._step(number)
        except BaseException as error:  # noqa: BLE001 - shown in the main thread
            self.wrong.append(f"{self.name}: {error!r}")

    def _step(self, number: int) -> None:
        before = self._server()
        written = self._try(lambda: self._execute(Acknowledged.insert_many(self._rows(number))))
        count = self._try(lambda: self._call("incr", f"count:{self.name}", 1, 0))
        if isinstance(count, co.BackendError):
            self.maybe_counted += count.maybe_applied
        else:
            self.counted += 1
        if isinstance(written, list):
            self.acknowledged += 1
            if before is not None and before == self._server() and _has_replicated(before):
                self.settled.append(number)
                if isinstance(count, int):
                    self.settled_count = count
        if self.settled:
            last = self.settled[-1]
            read = self._try(lambda: self._execute(Acknowledged.query_many(self.keys(last))))
            if isinstance(read, list) and [row and row.number for row in read] != [last] * ROWS:
                self.wrong.append(f"{self.name}: settled rows of {last} were read as {read[:3]}")

    def _rows(self, number: int) -> list[dict[str, Any]]:
        return [{**key, "number": number} for key in self.keys(number)]

    def keys(self, number: int) -> list[dict[str, Any]]:
        return [{"id": f"{self.name}:{number}:{i}"} for i in range(ROWS)]

    def _try(self, call: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        try:
            result, error = call(), None
        except (co.BackendError, co.WriteError) as failed:
            result = error = failed
        self.begun.append((begun, time.monotonic(), error))
        if error is not None:
            time.sleep(0.005)
        return result

    def _execute(self, operation: Any) -> Any:
        return operation.execute() if self.run is None else self.run(operation.aexecute())

    def _call(self, method: str, *args: Any) -> Any:
        if self.run is None:
            return getattr(self.backend, method)(*args)
        return self.run(getattr(self.backend, f"a{method}")(*args))

    def _server(self) -> str | None:
        """Give the name of the server that the backend speaks to at the moment."""
        pools = self.backend.pools() if self.run is None else self.run(self.backend.apools())
        return pools[0].server if pools else None


def _has_replicated(server: str) -> bool:
    """Tell whether the replica of a primary has all that was written to it until now."""
    port = int(server.split(":")[1].split()[0])
    try:
        with redis.Redis(host=HOST, port=port, retry=None) as client:
            # WAIT tells of what its own connection wrote, and of all before it.
            client.set("marker", b"")
            return int(client.wait(1, 50)) == 1
    except redis.RedisError:
        return False


def failed_since(writers: list[Writer], moment: float) -> int:
    """Give the most failed attempts that one writer began after a moment."""
    return max(sum(error is not None and begun > moment for begun, _, error in w.begun) for w in writers)


def recovery(writers: list[Writer], moment: float) -> float:
    """Give the seconds from a moment to when the last of the writers had a success that it began after it."""
    first = [min(end for begun, end, error in w.begun if error is None and begun > moment) for w in writers]
    return max(first) - moment


def plan(group: SentinelGroup) -> None:
    group.failover()


def kill(group: SentinelGroup) -> RedisServer:
    lost = group.kill_primary()
    group.wait_until_primary_is_not(lost)
    return lost


def have_all_gone_on(writers: list[Writer], moment: float) -> bool:
    return all(any(error is None and begun > moment for begun, _, error in [*w.begun]) for w in writers)


def test_what_was_acknowledged_outlives_failovers_or_an_error_said_so() -> None:
    loop = asyncio.new_event_loop()
    looping = threading.Thread(target=loop.run_forever)
    looping.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    stopped = threading.Event()
    writers: list[Writer] = []

    def wait(true: Callable[[], bool]) -> None:
        wait_until("the writers go on", lambda: true() or any(writer.wrong for writer in writers), 120)
        assert [wrong for writer in writers for wrong in writer.wrong] == []

    with (
        SentinelGroup() as group,
        RedisBackend.from_url(group.url) as backend,
        co.bind([Acknowledged], backend=backend),
    ):
        writers = [Writer(f"thread-{i}", backend) for i in range(WRITERS)]
        writers += [Writer(f"task-{i}", backend, run) for i in range(WRITERS)]
        threads = [threading.Thread(target=writer, args=(stopped,)) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            for _ in range(enough(10, 2, "failovers") // 2):
                for lose in (plan, kill):
                    wait(lambda: all(len(writer.settled) > 2 for writer in writers))
                    lost = lose(group)
                    # From now on all sentinels name another primary.
                    named = time.monotonic()
                    wait(lambda named=named: have_all_gone_on(writers, named))
                    _log.info("recovered %.3f s after all sentinels named the primary", recovery(writers, named))
                    # Who waited for a search that began before may share what it found.
                    assert failed_since(writers, named) <= 2
                    if lost is not None:
                        group.restart(lost)
                    group.wait_until_ready()
                    settled = [len(writer.settled) for writer in writers]
                    wait(
                        lambda settled=settled: all(
                            len(w.settled) > n + 2 for w, n in zip(writers, settled, strict=True)
                        )
                    )
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
        assert [wrong for writer in writers for wrong in writer.wrong] == []
        for writer in writers:
            for number in writer.settled:
                rows = Acknowledged.query_many(writer.keys(number)).execute()
                assert [row and row.number for row in rows] == [number] * ROWS
            count = int(backend.get(f"count:{writer.name}") or 0)
            assert writer.settled_count <= count <= writer.counted + writer.maybe_counted
        run(backend.aclose())
    loop.call_soon_threadsafe(loop.stop)
    looping.join()
    loop.close()
