"""Databases for the tests of models in front of mapped classes, and a small shop in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from shops import engine_of, make_shop

import cacheorm as co


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    found: str = request.getfixturevalue("postgres_url")
    return found.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    with engine_of(url) as engine:
        yield engine


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine for SQLite, for what does not depend on the database."""
    with engine_of(f"sqlite:///{tmp_path}/test.db") as engine:
        yield engine


@pytest.fixture
def shop(engine: sa.Engine, memory: co.SimpleBackend) -> SimpleNamespace:
    return make_shop(engine, memory)
