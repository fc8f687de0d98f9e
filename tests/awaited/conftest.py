"""Models on each backend, and event loops of each kind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from loops import RUNNERS

import cacheorm as co


class Models(NamedTuple):
    User: Any
    Article: Any


@pytest.fixture
def models(backend: co.BaseBackend) -> Models:
    class User(co.Model):
        id = co.IntegerField(primary_key=True)
        name = co.StringField(default="nobody")
        visits = co.IntegerField(default=0)

        class Meta:
            ttl = 4000

    class Article(co.Model):
        id = co.IntegerField(primary_key=True)
        author = co.ForeignKeyField(User)
        editor = co.ForeignKeyField(User, null=True)

    co.bind([User, Article], backend=backend)
    return Models(User, Article)


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine in a new event loop."""
    found: Run = request.param
    return found
