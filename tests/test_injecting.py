"""Exceptions that tests inject strike where CPython can be interrupted, and leave nothing behind for later tests."""

from __future__ import annotations

import sys
from contextlib import suppress

from injecting import Injected, doing_at, fail
from striking import strike_at

from cacheorm.requests import Steps
from cacheorm.sync_driver import run


def ends_at_once() -> Steps[int]:
    return 5
    yield


def handles_an_exception() -> None:
    run(ends_at_once())  # the result of a generator is that of StopIteration


def test_an_exception_that_strikes_leaves_none_behind_that_was_being_handled() -> None:
    step = 1
    while strike_at(handles_an_exception, step):
        assert sys.exc_info() == (None, None, None)
        step += 1
    assert step > 10
    for at in range(1, step + 10):
        with suppress(Injected), doing_at(at, fail):
            handles_an_exception()
        assert sys.exc_info() == (None, None, None)
