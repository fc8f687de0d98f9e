"""The main paths beside hand-written code, for callgrind to count the instructions of each.

Run under valgrind by :func:`count`. A count is the same on a busy machine as on an idle one, and nearly the same on
a fast one as on a slow one, so that a regression of a few percent shows where a time would show nothing.

Only this process counts, not the servers: what is counted of a Redis call is the client's part.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from .contests import OURS, Contest, contestants
from .stores import Stores

__all__ = ["PATHS", "count", "counted", "counts_of", "mark"]

PATHS = [
    Contest("query_many", "Simple"),
    Contest("insert_many", "Simple"),
    Contest("update_many", "Simple"),
    Contest("query_many", "Redis"),
    Contest("insert_many", "Redis"),
    Contest("query_many", "Redis Cluster"),
    Contest("get_many", "Simple"),
    Contest("co.Query", "Simple"),
    Contest("get_many", "Redis"),
    Contest("co.Query", "Redis"),
]

# A function of libc that nothing else here calls: callgrind writes down what it has counted whenever it is called,
# and starts again from zero. https://valgrind.org/docs/manual/cl-manual.html#cl-manual.options
_MARK = "getppid"


def counted() -> bool:
    """Return whether instructions can be counted on this machine."""
    return shutil.which("valgrind") is not None


def count(rows: int = 1000) -> dict[Contest, tuple[int, int]]:
    """Count the instructions of one call of each path: ours, and hand-written.

    Args:
        rows: in one call.

    Raises:
        RuntimeError: callgrind did not write down what was expected.
    """
    # Three marks for each path: what comes before the first is setting up.
    totals = counts_of("benchmarks.instructions", 3 * len(PATHS), str(rows))
    return {path: (totals[3 * at + 1], totals[3 * at + 2]) for at, path in enumerate(PATHS)}


def counts_of(module: str, marks: int, *arguments: str) -> list[int]:
    """Run a module under callgrind; return the instructions before each mark of it, since the one before.

    Args:
        module: the name of a module that calls :func:`mark`.
        marks: how often it does so.
        arguments: what it is given on the command line.

    Raises:
        RuntimeError: callgrind did not write down what was expected.
    """
    with tempfile.TemporaryDirectory(prefix="cacheorm-callgrind-") as folder:
        command = ["valgrind", "--tool=callgrind", f"--dump-before={_MARK}", "--callgrind-out-file=counts"]
        # Hashes decide how often keys of dicts collide.
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(
            [*command, sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the program failed under callgrind:\n{done.stderr}")
        parts = {int(path.suffix[1:]): path for path in Path(folder).glob("counts.*")}
        if len(parts) < marks:
            raise RuntimeError(f"callgrind wrote {len(parts)} parts:\n{done.stderr}")
        return [_total(parts[number]) for number in range(1, marks + 1)]


def mark() -> None:
    """Have callgrind write down what it has counted, and begin anew."""
    os.getppid()


def _total(part: Path) -> int:
    found = re.search(r"^totals: (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no total in {part.name}")
    return int(found[1])


def main(rows: int) -> None:
    """Do each call once between two marks."""
    with Stores() as stores:
        for path in PATHS:
            with contestants(replace(path, count=rows), stores) as calls:
                ours, (hand,) = calls.pop(OURS), calls.values()
                for _ in range(2):
                    ours()
                    hand()
                gc.collect()
                gc.disable()
                mark()
                ours()
                mark()
                hand()
                mark()
                gc.enable()


if __name__ == "__main__":
    main(int(sys.argv[1]))
