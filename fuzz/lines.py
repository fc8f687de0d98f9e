"""Which lines of the pure build have run, which guides the fuzzing of both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = ["Lines"]

T = TypeVar("T")

# How many calls of a function are followed where Python tells of each line again, and of those that come later, one in:
_ALL, _ONE_IN = 200, 32

# A number that is nobody's: debuggers, coverage and profilers have others.
_TOOL = 4


class Lines:
    """The lines of a package's modules that have run in calls of :meth:`run`.

    Args:
        folder: of the package.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.count = 0
        # The lines of each function that have not run, and its calls; no lines for code of others.
        self._left: dict[CodeType, tuple[set[int], list[int]]] = {}
        self._monitored = hasattr(sys, "monitoring")
        if self._monitored:
            self._monitor()

    def run(self, function: Callable[[bytes], T], data: bytes) -> tuple[T, bool]:
        """Call a function. Return its result, and whether lines have run that had not before."""
        before = self.count
        if self._monitored:
            return function(data), self.count > before
        others = sys.gettrace()
        sys.settrace(self._trace)
        try:
            result = function(data)
        finally:
            sys.settrace(others)
        return result, self.count > before

    def _monitor(self) -> None:
        """Be told of each line once, which costs nothing afterwards."""
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        if monitoring.get_tool(_TOOL) is None:
            monitoring.use_tool_id(_TOOL, "fuzzing")

        def ran(code: CodeType, line: int) -> Any:
            self.count += code.co_filename.startswith(self._folder)
            return monitoring.DISABLE

        monitoring.register_callback(_TOOL, monitoring.events.LINE, ran)
        monitoring.set_events(_TOOL, monitoring.events.LINE)
        # An earlier one was told of some lines already.
        monitoring.restart_events()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        """Follow a call of a function of which lines are left: later only some, as that takes ten times as long."""
        code = frame.f_code
        known = self._left.get(code)
        if known is None:
            own = code.co_filename.startswith(self._folder)
            lines = {line for _, _, line in code.co_lines() if line} if own else set()
            known = self._left[code] = (lines, [0])
        lines, calls = known
        if not lines:
            return None
        calls[0] += 1
        return self._trace_line if calls[0] <= _ALL or not calls[0] % _ONE_IN else None

    def _trace_line(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            lines, _ = self._left[frame.f_code]
            if frame.f_lineno in lines:
                lines.discard(frame.f_lineno)
                self.count += 1
        return self._trace_line
