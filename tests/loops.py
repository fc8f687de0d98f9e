"""Event loops of each kind, for tests of what is awaited."""

from __future__ import annotations

import asyncio

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]

__all__ = ["FACTORIES", "RUNNERS", "needs_uvloop"]

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
