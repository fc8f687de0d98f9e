"""What tests of two kinds of servers try alike: exceptions at any moment of calls of several kinds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from amounts import enough
from injecting import Injected, alarms, doing_at, fail, steps
from striking import struck_destructors_ignored

from cacheorm.errors import BackendError

__all__ = ["KEYS", "ROWS", "Calls", "reports_dropped"]

ROWS = {f"key:{i}": b"%d" % i for i in range(1500)}
"""What is stored before anything is struck."""

KEYS = list(ROWS)


@contextlib.contextmanager
def reports_dropped() -> Iterator[None]:
    """Drop what Python and asyncio report of exceptions that nobody can catch.

    pytest would keep them until the test ends, and with their frames all that these refer to, connections too.
    """
    logger = logging.getLogger("asyncio")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with struck_destructors_ignored(Injected):
            yield
    finally:
        logger.disabled = was_disabled


class Calls(NamedTuple):
    """Calls of a backend that has :data:`ROWS`.

    Attributes:
        kinds: how many kinds there are.
        call: makes the call of a number, and checks what it returns.
        acall: the same, awaited.
        check_places: checks that nothing is in use, and that all places can be used.
        acheck_places: the same, awaited.
    """

    kinds: int
    call: Callable[[Any, int], None]
    acall: Callable[[Any, int], Awaitable[None]]
    check_places: Callable[[Any], None]
    acheck_places: Callable[[Any], Awaitable[None]]

    def strike_bytecodes(self, backend: Any) -> None:
        """Raise an exception at each bytecode of each kind of call."""
        for kind, step, tell in steps(enough(100_000, 2000, "exceptions at a bytecode"), self.kinds):
            with doing_at(step, fail) as was_raised, contextlib.suppress(Injected):
                self.call(backend, kind)
            tell(was_raised())
            key = KEYS[step % len(KEYS)]
            assert backend.get_many("key:7", "absent", key) == [b"7", None, ROWS[key]]
        self.check_places(backend)

    def strike_bytecodes_of_coroutines(self, backend: Any) -> None:
        """Raise an exception at each bytecode of each kind of call, awaited."""

        async def main() -> None:
            # One that strikes while the event loop hands on what has arrived ends the connection: the call says so.
            for kind, step, tell in steps(enough(100_000, 2000, "exceptions at a bytecode"), self.kinds):
                with doing_at(step, fail) as was_raised, contextlib.suppress(Injected, BackendError):
                    await self.acall(backend, kind)
                tell(was_raised())
                key = KEYS[step % len(KEYS)]
                assert await backend.aget_many("key:7", "absent", key) == [b"7", None, ROWS[key]]
            await self.acheck_places(backend)
            await backend.aclose()

        asyncio.run(main())

    def strike_by_signals(self, backend: Any) -> None:
        """Raise exceptions out of a signal handler."""
        goal = enough(100_000, 1000, "exceptions of a signal handler")
        with alarms() as alarm:
            number = 0
            while alarm.raised < goal:
                number += 1
                with alarm.one_within(0.002):
                    self.call(backend, number)
                if number % 5 == 0:
                    assert backend.get_many("key:7", "absent") == [b"7", None]
        self.check_places(backend)

    def strike_coroutines_by_signals(self, backend: Any) -> None:
        """Raise exceptions out of a signal handler while calls are awaited."""

        async def main() -> None:
            goal = enough(100_000, 1000, "exceptions of a signal handler")
            with alarms() as alarm:
                number = 0
                while alarm.raised < goal:
                    number += 1
                    with alarm.one_within(0.002), contextlib.suppress(BackendError):
                        await self.acall(backend, number)
                    if number % 5 == 0:
                        assert await backend.aget_many("key:7", "absent") == [b"7", None]
            await self.acheck_places(backend)
            await backend.aclose()

        asyncio.run(main())
