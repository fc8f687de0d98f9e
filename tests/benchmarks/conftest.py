"""The stores that benchmarks measure, on servers of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).parents[2]

# The benchmarks are no part of the installed package.
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from benchmarks.stores import Stores


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    from benchmarks.stores import Stores

    with Stores() as made:
        yield made
