"""Every operation on every backend with every serializer: rows per second, and memory.

``make bench`` runs this in both builds and keeps the figures as JSON in ``.benchmarks/``.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co

from .messages import user_message
from .rows import STANDARD, changes
from .stores import BACKENDS, Stores

SERIALIZERS = ("msgpack", "json", "protobuf", "pickle")
OPERATIONS = ("query_many", "insert_many", "update_many", "delete_many", "get", "create")

# The preset pickle is refused wherever other processes can write.
PAIRS = [(backend, name) for backend in BACKENDS for name in SERIALIZERS if name != "pickle" or backend == "Simple"]


def serializer(name: str) -> Any:
    """Return the serializer of a name, to bind a model to."""
    return co.ProtobufSerializer(user_message()) if name == "protobuf" else name


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("backend", "name"), PAIRS, ids=[f"{backend}-{name}" for backend, name in PAIRS])
def test_operation(benchmark: Any, stores: Stores, count: int, backend: str, name: str, operation: str) -> None:
    rows = STANDARD.rows(count)
    asked, changed = STANDARD.asked(rows), changes(rows)
    with stores.bound(STANDARD, backend, serializer(name)) as model:
        model.insert_many(rows).execute()
        bulk: dict[str, Callable[[], Any]] = {
            "query_many": lambda: model.query_many(asked).execute(),
            "insert_many": lambda: model.insert_many(rows).execute(),
            "update_many": lambda: model.update_many(changed).execute(),
            "delete_many": lambda: model.delete_many(asked).execute(),
        }
        single: dict[str, Callable[[], Any]] = {
            "get": lambda: model.get(id=0),
            "create": lambda: model.create(**rows[0]),
        }
        call = (bulk | single)[operation]
        per_call = count if operation in bulk else 1
        benchmark.group = f"{operation}, {backend}"
        if operation == "delete_many":
            # Once deleted, there is nothing to delete: the rows are written again before each round.
            benchmark.pedantic(call, setup=lambda: bulk["insert_many"]() and None, rounds=20, warmup_rounds=1)
            bulk["insert_many"]()
        else:
            result = benchmark(call)
            if operation in bulk:
                assert len(result) == count
                assert None not in result
            else:
                assert result == model(**rows[0])
        kept, peak = memory(call)
    # There are none with --benchmark-disable.
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = round(per_call / benchmark.stats.stats.median)
    benchmark.extra_info |= {
        "build": "compiled" if co.speedups_enabled else "pure",
        "rows": per_call,
        "bytes_kept_per_row": round(kept / per_call, 1),
        "bytes_at_peak_per_row": round(peak / per_call, 1),
    }


def memory(call: Callable[[], Any]) -> tuple[int, int]:
    """Return the bytes that the result of a call keeps, and the peak while it ran."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = call()
        after, peak = tracemalloc.get_traced_memory()
        del kept
        return after - before, peak - before
    finally:
        tracemalloc.stop()
