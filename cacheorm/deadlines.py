"""Deadlines: how long operations may take, from options of backends and from :func:`deadline` around them.

A backend asks :func:`until` once, when an operation begins, and :func:`remaining` before each wait.
"""

from __future__ import annotations

from contextvars import ContextVar
from math import inf
from time import monotonic
from weakref import ref

__all__ = ["Deadline", "check_seconds", "deadline", "lift", "remaining", "until"]


def check_seconds(name: str, seconds: object) -> float:
    """Return a time span as a float.

    Args:
        name: what to call it in messages.
        seconds: a number of seconds.

    Raises:
        TypeError: it is no ``int`` and no ``float``.
        ValueError: it is negative, infinite or not a number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {type(seconds).__name__}")
    # The upper bound is for an int that fits no float; it also excludes infinity, and what is not a number.
    if not 0 <= seconds < 1e300:
        raise ValueError(f"{name} must be a finite number of seconds, at least 0")
    return float(seconds)


class Deadline:
    """The context manager that :func:`deadline` returns; it is for one block."""

    def __init__(self, seconds: float) -> None:
        self._seconds = check_seconds("deadline", seconds)
        self._bound: _Bound | None = None

    def __enter__(self) -> None:
        if self._bound is not None:
            raise RuntimeError("this deadline has been used: call deadline() for each block")
        outer = _current.get()
        while outer is not None and not outer.is_in_force():
            outer = outer.outer
        self._bound = _Bound(monotonic() + self._seconds, outer, self)
        _current.set(self._bound)

    def __exit__(self, *exc_info: object) -> None:
        bound = self._bound
        # Not so where the block ends in another context than it began in, as that of an asynchronous generator may.
        if bound is not None and _current.get() is bound:
            _current.set(bound.outer)
            bound.was_left = True


class _Bound:
    """The end of one block, on the monotonic clock, and the block around it.

    An exception of a signal handler may end ``__enter__`` when the bound is set and the block has not begun, or come
    before ``__exit__`` runs. So a bound counts only as long as its manager exists, which the block holds, or for tasks
    that were started in a block that was left.
    """

    __slots__ = ("_manager", "end", "outer", "was_left")

    def __init__(self, end: float, outer: _Bound | None, manager: Deadline) -> None:
        self.end = end
        self.outer = outer
        self.was_left = False
        self._manager = ref(manager)

    def is_in_force(self) -> bool:
        return self.was_left or self._manager() is not None


_current: ContextVar[_Bound | None] = ContextVar("cacheorm_deadline", default=None)


def deadline(seconds: float) -> Deadline:
    """Bound the time of all operations in a ``with`` block, calls and awaits alike.

    Args:
        seconds: how long the block's operations may take together, from the beginning of the block.

    Raises:
        TypeError, ValueError: ``seconds`` is no finite number of at least 0.

    An operation that is not done by then fails with :exc:`~cacheorm.errors.BackendError`, as with a timeout of its
    backend. Of nested blocks, and of a block and a timeout, the tighter one counts. Tasks and calls of
    :func:`asyncio.to_thread` that are started in the block are bounded as well; other threads are not.

    >>> with deadline(2.5):
    ...     pass
    """
    return Deadline(seconds)


def lift() -> None:
    """Lift the deadlines of the present context, for what has to be tried whatever time its caller has left."""
    _current.set(None)


def until(timeout: float | None) -> float:
    """Return the time on the monotonic clock by which an operation that begins now has to end.

    Args:
        timeout: the most seconds that it may take by itself; ``None`` does not bound it.

    Returns:
        That of ``timeout`` or of the blocks around it, whichever is earlier; infinity if there is neither.
    """
    end = inf if timeout is None else monotonic() + timeout
    bound = _current.get()
    while bound is not None:
        if bound.end < end and bound.is_in_force():
            end = bound.end
        bound = bound.outer
    return end


def remaining(end: float) -> float:
    """Return the seconds that are left until ``end``, a time on the monotonic clock; 0 if it has passed."""
    return max(0.0, end - monotonic())
