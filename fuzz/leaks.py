"""Whether calls leave anything behind, told apart from caches that fill."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable

__all__ = ["growth"]

_TURNS = 30


def growth(call: Callable[[], object], rounds: int, measure: Callable[[], int] = sys.getallocatedblocks) -> list[int]:
    """Return by how much something grew in each turn of calls, if it did so in all; otherwise an empty list.

    What stays of every call grows in every turn, by at least as much as there were calls. Caches fill in the first
    turns, and other code of the process keeps something now and then. So nothing stays if one turn ends with less.

    Args:
        call: what may leave something behind.
        rounds: how often it is called in a turn.
        measure: returns what must not grow by one for each call; the blocks of memory that are allocated.
    """
    grown: list[int] = []
    while len(grown) < _TURNS:
        _settle()
        before = measure()
        for _ in range(rounds):
            call()
        _settle()
        grown.append(measure() - before)
        if grown[-1] < rounds:
            return []
    return grown


def _settle() -> None:
    """Free what is there only for a while."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # It keeps up to 4096 names that were looked up in classes, in places that depend on where the names lie in
        # memory: names that are made again and again fill it slowly, and never in the same way.
        sys._clear_type_cache()
