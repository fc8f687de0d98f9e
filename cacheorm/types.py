"""Types and checks that every layer shares: stored values, lifetimes, outcomes of batch writes."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

__all__ = [
    "KEEP_TTL",
    "NEVER",
    "TTL",
    "BreakerState",
    "KeepTTL",
    "Outcome",
    "PoolState",
    "Value",
    "check_ttl",
    "to_bytes",
]

Value = bytes | str | int | float
"""What a backend stores; it is read back as ``bytes``."""


class KeepTTL:
    """Type of :data:`KEEP_TTL`."""

    def __repr__(self) -> str:
        return "KEEP_TTL"

    def __reduce__(self) -> str:
        return "KEEP_TTL"


KEEP_TTL: Final = KeepTTL()
"""In place of a ttl for ``replace``: the entry keeps the lifetime it has."""

TTL = int | float | timedelta | None
"""A lifetime in seconds or as a ``timedelta``: ``None`` is the backend's default, :data:`NEVER` (0) never expires."""

NEVER: Final = 0
"""A lifetime that never ends."""


def to_bytes(value: Any) -> bytes | None:
    """Give the bytes under which a backend stores a value.

    Args:
        value: bytes as they are, text as UTF-8, a number as its decimal text, ``None`` as ``None``.

    Raises:
        TypeError: for every other type, ``bool`` included (it reads back as neither 0/1 nor a bool).
    """
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, bool):
        raise TypeError("cannot store a bool as bytes: store 0 or 1")
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return repr(float(value)).encode("ascii")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"cannot store {type(value).__name__} as bytes: expected bytes, str, int or float")
    return bytes(value)


def check_ttl(ttl: Any) -> int:
    """Give a lifetime as whole seconds.

    Args:
        ttl: seconds, or a ``timedelta``; ``0`` never expires. Fractions are dropped.

    Raises:
        TypeError: for anything but a number.
        ValueError: for a negative or non-finite number, or one between 0 and 1: dropping its
            fraction would turn a very short lifetime into "forever".
    """
    if type(ttl) is int:
        seconds = ttl
    elif isinstance(ttl, bool):
        raise TypeError("ttl must be a number of seconds, got bool")
    elif isinstance(ttl, timedelta):
        return check_ttl(ttl.total_seconds())
    elif isinstance(ttl, float):
        if not math.isfinite(ttl):
            raise ValueError(f"ttl must be finite, got {ttl}; use 0 for entries that never expire")
        if 0 < ttl < 1:
            raise ValueError(f"ttl must be 0 or at least 1 second, got {ttl}")
        seconds = int(ttl)
        if ttl < 0:
            seconds = -1
    else:
        try:
            seconds = operator.index(ttl)
        except TypeError:
            raise TypeError(f"ttl must be a number of seconds, got {type(ttl).__name__}") from None
    if seconds < 0:
        raise ValueError(f"ttl must not be negative, got {ttl}; use 0 for entries that never expire")
    return seconds


class Outcome(dict[str, bool]):
    """What a batch write did: ``{key: stored?}``, in the order of the keys given.

    Attributes:
        reasons: for keys that the server *refused* (rather than found absent or present), why.
        unsure: those among them that may be stored all the same: the answer was lost on its way.
    """

    __slots__ = ("reasons", "unsure")

    def __init__(self, stored: Mapping[str, bool] | None = None, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(stored or {})
        self.reasons: dict[str, str] = dict(reasons or {})
        self.unsure: set[str] = set()


class PoolState(NamedTuple):
    """How the connections to one server are used at the moment.

    Attributes:
        server: the server's name, as in error messages.
        limit: how many connections there may be; ``None`` if their number is not limited.
        in_use: how many of them are in use.
        idle: how many are open and not in use.
        waiting: how many callers wait for a connection because all are in use.
    """

    server: str
    limit: int | None
    in_use: int
    idle: int
    waiting: int


class BreakerState(NamedTuple):
    """Whether one server is left alone because it did not answer.

    Attributes:
        server: the server's name, as in error messages.
        reason: why it is left alone; ``None`` while it answers.
        failures: how often it did not answer until now.
    """

    server: str
    reason: str | None
    failures: int
