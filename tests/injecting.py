"""Exceptions at any moment: at a chosen bytecode of the package, and out of a signal handler."""

from __future__ import annotations

import contextlib
import dis
import inspect
import itertools
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from amounts import LONG

import cacheorm

__all__ = ["Injected", "alarms", "can_be_interrupted", "count_bytecodes", "doing_at", "fail", "on_alarm", "steps"]

# Seconds after which a signal that came elsewhere comes again.
_AGAIN = 0.00005

_PACKAGE = str(Path(cacheorm.__file__).parent)


# Where one exception takes the place of another that is handled. CPython interrupts nothing there, and what a trace
# function raises there would leave the other behind, as the context of all later exceptions of the thread.
_HANDLING = {"NOP", "PUSH_EXC_INFO", "POP_EXCEPT", "RERAISE", "COPY", "WITH_EXCEPT_START", "CHECK_EXC_MATCH"}


class Injected(Exception):
    """Raised where nothing raises."""


def can_be_interrupted(frame: FrameType) -> bool:
    """Return whether an exception may strike before the bytecode that a frame is about to run."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] not in _HANDLING


@contextlib.contextmanager
def doing_at(step: int, act: Callable[[], object], *also: str, within: str = "") -> Iterator[Callable[[], bool]]:
    """Call a function before the bytecode number ``step`` that this thread runs in the package.

    Args:
        step: from 1 on.
        act: what may raise; the exception is raised by that bytecode.
        also: further files whose bytecodes count. In all others, as in what the collector calls at any moment, none do.
        within: the only file or folder of the package whose bytecodes count; the whole package if not given.

    Yields:
        What returns whether it was called.
    """
    left = step

    def pass_one() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            sys.settrace(None)  # what follows need not be counted
            act()

    with _before_each(pass_one, str(Path(_PACKAGE, within)), *also):
        yield lambda: left <= 0


def count_bytecodes(call: Callable[[], object]) -> int:
    """Return how many bytecodes a call runs in the package that :func:`doing_at` counts."""
    passed = itertools.count()
    with _before_each(partial(next, passed), _PACKAGE):
        call()
    return next(passed)


@contextlib.contextmanager
def _before_each(do: Callable[[], object], *files: str) -> Iterator[None]:
    """Call a function before each bytecode of some files or folders that may be struck."""

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(files):
            return None
        # What is called by a frame that may be struck may be, too.
        if event == "call" and frame.f_back.f_trace is not trace and not _may_be_struck(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and can_be_interrupted(frame):
            do()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def fail() -> None:
    """Raise :exc:`Injected`."""
    raise Injected


def steps(goal: int, kinds: int) -> Iterator[tuple[int, int, Callable[[bool], None]]]:
    """Walk through calls of several kinds, bytecode by bytecode, until so many were struck. A short run skips some.

    Yields:
        The number of a kind of call, the step for :func:`doing_at`, and what is told whether it was reached.
    """
    done = 0
    stride = 1 if LONG else 7
    first = [1] * kinds
    at = [1 - stride] * kinds
    while done < goal:
        for kind in range(kinds):
            at[kind] += stride

            def tell(was_reached: bool, kind: int = kind) -> None:
                nonlocal done
                done += was_reached
                if not was_reached:  # past its end
                    first[kind] = first[kind] % stride + 1
                    at[kind] = first[kind] - stride

            yield kind, at[kind], tell
            if done == goal:
                return


class _Alarms:
    """What :func:`alarms` yields.

    Attributes:
        raised: how many exceptions there were.
    """

    def __init__(self, seed: int) -> None:
        self.raised = 0
        self._is_armed = False
        self._chance = random.Random(seed)

    @contextlib.contextmanager
    def one_within(self, seconds: float) -> Iterator[None]:
        """Raise :exc:`Injected` at some moment within the block, if it lasts so long."""
        try:
            self._is_armed = True
            signal.setitimer(signal.ITIMER_REAL, max(self._chance.random() * seconds, 1e-6))
            yield
        finally:
            self._is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def ring(self, number: int, frame: Any) -> None:
        if not self._is_armed:
            return
        if _may_be_struck(frame):
            self._is_armed = False
            self.raised += 1
            raise Injected
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)


# Event loops do not outlast an exception in their own code, and modules with locks of their own may keep those.
_LEFT_ALONE = ("asyncio", "selectors", "logging", "importlib")


def _may_be_struck(frame: Any) -> bool:
    """Return whether an exception in a frame leaves code of the package, by way of nothing that does not outlast it."""
    is_ours = is_coroutine = False
    while frame is not None and not _is_left_alone(frame):
        is_ours = is_ours or frame.f_code.co_filename.startswith(_PACKAGE)
        is_coroutine = bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        frame = frame.f_back
    # Elsewhere it would be an error of the test, or of the event loop, which logs what strikes its callbacks.
    return is_ours and (frame is None or is_coroutine)


def _is_left_alone(frame: Any) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in _LEFT_ALONE


@contextlib.contextmanager
def on_alarm(handle: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have a handler of :data:`signal.SIGALRM`, and no timer at the end.

    A signal that is on its way then would end the process by default, and Python reports an error if it was received
    and has no handler any more. So one that does nothing stays.
    """
    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if callable(before) else _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal that nobody waits for any more."""


@contextlib.contextmanager
def alarms(seed: int = 1) -> Iterator[_Alarms]:
    """Have a signal handler that raises when it is told to, while the package is at work."""
    made = _Alarms(seed)
    with on_alarm(made.ring):
        yield made
