"""A few threads in which event loops call what blocks.

asyncio's own executor is left alone: name look-ups and other libraries wait there as well. The threads are daemons,
which do not keep the interpreter from ending, and they end when there has been nothing to do for some time. There are
no locks, so that an exception may come at any point, and a fork at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from typing import Any

from ..deadlines import deadline, remaining
from ..errors import BackendError

__all__ = ["Threads"]

# The most threads of one backend, and how many seconds each waits for something to do.
_MOST_THREADS = 8
_IDLE_SECONDS = 2.0


class Threads:
    """The threads of one backend, made as they are needed."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Begin without threads: those of a parent process do not exist in a forked child."""
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._threads: set[Thread] = set()
        self._idle: set[Thread] = set()
        self._process_id = os.getpid()

    async def run(self, function: Callable[..., Any], *args: Any, end: float) -> Any:
        """Call a function in a thread and return its result.

        A call that has begun runs to its end. If the task that awaits it is cancelled, the cancellation is raised only
        then, so that nothing is written after the task has ended. One that has not begun never will.

        Args:
            function: what to call. Deadlines bound it as they would here.
            args: its arguments.
            end: the time on the monotonic clock by which it has to end; infinity without a limit.

        Raises:
            BackendError: it had not begun by then.
        """
        call = _Call(function, args, end)
        self._submit(call)
        interruption: asyncio.CancelledError | None = None
        while not call.reply.done():
            try:
                await asyncio.wait([call.reply], timeout=None if call.is_claimed or end == inf else remaining(end))
            except asyncio.CancelledError as error:
                if call.claim():
                    raise
                interruption = error
            else:
                if not remaining(end) and call.claim():
                    raise BackendError(f"not begun: all {_MOST_THREADS} threads of the backend were busy")
        if interruption is not None:
            raise interruption from call.reply.exception()
        return call.reply.result()

    def _submit(self, call: _Call) -> None:
        if self._process_id != os.getpid():
            self._forget()
        self._calls.put(call)
        if self._calls.qsize() > len(self._idle) and len(self._threads) < _MOST_THREADS:
            arguments = self._calls, self._threads, self._idle
            thread = Thread(target=_serve, args=arguments, name="cacheorm", daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except BaseException:
                # The interpreter ends, or the machine has no more threads.
                self._threads.discard(thread)
                call.claim()
                raise


def _serve(calls: SimpleQueue[_Call], threads: set[Thread], idle: set[Thread]) -> None:
    """Run calls in this thread, until there are none for some time."""
    here = current_thread()
    while True:
        idle.add(here)
        try:
            call = calls.get(timeout=_IDLE_SECONDS)
        except Empty:
            # In this order: whoever puts a call into the queue looks for threads only afterwards.
            idle.discard(here)
            threads.discard(here)
            if calls.empty():
                return
            threads.add(here)
            continue
        idle.discard(here)
        if call.claim():
            call.run()
        # Until the next one comes, nothing of this one is kept.
        del call


class _Call:
    """A call in a thread, on behalf of the running event loop.

    Attributes:
        reply: its result, a future of the event loop.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], end: float) -> None:
        self._function = function
        self._args = args
        self._end = end
        self._context: Context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._claims = [None]
        self.reply: asyncio.Future[Any] = self._loop.create_future()

    @property
    def is_claimed(self) -> bool:
        return not self._claims

    def claim(self) -> bool:
        """Decide whether it runs, or is given up. Return whether nobody else has decided it."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def run(self) -> None:
        """Call the function, and tell the event loop what came of it."""
        result, error = None, None
        try:
            result = self._context.run(self._call)
        except BaseException as raised:  # noqa: BLE001 - the task gets it
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            self._loop.call_soon_threadsafe(self._tell, result, error)

    def _call(self) -> Any:
        if self._end == inf:
            return self._function(*self._args)
        # It may have waited for a thread. What is left counts.
        with deadline(remaining(self._end)):
            return self._function(*self._args)

    def _tell(self, result: Any, error: BaseException | None) -> None:
        if self.reply.done():
            return
        if isinstance(error, StopIteration):
            # A future cannot raise it.
            error = RuntimeError("a method of the backend raised StopIteration")
        if error is None:
            self.reply.set_result(result)
        else:
            self.reply.set_exception(error)
