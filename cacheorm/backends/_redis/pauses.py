"""The pauses of an operation that waits for servers to settle who does what."""

from __future__ import annotations

import time

from .._net.transport import IO

__all__ = ["Pauses"]

_FIRST = 0.01
_LONGEST = 0.25


class Pauses:
    """The pauses of one operation, longer and longer ones, as long as it has time.

    Args:
        io: the kind of I/O.
        end: when to give up.
    """

    def __init__(self, io: IO, end: float) -> None:
        self._sleep = io.sleep
        self._end = end
        self._next = 0.0

    async def next(self) -> bool:
        """Wait for a while; return whether there was time for that, and is some left. The first pause is none."""
        pause, self._next = self._next, min(max(2 * self._next, _FIRST), _LONGEST)
        if self._end - time.monotonic() <= pause:
            return False
        if pause:
            await self._sleep(pause)
        return True
