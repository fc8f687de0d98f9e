"""The bounds of stored forms."""

__all__ = ["INT_MAX", "INT_MIN", "MAX_DEPTH"]

# The integers that msgpack has a form for.
INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1

MAX_DEPTH = 200
"""Levels of lists and dicts that a stored value may have; every serializer takes them, deep in a call too."""
