"""Sending the signals of a model, if it has receivers."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ..requests import SignalSender

__all__ = ["SignalSenders", "signal_senders"]

_MODULE = sys.intern(f"{__package__.partition('.')[0]}.signals")


class _ModelSignal:
    """Sends one signal of one model.

    Args:
        signal: a signal of blinker.
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


class SignalSenders(NamedTuple):
    """The senders of the signals before and after a change of rows; ``None`` for a signal without receivers."""

    before: SignalSender | None
    after: SignalSender | None


def signal_senders(event: str, model: Any, modules: dict[str, Any] = sys.modules) -> SignalSenders | None:
    """Return the senders of a model's signals for an event; ``None`` if neither signal has receivers.

    Args:
        event: ``"save"`` or ``"delete"``.
        model: the model that sends them.
        modules: the imported modules. A program that has not imported :mod:`cacheorm.signals` has no receivers, and is
            not slowed down by the import.
    """
    if _MODULE not in modules:
        return None
    found = SignalSenders(_sender(f"pre_{event}", model), _sender(f"post_{event}", model))
    return None if found.before is found.after is None else found


def _sender(name: str, model: Any) -> SignalSender | None:
    signal = getattr(sys.modules[_MODULE], name, None)  # another thread may be importing the module
    if signal is None or not signal.has_receivers_for(model):
        return None
    return _ModelSignal(signal, model)
