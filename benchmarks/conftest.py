"""Backends on servers of their own, and the details that pytest-benchmark stores with each benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import cacheorm as co

from .stores import Stores


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=int, default=1000, help="rows in each batch")


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Say in the file what each figure is of."""
    output_json["cacheorm"] = {"version": co.__version__, "compiled": co.speedups_enabled}


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Servers and backends, started when a benchmark asks for them."""
    with Stores() as made:
        yield made


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many rows a batch has."""
    return int(request.config.getoption("--rows"))
