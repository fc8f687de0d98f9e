"""What tests of models share."""

from __future__ import annotations

import pytest

import cacheorm as co


@pytest.fixture
def memory() -> co.SimpleBackend:
    """An in-memory backend, for what does not depend on the backend."""
    return co.SimpleBackend()
