"""The example service under load while its Redis fails: answers by status, dropped connections and stale answers.

::

    python -m benchmarks.outages --seconds 30

Clients in this process ask ``examples/service.py``. Each owns some users, which nobody else changes, so that it knows
what has to come back: an answer that is older than its last change is stale. After each outage, what the cache holds is
compared with the database, too. The program fails if there is any answer of 500, dropped connection or stale row.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis
import sqlalchemy as sa

import cacheorm as co
from tests.servers import HOST, RedisServer, free_port

__all__ = ["Outages", "main"]

_OPTIONS = "on_failure=miss&operation_timeout=2&retry_after=1"

# Users of each client, most of whom are there.
_OWN = 40

_COLUMNS = ("200", "404", "503", "500", "dropped", "stale")


class Outages:
    """A service under load, whose Redis can be made to fail.

    Args:
        server: the Redis of the service.
        service: the module of the service.
        clients: how many there are.
        show: prints a line.
    """

    def __init__(self, server: RedisServer, service: Any, clients: int, show: Callable[[str], object] = print) -> None:
        self._server = server
        self._service = service
        self._show = show
        self._admin = redis.Redis(HOST, server.port, retry=None)
        self._clients = [_Client(service, number) for number in range(clients)]
        self.total: Counter[str] = Counter()

    async def run(self, seconds: float | None, requests: int | None) -> None:
        """Let the service work, then fail in each way and recover.

        Args:
            seconds: how long each phase takes.
            requests: how many requests it takes, in place of seconds.
        """
        await self._service.make_tables()
        self._show(f"{'phase':<30}{'requests':>9}{'per s':>7}" + "".join(f"{name:>9}" for name in _COLUMNS))
        await self._phase("all is well", seconds, requests)
        for name, fail, recover in self._ways():
            await asyncio.to_thread(fail)
            await self._phase(name, seconds, requests)
            self._show_state()
            await asyncio.to_thread(recover)
            await self._phase("... and recovered", seconds, requests, until=self._is_back)
            await self._compare()
        await self._service.ENGINE.dispose()

    def _ways(self) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
        server, admin = self._server, self._admin

        def kill() -> None:
            admin.save()  # so that it comes back with old rows
            server.kill()

        def forbid_writes() -> None:
            admin.config_set("maxmemory-policy", "noeviction")
            admin.config_set("maxmemory", 1)

        yield "killed", kill, server.start
        yield "stopped, then continued", server.pause, server.resume
        yield "a replica (REPLICAOF)", lambda: admin.replicaof(HOST, free_port()), lambda: admin.replicaof("NO", "ONE")
        yield "full (noeviction)", forbid_writes, lambda: admin.config_set("maxmemory", 0)

    async def _phase(
        self, name: str, seconds: float | None, requests: int | None, until: Callable[[], bool] | None = None
    ) -> None:
        answers: Counter[str] = Counter()
        start = time.monotonic()

        def goes_on() -> bool:
            if until is not None and not until():
                return True
            if requests is not None:
                return answers.total() - answers["stale"] < requests
            return time.monotonic() - start < (seconds or 0)

        await asyncio.gather(*[client.work(answers, goes_on) for client in self._clients])
        count = answers.total() - answers["stale"]
        rate = count / (time.monotonic() - start)
        self._show(f"{name:<30}{count:>9}{rate:>7.0f}" + "".join(f"{answers[column]:>9}" for column in _COLUMNS))
        self.total += answers

    def _is_back(self) -> bool:
        """Return whether the service uses its cache, and has deleted what was changed meanwhile."""
        backend = self._service.BACKEND
        return all(state.reason is None for state in backend.breakers()) and backend.pending_invalidations()[0] == 0

    def _show_state(self) -> None:
        backend = self._service.BACKEND
        waiting, lost = backend.pending_invalidations()
        reasons = [state.reason or "replies" for state in backend.breakers()]
        self._show(f"    to be deleted: {waiting} (lost: {lost}); breaker: {'; '.join(reasons)}")

    async def _compare(self) -> None:
        """Count the rows in the cache that are not those of the database."""
        service = self._service
        pks = [pk for client in self._clients for pk in client.pks]
        async with service.Session() as session:
            names = {row.id: row.name for row in await session.scalars(sa.select(service.UserRow))}
        with co.RedisBackend(HOST, self._server.port) as direct, co.bind([service.User], backend=direct):
            found = service.User.get_many(pks, cached_only=True)
        stale = sum(names.get(pk) != row.name for pk, row in found.items())
        self._show(f"    in the cache: {len(found)} rows of {len(pks)}, of which {stale} are stale")
        self.total["stale"] += stale


class _Client:
    """Reads and changes users, and knows what those that it owns have to be.

    Args:
        service: the module of the service.
        number: its own.
    """

    def __init__(self, service: Any, number: int) -> None:
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://service")
        self._chance = random.Random(number)
        self.pks = [number * _OWN + i for i in range(_OWN)]
        self._names: dict[int, str | None] = {pk: f"user {pk}" for pk in self.pks}
        self._changes = 0

    async def work(self, answers: Counter[str], goes_on: Callable[[], bool]) -> None:
        """Send requests as long as that goes on, and count the answers by status."""
        while goes_on():
            try:
                await self._ask(answers)
            except httpx.TransportError:
                answers["dropped"] += 1

    async def _ask(self, answers: Counter[str]) -> None:
        pk = self._chance.choice(self.pks)
        kind = self._chance.random()
        if kind < 0.35:
            pks = self._chance.choices(self.pks, k=20)
            reply = await self._http.get("/users", params={"id": pks})
            if reply.status_code == 200:
                names = [row and row["name"] for row in reply.json()]
                answers["stale"] += names != [self._names[each] for each in pks]
        elif kind < 0.7:
            reply = await self._http.get(f"/users/{pk}")
            if reply.status_code in (200, 404):
                answers["stale"] += reply.json().get("name") != self._names[pk]
        elif kind < 0.8:
            self._changes += 1
            self._names[pk] = f"user {pk}, change {self._changes}"
            reply = await self._http.put(f"/users/{pk}", json={"name": self._names[pk], "height": 170.0})
        elif kind < 0.9:
            self._names[pk] = None
            reply = await self._http.delete(f"/users/{pk}")
        elif kind < 0.95:
            reply = await self._http.post(f"/users/{pk}/visits")
        else:
            reply = await self._http.get("/ready")
        answers[str(reply.status_code)] += 1


@contextmanager
def _service_on(server: RedisServer) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="cacheorm-") as folder:
        os.environ["SHOP_BACKEND"] = f"{server.url}?{_OPTIONS}"
        os.environ["SHOP_DATABASE"] = f"sqlite+aiosqlite:///{folder}/shop.db"
        from examples import service

        yield service


def main(argv: list[str] | None = None) -> int:
    """Run the program; return 1 if anything came out that must not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outages", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each phase (default: 30)")
    parser.add_argument("--requests", type=int, help="length of each phase in requests, in place of seconds")
    parser.add_argument("--clients", type=int, default=16, help="clients at the same time (default: 16)")
    options = parser.parse_args(argv)
    logging.basicConfig(format="    %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with RedisServer() as server, _service_on(server) as service:
        snapshot = Path(tempfile.gettempdir(), f"cacheorm-{server.port}.rdb")
        try:
            outages = Outages(server, service, options.clients)
            asyncio.run(outages.run(None if options.requests else options.seconds, options.requests))
        finally:
            snapshot.unlink(missing_ok=True)
    bad = {name: outages.total[name] for name in ("500", "dropped", "stale")}
    print("in all: " + ", ".join(f"{count} {name}" for name, count in bad.items()))
    return int(any(bad.values()))


if __name__ == "__main__":
    sys.exit(main())
