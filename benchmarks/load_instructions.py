"""What a loader costs a read that does not need it, and what rows cost that are due, in instructions of callgrind.

All rows are in the cache. Of a read with rows that are due, the answer counts, the start of a thread included, and not
what that thread does behind it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import cacheorm as co
from cacheorm.aging import Aging
from cacheorm.operations.jobs import LoadJob

from .instructions import counts_of, mark
from .rows import STANDARD

__all__ = ["READS", "count"]

READS = ("without a loader", "with a loader", "with refresh_after", "of 300 rows that are due")
"""The reads of 1000 rows."""

_ROWS = 1000
_DUE = 300


def count() -> dict[str, int]:
    """Count the instructions of one call of ``query_many``, by kind of read.

    In memory, where nothing else is computed: of a server's backend, a read takes more, and of that these less.
    """
    totals = counts_of("benchmarks.load_instructions", 2 * len(READS))
    return {read: totals[2 * at + 1] for at, read in enumerate(READS)}


def _loader(pks: list[Any]) -> dict[Any, Any]:
    raise AssertionError("all rows are in the cache")


def _model(name: str, options: dict[str, Any]) -> Any:
    """Return the standard model with other options."""
    body = {"Meta": type("Meta", (), {"name": name, **options}), "__qualname__": f"_model.<locals>.{name}"}
    return type(STANDARD.model)(name, (STANDARD.model,), body)


def _reads(backend: Any) -> list[Callable[[], Any]]:
    """Return what reads 1000 rows, in the order of :data:`READS`."""
    LoadJob.run = LoadJob._end  # type: ignore[method-assign]
    now = [1_700_000_000_000]
    Aging.now = lambda aging: now[0]  # type: ignore[method-assign]
    aged = {"loader": _loader, "refresh_after": 60}
    options: list[dict[str, Any]] = [{}, {"loader": _loader}, aged, aged]
    models = [_model(f"loads{at}", {"backend": backend, "ttl": 3600, **given}) for at, given in enumerate(options)]
    rows = [STANDARD.make(pk) for pk in range(_ROWS)]
    models[-1].insert_many(rows[:_DUE]).execute()
    now[0] += 61_000
    models[-1].insert_many(rows[_DUE:]).execute()
    for model in models[:-1]:
        model.insert_many(rows).execute()

    def prepare(model: Any) -> Any:
        model._meta.paused.release([model.key(id=pk) for pk in range(_ROWS)])
        return model.query_many(range(_ROWS))

    return [partial(prepare, model) for model in models]


def main() -> None:
    """Do each read once between two marks."""
    for prepare in _reads(co.SimpleBackend()):
        for _ in range(2):
            prepare().execute()
        query = prepare()
        gc.collect()
        gc.disable()
        mark()
        query.execute()
        mark()
        gc.enable()


if __name__ == "__main__":
    main()
