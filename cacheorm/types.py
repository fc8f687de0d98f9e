"""Types and checks that every layer shares: stored values, lifetimes, models, outcomes of batch writes."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

if TYPE_CHECKING:
    from .models import Model

__all__ = [
    "KEEP_TTL",
    "NEVER",
    "OF_MODEL",
    "TTL",
    "BreakerState",
    "KeepTTL",
    "Marker",
    "OfModel",
    "Outcome",
    "PoolState",
    "Value",
    "check_span",
    "check_ttl",
    "is_coroutine_function",
    "is_model",
    "must_be_awaited",
    "not_a_model",
    "to_bytes",
]

Value = bytes | str | int | float
"""What a backend stores; it is read back as ``bytes``."""


class Marker:
    """A value that there is once, in the module of its class.

    Args:
        name: the name it has there, by which it is shown and pickled.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __reduce__(self) -> str:
        return self._name


class KeepTTL(Marker):
    """Type of :data:`KEEP_TTL`."""


KEEP_TTL: Final = KeepTTL("KEEP_TTL")
"""In place of a ttl for ``replace``: the entry keeps the lifetime it has."""

TTL = int | float | timedelta | None
"""A lifetime in seconds or as a ``timedelta``: ``None`` is the backend's default, :data:`NEVER` (0) never expires."""

NEVER: Final = 0
"""A lifetime that never ends."""


class OfModel(Marker):
    """Type of :data:`OF_MODEL`."""


OF_MODEL: Final = OfModel("OF_MODEL")
"""In place of an option of an operation: what the Meta of the model says."""


def to_bytes(value: Any) -> bytes | None:
    """Convert a value to the bytes that a backend stores for it.

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
    """Convert a lifetime to whole seconds.

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


def check_span(name: str, given: Any, hint: str) -> int | None:
    """Convert an optional number of seconds; 0 is refused, since it would mean a lifetime without end.

    Args:
        name: what to call it in messages.
        given: seconds, a ``timedelta``, or ``None``.
        hint: what ``None`` is for.

    Raises:
        TypeError, ValueError: as :func:`check_ttl`, and for 0.
    """
    if given is None:
        return None
    try:
        seconds = check_ttl(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if not seconds:
        raise ValueError(f"{name} must be at least 1 second; leave it None {hint}")
    return seconds


def is_coroutine_function(function: Any) -> bool:
    """Return whether a function was declared by ``async def``."""
    # As inspect does, which takes milliseconds to import: inspect.CO_COROUTINE
    return bool(_flags(function) & 0x80)


def must_be_awaited(function: Any) -> bool:
    """Return whether a function was declared by ``async def``, with or without ``yield``."""
    return bool(_flags(function) & 0x280)  # as above, and inspect.CO_ASYNC_GENERATOR


def _flags(function: Any) -> int:
    return getattr(getattr(function, "__code__", None), "co_flags", 0)


def is_model(cls: Any) -> TypeGuard[type[Model]]:
    """Return whether something is the class of a model with rows; abstract models and instances are not."""
    return isinstance(cls, type) and hasattr(cls, "_meta")


def not_a_model(given: Any) -> str:
    """Return what something is that is no model with rows, for error messages."""
    if is_model(given):
        return f"the class {given.__name__}"
    if not isinstance(given, type) or not hasattr(given, "_declared"):
        return type(given).__name__
    return (
        f"{given.__name__}, which is not complete yet" if "_meta" in vars(given) else f"the abstract {given.__name__}"
    )


class Outcome(dict[str, bool]):
    """The outcome of a batch write: ``{key: stored?}``, in the order of the keys given.

    Attributes:
        reasons: for each key that the server *refused* (rather than found absent or present), the reason.
        unsure: the keys among them that may be stored all the same, because the reply was lost.
    """

    __slots__ = ("reasons", "unsure")

    def __init__(self, stored: Mapping[str, bool] | None = None, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(stored or {})
        self.reasons: dict[str, str] = dict(reasons or {})
        self.unsure: set[str] = set()


class PoolState(NamedTuple):
    """The current use of the connections to one server.

    Attributes:
        server: the server's name, as in error messages.
        limit: the most connections; ``None`` if their number is not limited.
        in_use: the number of connections in use.
        idle: the number of connections that are open and not in use.
        waiting: the number of callers that wait for a connection because all are in use.
    """

    server: str
    limit: int | None
    in_use: int
    idle: int
    waiting: int


class BreakerState(NamedTuple):
    """The state of the circuit breaker of one server, which keeps calls from a server that did not reply.

    Attributes:
        server: the server's name, as in error messages.
        reason: why the server is not used; ``None`` while it replies.
        failures: how often it has not replied until now.
    """

    server: str
    reason: str | None
    failures: int
