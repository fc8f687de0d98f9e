"""The program that shows the example service while its Redis fails, with short phases."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_outage_costs_an_answer_or_leaves_a_stale_row() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.outages", "--requests", "200", "--clients", "8"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert shown.count("... and recovered") == 4, shown
    assert "in all: 0 500, 0 dropped, 0 stale" in shown
    # The first three have kept rows from being changed.
    waiting = [int(count) for count in re.findall(r"to be deleted: (\d+)", shown)]
    assert len(waiting) == 4
    assert all(waiting[:3]), shown
