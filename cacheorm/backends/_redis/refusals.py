"""Refusals of Redis servers: from the words of a reply to the exception that redis-py has for them."""

from __future__ import annotations

from typing import NoReturn

import redis.exceptions as driver

from ...errors import BackendError

__all__ = ["Unanswered", "error_of", "is_read_only", "refusal_of", "refuse", "words_of"]

_ERRORS: dict[str, type[driver.ResponseError]] = {
    "EXECABORT": driver.ExecAbortError,
    "MASTERDOWN": driver.MasterDownError,
    "MOVED": driver.MovedError,
    "ASK": driver.AskError,
    "TRYAGAIN": driver.TryAgainError,
    "CLUSTERDOWN": driver.ClusterDownError,
    "CROSSSLOT": driver.ClusterCrossSlotError,
    "NOPERM": driver.NoPermissionError,
    "NOSCRIPT": driver.NoScriptError,
    "OOM": driver.OutOfMemoryError,
    "READONLY": driver.ReadOnlyError,
}


class Unanswered(str):
    """Stands in the place of the reply of a node that gave none: why.

    Attributes:
        maybe_applied: whether the request may have been executed all the same.
    """

    maybe_applied: bool

    def __new__(cls, error: BackendError, maybe_applied: bool) -> Unanswered:
        made = super().__new__(cls, error.args[0])
        made.maybe_applied = maybe_applied
        return made


def error_of(words: str) -> Exception:
    """Return redis-py's exception for a refusal."""
    code, _, rest = words.partition(" ")
    kind = _ERRORS.get(code)
    try:
        if kind is not None:
            return kind(rest)
    except (ValueError, IndexError):  # a redirection without an address
        pass
    return driver.ResponseError(rest if code == "ERR" else words)


def refusal_of(error: Exception) -> str:
    """Return the words of a refusal that redis-py has raised: the reverse of :func:`error_of`."""
    code = next((code for code, kind in _ERRORS.items() if type(error) is kind), "")
    return f"{code} {error}".lstrip()


def words_of(refusal: str) -> str:
    """Return the words of a refusal for messages: without the arguments that a server repeats after some of them."""
    if isinstance(refusal, Unanswered):
        return refusal
    return str(error_of(refusal)).partition(", with args beginning with")[0]


def refuse(subject: str, refusal: str, maybe_applied: bool = False) -> NoReturn:
    """Raise the error for a refusal.

    Args:
        subject: what was refused: the server, and the key where it is about one.
        refusal: the server's words.
        maybe_applied: whether other parts of the operation have been executed.
    """
    raise BackendError(f"{subject}: {words_of(refusal)}", maybe_applied=maybe_applied) from error_of(refusal)


def is_read_only(reply: object) -> bool:
    """Return whether a server refused a write because it is no primary: nothing was done."""
    if isinstance(reply, list):  # of a script, which gives the server's words for each entry
        return any(isinstance(item, bytes) and item.startswith(b"READONLY") for item in reply)
    return isinstance(reply, str) and reply.startswith(("READONLY", "MASTERDOWN"))
