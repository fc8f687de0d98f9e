"""One call of a loader: in the thread of its caller, in a thread for an awaited operation, or in its event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..async_driver import awaited_reply
from ..loaders import Loaders
from ..requests import CallFunction
from .load_turns import Turn

__all__ = ["LoaderCall"]


class LoaderCall:
    """A call of the loader for one load.

    Args:
        loaders: the functions to call.
        turn: the turn of the load.
        argument: what the function is called with.
    """

    def __init__(self, loaders: Loaders, turn: Turn, argument: Any) -> None:
        self._loaders = loaders
        self._turn = turn
        self._argument = argument

    def request(self) -> CallFunction:
        """Return the request for the call."""
        return CallFunction(self._call, (), awaited=self._acall)

    def _call(self) -> Any:
        load = self._turn.load
        function = self._loaders.to_call()
        outer = load.enter_loader()
        try:
            return self._reply_of(function)
        finally:
            load.leave_loader(outer)

    async def _acall(self) -> Any:
        load = self._turn.load
        function, in_thread = self._loaders.to_await()
        outer = load.enter_loader()
        try:
            if not in_thread:
                return await awaited_reply(self._reply_of(function))
            import asyncio

            return await awaited_reply(await asyncio.to_thread(self._call_in_thread, function))
        finally:
            load.leave_loader(outer)

    def _call_in_thread(self, function: Callable[..., Any]) -> Any:
        if not self._turn.enter_thread():
            return None
        try:
            return self._reply_of(function)
        except StopIteration as error:
            # No future takes it: the task would wait for ever.
            raise RuntimeError("the loader raised StopIteration") from error
        finally:
            self._turn.leave_thread()

    def _reply_of(self, function: Callable[..., Any]) -> Any:
        """Call the loader, and if it is a generator, exhaust it."""
        reply = function(self._argument)
        return list(reply) if isinstance(reply, Iterator) else reply
