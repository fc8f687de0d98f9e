"""Look for inputs of which the compiled build makes anything else than the pure one.

python -m fuzz                              # a minute for each target
python -m fuzz rows keys --seconds 3600
python -m fuzz rows --seed 1 --executions 1000    # the same inputs every time
python -m fuzz --input fuzz/corpus/rows/0a1b2c    # one input once more
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .builds import compiled_build
from .engine import Fuzzer
from .targets import TARGETS
from .worker import CORPUS, Job, Trace, name_of

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "fuzz"

# After so many seconds in one input, on a machine however busy, it does not end.
_HANG = 300


class Worker:
    """A process that fuzzes one target."""

    def __init__(self, target: str, given: argparse.Namespace, seed: int) -> None:
        self.target = target
        self._finds = Path(given.finds or CORPUS / target)
        folder = BUILD / f"process-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / target
        self._trace = Trace(self._path)
        # With a seed, nothing but that decides what is run.
        kept = "" if given.seed is not None else str(BUILD / target)
        job = Job(target, seed, given.seconds, given.executions, str(self._path), str(self._finds), kept)
        # Ctrl-C reaches this process, which passes it on.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", json.dumps(job._asdict())],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONFAULTHANDLER": "1"},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._moved = 0, time.monotonic()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def is_running(self) -> bool:
        if self._process.poll() is not None:
            return False
        count, since = self._trace.read()[0], time.monotonic()
        if count != self._moved[0]:
            self._moved = count, since
        elif since - self._moved[1] > _HANG:
            self._process.kill()
        return True

    def figures(self) -> dict[str, Any]:
        """Return the figures of a process that has ended; if it has crashed, of what it was doing."""
        said = self._process.communicate()[0]
        count, data = self._trace.read()
        self._path.unlink(missing_ok=True)
        if self._process.returncode == 0:
            return json.loads(said)  # type: ignore[no-any-return]
        self._finds.mkdir(parents=True, exist_ok=True)
        path = self._finds / name_of(data)
        path.write_bytes(data)
        ended = f"the process ended with {self._process.returncode}"
        print(f"\nFound: {ended}, or did not get on\nTo run it again: make fuzz INPUT={path}", file=sys.stderr)
        return {"executions": count, "seconds": 0, "inputs": 0, "lines": 0, "finds": 1}


def fuzz(given: argparse.Namespace) -> int:
    """Fuzz targets, some at a time, and print the figures. Return how many finds there were."""
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"Seed {seed}", flush=True)
    waiting = [*given.targets]
    running: list[Worker] = []
    ended: list[tuple[str, dict[str, Any]]] = []
    interrupted = False
    while waiting or running:
        try:
            while waiting and len(running) < given.jobs:
                running.append(Worker(waiting.pop(0), given, seed))
            time.sleep(0.1)
            for worker in [worker for worker in running if not worker.is_running()]:
                running.remove(worker)
                ended.append((worker.target, worker.figures()))
                print(_line(*ended[-1]), flush=True)
        except KeyboardInterrupt:
            interrupted = True
            waiting.clear()
            for worker in running:
                worker.stop()
    total = sum(figures["executions"] for _, figures in ended)
    finds = sum(figures["finds"] for _, figures in ended)
    print(f"{'in all':<10} {total:>12,} executions; {finds} finds{'; interrupted' if interrupted else ''}", flush=True)
    return finds


def _line(target: str, figures: dict[str, Any]) -> str:
    rate = figures["executions"] / figures["seconds"] if figures["seconds"] else 0
    return (
        f"{target:<10} {figures['executions']:>12,} executions, {rate:>7,.0f} a second; {figures['inputs']:,} inputs "
        f"reached something new, {figures['lines']:,} lines of the pure build; {figures['finds']} finds"
    )


def run_again(path: Path) -> int:
    """Run one input of the corpus, and print what each build makes of it. Return how many finds that is."""
    target = path.resolve().parent.name
    if target not in TARGETS:
        raise SystemExit(f"{path} is in no folder of a target: {', '.join(TARGETS)}")
    fuzzer = Fuzzer(TARGETS[target], 0)
    find = fuzzer.compare(path.read_bytes()) or fuzzer.leak(path.read_bytes())
    print(f"{find.kind}\n{find.text}" if find else "Both builds do the same.")
    return 1 if find else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (60)")
    parser.add_argument("--executions", type=int, default=sys.maxsize, help="for each target, if that is sooner")
    parser.add_argument("--seed", type=int, help="gives the same inputs every time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time (one for each core)")
    parser.add_argument("--finds", help="the folder for finds (that of the target in fuzz/corpus)")
    parser.add_argument("--input", type=Path, help="run this file of the corpus, and nothing else")
    given = parser.parse_args(arguments)
    if unknown := {*given.targets} - {*TARGETS}:
        parser.error(f"no target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if not compiled_build().speedups_enabled:
        parser.error("there is nothing to compare: the extensions are not built (make install), or not wanted")
    given.targets = given.targets or [*TARGETS]
    return 1 if (run_again(given.input) if given.input else fuzz(given)) else 0


if __name__ == "__main__":
    sys.exit(main())
