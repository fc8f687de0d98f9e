"""Exceptions that strike in the middle of the package's code, as those of signal handlers and soft time limits do."""

from __future__ import annotations

import contextlib
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from injecting import doing_at, on_alarm

import cacheorm

__all__ = ["Struck", "strike_after", "strike_at", "struck_destructors_ignored"]

_PACKAGE = str(Path(cacheorm.__file__).parent)


class Struck(BaseException):
    """What strikes."""


def _strike() -> None:
    raise Struck


def _is_ours(frame: types.FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_PACKAGE)


def strike_at(call: Callable[[], object], bytecode: int) -> bool:
    """Call something, and raise :exc:`Struck` before one of the package's bytecodes.

    Args:
        call: what to call.
        bytecode: which one, counted from 1 in the order in which they run.

    Returns:
        Whether so many ran.
    """
    with doing_at(bytecode, _strike) as was_reached, contextlib.suppress(Struck):
        call()
    return was_reached()


def strike_after(call: Any, seconds: float) -> bool:
    """Call a function, and raise :exc:`Struck` in a signal handler if that time finds it or the package at work.

    Returns:
        Whether it did.
    """
    struck = is_over = False

    def handle(_: int, frame: types.FrameType | None) -> None:
        nonlocal struck
        below = frame
        while below is not None and not (_is_ours(below) or below.f_code is call.__code__):
            below = below.f_back
        if below is not None and not is_over:
            struck = True
            raise Struck

    with on_alarm(handle):
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            call()
        except Struck:
            pass
        finally:
            is_over = True
    return struck


@contextlib.contextmanager
def struck_destructors_ignored(kind: type[BaseException] = Struck) -> Iterator[None]:
    """Ignore an exception where Python reports it and goes on, as it does in destructors.

    pytest would keep it until the test ends, and with its frames all that they refer to.
    """
    before = sys.unraisablehook

    def report(problem: Any) -> None:
        if problem.exc_type is not kind:
            before(problem)

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = before
