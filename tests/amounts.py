"""How much a run tries: a part in ``make test``, all in ``make test-long``, and the figures of what was tried."""

from __future__ import annotations

import os
from collections import Counter

__all__ = ["LONG", "enough", "tried"]

LONG = os.environ.get("CACHEORM_LONG_TESTS", "0") not in ("", "0")
"""Whether this run takes the full counts."""

tried: Counter[str] = Counter()
"""What this process has tried so far; conftest.py prints the sums of all processes when the run ends."""


def enough(full: int, brief: int | None = None, of: str | None = None) -> int:
    """Return how many rows, keys, inputs or tries to take.

    Args:
        full: how many in a long run.
        brief: how many in any other run; a fifth of ``full`` if not given.
        of: what they are, in the plural, to have them among the figures of the run.
    """
    count = full if LONG else -(-full // 5) if brief is None else brief
    if of is not None:
        tried[of] += count
    return count
