"""The sections of the comparison: each measures some contests and prints their table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cacheorm as co

from . import atomic_updates, enumerating, footprint, read_through, related_rows
from .contests import CONTESTS, OURS, Contest, run_beside
from .footprint import Figure
from .measure import alternate
from .peers import PEERS
from .rows import STANDARD, User, of_size
from .run import Run
from .shapes import SHAPES
from .tables import mark, table
from .topologies import cluster, servers, tasks

__all__ = ["SECTIONS"]

SHAPE_FACTOR = 1.3
"""How far a shape's ratio may be above that of the standard row with as many fields."""


# -- the sections: each prints its table and keeps its figures for --json ----------------------------------


def ratios(this: Run) -> None:
    """Ours beside hand-written code: the table of the README."""
    lines: list[tuple[str, ...]] = []
    kept: list[dict[str, Any]] = []
    for contest in CONTESTS:
        if not this.selects("ratios", contest.title):
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
    if this.selects("ratios", "memory per instance"):
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
    """Other libraries on the same stores: their time per row, and how many times ours it is."""
    rows = STANDARD.rows(1000)
    asked = STANDARD.asked(rows)
    own = {
        "insert_many": lambda: User.insert_many(rows).execute(),
        "query_many": lambda: User.query_many(asked).execute(),
    }
    lines = []
    kept: list[dict[str, Any]] = []
    for peer in PEERS:
        if not this.selects("peers", f"{peer.name}, {peer.backend}"):
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
    """Read-through: the time per row if all rows have to be loaded, and if none has to."""
    lines = []
    kept = []
    columns = (OURS, "without leases", "query_many", "by hand", "dogpile.cache")
    for backend in read_through.BACKENDS:
        for present in (True, False):
            title = f"load_missing, {backend}, {'all' if present else 'none'} there"
            if not this.selects("loading", title):
                continue
            tick = this.step(title)
            found = read_through.times(this.stores, backend, present, 1000, this.rounds, this.seconds, tick)
            lines.append((title, *(f"{found[name]:.2f}" if name in found else "-" for name in columns)))
            kept.append({"title": title, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["loading"] = kept


def enumeration(this: Run) -> None:
    """All rows of a model: the time per row."""
    lines = []
    kept = []
    for backend in enumerating.BACKENDS:
        title = f"enumerate {enumerating.ROWS:,} rows, {backend}"
        if not this.selects("enumeration", title):
            continue
        found = enumerating.times(this.stores, backend, this.rounds, this.seconds, this.step(title))
        lines.append((title, *(f"{found[name]:.2f}" if name in found else "-" for name in enumerating.COLUMNS)))
        kept.append({"title": title, **found})
    if lines:
        print("\n" + table(["us/row", *enumerating.COLUMNS], lines))
        this.found["enumeration"] = kept


def preloading(this: Run) -> None:
    """Rows with their related rows, beside two separate queries and hand-written code."""
    lines = []
    kept = []
    columns = (OURS, "two queries", "by hand")
    for backend in related_rows.BACKENDS:
        title = f"preload, {backend}"
        if this.selects("preloading", title):
            found = related_rows.times(this.stores, backend, 1000, this.rounds, this.seconds, this.step(title))
            lines.append((title, *(f"{found[name]:.2f}" for name in columns)))
            kept.append({"title": title, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["preloading"] = kept


def further(this: Run) -> None:
    """Atomic updates and lifetimes, on Redis."""
    lines = []
    kept = []
    for operation in atomic_updates.OPERATIONS:
        if not this.selects("further", operation):
            continue
        tick = this.step(operation)
        found = atomic_updates.times(this.stores, operation, 1000, this.rounds, this.seconds, tick)
        ours = found.pop(OURS)
        # The fastest that does the same by hand.
        hand = min(time for name, time in found.items() if name in atomic_updates.HANDS)
        others = ", ".join(f"{name} {time:.2f}" for name, time in found.items())
        lines.append((operation, f"{ours:.2f}", f"{hand:.2f}", f"{ours / hand:.2f}", others))
        kept.append({"operation": operation, OURS: ours, **found})
    if lines:
        print("\n" + table(["Redis", "ours us/row", "hand us/row", "ratio", "in the same run"], lines))
        this.found["further"] = kept


def decode(this: Run) -> None:
    """Decoding alone, beside the fastest decoder of typed rows."""
    if not this.selects("decode", "decode"):
        return
    this.step("decode")
    times = footprint.decode_times(this.rounds, this.seconds)
    ours = times[OURS]
    lines = [(name, f"{time:.3f}", f"{time / ours:.2f}") for name, time in times.items()]
    print("\n" + table(["bytes to rows, nothing else", "us/row", "x ours"], lines))
    this.found["decode"] = times


def shapes(this: Run) -> None:
    """Rows of other shapes: each has to reach about the ratio of the standard row with as many fields."""
    lines = []
    kept = []
    for backend in ("Simple", "Redis"):
        for operation in ("query_many", "insert_many"):
            for shape in SHAPES:
                title = f"{operation}, {backend}, {shape.name}"
                if not this.selects("shapes", title):
                    continue
                # In the same rounds: on a busy machine two ratios of different minutes say little about each other.
                compared = [shape] if of_size(shape.size) is shape else [shape, of_size(shape.size)]
                contests = [Contest(operation, backend, 1000, shape=one) for one in compared]
                results = run_beside(contests, this.stores, this.rounds, this.seconds, this.step(title))
                result, standard = results[0], results[-1]
                off = result.ratio / standard.ratio
                lines.append(
                    (
                        f"{operation}, {backend}",
                        shape.name,
                        f"{result.ours:.2f}",
                        f"{result.hand:.2f}",
                        f"{result.ratio:.2f}",
                        f"{standard.ratio:.2f}",
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
                        "standard": standard.ratio,
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
        if this.selects("figures", title):
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
            if this.selects("flatness", title):
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


SECTIONS: dict[str, Callable[[Run], None]] = {
    "ratios": ratios,
    "peers": peers,
    "loading": loading,
    "preloading": preloading,
    "enumeration": enumeration,
    "further": further,
    "asyncio": tasks,
    "cluster": cluster,
    "servers": servers,
    "decode": decode,
    "shapes": shapes,
    "figures": figures,
    "flatness": flatness,
}
"""In the order in which they are printed."""
