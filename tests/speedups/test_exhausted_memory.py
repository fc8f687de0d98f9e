"""Memory that is exhausted at any allocation: a MemoryError or what is right, and all else as it was.

Each call has a process of its own, whose last line tells what it did not survive.
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

from cacheorm import speedups_enabled

pytest.importorskip("_testcapi", reason="this Python comes without _testcapi, which lets an allocation fail")
if sys.version_info[:2] != (3, 11):
    pytest.skip("Python 3.13 itself crashes as allocations fail, and only 3.11 was swept", allow_module_level=True)

TESTS = Path(__file__).parents[1]

# One call for each extension. The others differ in their formats, or go the same ways.
BRIEF = [
    *("insert_many_instances_msgpack", "query_many_msgpack", "update_many_json", "refused_compressed", "get_signed"),
    *(
        "identify_formatted",
        "adopt_changes",
        "slots_of_rows",
        "converters",
        "positions",
        "lru_put_many",
        "record_files",
    ),
    *("requests", "routes", "resp_replies", "meta_replies"),
]

# Python allocates much more than compiled code does.
STEP = 1 if LONG else 3 if speedups_enabled else 19


@pytest.mark.no_cover
@pytest.mark.parametrize("name", CALLS if LONG else BRIEF)
def test_a_call_survives_that_any_of_its_allocations_fails(name: str) -> None:
    # Freed memory is overwritten, so that what uses it fails at once.
    environment = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1"}
    # Behind what is there, so that the package under test stays the same.
    path = [os.environ.get("PYTHONPATH", ""), str(TESTS), str(TESTS.parent)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, TESTS / "exhausting.py", str(STEP), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    tried["failed allocations"] += done.stdout.count(" fails\n")
