"""No code of an application crashes the process, whenever it runs: each such moment in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("unlucky.py")


def moments() -> list[str]:
    lines = PROGRAM.read_text().splitlines()
    return [line.split("(")[0].removeprefix("def ") for mark, line in pairwise(lines) if mark == "@moment"]


@pytest.mark.parametrize("moment", moments())
def test_code_of_the_application_runs_at_any_moment(moment: str) -> None:
    # With freed memory overwritten, so that who still reads it is found out at once.
    environment = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, PROGRAM, moment], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
