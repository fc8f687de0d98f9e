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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cacheorm as co

from . import awaited, clusters, footprint, read_through, related
from . import further as beyond
from . import rings as several
from .contests import CONTESTS, OURS, Contest, Result, run
from .footprint import Figure
from .measure import ROUNDS, alternate
from .peers import PEERS
from .rows import SHAPES, STANDARD, User, of_size
from .stores import Stores
from .tables import mark, table

__all__ = ["main"]

SHAPE_FACTOR = 1.3
"""How far a shape's ratio may be above that of the standard row with as many fields."""

SECTIONS = (
    "ratios",
    "peers",
    "loading",
    "preloading",
    "further",
    "asyncio",
    "cluster",
    "servers",
    "decode",
    "shapes",
    "figures",
    "flatness",
)


@dataclass
class Run:
    """One run of the comparison: what was asked for, and what was found so far."""

    stores: Stores
    rounds: int
    seconds: float
    full: bool
    only: Sequence[str]
    found: dict[str, Any] = field(default_factory=dict)
    show: Callable[[str], None] = lambda text: None

    def wants(self, section: str, title: str) -> bool:
        """Tell whether a line is to be measured."""
        return not self.only or any(word == section or word in title.lower() for word in self.only)

    def step(self, title: str) -> Callable[[], None]:
        """Show what is being measured, and give what is called after each turn."""
        turns = 0

        def tick() -> None:
            nonlocal turns
            turns += 1
            self.show(f"{title} ({turns})")

        self.show(title)
        return tick

    def contest(self, contest: Contest, rounds: int | None = None) -> Result:
        """Hold one contest."""
        tick = self.step(f"{contest.title}, {contest.shape.name}, {contest.rows_shown:,}")
        return run(contest, self.stores, rounds or self.rounds, self.seconds, tick)


# -- the sections: each prints its table and keeps its figures for --json ----------------------------------


def ratios(this: Run) -> None:
    """Ours beside hand-written code: the table of the README."""
    lines: list[tuple[str, ...]] = []
    kept: list[dict[str, Any]] = []
    for contest in CONTESTS:
        if not this.wants("ratios", contest.title):
            continue
        result = this.contest(contest)
        bar = contest.bar if co.speedups_enabled else contest.pure_bar
        lines.append(
            (
                contest.title,
                f"{contest.rows_shown:,}",
                f"{result.ours:.2f}",
                f"{result.hand:.2f}",
                f"{result.ratio:.2f}",
                "-" if bar is None else f"{bar:.2f}",
                mark(result.ratio, bar),
            )
        )
        kept.append(
            {
                "operation": contest.title,
                "rows": contest.rows_shown,
                "ours": result.ours,
                "hands": result.hands,
                "ratio": result.ratio,
                "bar": bar,
            }
        )
    if this.wants("ratios", "memory per instance"):
        this.step("memory per instance")
        ours, hand = footprint.instance_bytes(this.stores)
        lines.append(
            (
                "memory per instance, in bytes",
                "1,000",
                f"{ours.value:.0f}",
                f"{hand.value:.0f}",
                f"{ours.value / hand.value:.2f}",
                f"{ours.bar:.0f} bytes",
                mark(ours.value, ours.bar),
            )
        )
        kept.append({"operation": "memory per instance", "ours": ours.value, "hand": hand.value, "bar": ours.bar})
    if lines:
        print("\n" + table(["operation", "rows", "ours us/row", "hand us/row", "ratio", "bar", ""], lines))
        this.found["ratios"] = kept


def peers(this: Run) -> None:
    """Other libraries, and what their users pay in comparison."""
    rows = STANDARD.rows(1000)
    asked = STANDARD.asked(rows)
    own = {
        "insert_many": lambda: User.insert_many(rows).execute(),
        "query_many": lambda: User.query_many(asked).execute(),
    }
    lines = []
    kept: list[dict[str, Any]] = []
    for peer in PEERS:
        if not this.wants("peers", f"{peer.name}, {peer.backend}"):
            continue
        tick = this.step(peer.name)
        try:
            calls = peer.prepare(this.stores, rows)
            version = peer.version
        except ImportError as error:
            lines.append((peer.name, peer.backend, "not installed", *["-"] * 4))
            kept.append({"peer": peer.name, "backend": peer.backend, "error": str(error)})
            continue
        times = {}
        with this.stores.bound(STANDARD, peer.backend):
            for operation, ours in own.items():
                found = alternate(
                    {OURS: ours, "peer": getattr(calls, operation)},
                    len(rows),
                    this.rounds,
                    this.seconds,
                    tick,
                )
                times[operation] = found
        read, written = times["query_many"], times["insert_many"]
        lines.append(
            (
                f"{peer.name} {version}",
                peer.backend,
                peer.how,
                f"{read['peer']:.2f}",
                f"{read['peer'] / read[OURS]:.1f}",
                f"{written['peer']:.2f}",
                f"{written['peer'] / written[OURS]:.1f}",
            )
        )
        kept.append({"peer": peer.name, "version": version, "backend": peer.backend, "how": peer.how, **times})
    if lines:
        print("\n" + table(["peer", "store", "keeps", "read us/row", "x ours", "write us/row", "x ours"], lines))
        this.found["peers"] = kept


