"""Time for servers: on a busy machine they need more than backends wait for by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import pytest
from servers import HANG

__all__ = ["patience"]


@contextmanager
def patience() -> Iterator[None]:
    """Have backends wait until a test hangs, where it does not say how long they do."""
    from cacheorm.backends import memcached, redis

    make = memcached.MemcachedBackend.__init__
    defaults = {
        parameter.name: parameter.default
        for parameter in signature(make).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty
    }
    assert {"timeout", "connect_timeout"} < defaults.keys()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "__defaults__", (*(defaults | {"timeout": HANG, "connect_timeout": HANG}).values(),))
        patch.setattr(redis, "_TIMEOUT", HANG)
        yield
