"""The sections of the comparison with event loops and with several servers."""

from __future__ import annotations

from . import asyncio_tasks, memcached_servers, redis_cluster
from .contests import OURS
from .run import Run
from .tables import mark, table

__all__ = ["cluster", "servers", "tasks"]


def tasks(this: Run) -> None:
    """A thousand tasks that read a hundred rows each, beside the same reads without an event loop."""
    lines = []
    kept = []
    for backend in asyncio_tasks.BACKENDS:
        title = f"1,000 tasks, {backend}"
        if not this.selects("asyncio", title):
            continue
        found = asyncio_tasks.times(this.stores, backend, 1000, this.rounds, this.seconds, this.step(title))
        called = found[asyncio_tasks.CALLED]
        lines += [(backend, name, f"{time:.2f}", f"{time / called:.2f}") for name, time in found.items()]
        kept.append({"backend": backend, **found})
    if lines:
        print("\n" + table(["1,000 reads of 100 rows", "how", "us/row", "x called"], lines))
        this.found["asyncio"] = kept


def cluster(this: Run) -> None:
    """A Redis Cluster beside a single server: the processor time of the client, and the whole time."""
    lines = []
    kept = []
    for operation in redis_cluster.OPERATIONS:
        title = f"{operation}, Redis Cluster"
        if not this.selects("cluster", title):
            continue
        found = redis_cluster.times(this.stores, operation, 1000, this.rounds, this.seconds, this.step(title))
        for what in ("computing", "in all"):
            ours, single = found[f"Redis Cluster, {what}"], found[f"Redis, {what}"]
            bar = redis_cluster.BAR if (operation, what) == ("query_many", "computing") else None
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
    """Several memcacheds beside one server, and beside pylibmc with ketama."""
    lines = []
    kept = []
    columns = (OURS, "one server", "pylibmc")
    for operation in memcached_servers.OPERATIONS:
        if not this.selects("servers", operation):
            continue
        tick = this.step(operation)
        found = memcached_servers.times(this.stores, operation, 1000, this.rounds, this.seconds, tick)
        lines.append((operation, *(f"{found[name]:.2f}" if name in found else "-" for name in columns)))
        kept.append({"operation": operation, **found})
    if lines:
        print("\n" + table(["us/row", *columns], lines))
        this.found["servers"] = kept
