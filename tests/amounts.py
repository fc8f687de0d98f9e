"""How much of something is enough for a test in each build."""

from __future__ import annotations

import cacheorm as co

__all__ = ["enough"]


def enough(count: int) -> int:
    """Give how many rows, keys or tries to take: all with the compiled version, a fifth with the slower pure one.

    It is for tests of amounts, of Python that is the same in both, or of twins that are held together elsewhere.
    """
    return count if co.speedups_enabled else count // 5
