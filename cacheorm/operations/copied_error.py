"""Copying an error for each of the callers that it is raised for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

__all__ = ["copy_of"]

E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E | None:
    """Return a copy of an error, without its traceback and causes; ``None`` if it cannot be copied.

    One object that several threads raise would have the tracebacks of all of them, and the locals of their frames.
    A copy is of the same type, with the same text, attributes and notes.
    """
    ways: tuple[Callable[[E], E], ...] = copy.copy, _without_init
    for way in ways:
        try:
            copied = way(error)
            if type(copied) is type(error) and copied is not error and str(copied) == str(error):
                copied.__dict__.update(error.__dict__)
                if hasattr(copied, "__notes__"):
                    copied.__notes__ = [*copied.__notes__]
                return copied.with_traceback(None)
        except Exception:  # noqa: BLE001, S112 - a type may do anything when it is copied
            continue
    return None


def _without_init(error: E) -> E:
    """Copy an error whose ``__init__`` takes other arguments than it passes on."""
    copied = type(error).__new__(type(error), *error.args)
    copied.args = error.args
    return copied
