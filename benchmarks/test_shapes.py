"""Reading and writing rows of other shapes than the standard one, without a server in between."""

from __future__ import annotations

from typing import Any

import pytest

import cacheorm as co

from .rows import Shape
from .shapes import SHAPES
from .stores import Stores


@pytest.mark.parametrize("operation", ["query_many", "insert_many"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shape(benchmark: Any, stores: Stores, count: int, shape: Shape, operation: str) -> None:
    rows = shape.rows(count)
    asked = shape.asked(rows)
    with stores.bound(shape, "Simple") as model:
        model.insert_many(rows).execute()
        benchmark.group = f"{operation}, {shape.name}"
        if operation == "query_many":
            result = benchmark(lambda: model.query_many(asked).execute())
        else:
            result = benchmark(lambda: model.insert_many(rows).execute())
        assert len(result) == count
        assert None not in result
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = round(count / benchmark.stats.stats.median)
    benchmark.extra_info |= {"build": "compiled" if co.speedups_enabled else "pure", "rows": count}
