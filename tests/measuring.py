"""Coverage of the programs that tests start, where the tests themselves are measured."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["measured"]

ROOT = Path(__file__).resolve().parents[1]


def measured() -> dict[str, str]:
    """Give the environment variables with which a Python program has its coverage measured as this process has.

    They are for programs that run the package's own lines and end by themselves: one that is killed tells nothing, and
    in one that forks the child would need a measurement of its own. So not every program is measured, as coverage.py's
    ``patch = ["subprocess"]`` would have it; that would also measure twice the processes that run the suite.
    (https://coverage.readthedocs.io/en/latest/subprocess.html)
    """
    coverage = sys.modules.get("coverage")
    here = None if coverage is None else coverage.Coverage.current()
    if here is None:
        return {}
    file = ROOT / str(here.get_option("run:data_file"))
    return {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(file)}
