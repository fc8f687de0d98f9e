"""Loads that go on behind an answer."""

from __future__ import annotations

import logging
from typing import Any

from ..async_driver import arun
from ..behind import is_ending
from ..loaders import Loaders
from ..logs import log
from ..metadata import RowPlan
from ..requests import Steps
from ..sync_driver import run
from .waiting import Awaited

__all__ = ["LoadJob", "note_failure"]


class LoadJob(Awaited):
    """An operation that loads rows, and goes on behind an answer; nobody has to wait for it.

    Args:
        plan: the plan of the model.
        loaders: what it calls.
        steps: the operation, which has not begun.
    """

    __slots__ = ("_is_over", "_loaders", "_plan", "_result", "_steps")

    def __init__(self, plan: RowPlan, loaders: Loaders, steps: Steps[Any]) -> None:
        super().__init__()
        self._plan = plan
        self._loaders = loaders
        self._steps = steps
        self._result: Any = None
        self._is_over = False

    @property
    def only_awaited(self) -> bool:
        """Whether it can only be done in an event loop."""
        return self._loaders.only_awaited

    @property
    def in_loop(self) -> bool:
        """Whether an event loop does it itself."""
        return self._loaders.in_loop

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._is_over

    def result(self) -> Any:
        """Return what the operation returned; ``None`` if it failed, or has not ended."""
        return self._result

    def run(self) -> None:
        """Do it in a thread."""
        try:
            self._result = run(self._steps)
        except BaseException as error:  # noqa: BLE001 - nobody else is there to handle it
            note_failure(self._plan, error)
        finally:
            self._end()

    async def arun(self) -> None:
        """Do it in an event loop."""
        try:
            self._result = await arun(self._steps, awaited=False)
        except Exception as error:  # noqa: BLE001 - as above
            note_failure(self._plan, error)
        finally:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self.wake()


def note_failure(plan: RowPlan, error: BaseException) -> None:
    """Count a load that failed while its callers have older rows, and log it; its text may quote what is secret."""
    plan.aging.count_failure()
    if not is_ending():
        message = "%s: rows could not be loaded anew, and are given as they are: %s"
        log(logging.WARNING, "loading anew", message, plan.model.__name__, type(error).__name__)
