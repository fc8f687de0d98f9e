"""What can be seen of calls: their results and errors, told apart exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Failure", "Seen", "exact", "rows"]

_EXACT_REPR = frozenset({type(None), bool, int, float, str, bytes, bytearray, type(...)})


class Failure(NamedTuple):
    """An error, as far as it can be seen."""

    kind: str
    text: str
    details: str = ""


class Seen(list[Any]):
    """All that can be seen of the calls of one input, in their order; its ``repr`` tells any difference."""

    def call(self, function: Callable[..., Any], *args: Any, show: Callable[[Any], Any] | None = None) -> Any:
        """Make a call and note its result, or its error. Return the result, ``None`` for an error.

        Args:
            function: what is called.
            args: its arguments.
            show: makes of the result what is noted; the result itself if it is not given.
        """
        try:
            result = function(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other build must raise it too
            details = [(name, getattr(error, name, None)) for name in _DETAILS if hasattr(error, name)]
            self.append(Failure(type(error).__qualname__, str(error), f"{details} {type(error.__cause__).__name__}"))
            return None
        self.append(result if show is None else show(result))
        return result

    @property
    def failures(self) -> list[Failure]:
        return [one for one in self if type(one) is Failure]


# What errors say besides their text.
_DETAILS = ("model", "key", "field", "serializer", "row", "problems", "reason")


def exact(value: Any) -> Any:
    """Return what tells a value from others that are equal to it: types, signs of zero, folds, order."""
    kind = type(value)
    if kind in _EXACT_REPR:
        return repr(value)
    if kind is list or kind is tuple:
        return kind.__name__, [exact(item) for item in value]
    if kind is dict:
        return "dict", [(exact(key), exact(item)) for key, item in value.items()]
    return f"{kind.__qualname__} {value!r}"


def rows(instances: Any) -> Any:
    """Return what tells instances of models from others; ``None`` stands for a row that is not there."""
    return [None if instance is None else _row(instance) for instance in instances]


def _row(instance: Any) -> Any:
    values = [(name, field.peek(instance, _UNSET)) for name, field in type(instance)._meta.fields.items()]
    related = sorted(instance._relations) if type(instance)._meta.references else []
    return type(instance).__name__, [(name, exact(value)) for name, value in values if value is not _UNSET], related


_UNSET = object()
