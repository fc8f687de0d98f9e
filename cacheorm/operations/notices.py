"""Sending signals, where anybody listens."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ..store import Notice

__all__ = ["Notices", "notices"]

_MODULE = sys.intern(f"{__package__.partition('.')[0]}.signals")


class _OfModel:
    """Sends one signal of one model.

    Args:
        signal: one of blinker's.
        model: its sender.
    """

    def __init__(self, signal: Any, model: Any) -> None:
        self._signal = signal
        self._model = model

    def send(self, instance: Any, **details: Any) -> None:
        """Call the receivers.

        Raises:
            TypeError: one of them is a coroutine function.
        """
        self._signal.send(self._model, _async_wrapper=_refuse, instance=instance, **details)

    async def asend(self, instance: Any, **details: Any) -> None:
        """Call the receivers in their order, and await those that are coroutine functions."""
        await self._signal.send_async(self._model, _sync_wrapper=_as_coroutine, instance=instance, **details)


def _refuse(receiver: Any) -> Any:
    name = getattr(receiver, "__qualname__", type(receiver).__name__)
    raise TypeError(
        f"the receiver {name} is a coroutine function, which only operations that are awaited can await:"
        " use aexecute(), asave() and so on"
    )


def _as_coroutine(receiver: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **details: Any) -> Any:
        return receiver(*args, **details)

    return call


class Notices(NamedTuple):
    """What sends the signals before and after rows of a model are written; ``None`` where nobody would receive it."""

    before: Notice | None
    after: Notice | None


def notices(event: str, model: Any, modules: dict[str, Any] = sys.modules) -> Notices | None:
    """Give what sends the signals of an event of a model, ``None`` where nobody would receive either.

    Args:
        event: ``"save"`` or ``"delete"``.
        model: the model that sends them.
        modules: those that are imported. Whoever has not imported the signals has connected nothing, and need not
            wait for their library.
    """
    if _MODULE not in modules:
        return None
    found = Notices(_notice(f"pre_{event}", model), _notice(f"post_{event}", model))
    return None if found.before is found.after is None else found


def _notice(name: str, model: Any) -> Notice | None:
    signal = getattr(sys.modules[_MODULE], name, None)  # which another thread may be about to import
    if signal is None or not signal.has_receivers_for(model):
        return None
    return _OfModel(signal, model)
