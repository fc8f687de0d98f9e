"""Databases with the tables of the market: SQLite in a file, and PostgreSQL. All tests of Django are in this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import market
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

if TYPE_CHECKING:
    from postgresql import PostgresServer


def _add(alias: str, **options: Any) -> None:
    """Add a database with the tables of the market to Django's settings."""
    settings = connections.configure_settings({"default": {}, alias: options})
    connections.settings[alias] = settings[alias]
    from market.models import MODELS

    with connections[alias].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("django") / "market.db"
    _add("sqlite", ENGINE="django.db.backends.sqlite3", NAME=str(path), OPTIONS={"timeout": 60})
    yield "sqlite"
    connections["sqlite"].close()


@pytest.fixture(scope="session")
def postgres(shared_postgres_server: PostgresServer) -> Iterator[str]:
    with shared_postgres_server.database() as url:
        parts = urlsplit(url)
        address = {"HOST": parts.hostname, "PORT": str(parts.port), "USER": parts.username, "NAME": parts.path[1:]}
        _add("postgres", ENGINE="django.db.backends.postgresql", **address)
        yield "postgres"
        connections["postgres"].close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The alias of each database in turn, empty, which all models are read from and written to."""
    with market.emptied(request.getfixturevalue(request.param)) as alias:
        yield alias


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine in an event loop, and close the connections of the thread of Django's awaited queries."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        async def all_of_it() -> Any:
            try:
                return await main
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(all_of_it())

    return run
