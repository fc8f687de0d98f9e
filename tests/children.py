"""Forked children of a test, which end with it: never a second test run, and never one that nobody ends."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

from servers import HANG

__all__ = ["fork", "fork_and_check"]


def fork() -> int:
    """Fork, also beside threads, of which Python warns from 3.12 on: some are the case under test.

    Returns:
        The id of the child, and 0 in the child.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def fork_and_check(check: Callable[[], bool]) -> Callable[[], None]:
    """Run ``check`` in a forked child.

    Returns:
        What waits for the child, and raises :exc:`AssertionError` unless ``check`` gave ``True`` there. What went
        wrong is on standard error.
    """
    # A measurement of coverage has a lock too, which another thread may hold at this moment, and takes it in the child.
    trace = sys.gettrace()
    sys.settrace(None)
    child = fork()
    if child:
        sys.settrace(trace)
        return lambda: _expect_success(child)
    good = False
    try:
        # Not dump_traceback_later(): where the parent uses it, its lock is one of those that stay locked.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)
        # A child that waits for a lock which the fork copied would wait for ever.
        signal.alarm(int(HANG))
        good = check()
    except BaseException:  # noqa: BLE001 - nothing may leave: outside goes the rest of the tests
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(0 if good else 1)


def _expect_success(child: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
