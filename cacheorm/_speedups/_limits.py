"""The bounds of stored forms, and of what reading them costs."""

__all__ = ["INT_MAX", "INT_MIN", "LEAST_MEMORY", "MAX_DEPTH", "MEMORY_FACTOR", "WORST_FACTOR", "allowed_memory"]

# The integers that msgpack has a form for.
INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1

MAX_DEPTH = 200
"""Levels of lists and dicts that a stored value may have; every serializer takes them, deep in a call too."""

MEMORY_FACTOR = 16
"""How many times its size a payload may take as Python objects, lists and dicts at two thirds of what they take."""

LEAST_MEMORY = 4 << 20
"""Bytes that the objects of any payload may take."""

WORST_FACTOR = 170
"""How many times its size a payload takes at most as Python objects, with Decimals and dates made of its values."""


def allowed_memory(size: int, limit: int | None) -> int:
    """Return the bytes of memory that the objects of a payload may take: a limit, or what its size allows."""
    return max(MEMORY_FACTOR * size, LEAST_MEMORY) if limit is None else limit