def loading(this: Run) -> None:
    """Reading through: what it costs to have rows loaded that are not there, and to ask for it where all are."""
    lines = []
    kept = []
    columns = (OURS, "without leases", "query_many", "by hand", "dogpile.cache")
    for backend in read_through.BACKENDS:
        for present in (True, False):
            title = f"load_missing, {backend}, {'all' if present else 'none'} there"
            if not this.wants("loading", title):
                continue
            tick = this.step(title)
            found = read_through.times(this.stores, backend, present, 1000, this.rounds, this.seconds, tick)
            lines.append((title, *(f"{found[name]:.2f}" if name in found else "-" for name in columns)))
            kept.append({"title": title, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["loading"] = kept


def preloading(this: Run) -> None:
    """Rows with what they refer to: beside the two queries by themselves, and hand-written code."""
    lines = []
    kept = []
    columns = (OURS, "two queries", "by hand")
    for backend in related.BACKENDS:
        title = f"preload, {backend}"
        if this.wants("preloading", title):
            found = related.times(this.stores, backend, 1000, this.rounds, this.seconds, this.step(title))
            lines.append((title, *(f"{found[name]:.2f}" for name in columns)))
            kept.append({"title": title, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["preloading"] = kept


def further(this: Run) -> None:
    """Atomic updates and lifetimes, on Redis."""
    lines = []
    kept = []
    for operation in beyond.OPERATIONS:
        if not this.wants("further", operation):
            continue
        tick = this.step(operation)
        found = beyond.times(this.stores, operation, 1000, this.rounds, this.seconds, tick)
        ours, hand = found.pop(OURS), found.pop("by hand")
        others = ", ".join(f"{name} {time:.2f}" for name, time in found.items())
        lines.append((operation, f"{ours:.2f}", f"{hand:.2f}", f"{ours / hand:.2f}", others))
        kept.append({"operation": operation, OURS: ours, "by hand": hand, **found})
    if lines:
        print("\n" + table(["Redis", "ours us/row", "hand us/row", "ratio", "in the same run"], lines))
        this.found["further"] = kept


def tasks(this: Run) -> None:
    """A thousand tasks, each reading a hundred rows: what an event loop costs, or gains."""
    lines = []
    kept = []
    for backend in awaited.BACKENDS:
        title = f"1,000 tasks, {backend}"
        if not this.wants("asyncio", title):
            continue
        found = awaited.times(this.stores, backend, 1000, this.rounds, this.seconds, this.step(title))
        called = found[awaited.CALLED]
        lines += [(backend, name, f"{time:.2f}", f"{time / called:.2f}") for name, time in found.items()]
        kept.append({"backend": backend, **found})
    if lines:
        print("\n" + table(["1,000 reads of 100 rows", "how", "us/row", "x called"], lines))
        this.found["asyncio"] = kept


def cluster(this: Run) -> None:
    """A Redis Cluster beside a single server: what the client computes, and how long it takes in all."""
    lines = []
    kept = []
    for operation in clusters.OPERATIONS:
        title = f"{operation}, Redis Cluster"
        if not this.wants("cluster", title):
            continue
        found = clusters.times(this.stores, operation, 1000, this.rounds, this.seconds, this.step(title))
        for what in ("computing", "in all"):
            ours, single = found[f"Redis Cluster, {what}"], found[f"Redis, {what}"]
            bar = clusters.BAR if (operation, what) == ("query_many", "computing") else None
            ratio = ours / single
            lines.append(
                (
                    f"{operation}, {what}",
                    f"{ours:.2f}",
                    f"{single:.2f}",
                    f"{ratio:.2f}",
                    "-" if bar is None else f"{bar:.2f}",
                    mark(ratio, bar),
                )
            )
        kept.append({"operation": operation, **found})
    if lines:
        print("\n" + table(["us/row", "Redis Cluster", "Redis", "ratio", "bar", ""], lines))
        this.found["cluster"] = kept


def servers(this: Run) -> None:
    """Several memcacheds: what the ring costs, beside one server and beside pylibmc with ketama."""
    lines = []
    kept = []
    columns = (OURS, "one server", "pylibmc")
    for operation in several.OPERATIONS:
        if not this.wants("servers", operation):
            continue
        tick = this.step(operation)
        found = several.times(this.stores, operation, 1000, this.rounds, this.seconds, tick)
        lines.append((operation, *(f"{found[name]:.2f}" if name in found else "-" for name in columns)))
        kept.append({"operation": operation, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["servers"] = kept


def decode(this: Run) -> None:
    """Decoding alone, beside the fastest decoder of typed rows that there is."""
    if not this.wants("decode", "decode"):
        return
    this.step("decode")
    times = footprint.decode_times(this.rounds, this.seconds)
    ours = times[OURS]
    lines = [(name, f"{time:.3f}", f"{time / ours:.2f}") for name, time in times.items()]
    print("\n" + table(["bytes to rows, nothing else", "us/row", "x ours"], lines))
    this.found["decode"] = times


def shapes(this: Run) -> None:
    """Rows with other fields: each has to gain about what the standard row gains that has as many fields."""
    lines = []
    kept = []
    for backend in ("Simple", "Redis"):
        for operation in ("query_many", "insert_many"):
            standards: dict[int, float] = {}
            for shape in SHAPES:
                if not this.wants("shapes", f"{operation}, {backend}, {shape.name}"):
                    continue
                result = this.contest(Contest(operation, backend, 1000, shape=shape))
                if shape.size not in standards:
                    standard = of_size(shape.size)
                    contest = Contest(operation, backend, 1000, shape=standard)
                    standards[shape.size] = result.ratio if standard is shape else this.contest(contest).ratio
                off = result.ratio / standards[shape.size]
                lines.append(
                    (
                        f"{operation}, {backend}",
                        shape.name,
                        f"{result.ours:.2f}",
                        f"{result.hand:.2f}",
                        f"{result.ratio:.2f}",
                        f"{standards[shape.size]:.2f}",
                        f"{off:.2f}",
                        mark(off, SHAPE_FACTOR),
                    )
                )
                kept.append(
                    {
                        "operation": operation,
                        "backend": backend,
                        "shape": shape.name,
                        "ours": result.ours,
                        "hand": result.hand,
                        "ratio": result.ratio,
                        "standard": standards[shape.size],
                        "to_standard": off,
                        "bar": SHAPE_FACTOR,
                    }
                )
    if lines:
        headings = ["operation", "row", "ours us/row", "hand us/row", "ratio", "standard of its size", "to that", ""]
        print("\n" + table(headings, lines))
        this.found["shapes"] = kept


def figures(this: Run) -> None:
    """Import time and protobuf; with --full, the peak memory of a million rows."""
    makers: list[tuple[str, Callable[[], Figure]]] = [
        ("import", lambda: footprint.import_time(this.rounds)),
        ("protobuf", lambda: footprint.protobuf_overhead(this.stores, this.rounds, this.seconds)),
    ]
    if this.full:
        makers.append(("peak memory", lambda: footprint.peak_memory(this.stores, 1_000_000)))
    found = []
    for title, make in makers:
        if this.wants("figures", title):
            this.step(title)
            found.append(make())
    _print_figures(this, "figures", found)


def flatness(this: Run) -> None:
    """Time per row from few rows to many: it has to stay about the same."""
    counts = tuple(count for count in footprint.FLAT_COUNTS if this.full or count <= 100_000)
    found = []
    kept = []
    for backend in ("Redis", "large Simple"):
        for operation in ("query_many", "insert_many"):
            title = f"{operation}, {backend}, flatness"
            if this.wants("flatness", title):
                figure, results = footprint.flatness(
                    this.stores, backend, operation, counts, this.rounds, this.step(title)
                )
                found.append(figure)
                kept += [
                    {
                        "operation": operation,
                        "backend": backend,
                        "rows": each.contest.count,
                        "ours": each.ours,
                        "hand": each.hand,
                    }
                    for each in results
                ]
    _print_figures(this, "flatness", found)
    if kept:
        this.found["flatness_times"] = kept


def _print_figures(this: Run, section: str, found: Sequence[Figure]) -> None:
    if not found:
        return
    lines = [
        (
            each.what,
            f"{each.value:.2f}",
            each.unit,
            "-" if each.bar is None else f"{each.bar:g}",
            mark(each.value, each.bar),
            each.note,
        )
        for each in found
    ]
    print("\n" + table(["figure", "measured", "unit", "bar", "", "made of"], lines))
    this.found[section] = [vars(each) for each in found]


# -- the command -----------------------------------------------------------------------------------------


def surroundings() -> dict[str, str]:
    """Say what was measured, with what, and on what."""
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
    """Show on the terminal what is being measured, where there is a terminal."""
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
    """Run what the command line asks for."""
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
        every = (
            ratios,
            peers,
            loading,
            preloading,
            further,
            tasks,
            cluster,
            servers,
            decode,
            shapes,
            figures,
            flatness,
        )
        for section in every:
            section(this)
            sys.stdout.flush()
    if options.json is not None:
        text = json.dumps({"about": about, "rounds": rounds, **this.found}, indent=1)
        options.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
