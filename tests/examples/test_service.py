"""The web service of the examples, served by uvicorn in a process of its own, and asked by a real client."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from loops import needs_uvloop
from servers import RedisServer

if TYPE_CHECKING:
    from servers import MemcachedServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file of the service's database."""
    return tmp_path / "shop.db"


@contextmanager
def serving(backend: str, database: Path, loop: str = "asyncio") -> Iterator[str]:
    """Run the service, and yield where it listens: uvicorn takes a free port and says which."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "SHOP_BACKEND": backend,
        "SHOP_DATABASE": f"sqlite+aiosqlite:///{database}",
    }
    command = [sys.executable, "-m", "uvicorn", "--port", "0", "--loop", loop, "examples.service:app"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                if "Uvicorn running on " in line:
                    yield line.partition("running on ")[2].split()[0]
                    break
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate()[1]
    text = "".join(said) + rest
    assert "Uvicorn running on" in text, text
    assert "Application shutdown complete" in text
    assert "Traceback" not in text, text
    assert "Warning" not in text, text


@pytest.fixture(params=["redis-asyncio", pytest.param("redis-uvloop", marks=needs_uvloop), "memcached-asyncio"])
def url(request: pytest.FixtureRequest, database: Path) -> Iterator[str]:
    kind, loop = request.param.split("-")
    server: RedisServer | MemcachedServer = request.getfixturevalue(f"{kind}_server")
    with serving(f"{kind}://127.0.0.1:{server.port}?on_failure=miss", database, loop) as where:
        yield where


def test_the_service_reads_loads_writes_and_counts(url: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            written = await client.put("/users/1", json={"name": "Sam", "height": 178.8})
            assert written.json() == {"id": 1, "name": "Sam", "height": 178.8}

            # Loaded once and then read, by many at the same time.
            asked = await asyncio.gather(*(client.get("/users/7000") for _ in range(50)))
            assert {answer.json()["name"] for answer in asked} == {"user 7000"}
            assert (await client.get("/users/20000")).status_code == 404

            found = await client.get("/users", params={"id": [7000, 20_000, 1, 1]})
            assert [row and row["name"] for row in found.json()] == ["user 7000", None, "Sam", "Sam"]

            counts = await asyncio.gather(*(client.post("/users/1/visits") for _ in range(20)))
            assert sorted(answer.json() for answer in counts) == list(range(1, 21))
            assert (await client.post("/users/20000/visits")).status_code == 404
            assert (await client.put("/users/2", json={"name": "Ann"})).status_code == 422

            # The row leaves the cache with the commit.
            await client.put("/users/7000", json={"name": "Ann", "height": 160})
            assert (await client.get("/users/7000")).json() == {"id": 7000, "name": "Ann", "height": 160.0}
            await client.delete("/users/7000")
            assert (await client.get("/users/7000")).status_code == 404

    asyncio.run(main())


def test_the_database_is_changed_and_the_cache_killed_under_it(database: Path) -> None:
    def change_elsewhere(pk: int, name: str) -> None:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            connection.execute("UPDATE users SET name = ? WHERE id = ?", (name, pk))

    async def main(url: str, server: RedisServer) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            async def names(*pks: int) -> list[str | None]:
                found = await client.get("/users", params={"id": pks})
                assert found.status_code == 200
                return [row and row["name"] for row in found.json()]

            assert await names(1, 2) == ["user 1", "user 2"]
            change_elsewhere(1, "changed")
            assert await names(1, 2) == ["user 1", "user 2"]  # the service knows nothing of it, and has a ttl for that
            await client.put("/users/2", json={"name": "Ann", "height": 160})
            assert await names(1, 2) == ["user 1", "Ann"]

            server.pause()  # with its rows
            await client.put("/users/1", json={"name": "Sam", "height": 180})
            await client.delete("/users/2")
            assert await names(1, 2, 3) == ["Sam", None, "user 3"]
            assert (await client.post("/users/1/visits")).status_code == 503
            assert (await client.get("/ready")).json()["cache"] == "failing"
            server.resume()
            while (await client.get("/ready")).json()["cache"] != "ok":
                await asyncio.sleep(0.01)
            assert await names(1, 2, 3) == ["Sam", None, "user 3"]

            server.kill()
            change_elsewhere(3, "changed")
            assert await names(1, 2, 3) == ["Sam", None, "changed"]
            assert (await client.get("/live")).json() == "ok"
            server.start()
            while (await client.get("/ready")).json()["cache"] != "ok":
                await asyncio.sleep(0.01)
            assert await names(1, 2, 3) == ["Sam", None, "changed"]

    with RedisServer() as server:
        backend = f"{server.url}?on_failure=miss&operation_timeout=0.5&retry_after=0.1"
        with serving(backend, database) as url:
            asyncio.run(main(url, server))
