"""Sending signals, where anybody listens."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, NamedTuple, Protocol

__all__ = ["Notice", "Notices", "notices"]

_MODULE = sys.intern(f"{__package__.partition('.')[0]}.signals")


class Notice(Protocol):
    """Sends one signal of one model."""

    def __call__(self, *, instance: Any, **details: Any) -> object: ...


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
    return partial(signal.send, model)
