"""Access to foreign keys that reads: inside an event loop, and on models with a ``__getattr__``."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from ..errors import LazyLoadWarning

if TYPE_CHECKING:
    from .foreign import ForeignKeyField

__all__ = ["keep_errors", "warn_if_blocking"]

_PACKAGE = __package__.partition(".")[0]


def warn_if_blocking(field: ForeignKeyField[Any]) -> None:
    """Warn that the access to a field is about to block a running event loop, once for each line that does."""
    # A program that has not imported it has no event loop. Another thread may be importing it.
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    if running is None or running() is None:
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    place = frame.f_code.co_filename, frame.f_lineno
    if place in field.warned:
        return
    name = f"{field.model.__name__ if field.model else None}.{field.name}"
    warnings.warn(
        f"access to {name} reads the related row and blocks the running event loop meanwhile: preload it, as by "
        f".preload({field.name!r}) or await co.apreload(rows, {field.name!r}), or await {name}.aget(row)",
        LazyLoadWarning,
        stacklevel=level,
    )
    field.warned.add(place)


def keep_errors(model: Any, kind: type[ForeignKeyField[Any]]) -> None:
    """Have the ``__getattr__`` of a model, if there is one, leave its fields of a kind alone.

    Python calls it if a descriptor raises an :exc:`AttributeError`, which is lost. Here the descriptor raises it again.
    """
    given: Any = next((vars(base)["__getattr__"] for base in model.__mro__ if "__getattr__" in vars(base)), None)
    if given is None or hasattr(given, "_keeps_errors"):
        return

    def get(self: Any, name: str) -> Any:
        field = type(self)._meta.fields.get(name)
        return field.__get__(self, type(self)) if isinstance(field, kind) else given(self, name)

    get._keeps_errors = True  # type: ignore[attr-defined]
    model.__getattr__ = get
