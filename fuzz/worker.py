"""The process that fuzzes one target: it writes down each input before it runs, since that may be the last it does."""

from __future__ import annotations

import gc
import json
import mmap
import signal
import sys
import time
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from .engine import Find, Fuzzer
from .targets import TARGETS

__all__ = ["CORPUS", "Job", "Trace", "name_of", "work"]

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target, with the inputs that once were finds."""

_MOST_FINDS = 10


class Job(NamedTuple):
    """What a worker does.

    Attributes:
        target: the name of the target.
        seed: the same one gives the same inputs.
        seconds, executions: when to end, whichever comes first.
        trace: the file in which the input that runs is.
        finds: the folder for finds.
        kept: the folder of the inputs that reached something new, of this and earlier runs; empty for none.
    """

    target: str
    seed: int
    seconds: float
    executions: int
    trace: str
    finds: str
    kept: str


class Trace:
    """A file with the input that a process runs, and the number of inputs before it; it survives the process."""

    SIZE = 1 << 16

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(self.SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)

    def write(self, count: int, data: bytes) -> None:
        self._map[:12] = count.to_bytes(8, "big") + len(data).to_bytes(4, "big")
        self._map[12 : 12 + len(data)] = data

    def read(self) -> tuple[int, bytes]:
        size = int.from_bytes(self._map[8:12], "big")
        return int.from_bytes(self._map[:8], "big"), self._map[12 : 12 + size]


def name_of(data: bytes) -> str:
    """Return the name of an input's file."""
    return sha1(data, usedforsecurity=False).hexdigest()[:12]


def work(job: Job) -> dict[str, Any]:
    """Fuzz until the time is over, the executions are done, or Ctrl-C is pressed. Return the figures."""
    started = time.monotonic()
    trace = Trace(Path(job.trace))
    keep: Callable[[bytes], object] | None = None
    corpus = [path.read_bytes() for path in sorted((CORPUS / job.target).glob("*"))]
    if job.kept:
        folder = Path(job.kept)
        folder.mkdir(parents=True, exist_ok=True)
        corpus += [path.read_bytes() for path in sorted(folder.iterdir())]

        def keep(data: bytes) -> None:
            (folder / name_of(data)).write_bytes(data)

    fuzzer = Fuzzer(TARGETS[job.target], job.seed, corpus, keep)
    # What is there now stays, and looking for objects that are left behind takes no time for it.
    gc.freeze()
    finds: dict[str, Find] = {}
    ended: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: ended.append(number))
    while not ended and fuzzer.executions < job.executions and len(finds) < _MOST_FINDS:
        data = fuzzer.next_input()
        trace.write(fuzzer.executions, data)
        find = fuzzer.run(data)
        if find is not None and find.kind not in finds:
            finds[find.kind] = find if find.kind == "leak" else fuzzer.smallest(find)
            _report(Path(job.finds), finds[find.kind])
        if not fuzzer.executions % 16 and time.monotonic() - started >= job.seconds:
            break
    return {
        "executions": fuzzer.executions,
        "seconds": time.monotonic() - started,
        "inputs": len(fuzzer.corpus),
        "lines": fuzzer.lines,
        "finds": len(finds),
    }


def _report(folder: Path, find: Find) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name_of(find.data)
    path.write_bytes(find.data)
    print(f"\nFound: {find.kind}\n{find.text}\nTo run it again: make fuzz INPUT={path}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(json.dumps(work(Job(**json.loads(sys.argv[1])))))
