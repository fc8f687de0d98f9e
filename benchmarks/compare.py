"""Measure cacheorm beside hand-written code and other libraries, and print the tables of docs/benchmarks.md.

python -m benchmarks.compare                # the tables, in a few minutes
python -m benchmarks.compare --quick        # fewer rounds
python -m benchmarks.compare --full         # up to a million rows as well
python -m benchmarks.compare --pure         # without the compiled extensions
python -m benchmarks.compare --only ratios --only redis
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cacheorm as co

from .measure import ROUNDS
from .run import Run
from .sections import SECTIONS
from .stores import Stores

__all__ = ["main"]


def surroundings() -> dict[str, str]:
    """Return the versions of everything that is measured, and the machine."""
    found = {
        "cacheorm": f"{co.__version__}, {'compiled' if co.speedups_enabled else 'pure Python'}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {_processor()}",
    }
    for package in ("redis", "hiredis", "pymemcache", "pylibmc", "msgpack", "msgspec", "diskcache"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for program in ("redis-server", "memcached"):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        found[program] = next((word.removeprefix("v=") for word in said.split() if word.strip("v=")[:1].isdigit()), "?")
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows on the terminal, if there is one, what is being measured."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    try:
        from rich.console import Console
    except ImportError:
        yield lambda text: None
        return
    with Console(stderr=True).status("starting") as status:
        yield status.update


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds: for a first impression")
    parser.add_argument("--full", action="store_true", help="also what takes a million rows")
    parser.add_argument("--pure", action="store_true", help="without the compiled extensions")
    parser.add_argument(
        "--only",
        action="append",
        metavar="WORD",
        default=[],
        help=f"only a section ({', '.join(SECTIONS)}) or lines with this word in them; may be repeated",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds of each contest (default {ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison with the options of a command line."""
    options = parse(arguments)
    if options.pure and co.speedups_enabled:
        # The build is chosen when cacheorm is imported, which has happened.
        given = sys.argv[1:] if arguments is None else arguments
        environment = {**os.environ, "CACHEORM_NO_EXTENSIONS": "1"}
        environment.pop("CACHEORM_REQUIRE_EXTENSIONS", None)
        command = [sys.executable, "-m", "benchmarks.compare", *given]
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)
    about = surroundings()
    print(f"cacheorm {about['cacheorm']}; Python {about['python']}; {about['system']}")
    print("; ".join(f"{name} {version}" for name, version in list(about.items())[3:]))
    with Stores() as stores, progress() as show:
        rounds = options.rounds or (3 if options.quick else ROUNDS)
        seconds = 0.005 if options.quick else 0.02
        only = [word.lower() for word in options.only]
        this = Run(stores, rounds, seconds, options.full, only, show=show)
        print(f"medians of {rounds} alternating rounds; ratio = ours / hand-written, below 1 is faster")
        for section in SECTIONS.values():
            section(this)
            sys.stdout.flush()
    if options.json is not None:
        text = json.dumps({"about": about, "rounds": rounds, **this.found}, indent=1)
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
