"""Pickling backends: as the arguments that they were made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import BaseBackend

__all__ = ["check_arguments", "make"]


def make(function: Callable[..., BaseBackend], args: tuple[Any, ...], options: dict[str, Any]) -> BaseBackend:
    """Make a backend that was pickled."""
    return function(*args, **options)


def check_arguments(
    cls: type[BaseBackend], function: Callable[..., BaseBackend], args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Raise :exc:`TypeError` if an argument of a backend cannot be pickled, and say which."""
    import inspect
    import pickle

    # Of a class, __new__ would be looked at, which takes anything.
    called, bound = (cls.__init__, (None, *args)) if isinstance(function, type) else (function, args)
    for name, value in inspect.signature(called).bind(*bound, **options).arguments.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(
                f"cannot pickle this {cls.__name__}, because its argument {name} cannot be pickled; "
                f"pass a URL or options instead, and make the backend where it is used"
            ) from error
