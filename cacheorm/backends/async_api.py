"""The asynchronous methods of backends: one for each method that does I/O, under its name with an ``a`` in front.

They all go through one hook, :meth:`AsyncAPI._await`. Backends with connections of asyncio override it. Those that keep
their entries in this process's memory reply at once, and for all others each call runs in a thread of the backend.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from ..deadlines import until

if TYPE_CHECKING:
    from ._threads import Threads

__all__ = ["AsyncAPI", "awaited"]

B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")


def awaited(method: Callable[Concatenate[B, P], R]) -> Callable[Concatenate[B, P], Coroutine[Any, Any, R]]:
    """Return the method that awaits another one, with the same parameters."""
    name = method.__name__

    @functools.wraps(method)
    async def twin(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._await(name, *args, **kwargs)
        return result

    twin.__name__, twin.__doc__ = f"a{name}", f"Await :meth:`{name}`."
    twin.__qualname__ = f"{method.__qualname__.removesuffix(name)}a{name}"
    return twin  # type: ignore[return-value]


class AsyncAPI:
    """The methods of :class:`~cacheorm.backends.base.BaseBackend` for programs that run in an event loop.

    Each method takes the same arguments, returns the same and raises the same errors as the method without the ``a``.
    """

    in_process: bool

    operation_timeout: float | None = None
    """The most seconds that one operation may take, waiting included; ``None`` does not bound it."""

    _threads: Threads | None = None

    async def _await(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method without blocking the event loop, and return its result."""
        return await self._call_apart(getattr(self, method), *args, **kwargs)

    async def _call_apart(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function without blocking the event loop, and return its result.

        It is called in one of a few threads of this backend. A call that has begun always runs to its end. If the task
        that awaits it is cancelled, the cancellation is raised only then, so that nothing is written after the task has
        ended.
        """
        if self.in_process:
            return call(*args, **kwargs)
        threads = self._threads
        if threads is None:
            from ._threads import Threads  # here, as it needs asyncio

            # A subclass need not call __init__; and of two event loops that come here at once, one gets its threads in.
            threads = self.__dict__.setdefault("_threads", Threads())
        return await threads.run(functools.partial(call, *args, **kwargs), end=until(self.operation_timeout))

    def _admission(self) -> Awaitable[float | None] | None:
        """Return what an operation in the running event loop has to await before it begins; ``None`` if nothing.

        It gives the seconds that are left for the operation's first request; ``None`` without a bound.
        """
        return None

    async def aclose(self) -> None:
        """Await :meth:`close`."""
        await self._await("close")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
