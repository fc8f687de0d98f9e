"""The sections of the comparison that go beyond one thread and one server."""

from __future__ import annotations

from . import awaited, clusters
from . import rings as several
from .contests import OURS
from .run import Run
from .tables import mark, table

__all__ = ["cluster", "servers", "tasks"]


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
