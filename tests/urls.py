"""URLs that are refused, in each way that a URL is given, and what those say that are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cacheorm as co
from cacheorm.backends import RedisBackend, backend_from_url

__all__ = ["PLACES", "declare", "options_of", "refusal"]

PLACES = {
    "redis": "db.example:6379/0",
    "rediss": "db.example:6379/0",
    "unix": "/run/redis.sock",
    "redis+sentinel": "s1.example:26379,s2.example/rows/0",
    "rediss+sentinel": "s1.example:26379,s2.example/rows/0",
    "redis+cluster": "n1.example:7000,n2.example",
    "rediss+cluster": "n1.example:7000,n2.example",
}
"""What follows user and password, of each scheme of Redis."""


def refusal(url: str, **options: Any) -> str:
    """Return the message with which a URL is refused, the same in each way that a URL is given."""
    ways: list[Callable[[], object]] = [lambda: backend_from_url(url, **options)]
    if url.partition("://")[0] in PLACES:
        ways.append(lambda: RedisBackend.from_url(url, **options))
    if not options:
        ways.append(lambda: declare(url))
    messages = set()
    for way in ways:
        with pytest.raises(ValueError, match=r"URL|://|Redis") as caught:
            way()
        assert (caught.value.__cause__ or caught.value).__context__ is None
        messages.add(str(caught.value).removeprefix("Row.Meta.backend: "))
    (message,) = messages
    return message


def declare(url: str) -> type[co.Model]:
    """Declare a model whose rows are where a URL says."""
    return type("Row", (co.Model,), {"Meta": type("Meta", (), {"backend": url})})


def options_of(url: str, **options: Any) -> dict[str, Any]:
    """Return the options of connections to the server, or to the service, that a URL names."""
    backend: Any = backend_from_url(url, **options)
    pool = backend.client.connection_pool
    return {**pool.connection_kwargs, "max_connections": pool.max_connections}
