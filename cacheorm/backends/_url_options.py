"""Options in the query of a URL: each has a kind, which reads its text and says what is expected.

No message shows a value, and no exception has another one as its context: Python's own hold the text that could not be
read, which may be a password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ._addresses import decode

__all__ = ["FLAG", "TEXT", "Kind", "check_names", "choice", "list_of", "read_options", "seconds", "suggestion", "whole"]

_LARGEST = (1 << 31) - 1
# Sockets wait for a number of milliseconds that fits into 31 bits.
_LONGEST = _LARGEST // 1000
_FLAGS = dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no", "off"), False
)


class Kind(NamedTuple):
    """What an option may be.

    Attributes:
        expected: what its text has to be, for messages: "must be ...".
        read: returns the value of a text, or ``None`` if the text has another kind.
    """

    expected: str
    read: Callable[[str], Any]


TEXT = Kind("a text that is not empty", lambda text: text or None)
FLAG = Kind("true or false", lambda text: _FLAGS.get(text.lower()))


def whole(low: int = 0, high: int = _LARGEST) -> Kind:
    """Return the kind of whole numbers from ``low`` to ``high``, both included."""
    return Kind(f"a whole number from {low} to {high}", lambda text: _number(text, int, low, high))


def seconds(low: float = 0.001) -> Kind:
    """Return the kind of numbers of seconds from ``low``, fractions included, that a socket can wait for."""
    return Kind(f"a number of seconds from {low} to {_LONGEST}", lambda text: _number(text, float, low, _LONGEST))


def choice(*names: str) -> Kind:
    """Return the kind of texts that are one of ``names``."""
    return Kind(f"one of {', '.join(names)}", lambda text: text if text in names else None)


def list_of(kind: Kind, expected: str) -> Kind:
    """Return the kind of lists of values of another kind, separated by commas."""

    def read(text: str) -> list[Any] | None:
        values = [kind.read(item) for item in text.split(",")]
        return None if None in values else values

    return Kind(expected, read)


def _number(text: str, number: Callable[[str], Any], low: float, high: float) -> Any:
    if not text.isascii() or text != text.strip():
        return None
    try:
        value = number(text)
    except ValueError:
        return None
    return value if low <= value <= high else None


def read_options(scheme: str, query: str, known: Mapping[str, Kind]) -> dict[str, Any]:
    """Read ``name=value&name=value``, percent-encoded.

    Args:
        scheme: of the URL, for messages.
        query: what follows the ``?``; empty for no options.
        known: the kind of each option that there is.

    Raises:
        ValueError: an option is unknown, is given twice, or has no value of its kind.
    """
    options: dict[str, Any] = {}
    for place, item in enumerate(query.split("&") if query else (), 1):
        coded, equals, value = item.partition("=")
        name, text = decode(coded), decode(value)
        if not equals:
            raise ValueError(f"option {place} of the {scheme}:// URL is not name=value; write & in a value as %26")
        if name is None or name not in known:
            raise ValueError(_unknown(scheme, name or "", known, secret=True))
        if name in options:
            raise ValueError(f"option {name} of the {scheme}:// URL is given twice; write & in a value as %26")
        if text is None:
            raise ValueError(f"option {name} of the {scheme}:// URL is not percent-encoded UTF-8; write % as %25")
        options[name] = known[name].read(text)
        if options[name] is None:
            raise ValueError(f"option {name} of the {scheme}:// URL must be {known[name].expected}")
    return options


def check_names(scheme: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of options that a program passes besides a URL.

    Raises:
        ValueError: one is unknown.
    """
    for name in names:
        if name not in known:
            raise ValueError(_unknown(scheme, name, known, secret=False))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that is closest to another one, as the end of a message; empty if none is close."""
    matches = _close(name, known)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _unknown(scheme: str, name: str, known: Iterable[str], *, secret: bool) -> str:
    # After an unescaped & in a password, the rest of it is read as the name of an option. A typing error is shown.
    shown = f" {name!r}" if not secret or _close(name, known, 0.8) else ""
    hint = suggestion(name, known) or f"; known are {', '.join(sorted(known))}"
    return f"unknown option{shown} of a {scheme}:// URL{hint}"


def _close(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    from difflib import get_close_matches

    return get_close_matches(name, list(known), n=1, cutoff=cutoff)
