"""Tests once more in a process of their own, with guarded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from servers import HANG

__all__ = ["run_guarded"]


def run_guarded(tests: str, code: str) -> None:
    """Run code under the debugging allocator, where writing or freeing amiss ends the process.

    Args:
        tests: the path of a module of tests, which the code has as ``tests``.
        code: what to run.

    Raises:
        AssertionError: it did not run to its end, with what it said.
    """
    program = f"""
import importlib.util, sys
sys.path[:0] = [{os.getcwd()!r}, {str(Path(__file__).parent)!r}]
spec = importlib.util.spec_from_file_location("guarded_tests", {tests!r})
tests = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = tests
spec.loader.exec_module(tests)
{code}"""
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    command = [sys.executable, "-X", "dev", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr
