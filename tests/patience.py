"""Time for servers: on a busy machine they need more than backends and clients wait for by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from inspect import Parameter, signature, unwrap
from typing import Any

import pytest
from servers import HANG

__all__ = ["patience"]


@contextmanager
def patience() -> Iterator[None]:
    """Have backends, and clients that are passed in, wait until a test hangs, where it says nothing of that."""
    import redis.asyncio

    from cacheorm.backends import memcached
    from cacheorm.backends import redis as ours

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "_TIMEOUT", HANG)
        _set_defaults(patch, memcached.MemcachedBackend.__init__, "timeout", "connect_timeout")
        for client in (redis.Redis, redis.asyncio.Redis):
            _set_defaults(patch, client.__init__, "socket_timeout", "socket_connect_timeout")
        with suppress(ImportError):  # a quick run on another Python does without it
            import pylibmc

            # These two are in milliseconds. A server that has failed once is left alone for two seconds.
            behaviors = dict.fromkeys(("connect_timeout", "_poll_timeout"), int(HANG) * 1000)
            patch.setattr(pylibmc.Client, "__init__", _with_behaviors(pylibmc.Client.__init__, behaviors))
        yield


def _with_behaviors(make: Callable[..., None], defaults: dict[str, int]) -> Callable[..., None]:
    """Return the constructor of a client of pylibmc with other defaults of behaviors."""

    def make_patient(self: Any, servers: Any, behaviors: dict[str, Any] | None = None, **options: Any) -> None:
        make(self, servers, {**defaults, **(behaviors or {})}, **options)

    return make_patient


def _set_defaults(patch: pytest.MonkeyPatch, function: Callable[..., Any], *names: str) -> None:
    """Set the default of parameters of a function."""
    function = unwrap(function)
    parameters = signature(function).parameters
    named = {name: parameters[name].replace(default=HANG) for name in names}
    has_default = [each for each in {**parameters, **named}.values() if each.default is not Parameter.empty]
    keywords = {each.name: each.default for each in has_default if each.kind is Parameter.KEYWORD_ONLY}
    patch.setattr(function, "__kwdefaults__", keywords)
    patch.setattr(function, "__defaults__", (*(each.default for each in has_default if each.name not in keywords),))
