"""Stands in for the ``cython`` module where sources run as plain Python.

Importing the real one costs milliseconds, and it is not there in most installations. When Cython
compiles a source, its own built-in ``cython`` replaces this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["ccall", "cclass", "cfunc", "compiled", "declare", "double", "locals", "longlong"]

T = TypeVar("T")

compiled: Final = False
"""Whether the source was compiled."""

# Types of C, for declarations.
double: Any = float
longlong: Any = int


def cclass(cls: T) -> T:
    """Make a class an extension type, with its declared attributes in a C struct."""
    return cls


def ccall(function: T) -> T:
    """Make a method callable from C and from Python."""
    return function


def cfunc(function: T) -> T:
    """Make a function callable from C alone."""
    return function


def declare(kind: Any = None, visibility: str = "private") -> Any:
    """Declare an attribute of an extension type."""


def locals(**types: Any) -> Callable[[T], T]:  # noqa: A001 - its name in Cython
    """Declare the types of a function's local variables."""
    return cclass
