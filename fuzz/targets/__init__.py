"""What is fuzzed.

The module of a target has these names:

``prepare(co)``
    takes a build of the package, and returns a function that takes an input and returns all that can be seen of it, as
    :class:`~fuzz.seen.Seen`.
``SEEDS``
    inputs to begin with.
``TOKENS``
    bytes that new inputs are made of, besides any.
"""

from __future__ import annotations

from typing import Any

from . import adopt, keys, lru_table, memcached, resp, rows

__all__ = ["TARGETS"]

TARGETS: dict[str, Any] = {
    "rows": rows,
    "resp": resp,
    "memcached": memcached,
    "keys": keys,
    "adopt": adopt,
    "lru_table": lru_table,
}
