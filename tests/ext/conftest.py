"""What the tests of the integrations share."""

from __future__ import annotations

import pytest

import cacheorm as co


@pytest.fixture(autouse=True)
def every_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log each message, also the second of its kind in ten seconds."""
    monkeypatch.setattr("cacheorm.logs._INTERVAL", 0.0)


@pytest.fixture
def memory() -> co.SimpleBackend:
    """An in-memory backend, for what does not depend on the backend."""
    return co.SimpleBackend()


@pytest.fixture(autouse=True)
def empty_default_backend() -> None:
    """Begin with nothing in the backend of models that name none."""
    co.default_backend.clear()
