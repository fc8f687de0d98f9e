"""Log messages under ``cacheorm``: each kind at most once in ten seconds, with the number that was left out."""

from __future__ import annotations

import logging
import time

__all__ = ["log"]

_logger = logging.getLogger("cacheorm")

# Seconds between two messages of a kind about the same subject.
_INTERVAL = 10.0

# When the last message of a kind was logged, and how many were left out since then.
_last: dict[tuple[str, object], tuple[float, int]] = {}

# Subjects are servers and models, of which there are few.
_MOST = 1000


def log(level: int, kind: str, message: str, subject: object, *args: object) -> None:
    """Log a message, unless one of its kind about the same subject was logged less than ten seconds ago.

    Args:
        level: of :mod:`logging`.
        kind: which messages are alike.
        message: with a ``%`` for ``subject`` and each of ``args``; never with a value or a secret.
        subject: the server or model it is about.
        args: the rest.
    """
    if not _logger.isEnabledFor(level):
        return
    now = time.monotonic()
    since, left_out = _last.get((kind, subject), (-_INTERVAL, 0))
    if now - since < _INTERVAL:
        _last[kind, subject] = since, left_out + 1
        return
    if len(_last) >= _MOST:
        _last.clear()
    _last[kind, subject] = now, 0
    if left_out:
        message += f" ({left_out} more such messages in the last {now - since:.0f} s)"
    _logger.log(level, message, subject, *args)
