"""The web service of the examples, served by uvicorn in a process of its own, and asked by a real client."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from loops import needs_uvloop

if TYPE_CHECKING:
    from servers import MemcachedServer, RedisServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["redis-asyncio", pytest.param("redis-uvloop", marks=needs_uvloop), "memcached-asyncio"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the service listens: uvicorn takes a free port and says which."""
    kind, loop = request.param.split("-")
    server: RedisServer | MemcachedServer = request.getfixturevalue(f"{kind}_server")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "SHOP_BACKEND": f"{kind}://127.0.0.1:{server.port}?on_failure=miss",
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


def test_the_service_reads_loads_writes_and_counts(url: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            written = await client.put("/users/1", json={"name": "Sam", "height": 178.8})
            assert written.json() == {"id": 1, "name": "Sam", "height": 178.8, "visits": 0}

            # Loaded once and then read, by many at the same time.
            asked = await asyncio.gather(*(client.get("/users/7000") for _ in range(50)))
            assert {answer.json()["name"] for answer in asked} == {"user 7000"}
            assert (await client.get("/users/20000")).status_code == 404

            found = await client.get("/users", params={"id": [7000, 20_000, 1, 1]})
            assert [row and row["name"] for row in found.json()] == ["user 7000", None, "Sam", "Sam"]

            counts = await asyncio.gather(*(client.post("/users/1/visits") for _ in range(20)))
            assert sorted(answer.json() for answer in counts) == list(range(1, 21))
            assert (await client.post("/users/404/visits")).status_code == 404
            assert (await client.put("/users/2", json={"name": "Ann"})).status_code == 422

    asyncio.run(main())
