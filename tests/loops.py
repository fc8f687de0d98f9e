"""Event loops of each kind, for tests of what is awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

__all__ = ["FACTORIES", "RUNNERS", "call", "needs_uvloop"]

needs_uvloop = pytest.mark.skipif(
    uvloop is None, reason="uvloop is not installed: not every platform and Python has a wheel of it"
)


FACTORIES = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(None if uvloop is None else uvloop.new_event_loop, id="uvloop", marks=needs_uvloop),
]
"""What makes an event loop: parameters of a test or a fixture."""

RUNNERS = [
    pytest.param(asyncio.run, id="asyncio"),
    pytest.param(None if uvloop is None else uvloop.run, id="uvloop", marks=needs_uvloop),
]
"""What runs a coroutine in a new event loop: likewise."""


def call(way: Any, backend: Any, method: str, *args: Any) -> Any:
    """Call a method of a backend, or await its twin in an event loop of its own.

    Args:
        way: ``"called"``, ``"awaited"`` or one of :data:`FACTORIES`.
        backend: the backend.
        method: the name of the method.
        args: what it is called with.
    """
    if way == "called":
        return getattr(backend, method)(*args)

    async def main() -> Any:
        try:
            return await getattr(backend, f"a{method}")(*args)
        finally:
            await backend.aclose()

    with asyncio.Runner(loop_factory=None if way == "awaited" else way) as runner:
        return runner.run(main())
