"""The example program, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cacheorm as co

if TYPE_CHECKING:
    from servers import MemcachedServer, RedisServer

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, cities: int = 300) -> str:
    """Run the example in a process of its own, and give what it prints."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "cities.py"), "--cities", str(cities), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def check(output: str, backends: list[str], cities: int = 300) -> None:
    """Check that every backend did everything and that the table shows it."""
    assert output.startswith(f"cacheorm {co.__version__}, {'compiled' if co.speedups_enabled else 'pure Python'}")
    assert output.count(f"{cities} of {cities} cities came back as they were written") == len(backends)
    assert output.count("all cities existed and are deleted: True") == len(backends)
    table = output[output.index("rows per second") :]
    for backend in backends:
        assert backend in table
    for step in (
        "insert_many countries",
        "insert_many cities",
        "query_many cities",
        "update_many",
        "delete_many cities",
    ):
        assert step in table


def test_it_runs_on_a_file_and_in_memory() -> None:
    check(run(), ["FileSystemBackend", "SimpleBackend"])


def test_it_shows_cities_that_people_know() -> None:
    output = run(cities=40_000)
    for name in ("São Paulo", "Kyiv", "Tokyo", "Paris"):
        assert name in output[output.index("a few of them") :]


def test_it_runs_on_redis_and_leaves_nothing_behind(redis_server: RedisServer) -> None:
    url = f"redis://127.0.0.1:{redis_server.port}/9"
    check(run("--backend", url), ["RedisBackend"])
    with co.backend_from_url(url) as backend:
        assert backend.stats()["entries"] == 0


def test_it_runs_on_memcached(memcached_server: MemcachedServer) -> None:
    check(run("--backend", f"memcached://127.0.0.1:{memcached_server.port}"), ["MemcachedBackend"])


def test_it_runs_on_a_file_of_ones_own(tmp_path: Path) -> None:
    check(run("--backend", (tmp_path / "cities").as_uri()), ["FileSystemBackend"])
    assert (tmp_path / "cities").exists()


@pytest.mark.parametrize("cities", [0, 1])
def test_it_runs_on_next_to_nothing(cities: int) -> None:
    check(run("--backend", "memory://", cities=cities), ["SimpleBackend"], cities)
