"""Memory that runs out at any allocation: a MemoryError or what is right, and everything as it was.

It runs in processes of its own, which tell by their last line what they did not survive.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bare_calls  # noqa: F401 - adds its own to the calls
import pytest
from amounts import LONG, tried
from calls import CALLS

import cacheorm as co

TESTS = Path(__file__).parents[1]

try:
    import _testcapi
except ImportError:  # a Python without its own tests, as Debian packages it
    _testcapi = None  # type: ignore[assignment]

pytestmark = [
    pytest.mark.skipif(not co.speedups_enabled, reason="it is about compiled code"),
    pytest.mark.skipif(_testcapi is None, reason="needs _testcapi: install the tests of this Python (libpython3-testsuite)"),
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="allocations can be failed in CPython alone"),
]

# What a short run takes: a call of each kind. The others differ in their formats, or go the same ways.
BRIEF = [
    *("insert_many_msgpack", "query_many_msgpack", "update_many_msgpack", "query_many_json", "refused_msgpack"),
    *(name for name in CALLS if not name.endswith(("_msgpack", "_json", "_signed", "_compressed")) and name != "escape_long"),
]


@pytest.mark.no_cover
@pytest.mark.parametrize("name", CALLS if LONG else BRIEF)
def test_a_call_survives_that_any_of_its_allocations_fails(name: str) -> None:
    # Freed memory is overwritten, so that what uses it fails at once.
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, TESTS / "exhausting.py", "full" if LONG else "brief", name]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    tried["failed allocations"] += done.stdout.count(" fails\n")


def test_a_list_that_cannot_take_an_item_gives_its_reference_back_once() -> None:
    """What Cython 3.3 makes of the comprehension in it gives it back twice."""
    from cacheorm._speedups.memory._lru_table_c import LruTable

    keys = [f"key {number}" for number in range(40)]
    table = LruTable()
    before = [sys.getrefcount(key) for key in keys]
    for place in range(40):
        _testcapi.set_nomemory(place, place + 1)
        try:
            table.set_deadlines(keys, 1.0)
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
        assert [sys.getrefcount(key) for key in keys] == before
