"""How long backends wait unless they are told, in a process of its own: in the tests they wait longer."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        ("co.RedisBackend()", "5.0"),
        ("co.RedisBackend(socket_timeout=7)", "7"),
        ("co.MemcachedBackend()", "5.0"),
        ("co.MemcachedBackend(timeout=7)", "7"),
        ("co.backend_from_url('redis://localhost')", "5.0"),
        ("co.backend_from_url('redis+cluster://localhost')", "5.0"),
        ("co.backend_from_url('redis+sentinel://localhost/rows')", "5.0"),
        ("co.backend_from_url('memcached://localhost')", "5.0"),
    ],
)
def test_an_operation_may_take_seconds_not_minutes(made: str, shown: str) -> None:
    code = f"import cacheorm as co; print({made}.operation_timeout)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{shown}\n"
