"""Sending signals, where anybody listens."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Protocol

__all__ = ["Notice", "notice"]

_MODULE = f"{__package__.partition('.')[0]}.signals"


class Notice(Protocol):
    """Sends one signal of one model."""

    def __call__(self, *, instance: Any, **details: Any) -> object: ...


def notice(name: str, model: Any) -> Notice | None:
    """Give what sends a signal of a model, ``None`` where nobody would receive it.

    Args:
        name: the signal's name in :mod:`cacheorm.signals`.
        model: the model that sends it.
    """
    # Whoever has not imported it has connected nothing, and need not wait for its libraries.
    signals = sys.modules.get(_MODULE)
    signal = getattr(signals, name, None)
    if signal is None or not signal.has_receivers_for(model):
        return None
    return partial(signal.send, model)
