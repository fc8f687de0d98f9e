"""One server of several: asked as long as it answers, then left alone for a while, and tried by one as for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

from .exchange import UnreachableError
from .health import Health
from .meta import MetaEngine

__all__ = ["Node"]

T = TypeVar("T")
Parts = TypeVarTuple("Parts")

# How much of the timeout who tries a server that was out waits for it; and for how many seconds at least, where the
# timeout is longer: one that is merely far away, or has much to do, would else never be back.
_PROBE_SHARE = 0.1
_PROBE_SECONDS = 0.25


class Node:
    """One server as an engine over several sees it.

    Args:
        pool: connections to it.
        health: what all engines of the backend know of it.
        timeout: of the connections, in seconds.
    """

    def __init__(self, pool: Any, health: Health, timeout: float) -> None:
        self.engine = MetaEngine(pool)
        self.server = pool.server
        self._pool = pool
        self._health = health
        self._patience = max(timeout * _PROBE_SHARE, min(timeout, _PROBE_SECONDS))
        self._failures = 0
        pool.check = self.check
        pool.unreachable = health.fail

    def run(self, work: Callable[[MetaEngine, *Parts], Awaitable[T]], *args: *Parts) -> Awaitable[T]:
        """Do something on the server, unless it is out.

        Raises:
            UnreachableError: it is out, or does not answer now.
            BackendError: anything else went wrong.
        """
        # Without a coroutine of its own where all is well.
        if self._health.reason is None and self._failures == self._health.failures:
            return work(self.engine, *args)
        return self._run_again(work, *args)

    async def _run_again(self, work: Callable[[MetaEngine, *Parts], Awaitable[T]], *args: *Parts) -> T:
        health = self._health
        if health.reason is not None:
            await self._try()
        if self._failures != health.failures:
            # Connections of the time before it was out are no good any more, though that may not show.
            self._failures = health.failures
            self._pool.drop_idle()
        return await work(self.engine, *args)

    def check(self) -> None:
        """Raise what :meth:`run` does if the server has been found not to answer."""
        if self._health.reason is not None and self._health.out:
            raise UnreachableError(f"{self._health.reason} (it is out for a while, and was not asked)")

    async def _try(self) -> None:
        """Find out whether a server that was out answers again: as one for all, the others do not wait for it."""
        health = self._health
        if not health.claim():
            self.check()
            return
        try:
            connection = await self._pool.open(self._patience)
            try:
                connection.send(b"mn\r\n")
                while (reply := connection.reader.read_reply()) is None:
                    await connection.pump()
                if reply[0] != b"MN":
                    raise ValueError("it does not speak memcached's meta commands")
            finally:
                connection.close()
        except (OSError, ValueError) as error:
            health.fail(f"{self.server}: {error}")
            raise UnreachableError(f"{self.server}: {error}") from error
        else:
            health.succeed()
        finally:
            health.release()
